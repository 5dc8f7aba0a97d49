"""Client ids that no two processes of a board use at once.

A broker throws an older connection off when a new one comes with the same
client id. So an id must differ between processes; and it should be the same
again after a restart, so that the new process replaces the stale session of its
predecessor. Hence numbered places, each held with a kernel lock that is released
when its process ends.
"""

import fcntl
import hashlib
import os
import uuid
from typing import IO

from acoupi.home import home_dir
from acoupi.opening import open_file

__all__ = ["ClientId"]

PLACES = 100


class ClientId:
    """A client id reserved until it is released or the process ends.

    Parameters
    ----------
    base
        The id of the first place; the others get a number after it.
    broker
        Ids are told apart for each broker.
    """

    def __init__(self, base: str, broker: str) -> None:
        self.text, self.is_first = f"{base}-{uuid.uuid4().hex[:8]}", False
        self._lock: IO[bytes] | None = None
        key = hashlib.sha256(f"{broker} {base}".encode()).hexdigest()[:12]
        for place in range(PLACES):
            try:
                self._lock = _lock(f"mqtt-{key}-{place}.lock")
            except BlockingIOError:
                continue
            except OSError:  # no folder to lock in: a random id must do
                break
            self.text, self.is_first = base if place == 0 else f"{base}-{place}", place == 0
            break

    def release(self) -> None:
        """Release the id for other processes."""
        if self._lock:
            self._lock.close()
            self._lock = None


def _lock(name: str) -> IO[bytes]:
    """Return the open, locked file, or raise BlockingIOError."""
    folder = home_dir() / "run"
    folder.mkdir(parents=True, exist_ok=True)
    file = os.fdopen(open_file(folder / name, os.O_RDWR | os.O_CREAT), "r+b")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise
    return file
