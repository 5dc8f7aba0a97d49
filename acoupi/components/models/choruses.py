"""Choruses: many sounds in succession, too many to tell apart, with pauses between them."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["with_choruses_merged"]

Table = NDArray[np.void]

ULTRASONIC = 96_000
"""Samplerate, Hz, from which sounds are assumed to be of bats and bush-crickets."""
CROWDED, CROWDED_ULTRASONIC = 16, 48
"""Sounds a second from which single ones cannot be told apart by ear or eye: one busy bird
sings up to about 10 notes a second, three feeding bats call up to about 40 times."""
SUSTAINED = 3
"""Seconds for which every second must be crowded."""
BESIDE = 1.3
"""How far beyond the frequencies of nine tenths of its sounds a chorus reaches, as a ratio."""
STANDS_OUT = 10 ** (5 / 10)
"""Power over that of the loudest tenth of a chorus, above which a sound is one of its own."""


def with_choruses_merged(regions: Table, frames: int, seconds: float, crowded: float) -> Table:
    """Make one region of the sounds of each chorus, except of those that stand out.

    Parameters
    ----------
    regions
        Table of dtype `regions.REGION`.
    frames, seconds
        Length of the recording.
    crowded
        Sounds a second that make a chorus where `SUSTAINED` seconds hold as many each.
    """
    count = max(1, int(seconds))
    second = np.minimum(regions["first"] * count // max(frames, 1), count - 1)
    is_crowded = np.bincount(second, minlength=count) >= crowded * seconds / count
    edges = np.flatnonzero(np.diff(is_crowded, prepend=False, append=False))
    for begin, end in edges.reshape(-1, 2).tolist():
        if end - begin < SUSTAINED:
            continue
        inside = (second >= begin) & (second < end)
        members = inside & _are_ordinary(regions, inside)
        regions = np.concatenate([regions[~members], _chorus(regions[members])])
        second = np.append(second[~members], -1)
    return regions


def _are_ordinary(regions: Table, inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which regions are neither louder than a chorus nor beside its frequencies."""
    crowd = regions[inside]
    is_usual = regions["sum"] <= STANDS_OUT * np.quantile(crowd["sum"], 0.9)
    middle = (regions["low"] + regions["high"]) / 2
    low, high = np.quantile(middle[inside], [0.05, 0.95]) * [1 / BESIDE, BESIDE]
    ordinary: NDArray[np.bool_] = is_usual & (middle >= low) & (middle <= high)
    return ordinary


def _chorus(members: Table) -> Table:
    """Return one region around the members, as loud as most of them."""
    whole = np.empty(1, members.dtype)
    for side, reduce in (("first", np.min), ("low", np.min), ("last", np.max), ("high", np.max)):
        whole[side] = reduce(members[side])
    for loudness in ("peak", "sum"):
        whole[loudness] = np.median(members[loudness])
    return whole
