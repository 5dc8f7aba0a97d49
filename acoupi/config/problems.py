"""What is wrong with a configuration, in the words of whoever wrote it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import ValidationError

from acoupi.config.names import Key, Place, nearest, quoted
from acoupi.config.tree import ConfigTree
from acoupi.errors import ParameterError

__all__ = ["MASK", "OPTION", "Origin", "Problem", "as_error", "named", "problems_in", "show"]

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
    """Where a value came from, so that errors name what its writer wrote.

    Parameters
    ----------
    kind
        "option": an option, or nothing that has a name; "variable"; or "file".
    text
        The name of the variable or file.
    """

    kind: Literal["option", "variable", "file"] = "option"
    text: str = ""


OPTION = Origin()

_ASK_NOTHING = frozenset(
    {"batch", "default", "defaults", "no_input", "no_prompts", "non_interactive", "y", "yes"}
)
"""Options by which other programs ask nothing and take what is usual; here: ``--no-prompt``."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Parameters
    ----------
    node
        The place that is wrong; for "unknown" one that the schema does not have.
    why
        What would be right, as a clause: "it must be greater than 0".
    given
        The value as it was given; None: not to be shown, or none was given.
    kind
        "value": it cannot be that. "missing": there must be one. "empty": its option has no
        value after it. "unknown": there is no such setting. "stray": `given` belongs to no setting.
    better
        A value for `node` that would be right; for "unknown": what to write in a file.
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
    """Return a value as the user would write it; None if it is not one to repeat."""
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
    """Return where the value of a place came from: it, or the nearest above it that did."""
    lengths = range(len(place), -1, -1)
    return next((origins[place[:i]] for i in lengths if place[:i] in origins), OPTION)


def named(node: ConfigTree, origins: Origins) -> str:
    """Return what to call a place, as its writer does."""
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
        return f"{_variable(node, origins)}={quoted(value)}"
    if origin.kind == "file":
        return f"edit {origin.text}: {node.name} = {value}"
    return node.names.edit(node.place, value)


# ---- from pydantic's errors


def problems_in(
    tree: ConfigTree, error: ValidationError, secrets: Iterable[str] = ()
) -> list[Problem]:
    """Return what a failed validation found, each place once.

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
    hidden = [text for text in secrets if len(text) > 3]
    return [_redacted(problem, hidden) for problem in problems]


def _located(tree: ConfigTree, location: tuple[Key, ...]) -> ConfigTree:
    """Return the place that a location of pydantic means; it has types and tags in it, too."""
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
    """Return the problem of a section whose kind is unknown, or not said."""
    context = detail.get("ctx", {})
    told_by = node.child(str(context.get("discriminator", "")).strip("'")) or node
    if "tag" in context:
        return _not_a_choice(told_by, str(context["tag"]))
    valid = ", ".join(str(show(choice)) for choice in told_by.choices)
    return Problem(told_by, f"it says which kind of {node.title} is meant: {valid}", kind="missing")


def _not_a_choice(node: ConfigTree, given: str | None) -> Problem:
    valid = [str(show(choice)) for choice in node.choices]
    meant = nearest(given, valid) if given else None
    why = f"it must be one of {', '.join(valid)}"
    return Problem(node, why, given, better=meant or (valid[0] if valid else None))


def unknown(tree: ConfigTree, names: Sequence[str]) -> Problem:
    """Return the problem of names that lead nowhere from the top of a configuration."""
    nowhere = ConfigTree(tuple(names), Any, names=tree.names)
    parts = [part for name in names for part in name.split(".")]
    node = tree.find(parts) if parts != list(names) else None
    if node is not None:
        why = "names with dots are for options; in a file, each dot begins a section"
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
    text = str(detail["msg"]).replace("Input should", "it must").replace("Value error, ", "")
    return text[:1].lower() + text[1:]


def example(node: ConfigTree) -> str | None:
    """Return a value that a place could have: an example or its default, or one of its kind."""
    if node.is_secret:
        return None
    if node.info is not None and node.info.examples:
        return show(node.info.examples[0])
    if node.default is not None:
        return show(node.default)
    if node.choices:
        return show(node.choices[0])
    names = [getattr(kind, "__name__", "") for kind in node.kinds]
    return next((_EXAMPLES[name] for name in names if name in _EXAMPLES), None)


def _redacted(problem: Problem, secrets: list[str]) -> Problem:
    why, given = problem.why, problem.given
    for text in secrets:
        why = why.replace(text, MASK)
        given = given.replace(text, MASK) if given else given
    return replace(problem, why=why, given=given)


# ---- to one of ours


def as_error(
    problems: Sequence[Problem],
    origins: Origins | None = None,
    make: Callable[..., ParameterError] = ParameterError,
) -> ParameterError:
    """Return the one error that says all of it, as the writer of each value names it.

    One problem is told in full; of several, each is told in a clause.
    """
    origins = origins or {}
    first = problems[0]
    value = first.given or ""
    fix = printable(_help(first, origins))
    if len(problems) == 1:
        return make(value, printable(_message(first, origins)), fix, why=_sentence(first.why))
    clauses = [f"{_message(item, origins).rstrip('.')}: {_oneline(item.why)}" for item in problems]
    return make(
        value, f"{len(problems)} settings are wrong.", fix, why=_sentence("; ".join(clauses))
    )


def _sentence(text: str) -> str:
    text = printable(_oneline(text))
    return text if text.endswith(("?", "!")) else f"{text}."


def printable(text: str) -> str:
    r"""Return a text with what a terminal cannot show written out, as in ``\x00``."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode()
        for char in text
    )


def _oneline(text: str) -> str:
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
        return f"{name} cannot be that."
    return f'{name} cannot be "{_oneline(problem.given)}".'


def _list_of(section: ConfigTree) -> str:
    """Return the command that lists the settings of a section: no single value fits it."""
    return f"acoupi config schema {section.name}".strip()


def _help(problem: Problem, origins: Origins) -> str:
    if problem.kind == "stray":
        return "acoupi setup --help"
    origin = origin_of(problem.node.place, origins)
    lists = origin.kind == "file" or problem.node.names.style == "plain"  # a sensor is set up
    if problem.kind == "unknown":
        return _help_with_name(problem, origin, lists=lists)
    if lists and problem.node.is_section and problem.better is None:
        return _list_of(problem.node)
    return _edit(problem.node, problem.better or "VALUE", origins)


def _help_with_name(problem: Problem, origin: Origin, *, lists: bool) -> str:
    """Return what to write in place of a name that leads nowhere."""
    if origin.kind == "option" and problem.node.name.replace("-", "_") in _ASK_NOTHING:
        return "acoupi setup --no-prompt   (what is not given is as usual)"
    if not problem.meant:
        return "acoupi config schema"
    first = problem.meant[0]
    if lists and first.is_section and problem.node.place[: len(first.place)] == first.place:
        return _list_of(first)
    if origin.kind == "file":
        meant = problem.better or " or ".join(node.name for node in problem.meant)
        return f"edit {origin.text}: {meant}"
    is_variable = origin.kind == "variable"
    return " or ".join(
        node.variable if is_variable else node.names.usual(node.place) for node in problem.meant
    )
