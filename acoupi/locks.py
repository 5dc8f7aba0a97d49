"""Waiting for a kernel lock (``flock``), with a deadline."""

import fcntl
import threading

from acoupi import clock

__all__ = ["lock_within"]


def lock_within(handle: int, patience: float) -> bool:
    """Lock an open file; return whether the lock was free within so many seconds."""
    deadline = clock.monotonic() + patience
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if clock.monotonic() >= deadline:
                return False
            threading.Event().wait(0.02)
        else:
            return True
