"""One field of a configuration: reading it, and setting it."""

import json
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from acoupi.config.answers import Answers, as_input
from acoupi.config.dumping import dump_config
from acoupi.config.names import PROGRAM, Names, Place
from acoupi.config.problems import OPTION, Problem, as_error, problems_in, unknown
from acoupi.config.tree import ConfigTree, describe
from acoupi.config.validation import check_round_trip, made, validated
from acoupi.config.values import from_data, from_text
from acoupi.errors import ParameterError

__all__ = ["dump_config_field", "get_config_field", "set_config_field"]

S = TypeVar("S", bound=BaseModel)


def _tree(schema: type[BaseModel], names: Names) -> ConfigTree:
    return describe(schema, names.in_style("plain"))


class _NoFieldError(ParameterError, AttributeError):
    """There is no such field; published programs catch it as AttributeError."""


class _NoItemError(ParameterError, IndexError):
    """There is no such item; published programs catch it as IndexError."""


def get_config_field(config: BaseModel, field: str, *, names: Names = PROGRAM) -> Any:
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
    tree = node = _tree(type(config), names)
    for name in field.split(".") if field else []:
        value, node = _step(tree, node, value, name)
    return value


def dump_config_field(
    config: BaseModel, field: str, indent: int = 2, *, names: Names = PROGRAM
) -> str:
    """Return the value at a dotted path as JSON for display: secrets are masked.

    Raises
    ------
    ParameterError
        As `get_config_field`.
    """
    get_config_field(config, field, names=names)
    plain = json.loads(dump_config(config))
    node = describe(type(config))
    for name in field.split(".") if field else []:
        node = node.child(name) or node
        if isinstance(plain, list):
            plain = plain[int(name)]
        else:
            plain = plain[name] if name in plain else plain[str(node.place[-1])]
    return json.dumps(plain, indent=indent, ensure_ascii=False)


def _step(tree: ConfigTree, node: ConfigTree, value: Any, name: str) -> tuple[Any, ConfigTree]:
    """Return the member of a value by its name, and its place."""
    if isinstance(value, BaseModel):
        here = replace(node, annotation=type(value))
        found = here.child(name)
        if found is None:
            raise _missing(tree, node, name)
        return getattr(value, str(found.place[-1])), found
    below = node.child(name)
    if isinstance(value, dict) and below is not None:
        if name not in value:
            raise _missing(tree, node, name, f"its names are {', '.join(value) or 'none'}")
        return value[name], below
    if isinstance(value, list | tuple):
        if below is None:
            raise _missing(tree, node, name, f"{node.name} is a list; its items count from 0")
        index = int(below.place[-1])
        if index >= len(value):
            why = f"{node.name} has {len(value)} items, counted from 0"
            raise _missing(tree, node, name, why, _NoItemError)
        return value[index], below
    raise _missing(tree, node, name)


def _missing(
    tree: ConfigTree,
    node: ConfigTree,
    name: str,
    why: str | None = None,
    make: type[ParameterError] = _NoFieldError,
) -> ParameterError:
    problem = unknown(tree, [*map(str, node.place), name])
    return as_error([replace(problem, why=why or problem.why)], make=make)


def set_config_field(  # noqa: PLR0917 - published
    config: S,
    field: str,
    value: Any,
    is_json: bool = False,
    strict: bool = False,
    from_attributes: bool = False,
    *,
    names: Names = PROGRAM,
) -> S:
    """Return a validated copy of a configuration with one field set.

    Optional sections on the way are made. An empty `field` replaces everything.

    Parameters
    ----------
    value
        Text as in an option, or any value.
    is_json
        Parse `value` as JSON.
    strict, from_attributes
        As in pydantic: convert nothing; read attributes of objects.

    Raises
    ------
    ParameterError
        If there is no such field, or it cannot have that value; if there is no such item
        of a list, also an `IndexError`.

    Examples
    --------
    >>> from acoupi.data import TimeInterval
    >>> import datetime
    >>> night = TimeInterval(start=datetime.time(21), end=datetime.time(5))
    >>> set_config_field(night, "end", "6:30").end
    datetime.time(6, 30)
    """
    tree = _tree(type(config), names)
    way = field.split(".") if field else []
    node = tree.find(way)
    if node is None:
        raise as_error([unknown(tree, way)])
    answers = Answers(tree, as_input(config))
    _check_items(tree, answers.data, node.place)
    new = _value(node, value, answers, is_json=is_json)
    if isinstance(new, BaseModel) and not node.place:
        return _validated(tree, type(config), new, strict=strict, from_attributes=from_attributes)
    if not node.place and not isinstance(new, dict):
        raise as_error([Problem(tree, "it must be a JSON object")])
    if not node.place:
        answers.data = {}
        answers.merge(new, OPTION)
    else:
        answers.put(node, new, OPTION)
    if answers.problems or not (strict or from_attributes):
        return validated(type(config), answers)
    data = answers.data
    return _validated(tree, type(config), data, strict=strict, from_attributes=from_attributes)


def _check_items(tree: ConfigTree, data: Any, place: Place) -> None:
    """Refuse an index past the end of a list."""
    for depth, key in enumerate(place):
        if isinstance(data, list) and isinstance(key, int) and key >= len(data):
            node = tree.at(place[:depth]) or tree
            why = f"{node.name} has {len(data)} items, counted from 0"
            raise _missing(tree, node, str(key), why, _NoItemError)
        below = dict(enumerate(data)) if isinstance(data, list) else data
        data = below.get(key) if isinstance(below, dict) else None


def _value(node: ConfigTree, value: Any, answers: Answers, *, is_json: bool) -> Any:
    if is_json:
        try:
            return from_data(node, json.loads(value), answers.problems)
        except (ValueError, TypeError, RecursionError) as error:
            raise as_error([Problem(node, f"it must be JSON: {error}")]) from error
    if isinstance(value, str):
        return from_text(node, value, answers.problems)
    return from_data(node, value, answers.problems)


def _validated(
    tree: ConfigTree, schema: type[S], data: Any, *, strict: bool, from_attributes: bool
) -> S:
    try:
        config: S = made(schema, data, strict=strict, from_attributes=from_attributes)
    except ValidationError as error:
        raise as_error(problems_in(tree, error)) from error
    check_round_trip(config)
    return config
