"""Opening a SQLite file to read it, and to change nothing: not it, and not what is beside it.

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
import tempfile
from pathlib import Path
from urllib.parse import quote

from acoupi.components.stores import faults
from acoupi.errors import StoreError
from acoupi.opening import NotAFileError, open_binary

__all__ = ["open_read_only"]

_WAL = 2
_HEADER = 100
_WRITE_VERSION = 18
"""Offset of the byte of the header that says how the file is written: 1 or 2 (WAL)."""
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
    path = path.expanduser().absolute()
    try:
        return _opened(path)
    except FileNotFoundError:
        raise
    except NotAFileError as error:
        raise _no_file(path, error, kind) from error
    except OSError as error:
        raise _unreadable(path, error, kind) from error
    except sqlite3.Error as error:
        raise faults.explain(
            error, store="database", path=path, action="open", kind=kind
        ) from error


def _opened(path: Path) -> sqlite3.Connection:
    is_wal = _is_wal(path)
    journal, index = _beside(path, "-wal"), _beside(path, "-shm")
    if not is_wal:
        return _connect(path, "mode=ro")
    if not _has(journal):
        return _connect(path, "mode=ro&immutable=1")
    if _has(index):
        try:
            return _connect(path, "mode=ro")
        except sqlite3.OperationalError as error:
            code = getattr(error, "sqlite_errorname", None) or ""
            if not code.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY")):
                raise
    return _copied(path, journal)


def _is_wal(path: Path) -> bool:
    with open_binary(path) as stream:
        header = stream.read(_HEADER)
    return len(header) == _HEADER and header[_WRITE_VERSION] == _WAL


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _has(path: Path) -> bool:
    """Return whether there is such a file; what is no file is refused."""
    try:
        open_binary(path).close()
    except FileNotFoundError:
        return False
    except PermissionError:
        return True
    return True


def _connect(path: Path, how: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{quote(os.fsencode(path))}?{how}",
        uri=True,
        timeout=faults.BUSY_TIMEOUT,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        _check_opened(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_opened(connection: sqlite3.Connection, path: Path) -> None:
    """SQLite opens no link, but follows one that was put there just before it looked."""
    opened = Path(connection.execute("PRAGMA database_list").fetchone()[2])
    if opened != path.parent.resolve() / path.name:
        raise NotAFileError(errno.ELOOP, "it was replaced by a link", str(path))


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
        return _connect(copy.resolve(), "mode=ro&immutable=1")


def _state(path: Path) -> tuple[int, int, int]:
    found = path.lstat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _copy(path: Path, copy: Path) -> None:
    with open_binary(path) as source, copy.open("wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)


def _no_file(path: Path, error: NotAFileError, kind: type[StoreError]) -> StoreError:
    return kind(
        f'cannot open the database "{path}".',
        f"ls -ld {shlex.quote(str(path))}*   (then move what is no file aside)",
        why=f'"{error.filename}" must be a file, but {error.strerror}.',
    )


def _unreadable(path: Path, error: OSError, kind: type[StoreError]) -> StoreError:
    return kind(
        f'cannot read the database "{path}".',
        f"ls -ld {shlex.quote(str(path.parent))} {shlex.quote(str(path))}",
        why=f'the system answered "{error.strerror or error}".',
    )
