"""Errors in a configuration, with the names that its writer used."""

import json
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import ValidationError
from pydantic_core import to_jsonable_python

from acoupi.config.names import Key, Place, nearest
from acoupi.config.tree import ConfigTree
from acoupi.errors import ParameterError
from acoupi.printing import printable

__all__ = [
    "MASK",
    "OPTION",
    "Origin",
    "Problem",
    "as_error",
    "named",
    "oneline",
    "problems_in",
    "redacted",
    "show",
]

MASK = "**********"

_WORDING = {
    "int_parsing": "it must be a whole number",
    "int_type": "it must be a whole number",
    "int_from_float": "it must be a whole number",
    "float_parsing": "it must be a number",
    "float_type": "it must be a number",
    "bool_parsing": "it must be true or false",
    "bool_type": "it must be true or false",
    "string_type": "it must be text (in a file: put it in quotes)",
    "list_type": "it must be a list",
    "model_type": "it must be a section with settings of its own, or a JSON object",
    "model_attributes_type": "it must be a section with settings of its own, or a JSON object",
    "dict_type": "it must be a table of names and values, or a JSON object",
    "path_type": "it must be a path",
}


_EXAMPLES = {
    "time": "18:30",
    "date": "2026-05-01",
    "datetime": "2026-05-01T20:30",
    "timedelta": "5m",
    "Path": "/mnt/usb/recordings",
    "bool": "true",
}


@dataclass(frozen=True)
class Origin:
    """Where a value came from, so that errors can name it as its writer did.

    Parameters
    ----------
    kind
        "option" (also for values without a name), "variable" or "file".
    text
        The name of the variable or file.
    """

    kind: Literal["option", "variable", "file"] = "option"
    text: str = ""


OPTION = Origin()

_ASK_NOTHING = frozenset(
    {"batch", "default", "defaults", "no_input", "no_prompts", "non_interactive", "y", "yes"}
)
"""Options of other programs that mean acoupi's ``--no-prompt``."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Parameters
    ----------
    node
        The place that is wrong; for "unknown", one that is not in the schema.
    why
        What would be valid, as a clause: "it must be greater than 0".
    given
        The value as it was given; None if it must not be shown, or none was given.
    kind
        "value": not valid. "missing": there must be one. "empty": its option has no value after
        it. "unknown": there is no such setting. "stray": `given` belongs to no setting.
    better
        A valid value for `node`; for "unknown", what to write in a file.
    meant
        For "unknown": the settings that were probably meant.
    """

    node: ConfigTree
    why: str
    given: str | None = None
    kind: Literal["value", "missing", "empty", "unknown", "stray"] = "value"
    better: str | None = None
    meant: tuple[ConfigTree, ...] = ()


def show(value: Any) -> str | None:
    """Return a value as the user would write it; None if it should not be repeated."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    if isinstance(value, str | int | float):
        text = str(value)
        return text if len(text) <= 60 else f"{text[:57]}..."
    if isinstance(value, dict | list | tuple | set | bytes) or hasattr(type(value), "model_fields"):
        return None
    value = getattr(value, "value", value)
    return str(value) if str(value).isprintable() and len(str(value)) <= 60 else None


Origins = Mapping[Place, Origin]


def origin_of(place: Place, origins: Origins) -> Origin:
    """Return the origin of a place's value, or of the nearest place above it."""
    lengths = range(len(place), -1, -1)
    return next((origins[place[:i]] for i in lengths if place[:i] in origins), OPTION)


def named(node: ConfigTree, origins: Origins) -> str:
    """Return the name of a place, as its writer would write it."""
    if not node.place:
        return "the configuration"
    origin = origin_of(node.place, origins)
    if origin.kind == "variable":
        return _variable(node, origins)
    if origin.kind == "file":
        return f'"{node.name}" in {origin.text}'
    return node.names.usual(node.place)


def _variable(node: ConfigTree, origins: Origins) -> str:
    """Return the variable of a place: as it was written, where it was."""
    return origins[node.place].text if node.place in origins else node.variable


def _edit(node: ConfigTree, value: str, origins: Origins) -> str:
    """Return the edit that gives a place a value."""
    origin = origin_of(node.place, origins)
    if origin.kind == "variable":
        return f"{_variable(node, origins)}={shlex.quote(value)}"
    if origin.kind == "file":
        return f"edit {origin.text}: {node.name} = {value}"
    return node.names.edit(node.place, value)


# ---- from pydantic's errors


def problems_in(
    tree: ConfigTree, error: ValidationError, secrets: Sequence[str] = ()
) -> list[Problem]:
    """Return the problems of a failed validation, each place once.

    Parameters
    ----------
    tree
        The schema that was validated.
    secrets
        Texts that must not be repeated.
    """
    found: dict[Place, list[tuple[ConfigTree, dict[str, Any]]]] = {}
    for detail in error.errors(include_url=False):
        node = _located(tree, detail["loc"])
        found.setdefault(node.place, []).append((node, dict(detail)))
    problems = [_problem(tree, *items) for items in found.values()]
    return [
        replace(
            problem,
            why=redacted(problem.why, secrets),
            given=problem.given and redacted(problem.given, secrets),
        )
        for problem in problems
    ]


def _located(tree: ConfigTree, location: tuple[Key, ...]) -> ConfigTree:
    """Return the place that a location of pydantic means; which also has types and tags in it."""
    node = tree
    for part in location:
        chosen = node.of_kind(part) if len(node.sections) > 1 else node
        node = chosen if chosen is not node else node.child(part) or node
    return node


def _problem(tree: ConfigTree, *items: tuple[ConfigTree, dict[str, Any]]) -> Problem:
    node = items[0][0]
    details = [detail for _, detail in items]
    if any(detail["type"] == "missing" for detail in details):
        return Problem(node, node.description or "it has no default", kind="missing")
    extra = next((detail for detail in details if detail["type"] == "extra_forbidden"), None)
    if extra is not None:
        return unknown(tree, [*map(str, node.place), str(extra["loc"][-1])])
    if (lacking := details[0].get("ctx", {}).get("lacks")) is not None:
        return Problem(node.child(lacking) or node, _wording(details[0]), kind="missing")
    if details[0]["type"].startswith("union_tag"):
        return _wrong_kind(node, details[0])
    given = None if node.is_secret else show(details[0].get("input"))
    if node.choices:
        return _not_a_choice(node, given)
    whys = dict.fromkeys(_wording(detail) for detail in details)
    return Problem(node, " or ".join(whys), given, better=example(node))


def _wrong_kind(node: ConfigTree, detail: Mapping[str, Any]) -> Problem:
    """Return the problem of a section whose kind is unknown or missing."""
    context = detail.get("ctx", {})
    told_by = node.child(str(context.get("discriminator", "")).strip("'")) or node
    if "tag" in context:
        return _not_a_choice(told_by, str(context["tag"]))
    valid = ", ".join(str(show(choice)) for choice in told_by.choices)
    return Problem(told_by, f"it chooses the kind of {node.title}: {valid}", kind="missing")


def _not_a_choice(node: ConfigTree, given: str | None) -> Problem:
    valid = [str(show(choice)) for choice in node.choices]
    meant = nearest(given, valid) if given else None
    why = f"it must be one of {', '.join(valid)}"
    return Problem(node, why, given, better=meant or (valid[0] if valid else None))


def unknown(tree: ConfigTree, names: Sequence[str]) -> Problem:
    """Return the problem of a name that is not in a configuration."""
    nowhere = ConfigTree(tuple(names), Any, names=tree.names)
    parts = [part for name in names for part in name.split(".")]
    node = tree.find(parts) if parts != list(names) else None
    if node is not None:
        why = "names with dots are for options; in a file, each dot is a section"
        nested = ": {".join(f'"{part}"' for part in parts) + ": VALUE" + "}" * (len(parts) - 1)
        return Problem(nowhere, why, ".".join(names), "unknown", nested, (node,))
    closest = tree.closest(names, fold=True)
    why = f"{closest.name} is a single value" if closest.place else "there are none"
    if closest.members:
        where = f"the settings of {closest.name}" if closest.name else "the settings"
        why = f"{where} are {', '.join(str(member.place[-1]) for member in closest.members)}"
    return Problem(nowhere, why, ".".join(names), "unknown", meant=tuple(tree.meant(names)))


def _wording(detail: Mapping[str, Any]) -> str:
    kind = detail["type"]
    if kind in _WORDING:
        return _WORDING[kind]
    if kind in ("value_error", "assertion_error"):
        return str(detail.get("ctx", {}).get("error", "")) or "the program does not accept it"
    text = str(detail["msg"]).replace("Input should", "it must")
    return text if text[:2].isupper() else text[:1].lower() + text[1:]


def example(node: ConfigTree) -> str | None:
    """Return a possible value for a place: an example, its default, or one of its type."""
    if node.is_secret:
        return None
    examples = node.info.examples if node.info is not None else None
    value = examples[0] if examples else node.default
    if value is None and node.choices:
        value = node.choices[0]
    if isinstance(value, list | tuple | dict):
        value = json.dumps(to_jsonable_python(value), ensure_ascii=False)
    if value is not None:
        return show(value)
    names = [getattr(kind, "__name__", "") for kind in node.kinds]
    return next((_EXAMPLES[name] for name in names if name in _EXAMPLES), None)


def redacted(text: str, secrets: Iterable[str]) -> str:
    """Return a text with stars in place of secrets."""
    for secret in secrets:
        text = text.replace(secret, MASK) if len(secret) > 3 else text
    return text


# ---- to an AcoupiError


def as_error(
    problems: Sequence[Problem],
    origins: Origins | None = None,
    make: Callable[..., ParameterError] = ParameterError,
) -> ParameterError:
    """Return one error for all problems, with names as in the source of each value.

    One problem is described in full; several become a clause each.
    """
    origins = origins or {}
    first = problems[0]
    value = first.given or ""
    fix = printable(_help(first, origins))
    if len(problems) == 1:
        return make(value, printable(_message(first, origins)), fix, why=_sentence(first.why))
    clauses = [f"{_message(item, origins).rstrip('.')}: {oneline(item.why)}" for item in problems]
    return make(
        value, f"{len(problems)} settings are wrong.", fix, why=_sentence("; ".join(clauses))
    )


def _sentence(text: str) -> str:
    text = printable(oneline(text))
    return text if text.endswith(("?", "!")) else f"{text}."


def oneline(text: str) -> str:
    """Return a text in one line, without the stop at its end."""
    return " ".join(text.split()).rstrip(".")


def _message(problem: Problem, origins: Origins) -> str:
    if problem.kind == "stray":
        return f'"{problem.given}" belongs to no option.'
    name = named(problem.node, origins)
    if problem.kind == "unknown":
        return "there is no setting " + (f"{name}." if name.startswith('"') else f'"{name}".')
    if problem.kind == "missing":
        return f"{name} is missing."
    if problem.kind == "empty":
        return f"{name} needs a value."
    if problem.given is None:
        return f"the value of {name} is not valid."
    return f'{name} cannot be "{oneline(problem.given)}".'


def _list_of(section: ConfigTree) -> str:
    """Return the command that lists the settings of a section: no single value fits it."""
    return f"{section.names.listing} {section.name}".strip()


def _settings_of(section: ConfigTree, origins: Origins) -> str:
    """Return which settings of a section to give: those that were, that must be, or that are."""
    below = [node for node in section.walk() if not node.is_section]
    given = [node for node in below if node.place in origins]
    several = given or [node for node in below if node.is_required] or below
    return " or ".join(_edit(node, "VALUE", origins) for node in several[:3])


def _help(problem: Problem, origins: Origins) -> str:
    if problem.kind == "stray":
        return "acoupi setup --help"
    origin = origin_of(problem.node.place, origins)
    lists = origin.kind == "file" or problem.node.names.style == "plain"
    if problem.kind == "unknown":
        return _help_with_name(problem, origin)
    if problem.node.is_section and problem.better is None:
        return _list_of(problem.node) if lists else _settings_of(problem.node, origins)
    return _edit(problem.node, problem.better or "VALUE", origins)


def _help_with_name(problem: Problem, origin: Origin) -> str:
    """Return what to write in place of a name that does not exist."""
    if origin.kind == "option" and problem.node.name.replace("-", "_") in _ASK_NOTHING:
        return "acoupi setup --no-prompt   (settings that are not given keep their usual values)"
    if not problem.meant:
        return problem.node.names.listing
    first = problem.meant[0]
    if first.is_section and problem.node.place[: len(first.place)] == first.place:
        return _list_of(first)
    if origin.kind == "file":
        meant = problem.better or " or ".join(node.name for node in problem.meant)
        return f"edit {origin.text}: {meant}"
    is_variable = origin.kind == "variable"
    return " or ".join(
        node.variable if is_variable else node.names.usual(node.place) for node in problem.meant
    )
