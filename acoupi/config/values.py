"""Texts to values, where pydantic alone would be unfriendly or would guess wrongly.

pydantic makes the conversions. What is here comes before it: times of day as people
write them, durations with a unit, ``~`` in paths, ``null`` for "none", choices that
are not text, JSON for lists and sections; and it refuses what pydantic would take
for something else (a date as seconds since 1970) or what no JSON file could hold.
"""

import datetime
import json
import math
import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from pathlib import Path, PurePath
from typing import Any

from acoupi.config.problems import Problem, example, show
from acoupi.config.tree import ConfigTree

__all__ = ["from_data", "from_text", "parse_duration", "parse_time"]

_TIME = re.compile(
    r"(?P<h>[0-9]{1,2})(:(?P<m>[0-9]{2})(:(?P<s>[0-9]{2})(\.(?P<f>[0-9]{1,6}))?)?)?"
    r"( ?(?P<half>[ap])\.?m\.?)?",
    re.IGNORECASE,
)
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(days?|hours?|minutes?|mins?|seconds?|secs?|[dhms])")
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


class _BadValueError(ValueError):
    """A value that cannot be taken; its text says what would be right."""


def parse_time(text: str) -> datetime.time:
    """Return the time of day that a person means.

    Raises
    ------
    ValueError
        If it is none; the text says what is.

    Examples
    --------
    >>> [parse_time(text).isoformat() for text in ("8", "14:23", "8:10:53", "7pm", "12 am")]
    ['08:00:00', '14:23:00', '08:10:53', '19:00:00', '00:00:00']
    >>> parse_time("800")
    Traceback (most recent call last):
    ...
    acoupi.config.values._BadValueError: it must be a time of day, such as 8, 18:30 or 6:05pm
    """
    valid = "it must be a time of day, such as 8, 18:30 or 6:05pm"
    match = _TIME.fullmatch(text.strip())
    if match is None:
        if re.search(r"[0-9](z|[+-][0-9:]+)$", text.strip(), re.IGNORECASE):
            valid = "it must be a local time of day, without a zone, such as 18:30"
        raise _BadValueError(valid)
    hour, half = int(match["h"]), (match["half"] or "").lower()
    if half:
        if not 1 <= hour <= 12:
            raise _BadValueError("am and pm go with the hours 1 to 12")
        hour = hour % 12 + (12 if half == "p" else 0)
    if hour == 24:
        raise _BadValueError("the hours go from 0 to 23; midnight is 0:00")
    minute, second = int(match["m"] or 0), int(match["s"] or 0)
    try:
        return datetime.time(hour, minute, second, int((match["f"] or "0").ljust(6, "0")))
    except ValueError as error:
        raise _BadValueError(f"{valid} ({error})") from error


def parse_duration(text: str) -> datetime.timedelta | None:
    """Return a length of time given as seconds or with units; None if it is not one.

    Examples
    --------
    >>> [str(parse_duration(text)) for text in ("90", "1h 30m", "5 min", "2 days")]
    ['0:01:30', '1:30:00', '0:05:00', '2 days, 0:00:00']
    """
    text = text.strip().lower()
    if re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text):
        seconds = float(text)
    elif text and not _PART.sub("", text).strip():
        seconds = sum(float(n) * _UNITS[unit[0]] for n, unit in _PART.findall(text))
    else:
        return None
    try:
        return datetime.timedelta(seconds=seconds)
    except OverflowError as error:
        raise _BadValueError("it is longer than any deployment") from error


def from_text(node: ConfigTree, text: str, problems: list[Problem], *, commas: bool = False) -> Any:
    """Return what pydantic should be given for a text of the user's.

    Parameters
    ----------
    commas
        Take a list of single values as separated by commas.
    """
    if node.is_nullable and text.strip().lower() in ("null", "none"):
        taken = [choice for choice in node.choices if show(choice) == text.strip()]
        return taken[0] if taken else None
    compound = node.structs or node.value_types or node.item_types or node.slots
    if (compound or Any in node.kinds) and text.lstrip()[:1] in ("{", "["):
        try:
            return from_data(node, json.loads(text), problems)
        except (ValueError, RecursionError) as error:
            if not node.is_text and not node.item_types:
                why = f"it must be JSON: {error}"
                problems.append(Problem(node, why, None if node.is_secret else show(text)))
                return text
    if commas and (node.is_list or node.slots) and not _has_compound_items(node):
        items = [item.strip() for item in text.split(",") if item.strip()]
        return from_data(node, items, problems)
    if node.is_list or (node.slots and len(node.kinds) == 1):
        return from_data(node, [text], problems)
    return from_data(node, text, problems)


def _has_compound_items(node: ConfigTree) -> bool:
    item = node.child(0)
    return item is None or bool(item.structs or item.item_types or item.value_types or item.slots)


def from_data(node: ConfigTree, value: Any, problems: list[Problem]) -> Any:
    """Return what pydantic should be given for a value of a file; see `from_text`."""
    if isinstance(value, dict):
        return {key: _below(node, key, item, problems) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_below(node, index, item, problems) for index, item in enumerate(value)]
    try:
        return _leaf(node, value)
    except _BadValueError as error:
        given = None if node.is_secret else show(value)
        problems.append(Problem(node, str(error), given, better=example(node)))
        return value


def _below(node: ConfigTree, key: Any, value: Any, problems: list[Problem]) -> Any:
    child = node.child(key) if isinstance(key, str | int) else None
    return value if child is None else from_data(child, value, problems)


def _leaf(node: ConfigTree, value: Any) -> Any:
    if isinstance(value, str):
        _check_text(value)
    if isinstance(value, float | Decimal) and not math.isfinite(value):
        raise _BadValueError("it must be a finite number")
    if node.is_text or value is None:
        return value
    if node.choices:
        return _choice(node.choices, value)
    for kind, convert in _CONVERTERS:
        if kind in node.kinds:
            value = convert(value)
    return value


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _BadValueError("it must be text in UTF-8") from error


def _choice(choices: Iterable[Any], value: Any) -> Any:
    """Take "2" for the choice 2, and "Tcp" for "tcp"."""
    if not isinstance(value, str):
        return value
    for fold in (str, str.lower):
        for choice in choices:
            if fold(str(show(choice))) == fold(value.strip()):
                return choice
    return value


def _time(value: Any) -> Any:
    number = isinstance(value, int) and not isinstance(value, bool)
    return parse_time(str(value)) if isinstance(value, str) or number else value


def _date(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(r"-?[0-9.]+", value.strip()):
        raise _BadValueError("it must be a date, such as 2026-05-01 or 2026-05-01T20:30")
    return value


def _duration(value: Any) -> Any:
    found = parse_duration(value) if isinstance(value, str) else None
    return value if found is None else found


def _path(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if not value.strip() or "\0" in value:
        raise _BadValueError("it must be a path, such as /mnt/usb/recordings")
    try:
        return str(Path(value).expanduser()) if value.startswith("~") else value
    except RuntimeError as error:
        raise _BadValueError("there is no such home folder") from error


def _number(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        finite = math.isfinite(float(value))
    except (ValueError, OverflowError):
        return value
    if not finite:
        raise _BadValueError("it must be a finite number")
    return value


_CONVERTERS: list[tuple[Any, Callable[[Any], Any]]] = [
    (datetime.time, _time),
    (datetime.date, _date),
    (datetime.datetime, _date),
    (datetime.timedelta, _duration),
    (Path, _path),
    (PurePath, _path),
    (float, _number),
    (int, _number),
    (Decimal, _number),
]
