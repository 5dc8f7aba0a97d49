"""Task arguments as JSON, and back: nothing is ever unpickled.

An object is sent as ``{"__acoupi__": "Recording", "value": {...}}``. It is only
restored if its class is in `acoupi.data`, is named in the annotations of the
receiving function, or is one of a few classes of the standard library; so a
message cannot choose what is created from it. What a task's return annotation names is
known to its callbacks, too.
"""

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import is_dataclass
from datetime import date, datetime, time, timedelta
from enum import Enum
from functools import partial
from inspect import isabstract
from pathlib import Path, PurePath
from typing import Any, Literal, get_args, get_origin, get_type_hints
from uuid import UUID

from pydantic import BaseModel, TypeAdapter

from acoupi import data

__all__ = [
    "MARK",
    "classes_of",
    "classes_returned",
    "decode",
    "encode",
    "unknown_class",
    "unsendable",
]

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

_SENDABLE: tuple[Any, ...] = (
    *(bool, int, float, str, bytes, bytearray, type(None), list, tuple, set, frozenset),
    *(Mapping, BaseModel, Enum, *_STANDARD.values()),
)

_adapters: dict[Any, TypeAdapter[Any]] = {}


def encode(value: Any) -> Any:
    """Convert `value` to JSON types.

    An encoded value stays as it is, so encoding twice does no harm.

    Parameters
    ----------
    value
        A number, text, truth value or None; a pydantic model, dataclass or
        enum member; a date, time, timedelta, UUID or path; bytes; an array or a scalar of
        NumPy; or lists, tuples, sets and mappings (with text keys) of these. A tuple
        arrives as a list, a scalar of NumPy as a plain number.

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
    if isinstance(value, bytes | bytearray | set | frozenset) or type(value).__module__ == "numpy":
        return _encode_special(value)
    raise TypeError(
        f"a task cannot receive {type(value).__name__!r}: tasks accept numbers, text, bytes, "
        "arrays, pydantic models, dataclasses, and lists, sets and mappings of these; "
        f"make {type(value).__name__} a dataclass, or return its parts"
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
    if names[0] in _SETS:
        return _SETS[names[0]](decode(item, classes) for item in value["value"])
    if names[0] in _PLAIN:
        return _PLAIN[names[0]](value["value"])
    raise TypeError(f"a message holds {names[0]!r}, {_cure(names[0])}")


def unknown_class(value: Any, classes: Mapping[str, type]) -> str | None:
    """Return why a task that knows these classes cannot restore what `encode` made.

    None if it can.
    """
    for names in _marks(value):
        if not any(name in known for name in names for known in (classes, *_ALWAYS_KNOWN)):
            return f"it holds {names[0]!r}, {_cure(names[0])}"
    return None


def _marks(value: Any) -> Iterator[list[str]]:
    """Yield the names under which each object in an encoded value may be known."""
    if isinstance(value, list):
        for item in value:
            yield from _marks(item)
    elif isinstance(value, dict) and MARK not in value:
        yield from _marks(list(value.values()))
    elif isinstance(value, dict):
        yield [value[MARK], *value.get("also", [])]
        if value[MARK] in _SETS:
            yield from _marks(value["value"])


def _cure(name: str) -> str:
    return (
        "which this task does not accept: annotate its parameter with that class "
        f"(def task(value: {name})), at the top of a module"
    )


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
    hints = _hints(function)
    hints.pop("return", None)
    found: dict[str, type] = {}
    for hint in hints.values():
        _collect(hint, found)
    return found


def classes_returned(function: Callable[..., Any]) -> dict[str, type]:
    """Return the classes that a function's return annotation names, by name."""
    found: dict[str, type] = {}
    _collect(_hints(function).get("return"), found)
    return found


def unsendable(function: Callable[..., Any]) -> str | None:
    """Return the part of a return annotation that no callback can receive, and a cure.

    None if there is nothing, or if the annotation does not tell.

    Examples
    --------
    >>> class Peaks: ...
    >>> def task() -> list[Peaks]: ...
    >>> unsendable(task)
    'Peaks: make it a dataclass, or return its parts'
    """
    return _unsendable(_hints(function).get("return"))


def _unsendable(hint: Any) -> str | None:
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return None
    kind = origin or hint
    if kind is Callable or (isinstance(kind, type) and issubclass(kind, Iterator)):
        return f"{hint}: return a list"
    is_mapping = isinstance(kind, type) and issubclass(kind, Mapping)
    if is_mapping and parts and parts[0] not in (str, Any):
        return f"a mapping with keys of {parts[0]}: use text"
    if parts:
        return next(filter(None, map(_unsendable, parts)), None)
    if isinstance(hint, type) and not _can_be_sent(hint):
        return f"{hint.__name__}: make it a dataclass, or return its parts"
    return None


def _can_be_sent(kind: type) -> bool:
    """Return whether a value of a class, or of one below it that is known here, can be encoded."""
    if kind is object or kind.__module__.partition(".")[0] in ("numpy", "typing", "collections"):
        return True
    if issubclass(kind, _SENDABLE) or is_dataclass(kind) or getattr(kind, "_is_protocol", False):
        return True
    return isabstract(kind) or any(map(_can_be_sent, kind.__subclasses__()))


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    while isinstance(function, partial):
        function = function.func
    annotated: Any = function if hasattr(function, "__name__") else type(function).__call__
    try:
        return get_type_hints(annotated)
    except (NameError, TypeError, AttributeError):
        return {}


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


def _encode_special(value: Any) -> Any:
    if isinstance(value, bytes | bytearray):
        return {MARK: "bytes", "value": base64.b64encode(value).decode()}
    if isinstance(value, set | frozenset):
        name = "set" if isinstance(value, set) else "frozenset"
        return {MARK: name, "value": [encode(item) for item in value]}
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        return encode(value.item())
    kind = getattr(value, "dtype", None)
    if kind is None or kind.kind not in "biufc":
        raise TypeError(f"a task cannot receive {type(value).__name__!r} of {kind}: use numbers")
    numbers = base64.b64encode(value.tobytes()).decode()
    return {MARK: "ndarray", "value": [kind.str, list(value.shape), numbers]}


def _array(value: Any) -> Any:
    import numpy as np  # noqa: PLC0415 - most messages hold no array

    kind, shape, numbers = value
    return np.frombuffer(base64.b64decode(numbers), dtype=np.dtype(str(kind))).reshape(shape).copy()


_PLAIN: dict[str, Callable[[Any], Any]] = {
    "bytes": lambda value: base64.b64decode(value, validate=True),
    "ndarray": _array,
}
"""A type with its own way of restoring."""
_SETS: dict[str, type] = {"set": set, "frozenset": frozenset}
_ALWAYS_KNOWN = (_DATA, _STANDARD, _PLAIN, _SETS)


def _encode_mapping(value: Mapping[Any, Any]) -> dict[str, Any]:
    if MARK in value:
        return dict(value)
    for key in value:
        if not isinstance(key, str):
            raise TypeError(f"a task cannot receive a mapping with the key {key!r}: use text")
    return {key: encode(item) for key, item in value.items()}


def _adapter(kind: Any) -> TypeAdapter[Any]:
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(Path if kind is PurePath else kind)
    return _adapters[kind]
