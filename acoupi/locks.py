"""Waiting for a kernel lock (``flock``), with a deadline."""

import fcntl
import threading

from acoupi import clock

__all__ = ["lock_within"]


def lock_within(handle: int, patience: float, *, is_shared: bool = False) -> bool:
    """Lock an open file, exclusively or shared, within some seconds; return whether it worked.

    Waiting for an exclusive lock does not block shared ones.
    """
    kind = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
    deadline = clock.monotonic() + patience
    while True:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except OSError:
            if clock.monotonic() >= deadline:
                return False
            threading.Event().wait(0.02)
        else:
            return True
