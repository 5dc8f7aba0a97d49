"""The lock that keeps a supervisor from stopping a container in the middle of its work.

While the file ``/tmp/balena/updates.lock`` exists, balena's supervisor stops no
container and does not reboot for a setting (it mounts that folder, one for each
service). Updates of the host wait while a process holds ``flock`` on it.
"""

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["UpdateLock", "update_lock_path"]

VARIABLE = "ACOUPI_UPDATE_LOCK"
DEFAULT = "/tmp/balena/updates.lock"  # noqa: S108 - where balena looks
MARK = "acoupi\n"
"""Content of the file, to tell an acoupi lock from another program's."""

logger = logging.getLogger(__name__)


def update_lock_path() -> Path:
    """Return the path of the lock: ``ACOUPI_UPDATE_LOCK`` if set, else that of balena."""
    return Path(os.environ.get(VARIABLE) or DEFAULT)


class UpdateLock:
    """A lock held only while work is in progress that must not be interrupted.

    Where its folder does not exist (everywhere but on balena) it does nothing.
    A lock of another program, or a disk error, does not prevent recording.

    Parameters
    ----------
    path
        The file. One that acoupi wrote earlier was left by a crash, and is
        removed when the lock is first taken.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._cleared = False
        self._said: int | None = None

    @contextlib.contextmanager
    def held(self) -> Iterator[bool]:
        """Hold it while the block runs; yields whether it is held."""
        handle = self._take()
        try:
            yield handle is not None
        finally:
            if handle is not None:
                with contextlib.suppress(OSError):
                    self._path.unlink()
                os.close(handle)

    def clear(self) -> None:
        """Remove a lock left by a crash."""
        self._cleared = True
        try:
            if self._path.read_text() == MARK:
                self._path.unlink()
                logger.warning("Removed %s, left by a crash.", self._path)
        except (OSError, ValueError):
            return

    def _take(self) -> int | None:
        if not self._path.parent.is_dir():
            return None
        if not self._cleared:
            self.clear()
        try:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            return None  # another program already prevents updates
        except OSError as error:
            if error.errno != self._said:  # log it once, not for each recording
                logger.warning("No update lock at %s: %s", self._path, error.strerror)
                self._said = error.errno
            return None
        with contextlib.suppress(OSError):
            os.write(handle, MARK.encode())
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return handle
