"""A test signal in which every missing or repeated frame shows."""

from collections.abc import Hashable, Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from acoupi.audio.simulated_source import SimulatedSource

__all__ = ["TURN", "CounterSource", "count_frames"]

TURN = 32_767
"""The counter runs from 1 to this and starts over; 0 is silence."""


class CounterSource(SimulatedSource):
    """Counts its frames, in every channel.

    Parameters
    ----------
    samplerate, channels, pace, owner
        As for `SimulatedSource`.
    """

    def __init__(
        self,
        samplerate: int,
        channels: int,
        *,
        pace: Literal["realtime", "fast"],
        owner: Hashable,
    ) -> None:
        super().__init__("counter", samplerate, channels, pace=pace, owner=owner)

    def prepare(self) -> None:
        """Nothing to prepare."""

    def blocks(self, frames: int) -> Iterator[memoryview]:
        """Yield the counter block by block."""
        start = 0
        while True:
            yield count_frames(start, frames, self.channels).data.cast("B")
            start += frames


def count_frames(start: int, frames: int, channels: int = 1) -> NDArray[np.int16]:
    """Return frames of the counter, shape ``(frames, channels)``.

    Examples
    --------
    >>> count_frames(32_765, 4)[:, 0].tolist()
    [32766, 32767, 1, 2]
    """
    column = (np.arange(start, start + frames) % TURN + 1).astype("<i2")
    return np.repeat(column[:, np.newaxis], channels, axis=1)
