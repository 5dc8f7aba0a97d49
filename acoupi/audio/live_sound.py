"""What is shown and heard of a microphone now: spectra with few columns, and sound made audible.

It needs numpy, and is imported only once somebody watches.
"""

import math

import numpy as np
from numpy.typing import NDArray

from acoupi import data

__all__ = [
    "BINS",
    "COLUMNS_PER_SECOND",
    "Audible",
    "Spectra",
    "first_channel",
    "levels_of",
]

BINS = 256
"""Frequencies of a column, equally far apart on a logarithmic scale."""
COLUMNS_PER_SECOND = 20
LOWEST_DB, STEP_DB = -120.0, 0.5
"""A byte b of a spectrum stands for LOWEST_DB + b * STEP_DB, in dBFS of a sine."""

_OCTAVES = 7
_FFT = 2048
_AUDIBLE_FFT = 512
_MOST_AUDIBLE_HZ = 50_000
"""Highest rate at which sound is sent to people."""
_ULTRASOUND_HZ = 100_000
"""Samplerate above which frequencies are divided for people."""
DIVISION = 10
_CHUNK_HOPS = 9

Samples = NDArray[np.float32]


def first_channel(block: bytes, channels: int, sample_bytes: int) -> Samples:
    """Return the samples of the first channel, full scale being 1."""
    samples = np.frombuffer(block, dtype=f"=i{sample_bytes}")[::channels]
    return samples.astype(np.float32) * np.float32(2.0 ** (1 - 8 * sample_bytes))


class Spectra:
    """Makes columns of a picture: the loudest of each band in a twentieth of a second.

    Parameters
    ----------
    samplerate
        Hz.
    """

    def __init__(self, samplerate: int) -> None:
        self.high_hz = samplerate / 2
        self.low_hz = self.high_hz / 2**_OCTAVES
        self.frames = max(_FFT, samplerate // COLUMNS_PER_SECOND)
        """How many frames `column` is given: at low rates columns overlap."""
        edges = self.low_hz * 2 ** (np.arange(BINS) * _OCTAVES / BINS)
        self._starts = np.minimum(edges * _FFT / samplerate, _FFT // 2).astype(np.intp)
        self._window = np.hanning(_FFT).astype(np.float32)
        self._scale = float((2 / self._window.sum()) ** 2)
        count = math.ceil(self.frames / _FFT)
        first = np.linspace(0, self.frames - _FFT, count).astype(np.intp)
        self._places = first[:, np.newaxis] + np.arange(_FFT)

    def column(self, samples: Samples) -> bytes:
        """Return the levels of the bands, the lowest first."""
        spectra = np.fft.rfft(samples[self._places] * self._window)
        power = (spectra.real**2 + spectra.imag**2).max(axis=0)
        loudest = np.maximum.reduceat(power, self._starts) * self._scale
        decibels = 10 * np.log10(loudest + 1e-13)
        levels = np.clip(np.rint((decibels - LOWEST_DB) / STEP_DB), 0, 255)
        return levels.astype(np.uint8).tobytes()


def levels_of(samples: Samples) -> tuple[float, float]:
    """Return the RMS without offset, and the peak, dBFS (a sample of full scale being 0)."""
    power, peak = float(samples.var()), float(np.abs(samples).max())
    return _decibels(math.sqrt(power)), _decibels(peak)


def _decibels(ratio: float) -> float:
    return max(data.LOWEST_DBFS, 20 * math.log10(ratio)) if ratio > 0 else data.LOWEST_DBFS


class Audible:
    """Turns sound, while it comes, into sound that people hear, at a rate that browsers play.

    Each short-time spectrum is moved to a tenth of its frequencies if it holds ultrasound, and
    added up again from windows that overlap by half. Where bin k is moved to bin j, the phase
    of frame m turns by π(j - k)m, the difference of what both advance in half a window, so that
    tones stay tones. Time is not stretched: it can be heard while it happens.

    Parameters
    ----------
    samplerate
        Of the sound that comes, Hz.
    """

    def __init__(self, samplerate: int) -> None:
        step = math.ceil(samplerate / _MOST_AUDIBLE_HZ)
        self.samplerate = round(samplerate / step)
        """Samplerate of the returned sound, Hz."""
        self.division = DIVISION if samplerate > _ULTRASOUND_HZ else 1
        self._size = _AUDIBLE_FFT * step
        self.hop = self._size // 2
        self.frames = _CHUNK_HOPS * self.hop
        """How many frames `add` is given."""
        self.chunk_bytes = _CHUNK_HOPS * _AUDIBLE_FFT
        """Size of what it returns: half as many samples of 16 bits."""
        bins = np.arange(_AUDIBLE_FFT // 2 * self.division)[: self._size // 2]
        self._bins = len(bins)
        self._targets = bins // self.division
        self._starts = np.flatnonzero(np.diff(self._targets, prepend=-1))
        self._signs = np.where((bins - self._targets) % 2, -1.0, 1.0)
        self._window = _half_sine(self._size)
        self._shape = _half_sine(_AUDIBLE_FFT)
        self._before = np.zeros(self.hop, np.float32)
        self._tail = np.zeros(_AUDIBLE_FFT // 2)
        self._number = 0

    def add(self, samples: Samples) -> bytes:
        """Return the next piece: samples of 16 bits, little-endian, one channel."""
        whole = np.concatenate((self._before, samples))
        self._before = samples[-self.hop :]
        pieces = [
            self._piece(whole[first : first + self._size])
            for first in range(0, self.frames, self.hop)
        ]
        found = np.clip(np.concatenate(pieces) * 32767, -32768, 32767)
        return found.astype("<i2").tobytes()

    def _piece(self, frame: Samples) -> NDArray[np.float64]:
        spectrum = np.fft.rfft(frame * self._window)[: self._bins]
        self._number += 1
        if self._number % 2:
            spectrum = spectrum * self._signs
        moved = np.zeros(_AUDIBLE_FFT // 2 + 1, complex)
        sums = np.add.reduceat(spectrum, self._starts)
        moved[: len(sums)] = sums
        made = np.fft.irfft(moved) * self._shape * (_AUDIBLE_FFT / self._size)
        piece = self._tail + made[: _AUDIBLE_FFT // 2]
        self._tail = made[_AUDIBLE_FFT // 2 :]
        return np.asarray(piece)


def _half_sine(size: int) -> Samples:
    """Return a window of which the squares of two that overlap by half add up to 1."""
    return np.sin(np.pi * (np.arange(size) + 0.5) / size).astype(np.float32)
