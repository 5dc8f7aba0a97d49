"""Connected regions of a spectrogram that arrives in blocks.

A spectrogram is mostly below any useful threshold, so the cells above it are
kept as *runs*: neighbouring bins of one frame above the threshold. Runs of
nearby frames that share bins belong to one region. A region that reaches the
end of a block stays open: the runs that may still grow are carried into the
next block, so neither memory nor the result depends on where blocks end.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["REGION", "RegionFinder"]

REGION = np.dtype(
    [("first", "i8"), ("last", "i8"), ("low", "i4"), ("high", "i4"), ("peak", "f4"), ("sum", "f4")],
)
"""First and last frame, low and high bin (all inside the region), its largest value, and the
largest sum of neighbouring values in one frame."""

_RUN = np.dtype([("frame", "i8"), ("low", "i4"), ("high", "i4"), ("region", REGION)])
"""Position of a run, and the state of its region so far."""

Table = NDArray[np.void]
Indices = NDArray[np.intp]


class RegionFinder:
    """Collects the regions of a spectrogram, block by block.

    Parameters
    ----------
    threshold
        Cells above it belong to a region.
    gap
        Number of frames without a cell that a region may span.
    """

    def __init__(self, threshold: float, gap: int) -> None:
        self.threshold = threshold
        self.reach = gap + 1
        self._next_frame = 0
        self._open = np.empty(0, _RUN)
        self._links = np.empty((2, 0), np.intp)

    def add(self, block: NDArray[np.float32]) -> Table:
        """Add the next frames, and return the regions that are complete with them.

        Parameters
        ----------
        block
            Shape ``(frames, bins)``, contiguous. The first and the last bin
            must not be above the threshold.

        Returns
        -------
        Table of dtype `REGION`, in no particular order.
        """
        runs = np.concatenate([self._open, self._runs(block)])
        self._next_frame += len(block)
        return self._settle(runs, block.shape[1], self._next_frame - self.reach)

    def finish(self) -> Table:
        """Return the regions that were still open."""
        bins = int(self._open["high"].max(initial=0)) + 2
        return self._settle(self._open, bins, self._next_frame)

    def _runs(self, block: NDArray[np.float32]) -> Table:
        above = (block > self.threshold).ravel()
        edges = np.flatnonzero(above[1:] != above[:-1]) + 1
        runs = np.zeros(len(edges) // 2, _RUN)
        if not len(edges):
            return runs
        frame, runs["low"] = np.divmod(edges[::2], block.shape[1])
        runs["frame"] = frame + self._next_frame
        runs["high"] = (edges[1::2] - 1) % block.shape[1]
        region = runs["region"]
        region["first"] = region["last"] = runs["frame"]
        region["low"], region["high"] = runs["low"], runs["high"]
        region["peak"] = np.maximum.reduceat(block.ravel(), edges)[::2]
        region["sum"] = np.add.reduceat(block.ravel(), edges)[::2]
        return runs

    def _settle(self, runs: Table, bins: int, still_open: int) -> Table:
        """Join runs into regions; keep those open after `still_open`, return the rest."""
        links = np.concatenate([self._links, _links(runs, bins, self.reach)], axis=1)
        owner = _components(len(runs), *links)
        regions = _united(runs["region"], owner)
        closed = regions["last"] < still_open
        growing = ~closed[owner] & (runs["frame"] >= still_open)
        self._open, owner = runs[growing], owner[growing]
        self._open["region"] = regions[owner]
        together = np.argsort(owner, kind="stable")
        same = owner[together][1:] == owner[together][:-1]
        self._links = np.stack([together[:-1][same], together[1:][same]])
        return regions[closed]


def _links(runs: Table, bins: int, reach: int) -> Indices:
    """Return pairs of runs at most `reach` frames apart with touching bins, corners included.

    The runs are in order of frame and bin; shape of the result: (2, pairs).
    """
    first_cell = runs["frame"] * bins + runs["low"]
    last_cell = runs["frame"] * bins + runs["high"]
    pairs = []
    for frames in range(1, reach + 1):
        begin = np.searchsorted(last_cell, first_cell + frames * bins - 1, side="left")
        end = np.searchsorted(first_cell, last_cell + frames * bins + 1, side="right")
        count = np.maximum(end - begin, 0)
        source = np.repeat(np.arange(len(runs)), count)
        place = np.arange(len(source)) - np.repeat(np.cumsum(count) - count, count)
        pairs.append(np.stack([source, np.repeat(begin, count) + place]))
    return np.concatenate(pairs, axis=1)


def _components(count: int, left: Indices, right: Indices) -> Indices:
    """Return the number of each node's connected component: from 0, shape ``(count,)``.

    Every node takes the smallest label that its component's roots have
    offered each other, until no link joins two labels.
    """
    label = np.arange(count)
    while True:
        a, b = label[left], label[right]
        if np.array_equal(a, b):
            return np.unique(label, return_inverse=True)[1].reshape(count)
        smaller = np.minimum(a, b)
        np.minimum.at(label, a, smaller)
        np.minimum.at(label, b, smaller)
        while not np.array_equal(label, shorter := label[label]):
            label = shorter


def _united(parts: Table, owner: Indices) -> Table:
    """Return, for each owner, the smallest region that holds all its parts."""
    order = np.argsort(owner, kind="stable")
    starts = np.flatnonzero(np.diff(owner[order], prepend=-1))
    united = np.empty(len(starts), REGION)
    if len(starts):
        for field, reduce in (
            ("first", np.minimum),
            ("low", np.minimum),
            ("last", np.maximum),
            ("high", np.maximum),
            ("peak", np.maximum),
            ("sum", np.maximum),
        ):
            united[field] = reduce.reduceat(parts[field][order], starts)
    return united
