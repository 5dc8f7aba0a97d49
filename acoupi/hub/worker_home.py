"""The folder of a worker: its own ACOUPI_HOME, which is removed however it ends."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from acoupi.locks import lock_within

__all__ = ["worker_home"]

PREFIX = "acoupi-worker-"


@contextmanager
def worker_home() -> Iterator[Path]:
    """Provide an empty folder that is removed at the end; also remove those of killed workers.

    A folder is locked while its process lives, and gets its name only once it is locked.
    """
    made = Path(tempfile.mkdtemp(prefix=f".{PREFIX}"))
    handle = os.open(made, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        home = made.rename(made.with_name(made.name[1:]))
        _remove_left_behind(home)
        try:
            yield home
        finally:
            shutil.rmtree(home, ignore_errors=True)
    finally:
        os.close(handle)


def _remove_left_behind(own: Path) -> None:
    for folder in own.parent.glob(f"{PREFIX}*"):
        if folder == own:
            continue
        try:
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:  # somebody else's, or gone
            continue
        try:
            if os.fstat(handle).st_uid == os.getuid() and lock_within(handle, 0):
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(handle)
