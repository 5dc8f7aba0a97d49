"""The lock that keeps a supervisor from ending a container in the middle of something.

balena's supervisor ends no container, and reboots for no setting, while the
file ``/tmp/balena/updates.lock`` is there (it mounts that folder, one for each
service); updates of the host wait for who holds ``flock`` on it.
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
"""In the file, to tell ours from somebody else's."""

logger = logging.getLogger(__name__)


def update_lock_path() -> Path:
    """Return where the lock is: what ``ACOUPI_UPDATE_LOCK`` says, else balena's."""
    return Path(os.environ.get(VARIABLE) or DEFAULT)


class UpdateLock:
    """Held while something goes on that must not be cut, and never longer.

    Where its folder does not exist (which is everywhere but on balena) it
    does nothing. Somebody else's lock, or a disk that refuses, keeps nobody
    from recording.

    Parameters
    ----------
    path
        The file. One of ours that is there already is what a crash left, and
        is removed when the lock is taken first.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._cleared = False
        self._said: int | None = None

    @contextlib.contextmanager
    def held(self) -> Iterator[bool]:
        """Hold it while the block runs; gives whether it is held."""
        handle = self._take()
        try:
            yield handle is not None
        finally:
            if handle is not None:
                with contextlib.suppress(OSError):
                    self._path.unlink()
                os.close(handle)

    def clear(self) -> None:
        """Remove what a crash left."""
        self._cleared = True
        try:
            if self._path.read_text() == MARK:
                self._path.unlink()
                logger.warning("Removed %s, which a crash had left.", self._path)
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
            return None  # somebody else keeps updates away, too
        except OSError as error:
            if error.errno != self._said:  # once, not with each recording
                logger.warning("No update lock at %s: %s", self._path, error.strerror)
                self._said = error.errno
            return None
        with contextlib.suppress(OSError):
            os.write(handle, MARK.encode())
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return handle
