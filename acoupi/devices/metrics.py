"""Figures about the board, for the heartbeat."""

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acoupi import data
from acoupi.space import existing

if TYPE_CHECKING:
    import psutil

__all__ = [
    "consumed_memory",
    "get_cpu_usage",
    "get_free_memory",
    "get_remaining_storage",
    "get_used_storage",
]

_lock = threading.Lock()
_process: "psutil.Process | None" = None


def get_remaining_storage(path: Path, name: str = "remaining_storage") -> data.Metric:
    """Return the free space on the disk of a path, bytes.

    The path need not exist yet: then its nearest existing parent is used.
    """
    return data.Metric(name=name, value=_disk_usage(path).free, unit="bytes")


def get_used_storage(path: Path, name: str = "used_storage") -> data.Metric:
    """Return the used space on the disk of a path, bytes; see `get_remaining_storage`."""
    return data.Metric(name=name, value=_disk_usage(path).used, unit="bytes")


def get_free_memory(name: str = "free_memory") -> data.Metric:
    """Return the memory available to new programs without swapping, bytes."""
    return data.Metric(name=name, value=_psutil().virtual_memory().available, unit="bytes")


def consumed_memory(name: str = "consumed_memory") -> data.Metric:
    """Return the memory used by this process (resident set size), bytes."""
    return data.Metric(name=name, value=_psutil().Process().memory_info().rss, unit="bytes")


def get_cpu_usage(name: str = "cpu_usage") -> data.Metric:
    """Return the share of one core that this process used, percent.

    Since the last call or, the first time, since the process started. It can
    exceed 100 if several threads work.
    """
    global _process  # noqa: PLW0603 - the handle remembers the last call
    with _lock:
        if _process is None or _process.pid != os.getpid():
            _process = _psutil().Process()
            _process.cpu_percent()  # Starts the count.
            times = _process.cpu_times()
            age = data.utc_now().timestamp() - _process.create_time()
            value = 100 * (times.user + times.system) / max(age, 0.01)
        else:
            value = _process.cpu_percent()
    return data.Metric(name=name, value=round(value, 2), unit="percent")


def _disk_usage(path: Path) -> Any:
    return _psutil().disk_usage(str(existing(Path(path).absolute())))


def _psutil() -> Any:
    import psutil  # noqa: PLC0415 - a worker that sends no heartbeat does without

    return psutil
