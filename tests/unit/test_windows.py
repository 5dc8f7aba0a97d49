"""The recorder records when the ledger plans it: minute by minute, anywhere on Earth."""

import datetime
import json
import subprocess
import sys
from itertools import pairwise
from typing import Literal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acoupi import data
from acoupi.components import types
from acoupi.components.recording_conditions import (
    DawnTimeInterval,
    FollowsTheSun,
    IsInInterval,
    IsInIntervals,
    is_time_in_interval,
)
from acoupi.data import EffortState, from_microseconds, to_microseconds
from acoupi.effort import CapturePlan, EffortHistory, PlanFrom, ledger
from acoupi.sun import Location, dawns, dusks, is_dark
from acoupi.testing import make_deployment
from acoupi.windows import DailyWindows, SolarWindows, name_of_zone, zone_named
from tests.services import DEADLINE

UTC = datetime.UTC
SECOND = datetime.timedelta(seconds=1)
MINUTE = datetime.timedelta(minutes=1)
HOUR = datetime.timedelta(hours=1)
DAY = datetime.timedelta(days=1)
YEAR = datetime.datetime(2026, 1, 1, tzinfo=UTC), datetime.datetime(2027, 1, 1, tzinfo=UTC)

ZONES = {
    "Europe/London": (51.5, -0.1),  # summer time
    "Asia/Tokyo": (35.7, 139.7),  # none
    "Australia/Adelaide": (-34.9, 138.6),  # summer time in December, and half an hour
    "Australia/Lord_Howe": (-31.5, 159.1),  # summer time is half an hour
    "Africa/Casablanca": (33.6, -7.6),  # winter time in Ramadan
    "Europe/Oslo": (69.65, 18.96),  # Tromsø: polar day, and a night with twilight
    "Arctic/Longyearbyen": (78.22, 15.6),  # polar night
    "Antarctica/McMurdo": (-77.85, 166.7),
    "Pacific/Kiritimati": (1.9, -157.4),  # beyond the date line, UTC+14
    "Pacific/Pago_Pago": (-14.3, -170.7),  # before it, UTC-11
    "America/St_Johns": (47.6, -52.7),
}
TIMES = [("06:00", "22:30"), ("19:00", "07:00"), ("01:15", "01:45"), ("20:00", "02:30"), ("0", "0")]


def interval(start: str, end: str) -> data.TimeInterval:
    start, end = (f"{time}0:00" if time == "0" else time for time in (start, end))
    return data.TimeInterval(
        start=datetime.time.fromisoformat(start), end=datetime.time.fromisoformat(end)
    )


def planned(
    condition: types.TimeCondition,
    deployment: data.Deployment,
    start: datetime.datetime,
    end: datetime.datetime,
) -> list[tuple[datetime.datetime, datetime.datetime]]:
    """What the ledger plans, with the plan as it is read back from a store."""
    windows = condition.plan()
    assert windows is not None
    plan = CapturePlan(duration=60, interval=60, windows=(windows,))
    stored = CapturePlan.model_validate_json(plan.model_dump_json())
    assert stored == plan
    lasted = deployment.model_copy(update={"started_on": start, "ended_on": end})
    spans = ledger(EffortHistory(lasted, plans=[PlanFrom(start, stored)]), end)
    return [(span.start, span.end) for span in spans if span.state is not EffortState.OFF_SCHEDULE]


def minutes(spans: list[tuple[datetime.datetime, datetime.datetime]]) -> set[int]:
    """The minutes of the year that begin within."""
    found: set[int] = set()
    for start, end in spans:
        first = -((YEAR[0] - start) // MINUTE)
        found.update(range(first, -((YEAR[0] - end) // MINUTE)))
    return found


def joined(
    spans: list[tuple[datetime.datetime, datetime.datetime]],
) -> list[tuple[datetime.datetime, datetime.datetime]]:
    whole: list[tuple[datetime.datetime, datetime.datetime]] = []
    for start, end in spans:
        if whole and whole[-1][1] == start:
            whole[-1] = whole[-1][0], end
        else:
            whole.append((start, end))
    return whole


@pytest.mark.parametrize("zone_name", ZONES)
def test_every_minute_of_a_year_is_planned_if_a_clock_on_the_wall_says_so(zone_name: str) -> None:
    zone = ZoneInfo(zone_name)
    walls = []
    time = YEAR[0]
    while time < YEAR[1]:
        walls.append(time.astimezone(zone).time())
        time += MINUTE
    for start, end in TIMES:
        hours = interval(start, end)
        condition = IsInInterval(hours, zone)

        found = minutes(planned(condition, make_deployment(), *YEAR))

        # The second of the end belongs to the recorder, but the ledger asks for nothing in it.
        allowed = {
            wall
            for wall in set(walls)
            if is_time_in_interval(wall, hours) and (start == end or wall != hours.end)
        }
        expected = {number for number, wall in enumerate(walls) if wall in allowed}
        assert found == expected


@pytest.mark.parametrize(("zone_name", "place"), ZONES.items())
def test_every_minute_of_a_year_is_planned_if_dawn_is_near(
    zone_name: str, place: tuple[float, float]
) -> None:
    zone = ZoneInfo(zone_name)
    deployment = make_deployment(latitude=place[0], longitude=place[1])
    condition = DawnTimeInterval(30, zone, get_deployment=lambda: deployment)
    margin = datetime.timedelta(minutes=30)

    found = planned(condition, deployment, *YEAR)

    times = dawns(Location(*place), YEAR[0] - margin, YEAR[1] + margin)
    around = ((max(dawn - margin, YEAR[0]), min(dawn + margin, YEAR[1])) for dawn in times)
    assert minutes(found) == minutes(list(around))
    spans = condition.spans(*map(to_microseconds, YEAR))
    assert [from_microseconds(start) for start, _ in spans] == [start for start, _ in found]


@pytest.mark.parametrize(("zone_name", "place"), ZONES.items())
@pytest.mark.parametrize("part", ["night", "day"])
def test_every_hour_of_a_year_is_planned_by_night_if_it_is_dark(
    part: Literal["night", "day"], zone_name: str, place: tuple[float, float]
) -> None:
    deployment = make_deployment(latitude=place[0], longitude=place[1])
    condition = FollowsTheSun(part, 0, ZoneInfo(zone_name), get_deployment=lambda: deployment)

    found = planned(condition, deployment, *YEAR)

    times = [YEAR[0] + HOUR * number + SECOND * 7 for number in range(0, 365 * 24, 5)]
    assert [any(start <= time < end for start, end in found) for time in times] == [
        is_dark(Location(*place), time) is (part == "night") for time in times
    ]


def test_the_margin_is_before_dusk_and_after_dawn() -> None:
    london, noon = Location(51.5, -0.1), YEAR[0] + DAY / 2
    margin = datetime.timedelta(minutes=45)
    condition = FollowsTheSun("night", 45, UTC, location=london)

    (night,) = condition.spans(to_microseconds(noon), to_microseconds(noon + DAY))

    (dusk,), (dawn,) = (find(london, noon, noon + DAY) for find in (dusks, dawns))
    assert from_microseconds(night[0]) == dusk - margin
    assert from_microseconds(night[1]) == dawn + margin + SECOND


def test_days_without_dawn_are_not_planned() -> None:
    tromso = make_deployment(latitude=69.65, longitude=18.96)
    condition = DawnTimeInterval(30, ZoneInfo("Europe/Oslo"), get_deployment=lambda: tromso)

    days = {start.date() for start, _ in planned(condition, tromso, *YEAR)}

    assert datetime.date(2026, 3, 1) in days
    assert datetime.date(2026, 6, 21) not in days
    assert datetime.date(2026, 12, 21) in days


def conditions() -> st.SearchStrategy[types.TimeCondition]:
    zones = st.sampled_from([*map(ZoneInfo, ZONES), UTC, datetime.timezone(5.5 * 60 * MINUTE)])
    times = st.times().map(lambda time: time.replace(microsecond=0))
    intervals = st.builds(data.TimeInterval, start=times, end=times)
    return st.one_of(
        st.builds(IsInIntervals, st.lists(intervals, max_size=3), zones),
        st.builds(
            DawnTimeInterval,
            st.integers(0, 300),
            zones,
            location=st.none() | st.sampled_from([*ZONES.values()]),
        ),
        st.builds(
            FollowsTheSun,
            st.sampled_from(["night", "day"]),
            st.integers(0, 300),
            zones,
            location=st.none() | st.sampled_from([*ZONES.values()]),
        ),
    )


@settings(max_examples=100, deadline=None)
@given(conditions(), st.integers(0, 364), st.data())
def test_the_recorder_asks_what_the_ledger_plans(
    condition: types.TimeCondition, day: int, draw: st.DataObject
) -> None:
    start = YEAR[0] + day * DAY
    plan = planned(condition, make_deployment(), start, start + 2 * DAY)

    asked = draw.draw(st.lists(st.integers(0, 2 * 86_400 - 1), max_size=20))
    edges = [edge for span in plan for edge in span if edge < start + 2 * DAY]
    for time in [*(start + seconds * SECOND for seconds in asked), *edges]:
        if any(one <= time < other for one, other in plan):
            assert holds(condition, time)
        elif holds(condition, time):  # in the second of the end
            assert not holds(condition, time + SECOND)


def holds(condition: types.TimeCondition, time: datetime.datetime) -> bool:
    now = to_microseconds(time)
    return bool(condition.spans(now, now + 1))


@settings(max_examples=50, deadline=None)
@given(conditions(), st.dates(datetime.date(2026, 1, 2), datetime.date(2026, 12, 20)))
def test_the_days_of_a_condition_add_up(
    condition: types.TimeCondition, first: datetime.date
) -> None:
    days = [first + number * DAY for number in range(6)]

    windows = [condition.windows(day) for day in days]

    for one, following in pairwise(window for day in windows for window in day):
        assert one[0] < one[1] <= following[0]
    midnights = (
        to_microseconds(datetime.datetime.combine(day, datetime.time(), condition.timezone))
        for day in (first, days[-1] + DAY)
    )
    whole = condition.spans(*midnights)
    assert joined([window for day in windows for window in day]) == [
        (from_microseconds(start), from_microseconds(end)) for start, end in whole
    ]


def test_a_time_that_comes_twice_is_recorded_twice_and_one_that_is_skipped_never() -> None:
    condition = IsInInterval(interval("01:15", "01:45"), ZoneInfo("Europe/London"))

    assert condition.windows(datetime.date(2026, 3, 29)) == []
    twice = condition.windows(datetime.date(2026, 10, 25))
    assert [(start.hour, start.minute) for start, _ in twice] == [(0, 15), (1, 15)]


def test_a_program_that_records_around_dawn_has_lost_nothing() -> None:
    pond = make_deployment(latitude=51.5, longitude=0)
    start = datetime.datetime(2026, 4, 1, 12, tzinfo=UTC)

    spans = planned(
        DawnTimeInterval(30, UTC, get_deployment=lambda: pond), pond, start, start + DAY
    )

    assert [end - start for start, end in spans] == [60 * MINUTE]
    assert DawnTimeInterval.refusal is EffortState.OFF_SCHEDULE


def test_a_solar_plan_follows_the_deployment_and_a_fixed_place_does_not() -> None:
    here = make_deployment(latitude=-34.9, longitude=138.6)
    start = datetime.datetime(2026, 4, 1, 12, tzinfo=UTC)
    condition = DawnTimeInterval(30, UTC, get_deployment=make_deployment)
    fixed = DawnTimeInterval(30, UTC, location=(51.5, 0), get_deployment=lambda: here)

    (span,) = planned(condition, here, start, start + DAY)
    (other,) = planned(fixed, here, start, start + DAY)

    assert span[0] + 30 * MINUTE in dawns(Location(-34.9, 138.6), start, start + DAY)
    assert other[0] + 30 * MINUTE in dawns(Location(51.5, 0), start, start + DAY)


def test_plans_of_earlier_homes_are_still_read() -> None:
    stored = {
        "duration": 3,
        "interval": 10,
        "windows": [
            {
                "intervals": [{"start": "06:00:00", "end": "22:30:00"}],
                "timezone": "Europe/London",
            }
        ],
        "timezone": "Europe/London",
    }

    plan = CapturePlan.model_validate_json(json.dumps(stored))

    assert plan.windows == (
        DailyWindows(intervals=(interval("06:00", "22:30"),), timezone="Europe/London"),
    )
    assert json.loads(plan.model_dump_json()) == stored


@pytest.mark.parametrize(
    "zone", [UTC, ZoneInfo("Asia/Kathmandu"), datetime.timezone(-210 * MINUTE)]
)
def test_a_time_zone_is_found_again_by_its_name(zone: datetime.tzinfo) -> None:
    name = name_of_zone(zone)
    assert name is not None

    now = datetime.datetime(2026, 4, 1)  # noqa: DTZ001 - local time
    assert zone_named(name).utcoffset(now) == zone.utcoffset(now)


def test_fixed_hours_need_no_sun() -> None:
    code = (
        "import sys; from acoupi.components import IsInInterval, SaveIfInInterval; "
        "import acoupi.effort, acoupi.tasks.recording; "
        "assert 'astral' not in sys.modules"
    )

    subprocess.run([sys.executable, "-c", code], check=True, timeout=DEADLINE)


def test_a_solar_window_says_its_place() -> None:
    condition = DawnTimeInterval(20, ZoneInfo("Europe/Oslo"), location=(69.65, 18.96))

    assert condition.plan() == SolarWindows(
        event="dawn", before=20, after=20, location=(69.65, 18.96), timezone="Europe/Oslo"
    )
