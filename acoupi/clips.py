"""Clips: the seconds around detections that are kept when the rest of a file is deleted.

Clips are planned in frames of the stream that the recordings were cut from, so that a clip is the
same to the sample whichever files its sound was in.
"""

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from acoupi import data

__all__ = [
    "LONGEST_S",
    "Clip",
    "ClipSettings",
    "Piece",
    "Stretch",
    "merged",
    "pieces",
    "true_time",
]

LONGEST_S = 60.0
"""A clip of this length, seconds, ends with its recording, and the next clip continues it.

Otherwise a chorus without pauses would become one endless file."""


@dataclass(frozen=True, slots=True)
class ClipSettings:
    """How much is kept around a detection, seconds; by default whole files are kept."""

    are_on: bool = False
    before: float = 1.0
    after: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """A file with the sound around some detections."""

    id: UUID
    path: Path
    stream_id: UUID
    first_frame: int
    """First frame, counted in the stream as in `captures.CaptureReport`."""
    frames: int
    samplerate: int
    """Samplerate of the original sound, Hz."""
    missing_before_s: float = 0.0
    """Seconds before it that should be in it but were not recorded; likewise after it."""
    missing_after_s: float = 0.0
    parts: Mapping[UUID, float]
    """The recordings that its sound is from, the earliest first, and the seconds from the first
    frame of each to that of the clip: negative where the clip begins earlier."""


def true_time(recording: data.Recording, seconds: float) -> datetime.timedelta:
    """Return the frames from the start of a recording to a time in it, in seconds.

    The microphone's own rate differs a little from the nominal one.
    """
    report = recording.capture
    measured = report.samplerate_measured if report is not None else None
    return datetime.timedelta(
        seconds=seconds * recording.samplerate / (measured or recording.samplerate)
    )


class Stretch(NamedTuple):
    """Frames of a stream, the last not included."""

    first: int
    last: int


class Piece(NamedTuple):
    """The plan of one clip."""

    first: int
    last: int
    missing_before: int
    """Frames before it that should be in it but are missing; likewise after it."""
    missing_after: int


def merged(stretches: Iterable[Stretch]) -> list[Stretch]:
    """Return stretches in order, with touching ones merged.

    Examples
    --------
    >>> merged([Stretch(5, 9), Stretch(0, 5), Stretch(20, 30)])
    [Stretch(first=0, last=9), Stretch(first=20, last=30)]
    """
    found: list[Stretch] = []
    for one in sorted(stretches):
        if found and one.first <= found[-1].last:
            found[-1] = Stretch(found[-1].first, max(found[-1].last, one.last))
        else:
            found.append(one)
    return found


def pieces(
    windows: Iterable[Stretch],
    there: Stretch,
    edges: Sequence[int],
    covered: Iterable[Stretch],
    longest: int,
) -> Iterator[Piece]:
    """Yield the clips still to make from an unbroken part of a stream.

    Parameters
    ----------
    windows
        What should be kept.
    there
        The stretches that are in files.
    edges
        Where one of them ends and the next begins, in order.
    covered
        The stretches that are already in clips.
    longest
        Length in frames from which a clip ends at the next edge.
    """
    done = merged(covered)
    is_continued = any(one.first < there.first <= one.last for one in done)
    for window in merged(windows):
        kept = Stretch(max(window.first, there.first), min(window.last, there.last))
        for first, last in _cut(_without(kept, done), edges, longest):
            is_first, is_last = first == there.first and not is_continued, last == there.last
            before = max(0, there.first - window.first) if is_first else 0
            after = max(0, window.last - there.last) if is_last else 0
            yield Piece(first, last, before, after)


def _without(stretch: Stretch, covered: Iterable[Stretch]) -> Iterator[Stretch]:
    """Yield the rest of a stretch without the others, which are sorted."""
    first = stretch.first
    for one in covered:
        if first < one.first < stretch.last:
            yield Stretch(first, one.first)
        if one.last > first and one.first < stretch.last:
            first = one.last
    if first < stretch.last:
        yield Stretch(first, stretch.last)


def _cut(stretches: Iterable[Stretch], edges: Sequence[int], longest: int) -> Iterator[Stretch]:
    for first, last in stretches:
        begin = first
        for edge in edges:
            if begin + longest <= edge < last:
                yield Stretch(begin, edge)
                begin = edge
        yield Stretch(begin, last)
