"""The child processes of a worker end when the worker ends."""

import contextlib
import ctypes
import fcntl
import os
import select
import signal
from typing import Any

from celery import signals

from acoupi.stack.pulse import ServiceLock

__all__ = ["tie_to_worker"]

PR_SET_PDEATHSIG = 1


def tie_to_worker(lock: ServiceLock) -> None:
    """Make every child that Celery starts from now on release the lock and end with the worker."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)

    def on_child(**_: Any) -> None:
        lock.forget()
        os.close(write_end)
        _end_with_writer(read_end)

    signals.worker_process_init.connect(on_child, weak=False)


def _end_with_writer(pipe: int) -> None:
    """Make the kernel end this child when the worker ends, so that no task runs twice.

    The worker alone holds the other end of the pipe. Celery asks the kernel for the same
    (PR_SET_PDEATHSIG), but that counts the thread that made the child as its parent: the
    child that replaces a dead one is made by a thread which ends when the worker is asked
    to stop, and would die then in the middle of its task.
    """
    with contextlib.suppress(OSError, AttributeError):
        # Reopened: the signal owner is stored per open file, not per process.
        own = os.open(f"/proc/self/fd/{pipe}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.close(pipe)
        fcntl.fcntl(own, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(own, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(own, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
        if select.select([own], [], [], 0)[0]:  # it has ended already
            os.kill(os.getpid(), signal.SIGKILL)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0)
