"""Conversion of values to columns and back.

Ids are 16 bytes, times are whole microseconds since 1970 in UTC (so that numbers
compare like times, whatever their original time zone), paths are text. SQLite has
no NaN and stores NULL instead; columns that may hold NaN read NULL as NaN.
"""

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

from acoupi.data import from_microseconds, to_microseconds

__all__ = [
    "Connection",
    "as_blob_list",
    "as_id",
    "as_path_list",
    "as_path_text",
    "as_text_list",
    "from_microseconds",
    "from_path_text",
    "from_real",
    "to_microseconds",
]


class Connection(Protocol):
    """What runs a statement; a value is named ``:name`` in it."""

    def execute(self, statement: str, values: Any = (), /) -> Any:
        """Run it; return its rows, which are iterated over, or fetched."""


def as_id(value: bytes) -> UUID:
    """Return the id of a column."""
    return UUID(bytes=value)


def from_real(value: float | None) -> float:
    """Return the number of a column that may hold NaN."""
    return math.nan if value is None else value


def as_path_text(path: Path | str) -> str | bytes:
    """Return a path as text, or as bytes if its name is not valid text.

    Linux file names are bytes; Python represents those that are not UTF-8 by
    characters that SQLite refuses.
    """
    text = str(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        return os.fsencode(text)
    return text


def from_path_text(value: str | bytes | None) -> Path | None:
    """Return the path of a column; None where it is NULL."""
    return None if value is None else Path(os.fsdecode(value))


# A list is passed to SQLite as one variable, a JSON array, whatever its length: the
# statement stays the same, and there is no limit on the number of values. JSON has no
# bytes, so these are in hexadecimal; `database` adds the SQLite functions to read them.


def as_blob_list(ids: Iterable[UUID]) -> str:
    """Return ids as the JSON array that ``acoupi_blob`` reads."""
    return json.dumps([value.hex for value in ids])


def as_path_list(paths: Iterable[Path | str]) -> str:
    """Return paths as the JSON array that ``acoupi_path`` reads."""
    return json.dumps([os.fsencode(path).hex() for path in paths])


def as_text_list(texts: Iterable[str]) -> str:
    """Return texts as a JSON array."""
    return json.dumps(list(texts), ensure_ascii=False)
