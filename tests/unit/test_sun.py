"""Dawn and dusk, at any place, on any day."""

import datetime
import logging
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from astral import Observer
from astral import sun as astral_sun
from hypothesis import given, settings
from hypothesis import strategies as st

from acoupi.sun import (
    Location,
    dawns,
    deployment_location,
    dusks,
    reference_location,
)
from acoupi.testing import make_deployment

UTC = datetime.UTC
DAY = datetime.timedelta(days=1)
TROMSO = Location(69.65, 18.96)
LONGYEARBYEN = Location(78.22, 15.6)


def test_dawn_in_adelaide_in_june_is_in_the_morning_of_adelaide() -> None:
    adelaide = ZoneInfo("Australia/Adelaide")
    midnight = datetime.datetime(2024, 6, 1, tzinfo=adelaide)

    (dawn,) = dawns(reference_location(adelaide), midnight, midnight + DAY)

    assert (dawn.astimezone(adelaide).hour, dawn.astimezone(adelaide).minute) == (6, 47)


@pytest.mark.parametrize("find", [dawns, dusks])
def test_tromso_has_neither_dawn_nor_dusk_in_june(find: object) -> None:
    start = datetime.datetime(2024, 6, 15, tzinfo=UTC)

    assert find(TROMSO, start, start + 5 * DAY) == []


def test_tromso_has_dawn_and_dusk_around_noon_in_december() -> None:
    start = datetime.datetime(2024, 12, 21, tzinfo=UTC)

    found = [*dawns(TROMSO, start, start + DAY), *dusks(TROMSO, start, start + DAY)]

    expected = [start.replace(hour=8, minute=31), start.replace(hour=12, minute=54)]
    assert all(
        abs(a - b) < datetime.timedelta(minutes=3) for a, b in zip(found, expected, strict=True)
    )


def test_the_polar_night_of_spitsbergen_has_no_dawn() -> None:
    start = datetime.datetime(2024, 12, 21, tzinfo=UTC)

    assert dawns(LONGYEARBYEN, start, start + 5 * DAY) == []


@settings(max_examples=60, deadline=None)
@given(
    latitude=st.floats(-50, 50),
    longitude=st.floats(-180, 180),
    day=st.integers(0, 365),
    hour=st.integers(0, 23),
)
def test_every_day_has_one_dawn_and_one_dusk_wherever_it_begins(
    latitude: float, longitude: float, day: int, hour: int
) -> None:
    place = Location(latitude, longitude)
    start = datetime.datetime(2024, 1, 1, hour, tzinfo=UTC) + day * DAY

    for find, sign in ((dawns, 1), (dusks, -1)):
        found = find(place, start, start + 10 * DAY)

        # The days between events differ from 24 h by a minute or two.
        assert 9 <= len(found) <= 11
        assert all(abs(b - a - DAY) < datetime.timedelta(minutes=5) for a, b in pairwise(found))
        for time in found:
            later = time + datetime.timedelta(minutes=1)
            observer = Observer(latitude, longitude, 0)
            angle = astral_sun.elevation(observer, time, with_refraction=False)
            assert angle == pytest.approx(-6, abs=0.02)
            assert sign * (astral_sun.elevation(observer, later, with_refraction=False) + 6) > 0


def test_no_day_is_skipped_where_dawn_falls_on_midnight_utc() -> None:
    # astral.sun.dawn by date misses one of these days.
    place = Location(38.284, 61.310)
    start = datetime.datetime(2024, 6, 1, 12, tzinfo=UTC)

    assert len(dawns(place, start, start + 10 * DAY)) == 10


def test_a_window_that_ends_at_dawn_holds_it() -> None:
    noon = datetime.datetime(2024, 3, 1, 12, tzinfo=UTC)
    place = Location(51.5, 0)
    (dawn,) = dawns(place, noon, noon + DAY)

    assert dawns(place, dawn, dawn + DAY / 2) == [dawn]
    assert dawns(place, dawn - DAY / 2, dawn) == [dawn]


@pytest.mark.parametrize(
    ("name", "latitude", "longitude"),
    [
        ("Australia/Adelaide", -34.92, 138.58),
        ("Europe/Oslo", 59.92, 10.75),
        ("Asia/Calcutta", 22.53, 88.37),
        ("US/Eastern", 40.71, -74.01),
        ("GB", 51.51, -0.13),
    ],
)
def test_a_zone_stands_for_its_city(name: str, latitude: float, longitude: float) -> None:
    place = reference_location(ZoneInfo(name))

    assert place == pytest.approx((latitude, longitude), abs=0.01)


@pytest.mark.parametrize(
    ("zone", "longitude"),
    [
        (datetime.UTC, 0),
        (ZoneInfo("UTC"), 0),
        (ZoneInfo("Etc/GMT+5"), -75),
        (datetime.timezone(datetime.timedelta(hours=9, minutes=30)), 142.5),
        (datetime.timezone(datetime.timedelta(hours=13)), -165),
    ],
)
def test_a_zone_without_a_city_is_a_point_of_the_equator(
    zone: datetime.tzinfo, longitude: float
) -> None:
    assert reference_location(zone) == (0, longitude)


def test_a_zone_without_a_city_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    zone = datetime.timezone(datetime.timedelta(hours=4, minutes=17))

    with caplog.at_level(logging.WARNING):
        reference_location(zone)
        reference_location(zone)

    assert len(caplog.records) == 1
    assert "latitude" in caplog.text


def test_coordinates_of_the_deployment_come_first() -> None:
    zone = ZoneInfo("Europe/London")

    assert deployment_location(make_deployment(latitude=-34.9, longitude=138.6), zone) == (
        -34.9,
        138.6,
    )
    assert deployment_location(make_deployment(latitude=-34.9), zone) == reference_location(zone)
    assert deployment_location(make_deployment(latitude=0, longitude=0), zone) == (0, 0)
