"""What simulated microphones have in common: sound from a thread, paced, with scripted faults."""

import threading
from abc import abstractmethod
from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING, Literal

from acoupi import data
from acoupi.audio.faults import Script
from acoupi.audio.sources import SAMPLE_BYTES, AudioSource, Sink
from acoupi.errors import AcoupiError, RecordingError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["SimulatedSource", "to_int16"]

_BLOCK_SECONDS = 0.02


class SimulatedSource(AudioSource):
    """Delivers simulated sound from a separate thread.

    Parameters
    ----------
    name, samplerate, channels
        As for `AudioSource`.
    pace
        "realtime": each block when a microphone would deliver it, by the
        monotonic clock; late blocks follow at once, so that it does not drift.
        "fast": as soon as there is room for it.
    owner
        As for `SimulatedAudio.source`.
    """

    def __init__(
        self,
        name: str,
        samplerate: int,
        channels: int,
        *,
        pace: Literal["realtime", "fast"],
        owner: Hashable,
    ) -> None:
        super().__init__(name, samplerate, channels)
        self.waits_for_reader = pace == "fast"
        self.script = Script(())
        """Scripted faults."""
        self._owner = owner
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def key(self) -> Hashable:
        """The owner: simulated microphones of different owners share nothing."""
        return ("simulated", self._owner)

    @abstractmethod
    def prepare(self) -> None:
        """Check that there is sound, with the right rate and number of channels.

        Raises
        ------
        DeviceUnavailableError
            If there is none.
        DeviceConfigurationError
            If it has another rate or number of channels; the message gives both.
        """

    @abstractmethod
    def blocks(self, frames: int) -> Iterator[bytes | memoryview]:
        """Yield endless sound from its beginning, in blocks of at most this many frames."""

    def start(self, sink: Sink) -> None:
        """Start to deliver (see `AudioSource.start`)."""
        self.script.open(self.name)
        self.prepare()
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(sink, self._stopping), name="simulated-audio", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        thread, self._thread = self._thread, None
        self._stopping.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=5)

    def _run(self, sink: Sink, stopping: threading.Event) -> None:
        try:
            self._deliver_all(sink, stopping)
        except AcoupiError as error:
            sink.fail(error)
        except Exception as error:  # noqa: BLE001 - the edge of a thread
            sink.fail(
                RecordingError(
                    f'the simulated microphone "{self.name}" failed.',
                    "check its files",
                    why=f"{type(error).__name__}: {error}",
                )
            )

    def _deliver_all(self, sink: Sink, stopping: threading.Event) -> None:
        script, rate = self.script, self.samplerate * self.script.speed
        began = data.monotonic()
        # With pace=fast no time passes, so the frames are the clock.
        before = script.frames / rate if self.waits_for_reader else began - (script.began or began)
        frame = lost = 0
        script.now = before
        for block, gone, is_told in self._pieces():
            frames = gone or len(block) // (SAMPLE_BYTES * self.channels)
            time, captured = before + frame / rate, began + frame / rate
            frame += frames
            script.frames += frames
            script.now = before + frame / rate
            if gone:
                lost += gone if is_told else 0
                continue
            if not self.waits_for_reader:
                # A block is available when its last frame has been captured.
                wait = began + frame / rate - data.monotonic()
                if wait > 0:
                    stopping.wait(wait)
            if stopping.is_set():
                return
            known = {"lost": lost} if lost and self.waits_for_reader else {}
            view = self._finish(script.change(block, time))
            if not sink.deliver(view, captured, overrun=lost > 0, **known):
                return
            lost = 0

    def _pieces(self) -> Iterator[tuple[memoryview, int, bool]]:
        """Yield sound, or how many frames a fault swallows and whether the driver reports it."""
        frame_bytes = SAMPLE_BYTES * self.channels
        to_drop, is_told = 0, True
        for block in self.blocks(max(1, round(_BLOCK_SECONDS * self.samplerate))):
            view = memoryview(block).cast("B")
            if fault := self.script.due("unplug", self.script.now):
                raise self.script.unplug(fault, self.name)
            for kind in ("stall", "overrun", "loss"):
                if fault := self.script.due(kind, self.script.now):
                    to_drop += round(fault.amount * self.samplerate)
                    is_told = kind != "loss"
            dropped = min(to_drop, len(view) // frame_bytes)
            if dropped:
                to_drop -= dropped
                yield view[:0], dropped, is_told
            if dropped * frame_bytes < len(view):
                yield view[dropped * frame_bytes :], 0, True

    def _finish(self, block: memoryview) -> memoryview:
        """Return the block in samples of the wanted width."""
        if self.sample_bytes == SAMPLE_BYTES:
            return block
        import numpy as np  # noqa: PLC0415 - only where sound is simulated

        return (np.frombuffer(block, dtype="<i2").astype("=i4") << 16).data.cast("B")


def to_int16(samples: "NDArray[np.float32]") -> "NDArray[np.int16]":
    """Turn samples in [-1, 1] into 16-bit integers; those of 16-bit files come back unchanged."""
    import numpy as np  # noqa: PLC0415 - only where sound is simulated

    whole: NDArray[np.float32] = np.rint(samples * np.float32(32768))
    np.clip(whole, np.float32(-32768), np.float32(32767), out=whole)
    return whole.astype(np.int16)
