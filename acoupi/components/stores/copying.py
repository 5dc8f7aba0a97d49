"""A copy of a database that may be in use."""

import contextlib
import errno
import os
import sqlite3
from pathlib import Path

from acoupi.components.stores import faults
from acoupi.components.stores.read_only import open_read_only
from acoupi.errors import StoreError

__all__ = ["copy_database"]

PAGES = 512
"""Copied at a time, about 2 MB: others may write in between."""


def copy_database(store: Path, copy: Path) -> int:
    """Copy a database as it is at one moment; return the version of its schema.

    Whoever writes to it does not wait for this.

    Raises
    ------
    StoreError
        If it cannot be read, or its pages are damaged.
    OSError
        If the copy cannot be written.
    """
    copy.parent.mkdir(parents=True, exist_ok=True)
    try:
        with (
            contextlib.closing(open_read_only(store)) as source,
            contextlib.closing(sqlite3.connect(copy)) as into,
        ):
            source.execute("BEGIN")  # one state, however long it takes
            source.execute("SELECT count(*) FROM sqlite_master")
            source.backup(into, pages=PAGES)
            into.execute("PRAGMA journal_mode = DELETE")
            if (said := into.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                raise sqlite3.DatabaseError(said)
            return int(into.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorname", "") == "SQLITE_FULL":  # which is of the copy alone
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(copy)) from error
        raise faults.explain(
            error, store="database", path=store, action="copy", kind=StoreError
        ) from error
