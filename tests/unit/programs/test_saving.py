"""Which recordings the ready-made programs keep."""

import datetime
from typing import Any

import pytest

from acoupi.programs import connected, default
from acoupi.programs.saving import SaveRecordingFilter, saving_filters
from acoupi.testing import make_recording

NONE = {
    "before_dawndusk_duration": 0,
    "after_dawndusk_duration": 0,
    "frequency_duration": 0,
    "frequency_interval": 0,
}


def names(**settings: Any) -> list[str]:
    filters = saving_filters(SaveRecordingFilter(**settings), "Europe/London")
    return [type(each).__name__ for each in filters]


def test_without_a_section_everything_is_kept() -> None:
    assert saving_filters(None, "Europe/London") == []


def test_by_default_every_filter_is_used() -> None:
    assert names() == [
        "SaveIfInInterval",
        "FrequencySchedule",
        "Before_DawnDuskTimeInterval",
        "After_DawnDuskTimeInterval",
    ]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, []),
        ({"frequency_duration": 5}, []),
        ({"frequency_interval": 30}, []),
        ({"frequency_duration": 5, "frequency_interval": 30}, ["FrequencySchedule"]),
        ({"before_dawndusk_duration": 1}, ["Before_DawnDuskTimeInterval"]),
        ({"after_dawndusk_duration": 1}, ["After_DawnDuskTimeInterval"]),
    ],
)
def test_a_filter_without_a_duration_is_not_used(
    settings: dict[str, int], expected: list[str]
) -> None:
    assert names(**NONE | settings) == ["SaveIfInInterval", *expected]


def test_times_are_local() -> None:
    (only,) = saving_filters(SaveRecordingFilter(**NONE), "Europe/London")
    summer_evening = datetime.datetime(2024, 7, 1, 17, 30, tzinfo=datetime.UTC)

    assert only.should_save_recording(make_recording(created_on=summer_evening))


def test_the_two_programs_differ_in_when_the_evening_begins() -> None:
    assert default.SaveRecordingFilter().starttime == datetime.time(18, 0)
    assert connected.SaveRecordingFilter().starttime == datetime.time(18, 30)
