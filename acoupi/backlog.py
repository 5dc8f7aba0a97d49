"""The backlog policy: which recordings to skip when models are slower than the microphone.

Choices depend on the times of recordings, never on their content, and are made for whole spans
of time. So the analysed share of a span, its *analysed fraction*, is known, and detections in it
can be scaled: a rate is detections / (hours x fraction).
"""

import datetime
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, NamedTuple
from uuid import UUID

from acoupi import data
from acoupi.data import from_microseconds, to_microseconds
from acoupi.effort import CapturePlan
from acoupi.pace import FEWEST, SLACK, TOLERANCE, Pace
from acoupi.timelines import rest
from acoupi.windows import planned_spans

__all__ = [
    "Backlog",
    "Change",
    "LeftOut",
    "Policy",
    "Waiting",
    "choose",
    "has_pauses",
    "recording_ends",
]

Policy = Literal["none", "thin", "newest_first", "nightly"]

ENOUGH = 6
"""Analyses to measure before anything is skipped, which cannot be undone."""
_DAY = datetime.timedelta(days=1)
_BLOCK = datetime.timedelta(minutes=15)
"""Span of time that is skipped as a whole."""


@dataclass(frozen=True)
class Backlog:
    """What to do about recordings that wait for models; by default nothing."""

    policy: Policy = "none"
    limit_hours: float = 4.0
    """Hours of work that may wait."""
    keep_files: bool = False
    """Whether the files of skipped recordings are kept, regardless of the saving filters."""
    plan: CapturePlan | None = None
    """When the program records."""

    @property
    def is_on(self) -> bool:
        """Whether there is a policy."""
        return self.policy != "none"

    @property
    def longest_wait_hours(self) -> float:
        """How long a recording may normally wait, hours; 0: the policy sets no limit."""
        if not self.is_on:
            return 0.0
        return self.limit_hours + (24 if self.policy == "nightly" else 0)

    def holds_back(self, deployment: data.Deployment, now: datetime.datetime) -> bool:
        """Return whether models pause now, because the deployment is recording."""
        if self.policy != "nightly" or deployment.ended_on is not None:
            return False
        return self.recording_ends(deployment, now) is not None

    def recording_ends(
        self, deployment: data.Deployment, now: datetime.datetime
    ) -> datetime.datetime | None:
        """Return when the current recording hours end; None: not in any, or not within a day."""
        return None if self.plan is None else recording_ends(self.plan, deployment, now)


def recording_ends(
    plan: CapturePlan, deployment: data.Deployment, now: datetime.datetime
) -> datetime.datetime | None:
    """Return when the recording hours around a time end; None: in none, or not within a day."""
    low, high = to_microseconds(now), to_microseconds(now + _DAY)
    end = min((start for start, _ in _pauses(plan, deployment, low, high)), default=high)
    return from_microseconds(end) if low < end < high else None


def has_pauses(plan: CapturePlan, deployment: data.Deployment, now: datetime.datetime) -> bool:
    """Return whether there are minutes of the next day in which it does not record."""
    low, high = to_microseconds(now), to_microseconds(now + _DAY)
    return any(end - start > 60e6 for start, end in _pauses(plan, deployment, low, high))


def _pauses(
    plan: CapturePlan, deployment: data.Deployment, low: int, high: int
) -> Iterator[tuple[int, int]]:
    """Yield the times at which a time condition does not hold, for each condition."""
    for windows in plan.windows:
        gaps = rest(planned_spans(windows, low, high, deployment), low, high)
        yield from ((start, end) for start, end in gaps if start < end)


class Waiting(NamedTuple):
    """A recording that no model has started to analyse."""

    id: UUID
    deployment_id: UUID
    created_on: datetime.datetime


@dataclass(frozen=True)
class Change:
    """From now on every n-th recording is analysed; 1: all."""

    every: int
    reason: str


@dataclass(frozen=True)
class LeftOut:
    """Recordings of a span of time that are not analysed."""

    deployment_id: UUID
    start: datetime.datetime
    end: datetime.datetime
    recordings: frozenset[UUID]
    reason: str


def choose(
    backlog: Backlog, pace: Pace | None, waiting: Sequence[Waiting], now: datetime.datetime
) -> Iterator[Change | LeftOut]:
    """Yield changes for the waiting recordings.

    Parameters
    ----------
    backlog
        The policy.
    pace
        Measured; nothing is skipped until the duration of an analysis is well known.
    waiting
        Oldest first.
    now
        The present time.
    """
    takes = None if pace is None else pace.seconds_per_analysis
    if pace is not None and pace.every > 1 and backlog.policy != "thin":
        yield Change(1, "another policy is set")
    elif pace is not None and pace.every > 1 and len(waiting) < FEWEST:
        yield Change(1, "nothing is waiting any more")
    elif takes and pace is not None and pace.measured >= ENOUGH:
        most = max(FEWEST, int(3600 * backlog.limit_hours / takes))
        if len(waiting) > most:
            yield from _CHOICES[backlog.policy](pace, waiting, most, now)


def _thin(
    pace: Pace, waiting: Sequence[Waiting], most: int, now: datetime.datetime
) -> Iterator[Change | LeftOut]:
    """Analyse every k-th new recording; thin the waiting ones if they are far too many."""
    takes, comes = pace.seconds_per_analysis, pace.seconds_per_recording
    if takes and comes and pace.is_slower:
        every = math.ceil(TOLERANCE * takes / comes)
        if every > pace.every:
            yield Change(every, f"{takes:.3g} s per recording, one comes every {comes:.3g} s")
    if len(waiting) > 2 * most:
        yield from _thin_waiting(pace, waiting, most, now)


def _thin_waiting(
    pace: Pace, waiting: Sequence[Waiting], most: int, now: datetime.datetime
) -> Iterator[LeftOut]:
    """Keep every k-th of the waiting recordings."""
    if len(waiting) <= SLACK * most:
        return
    every = math.ceil(len(waiting) / most)
    numbered = enumerate(waiting)
    for deployment, group in groupby(numbered, key=lambda one: one[1].deployment_id):
        own = list(group)
        left_out = frozenset(one.id for number, one in own if number % every)
        last = own[-1][1]
        end = now if last is waiting[-1] else last.created_on + _BLOCK
        reason = f"{len(waiting)} were waiting, more than {most}: 1 of {every} is analysed"
        yield LeftOut(deployment, own[0][1].created_on, end, left_out, reason)


def _leave_oldest(
    pace: Pace, waiting: Sequence[Waiting], most: int, now: datetime.datetime
) -> Iterator[LeftOut]:
    """Skip waiting recordings of the oldest complete quarters of an hour."""
    left = len(waiting)
    for (deployment, block), group in groupby(
        waiting, key=lambda one: (one.deployment_id, _block_of(one.created_on))
    ):
        if left <= most or block + _BLOCK > now:
            return
        ids = frozenset(one.id for one in group)
        left -= len(ids)
        yield LeftOut(
            deployment, block, block + _BLOCK, ids, f"more than {most} newer ones were waiting"
        )


def _block_of(time: datetime.datetime) -> datetime.datetime:
    return time - (time - data.from_microseconds(0)) % _BLOCK


_CHOICES = {
    "none": lambda *_: iter(()),
    "thin": _thin,
    "newest_first": _leave_oldest,
    "nightly": _thin_waiting,
}
