"""The effort of a deployment by day and by hour, from what the store knows."""

import datetime
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any, NamedTuple, Protocol
from zoneinfo import ZoneInfo

from acoupi import data
from acoupi.clock import shown_in_utc
from acoupi.data import EffortSpan, EffortState
from acoupi.effort import (
    Captured,
    CapturePlan,
    EffortHistory,
    PlanFrom,
    horizon,
    last_sign_of_life,
    ledger,
)
from acoupi.errors import ConfigurationError, ParameterError
from acoupi.space import FileClass, GivenUp

__all__ = [
    "Day",
    "Effort",
    "EffortSource",
    "Gap",
    "Part",
    "Tally",
    "Times",
    "find_deployment",
    "measure",
    "read_effort",
    "read_parts",
]

_MICROSECOND = datetime.timedelta(microseconds=1)
_PART = 86_400 * 1_000_000
"""How much is read from the store at once, microseconds, so that a season fits in memory.

Parts end at midnight, UTC, which no run of recordings crosses."""


Times = Sequence[tuple[datetime.datetime, datetime.datetime]]


@dataclass
class Tally:
    """How long each state lasted, in whole microseconds, so that it adds up."""

    microseconds: dict[EffortState, int] = field(
        default_factory=lambda: dict.fromkeys(EffortState, 0)
    )
    suspect: int = 0
    """Recorded time in which the microphone was deaf, by its own trend; it counts as recorded."""
    left_out: float = 0.0
    """Recorded time that no model analyses for lack of time, microseconds; it stays recorded."""

    def add_span(self, span: EffortSpan, microseconds: int) -> None:
        """Count some of a span."""
        self.add(span.state, microseconds)
        if span.state is EffortState.RECORDED:
            self.left_out += microseconds * (1 - span.analysed_fraction)

    def add(self, state: EffortState, microseconds: int) -> None:
        """Count a stretch of time."""
        self.microseconds[state] += microseconds

    def seconds(self, state: EffortState) -> float:
        """Return how long a state lasted, seconds."""
        return self.microseconds[state] / 1e6

    @property
    def total(self) -> float:
        """All of it, seconds."""
        return sum(self.microseconds.values()) / 1e6

    @property
    def planned(self) -> float:
        """Planned time: everything except off schedule, seconds."""
        return self.total - self.seconds(EffortState.OFF_SCHEDULE)

    @property
    def recorded(self) -> float:
        """Seconds."""
        return self.seconds(EffortState.RECORDED)

    @property
    def analysed(self) -> float:
        """Recorded time without what no model analyses, seconds: the effort of detections."""
        return self.recorded - self.left_out / 1e6

    @property
    def share(self) -> float | None:
        """Coverage: recorded share of the planned time, 0 to 1; None: nothing was planned."""
        planned = sum(self.microseconds.values()) - self.microseconds[EffortState.OFF_SCHEDULE]
        return self.microseconds[EffortState.RECORDED] / planned if planned else None

    def as_json(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        return {
            "total_s": self.total,
            "planned_s": round(self.planned, 6),
            "recorded_s": self.recorded,
            "microphone_suspect_s": self.suspect / 1e6,
            "left_out_s": round(self.left_out / 1e6, 6),
            "captured_share": self.share,
            "states_s": {state.value: self.seconds(state) for state in EffortState},
        }


@dataclass
class Day:
    """One local day."""

    date: datetime.date
    tally: Tally = field(default_factory=Tally)
    hours: dict[int, Tally] = field(default_factory=dict)
    """By local hour, 0 to 23; when the clocks are set back, two hours count as one."""


@dataclass
class Gap:
    """Planned time of one state that was not recorded, until there is a recording again."""

    start: datetime.datetime
    end: datetime.datetime
    state: EffortState
    details: list[str]
    """The reasons, each once, in order."""
    lost: int
    """Planned time of it, microseconds."""

    @property
    def detail(self) -> str:
        """The reasons as a text."""
        return "; ".join(filter(None, self.details))

    @property
    def lost_seconds(self) -> float:
        """Planned time of it, seconds."""
        return self.lost / 1e6

    def as_json(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        return {
            "start": self.start.isoformat(),
            "end": self.end.isoformat(),
            "state": self.state.value,
            "detail": self.detail,
            "lost_s": self.lost_seconds,
        }


@dataclass
class Effort:
    """What every second of a deployment, or of a part of it, was used for."""

    deployment: data.Deployment
    since: datetime.datetime
    until: datetime.datetime
    timezone: ZoneInfo
    """Time zone of its days and hours."""
    has_plan: bool
    """Whether the schedule is known; without one, no time counts as planned."""
    total: Tally = field(default_factory=Tally)
    suspect: Times = ()
    """When the microphone heard nothing by its own trend; in order, without overlap."""
    deleted: float = 0.0
    """Recorded time whose files were given up after their analysis, seconds."""
    in_clips: float = 0.0
    """How much of it clips hold, seconds."""
    for_room: Mapping[FileClass, GivenUp] = field(default_factory=dict)
    """Recordings given up for lack of room."""
    unsynchronised: int = 0
    """Time recorded before any time server had set the system clock, microseconds."""
    days: list[Day] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    _open: Gap | None = None
    _hour: tuple[Tally, datetime.datetime] | None = None
    """The hour being counted, and when it ends."""

    def add(self, spans: Iterable[EffortSpan]) -> None:
        """Count consecutive spans."""
        for span in spans:
            self.total.add_span(span, (span.end - span.start) // _MICROSECOND)
            self.total.suspect += self.suspect_in(span.state, span.start, span.end)
            self._add_gap(span)
            self._add_hours(span)

    def suspect_in(
        self, state: EffortState, start: datetime.datetime, end: datetime.datetime
    ) -> int:
        """Return for how long of a period the microphone was suspect while it recorded."""
        if state is not EffortState.RECORDED:
            return 0
        shared = (min(end, last) - max(start, first) for first, last in self.suspect)
        return sum(max(0, one // _MICROSECOND) for one in shared)

    def count_unsynchronised(
        self, captured: Iterable[Captured], start: datetime.datetime, end: datetime.datetime
    ) -> None:
        """Count recordings made before any time server had set the clock."""
        low, high = data.to_microseconds(start), data.to_microseconds(end)
        self.unsynchronised += sum(
            max(0, min(one.end, high) - max(one.start, low) - one.lost - one.pauses)
            for one in captured
            if one.is_synchronised is False
        )

    def count_pauses(self, captured: Iterable[Captured]) -> None:
        """Take the pauses of runs, whose spans were counted as recorded, from what was recorded."""
        days = {day.date: day for day in self.days}
        for one in captured:
            if not one.pauses:
                continue
            local = data.from_microseconds(one.start).astimezone(self.timezone)
            day = days[local.date()]
            for tally in (self.total, day.tally, day.hours[local.hour]):
                tally.add(EffortState.RECORDED, -one.pauses)
                tally.add(EffortState.OFF_SCHEDULE, one.pauses)
                tally.left_out -= one.pauses * (1 - one.analysed_fraction)

    def close(self) -> None:
        """Note that there are no more spans."""
        if self._open is not None:
            self.gaps.append(self._open)
        self._open = None

    def _add_gap(self, span: EffortSpan) -> None:
        if span.state is EffortState.OFF_SCHEDULE:
            return  # A gap continues across time that was not planned.
        lost = (span.end - span.start) // _MICROSECOND
        known = self._open
        if known is not None and known.state is span.state:
            known.end, known.lost = span.end, known.lost + lost
            if span.detail not in known.details:
                known.details.append(span.detail)
            return
        self.close()
        if span.state is not EffortState.RECORDED:
            self._open = Gap(span.start, span.end, span.state, [span.detail], lost)

    def _add_hours(self, span: EffortSpan) -> None:
        start = span.start
        while start < span.end:
            if self._hour is None or start >= self._hour[1]:
                self._hour = self._begin_hour(start)
            tally, hour_ends = self._hour
            end = min(span.end, hour_ends)
            microseconds = (end - start) // _MICROSECOND
            tally.add_span(span, microseconds)
            self.days[-1].tally.add_span(span, microseconds)
            suspect = self.suspect_in(span.state, start, end)
            tally.suspect += suspect
            self.days[-1].tally.suspect += suspect
            start = end

    def _begin_hour(self, time: datetime.datetime) -> tuple[Tally, datetime.datetime]:
        local = time.astimezone(self.timezone)
        if not self.days or self.days[-1].date != local.date():
            self.days.append(Day(local.date()))
        tally = self.days[-1].hours.setdefault(local.hour, Tally())
        into = datetime.timedelta(
            minutes=local.minute, seconds=local.second, microseconds=local.microsecond
        )
        return tally, time - into + datetime.timedelta(hours=1)

    def as_json(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        return {
            "deployment": self.deployment.model_dump(mode="json"),
            "since": self.since.isoformat(),
            "until": self.until.isoformat(),
            "timezone": self.timezone.key,
            "schedule_known": self.has_plan,
            **self.total.as_json(),
            "given_up_s": round(self.deleted - self.in_clips, 6),
            "in_clips_s": round(self.in_clips, 6),
            "given_up_for_room": {
                kind.value: {
                    "recordings": one.recordings,
                    "seconds": round(one.seconds, 6),
                    "bytes": one.bytes,
                }
                for kind, one in self.for_room.items()
            },
            "clock_not_synchronised_s": self.unsynchronised / 1e6,
            "days": [
                {
                    "date": day.date.isoformat(),
                    **day.tally.as_json(),
                    "hours": [
                        {"hour": hour, **tally.as_json()} for hour, tally in day.hours.items()
                    ],
                }
                for day in self.days
            ],
            "holes": [gap.as_json() for gap in self.gaps],
        }


class EffortSource(Protocol):
    """What the effort is read from: a store, or a `Reader`."""

    def get_deployments(self) -> list[data.Deployment]:
        """Return all deployments, in order of their start."""

    def get_effort(
        self,
        deployment: data.Deployment,
        since: datetime.datetime | None = None,
        until: datetime.datetime | None = None,
    ) -> EffortHistory | None:
        """Return the facts about a deployment, or a part of it."""


class GroupedSource(EffortSource, Protocol):
    """A source that can also read runs of recordings as one, and deletions for lack of room."""

    def get_grouped_effort(
        self,
        deployment: data.Deployment,
        since: datetime.datetime,
        until: datetime.datetime,
        within: tuple[datetime.datetime, datetime.datetime],
    ) -> EffortHistory | None:
        """Return the same as `get_effort`, with runs of recordings as one."""

    def get_given_up(
        self, deployment: data.Deployment, since: datetime.datetime, until: datetime.datetime
    ) -> tuple[float, float]:
        """Return how much sound of deleted files there was, and how much of it clips hold, s."""

    def count_given_up(
        self,
        deployment: data.Deployment | None = None,
        since: datetime.datetime | None = None,
        until: datetime.datetime | None = None,
    ) -> Mapping[FileClass, GivenUp]:
        """Return the deletions of each class, of recordings that started in [since, until)."""


Read = Callable[
    [
        data.Deployment,
        datetime.datetime,
        datetime.datetime,
        tuple[datetime.datetime, datetime.datetime],
    ],
    EffortHistory | None,
]
"""Reads the facts about a deployment between two times, and the part for which to list spans."""


def _plainly(store: EffortSource) -> Read:
    return lambda deployment, start, end, _: store.get_effort(deployment, start, end)


class Part(NamedTuple):
    """A part of a deployment that was read at once."""

    spans: list[EffortSpan]
    history: EffortHistory
    """What they were made from; it reaches a little beyond them."""


def find_deployment(store: EffortSource, text: str | None) -> data.Deployment:
    """Return the deployment of this name or id; None: the last to start.

    If several have the same name, it is the last.

    Raises
    ------
    ParameterError
        If there is none of that name or id.
    ConfigurationError
        If there is none at all.
    """
    found = store.get_deployments()
    if text is None and found:
        return found[-1]
    for deployment in reversed(found):
        if text is not None and (deployment.name == text or str(deployment.id) == text.lower()):
            return deployment
    known = ", ".join(f'"{name}"' for name in dict.fromkeys(one.name for one in found))
    if not found:
        raise ConfigurationError(
            "there is no effort to report.",
            'acoupi start "Old oak"',
            why="there has been no deployment.",
        )
    raise ParameterError(
        text or "",
        f'there is no deployment "{text}".',
        f"--deployment {found[-1].id}",
        why=f"there is {known}.",
    )


def read_effort(
    store: GroupedSource,
    deployment: data.Deployment,
    since: datetime.datetime | None = None,
    until: datetime.datetime | None = None,
    *,
    plan: CapturePlan | None = None,
    grouped: bool = False,
    suspect: Times = (),
) -> tuple[Effort, Iterator[EffortSpan]]:
    """Return an empty report of a deployment, and the spans to fill it with.

    The spans are read one day at a time; `measure` reads them all. Further parameters, and
    errors, are those of `read_parts`.

    Parameters
    ----------
    grouped
        Whether runs of recordings may come as one span, pauses included, which is several
        times faster; each span is then to be counted before the next one is asked for. The
        report is the same.
    """
    read = store.get_grouped_effort if grouped else None
    effort, parts = read_parts(
        store, deployment, since, until, plan=plan, read=read, suspect=suspect
    )
    return effort, (span for part in parts for span in part.spans)


def read_parts(
    store: EffortSource,
    deployment: data.Deployment,
    since: datetime.datetime | None = None,
    until: datetime.datetime | None = None,
    *,
    plan: CapturePlan | None = None,
    as_known: bool = False,
    read: Read | None = None,
    suspect: Times = (),
) -> tuple[Effort, Iterator[Part]]:
    """Return an empty report of a deployment, and what to fill it with, a day at a time.

    Parameters
    ----------
    store
        Where the effort is stored.
    deployment
        The deployment to report on.
    since, until
        Only this part of it; without a zone, in that of the program. None:
        from its beginning, to its end, or to the last sign of life if it has
        not ended.
    plan
        Plan of the program, in case its recorder has never stored it.
    as_known
        A deployment that has not ended is reported up to its last sign of life, however long
        ago that was: the result does not depend on the time when it is asked for.
    read
        What reads a part; None, and where the microphone was suspect: `EffortSource.get_effort`.
    suspect
        When the microphone heard nothing by its own trend; in order, without overlap.

    Raises
    ------
    ConfigurationError
        If the store keeps no record of effort.
    ParameterError
        If the deployment does not reach into this part.
    """
    now = data.utc_now()
    margin = datetime.timedelta(days=2)
    latest = store.get_effort(deployment, now - margin, now + margin)
    if latest is None:
        raise ConfigurationError(
            "this sensor keeps no record of its effort.",
            "use acoupi.components.SqliteStore in the program",
            why=f"{type(store).__name__} does not store it.",
        )
    latest = _with_plan(latest, plan)
    begin = latest.deployment.started_on
    end = last_sign_of_life(latest, now) if as_known else horizon(latest, now)
    first = begin if since is None else max(begin, _aware(since, latest.timezone))
    last = end if until is None else min(end, _aware(until, latest.timezone))
    if last <= first:
        raise ParameterError(
            "",
            f'the deployment "{deployment.name}" does not overlap this time.',
            f"--from {begin:%Y-%m-%d} --to {end:%Y-%m-%dT%H:%M}",
            why=f"it lasted from {shown_in_utc(begin)} to {shown_in_utc(end)} UTC.",
        )
    effort = Effort(latest.deployment, first, last, latest.timezone, bool(latest.plans))
    effort.suspect = [one for one in suspect if one[1] > first and one[0] < last]
    if read is None or effort.suspect:  # of the pauses of a run, the places are not known
        read = _plainly(store)
    # The ledger looks a little beyond the requested time.
    longest = max((one.plan.interval + one.plan.duration for one in latest.plans), default=0)
    around = datetime.timedelta(minutes=10, seconds=3 * longest)
    return effort, _parts(effort, end, around, plan, read)


def _with_plan(history: EffortHistory, plan: CapturePlan | None) -> EffortHistory:
    if history.plans or plan is None:
        return history
    return replace(history, plans=[PlanFrom(history.deployment.started_on, plan)])


def _aware(time: datetime.datetime, zone: datetime.tzinfo) -> datetime.datetime:
    aware = time if time.tzinfo is not None else time.replace(tzinfo=zone)
    return aware.astimezone(datetime.UTC)


def _parts(
    effort: Effort,
    end: datetime.datetime,
    around: datetime.timedelta,
    plan: CapturePlan | None,
    read: Read,
) -> Iterator[Part]:
    start = effort.since
    while start < effort.until:
        midnight = (data.to_microseconds(start) // _PART + 1) * _PART
        stop = min(data.from_microseconds(midnight), effort.until)
        history = read(effort.deployment, start - around, stop + around, (start, stop))
        if history is None:
            return
        effort.count_unsynchronised(history.captured, start, stop)
        history = _with_plan(history, plan)
        spans = _sampled(ledger(history, end, since=start, until=stop), history.captured)
        yield Part(spans, history)
        effort.count_pauses(history.captured)  # once its spans are counted
        start = stop


def _sampled(spans: list[EffortSpan], captured: Sequence[Captured]) -> list[EffortSpan]:
    """Split recorded time where the analysed share changes."""
    if all(one.analysed_fraction == 1 for one in captured):
        return spans
    ordered = sorted(captured, key=lambda one: one.start)
    return [part for span in spans for part in _parts_of(span, ordered)]


def _parts_of(span: EffortSpan, captured: Sequence[Captured]) -> Iterator[EffortSpan]:
    """Yield a span, or its parts; the recordings are in order."""
    if span.state is not EffortState.RECORDED:
        yield span
        return
    start, end = data.to_microseconds(span.start), data.to_microseconds(span.end)
    first = max(0, bisect_right(captured, start, key=lambda one: one.start) - 1)
    last = bisect_left(captured, end, key=lambda one: one.start)
    begin = span.start
    for one, after in zip_longest(captured[first:last], captured[first + 1 : last]):
        if after is None or after.analysed_fraction != one.analysed_fraction:
            stop = span.end if after is None else data.from_microseconds(after.start)
            yield replace(span, start=begin, end=stop, analysed_fraction=one.analysed_fraction)
            begin = stop


def measure(effort: Effort, spans: Iterable[EffortSpan]) -> Effort:
    """Count all spans, and return the totals."""
    effort.add(spans)
    effort.close()
    return effort
