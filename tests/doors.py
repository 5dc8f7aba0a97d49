"""Doors to stores of this process, and the stores behind which they are."""

import inspect
from pathlib import Path
from typing import Any, Self

from acoupi.components import SqliteMessageStore, SqliteStore
from acoupi.door.client import Door
from acoupi.door.folders import door_folder, waiting_folder
from acoupi.door.server import DoorServer, Limits, Role
from acoupi.door.waiting import WaitingCalls
from tests.services import DEADLINE


def every_method(store_class: type) -> frozenset[str]:
    names = (name for name, _ in inspect.getmembers(store_class, inspect.isfunction))
    return frozenset(name for name in names if not name.startswith("_"))


EVERYTHING = {
    "metadata": every_method(SqliteStore),
    "messages": every_method(SqliteMessageStore),
}


class Doors:
    """A door in a folder of its own, and who answers at it."""

    def __init__(self, folder: Path, role: Role = EVERYTHING, limits: Limits | None = None) -> None:
        self.folder = door_folder(folder, "detection")
        self.waiting = WaitingCalls(waiting_folder(folder, "detection"))
        self.door = Door(self.folder, self.waiting)
        self.kept: list[Any] = []
        self._role, self._limits = role, limits or Limits(listed=10**6, look_every=0.05)
        self.server: DoorServer | None = None

    def open(self) -> None:
        self.server = DoorServer(
            "detection",
            self.folder,
            self.waiting,
            self._role,
            find=self._find,
            limits=self._limits,
        )
        self.server.start()
        assert self.server.listens.wait(DEADLINE)

    def close(self) -> None:
        if self.server is not None:
            self.server.close()
            self.server = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _find(self, kind: str, path: str) -> Any:
        found = (one for one in self.kept if (one.door_kind, str(one.db_path)) == (kind, path))
        return next(found, None)

    def store(self, kept: SqliteStore) -> SqliteStore:
        """The store as a service behind the door has it."""
        self.kept.append(kept)
        return self._behind(SqliteStore(kept.db_path))

    def message_store(self, kept: SqliteMessageStore) -> SqliteMessageStore:
        self.kept.append(kept)
        return self._behind(SqliteMessageStore(kept.db_path, lease=kept.lease))

    def _behind(self, store: Any) -> Any:
        store._door = self.door
        return store
