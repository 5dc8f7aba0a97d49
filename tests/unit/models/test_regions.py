"""Regions of a spectrogram do not depend on how it is cut into blocks."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoupi.components.models.regions import REGION, RegionFinder

SHAPE = (24, 12)


def by_flood(cells: np.ndarray, gap: int) -> set[tuple[float, ...]]:
    """The same regions, found one cell at a time."""
    left = {(int(frame), int(column)) for frame, column in np.argwhere(cells > 1)}
    regions = set()
    while left:
        todo = [left.pop()]
        members = []
        while todo:
            frame, column = todo.pop()
            members.append((frame, column))
            near = {
                (other, place)
                for other, place in left
                # along frequency only direct neighbours, along time across the gap
                if (other == frame and abs(place - column) == 1)
                or (0 < abs(other - frame) <= gap + 1 and abs(place - column) <= 1)
            }
            left -= near
            todo.extend(near)
        frames, columns = zip(*members, strict=True)
        peak = max(float(cells[cell]) for cell in members)
        loudest = max(_sums_of_runs(cells, members))
        regions.add((min(frames), max(frames), min(columns), max(columns), peak, loudest))
    return regions


def _sums_of_runs(cells: np.ndarray, members: list[tuple[int, int]]) -> Iterator[float]:
    """Sums of neighbouring members of one frame."""
    total = 0.0
    for frame, column in sorted(members):
        total = float(cells[frame, column]) + (total if (frame, column - 1) in members else 0)
        yield total


def by_finder(cells: np.ndarray, gap: int, cuts: list[int]) -> list[tuple[float, ...]]:
    finder = RegionFinder(threshold=1, gap=gap)
    blocks = np.split(cells, sorted(cuts))
    found = np.concatenate([*(finder.add(block) for block in blocks), finder.finish()])
    return [tuple(region) for region in found.tolist()]


@given(
    seed=st.integers(0, 2**32 - 1),
    share=st.floats(0.02, 0.6),
    gap=st.integers(0, 3),
    cuts=st.lists(st.integers(0, SHAPE[0]), max_size=5),
)
def test_blocks_give_the_regions_that_the_whole_has(
    seed: int, share: float, gap: int, cuts: list[int]
) -> None:
    rng = np.random.default_rng(seed)
    levels = 1 + rng.integers(1, 1024, SHAPE) / 1024  # their sums are exact
    cells = np.where(rng.random(SHAPE) < share, levels, 0).astype(np.float32)
    cells[:, [0, -1]] = 0

    found = by_finder(cells, gap, cuts)

    assert len(found) == len(set(found))
    assert set(found) == by_flood(cells, gap)


def test_nothing_above_the_threshold_is_no_region() -> None:
    finder = RegionFinder(threshold=1, gap=0)

    found = np.concatenate([finder.add(np.ones(SHAPE, np.float32)), finder.finish()])

    assert found.dtype == REGION
    assert len(found) == 0


def test_what_a_finder_carries_does_not_grow_with_the_length_of_a_region() -> None:
    finder = RegionFinder(threshold=1, gap=2)
    block = np.zeros((500, 64), np.float32)
    block[:, 10:20] = 2

    ended = sum(len(finder.add(block)) for _ in range(20))

    assert ended == 0
    assert len(finder._open) == finder.reach
    assert finder.finish()["last"].tolist() == [9_999]


@pytest.mark.parametrize("blocks", [1, 7])
def test_a_spiral_is_one_region(blocks: int) -> None:
    cells = np.zeros((64, 64), np.float32)
    for turn in range(2, 30, 4):
        cells[turn : 64 - turn, [turn, 63 - turn]] = 2
        cells[[turn, 63 - turn], turn : 64 - turn] = 2
        cells[turn + 2, turn - 4 + 4 : turn + 4] = 2

    finder = RegionFinder(threshold=1, gap=0)
    found = [finder.add(np.ascontiguousarray(part)) for part in np.array_split(cells, blocks)]

    united = np.concatenate([*found, finder.finish()])
    assert len(united) == len(by_flood(cells, 0))
