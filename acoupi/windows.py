"""When a program plans to record: hours of the day, or time around dawn or dusk.

One rule for two users. The recorder asks whether to record now; the effort ledger asks, months
later and without the program, when the recorder should have recorded. Both get the same spans.

Internally times are whole microseconds since 1970; a span holds its start, not its end.
"""

import datetime
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import ConfigDict, Field

from acoupi import data, sun
from acoupi.data import from_microseconds, to_microseconds
from acoupi.deferred import DeferredModel

__all__ = [
    "DailyWindows",
    "SolarWindows",
    "Span",
    "daily_spans",
    "name_of_zone",
    "planned_spans",
    "solar_spans",
    "zone_named",
]

Span = tuple[int, int]
"""Start and end, microseconds since 1970."""

_SECOND = 1_000_000
_MINUTE = 60 * _SECOND
_DAY = 86_400 * _SECOND
_STEP = _DAY // 4
"""Time within which clocks change at most once."""


class DailyWindows(DeferredModel):
    """The hours in which a program plans to record."""

    model_config = ConfigDict(frozen=True)

    intervals: tuple[data.TimeInterval, ...]
    """Local times of day in which to record; equal start and end: the whole day."""
    timezone: str
    """IANA name of their time zone, or a fixed offset such as ``+05:30``."""

    def spans(self, low: int, high: int, deployment: data.Deployment) -> list[Span]:
        """Return the parts of [low, high) in which to record, in order and apart."""
        return daily_spans(self.intervals, zone_named(self.timezone), low, high)


class SolarWindows(DeferredModel):
    """The time around each dawn or dusk, or between them, in which a program plans to record."""

    model_config = ConfigDict(frozen=True)

    event: Literal["dawn", "dusk", "night", "day"]
    """The civil ones; see `acoupi.sun`."""
    before: float = Field(ge=0, allow_inf_nan=False)
    """Minutes before it, or before it begins."""
    after: float = Field(ge=0, allow_inf_nan=False)
    """Minutes after it, or after its end."""
    location: tuple[float, float] | None = None
    """Latitude and longitude, degrees; None: see `at_deployment`."""
    at_deployment: bool = False
    """Whether without a `location` it is where the deployment is, if that is known."""
    timezone: str = "UTC"
    """Its reference city is the place if no other is known."""

    def spans(self, low: int, high: int, deployment: data.Deployment) -> list[Span]:
        """Return the parts of [low, high) in which to record, in order and apart."""
        return solar_spans(self, self._place(deployment), low, high)

    def _place(self, deployment: data.Deployment) -> sun.Location:
        if self.location is not None:
            return sun.Location(*self.location)
        zone = zone_named(self.timezone)
        if self.at_deployment:
            return sun.deployment_location(deployment, zone)
        return sun.reference_location(zone)


def daily_spans(
    intervals: Iterable[data.TimeInterval], zone: datetime.tzinfo, low: int, high: int
) -> list[Span]:
    """Return the parts of [low, high) in which a local clock shows one of the times of day.

    Times of day count in whole seconds, and the second of the end belongs to an
    interval. On the night of a clock change an hour that is skipped holds no
    time, and an hour that comes twice counts twice: a clock on the wall, and
    `is_time_in_interval`, say the same.
    """
    shapes = [_shape(interval) for interval in intervals]
    found: list[Span] = []
    for begin, end, offset in _offsets(zone, low, high):
        for start, length in shapes:
            first = (begin + offset - start - length) // _DAY
            last = (end + offset - start) // _DAY
            days = (day * _DAY + start - offset for day in range(first, last + 1))
            found += _clipped(((time, time + length) for time in days), begin, end)
    return _joined(found)


def solar_spans(windows: SolarWindows, place: sun.Location, low: int, high: int) -> list[Span]:
    """Return the parts of [low, high) around dawns or dusks at a place; both ends included."""
    before, after = round(windows.before * _MINUTE), round(windows.after * _MINUTE) + _SECOND
    if windows.event in {"night", "day"}:
        halves = _halves(place, low - after, high + before, dark=windows.event == "night")
        return _joined(_clipped(((a - before, b + after) for a, b in halves), low, high))
    find = sun.dawns if windows.event == "dawn" else sun.dusks
    events = find(place, from_microseconds(low - after), from_microseconds(high + before))
    times = map(to_microseconds, events)
    return _joined(_clipped(((time - before, time + after) for time in times), low, high))


def _halves(place: sun.Location, low: int, high: int, *, dark: bool) -> Iterator[Span]:
    """Yield the nights at a place, or the days, that have a part in [low, high)."""
    # Two days before, what begins or ends at the very bound does not matter yet.
    bounds = from_microseconds(low - 2 * _DAY), from_microseconds(high)
    begin, finish = (sun.dusks, sun.dawns) if dark else (sun.dawns, sun.dusks)
    events = [(to_microseconds(one), True) for one in begin(place, *bounds)]
    events += [(to_microseconds(one), False) for one in finish(place, *bounds)]
    begun = low - 2 * _DAY if sun.is_dark(place, bounds[0]) == dark else None
    for time, begins in sorted(events):
        if begins:
            begun = time
        elif begun is not None:
            yield begun, time
            begun = None
    if begun is not None:
        yield begun, high


def planned_spans(
    windows: DailyWindows | SolarWindows, low: int, high: int, deployment: data.Deployment
) -> list[Span]:
    """Return the parts of [low, high) in which not to record is a loss.

    They are the windows but for the second at their end: a recording may still
    begin in it, but one that ends exactly then has missed nothing.
    """
    spans = windows.spans(low, high + _SECOND, deployment)
    return [(start, end - _SECOND) for start, end in spans if start < end - _SECOND]


def name_of_zone(zone: datetime.tzinfo) -> str | None:
    """Return a name from which `zone_named` makes the same time zone; None if it has none.

    Examples
    --------
    >>> name_of_zone(datetime.timezone(datetime.timedelta(hours=-3, minutes=-30)))
    '-03:30'
    """
    if zone is datetime.UTC:
        return "UTC"
    name: str | None = getattr(zone, "key", None) or getattr(zone, "zone", None)
    if name is None and isinstance(zone, datetime.timezone):
        return str(datetime.datetime(2000, 1, 1, tzinfo=zone).isoformat()[19:])
    return name


@lru_cache(maxsize=64)
def zone_named(name: str) -> datetime.tzinfo:
    """Return the time zone of an IANA name, or of an offset such as ``+05:30``."""
    if name[:1] in {"+", "-"}:
        return datetime.datetime.fromisoformat(f"2000-01-01T00:00{name}").tzinfo or datetime.UTC
    return ZoneInfo(name)


def _shape(interval: data.TimeInterval) -> Span:
    """Return the start of an interval, counted from midnight, and its length."""
    start, end = (
        (time.hour * 3600 + time.minute * 60 + time.second) * _SECOND
        for time in (interval.start, interval.end)
    )
    if start == end:
        return 0, _DAY
    return start, (end - start) % _DAY + _SECOND


def _offsets(zone: datetime.tzinfo, low: int, high: int) -> Iterator[tuple[int, int, int]]:
    """Yield the parts of [low, high) in which the zone has one offset from UTC, and the offset."""

    def offset(time: int) -> int:
        there = from_microseconds(time).astimezone(zone).utcoffset()
        return (there or datetime.timedelta(0)) // datetime.timedelta(microseconds=1)

    bounds = [*range(low, high, _STEP), high]
    cuts = [_change(offset, a, b) for a, b in pairwise(bounds) if offset(a) != offset(b)]
    for begin, end in pairwise([low, *cuts, high]):
        if begin < end:
            yield begin, end, offset(begin)


def _change(offset: Callable[[int], int], low: int, high: int) -> int:
    """Return the first time in (low, high] with the offset of `high`."""
    after = offset(high)
    while high - low > 1:
        middle = (low + high) // 2
        if offset(middle) == after:
            high = middle
        else:
            low = middle
    return high


def _clipped(spans: Iterable[Span], low: int, high: int) -> Iterator[Span]:
    for start, end in spans:
        if max(start, low) < min(end, high):
            yield max(start, low), min(end, high)


def _joined(spans: Sequence[Span] | Iterator[Span]) -> list[Span]:
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined
