"""One field of a configuration: reading it, and setting it."""

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from acoupi.config.answers import Answers, as_input
from acoupi.config.dumping import dump_config
from acoupi.config.problems import Naming, Problem, as_error, problems_in, unknown
from acoupi.config.tree import ConfigTree, describe, fields_of
from acoupi.config.validation import check_round_trip, validated
from acoupi.config.values import from_data, from_text
from acoupi.errors import ParameterError

__all__ = ["dump_config_field", "get_config_field", "set_config_field"]

S = TypeVar("S", bound=BaseModel)


class _NoFieldError(ParameterError, AttributeError):
    """There is no such field; also what published programs catch."""


class _NoItemError(ParameterError, IndexError):
    """There is no such item; also what published programs catch."""


def get_config_field(config: BaseModel, field: str) -> Any:
    """Return the value at a dotted path; the whole configuration for an empty one.

    Parameters
    ----------
    field
        Names and indices, as in ``recording.duration`` or ``intervals.0.start``.

    Raises
    ------
    ParameterError
        If there is no such field, also an `AttributeError` that lists the valid names; if
        there is no such item, also an `IndexError`.

    Examples
    --------
    >>> from acoupi.data import TimeInterval
    >>> import datetime
    >>> get_config_field(TimeInterval(start=datetime.time(6), end=datetime.time(9)), "end")
    datetime.time(9, 0)
    """
    value: Any = config
    node = describe(type(config))
    for name in field.split(".") if field else []:
        value, node = _step(value, node, name)
    return value


def dump_config_field(config: BaseModel, field: str, indent: int = 2) -> str:
    """Return the value at a dotted path as JSON to look at: secrets are masked.

    Raises
    ------
    ParameterError
        As `get_config_field`.
    """
    get_config_field(config, field)
    plain = json.loads(dump_config(config))
    node = describe(type(config))
    for name in field.split(".") if field else []:
        node = node.child(name) or node
        if isinstance(plain, list):
            plain = plain[int(name)]
        else:
            plain = plain[name] if name in plain else plain[str(node.place[-1])]
    return json.dumps(plain, indent=indent, ensure_ascii=False)


def _step(value: Any, node: ConfigTree, name: str) -> tuple[Any, ConfigTree]:
    if isinstance(value, list | tuple):
        return _item(value, node, name)
    if isinstance(value, dict):
        below = node.child(name) or ConfigTree((*node.place, name), Any)
        if name not in value:
            valid = ", ".join(map(str, value)) or "none"
            raise _missing(node, name, f"the names in {node.name} are {valid}")
        return value[name], below
    here = ConfigTree(node.place, type(value), node.info, node.in_secret)
    found = here.child(name) if here.structs else None
    if found is None:
        raise _missing(here, name, None)
    attribute = next(
        (one for one in (str(found.place[-1]), name) if hasattr(value, one)),
        _attribute(here, found),
    )
    return getattr(value, attribute), found


def _attribute(here: ConfigTree, found: ConfigTree) -> str:
    return fields_of(here.structs[0])[str(found.place[-1])][0]


def _missing(node: ConfigTree, name: str, why: str | None) -> ParameterError:
    problem = unknown(node, name)
    if why:
        problem = Problem(node, why, problem.given, "unknown", problem.better)
    return as_error([problem], Naming(plain=True), _NoFieldError)


def _item(value: Any, node: ConfigTree, name: str) -> tuple[Any, ConfigTree]:
    place = f"{node.name}.{name}".lstrip(".")
    if not name.isascii() or not name.isdigit():
        why = f"{node.name} is a list; its items are counted from 0"
        raise as_error([Problem(node, why, place, "unknown")], Naming(plain=True), _NoFieldError)
    if int(name) >= len(value):
        why = f"{node.name} has {len(value)} items, counted from 0"
        raise as_error([Problem(node, why, place, "unknown")], Naming(plain=True), _NoItemError)
    below = node.child(int(name)) or ConfigTree((*node.place, int(name)), Any)
    return value[int(name)], below


def set_config_field(  # noqa: PLR0917 - published
    config: S,
    field: str,
    value: Any,
    is_json: bool = False,
    strict: bool = False,
    from_attributes: bool = False,
) -> S:
    """Return a copy of a configuration with one field set, the whole of it validated.

    Optional sections on the way are made. An empty `field` replaces everything.

    Parameters
    ----------
    value
        Text as an option would have it, or any value.
    is_json
        Take `value` as JSON.
    strict, from_attributes
        As in pydantic: convert nothing; read attributes of objects.

    Raises
    ------
    ParameterError
        If there is no such field, or it cannot have that value.

    Examples
    --------
    >>> from acoupi.data import TimeInterval
    >>> import datetime
    >>> night = TimeInterval(start=datetime.time(21), end=datetime.time(5))
    >>> set_config_field(night, "end", "6:30").end
    datetime.time(6, 30)
    """
    schema = type(config)
    tree = describe(schema)
    names = field.split(".") if field else []
    node = tree.find(names)
    if node is None:
        raise as_error([unknown(tree.closest(names), _rest(tree, names))], Naming(plain=True))
    answers = Answers(tree, as_input(config))
    new = _value(node, value, answers, is_json=is_json)
    if node.place:
        answers.put(node, new, "")
        return _checked(schema, answers, strict=strict, from_attributes=from_attributes)
    if isinstance(new, BaseModel) or from_attributes:
        return _validated(schema, new, strict=strict, from_attributes=from_attributes)
    if not isinstance(new, dict):
        raise as_error([Problem(tree, "it must be a JSON object")], Naming(plain=True))
    fresh = Answers(tree)
    fresh.merge(new, "")
    return _checked(schema, fresh, strict=strict, from_attributes=from_attributes)


def _rest(tree: ConfigTree, names: list[str]) -> str:
    """Return the first name that leads nowhere."""
    return names[min(len(tree.closest(names).place), len(names) - 1)]


def _value(node: ConfigTree, value: Any, answers: Answers, *, is_json: bool) -> Any:
    problems = answers.problems
    if is_json:
        try:
            return from_data(node, json.loads(value), problems)
        except (ValueError, TypeError, RecursionError) as error:
            problem = Problem(node, f"it must be JSON: {error}")
            raise as_error([problem], Naming(plain=True)) from error
    if isinstance(value, str):
        return from_text(node, value, problems)
    return from_data(node, value, problems)


def _checked(schema: type[S], answers: Answers, *, strict: bool, from_attributes: bool) -> S:
    if answers.problems or not (strict or from_attributes):
        return validated(schema, answers, plain=True)
    return _validated(schema, answers.data, strict=strict, from_attributes=from_attributes)


def _validated(schema: type[S], data: Any, *, strict: bool, from_attributes: bool) -> S:
    try:
        config = schema.model_validate(data, strict=strict, from_attributes=from_attributes)
    except ValidationError as error:
        problems = problems_in(describe(schema), error)
        raise as_error(problems, Naming(plain=True)) from error
    check_round_trip(config)
    return config
