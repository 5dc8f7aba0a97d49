"""The effort ledger: how every second of a deployment was spent.

A recorder stores its recordings, and *notes* of what prevented recording. `ledger` turns these
into a list of spans that covers the deployment
without gaps or overlaps. Internally times are whole microseconds, so that they
add up exactly.
"""

import datetime
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import pairwise, zip_longest
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import ConfigDict, Field

from acoupi import data
from acoupi.data import (
    EffortSpan,
    EffortState,
    IncompleteReason,
    from_microseconds,
    to_microseconds,
)
from acoupi.deferred import DeferredModel
from acoupi.timelines import (
    Fact,
    Piece,
    Slot,
    begins,
    between_slots,
    clipped,
    joined,
    painted,
    rest,
)
from acoupi.windows import DailyWindows, SolarWindows, planned_spans

__all__ = [
    "CapturePlan",
    "Captured",
    "DailyWindows",
    "EffortHistory",
    "PlanFrom",
    "SolarWindows",
    "gap_now",
    "horizon",
    "last_sign_of_life",
    "ledger",
    "plan_throughout",
]

NOTE_SECONDS = 30.0
"""Longest time between two updates of an ongoing note, seconds."""

_SECOND = 1_000_000
_CLOCK_NOISE = _SECOND // 2
"""Tolerated difference between the times of two recordings of one stream and their frames."""


class CapturePlan(DeferredModel):
    """When a program plans to record."""

    model_config = ConfigDict(frozen=True)

    duration: float = Field(gt=0, allow_inf_nan=False)
    """Length of a recording, seconds."""
    interval: float = Field(gt=0, allow_inf_nan=False)
    """Seconds from the start of one recording to the next; at most `duration`: no gaps."""
    windows: tuple[DailyWindows | SolarWindows, ...] = ()
    """All of them must hold; empty: day and night."""
    timezone: str = "UTC"
    """IANA name of the local time zone, for days and hours."""

    @property
    def is_continuous(self) -> bool:
        """Whether recordings follow each other without gaps."""
        return self.interval <= self.duration


@dataclass(frozen=True, slots=True)
class PlanFrom:
    """A plan, and when it took effect."""

    since: datetime.datetime
    plan: CapturePlan


@dataclass(frozen=True, slots=True)
class Captured:
    """What the ledger needs from a recording; times in microseconds since 1970."""

    start: int
    end: int
    samplerate: int
    stream_id: UUID | None = None
    first_frame: int = 0
    frames: int = 0
    gap_before_frames: int = 0
    overruns: tuple[data.Overrun, ...] = ()
    incomplete: IncompleteReason | None = None
    incomplete_words: str | None = None
    is_synchronised: bool | None = None
    """Whether the system clock was synchronised; None: not known."""
    clock_error_s: float | None = None
    """Error of the clock by its own estimate, seconds; None: not known."""
    count: int = 1
    """More than one: it stands for a run of recordings, each as long as planned and in its
    slot, from the start of the first to the end of the last."""
    pauses: int = 0
    """Unplanned time between the recordings of a run, microseconds."""
    analysed_fraction: float = 1.0
    """As in `data.EffortSpan`."""

    @property
    def last_start(self) -> int:
        """Its start; for a run, the start of its last recording."""
        return self.end - (self.end - self.start - self.pauses) // self.count

    @property
    def lost(self) -> int:
        """How much of it was lost, microseconds."""
        return _frames(sum(overrun.frames for overrun in self.overruns), self.samplerate)

    @classmethod
    def of(cls, recording: data.Recording) -> "Captured":
        """Return the facts about a recording, with or without its capture report."""
        start = to_microseconds(recording.created_on)
        end = start + round(recording.duration * _SECOND)
        report = recording.capture
        if report is None:
            return cls(start, end, recording.samplerate)
        return cls(
            start,
            end,
            recording.samplerate,
            report.stream_id,
            report.first_frame,
            report.frames,
            report.gap_before_frames,
            tuple(report.overruns),
            report.incomplete,
            report.incomplete_words,
            True if report.clock_corrected_s else report.clock_synchronised,
            report.clock_error_s,
        )


@dataclass(frozen=True)
class EffortHistory:
    """Everything stored about the effort of a deployment.

    The history of a part also holds what comes just before and after it (the
    recordings on either side), so that the result is the same as for the whole.
    """

    deployment: data.Deployment
    captured: Sequence[Captured] = ()
    """By their start."""
    notes: Sequence[EffortSpan] = ()
    plans: Sequence[PlanFrom] = ()
    """Oldest first; the first applies from the beginning. None: the schedule is unknown."""

    @property
    def timezone(self) -> ZoneInfo:
        """The time zone for days and hours."""
        return ZoneInfo(self.plans[-1].plan.timezone if self.plans else "UTC")


# If several facts apply to a moment, the one with the lowest rank counts. A recording
# is proof. Time that was not planned is no loss, whatever happened then. A wrong clock
# makes every other statement about the time doubtful. Then comes what kept the
# recorder from recording, the most specific first.
_RECORDED, _NOT_PLANNED = 0, 1
_RANKS = {
    EffortState.RECORDED: _RECORDED,
    EffortState.CLOCK_UNKNOWN: 2,
    EffortState.DISK_FULL: 3,
    EffortState.DEVICE_MISSING: 4,
    EffortState.OVERRUN: 5,
    EffortState.CONDITION_REFUSED: 6,
    EffortState.OFF_SCHEDULE: 7,
    EffortState.NOT_RUNNING: 8,
}
_LAST_RANK = 9
_STATE_OF_THE_REST = {
    IncompleteReason.DISK_FULL: EffortState.DISK_FULL,
    IncompleteReason.STOPPED: EffortState.NOT_RUNNING,
    IncompleteReason.CRASHED: EffortState.NOT_RUNNING,
}
"""State of the missing rest of an incomplete recording; any other reason: device missing."""
_GOES_ON = {
    True: (IncompleteReason.DISK_FULL,),
    False: (IncompleteReason.DISK_FULL, IncompleteReason.DEVICE_LOST, IncompleteReason.OTHER),
}
"""Why a recording ended early that may also delay the start of the next one, by whether both are
from the same stream."""
_CARRIED = {
    True: (EffortState.DISK_FULL, EffortState.NOT_RUNNING),
    False: (EffortState.DISK_FULL, EffortState.DEVICE_MISSING),
}
"""Notes that stay in effect until there is a recording, by whether it is of the same stream as the
one before: if it is, the recorder was running, and its note means that nobody asked it."""
_FEW = 20
"""Most notes to look back at to find a cause."""

Known = tuple[int, int, EffortState, str]
PlanSpan = tuple[int, int, CapturePlan | None]
"""Start and end of a plan; None: the schedule is not known."""

BETWEEN = "between recordings"
OUTSIDE = "outside the hours of the schedule"
NO_PLAN = "the schedule of the program is unknown"
NO_REASON = "nothing was recorded, for no known reason"
TOO_LATE = "the recorder came too late: the buffer no longer held it"
READ_LATE = "sound was lost before it could be read"
NOT_READY = "the microphone was not ready"
AT_THE_SEAM = "lost between two recordings"
TO_THE_END = "nothing more was recorded until the deployment ended"


def ledger(
    history: EffortHistory,
    now: datetime.datetime,
    *,
    since: datetime.datetime | None = None,
    until: datetime.datetime | None = None,
) -> list[EffortSpan]:
    """Return how every moment of a deployment was spent.

    Where several facts apply to a moment, the first of these counts:

    1. there is a recording of it (lost frames within it are none): recorded;
    2. it was not planned, being outside the daily hours or between two
       recordings on an interval: off schedule;
    3. what was noted: clock unknown, disk full, device missing, overrun
       (also where a recording's report says so), condition refused, off
       schedule, not running.

    Planned time about which nothing is known continues the note before it, for as long as a
    recorder may leave a note without an update. Otherwise, a gap between two recordings that is
    shorter than one slot counts as lost between them (overrun); any other as not running.

    The slots of a plan with an interval follow the recordings: each recording starts a slot, and
    missed slots are whole intervals after the previous one, or before the first; without
    recordings they are multiples of the interval since 1970. A slot is planned if it starts in the
    deployment, under the plan and in its hours; it lasts as long as one recording.

    Parameters
    ----------
    history
        Of the deployment.
    now
        Taken as its end if it has not ended.
    since, until
        Only this part of it; None: from its beginning, to its end.

    Returns
    -------
    list of EffortSpan
        In order, without gap or overlap, from the beginning of the
        deployment (or `since`) to its end (or `until`), to the microsecond.
        Adjacent spans differ in state or detail.
    """
    begin = to_microseconds(history.deployment.started_on)
    end = to_microseconds(history.deployment.ended_on or now)
    first = begin if since is None else max(begin, to_microseconds(since))
    last = end if until is None else min(end, to_microseconds(until))
    if last <= first:
        return []
    plans = _plans(history, begin, end)
    # Ongoing notes from before affect what follows, so the window is widened a little.
    margin = max((_patience(plan) for _, _, plan in plans), default=0) + _CLOCK_NOISE
    low, high = max(begin, first - margin), min(end, last + margin)
    notes = sorted(history.notes, key=lambda note: note.start)
    facts, slots = _facts_of_recordings(history.captured, notes, plans)
    for span in notes:
        facts.append(_fact(span.start, span.end, span.state, span.detail))
    for since_us, until_us, plan in plans:
        held = since_us, until_us
        facts += _not_planned(plan, history, slots, held, (low, high))
    pieces = _explained(painted(facts, low, high), plans, over_from=_over_from(history, end))
    return list(_spans(joined(clipped(pieces, first, last))))


def _spans(pieces: Iterable[Known]) -> Iterator[EffortSpan]:
    """Yield adjacent pieces as spans; each time is converted once."""
    begin: datetime.datetime | None = None
    for start, stop, state, detail in pieces:
        begin = from_microseconds(start) if begin is None else begin
        end = from_microseconds(stop)
        yield EffortSpan(begin, end, state, detail)
        begin = end


def plan_throughout(plans: Sequence[PlanFrom], low: int, high: int) -> CapturePlan | None:
    """Return the plan that is in force from `low` to `high`; None if it is not one alone."""
    before = [one.plan for one in plans if to_microseconds(one.since) <= low] or [
        one.plan for one in plans[:1]
    ]
    changes = any(low < to_microseconds(one.since) < high for one in plans[1:])
    return None if changes or not before else before[-1]


def gap_now(history: EffortHistory, now: datetime.datetime) -> EffortSpan | None:
    """Return what prevents recording now: no microphone, or a full disk.

    None if sound was recorded since the last such note, or the next attempt is overdue.
    """
    last = max(history.notes, key=lambda note: note.end, default=None)
    if last is None or last.state not in (EffortState.DEVICE_MISSING, EffortState.DISK_FULL):
        return None
    next_s = max((one.plan.duration + one.plan.interval for one in history.plans[-1:]), default=0)
    is_overdue = (now - last.end).total_seconds() > NOTE_SECONDS + max(next_s, NOTE_SECONDS / 2)
    is_recorded = any(one.end > to_microseconds(last.end) for one in history.captured)
    return None if is_overdue or is_recorded else last


def horizon(history: EffortHistory, now: datetime.datetime) -> datetime.datetime:
    """Return the time up to which a deployment can be accounted for.

    If the last sign of life is recent, it is that time: the recording in progress is not stored
    yet. If there was none for long, it is now: something is wrong.
    """
    plan = history.plans[-1].plan if history.plans else None
    silent = to_microseconds(now) - _last_trace(history, now)
    if history.deployment.ended_on is not None or silent <= _patience(plan):
        return last_sign_of_life(history, now)
    return now


def last_sign_of_life(history: EffortHistory, now: datetime.datetime) -> datetime.datetime:
    """Return when a deployment ended, or else its last recording or note; never after `now`."""
    if history.deployment.ended_on is not None:
        return history.deployment.ended_on
    return max(from_microseconds(_last_trace(history, now)), history.deployment.started_on)


def _last_trace(history: EffortHistory, now: datetime.datetime) -> int:
    ends = [one.end for one in history.captured]
    ends += [to_microseconds(note.end) for note in history.notes]
    return min(max(ends, default=0), to_microseconds(now))


# Known facts


def _fact(
    start: datetime.datetime, end: datetime.datetime, state: EffortState, detail: str
) -> Fact:
    return to_microseconds(start), to_microseconds(end), _RANKS[state], state, detail


def _plans(history: EffortHistory, begin: int, end: int) -> list[PlanSpan]:
    """Return the plans with their start and end; they cover the deployment."""
    starts = [to_microseconds(one.since) for one in history.plans[1:]]
    bounds = [begin, *(min(max(start, begin), end) for start in starts), end]
    plans: list[CapturePlan | None] = [one.plan for one in history.plans] or [None]
    return [(*span, plan) for span, plan in zip(pairwise(bounds), plans, strict=True)]


def _patience(plan: CapturePlan | None) -> int:
    """Return the longest time that a working recorder may leave no trace."""
    seconds = NOTE_SECONDS if plan is None else NOTE_SECONDS + plan.duration + 2 * plan.interval
    return round(seconds * _SECOND)


def _facts_of_recordings(
    captured: Sequence[Captured], notes: Sequence[EffortSpan], plans: Sequence[PlanSpan]
) -> tuple[list[Fact], list[Slot]]:
    """Return the facts of the recordings, and the slots they fill."""
    facts: list[Fact] = []
    slots: list[Slot] = []
    ordered = sorted(captured, key=lambda one: one.start)
    before: Captured | None = None
    for one, after in zip_longest(ordered, ordered[1:]):
        end = one.end
        if after is not None and _continues(one, after) and _is_near(end, after.start):
            end = after.start  # They are adjacent: frames are more exact than the clock.
        facts += _recorded(one, end)
        slot, lost = _gap(one, before, _plan_at(plans, one.start))
        if lost:
            facts += _reasons(lost, one, before, notes)
        if one.incomplete is not None:
            planned = _planned_end(slot[1], end, _plan_at(plans, slot[0]))
            state = _STATE_OF_THE_REST.get(one.incomplete, EffortState.DEVICE_MISSING)
            facts.append((end, planned, _RANKS[state], state, one.incomplete_words or ""))
        slots.append(slot)
        if one.count > 1:
            slots.append((one.last_start, one.last_start))
        before = one
    return facts, sorted(slots)


def _continues(one: Captured, after: Captured) -> bool:
    return (
        one.stream_id is not None
        and one.stream_id == after.stream_id
        and one.first_frame + one.frames == after.first_frame
    )


def _is_near(time: int, other: int) -> bool:
    return abs(time - other) <= _CLOCK_NOISE


def _recorded(one: Captured, end: int) -> Iterator[Fact]:
    """Yield the recorded parts of a recording, and the parts lost within it."""
    start = one.start
    for overrun in sorted(one.overruns, key=lambda overrun: overrun.frame):
        offset = max(0, overrun.frame - one.first_frame)
        lost_from = min(one.start + _frames(offset, one.samplerate), end)
        lost_to = min(one.start + _frames(offset + overrun.frames, one.samplerate), end)
        if offset + overrun.frames >= one.frames:
            lost_to = end
        if start < lost_from:
            yield start, lost_from, _RECORDED, EffortState.RECORDED, ""
        if max(start, lost_from) < lost_to:
            rank = _RANKS[EffortState.OVERRUN]
            yield max(start, lost_from), lost_to, rank, EffortState.OVERRUN, READ_LATE
        start = max(start, lost_to)
    if start < end:
        yield start, end, _RECORDED, EffortState.RECORDED, ""


def _frames(count: int, samplerate: int) -> int:
    return round(count * _SECOND / samplerate)


def _gap(
    one: Captured, before: Captured | None, plan: CapturePlan | None
) -> tuple[Slot, list[tuple[int, int]]]:
    """Return a recording's slot, and the planned time that was lost before it.

    In a plan with an interval, the loss is the start of its own slot, and
    whole slots before it. A slot is planned for the length of one recording: a late recording
    that lasts beyond its slot makes up for its late start.
    """
    if not one.gap_before_frames:
        return (one.start, one.start), []
    if plan is None or plan.is_continuous:
        start = one.start - _frames(one.gap_before_frames, one.samplerate)
        if before is not None and _is_near(before.end, start):
            start = before.end
        return (start, start), [(start, one.start)]
    length, every = round(plan.duration * _SECOND), round(plan.interval * _SECOND)
    # Whole recordings are counted in frames: they may not last whole microseconds.
    missed, late = divmod(one.gap_before_frames, max(1, round(plan.duration * one.samplerate)))
    slot = one.start - _frames(late, one.samplerate)
    begin = max(slot, min(one.start, one.end - length))
    starts = [(slot - number * every) for number in range(missed, 0, -1)]
    return (slot, begin), [*((start, start + length) for start in starts), (begin, one.start)]


def _reasons(
    lost: Iterable[tuple[int, int]],
    one: Captured,
    before: Captured | None,
    notes: Sequence[EffortSpan],
) -> Iterator[Fact]:
    """Yield why the planned time before a recording was lost.

    A full disk or missing microphone that was the last known state continues until there is a
    recording again, and so does a recorder's note that it was not asked to record.
    """
    is_same_stream = before is not None and before.stream_id == one.stream_id
    state, detail = EffortState.OVERRUN, TOO_LATE
    if not is_same_stream:  # The stream began too late.
        state, detail = EffortState.DEVICE_MISSING, NOT_READY
    if before is not None and before.incomplete in _GOES_ON[is_same_stream]:
        state = _STATE_OF_THE_REST.get(before.incomplete, EffortState.DEVICE_MISSING)
        detail = before.incomplete_words or detail
    last = _last_note(notes, before, one)
    carried_from = one.start
    if last is not None and last.state in _CARRIED[is_same_stream]:
        carried_from = to_microseconds(last.start)
    for start, end in lost:
        middle = min(max(start, carried_from), end)
        # Notes from that time explain better why a stream began too late.
        yield start, middle, _RANKS[state] if is_same_stream else _LAST_RANK, state, detail
        if last is not None and middle < end:
            rank = _RANKS[last.state] if is_same_stream else _LAST_RANK
            yield middle, end, rank, last.state, last.detail


def _last_note(
    notes: Sequence[EffortSpan], before: Captured | None, one: Captured
) -> EffortSpan | None:
    """Return the last of the notes (by their start) that were made between two recordings."""
    first = 0 if before is None else before.end
    upto = bisect_left(notes, one.start, key=lambda note: to_microseconds(note.start))
    for note in reversed(notes[max(0, upto - _FEW) : upto]):
        if note.state is not EffortState.OFF_SCHEDULE:
            return note if to_microseconds(note.end) > first else None
    return None


def _plan_at(plans: Sequence[PlanSpan], time: int) -> CapturePlan | None:
    """Return the plan in force at a time."""
    return next((plan for since, until, plan in plans if since <= time < until), None)


def _planned_end(slot: int, end: int, plan: CapturePlan | None) -> int:
    return end if plan is None else max(end, slot + round(plan.duration * _SECOND))


# Time that was not planned


def _not_planned(
    plan: CapturePlan | None,
    history: EffortHistory,
    slots: Sequence[Slot],
    held: tuple[int, int],
    window: tuple[int, int],
) -> Iterator[Fact]:
    if plan is None:
        return
    # A slot that is planned may have begun a little before the window.
    reach = 0 if plan.is_continuous else round(2 * plan.interval * _SECOND)
    low, high = max(held[0], window[0] - reach), min(held[1], window[1])
    if high <= low:
        return
    outside = sorted(
        span
        for windows in plan.windows
        for span in rest(planned_spans(windows, low, high, history.deployment), low, high)
    )
    for start, end in outside:
        yield start, end, _NOT_PLANNED, EffortState.OFF_SCHEDULE, OUTSIDE
    if plan.is_continuous:
        return
    length = round(plan.duration * _SECOND)
    slot_begins = begins(plan.interval, slots, held, (low, high))
    runs = ((one.start, one.end) for one in history.captured if one.count > 1)
    hours = rest(merge(outside, runs), low, high)
    for start, end in between_slots(length, slot_begins, hours):
        yield start, end, _NOT_PLANNED, EffortState.OFF_SCHEDULE, BETWEEN


# From facts to spans


def _explained(
    pieces: Sequence[Piece],
    plans: Sequence[PlanSpan],
    *,
    over_from: int,
) -> Iterator[Known]:
    """Give each piece without a fact the most likely state.

    After `over_from` there is no further trace, and the deployment has ended.
    """
    cause: Known | None = None
    for number, (start, end, state, detail) in enumerate(pieces):
        if state is None:
            plan = _plan_at(plans, start)
            seam = _is_seam(pieces, number, plan)
            yield start, end, *_guess(end, cause, plan, is_seam=seam, is_last=start >= over_from)
            continue
        if state is EffortState.RECORDED:
            cause = None
        elif state is not EffortState.OFF_SCHEDULE:
            cause = (start, end, state, detail)
        yield start, end, state, detail


def _guess(
    end: int, cause: Known | None, plan: CapturePlan | None, *, is_seam: bool, is_last: bool
) -> tuple[EffortState, str]:
    if cause is not None and end - cause[1] <= _patience(plan):
        return cause[2], cause[3]
    if plan is None:
        return EffortState.OFF_SCHEDULE, NO_PLAN
    if is_seam:
        return EffortState.OVERRUN, AT_THE_SEAM
    return EffortState.NOT_RUNNING, TO_THE_END if is_last else NO_REASON


def _is_seam(pieces: Sequence[Piece], number: int, plan: CapturePlan | None) -> bool:
    """Whether a piece is between two recordings, and shorter than a recording."""
    if plan is None or not 0 < number < len(pieces) - 1:
        return False
    start, end, *_ = pieces[number]
    neighbours = {pieces[number - 1][2], pieces[number + 1][2]}
    return neighbours == {EffortState.RECORDED} and end - start < plan.duration * _SECOND


def _over_from(history: EffortHistory, end: int) -> int:
    if history.deployment.ended_on is None:
        return end
    ends = [one.end for one in history.captured]
    ends += [to_microseconds(note.end) for note in history.notes]
    return max(ends, default=0)
