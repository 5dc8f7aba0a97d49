"""The stores themselves, on a file in memory: fast, and gone with the process."""

import os
import shutil
import tempfile
import weakref
from pathlib import Path

from acoupi.components.message_stores import SqliteMessageStore
from acoupi.components.message_stores.deliveries import LEASE
from acoupi.components.stores import SqliteStore

__all__ = ["InMemoryMessageStore", "InMemoryStore"]

_MEMORY = Path("/dev/shm")  # noqa: S108 - its folders are made by mkdtemp
"""Linux keeps files of this folder in memory; elsewhere they are temporary files."""


class InMemoryStore(SqliteStore):
    """A `SqliteStore` for tests; its file is removed with it."""

    def __init__(self) -> None:
        super().__init__(_temporary_folder(self) / "metadata.db")


class InMemoryMessageStore(SqliteMessageStore):
    """A `SqliteMessageStore` for tests; its file is removed with it."""

    def __init__(self, *, lease: float = LEASE) -> None:
        super().__init__(_temporary_folder(self) / "messages.db", lease=lease)


def _temporary_folder(owner: object) -> Path:
    parent = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="acoupi-", dir=parent))
    weakref.finalize(owner, _remove, folder, os.getpid())
    return folder


def _remove(folder: Path, pid: int) -> None:
    if os.getpid() == pid:  # a forked process has the file of its parent
        shutil.rmtree(folder, ignore_errors=True)
