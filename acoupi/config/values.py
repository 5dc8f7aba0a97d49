"""Converting texts to values where pydantic alone would be unfriendly or guess wrongly.

pydantic makes the conversions. This comes before it: ``null`` for "none", choices that are not
text, JSON for lists and sections; times of day, durations and paths as
`acoupi.programs.fields` reads them; and refusing values that pydantic would misunderstand (a date
as seconds since 1970) or that JSON cannot hold.
"""

import datetime
import json
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from acoupi.config.problems import Problem, example, show
from acoupi.config.tree import ConfigTree
from acoupi.programs.fields import read_duration, read_path, read_time

__all__ = ["from_data", "from_text"]


def from_text(node: ConfigTree, text: str, problems: list[Problem], *, commas: bool = False) -> Any:
    """Return the input for pydantic for a text from the user.

    Parameters
    ----------
    commas
        Accept a list of single values separated by commas.
    """
    if node.is_nullable and text.strip().lower() in ("null", "none"):
        taken = [choice for choice in node.choices if show(choice) == text.strip()]
        return taken[0] if taken else None
    if node.is_compound and text.lstrip()[:1] in ("{", "["):
        try:
            return from_data(node, json.loads(text), problems)
        except (ValueError, RecursionError) as error:
            if not node.is_list:
                why = f"it must be JSON: {error}"
                problems.append(Problem(node, why, None if node.is_secret else show(text)))
                return text
    if (node.is_list or node.slots) and not node.has_compound_items:
        items = text.split(",") if commas else [text]
        return from_data(node, [item.strip() for item in items if item.strip()], problems)
    return from_data(node, text, problems)


def from_data(node: ConfigTree, value: Any, problems: list[Problem]) -> Any:
    """Return the input for pydantic for a value in a file; see `from_text`."""
    if isinstance(value, dict):
        return {key: _below(node, key, item, problems) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_below(node, index, item, problems) for index, item in enumerate(value)]
    try:
        return _single(node, value)
    except ValueError as error:
        given = None if node.is_secret else show(value)
        problems.append(Problem(node, str(error), given, better=example(node)))
        return value


def _below(node: ConfigTree, key: Any, value: Any, problems: list[Problem]) -> Any:
    child = node.child(key) if isinstance(key, str | int) else None
    return value if child is None else from_data(child, value, problems)


def _single(node: ConfigTree, value: Any) -> Any:
    """Convert a value; a ValueError says what would be valid."""
    if isinstance(value, str):
        _check_text(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("it must be a finite number")
    if node.is_text or value is None:
        return value
    if node.choices:
        return _choice(node.choices, value)
    for kind, convert in _CONVERTERS.items():
        if kind in node.kinds:
            value = convert(value)
    return value


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("it must be text in UTF-8") from error


def _choice(choices: Iterable[Any], value: Any) -> Any:
    """Take "2" for the choice 2, and "Tcp" for "tcp"."""
    if not isinstance(value, str):
        return value
    for fold in (str, str.lower):
        for choice in choices:
            if fold(str(show(choice))) == fold(value.strip()):
                return choice
    return value


def _date(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(r"-?[0-9.]+", value.strip()):
        raise ValueError("it must be a date, such as 2026-05-01 or 2026-05-01T20:30")
    return value


def _number(value: Any) -> Any:
    try:
        is_finite = math.isfinite(float(value)) if isinstance(value, str) else True
    except (ValueError, OverflowError):
        return value
    if not is_finite:
        raise ValueError("it must be a finite number")
    return value


_CONVERTERS: dict[type, Callable[[Any], Any]] = {
    datetime.time: read_time,
    datetime.date: _date,
    datetime.datetime: _date,
    datetime.timedelta: read_duration,
    Path: read_path,
    float: _number,
    int: _number,
}
