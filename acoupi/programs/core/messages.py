"""Task arguments as JSON, and back: nothing is ever unpickled.

An object is sent as ``{"__acoupi__": "Recording", "value": {...}}``. It is only
restored if its class is in `acoupi.data`, is named in the annotations of the
receiving function, or is one of a few classes of the standard library; so a
message cannot choose what is created from it.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from datetime import date, datetime, time, timedelta
from enum import Enum
from functools import partial
from pathlib import Path, PurePath
from typing import Any, get_args, get_type_hints
from uuid import UUID

from pydantic import BaseModel, TypeAdapter

from acoupi import data

__all__ = ["MARK", "classes_of", "decode", "encode"]

MARK = "__acoupi__"
"""The key that distinguishes an encoded object from a plain mapping."""

# A datetime is also a date: the first match gives the name.
_STANDARD: dict[str, type] = {
    "datetime": datetime,
    "date": date,
    "time": time,
    "timedelta": timedelta,
    "UUID": UUID,
    "Path": PurePath,
}
_DATA: dict[str, type] = {
    name: value
    for name, value in vars(data).items()
    if isinstance(value, type) and value.__module__ == data.__name__
}

_adapters: dict[Any, TypeAdapter[Any]] = {}


def encode(value: Any) -> Any:
    """Convert `value` to JSON types.

    An encoded value stays as it is, so encoding twice does no harm.

    Parameters
    ----------
    value
        A number, text, truth value or None; a pydantic model, dataclass or
        enum member; a date, time, timedelta, UUID or path; or lists, tuples
        and mappings (with text keys) of these. A tuple arrives as a list.

    Raises
    ------
    TypeError
        If it holds anything else.

    Examples
    --------
    >>> encode(data.Tag("species", "Myotis daubentonii"))
    {'__acoupi__': 'Tag', 'value': {'key': 'species', 'value': 'Myotis daubentonii'}}
    >>> decode(encode(data.Tag("species", "Myotis daubentonii")))
    Tag(key='species', value='Myotis daubentonii')
    """
    if value is None or (isinstance(value, bool | int | float | str) and not _is_object(value)):
        return value
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    if isinstance(value, Mapping):
        return _encode_mapping(value)
    if _is_object(value):
        return _encode_object(value)
    for name, standard in _STANDARD.items():
        if isinstance(value, standard):
            return {MARK: name, "value": _adapter(standard).dump_python(value, mode="json")}
    raise TypeError(
        f"a task cannot be given {type(value).__name__!r}: tasks accept numbers, text, "
        "pydantic models, dataclasses, and lists and mappings of these"
    )


def decode(value: Any, classes: Mapping[str, type] | None = None) -> Any:
    """Restore a value from `encode`.

    Parameters
    ----------
    value
        Anything; a value without the mark of `encode` is returned as it is.
    classes
        Classes besides those of `acoupi.data`, by name (see `classes_of`).
        They take precedence.

    Raises
    ------
    TypeError
        If it holds an object of any other class.
    pydantic.ValidationError
        If the content does not fit its class.
    """
    if isinstance(value, list):
        return [decode(item, classes) for item in value]
    if not isinstance(value, dict):
        return value
    if MARK not in value:
        return {key: decode(item, classes) for key, item in value.items()}
    names = [value[MARK], *value.get("also", [])]
    known = {**_STANDARD, **_DATA, **(classes or {})}
    for name in names:
        if name in known:
            return _adapter(known[name]).validate_json(json.dumps(value["value"]))
    raise TypeError(f"a message holds {names[0]!r}, which this task does not accept")


def classes_of(function: Callable[..., Any]) -> dict[str, type]:
    """Return the classes that a function's annotations name, by name.

    That includes those inside ``Optional``, ``list`` and so on. Empty if the
    annotations cannot be evaluated.

    Examples
    --------
    >>> def task(outputs: list[data.ModelOutput] | None) -> None: ...
    >>> classes_of(task)
    {'ModelOutput': <class 'acoupi.data.ModelOutput'>}
    """
    while isinstance(function, partial):
        function = function.func
    annotated: Any = function if hasattr(function, "__name__") else type(function).__call__
    try:
        hints = get_type_hints(annotated)
    except (NameError, TypeError, AttributeError):
        return {}
    hints.pop("return", None)
    found: dict[str, type] = {}
    for hint in hints.values():
        _collect(hint, found)
    return found


def _collect(hint: Any, found: dict[str, type]) -> None:
    if isinstance(hint, type) and (issubclass(hint, BaseModel | Enum) or is_dataclass(hint)):
        found[hint.__name__] = hint
    for part in get_args(hint):
        _collect(part, found)


def _is_object(value: Any) -> bool:
    return not isinstance(value, type) and (
        isinstance(value, BaseModel | Enum) or is_dataclass(value)
    )


def _encode_object(value: Any) -> dict[str, Any]:
    kind = type(value)
    encoded = {MARK: kind.__name__, "value": _adapter(kind).dump_python(value, mode="json")}
    # A program's own subclass of Recording is still a recording to others.
    also = [base.__name__ for base in kind.__mro__[1:] if _DATA.get(base.__name__) is base]
    if also and _DATA.get(kind.__name__) is not kind:
        encoded["also"] = also
    return encoded


def _encode_mapping(value: Mapping[Any, Any]) -> dict[str, Any]:
    if MARK in value:
        return dict(value)
    for key in value:
        if not isinstance(key, str):
            raise TypeError(f"a task cannot be given a mapping with the key {key!r}: use text")
    return {key: encode(item) for key, item in value.items()}


def _adapter(kind: Any) -> TypeAdapter[Any]:
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(Path if kind is PurePath else kind)
    return _adapters[kind]
