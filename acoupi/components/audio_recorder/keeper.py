"""Notices when a microphone is lost, and keeps trying to open it; or opens it in time."""

import datetime
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from acoupi import data
from acoupi.audio.stream import WATCH_SECONDS, CaptureStream
from acoupi.errors import AcoupiError, DeviceUnavailableError

__all__ = ["DeviceListener", "Keeper", "Watch"]

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 10.0
_LOOK_SECONDS = 0.5
"""How often to check whether something was plugged in, which ends a pause; seconds."""
_CARDS = Path("/sys/class/sound")


class DeviceListener(Protocol):
    """Informed at once about a missing microphone; called from other threads."""

    def device_missing(self, since: datetime.datetime, error: AcoupiError) -> None:
        """React to its loss, and again each time that opening it fails."""

    def device_back(self) -> None:
        """React to its return."""


class Watch:
    """Checks in a separate thread whether the device of a stream is still there.

    Parameters
    ----------
    on_loss
        Called once when it is lost, with the stream and the error.
    """

    def __init__(self, on_loss: Callable[[CaptureStream, AcoupiError], None]) -> None:
        self._on_loss = on_loss
        self._lock = threading.Lock()
        self._stream: CaptureStream | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def look_at(self, stream: CaptureStream) -> None:
        """Watch this stream instead of the previous one."""
        with self._lock:
            self._stream = stream
            stream.watch()
            if self._thread is None or not self._thread.is_alive():
                self._stopping = threading.Event()
                self._thread = threading.Thread(
                    target=self._run, args=(self._stopping,), name="microphone-watch", daemon=True
                )
                self._thread.start()

    def stop(self) -> None:
        """Stop watching, without waiting for the thread."""
        with self._lock:
            if self._stream is not None:
                self._stream.watch(is_watched=False)
            self._stream = None
            self._stopping.set()

    def _run(self, stopping: threading.Event) -> None:
        while not stopping.wait(WATCH_SECONDS):
            with self._lock:
                stream = self._stream
                error = stream.loss if stream is not None else None
                if stream is not None and error is not None:
                    stream.watch(is_watched=False)
                    self._stream = None
            if stream is not None and error is not None:
                self._on_loss(stream, error)


class Keeper:
    """Opens a device in a separate thread, at a later time or as soon as possible.

    Parameters
    ----------
    open_device
        Called with the seconds of warm-up; raises `DeviceUnavailableError`
        while it is unavailable. Any other error ends the attempts.
    on_failure
        Called for each failure to open it.
    """

    def __init__(
        self,
        open_device: Callable[[float], None],
        on_failure: Callable[[AcoupiError], None] = lambda _: None,
    ) -> None:
        self._open_device = open_device
        self._on_failure = on_failure
        self._lock = threading.Lock()
        self._settled = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, delay: float = 0.0, warm_up: float = 0.0) -> None:
        """Start trying, unless it is already trying."""
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
        """Wait until it was opened or the attempts ended, but no longer than this."""
        self._settled.wait(seconds)

    def stop(self) -> None:
        """Stop trying, without waiting for the thread."""
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
                except DeviceUnavailableError as error:
                    self._on_failure(error)
                    if self._rest(pause, cards, stopping):
                        pause = _FIRST_PAUSE
                    else:
                        pause = min(2 * pause, _LONGEST_PAUSE)
                except AcoupiError:
                    return  # The next recording gets the error.
                else:
                    return
        finally:
            settled.set()

    @staticmethod
    def _rest(pause: float, cards: frozenset[str], stopping: threading.Event) -> bool:
        """Wait; return whether something was plugged in or unplugged meanwhile."""
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
