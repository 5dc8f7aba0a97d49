"""Times of dawn and dusk, anywhere and on any day.

Dawn and dusk are civil: the instants at which the centre of the sun rises
above, or sinks below, 6 degrees under the horizon (no refraction). They are
found as crossings of that line within a window of time rather than by local date, so
that midnight is no special case in any time zone. However the window lies, the same
dawn is found at the same second.

Near the poles the sun may stay on one side of the line for weeks. Then there
is no dawn and no dusk, and the answer is an empty list: in Tromsø in June the
sky never darkens that far. (In Tromsø in December the sun does not rise, but
there is civil twilight around noon, hence a dawn and a dusk.)
"""

import datetime
import logging
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

from acoupi import data

__all__ = [
    "Location",
    "dawns",
    "deployment_location",
    "dusks",
    "is_dark",
    "reference_location",
]

logger = logging.getLogger(__name__)

CIVIL_DEPRESSION = 6.0
_STEP = datetime.timedelta(minutes=5)
_PRECISION = datetime.timedelta(milliseconds=500)
_FASTEST = 16.0
"""More than the sun's height changes in an hour anywhere, degrees."""


class Location(NamedTuple):
    """A point on Earth, WGS 84."""

    latitude: float
    """Degrees north, -90 to 90."""
    longitude: float
    """Degrees east, -180 to 180."""


def dawns(
    location: Location, start: datetime.datetime, end: datetime.datetime
) -> list[datetime.datetime]:
    """Return the civil dawns from `start` to `end`, both aware; UTC, in order, to the second.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> adelaide = Location(-34.93, 138.60)
    >>> dawns(adelaide, datetime(2024, 6, 1, 12, tzinfo=UTC), datetime(2024, 6, 2, 12, tzinfo=UTC))
    [datetime.datetime(2024, 6, 1, 21, 17, 31, tzinfo=datetime.timezone.utc)]
    >>> tromso = Location(69.65, 18.96)
    >>> dawns(tromso, datetime(2024, 6, 10, tzinfo=UTC), datetime(2024, 6, 20, tzinfo=UTC))
    []
    """
    return _crossings(location, start, end, rising=True)


def dusks(
    location: Location, start: datetime.datetime, end: datetime.datetime
) -> list[datetime.datetime]:
    """Return the civil dusks from `start` to `end`; like `dawns`."""
    return _crossings(location, start, end, rising=False)


def is_dark(location: Location, time: datetime.datetime) -> bool:
    """Return whether it is night: after dusk and before dawn."""
    return _height(location, time) < 0


def deployment_location(deployment: data.Deployment, timezone: datetime.tzinfo) -> Location:
    """Return the place of a deployment; without coordinates, the reference city of `timezone`."""
    if deployment.latitude is None or deployment.longitude is None:
        return reference_location(timezone)
    return Location(deployment.latitude, deployment.longitude)


def reference_location(timezone: datetime.tzinfo) -> Location:
    """Return the reference place of a time zone.

    It is the city that the IANA tables give for the zone (Adelaide for
    ``Australia/Adelaide``). For a zone without a city, such as UTC or a
    fixed offset, it is the point on the equator whose solar time matches, 15
    degrees east for each hour; there dawn is about 05:40 all year. That is only
    a stopgap, and logged: give the deployment coordinates.

    Examples
    --------
    >>> from zoneinfo import ZoneInfo
    >>> reference_location(ZoneInfo("Europe/Oslo"))
    Location(latitude=59.916666666666664, longitude=10.75)
    >>> reference_location(ZoneInfo("Etc/GMT-3"))
    Location(latitude=0.0, longitude=45.0)
    """
    name = getattr(timezone, "key", None) or getattr(timezone, "zone", None)
    offset = timezone.utcoffset(datetime.datetime(2024, 1, 1))  # noqa: DTZ001 - local time
    return _reference_location(name, offset or datetime.timedelta(0))


@lru_cache(maxsize=64)
def _reference_location(name: str | None, offset: datetime.timedelta) -> Location:
    city = _cities().get(name or "") or _cities().get(_links().get(name or "", ""))
    if city is not None:
        return city
    hours = offset.total_seconds() / 3600
    longitude = (hours * 15 + 180) % 360 - 180
    logger.warning(
        "The time zone %s has no city, and the deployment no coordinates: dawn and dusk are those "
        "of the equator at %g degrees east. Give the deployment a latitude and a longitude.",
        name or offset,
        longitude,
    )
    return Location(0.0, longitude)


@lru_cache(maxsize=1)
def _cities() -> dict[str, Location]:
    # zone.tab names a city for each country; zone1970.tab adds nothing today but is the newer one.
    cities = {}
    for table in ("zone1970.tab", "zone.tab"):
        for line in _table_lines(table):
            _, coordinates, name, *_ = line.split("\t")
            cities[name] = _parse_coordinates(coordinates)
    return cities


@lru_cache(maxsize=1)
def _links() -> dict[str, str]:
    """Return old and alternative names of time zones, with their current names."""
    fields = (line.split() for line in _table_lines("tzdata.zi"))
    return {words[2]: words[1] for words in fields if words[0] == "L"}


def _table_lines(name: str) -> Iterator[str]:
    from importlib.resources import files  # noqa: PLC0415 - start time

    text = (files("tzdata") / "zoneinfo" / name).read_text(encoding="utf-8")
    return (line for line in text.splitlines() if line and not line.startswith("#"))


def _parse_coordinates(text: str) -> Location:
    """Parse ISO 6709 as in the tables: ±DDMM±DDDMM or ±DDMMSS±DDDMMSS."""
    split = max(text.rfind("+"), text.rfind("-"))
    return Location(_degrees(text[:split], 2), _degrees(text[split:], 3))


def _degrees(text: str, digits: int) -> float:
    sign = -1 if text[0] == "-" else 1
    body = text[1:]
    degrees, minutes, seconds = body[:digits], body[digits : digits + 2], body[digits + 2 :]
    return sign * (int(degrees) + int(minutes) / 60 + int(seconds or 0) / 3600)


def _crossings(
    location: Location, start: datetime.datetime, end: datetime.datetime, *, rising: bool
) -> list[datetime.datetime]:
    # One second on either side, so that an instant returned earlier is found again.
    first = start.astimezone(datetime.UTC) - datetime.timedelta(seconds=1)
    last = end.astimezone(datetime.UTC) + datetime.timedelta(seconds=1)
    days = range((last.date() - first.date()).days + 1)
    return [
        time
        for day in days
        for time in _crossings_of_day(
            location, first.date() + datetime.timedelta(days=day), rising=rising
        )
        if first <= time <= last
    ]


@lru_cache(maxsize=64)
def _crossings_of_day(
    location: Location, day: datetime.date, *, rising: bool
) -> tuple[datetime.datetime, ...]:
    sign = 1 if rising else -1

    def height(time: datetime.datetime) -> float:
        """Return degrees on the far side of the line."""
        return sign * _height(location, time)

    found = []
    before = datetime.datetime.combine(day, datetime.time(), datetime.UTC)
    end, left = before + datetime.timedelta(days=1), height(before)
    while before < end:
        # What is far from the line cannot reach it soon.
        steps = max(1, int(abs(left) / _FASTEST / (_STEP.total_seconds() / 3600)))
        after = min(before + steps * _STEP, end)
        right = height(after)
        if left < 0 <= right:
            found.append(_bisect(lambda time: height(time) >= 0, before, after))
        before, left = after, right
    return tuple(found)


def _height(location: Location, time: datetime.datetime) -> float:
    """Return how far the sun is above the line of dawn and dusk, degrees."""
    from astral import Observer  # noqa: PLC0415 - a recorder with fixed hours needs no sun
    from astral.sun import elevation  # noqa: PLC0415

    observer = Observer(location.latitude, location.longitude, 0.0)
    return float(elevation(observer, time, with_refraction=False) + CIVIL_DEPRESSION)


def _bisect(
    is_past: Callable[[datetime.datetime], bool],
    before: datetime.datetime,
    after: datetime.datetime,
) -> datetime.datetime:
    while after - before > _PRECISION:
        middle = before + (after - before) / 2
        if is_past(middle):
            after = middle
        else:
            before = middle
    return after.replace(microsecond=0)
