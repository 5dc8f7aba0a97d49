"""Setting a damaged database aside, and beginning again with what can be read of it.

Nothing is deleted: ``NAME.damaged-TIME`` is the file as it was, with its journal beside it, and
``NAME.damaged-TIME.json`` tells what became of it. A new file takes its place under a lock that
every transaction shares (`guard`), so no process writes into the old one after that.
"""

import contextlib
import os
import sqlite3
from pathlib import Path

from acoupi import data
from acoupi.components.stores import faults
from acoupi.components.stores.database import Database
from acoupi.components.stores.guard import alone_with, identity
from acoupi.components.stores.healings import MARK, Healing
from acoupi.components.stores.salvage import Salvage, Salvaged, tables_of
from acoupi.errors import StoreError
from acoupi.opening import is_file
from acoupi.writing import sync_folder

__all__ = [
    "find_damage",
    "note_emptied",
    "set_aside",
    "take_over",
]

_WORDS = {
    "analysis": "states of analyses",
    "capture": "reports on captures",
    "capture_clock": "clocks of captures",
    "clip": "clips",
    "clip_part": "parts of clips",
    "delivery": "deliveries of messages",
    "deployment": "deployments",
    "detection": "detections",
    "effort_note": "notes on effort",
    "effort_plan": "plans of recording",
    "message": "messages",
    "model_output": "results of models",
    "predicted_tag": "tags of detections",
    "provenance": "origins of results",
    "recording": "recordings",
    "response": "answers of servers",
    "sample": "recordings drawn for review",
    "tag": "tags",
    "verdict": "verdicts of people",
}
"""What is in a table, for people."""
_JOURNALS = ("-wal", "-shm")


def find_damage(database: Database, patience: float) -> str | None:
    """Return what is wrong with an existing database; None if nothing, or unknown.

    A database of another program, or of a newer acoupi, is not damaged: that is for a person.

    Parameters
    ----------
    patience
        Seconds for looking at its pages. One that reported damage itself is looked at as a whole.
    """
    path = database.path
    if not is_file(path) or not path.stat().st_size:
        return None
    try:
        found = database.examine(patience, is_suspect=faults.is_suspect(path))
    except StoreError as error:
        cause = error.__cause__
        wrong = cause is not None and (
            faults.is_damage(cause) or getattr(cause, "sqlite_errorname", "") == "SQLITE_ERROR"
        )
        return str(cause) if wrong else None
    if found is None:
        faults.clear(path)
    return found or _missing(database)


def _missing(database: Database) -> str | None:
    """Return which table or column of this version the file does not have."""
    with database.reading() as connection:
        for table in tables_of(database.schema):
            rows = connection.execute(f"PRAGMA table_info({table.name})").fetchall()
            left = {one.name for one in table.columns} - {row[1] for row in rows}
            if left:
                return f"the table {table.name} has no {min(left)}"
    return None


def set_aside(database: Database, why: str) -> Healing | None:
    """Replace a damaged file by a new one; None if another process has just done so.

    Raises
    ------
    OSError
        If the disk refuses; nothing has changed then, or the next call completes it.
    StoreError
        If another process uses it for too long.
    """
    path = database.path
    before = identity(path)[0]
    database.close()
    try:
        with alone_with(path):
            if identity(path)[0] != before:
                return None
            healing = Healing(
                store=database.schema.store,
                path=path,
                aside=_aside(path),
                found_on=data.utc_now(),
                why=why,
            )
            healing.write()
            _exchange(path, healing.aside)
    except sqlite3.Error as error:
        raise faults.explain(
            error, store=database.schema.store, path=path, action="set aside", kind=StoreError
        ) from error
    faults.clear(path)
    return healing


def note_emptied(database: Database, why: str) -> Healing:
    """Note that a database lost all that it held; an empty file stands for the one that was."""
    path = database.path
    healing = Healing(
        store=database.schema.store,
        path=path,
        aside=_aside(path),
        found_on=data.utc_now(),
        why=why,
    )
    healing.write()
    healing.aside.touch()
    return healing


def _aside(path: Path) -> Path:
    """Return the name for a file that is set aside: its existing one after an interruption."""
    for other in path.parent.glob(f"{path.name}{MARK}*"):
        if other.suffix != ".json" and path.exists() and other.samefile(path):
            return other
    stamp = f"{path.name}{MARK}{data.utc_now():%Y%m%dT%H%M%S}"
    names = (f"{stamp}Z", *(f"{stamp}Z_{number}" for number in range(2, 1000)))
    return next(one for one in map(path.with_name, names) if not os.path.lexists(one))


def _exchange(path: Path, aside: Path) -> None:
    """Give a file another name, together with its journals, and its name to an empty one."""
    empty = path.with_name(f".{path.name}.new")
    empty.unlink(missing_ok=True)
    found = path.stat()
    handle = os.open(empty, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with contextlib.suppress(PermissionError):
        os.fchown(handle, found.st_uid, found.st_gid)
    os.fchmod(handle, found.st_mode & 0o777)
    os.close(handle)
    if not aside.exists():
        try:
            aside.hardlink_to(path)
        except OSError:  # a file system without links
            path.rename(aside)
    for suffix in _JOURNALS:
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    sync_folder(path.parent)
    empty.replace(path)
    sync_folder(path.parent)


def take_over(database: Database, healing: Healing, *, at_once: bool = False) -> bool:
    """Take over what can be read of the file that was set aside; return whether that was all.

    What it held and could not be read is noted in `healing`.

    Parameters
    ----------
    at_once
        Whether all of it is one transaction.
    """
    found = Salvage(healing.aside, database, at_once=at_once).run()
    healing.rows = {name: one.rows for name, one in found.items() if one.rows}
    healing.lost = [_lost(name, one) for name, one in found.items() if not one.is_whole]
    if not healing.rows:
        healing.lost = ["everything that only the database held"]
    return not healing.lost


def _lost(table: str, found: Salvaged) -> str:
    what = _WORDS.get(table, f"rows of {table}")
    page = "page" if found.damaged == 1 else "pages"
    pages = f"{found.damaged} {page} of {what}" if found.damaged else ""
    rows = f"{found.left_out} {what} that belonged to lost rows" if found.left_out else ""
    return " and ".join(one for one in (pages, rows) if one)
