"""The protocol of a door: one JSON document each way, after its length in four bytes."""

import base64
import dataclasses
import datetime
import functools
import inspect
import json
import numbers
import os
import struct
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic_core import from_json

from acoupi.deferred import DeferredModel

__all__ = [
    "LENGTH",
    "MOST_ANSWER_BYTES",
    "MOST_BYTES",
    "MOST_VALUES",
    "Answer",
    "Request",
    "TooLargeError",
    "Trouble",
    "arguments_of",
    "pack",
    "parse",
    "result_of",
    "rows_of",
]

LENGTH = struct.Struct(">I")
MOST_BYTES = 4 * 1024 * 1024
"""Size of a request."""
MOST_VALUES = 200_000
"""Most values in a request: more than 5,000 detections. Nesting deeper than 200 is refused."""
MOST_ANSWER_BYTES = 16 * 1024 * 1024

_BYTES, _PATH = "$bytes", "$path"


class TooLargeError(ValueError):
    """A document is larger than what a door accepts."""


class _Strict(DeferredModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Request(_Strict):
    """A call of a method of a store."""

    store: str = Field(max_length=20)
    """Its kind."""
    path: str = Field(max_length=4096)
    """The path of the store in the program of both sides."""
    method: str = Field(max_length=60)
    arguments: dict[str, Any]
    caller: str | None = Field(default=None, max_length=100)
    """The parent of the calling process; see `acoupi.door.caller`."""
    key: str | None = Field(default=None, max_length=200)
    """Key that proves that the owner of the sensor calls, if only they may."""


class Trouble(_Strict):
    """Why a call was not made, or failed."""

    is_value: bool = False
    """A ``ValueError``; otherwise an error of the store."""
    kind: str = ""
    """Class name of an acoupi error."""
    status: int | None = None
    """HTTP status, if the error has one."""
    message: str
    help: str | None = None
    why: str | None = None


class Answer(_Strict):
    """The result of a method, or its error."""

    result: Any = None
    error: Trouble | None = None
    more: bool = False
    """Rows of a stream; another answer follows with the next ones."""


def pack(document: BaseModel, most: int = MOST_BYTES) -> bytes:
    """Return a document as JSON.

    Raises
    ------
    TooLargeError
        If it has more than `most` bytes, or too many values.
    TypeError
        If it holds something that JSON cannot.
    """
    content = json.dumps(_plain(document), separators=(",", ":")).encode()
    _check_size(content, most)
    return content


def parse(content: bytes, kind: type[BaseModel], most: int = MOST_BYTES) -> Any:
    """Return the document of a kind that JSON holds.

    Raises
    ------
    ValueError
        If it is too large or too deep, not JSON, or not of that kind.
    """
    _check_size(content, most)
    return kind.model_validate(_revived(from_json(content)))


def arguments_of(function: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a method from what JSON held, each validated by its type.

    Raises
    ------
    ValueError
        If one is unknown, or not of its type.
    """
    unknown = given.keys() - _hints(function).keys() | given.keys() & {"return"}
    if unknown:
        raise ValueError(f"there is no argument called {', '.join(sorted(unknown))}")
    return {name: _adapter(function, name).validate_python(one) for name, one in given.items()}


def result_of(function: Callable[..., Any], given: Any) -> Any:
    """Return the result of a method from parsed JSON."""
    return _adapter(function, "return").validate_python(given)


def rows_of(function: Callable[..., Any], given: list[Any]) -> list[Any]:
    """Return rows of a method's stream from parsed JSON."""
    return _rows_adapter(function).validate_python(given)


@functools.cache
def _rows_adapter(function: Callable[..., Any]) -> TypeAdapter[list[Any]]:
    (row,) = get_args(_hints(function)["return"])
    return TypeAdapter(list[row])  # type: ignore[valid-type]


@functools.cache
def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    return get_type_hints(inspect.unwrap(function))


@functools.cache
def _adapter(function: Callable[..., Any], name: str) -> TypeAdapter[Any]:
    return TypeAdapter(_hints(function)[name])


def _check_size(content: bytes, most: int) -> None:
    if len(content) > most:
        raise TooLargeError(f"it has {len(content)} bytes; at most {most} are accepted")
    values = sum(content.count(mark) for mark in (b",", b"[", b"{"))
    if most == MOST_BYTES and values > MOST_VALUES:
        raise TooLargeError(f"it has {values} values; at most {MOST_VALUES} are accepted")


def _plain(value: Any) -> Any:
    """Return a value for JSON; unlike pydantic's, including fields that are never sent."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, BaseModel):
        return {name: _plain(getattr(value, name)) for name in type(value).model_fields}
    if dataclasses.is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(_plain(name)): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return _plain_leaf(value)


def _plain_leaf(value: Any) -> Any:
    if value is None or isinstance(value, str | bool):
        return value
    plain: Any = str(value)
    if isinstance(value, bytes):
        plain = {_BYTES: base64.b64encode(value).decode()}
    elif isinstance(value, Path):
        plain = _plain_path(value)
    elif isinstance(value, numbers.Real):  # numpy's too
        plain = int(value) if isinstance(value, numbers.Integral) else float(value)
    elif isinstance(value, datetime.date | datetime.time):
        plain = value.isoformat()
    return plain


def _plain_path(path: Path) -> Any:
    text = str(path)
    try:
        text.encode()
    except UnicodeEncodeError:  # its name is no text
        return {_PATH: base64.b64encode(os.fsencode(path)).decode()}
    return text


def _revived(value: Any) -> Any:
    """Return parsed JSON with bytes and paths converted back."""
    if isinstance(value, list):
        return [_revived(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {_BYTES}:
        return base64.b64decode(value[_BYTES], validate=True)
    if value.keys() == {_PATH}:
        return Path(os.fsdecode(base64.b64decode(value[_PATH], validate=True)))
    return {name: _revived(item) for name, item in value.items()}
