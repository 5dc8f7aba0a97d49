"""Errors of a failing database, explained to the person who has to repair it."""

import os
import shlex
import shutil
import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from acoupi.errors import StoreError
from acoupi.opening import open_file

__all__ = [
    "BUSY_TIMEOUT",
    "DATABASE_ERRORS",
    "clear",
    "damage",
    "explain",
    "explain_folder",
    "is_damage",
    "is_suspect",
    "suspect",
]

BUSY_TIMEOUT = 30.0
"""Seconds to wait for another process that is writing."""

DATABASE_ERRORS = (sqlite3.Error, OverflowError, UnicodeEncodeError, UnicodeDecodeError)
"""Errors of `sqlite3`: its own, two for values that fit no column, and one for its own words
about a damaged file, if it quotes what is in there."""


def damage(what: str) -> sqlite3.DatabaseError:
    """Return SQLite's error for a file in which damage was found."""
    error = sqlite3.DatabaseError(what)
    error.sqlite_errorname = "SQLITE_CORRUPT"
    return error


def is_damage(error: BaseException) -> bool:
    """Return whether an error of SQLite says that the file itself is damaged."""
    return _code(error).startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))


def _code(error: BaseException) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "SQLITE_CORRUPT"
    return getattr(error, "sqlite_errorname", None) or ""


def suspect(path: Path) -> None:
    """Note that a process has found a file damaged, for the one that heals it."""
    with suppress(OSError):
        os.close(open_file(_note(path), os.O_WRONLY | os.O_CREAT))


def is_suspect(path: Path) -> bool:
    """Return whether a process has found a file damaged."""
    return _exists(_note(path))


def clear(path: Path) -> None:
    """Note that a file is sound."""
    with suppress(OSError):
        _note(path).unlink()


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.suspect")


def explain(
    error: Exception, *, store: str, path: Path, action: str, kind: type[StoreError]
) -> StoreError:
    """Turn an error of SQLite into one of acoupi, in three lines.

    Parameters
    ----------
    store
        Name of the file for its user, such as "metadata store".
    action
        What was attempted: "read", "write to" or "open".
    kind
        The class of the error to return.
    """
    code = _code(error)
    cause = _cause(code, path)
    names = {
        "file": shlex.quote(str(path)),
        "folder": shlex.quote(str(path.parent)),
        "user": os.getuid(),
        "free": _free(path),
        "timeout": f"{BUSY_TIMEOUT:.0f}",
    }
    said = f'SQLite answered "{error}"{f" ({code})" if code else ""}'
    return kind(
        f'cannot {action} the {store} "{path}"{cause.what}.',
        cause.help.format_map(names),
        why=f"{said}{cause.why.format_map(names)}.",
    )


@dataclass(frozen=True)
class _Cause:
    codes: tuple[str, ...]
    what: str
    why: str
    help: str


_RIGHTS = "ls -ld {folder} {file}   (user {user} must be able to write both)"
_HEAL = "acoupi stores --heal   (keeps the file, saves what can be read of it into a new one)"
_FULL = _Cause(
    ("SQLITE_FULL",),
    ": the disk is full",
    "; {free} bytes are free there",
    "df -h {folder}   (then free space there, or keep the data on a larger disk)",
)
_CAUSES = (
    _FULL,
    _Cause(
        ("SQLITE_READONLY",),
        ": it is read-only",
        "; a worn-out SD card becomes read-only",
        _RIGHTS,
    ),
    _Cause(("SQLITE_CANTOPEN", "SQLITE_PERM"), ": the file cannot be opened", "", _RIGHTS),
    _Cause(
        ("SQLITE_NOTADB",),
        ": it is not a database",
        "; the file holds something else",
        _HEAL,
    ),
    _Cause(
        ("SQLITE_CORRUPT",),
        ": it is damaged",
        "; a power cut with a bad SD card can cause that",
        _HEAL,
    ),
    _Cause(
        ("SQLITE_BUSY", "SQLITE_LOCKED"),
        ": another process keeps it locked",
        ", after {timeout} s of waiting",
        "fuser -v {file}   (shows which; then try again)",
    ),
    _Cause(
        ("SQLITE_IOERR",), ": the disk fails", "", "dmesg | tail   (shows the errors of the disk)"
    ),
)
_UNKNOWN = _Cause(
    (),
    "",
    "",
    'sqlite3 {file} "PRAGMA integrity_check"   (shows whether the file is intact)',
)


def _cause(code: str, path: Path) -> _Cause:
    """Return the cause of an error code; on a full disk SQLite may only see a failed write."""
    if code.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN")) and _free(path) == 0:
        return _FULL
    return next((cause for cause in _CAUSES if code.startswith(cause.codes)), _UNKNOWN)


def explain_folder(error: OSError, *, store: str, path: Path, kind: type[StoreError]) -> StoreError:
    """Return the error for a folder of a store that could not be made, in three lines."""
    folder = path.parent
    existing = next((p for p in [folder, *folder.parents] if _exists(p)), Path("/"))
    return kind(
        f'cannot make the folder "{folder}" for the {store}.',
        f"ls -ld {shlex.quote(str(existing))}   (user {os.getuid()} must be able to write there)",
        why=f'the system answered "{error.strerror or error}".',
    )


def _free(path: Path) -> int | None:
    try:
        return shutil.disk_usage(path.parent).free
    except OSError:
        return None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False  # below a folder without permission to enter
