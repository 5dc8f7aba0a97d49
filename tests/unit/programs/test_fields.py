"""Fields that programs share."""

import datetime
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from acoupi.programs.fields import LocalPath, TimeOfDay, TimeZoneName


class Fields(BaseModel):
    time: TimeOfDay = datetime.time(6)
    zone: TimeZoneName = "Europe/London"
    place: LocalPath = Path("/a")


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("8", datetime.time(8)),
        (8, datetime.time(8)),
        ("14:23", datetime.time(14, 23)),
        ("8:10:53", datetime.time(8, 10, 53)),
        ("06:00:00", datetime.time(6)),
        ("7pm", datetime.time(19)),
        ("6:05 p.m.", datetime.time(18, 5)),
        (datetime.time(23, 59, 59, 500_000), datetime.time(23, 59, 59, 500_000)),
    ],
)
def test_times_of_day_are_read_as_people_write_them(given: object, read: datetime.time) -> None:
    assert Fields(time=given).time == read  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "given", ["800", 800, "13pm", "25:00", "12:60", "", "06:00Z", True, 3600.5, None]
)
def test_what_is_no_time_of_day_is_refused(given: object) -> None:
    with pytest.raises(ValidationError):
        Fields(time=given)  # type: ignore[arg-type]


def test_a_time_with_a_zone_is_refused() -> None:
    with pytest.raises(ValidationError, match="local time of day"):
        Fields(time=datetime.time(6, tzinfo=datetime.UTC))


@pytest.mark.parametrize("zone", ["Europe/London", "Australia/Adelaide", "UTC", "Etc/GMT+5"])
def test_time_zones_are_text(zone: str) -> None:
    fields = Fields.model_validate_json(Fields(zone=zone).model_dump_json())

    assert fields.zone == zone
    assert str(fields.zone) == zone


@pytest.mark.parametrize("zone", ["Mars/Base", "", "../etc/passwd", "/etc/localtime", "Europe"])
def test_an_unknown_time_zone_is_refused(zone: str) -> None:
    with pytest.raises(ValidationError, match="not a time zone"):
        Fields(zone=zone)


def test_a_misspelt_time_zone_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValidationError, match='did you mean "Europe/London"'):
        Fields(zone="Europe/Londn")


def test_a_time_zone_says_where_its_choices_come_from() -> None:
    assert Fields.model_json_schema()["properties"]["zone"]["choices"] == "timezones"


def test_places_are_absolute(tmp_path: Path) -> None:
    assert Fields(place=Path("~/here")).place == tmp_path / "here"
    assert Fields(place=Path("here")).place.is_absolute()
