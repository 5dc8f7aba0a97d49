"""Taking over what can be read of a damaged database into the one that took its place.

The new one may be in use, and its rows have other numbers: rows are recognised by what identifies
them (an id, a name, all they hold), and what is there already stays as it is. So doing this twice,
or again after a crash, adds nothing.
"""

import itertools
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

from acoupi.components.stores.database import Database, Schema
from acoupi.components.stores.pages import Cell, Image, Value, Walk

__all__ = ["Salvage", "Salvaged", "Table", "tables_of"]

_KINDS: dict[str, tuple[type, ...]] = {
    "INTEGER": (int,),
    "REAL": (int, float),
    "TEXT": (str,),
    "BLOB": (bytes,),
    "": (int, float, str, bytes),
}
_ID_BYTES = 16
_AT_ONCE = 1000
"""Rows in one transaction, where others may write in between."""


@dataclass(frozen=True)
class _Column:
    name: str
    kind: str
    is_needed: bool
    default: Value


@dataclass(frozen=True)
class Table:
    """A table as this version of acoupi makes it."""

    name: str
    root: int
    """First page, in a new file."""
    columns: tuple[_Column, ...]
    """The columns in the order of a row."""
    number: str | None
    """The column with the number of a row; None if rows have none."""
    identity: tuple[str, ...]
    """The columns that identify a row."""
    parents: Mapping[str, str]
    """Tables that columns refer to."""
    index: tuple[str, int] | None
    """The index of the identity and its first page in a new file; None: there is none."""

    @property
    def is_in_index(self) -> bool:
        """Whether the index holds all that a row needs."""
        needed = {one.name for one in self.columns if one.is_needed}
        return needed <= {*self.identity, self.number}

    @property
    def content(self) -> list[str]:
        """The columns that are taken over: all but the number, unless it means something."""
        return [one.name for one in self.columns if one.name != self.number or self.is_keyed]

    @property
    def is_keyed(self) -> bool:
        """Whether the number of a row refers to another table."""
        return self.number in self.parents

    def row(self, cell: Cell) -> dict[str, Value] | None:
        """Return a row by column; None if it cannot be one of this table."""
        if len(cell.values) > len(self.columns) or (cell.row is None) != (self.number is None):
            return None
        missing = [one.default for one in self.columns[len(cell.values) :]]
        found: dict[str, Value] = {}
        for column, value in zip(self.columns, [*cell.values, *missing], strict=True):
            held = cell.row if column.name == self.number else value
            if not _fits(column, held):
                return None
            found[column.name] = held
        return found


def _fits(column: _Column, value: Value) -> bool:
    if value is None:
        return not column.is_needed
    if column.name == "id" and (not isinstance(value, bytes) or len(value) != _ID_BYTES):
        return False
    return isinstance(value, _KINDS.get(column.kind, _KINDS[""]))


@dataclass
class Salvaged:
    """What was taken over of one table."""

    rows: int = 0
    """Rows that could be read, and are in the new file."""
    left_out: int = 0
    """Rows that could be read, and belong to something that could not."""
    damaged: int = 0
    """Pages that could not be read."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing is known to be missing."""
        return not self.left_out and not self.damaged


@dataclass
class Salvage:
    """Takes rows over from a damaged file.

    Parameters
    ----------
    damaged
        The file that was set aside.
    database
        The one that took its place.
    at_once
        Whether all of it is one transaction: no one sees a part, and others wait.
    """

    damaged: Path
    database: Database
    at_once: bool = False
    found: dict[str, Salvaged] = field(default_factory=dict)
    _numbers: dict[str, dict[int, int]] = field(default_factory=dict)

    def run(self) -> dict[str, Salvaged]:
        """Salvage the rows; return their numbers by table.

        Raises
        ------
        StoreError
            If the new file cannot be written.
        OSError
            If the damaged one cannot be opened.
        """
        with closing(Image(self.damaged)) as image:
            tables = tables_of(self.database.schema, image.size)
            source = _Source(image, tables)
            if self.at_once:
                with self.database.writing() as connection:
                    for table in tables:
                        self._put(connection, table, source.rows(table))
                        self._recognise(connection, table, source)
            else:
                for table in tables:
                    rows = source.rows(table)
                    while batch := list(itertools.islice(rows, _AT_ONCE)):
                        with self.database.writing() as connection:
                            self._put(connection, table, batch)
                    with self.database.writing() as connection:
                        self._recognise(connection, table, source)
            for table in tables:
                self._of(table).damaged = source.damaged(table)
        return self.found

    def _of(self, table: Table) -> Salvaged:
        return self.found.setdefault(table.name, Salvaged())

    def _put(
        self, connection: sqlite3.Connection, table: Table, rows: Iterable[dict[str, Value]]
    ) -> None:
        numbers, told = self._numbers.setdefault(table.name, {}), self._of(table)
        for row in rows:
            values = self._renumbered(table, row)
            there = None if values is None else _stored(connection, table, values)
            if there is None:
                told.left_out += 1
                continue
            told.rows += 1
            if table.number is not None:
                number = row[table.number]
                assert isinstance(number, int)
                numbers[number] = there

    def _recognise(self, connection: sqlite3.Connection, table: Table, source: "_Source") -> None:
        """Find unreadable rows in the index that are in the new file anyway."""
        numbers = self._numbers.setdefault(table.name, {})
        for number, values in source.indexed(table):
            if number in numbers:
                continue
            there = _find(connection, table, values)
            if there is None and table.is_in_index:
                there = _stored(connection, table, values)
            if there is not None:
                numbers[number] = there

    def _renumbered(self, table: Table, row: dict[str, Value]) -> dict[str, Value] | None:
        """Return a row as the new file refers to others; None if one of them is not there."""
        values = {name: row[name] for name in table.content}
        for column, parent in table.parents.items():
            number = values[column]
            if number is None:
                continue
            assert isinstance(number, int)
            values[column] = self._numbers.get(parent, {}).get(number)
            if values[column] is None:
                return None
        return values


def _stored(connection: sqlite3.Connection, table: Table, values: dict[str, Value]) -> int | None:
    """Return the number of a row in the new file, which has it then; None if it refuses it."""
    if (there := _find(connection, table, values)) is not None:
        return there
    names, marks = ", ".join(values), ", ".join("?" * len(values))
    added = connection.execute(
        f"INSERT OR IGNORE INTO {table.name} ({names}) VALUES ({marks})",  # noqa: S608 - of the schema
        list(values.values()),
    )
    return int(added.lastrowid or 0) if added.rowcount else None


def _find(connection: sqlite3.Connection, table: Table, values: dict[str, Value]) -> int | None:
    same = " AND ".join(f"{name} IS ?" for name in table.identity)
    number = table.number or "0"
    found = connection.execute(
        f"SELECT {number} FROM {table.name} WHERE {same}",  # noqa: S608 - of the schema
        [values[name] for name in table.identity],
    ).fetchone()
    return None if found is None else int(found[0])


@dataclass
class _Source:
    """Where the rows of each table are in a damaged file."""

    image: Image
    tables: Sequence[Table]
    walks: dict[str, Walk] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.roots = _roots(self.image)

    def rows(self, table: Table) -> Iterator[dict[str, Value]]:
        """Yield the rows of a table; then those of pages that its tree has lost."""
        walk = self.walks.setdefault(table.name, Walk())
        root = self._root(table.name, table.root)
        if self._has(root, has_rows=table.number is not None):
            cells = self.image.rows(root, walk)
        else:
            walk.damaged, cells = 1, iter(())
        yield from self._fitting(table, cells)
        if walk.damaged and table.number is not None:
            for page in self._strays(table):
                yield from self._fitting(table, self.image.rows_of(page, Walk()))

    def indexed(self, table: Table) -> Iterator[tuple[int, dict[str, Value]]]:
        """Yield numbers and identities of rows as an index holds them, if the table is damaged."""
        if table.index is None or not self.damaged(table):
            return
        name, usual = table.index
        root = self._root(name, usual)
        for cell in self.image.rows(root, Walk()) if self._has(root, has_rows=False) else ():
            *values, number = cell.values or (None,)
            if len(values) == len(table.identity) and isinstance(number, int):
                yield number, dict(zip(table.identity, values, strict=True))

    def _root(self, name: str, usual: int) -> int:
        """Return the first page of a table or an index: the usual one if the file does not say."""
        taken = name not in self.roots and usual in self.roots.values()
        return self.roots.get(name, 0 if taken else usual)

    def _has(self, root: int, *, has_rows: bool) -> bool:
        return self.image.may_be_root(root, has_rows=has_rows)

    def damaged(self, table: Table) -> int:
        """Return how many pages of a table could not be read."""
        return self.walks[table.name].damaged

    def _fitting(self, table: Table, cells: Iterable[Cell]) -> Iterator[dict[str, Value]]:
        for cell in cells:
            if (row := table.row(cell)) is not None:
                yield row

    def _strays(self, table: Table) -> Iterator[int]:
        """Yield the pages that no tree leads to any more and that only this table can have."""
        for number in range(2, self.image.count + 1):
            if number in self._taken or not self.image.is_leaf(number):
                continue
            owners = [one for one in self.tables if self._may_own(one, number)]
            if owners == [table]:
                yield number

    @cached_property
    def _taken(self) -> set[int]:
        """The pages that belong to a table, or hold nothing any more."""
        taken = self.image.unused()
        for table in self.tables:
            walk = Walk()
            root = self._root(table.name, table.root)
            if self._has(root, has_rows=table.number is not None):
                for _ in self.image.rows(root, walk):
                    pass
            taken |= walk.seen
        return taken

    def _may_own(self, table: Table, number: int) -> bool:
        cells = list(self.image.rows_of(number, Walk()))
        return bool(cells) and all(table.row(cell) is not None for cell in cells)


def _roots(image: Image) -> dict[str, int]:
    """Return the first page of each table and index, as far as the damaged file still says so."""
    found = {}
    for cell in image.rows(1, Walk()):
        if len(cell.values) == 5:
            kind, name, _, root, _ = cell.values
            if kind in ("table", "index") and isinstance(name, str) and isinstance(root, int):
                found[name] = root
    return found


@cache
def tables_of(schema: Schema, page_size: int = 1024) -> tuple[Table, ...]:
    """Return the tables of a new file, each after those that it refers to."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size = {page_size}")
        for statement in itertools.chain(*schema.migrations):
            connection.execute(statement)
        names = connection.execute(
            "SELECT name, rootpage FROM sqlite_master "
            "WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rootpage"
        ).fetchall()
        left = {name: _described(connection, name, root) for name, root in names}
    ordered: list[Table] = []
    while left:
        known = {one.name for one in ordered}
        ready = [one for one in left.values() if set(one.parents.values()) <= known]
        ordered += ready
        for one in ready:
            del left[one.name]
    return tuple(ordered)


def _described(connection: sqlite3.Connection, name: str, root: int) -> Table:
    info = connection.execute(f"PRAGMA table_info({name})").fetchall()
    parents = {
        own: parent
        for _, _, parent, own, *_ in connection.execute(f"PRAGMA foreign_key_list({name})")
    }
    keys = [row[1] for row in sorted(info, key=lambda row: int(row[5])) if row[5]]
    number = _number(connection, name, keys)
    if number is None:  # what identifies a row comes first then
        info.sort(key=lambda row: int(row[5]) or len(info) + int(row[0]))
    columns = tuple(
        _Column(column, kind, bool(needed) and default is None, _default(connection, default))
        for _, column, kind, needed, default, _ in info
    )
    index, unique = _unique(connection, name)
    if number in parents or number is None:
        identity, index = tuple(keys), None
    else:
        identity = unique or _telling([one.name for one in columns], number, parents)
    return Table(name, root, columns, number, identity, parents, index)


def _telling(names: Sequence[str], number: str, parents: Mapping[str, str]) -> tuple[str, ...]:
    """Return what tells rows apart that no index does: an id within its parent, or all of them."""
    return ("id", *parents) if "id" in names else tuple(one for one in names if one != number)


def _number(connection: sqlite3.Connection, table: str, keys: Sequence[str]) -> str | None:
    (made,) = connection.execute(
        "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?", [table]
    ).fetchone()
    return None if "WITHOUT ROWID" in made else keys[0]


def _unique(
    connection: sqlite3.Connection, table: str
) -> tuple[tuple[str, int] | None, tuple[str, ...]]:
    """Return the index of what must be unique in a table, and its columns; none: None, nothing."""
    for _, index, is_unique, origin, _ in connection.execute(
        f"PRAGMA index_list({table})"
    ).fetchall():
        if is_unique and origin == "u":
            (root,) = connection.execute(
                "SELECT rootpage FROM sqlite_master WHERE name = ?", [index]
            ).fetchone()
            columns = connection.execute(f"PRAGMA index_info({index})")
            return (index, root), tuple(row[2] for row in columns)
    return None, ()


def _default(connection: sqlite3.Connection, text: str | None) -> Value:
    found: Value = connection.execute(f"SELECT {text or 'NULL'}").fetchone()[0]
    return found
