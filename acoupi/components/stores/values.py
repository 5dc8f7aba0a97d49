"""How a value of ours is written in a column, and read back.

Ids are 16 bytes, times whole microseconds since 1970 in UTC (so that numbers
compare as times do, whatever zone they came in), paths text. SQLite knows no
NaN, it stores NULL instead; columns that may hold one read NULL as NaN.
"""

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from uuid import UUID

from acoupi.data import from_microseconds, to_microseconds

__all__ = [
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


def as_id(value: bytes) -> UUID:
    """Return the id of a column."""
    return UUID(bytes=value)


def from_real(value: float | None) -> float:
    """Return the number of a column that may hold NaN."""
    return math.nan if value is None else value


def as_path_text(path: Path | str) -> str | bytes:
    """Return a path as text, or as bytes if its name is no valid text.

    Linux file names are bytes; Python holds those that are not UTF-8 in
    characters which SQLite refuses.
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


# A list is handed to SQLite as one variable, a JSON array, whatever its length:
# the statement stays the same, and no limit on variables is met. JSON has no
# bytes, so these travel in hexadecimal; `database` teaches SQLite to read it.


def as_blob_list(ids: Iterable[UUID]) -> str:
    """Return ids as the JSON array that ``acoupi_blob`` reads."""
    return json.dumps([value.hex for value in ids])


def as_path_list(paths: Iterable[Path | str]) -> str:
    """Return paths as the JSON array that ``acoupi_path`` reads."""
    return json.dumps([os.fsencode(path).hex() for path in paths])


def as_text_list(texts: Iterable[str]) -> str:
    """Return texts as a JSON array."""
    return json.dumps(list(texts), ensure_ascii=False)
