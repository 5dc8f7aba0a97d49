"""When to record."""

import datetime
import shutil
from collections import namedtuple
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoupi import data
from acoupi.components.recording_conditions import (
    DawnTimeInterval,
    HasSufficientSpace,
    IsInInterval,
    IsInIntervals,
    is_time_in_interval,
)
from acoupi.errors import MetadataStoreError
from acoupi.testing import make_deployment
from tests.clocks import Clock

LONDON = ZoneInfo("Europe/London")
ADELAIDE = ZoneInfo("Australia/Adelaide")


def interval(start: str, end: str) -> data.TimeInterval:
    time = datetime.time.fromisoformat
    return data.TimeInterval(start=time(start), end=time(end))


@pytest.fixture
def at(clock: Clock):
    def set_clock(text: str, zone: datetime.tzinfo = datetime.UTC) -> None:
        now = datetime.datetime.fromisoformat(text).replace(tzinfo=zone)
        clock.now = now.astimezone(datetime.UTC)

    return set_clock


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("09:59:59.999999", False),
        ("10:00", True),
        ("10:30", True),
        ("11:00", True),
        ("11:00:00.9", True),
        ("11:01", False),
    ],
)
def test_both_ends_belong_to_an_interval(at, time: str, expected: bool) -> None:
    at(f"2024-01-10T{time}")

    condition = IsInInterval(interval("10:00", "11:00"), datetime.UTC)

    assert condition.should_record() is expected


def test_the_interval_is_in_local_time(at) -> None:
    at("2024-07-10T17:30")  # 18:30 in a London summer

    assert IsInInterval(interval("18:00", "19:00"), LONDON).should_record()
    assert not IsInInterval(interval("18:00", "19:00"), datetime.UTC).should_record()


@given(st.times())
def test_an_interval_over_midnight_has_no_hole(time: datetime.time) -> None:
    night = interval("19:00", "06:59:59")
    day = interval("07:00", "18:59:59")

    assert is_time_in_interval(time, night) is not is_time_in_interval(time, day)


@given(st.times())
def test_a_day_schedule_records_by_day_only(time: datetime.time) -> None:
    by_day = interval("06:00", "22:30")

    expected = datetime.time(6) <= time <= datetime.time(22, 30, 0, 999_999)

    assert is_time_in_interval(time, by_day) is expected


@given(st.times())
def test_equal_ends_are_the_whole_day(time: datetime.time) -> None:
    assert is_time_in_interval(time, interval("06:00", "06:00"))


@given(st.times())
def test_an_interval_to_the_last_second_has_no_hole_before_midnight(time: datetime.time) -> None:
    assert is_time_in_interval(time, interval("00:00", "23:59:59"))


@pytest.mark.parametrize(("time", "expected"), [("05:30", True), ("12:00", False), ("20:30", True)])
def test_any_of_several_intervals_is_enough(at, time: str, expected: bool) -> None:
    at(f"2024-01-10T{time}")
    condition = IsInIntervals(
        [interval("05:00", "06:00"), interval("20:00", "21:00")], datetime.UTC
    )

    assert condition.should_record() is expected


def test_no_interval_at_all_is_never(at) -> None:
    at("2024-01-10T12:00")

    assert not IsInIntervals([], datetime.UTC).should_record()


@pytest.mark.parametrize(
    ("time", "expected"), [("06:42", True), ("06:52", True), ("06:30", False), ("12:32", False)]
)
def test_dawn_is_that_of_the_time_zone_without_a_place(at, time: str, expected: bool) -> None:
    at(f"2024-06-01T{time}", ADELAIDE)

    assert DawnTimeInterval(10, ADELAIDE).should_record() is expected


def test_dawn_is_that_of_the_deployment(at) -> None:
    at("2024-06-01T06:47", ADELAIDE)
    adelaide = make_deployment(latitude=-34.93, longitude=138.6)

    assert DawnTimeInterval(10, LONDON, get_deployment=lambda: adelaide).should_record()
    assert DawnTimeInterval(10, LONDON, location=(-34.93, 138.6)).should_record()
    assert not DawnTimeInterval(10, LONDON).should_record()
    assert not DawnTimeInterval(
        10, LONDON, location=(51.5, 0), get_deployment=lambda: adelaide
    ).should_record()


def test_the_place_of_dawn_does_not_depend_on_the_store(at, tmp_path: Path, monkeypatch) -> None:
    at("2024-06-01T06:47", ADELAIDE)
    adelaide = make_deployment(latitude=-34.93, longitude=138.6)
    answers = [adelaide]

    def ask() -> data.Deployment:
        if not answers:
            raise MetadataStoreError("the database is damaged.")
        return answers.pop()

    knows = DawnTimeInterval(10, LONDON, get_deployment=ask)
    assert knows.should_record()
    assert knows.should_record()  # the last place that the store gave
    monkeypatch.setenv("ACOUPI_HOME", str(tmp_path))
    new = DawnTimeInterval(10, LONDON, get_deployment=ask)
    assert not new.should_record()  # the time zone is all that is known
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "deployment.json").write_text(adelaide.model_dump_json())
    assert new.should_record()  # the place that the home names


def test_a_margin_around_dawn_reaches_over_midnight(at) -> None:
    # Dawn at 59° N, 30° E in June comes shortly before midnight UTC.
    condition = DawnTimeInterval(240, datetime.UTC, location=(59.0, 30.0))

    held = []
    for hour in (22, 0, 3, 12, 18):
        at(f"2024-06-20T{hour:02}:00")
        held.append(condition.should_record())

    assert held == [True, True, True, False, False]


def test_without_a_dawn_the_condition_does_not_hold(at) -> None:
    for hour in range(24):
        at(f"2024-06-15T{hour:02}:00")

        assert not DawnTimeInterval(30, datetime.UTC, location=(69.65, 18.96)).should_record()


Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(
    ("free", "binary", "expected"),
    [
        (1_000_001, False, True),
        (1_000_000, False, False),
        (999_999, False, False),
        (1_048_576, True, False),
        (1_048_577, True, True),
    ],
)
def test_space_must_exceed_the_limit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: int, binary: bool, expected: bool
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, free))
    condition = HasSufficientSpace(tmp_path, min_space=1, unit="MB", binary=binary)

    assert condition.should_record() is expected
    assert condition.min_space == (1_048_576 if binary else 1_000_000)


def test_space_of_a_folder_that_does_not_exist_yet_is_that_of_its_disk(tmp_path: Path) -> None:
    assert HasSufficientSpace(tmp_path / "a" / "b", min_space=0, unit="B").should_record()
    assert HasSufficientSpace(min_space=0).should_record()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_cannot_be_asked_has_no_space(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(_: Path) -> None:
        raise OSError("Input/output error")

    monkeypatch.setattr(shutil, "disk_usage", fail)

    assert not HasSufficientSpace(tmp_path, min_space=0).should_record()


def test_impossible_limits_are_refused() -> None:
    with pytest.raises(ValueError, match="B, KB, MB, GB"):
        HasSufficientSpace(unit="TB")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="0 or more"):
        HasSufficientSpace(min_space=-1)
    with pytest.raises(ValueError, match="0 minutes"):
        DawnTimeInterval(-1, LONDON)
