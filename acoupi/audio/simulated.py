"""A microphone without a microphone: a file, a folder of files, or a made-up soundscape."""

import os
import re
import threading
from abc import abstractmethod
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from acoupi import data
from acoupi.audio.faults import Fault, Script, parse_faults, script_of
from acoupi.audio.sources import SAMPLE_BYTES, WIDE_SAMPLE_BYTES, AudioSource, Sink
from acoupi.errors import AcoupiError, ConfigurationError, RecordingError
from acoupi.rights import ReadOnly

__all__ = ["VARIABLE", "SimulatedAudio", "SimulatedSource"]

VARIABLE = "ACOUPI_SIMULATED_AUDIO"
"""Environment variable that takes the place of every recorder's microphone."""

_BLOCK_SECONDS = 0.02
_OPTION = re.compile(r",\s*(seed|pace|faults)\s*=\s*([^,]*)$")


class SimulatedAudio(BaseModel):
    """What to hear instead of a microphone."""

    model_config = ConfigDict(extra="forbid")

    path: Annotated[Path | None, ReadOnly] = None
    """A WAV file, or a folder of them (in order of name), again and again; None means a
    made-up soundscape of birds and, where the rate allows, bats."""
    seed: int = Field(default=0, ge=0)
    """Of the made-up soundscape: the same seed gives the same sound."""
    pace: Literal["realtime", "fast"] = "realtime"
    """Whether a second of sound takes a second, or as little as possible (for tests)."""
    signal: Literal["soundscape", "counter"] = Field(default="soundscape", repr=False)
    """What is made up: "counter" numbers the frames, to see whether one is lost."""
    faults: Annotated[tuple[Fault, ...], BeforeValidator(parse_faults)] = Field(
        default=(), repr=False
    )
    """What goes wrong, and when."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``PATH``, ``synthetic`` or ``counter``, and options after commas.

        Options are ``seed=3``, ``pace=fast`` and ``faults=unplug:20:10+drift:0:50``
        (kind, seconds from the start, amount: see `Fault`).

        Raises
        ------
        ConfigurationError
            If it is neither.

        Examples
        --------
        >>> SimulatedAudio.parse("synthetic,seed=3,pace=fast")
        SimulatedAudio(path=None, seed=3, pace='fast')
        >>> SimulatedAudio.parse("/data/dawn.wav").path
        PosixPath('/data/dawn.wav')
        """
        rest, options = text.strip(), {}
        while found := _OPTION.search(rest):
            options[found[1]] = found[2].strip()
            rest = rest[: found.start()]
        rest = rest.strip()
        if not rest:
            raise _not_simulated(text, "it names neither a file nor a folder nor synthetic.")
        if rest == "counter":
            options["signal"] = rest
        path = None if rest in ("synthetic", "counter") else Path(rest).expanduser()
        try:
            return cls.model_validate({"path": path, **options})
        except ValueError as error:
            name, value = next(item for item in options.items() if not _is_valid(*item))
            raise _not_simulated(text, f'"{value}" is not possible as {name}.') from error

    @classmethod
    def from_environment(cls) -> Self | None:
        """Return what ``ACOUPI_SIMULATED_AUDIO`` says; None if it is not set or empty."""
        text = os.environ.get(VARIABLE, "").strip()
        return cls.parse(text) if text else None

    def source(
        self, samplerate: int, channels: int, *, owner: Hashable, bits: int = 16
    ) -> "SimulatedSource":
        """Make the source. Nothing is opened before it is started.

        Parameters
        ----------
        samplerate, channels
            Files must have them: nothing is resampled or mixed.
        owner
            Who hears it: each owner's sound is a stream of its own.
        bits
            More than 16: the samples have 32 bits, the sound in the upper 16.
        """
        source = self._make(samplerate, channels, owner)
        source.script = script_of(owner, self.faults)
        if bits > 16:
            source.sample_bytes = WIDE_SAMPLE_BYTES
        return source

    def _make(self, samplerate: int, channels: int, owner: Hashable) -> "SimulatedSource":
        # The arrays are needed only where sound is simulated.
        if self.path is not None:
            from acoupi.audio.playback import PlaybackSource  # noqa: PLC0415

            return PlaybackSource(self.path, samplerate, channels, pace=self.pace, owner=owner)
        if self.signal == "counter":
            from acoupi.audio.counter import CounterSource  # noqa: PLC0415

            return CounterSource(samplerate, channels, pace=self.pace, owner=owner)
        from acoupi.audio.synthetic import SyntheticSource  # noqa: PLC0415

        return SyntheticSource(self.seed, samplerate, channels, pace=self.pace, owner=owner)


class SimulatedSource(AudioSource):
    """Delivers made sound from a thread of its own.

    Parameters
    ----------
    name, samplerate, channels
        As for `AudioSource`.
    pace
        "realtime": every block when a microphone would have it, by the
        monotonic clock, late blocks at once, so that it does not drift.
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
        """What goes wrong."""
        self._owner = owner
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def key(self) -> Hashable:
        """The owner: two simulated microphones have nothing in common."""
        return ("simulated", self._owner)

    @abstractmethod
    def prepare(self) -> None:
        """Look whether there is sound, of the right rate and channels.

        Raises
        ------
        DeviceUnavailableError
            If there is none.
        DeviceConfigurationError
            If it has another rate or number of channels; it says both.
        """

    @abstractmethod
    def blocks(self, frames: int) -> Iterator[bytes | memoryview]:
        """Yield the sound from its beginning, without end, in blocks of at most so many frames."""

    def start(self, sink: Sink) -> None:
        """Begin to deliver (see `AudioSource.start`)."""
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
        # Where nothing takes time, the frames tell the time.
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
                # A block is there when its last frame was heard.
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
        """Yield what is heard, or how many frames a fault swallows, and whether the driver says."""
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


def _is_valid(name: str, value: str) -> bool:
    try:
        SimulatedAudio.model_validate({name: value})
    except ValueError:
        return False
    return True


def _not_simulated(text: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f'cannot simulate a microphone from "{text}".',
        "give a WAV file, a folder of them, or synthetic, for example: synthetic,seed=3,pace=fast",
        why=why,
    )
