"""Opening a SQLite file for reading, without changing it or the files beside it.

SQLite creates a journal and its index beside a file in WAL mode even to read it, and leaves both
behind if it may not write. So how a file is opened depends on what is there:

===================================  ==========================================================
no journal (nothing is running)      as it is, as a file that does not change
a journal and its index              as the services do, but read-only: a running sensor, or one
                                     that was killed
a journal that cannot be read so     a copy of both: a read-only disk, or another user's sensor
no WAL mode (some network disks)     read-only
===================================  ==========================================================
"""

import contextlib
import errno
import os
import shlex
import shutil
import sqlite3
import stat
import tempfile
from pathlib import Path
from urllib.parse import quote

from acoupi.components.stores import faults
from acoupi.errors import StoreError
from acoupi.home import expanded
from acoupi.opening import NotAFileError, kind_of, open_binary

__all__ = ["connect", "has_file", "not_a_file", "open_read_only"]

_TRIES = 10


def open_read_only(path: Path, kind: type[StoreError] = StoreError) -> sqlite3.Connection:
    """Open a database of a sensor that is running, was stopped or was killed, to read it.

    Nothing is created and no schema is changed. Use it for one look and close it: what is
    written later may not be seen.

    Parameters
    ----------
    path
        The file.
    kind
        The class of the errors.

    Raises
    ------
    FileNotFoundError
        If there is none.
    StoreError
        If it is a link or not a regular file, or cannot be opened.
    """
    path = expanded(path).absolute()
    try:
        return _opened(path)
    except FileNotFoundError:
        raise
    except NotAFileError as error:
        raise not_a_file(path, error, kind) from error
    except OSError as error:
        raise _unreadable(path, error, kind) from error
    except sqlite3.Error as error:
        raise faults.explain(
            error, store="database", path=path, action="open", kind=kind
        ) from error


def connect(path: Path, how: str) -> sqlite3.Connection:
    """Connect to the file of that name, and to no other that a link there leads to.

    Parameters
    ----------
    how
        Parameters of SQLite's URI.

    Raises
    ------
    NotAFileError
        If it is a link, or not a regular file.
    sqlite3.Error
        If it cannot be opened.
    """
    has_file(path)
    connection = sqlite3.connect(
        f"file:{quote(os.fsencode(path))}?{how}",
        uri=True,
        timeout=faults.BUSY_TIMEOUT,
        isolation_level=None,
        check_same_thread=False,
    )
    # SQLite opens no link, but follows one that was put there just before it looked.
    opened = connection.execute("PRAGMA database_list").fetchone()[2]
    if Path(opened) != path.parent.resolve() / path.name:
        connection.close()
        raise NotAFileError(errno.ELOOP, "it was replaced by a link", str(path))
    return connection


def has_file(path: Path) -> bool:
    """Return whether there is a regular file of that name.

    It is not opened: closing any descriptor of a database releases the locks that
    other connections of the process hold on it.

    Raises
    ------
    NotAFileError
        If it is a link, or something else.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(mode):
        raise NotAFileError(errno.ELOOP, f"it is {kind_of(mode)}", str(path))
    return True


def not_a_file(path: Path, error: NotAFileError, kind: type[StoreError]) -> StoreError:
    """Return the error for a database that is a link or the like, in three lines."""
    return kind(
        f'cannot open the database "{path}".',
        f"ls -ld {shlex.quote(str(path))}*   (then move anything away that is not a file)",
        why=f'"{error.filename}" must be a file, but {error.strerror}.',
    )


def _opened(path: Path) -> sqlite3.Connection:
    if not has_file(path):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    journal, has_index = _beside(path, "-wal"), has_file(_beside(path, "-shm"))
    if not has_file(journal):
        return _connect_to_read(path, "mode=ro&immutable=1" if _is_wal(path) else "mode=ro")
    if has_index:
        try:
            return _connect_to_read(path, "mode=ro")
        except sqlite3.OperationalError as error:
            if not _code(error).startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY")):
                raise
    return _copied(path, journal)


def _is_wal(path: Path) -> bool:
    """Return whether a file is in WAL mode; without locks, SQLite opens no such file."""
    try:
        _connect_to_read(path, "mode=ro&nolock=1").close()
    except sqlite3.OperationalError as error:
        if not _code(error).startswith("SQLITE_CANTOPEN"):
            raise
        return True
    return False


def _code(error: sqlite3.Error) -> str:
    return getattr(error, "sqlite_errorname", None) or ""


def _connect_to_read(path: Path, how: str) -> sqlite3.Connection:
    connection = connect(path, how)
    try:
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _copied(path: Path, journal: Path) -> sqlite3.Connection:
    """Open a copy of the file with what its journal holds; nothing of it stays on the disk."""
    with tempfile.TemporaryDirectory(prefix="acoupi-read-") as folder:
        copy = Path(folder) / "copy.db"
        for _ in range(_TRIES):
            before = _state(path), _state(journal)
            _copy(path, copy)
            _copy(journal, _beside(copy, "-wal"))
            if (_state(path), _state(journal)) == before:
                break
        else:
            raise BlockingIOError(errno.EBUSY, "it is written to all the time", str(path))
        with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")  # takes over what the journal holds
        return _connect_to_read(copy.resolve(), "mode=ro&immutable=1")


def _state(path: Path) -> tuple[int, int, int]:
    found = path.lstat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _copy(path: Path, copy: Path) -> None:
    with open_binary(path) as source, copy.open("wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)


def _unreadable(path: Path, error: OSError, kind: type[StoreError]) -> StoreError:
    return kind(
        f'cannot read the database "{path}".',
        f"ls -ld {shlex.quote(str(path.parent))} {shlex.quote(str(path))}",
        why=f'the system answered "{error.strerror or error}".',
    )
