"""The types that a configuration schema may have; others are refused by name."""

import dataclasses
import datetime
import inspect
import re
import sys
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, Literal

from pydantic import BaseModel, InstanceOf, Json, RootModel, SecretBytes, SecretStr, SkipValidation

from acoupi.config.tree import ConfigTree, describe, is_section

__all__ = ["SUPPORTED", "Unsupported", "unsupported_settings"]

_SCALARS = (
    *(str, int, float, bool, Path, SecretStr, SecretBytes),
    *(datetime.time, datetime.date, datetime.datetime, datetime.timedelta),
)
_HOLDS_ANYTHING = (InstanceOf, Json, SkipValidation)
"""Marks with which a value is not what the type says it is read from."""
SUPPORTED = (
    "a setting is text, a number, true or false, a path, a date or time, a secret, a URL, a "
    "Literal or an Enum; a section (a pydantic model); a list or dict of these; or a tuple of "
    "fixed length; each may be None, and sections of several kinds need a discriminator; no "
    "setting has an alias, or a name that a variable in capitals cannot carry"
)
"""What a schema may hold, in words."""


@dataclass(frozen=True)
class Unsupported:
    """A setting of an unsupported type: where, which type, and what to do."""

    name: str
    type: str
    advice: str


def unsupported_settings(schema: type[BaseModel]) -> Iterator[Unsupported]:
    """Yield every setting of a schema whose type is not supported.

    Examples
    --------
    >>> class Schema(BaseModel):
    ...     lists: list[list[int]] = []
    >>> [(one.name, one.type) for one in unsupported_settings(Schema)]
    [('lists', 'list[list[int]]')]
    """
    yield from _in_section(describe(schema), (schema,))


def _in_section(section: ConfigTree, above: tuple[type, ...]) -> Iterator[Unsupported]:
    for kind in section.sections:
        if kind.model_config.get("extra") == "allow":
            advice = f'declare the settings of {kind.__name__}, without extra="allow"'
            yield Unsupported(
                section.name or kind.__name__, f'{kind.__name__}, extra="allow"', advice
            )
    for member in section.members:
        if _is_opaque(member):
            continue
        yield from _about_name(member, section)
        if member.info and member.info.exclude:
            yield Unsupported(member.name, "with exclude=True", "leave exclude=True out")
        alias = member.info and (member.info.validation_alias or member.info.serialization_alias)
        if alias:
            advice = f"name it {alias} without an alias, or leave the alias out"
            yield Unsupported(member.name, f"with the alias {alias}", advice)
        yield from _in_value(member, above)


def _is_opaque(member: ConfigTree) -> bool:
    """Return whether a setting is only kept for compatibility, and never read."""
    extra = member.info.json_schema_extra if member.info else None
    return isinstance(extra, dict) and bool(extra.get("opaque"))


def _about_name(member: ConfigTree, section: ConfigTree) -> Iterator[Unsupported]:
    """Refuse a name that variables, which are in capitals, cannot tell from another."""
    name = str(member.place[-1])
    folded = [str(one.place[-1]).lower() for one in section.members]
    is_cut_short = name.endswith("_") and member.is_compound  # NAME___BELOW
    if "__" in name or is_cut_short or name.upper().lower() != name.lower():
        advice = 'a name of letters from a to z and digits, with single "_" between them'
        yield Unsupported(member.name, f'called "{name}"', advice)
    elif folded.count(name.lower()) > 1:
        advice = f"another name: capitals alone do not tell two settings called {name} apart"
        yield Unsupported(member.name, f'called "{name}"', advice)


def _in_value(node: ConfigTree, above: tuple[type, ...]) -> Iterator[Unsupported]:
    advice = _fault(node)
    if advice is not None:
        yield Unsupported(node.name, _shown(node.annotation), advice)
        return
    if node.is_section:
        if any(kind in above for kind in node.sections):
            advice = f"remove the recursion: {node.name} contains itself"
            yield Unsupported(node.name, _shown(node.annotation), advice)
            return
        yield from _in_section(node, (*above, *node.sections))
    elif node.is_compound:
        below = [node.child(str(index)) for index in range(len(node.slots) or 1)]
        for item in below:
            if item is not None and item.is_section:
                yield from _in_value(item, above)


def _fault(node: ConfigTree) -> str | None:
    """Return what to do about the type of a place; None if it is supported."""
    for kind in node.kinds:
        if not (_is_scalar(kind) or is_section(kind) or _has_items(kind)):
            return _instead(kind)
        if inspect.isclass(kind) and issubclass(kind, RootModel):
            inner = _shown(kind.model_fields["root"].annotation)
            return f"declare it as {inner} in place of {kind.__name__}"
    for mark in node.marks:
        if isinstance(mark, _HOLDS_ANYTHING) or mark is Json:
            return f"leave {getattr(mark, '__name__', type(mark).__name__)} out"
    if not node.kinds:
        return "give it a type beside None"
    if len(node.kinds) > 1 and not all(map(_is_scalar, node.kinds)) and node.tag is None:
        is_told = len(node.sections) == len(node.kinds)
        told = 'Field(discriminator="kind"), with kind: Literal[...] in each of them'
        return told if is_told else "let it be of one of these types"
    items = [node.item_type, node.value_type, *node.slots]
    return next((advice for advice in map(_about_item, items) if advice), None)


def _is_scalar(kind: Any) -> bool:
    if typing.get_origin(kind) is Literal:
        return all(isinstance(one, str | int | bool | NoneType) for one in typing.get_args(kind))
    if inspect.isclass(kind) and issubclass(kind, Enum):
        return all(isinstance(member.value, str | int | float | bool) for member in kind)
    return kind in _SCALARS or (inspect.isclass(kind) and issubclass(kind, _urls()))


def _urls() -> tuple[type, ...]:
    """Return the base of pydantic's URLs; a schema with one has loaded their module (0.2 MB)."""
    networks = sys.modules.get("pydantic.networks")
    return (networks.AnyUrl,) if networks else ()


def _has_items(kind: Any) -> bool:
    args = typing.get_args(kind)
    if typing.get_origin(kind) is dict:
        return args[0] is str
    return typing.get_origin(kind) in (list, tuple) and bool(args)


def _about_item(annotation: Any) -> str | None:
    """Return what to do about the type of an item; None if it is a value or a section."""
    if annotation is None:
        return None
    item = ConfigTree(("item",), annotation)
    if item.is_compound and not item.is_section:
        return "a section (a pydantic model) for one item"
    return _fault(item)


def _instead(kind: Any) -> str:
    if inspect.isclass(kind) and issubclass(kind, Enum):
        return f"let the values of {kind.__name__} be texts or numbers"
    if dataclasses.is_dataclass(kind) or hasattr(kind, "__total__"):
        return f"let {kind.__name__} be a pydantic.BaseModel"
    if isinstance(kind, typing.NewType):
        return f"declare it as {_shown(kind.__supertype__)} in place of {kind.__name__}"
    instead = {list: "list[str]", tuple: "tuple[float, float]", dict: "dict[str, str]"}
    origin = typing.get_origin(kind) or kind
    return f"declare it as {instead.get(origin, 'one of these')}"


def _shown(annotation: Any) -> str:
    """Return a type as it is written in a schema, without module names."""
    if inspect.isclass(annotation) and not typing.get_args(annotation):
        return annotation.__name__
    return re.sub(r"\b(?:\w+\.)+(?=\w)|<class '([\w.]+)'>", r"\1", str(annotation))
