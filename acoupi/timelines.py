"""Spans on a time axis of whole microseconds, for the effort ledger.

Whole numbers add up exactly. A span is its start and its end, which is the first
moment after it.
"""

import heapq
import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise, zip_longest
from typing import TypeVar

from acoupi.data import EffortState

__all__ = [
    "Fact",
    "Piece",
    "Slot",
    "begins",
    "between_slots",
    "clipped",
    "joined",
    "painted",
    "rest",
]

Fact = tuple[int, int, int, EffortState, str]
"""Start, end, rank, state, detail."""
Piece = tuple[int, int, EffortState | None, str]
"""Start, end, state (None: nothing is known), detail."""
Slot = tuple[int, int]
"""Start of a slot, and of the planned time in it; later if a late recording made up for it."""
S = TypeVar("S")

_SECOND = 1_000_000
_ROUNDING = _SECOND // 1000
"""How early a slot may start, because frames and clocks are rounded."""


def rest(spans: Iterable[tuple[int, int]], low: int, high: int) -> Iterator[tuple[int, int]]:
    """Yield the parts of [low, high) that are in none of the spans, which are sorted."""
    done = low
    for start, end in spans:
        if done < start:
            yield done, min(start, high)
        done = max(done, end)
        if done >= high:
            return
    yield done, high


def begins(
    interval: float, slots: Sequence[Slot], held: tuple[int, int], window: tuple[int, int]
) -> list[int]:
    """Return when the planned time of each slot begins, in order, around a window.

    The interval is in seconds; `held` is when the plan is in force.

    Slots are those of the recordings, and whole intervals before the first and
    after each of them; without recordings, multiples of the interval since 1970. A
    slot counts as missed if no recording begins within half an interval of it.
    """
    every = round(interval * _SECOND)
    first, end = held[0] - _ROUNDING, held[1]
    low, high = window[0] - _ROUNDING, window[1]
    ours = [slot for slot in slots if first <= slot[0] < end]
    if not ours:
        number = math.ceil(held[0] / _SECOND / interval)
        start = round(number * interval * _SECOND)
        ours = [(start, start)] if start < end else []
        if not ours:
            return []
    back = (ours[0][0] - first) // every
    earliest = ours[0][0] - back * every
    found = list(range(earliest + _steps(earliest, low, every), min(ours[0][0], high), every))
    for (slot, begin), following in zip_longest(ours, ours[1:]):
        until = end if following is None else following[0] - every // 2
        if slot >= high:
            break
        if until >= low:
            missed = slot + max(every, _steps(slot, low, every))
            found += [begin, *range(missed, min(until, high), every)]
    return sorted(found)


def _steps(start: int, low: int, every: int) -> int:
    """Return the time from a slot to the last one that starts before `low`; 0: none does."""
    return max(0, (low - start) // every) * every


def between_slots(
    length: int, begins: Sequence[int], hours: Iterable[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """Yield the time between the slots of a length that begin in the hours of the schedule."""
    for start, end in hours:
        done = start
        for index in range(bisect_left(begins, start - _ROUNDING), bisect_left(begins, end)):
            if done < begins[index]:
                yield done, begins[index]
            done = max(done, begins[index] + length)
        if done < end:
            yield done, end


def painted(facts: Iterable[Fact], low: int, high: int) -> list[Piece]:
    """Split [low, high) wherever a fact begins or ends; each piece gets the best fact.

    A piece without facts also counts as not planned if it is only as long as a rounding error and
    next to time off schedule.
    """
    ours = sorted(
        fact
        if low <= fact[0] and fact[1] <= high
        else (max(fact[0], low), min(fact[1], high), *fact[2:])
        for fact in facts
        if fact[0] < fact[1] and fact[0] < high and low < fact[1]
    )
    cuts = {low, high}
    for start, end, *_ in ours:
        cuts |= {start, end}
    pieces: list[Piece] = []
    known: list[tuple[int, int, int, EffortState, str]] = []
    upcoming = 0
    for left, right in pairwise(sorted(cuts)):
        while upcoming < len(ours) and ours[upcoming][0] <= left:
            _, end, rank, state, detail = ours[upcoming]
            heapq.heappush(known, (rank, upcoming, end, state, detail))
            upcoming += 1
        while known and known[0][2] <= left:
            heapq.heappop(known)
        pieces.append((left, right, *known[0][3:]) if known else (left, right, None, ""))
    return joined(_rounded(pieces))


def _rounded(pieces: Sequence[Piece]) -> Iterator[Piece]:
    for number, piece in enumerate(pieces):
        start, end, state, _ = piece
        if state is None and end - start <= _ROUNDING:
            beside = pieces[max(0, number - 1) : number + 2]
            off = [one[3] for one in beside if one[2] is EffortState.OFF_SCHEDULE]
            yield (start, end, EffortState.OFF_SCHEDULE, off[0]) if off else piece
        else:
            yield piece


def clipped(
    pieces: Iterable[tuple[int, int, S, str]], first: int, last: int
) -> Iterator[tuple[int, int, S, str]]:
    """Yield the parts of the pieces that lie in [first, last)."""
    for piece in pieces:
        start, end, state, detail = piece
        if first <= start and end <= last:
            yield piece
        elif max(start, first) < min(end, last):
            yield max(start, first), min(end, last), state, detail


def joined(pieces: Iterable[tuple[int, int, S, str]]) -> list[tuple[int, int, S, str]]:
    """Join adjacent pieces with the same state and detail."""
    found: list[tuple[int, int, S, str]] = []
    before: tuple[int, int, S, str] | None = None
    for piece in pieces:
        if before is None:
            before = piece
        elif before[1] == piece[0] and before[2] == piece[2] and before[3] == piece[3]:
            before = (before[0], piece[1], piece[2], piece[3])
        else:
            found.append(before)
            before = piece
    if before is not None:
        found.append(before)
    return found
