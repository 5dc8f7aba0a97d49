"""What is no call in a spectrogram: knocks and their rings, wind, and what never pauses.

Cells hold power over the background noise of their bin: shape ``(frames, bins)``.
"""

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["CONTEXT", "cleaned", "never_pausing"]

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]

CONTEXT = 16
"""Most frames before and after a cell by which it is judged."""
KNOCK = 2.5
"""A knock lifts a frame by this factor over the quietest of the `BEFORE` frames before it."""
BEFORE = 8
RING, RING_FADES, RING_FRAMES = 10 ** (25 / 10), 10 ** (-5 / 10), 4
"""A ring is at most so far above its knock, fades by this factor a frame, and is over after so
many: a quality of 12 at 600 Hz makes 7 dB a frame at 48 kHz, a higher frequency more."""
HIDDEN = np.float32(10 ** (7 / 10))
"""Most that is left of a ring: it can belong to a sound, and does not make one."""
GUST = 8
"""Frames before and after over which wind is averaged; twice as many are a power of 2."""
PEAKED = 3
"""How many times its average a gust is taken away: it has peaks, most of all when it overloads."""
RECURS = 0.1
"""Quantile of the moments: what never pauses is missing from fewer than these."""
RECURRING = 10 ** (4 / 10)
"""Power over background from which a sound is more than a fluctuation of noise."""
CROWD, CROWDED = 6, 0.25
"""Bins with sound at once that make a crowd, in all instants but this share: about two animals.
One is in half as many, and pauses."""
USUAL = 0.95
"""Quantile of the cells that is the level of what never pauses."""
NEAR = np.linspace(0.965, 1.035, 15)[:, np.newaxis]
"""Ratios of frequency over which the level of what never pauses reaches: its calls sweep, and
those of a crowd leave gaps between them."""


def cleaned(snr: Floats, band: Flags, ringing: int) -> Floats:
    """Return the cells divided by how far knocks and wind lifted them.

    Parameters
    ----------
    snr
        Power over background.
    band
        Which bins are searched, shape ``(bins,)``.
    ringing
        The first so many bins are those in which a knock can ring.
    """
    return _without_rumble(_without_knocks(snr, band, ringing))


def _without_knocks(snr: Floats, band: Flags, ringing: int) -> Floats:
    """Divide each frame by how far most of its bins rose above the background at once.

    A call is in a few bins at a time; a drop of rain, a crackle or a knock is in most. Twice
    as far, since the spectrum of so short a sound has few independent bins.
    """
    searched = np.flatnonzero(band)
    if not len(searched):
        return snr
    # A third of the bins tell the median as well, and three times as fast.
    level = np.median(snr[:, searched[0] : searched[-1] + 1 : 3], axis=1)
    rise: Floats = np.maximum(level * np.float32(2 / math.log(2)) - 1, 1)
    rest: Floats = snr / rise[:, np.newaxis]
    low = np.s_[:, :ringing]
    np.minimum(rest[low], HIDDEN, out=rest[low], where=snr[low] < _rings(rise)[:, np.newaxis])
    return rest


def _rings(rise: Floats) -> Floats:
    """Return the power up to which a cell may be the ring of a knock: shape ``(frames,)``.

    A drop on a leaf or on the housing rings in few bins, like a call, but begins with a knock.
    The buzz of mains is no knock: the sum of two frames that overlap by half is nearly steady.
    """
    steady = rise.copy()
    steady[1:] += rise[:-1]
    quiet = steady.copy()
    for lag in range(1, min(BEFORE + 1, len(rise))):
        np.minimum(quiet[lag:], steady[:-lag], out=quiet[lag:])
    rings = np.where(steady > KNOCK * quiet, np.float32(RING / 2) * steady, np.float32(0))
    longer = rings.copy()
    for lag in range(1, min(RING_FRAMES + 1, len(rise))):
        np.maximum(longer[lag:], rings[:-lag] * np.float32(RING_FADES**lag), out=longer[lag:])
    return longer


def _without_rumble(snr: Floats) -> Floats:
    """Divide each cell by how far all bins from the lowest up to it rose above the background.

    Wind and handling are loudest at the lowest frequency and reach up from there without a
    gap; below a call there is one. `PEAKED` times as far.
    """
    window = 2 * GUST
    padded = np.pad(snr, ((GUST, GUST - 1), (0, 0)), mode="edge")
    while window > 1:
        padded = padded[: len(padded) - window // 2] + padded[window // 2 :]
        window //= 2
    mean = padded / (2 * GUST)
    # From bin 2: the lower ones hold direct current.
    level = np.minimum.accumulate(mean[:, 1:-2] + mean[:, 2:-1] + mean[:, 3:], axis=1)
    level *= np.float32(PEAKED / 3)
    level -= np.float32(PEAKED - 1)
    calm = snr.copy()
    calm[:, 2:-1] /= np.maximum(level, 1, out=level)
    return calm


def never_pausing(moments: Floats) -> Floats:
    """Return the power over background of sounds that are present nearly all the time.

    That is the buzz of mains or a cricket, which come back in the same bin within each moment,
    or a crowd of animals, some of which are heard in every instant.

    Parameters
    ----------
    moments
        Averaged cells of moments spread over a stretch, shape ``(moments, frames, bins)``.

    Returns
    -------
    Shape ``(bins,)``, 1 where nothing of the kind is heard.
    """
    recurs = np.quantile(moments.max(axis=1), RECURS, axis=0) > RECURRING
    filled = np.count_nonzero(moments[:, 0] > RECURRING, axis=1)
    if np.quantile(filled, CROWDED) >= CROWD:
        recurs[:] = True
    level = np.ones(len(recurs), np.float32)
    if recurs.any():
        usual = np.quantile(np.concatenate(moments), USUAL, axis=0)
        near = np.rint(NEAR * np.arange(len(level))).astype(int)
        usual = usual[np.minimum(near, len(level) - 1)].max(axis=0)
        level[recurs] = np.maximum(1, usual)[recurs]
    return level
