"""A synthetic soundscape: a quiet night with birds and, where the rate allows, bats."""

from collections.abc import Hashable, Iterator
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from acoupi.audio.simulated_source import SimulatedSource, to_int16

__all__ = ["Chirp", "SyntheticSource", "chirps_of_second", "synthesize_second"]

_NOISE = 10 ** (-66 / 20)
"""Standard deviation of the noise floor: -66 dBFS."""

# Eleven seconds, six of them quiet: no usual interval of recordings is a multiple of it, so that
# none of them always meets the same seconds.
_PATTERN_SECONDS = 11
_BIRD_SECONDS = (1, 2, 3)
_BAT_SECONDS = (6, 7)


class Chirp(NamedTuple):
    """One note or call."""

    start: float
    """Start within its second, seconds; it ends in the same second."""
    duration: float
    first_freq: float
    """Start frequency, Hz."""
    last_freq: float
    """End frequency, Hz."""
    level: float
    """Peak amplitude, 0 to 1."""


class SyntheticSource(SimulatedSource):
    """Makes the soundscape of a seed: frame n is the same in every run.

    Parameters
    ----------
    seed
        Which soundscape.
    samplerate, channels
        Any; every channel has its own noise and the same calls.
    pace, owner
        As for `SimulatedSource`.
    """

    def __init__(
        self,
        seed: int,
        samplerate: int,
        channels: int,
        *,
        pace: Literal["realtime", "fast"],
        owner: Hashable,
    ) -> None:
        super().__init__(f"synthetic, seed {seed}", samplerate, channels, pace=pace, owner=owner)
        self._seed = seed

    def prepare(self) -> None:
        """Nothing to prepare."""

    def blocks(self, frames: int) -> Iterator[memoryview]:
        """Yield the soundscape block by block."""
        second = 0
        while True:
            samples = synthesize_second(self._seed, second, self.samplerate, self.channels)
            for start in range(0, len(samples), frames):
                yield samples[start : start + frames].data.cast("B")
            second += 1


def chirps_of_second(seed: int, second: int, samplerate: int) -> list[Chirp]:
    """Return the notes and calls of one second.

    Parameters
    ----------
    seed
        Which soundscape.
    second
        0 is the first.
    samplerate
        Hz. Bats need 160 kHz; below 16 kHz birds sing lower.

    Returns
    -------
    list of Chirp
        In order of time; empty in quiet seconds.
    """
    random = np.random.default_rng((seed, second, 1))
    if second % _PATTERN_SECONDS in _BIRD_SECONDS:
        scale = min(1.0, samplerate / 16_000)
        notes = int(random.integers(3, 6))
        return [
            Chirp(
                start=0.05 + 0.18 * note + random.uniform(0, 0.03),
                duration=random.uniform(0.08, 0.14),
                first_freq=scale * random.uniform(2_500, 5_500),
                last_freq=scale * random.uniform(2_500, 5_500),
                level=random.uniform(0.05, 0.15),
            )
            for note in range(notes)
        ]
    if second % _PATTERN_SECONDS in _BAT_SECONDS and samplerate >= 160_000:
        first, last = random.uniform(65_000, 76_000), random.uniform(35_000, 45_000)
        return [
            Chirp(
                start=0.03 + 0.1 * call + random.uniform(0, 0.01),
                duration=random.uniform(0.004, 0.006),
                first_freq=first,
                last_freq=last,
                level=random.uniform(0.05, 0.2),
            )
            for call in range(9)
        ]
    return []


def synthesize_second(seed: int, second: int, samplerate: int, channels: int) -> NDArray[np.int16]:
    """Make one second of the soundscape, shape ``(samplerate, channels)``."""
    random = np.random.default_rng((seed, second, 0))
    sound = random.standard_normal((samplerate, channels), dtype=np.float32)
    sound *= np.float32(_NOISE)
    for chirp in chirps_of_second(seed, second, samplerate):
        first = round(chirp.start * samplerate)
        wave = _sweep(chirp, samplerate)[: samplerate - first, np.newaxis]
        sound[first : first + len(wave)] += wave
    return to_int16(sound)


def _sweep(chirp: Chirp, samplerate: int) -> NDArray[np.float32]:
    """Make one chirp: a linear sweep under a raised cosine."""
    frames = max(1, round(chirp.duration * samplerate))
    time = np.arange(frames) / samplerate
    slope = (chirp.last_freq - chirp.first_freq) / chirp.duration
    phase = 2 * np.pi * (chirp.first_freq * time + slope * time**2 / 2)
    shape = np.sin(np.pi * np.arange(frames) / frames) ** 2
    return (chirp.level * shape * np.sin(phase)).astype(np.float32)
