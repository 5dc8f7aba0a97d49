"""A source whose every block a test delivers by hand."""

from collections.abc import Callable, Hashable

import numpy as np
import pytest

from acoupi.audio.sources import AudioSource, Sink


class HandSource(AudioSource):
    """Delivers what a test tells it to: frame n has the value n in every channel."""

    def __init__(self, samplerate: int = 1000, channels: int = 1, *, waits: bool = False) -> None:
        super().__init__("hand", samplerate, channels)
        self.waits_for_reader = waits
        self.sink: Sink | None = None
        self.frame = 0
        self.starts = 0
        self.stops = 0
        self.error: Exception | None = None

    @property
    def key(self) -> Hashable:
        return "hand"

    def start(self, sink: Sink) -> None:
        self.starts += 1
        if self.error is not None:
            raise self.error
        self.sink = sink

    def stop(self) -> None:
        self.stops += 1

    def deliver(self, frames: int, time: float = 0.0, *, overrun: bool = False) -> bool:
        assert self.sink is not None
        block = counter(self.frame, frames, self.channels)
        self.frame += frames
        return self.sink.deliver(memoryview(block), time, overrun=overrun)


def counter(start: int, frames: int, channels: int = 1) -> bytes:
    column = np.arange(start, start + frames).astype("<i2")
    return np.repeat(column, channels).tobytes()


@pytest.fixture(scope="session")
def hand_source() -> type[HandSource]:
    return HandSource


@pytest.fixture(scope="session")
def frames_from() -> Callable[..., bytes]:
    return counter
