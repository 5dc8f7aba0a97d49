"""What is wrong with a configuration, in the words of whoever wrote it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from acoupi.config.tree import ConfigTree, Place, nearest
from acoupi.errors import ParameterError

__all__ = ["MASK", "Naming", "Problem", "as_error", "problems_in", "show"]

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
    "dataclass_type": "it must be a section with settings of its own, or a JSON object",
    "dict_type": "it must be a table of names and values, or a JSON object",
    "zoneinfo_str": "it must be the name of a time zone, such as Europe/London",
    "path_type": "it must be a path",
}


_EXAMPLES = {
    "time": "18:30",
    "date": "2026-05-01",
    "datetime": "2026-05-01T20:30",
    "timedelta": "5m",
    "Path": "/mnt/usb/recordings",
    "ZoneInfo": "Europe/London",
    "bool": "true",
}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Parameters
    ----------
    node
        The place that is wrong, or the last one that exists on the way to it.
    why
        What would be right, as a clause: "it must be greater than 0".
    given
        The value as it was given; None: not to be shown, or none was given.
    kind
        "value": it cannot be that. "missing": there must be one. "empty": its option has no
        value after it. "unknown": there is no such setting, `given` is its name. "stray":
        `given` belongs to no setting.
    better
        A value, or for "unknown" a name, that would be right.
    """

    node: ConfigTree
    why: str
    given: str | None = None
    kind: str = "value"
    better: str | None = None


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


class Naming:
    """How a place is called where its value came from.

    Parameters
    ----------
    origins
        Where values came from: the name of a variable, or of a file, or "" for an option.
    plain
        Call places by their plain names, as ``config set`` does.
    """

    def __init__(self, origins: Mapping[Place, str] | None = None, *, plain: bool = False) -> None:
        self.origins = origins or {}
        self.plain = plain

    def origin(self, place: Place) -> str:
        """Return where the value of a place came from; "" is an option, or nowhere."""
        for length in range(len(place), -1, -1):
            if place[:length] in self.origins:
                return self.origins[place[:length]]
        return ""

    def named(self, node: ConfigTree) -> str:
        """Return what to call a place."""
        if not node.place:
            return "the configuration"
        origin = self.origin(node.place)
        if origin.startswith("ACOUPI_"):
            return origin
        if self.plain:
            return node.name
        return f'"{node.name}" in {origin}' if origin else node.option

    def edit(self, node: ConfigTree, value: str) -> str:
        """Return the edit that gives a place a value."""
        origin = self.origin(node.place)
        if origin.startswith("ACOUPI_"):
            return f"{origin}={_quoted(value)}"
        if self.plain:
            return f"acoupi config set {node.name} {_quoted(value)}"
        if origin:
            return f"edit {origin}: {node.name} = {value}"
        return f"{node.option} {_quoted(value)}"


def _quoted(text: str) -> str:
    safe = text and all(char.isalnum() or char in "_-./:+,@%=~" for char in text)
    return text if safe else "'" + text.replace("'", "'\\''") + "'"


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
    for detail in _of_best_members(tree, error):
        node = locate(tree, detail["loc"])[0]
        found.setdefault(node.place, []).append((node, detail))
    problems = [_problem(*items) for items in found.values()]
    hidden = [text for text in secrets if len(text) > 3]
    return [_redacted(problem, hidden) for problem in problems]


def locate(tree: ConfigTree, location: tuple[Any, ...]) -> tuple[ConfigTree, tuple[str, ...]]:
    """Return the place that a pydantic location means, and the union members on the way."""
    node, members = tree, []
    at_member = False
    for part in location:
        if len(node.kinds) > 1 and not at_member and isinstance(part, str):
            at_member = True
            members.append(f"{node.name}:{part}")
            continue
        below = node.child(part)
        if below is not None:
            node, at_member = below, False
    return node, tuple(members)


def _of_best_members(tree: ConfigTree, error: ValidationError) -> list[dict[str, Any]]:
    """Errors, and of those of a union of sections only the ones of the likeliest section."""
    details: list[dict[str, Any]] = [
        dict(item) for item in error.errors(include_url=False, include_context=True)
    ]
    counts: dict[str, dict[str, int]] = {}
    placed = [(detail, *locate(tree, detail["loc"])) for detail in details]
    for detail, node, members in placed:
        for member in members:
            union = member.partition(":")[0]
            deeper = node.name != union
            if deeper:
                weight = 2 if detail["type"] in ("missing", "extra_forbidden") else 1
                tally = counts.setdefault(union, {})
                tally[member] = tally.get(member, 0) + weight
    best = {union: min(tally, key=lambda m: tally[m]) for union, tally in counts.items()}
    return [
        detail
        for detail, _, members in placed
        if all(best.get(member.partition(":")[0], member) == member for member in members)
    ]


def _problem(*items: tuple[ConfigTree, dict[str, Any]]) -> Problem:
    node = items[0][0]
    details = [detail for _, detail in items]
    if any(detail["type"] == "missing" for detail in details):
        return Problem(node, node.description or "it has no default", kind="missing")
    extra = next((detail for detail in details if detail["type"] == "extra_forbidden"), None)
    if extra is not None:
        return unknown(node, str(extra["loc"][-1]))
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


def unknown(node: ConfigTree, name: str) -> Problem:
    """Return the problem of a setting that `node` does not have."""
    valid = [member.name for member in node.members]
    where = f"the settings of {node.name}" if node.place else "the settings"
    why = f"{where} are {', '.join(member.rpartition('.')[2] for member in valid)}"
    if not valid:
        why = f"{node.name} is a single value" if node.place else "there are none"
    full = ".".join([*map(str, node.place), name])
    return Problem(node, why, full, "unknown", nearest(name, valid) or nearest(full, valid))


def _wording(detail: Mapping[str, Any]) -> str:
    kind = detail["type"]
    if kind in _WORDING:
        return _WORDING[kind]
    if kind in ("value_error", "assertion_error"):
        return str(detail.get("ctx", {}).get("error", "")) or "the program does not accept it"
    text = str(detail["msg"]).replace("Input should", "it must").replace("Value error, ", "")
    return text[:1].lower() + text[1:]


def example(node: ConfigTree) -> str | None:
    """Return a value that a place could have: its default, or one of its kind."""
    if node.is_secret:
        return None
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
    return Problem(problem.node, why, given, problem.kind, problem.better)


# ---- to one of ours


def as_error(
    problems: list[Problem],
    naming: Naming | None = None,
    make: Callable[..., ParameterError] = ParameterError,
) -> ParameterError:
    """Return the one error that says all of it.

    One problem is told in full; of several, each is told in a clause.
    """
    naming = naming or Naming()
    first = problems[0]
    value = first.given or ""
    fix = printable(_help(first, naming))
    if len(problems) == 1:
        return make(value, printable(_message(first, naming)), fix, why=_sentence(first.why))
    clauses = [f"{_message(item, naming).rstrip('.')}: {_oneline(item.why)}" for item in problems]
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


def _message(problem: Problem, naming: Naming) -> str:
    name = naming.named(problem.node)
    if problem.kind == "unknown":
        return f'there is no setting "{_unknown_name(problem, naming)}".'
    if problem.kind in ("missing", "empty"):
        return f"{name} {'is missing' if problem.kind == 'missing' else 'needs a value'}."
    if problem.kind == "stray":
        return f'"{problem.given}" belongs to no option.'
    if problem.given is None:
        return f"{name} cannot be that."
    return f'{name} cannot be "{_oneline(problem.given)}".'


def _unknown_name(problem: Problem, naming: Naming) -> str:
    given = problem.given or ""
    if given.startswith("ACOUPI_"):
        return given
    origin = naming.origin(tuple(given.split("."))) or naming.origin(problem.node.place)
    if origin and not origin.startswith("ACOUPI_"):
        return f'{given}" in "{origin}'
    return given if naming.plain else f"--{given}"


def _help(problem: Problem, naming: Naming) -> str:
    if problem.kind == "unknown":
        given = problem.given or ""
        if given.startswith("ACOUPI_"):
            return problem.better or "acoupi config schema"
        if problem.better is None:
            return "acoupi config schema"
        return problem.better if naming.plain else f"--{problem.better}"
    if problem.kind == "stray":
        return "acoupi setup --help"
    if problem.better is not None:
        return naming.edit(problem.node, problem.better)
    return naming.edit(problem.node, "VALUE")
