"""Forms: reading submitted ones; and the form of the settings."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request

from acoupi.web.sensor import Problem, Setting
from acoupi.web.shown import FILTERS

__all__ = ["Field", "Form", "changes_in", "fields_of"]

MOST_BYTES = 1 << 20

_shown = FILTERS["value"]
_COMPOUND = {"array", "object"}


async def fields_of(request: Request) -> dict[str, str]:
    """Return the fields of a form that was sent; of those with one name, the last.

    Raises
    ------
    HTTPException
        413: it is too long; 400: it is not text.
    """
    content = b""
    async for part in request.stream():
        content += part
        if len(content) > MOST_BYTES:
            raise HTTPException(413, f"A form may have {MOST_BYTES} bytes.")
    try:
        return dict(parse_qsl(content.decode(), keep_blank_values=True))
    except ValueError as error:
        raise HTTPException(400, "This is not a form.") from error


class Field(NamedTuple):
    """How one setting is shown."""

    setting: Setting
    kind: Literal["choice", "number", "json", "secret", "text"]
    value: str
    choices: Sequence[str] = ()


class Form:
    """All settings, by section.

    Parameters
    ----------
    settings
        In their order.
    """

    def __init__(self, settings: Sequence[Setting]) -> None:
        self.sections: dict[str, list[Field]] = {}
        for one in settings:
            self.sections.setdefault(one["section"], []).append(_field(one))


def _field(setting: Setting) -> Field:
    if setting["is_secret"]:
        return Field(setting, "secret", "")
    value, types = _shown(setting["value"]), _types(setting)
    choices = [_shown(one) for one in _choices(setting)]
    if choices:
        return Field(setting, "choice", value, list(dict.fromkeys([*choices, value])))
    if types & _COMPOUND:
        return Field(setting, "json", value)
    is_number = types <= {"integer", "number", "null"} and bool(types - {"null"})
    return Field(setting, "number" if is_number else "text", value)


def _kinds(setting: Setting) -> list[dict[str, Any]]:
    schema = setting["schema"]
    return [schema, *schema.get("anyOf", ()), *schema.get("oneOf", ())]


def _types(setting: Setting) -> set[str]:
    found: set[str] = set()
    for one in _kinds(setting):
        given = one.get("type", [])
        found |= {given} if isinstance(given, str) else set(given)
    return found


def _choices(setting: Setting) -> list[Any]:
    """Return the values that a setting may have, if they are few; [] if they are not."""
    types = _types(setting)
    if types and types <= {"boolean", "null"}:
        return [True, False, *([None] if "null" in types else [])]
    kinds = _kinds(setting)
    found = [value for one in kinds for value in (*one.get("enum", ()), *_constant(one))]
    is_open = types - {"null"} and not all(
        "enum" in one or "const" in one or one.get("type") in (None, "null") for one in kinds
    )
    if not found or is_open:
        return []
    return [*found, *([None] if "null" in types else [])]


def _constant(kind: Mapping[str, Any]) -> list[Any]:
    return [kind["const"]] if "const" in kind else []


def changes_in(
    settings: Sequence[Setting], given: Mapping[str, str]
) -> tuple[dict[str, Any], list[Problem]]:
    """Return the changes in a submitted form, by name, and the problems.

    Browsers change line ends, and do not send settings that were not on the form.
    """
    changes: dict[str, Any] = {}
    problems: list[Problem] = []
    for setting in settings:
        name = setting["name"]
        if name not in given:
            continue
        field, text = _field(setting), given[name].replace("\r\n", "\n")
        if text == field.value:
            continue
        try:
            changes[name] = _read(setting, field, text)
        except ValueError as error:
            problems.append({"name": name, "message": f"this is not JSON: {error}"})
    return changes, problems


def _read(setting: Setting, field: Field, text: str) -> Any:
    if not text and "null" in _types(setting):
        return None
    return json.loads(text) if field.kind == "json" else text
