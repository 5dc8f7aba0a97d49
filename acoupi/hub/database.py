"""The database of a hub: PostgreSQL 15 or newer."""

import re
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from functools import cache
from itertools import count
from typing import Any, cast

import psycopg
from psycopg.abc import Buffer
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.string import StrDumper

from acoupi import clock
from acoupi.data import to_microseconds
from acoupi.errors import ConfigurationError, HubError, HubUnavailableError
from acoupi.hub.schema import STATEMENTS, UPGRADES, VERSION

__all__ = [
    "LONGEST_STATEMENT",
    "Connection",
    "HubDatabase",
    "storable",
    "storable_number",
    "storable_time",
    "translated",
]

YEARS = range(1900, 2200)
"""Years of times that are stored."""
LARGEST = 1e9
"""Largest duration or time in seconds, and frequency in hertz."""
PATIENCE = 10
"""Seconds to wait for the server."""
LONGEST_STATEMENT = 60.0
"""Default limit for a statement on the server, seconds."""
LONGEST_WRITE = 120.0
"""Longest wait for the only connection that writes, seconds."""
_OPTIONS = "-c search_path=public,acoupi_sqlite,pg_catalog"
_MAKING = 0x61634855
"""Key of the lock that lets one process at a time make the tables; "acHU"."""
_FETCHED = 2000
"""Rows of a stream that are in memory at a time."""

_VALUE = re.compile(r"(?<![:\w]):(\w+)")
_JOIN = re.compile(r"CROSS JOIN (\w+ \w+) ON")
_INDEX = re.compile(r"INDEXED BY \w+")
_LISTED = re.compile(r"\bIN \((\s*SELECT [^;]{1,40} FROM json_each\(:\w+\)\s*)\)")


@cache
def translated(statement: str) -> str:
    """Return a statement of a sensor's store in the syntax of PostgreSQL.

    Placeholders are written differently, and hints on join order and indexes are left out:
    PostgreSQL has statistics. A list becomes an array that is made once, so that an index is
    used to look up its elements.

    Examples
    --------
    >>> translated("SELECT a FROM t CROSS JOIN u ON u.t = t.row WHERE b = :b")
    'SELECT a FROM t CROSS JOIN u ON u.t = t.row WHERE b = %(b)s'
    """
    plain = _INDEX.sub("", _JOIN.sub(r"JOIN \1 ON", statement))
    plain = _LISTED.sub(r"= ANY(ARRAY(\1))", plain)
    return _VALUE.sub(r"%(\1)s", plain.replace("%", "%%"))


class Connection:
    """Runs statements of a sensor's store within one transaction."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.plain = connection
        self._names = count()

    def execute(self, statement: str, values: Any = ()) -> psycopg.Cursor[Any]:
        """Run a statement; all of its rows are fetched at once."""
        return self.plain.execute(translated(statement), values or None)

    def put_many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a statement of PostgreSQL for each of some rows."""
        if rows:
            with self.plain.cursor() as cursor:
                cursor.executemany(statement, rows)

    def one(self, statement: str, values: Any = ()) -> tuple[Any, ...]:
        """Return the only row of a statement, which has one."""
        [row] = self.execute(statement, values).fetchall()
        return tuple(row)

    def stream(self, statement: str, values: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a statement, some thousands of which are held at a time."""
        with self.plain.cursor(f"stream_{next(self._names)}") as cursor:
            cursor.itersize = _FETCHED
            cursor.execute(translated(statement), values)
            yield from cursor


class _Link(psycopg.Connection[Any]):
    """A connection that does not wait for ever for a server that stopped silently."""

    longest: float | None = LONGEST_STATEMENT
    """Limit for a statement on the server, seconds; None: no limit."""

    def wait(self, gen: Generator[Any, Any, Any], *args: Any, **more: Any) -> Any:
        """Run an exchange with the server; close the connection if it does not answer in time."""
        return super().wait(gen if self.longest is None else self._limited(gen), *args, **more)

    def _limited(self, gen: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        assert self.longest is not None
        end = clock.monotonic() + self.longest + PATIENCE  # the server's own limit is earlier
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and clock.monotonic() >= end:
                    self.close()
                    raise psycopg.OperationalError(
                        f"the server has not answered for {self.longest + PATIENCE:g} s"
                    )
                wanted = gen.send(ready)
        except StopIteration as done:
            return done.value


class HubDatabase:
    """A database of PostgreSQL with the tables of a hub, which are made where there are none.

    Parameters
    ----------
    url
        As libpq reads it: ``postgresql://USER@HOST:PORT/NAME``, or ``host=… dbname=…``.

    Raises
    ------
    HubError
        From every method: no server answers, it refuses, or the database is not a hub's or has
        another version.
    """

    def __init__(self, url: str) -> None:
        self._url, self._place = url, _place(url)
        self._writes = threading.Lock()
        self._connection: _Link | None = None

    def close(self) -> None:
        """Close the connections."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def reading(self, longest: float | None = LONGEST_STATEMENT) -> Iterator[Connection]:
        """Provide a connection that sees one consistent state.

        It is its own: several may be open at once.

        Parameters
        ----------
        longest
            Limit in seconds for one statement on the server, or for the next rows of one; None: no
            limit.
        """
        with self._told(), closing(self._connect()) as connection:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            _limit(connection, longest)
            yield Connection(connection)

    def now(self) -> datetime:
        """Return the time by the clock of the server."""
        with self.reading() as connection:
            (time,) = connection.one("SELECT now()")
        return cast("datetime", time)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Provide the only connection that writes; an exception undoes its changes."""
        with self._told(), self._only_one():
            if self._connection is None or self._connection.closed:
                self._connection = self._connect()
                _limit(self._connection, LONGEST_STATEMENT)
                self._connection.commit()
            with self._connection.transaction():
                yield Connection(self._connection)

    @contextmanager
    def _only_one(self) -> Iterator[None]:
        if not self._writes.acquire(timeout=LONGEST_WRITE):
            raise psycopg.OperationalError(f"others have held it for {LONGEST_WRITE:g} s")
        try:
            yield
        finally:
            self._writes.release()

    def _connect(self) -> _Link:
        connection = _Link.connect(
            self._url, connect_timeout=PATIENCE, options=_OPTIONS, tcp_user_timeout=PATIENCE * 1000
        )
        connection.adapters.register_dumper(str, _TextDumper)
        try:
            _make(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except psycopg.errors.QueryCanceled as error:
            raise HubUnavailableError(
                f"the database of the hub took too long ({self._place}).",
                "ask for less: --from, --to, --deployment",
                why=_first_line(error),
            ) from error
        except psycopg.OperationalError as error:
            raise HubUnavailableError(
                f"the database of the hub does not answer ({self._place}).",
                "start PostgreSQL, or correct its address",
                why=_first_line(error),
            ) from error
        except psycopg.Error as error:
            raise HubError(
                f"the database of the hub refused ({self._place}).",
                "acoupi hub sensors, with the same --database",
                why=f"{type(error).__name__}: {_first_line(error)}",
            ) from error


def _limit(connection: _Link, longest: float | None) -> None:
    """Limit a statement on the server, and in this process in case the server does not."""
    connection.longest = longest
    if longest is not None:
        connection.execute(f"SET statement_timeout = '{longest:g}s'")


def _make(connection: psycopg.Connection[Any]) -> None:
    """Make the tables of a hub if there are none."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [_MAKING])
        found = connection.execute("SELECT to_regclass('public.acoupi_hub')").fetchone()
        if found == (None,):
            for statement in STATEMENTS:
                connection.execute(statement)
            return
        version = connection.execute("SELECT max(version) FROM public.acoupi_hub").fetchone()
        number = None if version is None else version[0]
        while number in UPGRADES:
            for statement in UPGRADES[number]:
                connection.execute(statement)
            number += 1
            connection.execute("INSERT INTO public.acoupi_hub VALUES (%s)", [number])
    if number != VERSION:
        raise HubError(
            f"the database of the hub is of version {number}, not {VERSION}.",
            "use the acoupi that made it, or a newer one",
            why="its tables differ.",
        )


class _TextDumper(StrDumper):
    """Sends text without NUL characters, which PostgreSQL cannot store."""

    def dump(self, obj: str) -> Buffer | None:
        return super().dump(storable(obj))


def storable(text: str) -> str:
    """Return text without NUL characters, which PostgreSQL cannot store."""
    return text.replace("\0", "\ufffd")


def storable_time(time: datetime) -> int:
    """Return a time in microseconds since 1970, if a hub stores it.

    Stored times are shown in any time zone, and on pages by year; times near the first and last
    that Python can represent would fail there.

    Raises
    ------
    HubError
        If it is of another century.
    """
    if time.year not in YEARS:
        raise HubError(
            f"the hub cannot store the time {time.isoformat()}.",
            "set the clock",
            why=f"it stores times in the years {YEARS[0]} to {YEARS[-1]}.",
        )
    return to_microseconds(time)


def storable_number(value: float) -> float:
    """Return seconds or hertz, if a hub stores them; they are added to times, and shown.

    Raises
    ------
    HubError
        If it is beyond all that a recording can have.
    """
    if not abs(value) <= LARGEST:  # NaN neither
        raise HubError(
            f"the hub cannot store the duration, time or frequency {value:g}.",
            "check the program that reports it",
            why=f"it stores up to {LARGEST:g} s or Hz.",
        )
    return value


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _place(url: str) -> str:
    """Return where a database is, without a password."""
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        is_of_hub = url.lower().startswith(("http://", "https://"))
        raise ConfigurationError(
            "this is not the address of a PostgreSQL database.",
            "postgresql:///acoupi",
            why="it is where sensors and people reach a hub; this needs its database."
            if is_of_hub
            else "it is neither such a URL nor host=… dbname=… with values.",
        ) from None  # libpq would quote the address, with the password
    host, port = parts.get("host", "this machine"), parts.get("port", 5432)
    return f"{parts.get('dbname', '')} at {host}:{port}"
