"""Keeps trying to open a microphone that went away, or opens it in time for its next use."""

import threading
from collections.abc import Callable
from pathlib import Path

from acoupi import data
from acoupi.errors import AcoupiError, DeviceUnavailableError

__all__ = ["Keeper"]

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 10.0
_LOOK_SECONDS = 0.5
"""How often to see whether something was plugged in, which ends a pause."""
_CARDS = Path("/sys/class/sound")


class Keeper:
    """Opens a device from a thread of its own, later or as soon as that is possible.

    Parameters
    ----------
    open_device
        Given the seconds of warm-up; raises `DeviceUnavailableError` while
        that is impossible. Any other error ends trying.
    """

    def __init__(self, open_device: Callable[[float], None]) -> None:
        self._open_device = open_device
        self._lock = threading.Lock()
        self._settled = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, delay: float = 0.0, warm_up: float = 0.0) -> None:
        """Begin to try unless it is trying already."""
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return
            self._settled, self._stopping = threading.Event(), threading.Event()
            self._thread = threading.Thread(
                target=self._run,
                args=(delay, warm_up, self._settled, self._stopping),
                name="microphone-keeper",
                daemon=True,
            )
            self._thread.start()

    def wait(self, seconds: float) -> None:
        """Wait until it was opened, or trying ended, but no longer than this."""
        self._settled.wait(seconds)

    def stop(self) -> None:
        """End trying; does not wait for it."""
        self._stopping.set()

    def _run(
        self, delay: float, warm_up: float, settled: threading.Event, stopping: threading.Event
    ) -> None:
        pause = _FIRST_PAUSE
        stopping.wait(delay)
        try:
            while not stopping.is_set():
                cards = _cards()
                try:
                    self._open_device(warm_up)
                except DeviceUnavailableError:
                    if self._rest(pause, cards, stopping):
                        pause = _FIRST_PAUSE
                    else:
                        pause = min(2 * pause, _LONGEST_PAUSE)
                except AcoupiError:
                    return  # Whoever records is told.
                else:
                    return
        finally:
            settled.set()

    @staticmethod
    def _rest(pause: float, cards: frozenset[str], stopping: threading.Event) -> bool:
        """Wait; return whether something was plugged in or out meanwhile."""
        end = data.monotonic() + pause
        while (left := end - data.monotonic()) > 0 and not stopping.is_set():
            stopping.wait(min(left, _LOOK_SECONDS))
            if _cards() != cards:
                return True
        return False


def _cards() -> frozenset[str]:
    try:
        return frozenset(entry.name for entry in _CARDS.iterdir())
    except OSError:
        return frozenset()
