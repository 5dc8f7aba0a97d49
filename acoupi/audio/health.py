"""The health of a microphone, measured from its recordings."""

import math
from typing import TYPE_CHECKING

from acoupi import data

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["HealthMeter"]

_WINDOW_SECONDS = 0.05
_QUIET_SHARE = 0.1
"""The noise floor is the level of the quietest tenth of the windows."""
_STUCK_WINDOWS = 2
_STEP_DB = 0.1
_LEVELS = round(-data.LOWEST_DBFS / _STEP_DB) + 100
"""Number of level bins: from the lowest to a little above full scale."""


class HealthMeter:
    """Measures a recording while it is written, block by block.

    Levels are relative to full scale, a sample of 1 being 0 dBFS (so a sine
    that just does not clip has an RMS of -3 dBFS). Where
    channels differ, the worst one counts: the loudest RMS, peak and offset, the
    quietest noise floor; one dead channel makes the recording silent or stuck.

    Parameters
    ----------
    samplerate, channels
        Of the recording.
    sample_bytes
        2 or 4.
    """

    def __init__(self, samplerate: int, channels: int, sample_bytes: int = 2) -> None:
        self._channels = channels
        self._type = f"=i{sample_bytes}"
        self._full = float(2 ** (8 * sample_bytes - 1))
        # A change in the lowest of 16 bits is not sound.
        self._still = 1.0 if sample_bytes == 2 else 2.0**8
        self._window = max(8, round(_WINDOW_SECONDS * samplerate))
        self._frames = 0
        self._clipped = 0
        self._longest_flat = 0
        self._totals: _Totals | None = None

    def add(self, block: bytes | memoryview) -> None:
        """Measure whole frames."""
        import numpy as np  # noqa: PLC0415 - only where something is recorded

        samples = np.frombuffer(block, dtype=self._type).reshape(-1, self._channels)
        if not len(samples):
            return
        if self._totals is None:
            self._totals = _Totals(self._channels)
        for start in range(0, len(samples), self._window):
            self._add_window(self._totals, samples[start : start + self._window])

    def _add_window(self, totals: "_Totals", samples: "NDArray[np.signedinteger]") -> None:
        import numpy as np  # noqa: PLC0415

        values = samples.astype(np.float64)
        sums, squares = values.sum(axis=0), np.einsum("ij,ij->j", values, values)
        low, high = values.min(axis=0), values.max(axis=0)
        self._frames += len(values)
        totals.sums += sums
        totals.squares += squares
        np.minimum(totals.lowest, low, out=totals.lowest)
        np.maximum(totals.highest, high, out=totals.highest)
        top, bottom = self._full - self._still, -self._full
        if (high >= top).any() or (low <= bottom).any():
            self._clipped += int(np.count_nonzero((values >= top) | (values <= bottom)))
        if len(values) < self._window // 2:
            return
        totals.flat = np.where(low == high, totals.flat + 1, 0)
        self._longest_flat = max(self._longest_flat, int(totals.flat.max()))
        powers = np.maximum(0, squares / len(values) - (sums / len(values)) ** 2)
        for channel, power in enumerate(powers):
            level = _decibels(math.sqrt(power) / self._full)
            place = round((level - data.LOWEST_DBFS) / _STEP_DB)
            totals.levels[channel, min(max(place, 0), _LEVELS - 1)] += 1

    def result(self) -> data.MicrophoneHealth | None:
        """Return the measured health; None if nothing was measured."""
        import numpy as np  # noqa: PLC0415

        totals = self._totals
        if totals is None:
            return None
        means = totals.sums / self._frames
        powers = np.maximum(0, totals.squares / self._frames - means**2)
        rms = _decibels(math.sqrt(powers.max()) / self._full)
        peak = float(max(totals.highest.max(), -totals.lowest.min()))
        return data.MicrophoneHealth(
            rms_dbfs=rms,
            peak_dbfs=_decibels(peak / self._full),
            clipped_share=self._clipped / (self._frames * self._channels),
            dc_offset=float(means[np.abs(means).argmax()]) / self._full,
            is_silent=bool((totals.highest - totals.lowest <= 2 * self._still).any()),
            is_stuck=self._longest_flat >= _STUCK_WINDOWS,
            noise_floor_dbfs=min(rms, totals.noise_floor(rms)),
        )


class _Totals:
    """Sums for each channel."""

    def __init__(self, channels: int) -> None:
        import numpy as np  # noqa: PLC0415

        self.sums = np.zeros(channels)
        self.squares = np.zeros(channels)
        self.lowest = np.full(channels, np.inf)
        self.highest = np.full(channels, -np.inf)
        self.flat = np.zeros(channels, dtype=np.int64)
        self.levels = np.zeros((channels, _LEVELS), dtype=np.int64)
        """Number of windows at each level."""

    def noise_floor(self, otherwise: float) -> float:
        """Return the level below which a tenth of the windows lie, dBFS."""
        import numpy as np  # noqa: PLC0415

        counts = self.levels.sum(axis=1)
        if not counts.any():
            return otherwise
        reached = self.levels.cumsum(axis=1) >= (_QUIET_SHARE * counts)[:, np.newaxis]
        return round(float(reached.argmax(axis=1).min()) * _STEP_DB + data.LOWEST_DBFS, 1)


def _decibels(ratio: float) -> float:
    return round(20 * math.log10(ratio), 2) if ratio > 0 else data.LOWEST_DBFS
