"""Open streams of this process: one per device, kept open between recordings."""

import os
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from acoupi.audio.sources import AudioSource
from acoupi.audio.stream import CaptureStream
from acoupi.errors import DeviceError, DeviceUnavailableError

__all__ = ["StreamPool", "streams"]


@dataclass
class _Entry:
    stream: CaptureStream
    users: int = 0
    is_over: bool = False
    """Whether to close it once it is no longer in use."""


class StreamPool:
    """Opens each device once, however many recorders use it.

    A stream stays open after use, so that the next recording need not wait
    for the device. It is reopened when its device has failed, or when it is
    not in use and another rate or number of channels is requested.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._entries: dict[Hashable, _Entry] = {}
        self._process = os.getpid()

    @contextmanager
    def using(
        self,
        make_source: Callable[[], AudioSource],
        *,
        keep: bool = True,
        ring_seconds: float | None = None,
        warm_up: float = 0.0,
    ) -> Iterator[CaptureStream]:
        """Lend an open stream of a source.

        Parameters
        ----------
        make_source
            Describes the source; cheap, opens nothing.
        keep
            Whether to leave the stream open afterwards.
        ring_seconds, warm_up
            As for `CaptureStream`, if it is opened now.

        Raises
        ------
        DeviceError
            As `AudioSource.start`; also if the device is in use by this
            process at another rate.
        """
        source = make_source()
        with self._lock:
            entry, is_new = self._entry_for(source, ring_seconds, warm_up)
            entry.users += 1
        failed = False
        try:
            yield entry.stream
        except DeviceError as error:
            # A disk error or the end of a task is no reason to drop what the ring holds.
            failed = not isinstance(error.__cause__, OSError)
            raise
        finally:
            with self._lock:
                entry.users -= 1
                if not entry.users and (failed or entry.is_over or (is_new and not keep)):
                    self._drop(source.key, entry)

    def close(self, key: Hashable) -> None:
        """Close the stream of a device unless it is in use."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None and not entry.users and os.getpid() == self._process:
                self._drop(key, entry)

    def open_stream(self, key: Hashable) -> CaptureStream | None:
        """Return the open stream of a device; None if there is none that works."""
        with self._lock:
            entry = self._entries.get(key) if os.getpid() == self._process else None
            return entry.stream if entry is not None and entry.stream.is_alive else None

    def newest(self) -> CaptureStream | None:
        """Return the stream that works and was opened last; None if there is none."""
        with self._lock:
            entries = list(self._entries.values()) if os.getpid() == self._process else []
        return next((one.stream for one in reversed(entries) if one.stream.is_alive), None)

    def close_after_use(self, stream: CaptureStream) -> None:
        """Close a stream as soon as it is no longer in use."""
        with self._lock:
            for key, entry in list(self._entries.items()):
                if entry.stream is stream and os.getpid() == self._process:
                    entry.is_over = True
                    if not entry.users:
                        self._drop(key, entry)

    def close_idle(self) -> int:
        """Close every stream that is not in use; return how many."""
        with self._lock:
            idle = [(key, entry) for key, entry in self._entries.items() if not entry.users]
            for key, entry in idle:
                self._drop(key, entry)
            return len(idle)

    def _entry_for(
        self, source: AudioSource, ring_seconds: float | None, warm_up: float
    ) -> tuple[_Entry, bool]:
        if os.getpid() != self._process:
            # A forked process inherits the memory of its parent's streams but not their threads.
            self._entries, self._process = {}, os.getpid()
        entry = self._entries.get(source.key)
        if entry is not None and self._serves(entry, source):
            return entry, False
        if entry is not None:
            self._drop(source.key, entry)
        entry = _Entry(self._open(source, ring_seconds, warm_up))
        self._entries[source.key] = entry
        return entry, True

    def _serves(self, entry: _Entry, source: AudioSource) -> bool:
        stream = entry.stream
        fits = _settings(stream) == _settings(source)
        if fits and stream.is_alive:
            return True
        if entry.users and not fits and stream.is_alive:
            raise DeviceUnavailableError(
                f'cannot record from "{source.name}" at {source.samplerate} Hz'
                f" with {source.channels} channels.",
                "give both recorders the same settings",
                why=f"another recorder of this process uses it at {stream.samplerate} Hz"
                f" with {stream.channels}.",
            )
        return False

    def _open(
        self, source: AudioSource, ring_seconds: float | None, warm_up: float
    ) -> CaptureStream:
        try:
            return CaptureStream(source, ring_seconds=ring_seconds, warm_up=warm_up).open()
        except DeviceUnavailableError:
            # An idle stream in this pool may hold the same device under another name.
            if not self.close_idle():
                raise
        return CaptureStream(source, ring_seconds=ring_seconds, warm_up=warm_up).open()

    def _drop(self, key: Hashable, entry: _Entry) -> None:
        if self._entries.get(key) is entry:
            del self._entries[key]
        entry.stream.close()


def _settings(it: CaptureStream | AudioSource) -> tuple[int, int, int]:
    return it.samplerate, it.channels, it.sample_bytes


streams = StreamPool()
"""The streams of this process."""
