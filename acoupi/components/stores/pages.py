"""Reading the rows of a damaged SQLite file page by page, without SQLite.

SQLite refuses a table at the first page that is damaged. Here each page stands for itself: one
that cannot be read costs the rows on it. The format is that of https://sqlite.org/fileformat2.html;
what of it the stores of acoupi do not use (UTF-16, pages of pointers) is left out.
"""

import itertools
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from acoupi.opening import open_file

__all__ = ["Cell", "Image", "Value", "Walk"]

Value = int | float | str | bytes | None

TABLE_LEAF, TABLE_INNER = 0x0D, 0x05
INDEX_LEAF, INDEX_INNER = 0x0A, 0x02
_KINDS = {TABLE_LEAF, TABLE_INNER, INDEX_LEAF, INDEX_INNER}
_INNER = {TABLE_INNER, INDEX_INNER}
_HEADER = b"SQLite format 3\0"
_SIZES = (1024, 4096)
"""Bytes of a page, of new files and of those that earlier versions made."""
_LENGTHS = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 7: 8, 8: 0, 9: 0}
"""Bytes of a value by its serial type."""
_WAL_MAGIC = {0x377F0682: "<", 0x377F0683: ">"}
"""Order of the bytes that the checksums of a journal are made of."""


class Cell(NamedTuple):
    """A row."""

    row: int | None
    """Its number; None in a table without numbers."""
    values: tuple[Value, ...]


@dataclass
class Walk:
    """What was found on the way through a tree."""

    seen: set[int] = field(default_factory=set)
    """Pages that belong to it."""
    damaged: int = 0
    """Pages that should belong to it and cannot be read."""


class _DamageError(Exception):
    pass


class Image:
    """The pages of a file, with what its journal holds.

    Parameters
    ----------
    path
        The file; its journal (``-wal``) is beside it. Nothing is written. Blocks that the disk
        cannot read count as zeros.
    """

    def __init__(self, path: Path) -> None:
        self._handle = open_file(path)
        self._bytes = os.fstat(self._handle).st_size
        head = self._block(0, 100)
        size = int.from_bytes(head[16:18]) if head.startswith(_HEADER) else 0
        is_one = 512 <= size <= 32_768 and not size & (size - 1)
        self.size = size if is_one else self._guessed_size()
        self._usable = self.size
        self._newer = _journal(path.with_name(f"{path.name}-wal"), self.size)
        self.count = max(-(-self._bytes // self.size), *self._newer, 0, 0)
        """Number of pages."""

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)

    def page(self, number: int) -> bytes:
        """Return a page, counted from 1."""
        if number in self._newer:
            return self._newer[number]
        return self._block((number - 1) * self.size, self.size)

    def is_leaf(self, number: int) -> bool:
        """Return whether a page looks like one with rows of a table."""
        return self._head(number)[0] == TABLE_LEAF

    def may_be_root(self, number: int, *, has_rows: bool) -> bool:
        """Return whether a page looks like the root of a table, with numbered rows or without."""
        kinds = (TABLE_LEAF, TABLE_INNER) if has_rows else (INDEX_LEAF, INDEX_INNER)
        return 1 <= number <= self.count and self._head(number)[0] in kinds

    def unused(self) -> set[int]:
        """Return the pages that hold nothing any more, as far as that can be read."""
        found: set[int] = set()
        trunk = int.from_bytes(self.page(1)[32:36])
        while 0 < trunk <= self.count and trunk not in found:
            page = self.page(trunk)
            following, number = struct.unpack_from(">II", page)
            leaves = min(number, self.size // 4 - 2)
            found |= {trunk, *struct.unpack_from(f">{leaves}I", page, 8)}
            trunk = following
        return found

    def rows(self, root: int, walk: Walk) -> Iterator[Cell]:
        """Yield the readable rows of a tree; `walk` reports what was found."""
        stack = [root]
        while stack:
            number = stack.pop()
            kind = self._head(number)[0] if 1 <= number <= self.count else 0
            if kind not in _KINDS or number in walk.seen:
                walk.damaged += 1
                continue
            walk.seen.add(number)
            yield from self.rows_of(number, walk)
            if kind in _INNER:
                stack += reversed(self._children(number))

    def rows_of(self, number: int, walk: Walk) -> Iterator[Cell]:
        """Yield the rows on one page."""
        page, (kind, _) = self.page(number), self._head(number)
        if kind == TABLE_INNER:
            return
        is_whole = True
        for start in self._cells(number):
            try:
                yield self._cell(page, kind, start)
            except (_DamageError, IndexError, UnicodeDecodeError, struct.error):
                is_whole = False
        walk.damaged += not is_whole

    def _guessed_size(self) -> int:
        """Return the size for which most places where a page would begin look like one."""
        small, large = _SIZES
        shares = []
        for size in _SIZES:
            starts = range(size, self._bytes, size)
            found = sum(self._block(start, 1)[0] in _KINDS for start in starts)
            shares.append(found / max(1, len(starts)))
        return small if 2 * shares[0] > shares[1] else large

    def _block(self, start: int, length: int) -> bytes:
        try:
            found = os.pread(self._handle, length, start)
        except OSError:  # the card cannot read it
            found = b""
        return found.ljust(length, b"\0")

    def _head(self, number: int) -> tuple[int, int]:
        """Return the kind of a page, and where its header begins."""
        at = 100 if number == 1 else 0
        return self.page(number)[at], at

    def _cells(self, number: int) -> list[int]:
        page, (kind, at) = self.page(number), self._head(number)
        count = int.from_bytes(page[at + 3 : at + 5])
        first = at + (12 if kind in _INNER else 8)
        if first + 2 * count > self.size:
            return [self.size]  # no cell is there
        return list(struct.unpack_from(f">{count}H", page, first))

    def _children(self, number: int) -> list[int]:
        page, (_, at) = self.page(number), self._head(number)
        places = [*(start for start in self._cells(number) if start + 4 <= self.size), at + 8]
        return [int.from_bytes(page[place : place + 4]) for place in places]

    def _cell(self, page: bytes, kind: int, start: int) -> Cell:
        place = start + 4 if kind == INDEX_INNER else start
        length, place = _varint(page, place)
        row = None
        if kind == TABLE_LEAF:
            row, place = _varint(page, place)
            row -= (row >= 1 << 63) << 64
        return Cell(row, _record(self._payload(page, kind, place, length)))

    def _payload(self, page: bytes, kind: int, place: int, length: int) -> bytes:
        usable = self._usable
        most = usable - 35 if kind == TABLE_LEAF else (usable - 12) * 64 // 255 - 23
        if length <= most:
            if place + length > usable:
                raise _DamageError
            return page[place : place + length]
        least = (usable - 12) * 32 // 255 - 23
        local = least + (length - least) % (usable - 4)
        local = local if local <= most else least
        if place + local + 4 > usable or length > self.count * self.size:
            raise _DamageError
        found = page[place : place + local]
        following = int.from_bytes(page[place + local : place + local + 4])
        while len(found) < length:
            if not 1 < following <= self.count:
                raise _DamageError
            more = self.page(following)
            following = int.from_bytes(more[:4])
            found += more[4 : 4 + min(usable - 4, length - len(found))]
        return found


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = 0
    for used in range(8):
        byte = data[place + used]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place + used + 1
    return value << 8 | data[place + 8], place + 9


def _record(payload: bytes) -> tuple[Value, ...]:
    head, place = _varint(payload, 0)
    kinds = []
    while place < head:
        kind, place = _varint(payload, place)
        kinds.append(kind)
    lengths = [_LENGTHS.get(kind, (kind - 12) // 2) for kind in kinds]
    if place != head or min(lengths, default=0) < 0 or head + sum(lengths) != len(payload):
        raise _DamageError
    ends = [head, *itertools.accumulate(lengths, initial=head)][1:]
    return tuple(
        _value(kind, payload[start : start + length])
        for kind, start, length in zip(kinds, ends, lengths, strict=False)
    )


def _value(kind: int, content: bytes) -> Value:
    if kind >= 12:
        return content if kind % 2 == 0 else content.decode()
    if kind == 7:
        return float(struct.unpack(">d", content)[0])
    if kind in (0, 8, 9):
        return None if kind == 0 else kind - 8
    return int.from_bytes(content, signed=True)


def _journal(path: Path, size: int) -> dict[int, bytes]:
    """Return the newest committed pages of a journal, up to the first frame that is damaged."""
    try:
        handle = open_file(path)
    except OSError:
        return {}
    with os.fdopen(handle, "rb") as file:
        try:
            content = file.read()
        except OSError:
            return {}
    head = struct.unpack(">8I", content[:32]) if len(content) >= 32 else (0,) * 8
    order = _WAL_MAGIC.get(head[0])
    if order is None or head[2] != size:
        return {}
    sums = _sums(content[:24], order, (0, 0))
    if sums != head[6:]:
        return {}
    committed: dict[int, bytes] = {}
    waiting: dict[int, bytes] = {}
    for start in range(32, len(content) - size - 23, size + 24):
        number, pages, salt, other, *told = struct.unpack_from(">6I", content, start)
        frame = content[start + 24 : start + 24 + size]
        sums = _sums(content[start : start + 8] + frame, order, sums)
        if (salt, other) != head[4:6] or sums != tuple(told):
            break
        waiting[number] = frame
        if pages:
            committed |= waiting
            waiting = {}
    return committed


def _sums(content: bytes, order: str, sums: tuple[int, int]) -> tuple[int, int]:
    first, second = sums
    words = struct.unpack(f"{order}{len(content) // 4}I", content)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second
