"""The streams that are open in this process: one for each device, kept between recordings."""

import os
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from acoupi.audio.sources import AudioSource
from acoupi.audio.stream import CaptureStream
from acoupi.errors import DeviceUnavailableError

__all__ = ["StreamPool", "streams"]


@dataclass
class _Entry:
    stream: CaptureStream
    users: int = 0


class StreamPool:
    """Opens each device once, however many recorders use it.

    A stream stays open after use, so that the next recording need not wait
    for the device. It is opened anew when its device has failed, or when
    nobody uses it and another rate or number of channels is asked for.
    (Closing a stream in a long idle time belongs here: design §5.)
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._entries: dict[Hashable, _Entry] = {}
        self._process = os.getpid()

    @contextmanager
    def using(
        self, make_source: Callable[[], AudioSource], *, keep: bool = True
    ) -> Iterator[CaptureStream]:
        """Lend an open stream of a source.

        Parameters
        ----------
        make_source
            Describes the source; cheap, opens nothing.
        keep
            Whether to leave the stream open afterwards.

        Raises
        ------
        DeviceError
            As `AudioSource.start`; also if the device is in use by this
            process at another rate.
        """
        source = make_source()
        with self._lock:
            entry, is_new = self._entry_for(source)
            entry.users += 1
        failed = True
        try:
            yield entry.stream
            failed = False
        finally:
            with self._lock:
                entry.users -= 1
                if not entry.users and (failed or (is_new and not keep)):
                    self._drop(source.key, entry)

    def close(self, key: Hashable) -> None:
        """Close the stream of a device unless it is in use."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None and not entry.users and os.getpid() == self._process:
                self._drop(key, entry)

    def close_idle(self) -> int:
        """Close every stream that is not in use; return how many."""
        with self._lock:
            idle = [(key, entry) for key, entry in self._entries.items() if not entry.users]
            for key, entry in idle:
                self._drop(key, entry)
            return len(idle)

    def _entry_for(self, source: AudioSource) -> tuple[_Entry, bool]:
        if os.getpid() != self._process:
            # A fork has the memory of its parent's streams and none of their threads.
            self._entries, self._process = {}, os.getpid()
        entry = self._entries.get(source.key)
        if entry is not None and self._serves(entry, source):
            return entry, False
        if entry is not None:
            self._drop(source.key, entry)
        entry = _Entry(self._open(source))
        self._entries[source.key] = entry
        return entry, True

    def _serves(self, entry: _Entry, source: AudioSource) -> bool:
        stream = entry.stream
        fits = (stream.samplerate, stream.channels) == (source.samplerate, source.channels)
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

    def _open(self, source: AudioSource) -> CaptureStream:
        try:
            return CaptureStream(source).open()
        except DeviceUnavailableError:
            # The same device may be held by an idle stream of ours under another name.
            if not self.close_idle():
                raise
        return CaptureStream(source).open()

    def _drop(self, key: Hashable, entry: _Entry) -> None:
        if self._entries.get(key) is entry:
            del self._entries[key]
        entry.stream.close()


streams = StreamPool()
"""The streams of this process."""
