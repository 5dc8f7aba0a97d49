"""A SQLite file that several processes and threads share.

Connections are borrowed from a small pool for one transaction each. Before a
fork, all of them are closed: SQLite tracks in memory which locks a process holds,
and a child would inherit that record but not the locks.
"""

import fcntl
import logging
import os
import shlex
import sqlite3
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from acoupi import clock
from acoupi.components.stores import ballast, faults
from acoupi.components.stores.guard import Guard, Identity, identity
from acoupi.components.stores.read_only import connect, has_file, not_a_file, open_read_only
from acoupi.components.stores.values import as_path_text
from acoupi.errors import StoreError
from acoupi.home import expanded
from acoupi.opening import NotAFileError
from acoupi.writing import READABLE

__all__ = ["Database", "Schema", "open_read_only", "stores_that_only_read"]

logger = logging.getLogger(__name__)

_MOST_IDLE = 4
_AT_ONCE, _AT_NEXT = "PRAGMA synchronous = FULL", "PRAGMA synchronous = NORMAL"
"""A change is on the disk when it is committed, or when the next one is that says so."""
_PRAGMAS = (
    # Of a new database. What is stored of a recording are some small rows, and a commit writes
    # whole pages: with the usual 4096 bytes three times as much.
    "PRAGMA page_size = 1024",
    "PRAGMA foreign_keys = ON",
    _AT_ONCE,
    "PRAGMA temp_store = MEMORY",  # the root file system of a container is read-only
    "PRAGMA journal_size_limit = 8388608",
)
_LOG_BYTES = 4 * 1024 * 1024
"""Of the log, until what is in it is written into the database itself."""


_only_reads: ContextVar[bool] = ContextVar("only_reads", default=False)


@contextmanager
def stores_that_only_read() -> Iterator[None]:
    """Let every store that is made inside the block read only: it creates and updates nothing.

    Where there is no file, it is empty; one of an earlier version is read from a copy.
    """
    token = _only_reads.set(True)
    try:
        yield
    finally:
        _only_reads.reset(token)


@dataclass(frozen=True)
class Schema:
    """The content of a database file, and the steps that create it."""

    store: str
    """Name of the file for its user, such as "metadata store"."""
    application_id: int
    """Marks the file as one of acoupi (the SQLite header field of that name)."""
    migrations: tuple[tuple[str, ...], ...]
    """Statements from each version to the next; the first begins with an empty file."""
    peer_tables: frozenset[str]
    """Tables that identify a file of an earlier acoupi (of the years before this schema)."""
    error: type[StoreError]

    @property
    def version(self) -> int:
        """The version that this program writes."""
        return len(self.migrations)


class Database:
    """Provides transactions on one file, created and updated at its first use.

    One that is made in `stores_that_only_read` does neither.

    Parameters
    ----------
    path
        The file; the constructor does not touch it.
    schema
        Its content.
    """

    def __init__(self, path: Path, schema: Schema) -> None:
        self.path = expanded(path).absolute()
        self.schema = schema
        self._only_reads = _only_reads.get()
        self._idle: list[_Connection] = []
        self._borrowers: Counter[int] = Counter()
        self._is_forking = False
        self._changed = threading.Condition()
        self._finalizer = weakref.finalize(self, _close_all, self._idle)
        _databases.add(self)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Provide a connection that sees one consistent state."""
        with self._transaction("BEGIN", "read") as connection:
            yield connection

    @contextmanager
    def writing(self, *, may_be_late: bool = False) -> Iterator[sqlite3.Connection]:
        """Provide the only connection that may write now; an exception undoes its changes.

        Parameters
        ----------
        may_be_late
            Whether it may reach the disk only with the next change that does not say so: a power
            cut until then takes it, and nothing else does. It costs half of what is written.

        Raises
        ------
        StoreError
            Of the schema's class: what SQLite refused, why, and what to try.
        """
        with self._transaction(
            "BEGIN IMMEDIATE", "write to", may_be_late=may_be_late
        ) as connection:
            yield connection

    def examine(self, patience: float, *, is_suspect: bool = False) -> str | None:
        """Open the file, and look for damaged pages for some seconds.

        Parameters
        ----------
        patience
            Seconds; at 0 only what is needed to open it is looked at.
        is_suspect
            Whether all of it is looked at, however long that takes, and what is found returned.

        Raises
        ------
        StoreError
            If it cannot be opened or written, is damaged, or is of another version or program.
        """
        with self.reading() as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            for table, kind in connection.execute(
                "SELECT name, type FROM sqlite_master"
            ).fetchall():
                if kind == "table":
                    connection.execute(f'SELECT * FROM "{table}" LIMIT 1').fetchone()  # noqa: S608 - a name from there
            if is_suspect:
                found = str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
                return None if found == "ok" else " ".join(found.split())
            if patience > 0:
                _look_for_damage(connection, patience)
        if not os.access(self.path, os.W_OK, effective_ids=True):
            with self.writing() as connection:  # raises what SQLite says of it
                version = connection.execute("PRAGMA user_version").fetchone()[0]
                connection.execute(f"PRAGMA user_version = {version}")
        return None

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._changed:
            _close_all(self._idle)

    @contextmanager
    def _transaction(
        self, begin: str, action: str, *, may_be_late: bool | None = None
    ) -> Iterator[sqlite3.Connection]:
        if not self._only_reads:
            ballast.give_back(self.path.parent)
        borrowed = self._borrow()
        connection = borrowed.connection
        sound = False
        try:
            if may_be_late is not None:
                is_safe = may_be_late and _is_wal(connection)  # else the file could be damaged
                connection.execute(_AT_NEXT if is_safe else _AT_ONCE)
            connection.execute(begin)
            try:
                yield connection
                connection.execute("COMMIT")
                sound = True
            except BaseException as error:
                sound = not isinstance(error, sqlite3.Error)
                with suppress(sqlite3.Error):
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                raise
        except faults.DATABASE_ERRORS as error:
            raise self._explain(error, action) from error
        finally:
            self._give_back(borrowed, sound=sound)

    def _explain(self, error: Exception, action: str) -> StoreError:
        if faults.is_damage(error) and not self._only_reads:
            faults.suspect(self.path)
        return faults.explain(
            error,
            store=self.schema.store,
            path=self.path,
            action=action,
            kind=self.schema.error,
        )

    # The pool

    def _borrow(self) -> "_Connection":
        me = threading.get_ident()
        with self._changed:
            # A thread that already has a connection must be able to finish, so it passes.
            self._changed.wait_for(lambda: not self._is_forking or me in self._borrowers)
            self._borrowers[me] += 1
        try:
            while True:
                found = self._taken() or self._open()
                if self._is_held(found):
                    return found
                found.close()  # the file was moved aside meanwhile
        except BaseException:
            self._count_down()
            raise

    def _is_held(self, found: "_Connection") -> bool:
        try:
            return found.hold(self.path)
        except sqlite3.Error as error:
            found.close()
            raise self._explain(error, "use") from error

    def _taken(self) -> "_Connection | None":
        with self._changed:
            return self._idle.pop() if self._idle else None

    def _give_back(self, borrowed: "_Connection", *, sound: bool) -> None:
        if borrowed.pid != os.getpid():
            _inherit(borrowed)
        else:
            with self._changed:
                keep = sound and not self._only_reads and len(self._idle) < _MOST_IDLE
                if keep:
                    borrowed.guard.let_go()
                    self._idle.append(borrowed)
            if not keep:
                borrowed.close()
        self._count_down()

    def _count_down(self) -> None:
        with self._changed:
            me = threading.get_ident()
            self._borrowers[me] -= 1
            if self._borrowers[me] <= 0:
                del self._borrowers[me]
            self._changed.notify_all()

    def _before_fork(self) -> None:
        """Block new transactions, wait for those in progress, and close all connections."""
        self._changed.acquire()
        self._is_forking = True
        me = threading.get_ident()
        self._changed.wait_for(
            lambda: not set(self._borrowers) - {me}, timeout=faults.BUSY_TIMEOUT + 5
        )
        _close_all(self._idle)

    def _after_fork(self, *, in_child: bool) -> None:
        if in_child:
            me = threading.get_ident()
            for other in set(self._borrowers) - {me}:
                del self._borrowers[other]
        self._is_forking = False
        self._changed.notify_all()
        self._changed.release()

    # Opening

    def _open(self) -> "_Connection":
        open_ = self._open_to_read if self._only_reads else self._open_to_write
        connection = None
        guard = Guard(self.path, is_needed=not self._only_reads)
        try:
            guard.hold()
            connection = open_()
            seen = identity(self.path)
            connection = self._prepare(connection)
        except BaseException as error:
            if connection is not None:
                connection.close()
            guard.close()
            if isinstance(error, faults.DATABASE_ERRORS):
                raise self._explain(error, "open") from error
            raise
        return _Connection(connection, os.getpid(), guard, seen)

    def _open_to_write(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise faults.explain_folder(
                error, store=self.schema.store, path=self.path, kind=self.schema.error
            ) from error
        try:
            if not has_file(self.path):
                # SQLite would also make one where a link leads.
                with suppress(OSError):  # not by mknod, which no container may call
                    os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, READABLE))
            return connect(self.path, "mode=rw")
        except NotAFileError as error:
            raise not_a_file(self.path, error, self.schema.error) from error

    def _open_to_read(self) -> sqlite3.Connection:
        try:
            return open_read_only(self.path, self.schema.error)
        except FileNotFoundError:
            return _in_memory()

    def _prepare(self, connection: sqlite3.Connection) -> sqlite3.Connection:
        """Return it, or another one, set up and with the content of this version."""
        _set_up(connection)
        version = self._recognise(connection)
        if version == self.schema.version and (self._only_reads or _is_wal(connection)):
            return connection
        if not self._only_reads:
            with _locked(self.path.parent):
                self._bring_up_to_date(connection)
            return connection
        copy = _in_memory()
        connection.backup(copy)
        connection.close()
        _set_up(copy)
        self._migrate(copy)
        copy.execute("PRAGMA query_only = ON")
        return copy

    def _bring_up_to_date(self, connection: sqlite3.Connection) -> None:
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            logger.warning('"%s" is on a file system that cannot do WAL: %s', self.path, mode)
        self._migrate(connection)

    def _migrate(self, connection: sqlite3.Connection) -> None:
        while (version := self._recognise(connection)) < self.schema.version:
            connection.execute("BEGIN IMMEDIATE")
            try:
                if self._recognise_inside(connection) == version:
                    for statement in self.schema.migrations[version]:
                        connection.execute(statement)
                    connection.execute(f"PRAGMA application_id = {self.schema.application_id}")
                    connection.execute(f"PRAGMA user_version = {version + 1}")
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                raise

    def _recognise(self, connection: sqlite3.Connection) -> int:
        """Return the version of the file, 0 if it is new; refuse a file of another program."""
        connection.execute("BEGIN")  # consistent view: another process may be creating it now
        try:
            return self._recognise_inside(connection)
        finally:
            with suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def _recognise_inside(self, connection: sqlite3.Connection) -> int:
        application_id = connection.execute("PRAGMA application_id").fetchone()[0]
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = {
            str(name).lower()
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
        }
        if application_id == 0 and version == 0 and not tables:
            return 0
        if application_id != self.schema.application_id:
            raise self._refusal(version, tables, application_id)
        if version > self.schema.version:
            raise self._newer(version)
        return version

    def _newer(self, version: int) -> StoreError:
        return self.schema.error(
            f'cannot open the {self.schema.store} "{self.path}": a newer acoupi wrote it.',
            f"pip install --upgrade acoupi   (or move the file away: {self._move_aside('newer')})",
            why=(
                f"its schema is version {version}, "
                f"this acoupi knows versions up to {self.schema.version}."
            ),
        )

    def _refusal(self, version: int, tables: set[str], application_id: int) -> StoreError:
        store, path = self.schema.store, self.path
        if application_id == 0 and self.schema.peer_tables <= tables:
            origin = "an earlier acoupi (0.5 or later)" if version else "an acoupi before 0.5"
            return self.schema.error(
                f'cannot open the {store} "{path}": {origin} wrote it.',
                f"{self._move_aside('earlier-acoupi')}   (it stays readable; a new one is made)",
                why=f"its tables are of schema version {version} and differ from this acoupi's.",
            )
        return self.schema.error(
            f'cannot open the {store} "{path}": another program wrote it.',
            f"{self._move_aside('aside')}   (or configure another file)",
            why=(
                f"it is a database with the tables {', '.join(sorted(tables)) or 'none'}, "
                f"without the mark of an acoupi {store}."
            ),
        )

    def _move_aside(self, suffix: str) -> str:
        """Return the command that moves the file together with its journals."""
        folder = shlex.quote(str(self.path.parent / suffix))
        return f"mkdir -p {folder} && mv {shlex.quote(str(self.path))}* {folder}"


@dataclass(frozen=True)
class _Connection:
    connection: sqlite3.Connection
    pid: int
    guard: Guard
    seen: Identity
    """Which file it is."""

    def hold(self, path: Path) -> bool:
        """Keep the file in place; return whether it still has its name."""
        self.guard.hold()
        return identity(path) == self.seen

    def close(self) -> None:
        with suppress(sqlite3.Error):  # SQLite removes journals by their names
            self.guard.hold()
        self.connection.close()
        self.guard.close()


def _close_all(idle: list[_Connection]) -> None:
    while idle:
        item = idle.pop()
        if item.pid == os.getpid():
            item.close()
        else:
            _inherit(item)


def _inherit(item: _Connection) -> None:
    """Keep what a parent opened: closing its database would harm the parent."""
    _inherited.append(item.connection)
    item.guard.close()


def _in_memory() -> sqlite3.Connection:
    """Return an empty database, on disk only if it becomes large, and gone when it is closed."""
    return sqlite3.connect("", isolation_level=None, check_same_thread=False)


def _set_up(connection: sqlite3.Connection) -> None:
    for pragma in _PRAGMAS:
        connection.execute(pragma)
    (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_BYTES // page_size}")
    connection.create_function("acoupi_blob", 1, bytes.fromhex, deterministic=True)
    connection.create_function("acoupi_path", 1, _path_of_hex, deterministic=True)


def _is_wal(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal")


def _path_of_hex(text: str) -> str | bytes:
    return as_path_text(os.fsdecode(bytes.fromhex(text)))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time do this; SQLite does not wait while switching to WAL."""
    with ExitStack() as stack:
        with suppress(OSError):  # some network file systems cannot lock folders
            descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


_databases: "weakref.WeakSet[Database]" = weakref.WeakSet()
_fork_lock = threading.RLock()
_held: list[Database] = []
_inherited: list[sqlite3.Connection] = []


def _before_fork() -> None:
    _fork_lock.acquire()
    _held.extend(_databases)
    for database in _held:
        database._before_fork()  # noqa: SLF001 - the same module


def _after_fork(*, in_child: bool) -> None:
    while _held:
        _held.pop()._after_fork(in_child=in_child)  # noqa: SLF001
    _fork_lock.release()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=lambda: _after_fork(in_child=False),
    after_in_child=lambda: _after_fork(in_child=True),
)


def _look_for_damage(connection: sqlite3.Connection, patience: float) -> None:
    end = clock.monotonic() + patience
    connection.set_progress_handler(lambda: clock.monotonic() > end, 10_000)
    try:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        return  # sound as far as was seen
    finally:
        connection.set_progress_handler(None, 0)
    if found != "ok":
        raise faults.damage(" ".join(str(found).split()))
