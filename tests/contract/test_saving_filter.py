"""What every saving filter does."""

import datetime
from pathlib import Path

import pytest

from acoupi import data
from acoupi.components import (
    After_DawnDuskTimeInterval,
    Before_DawnDuskTimeInterval,
    DetectionTags,
    DetectionTagValue,
    FrequencySchedule,
    SaveIfInInterval,
    SavingThreshold,
)
from acoupi.components.types import RecordingSavingFilter
from acoupi.testing import make_recording

FILTERS = [
    SaveIfInInterval(
        data.TimeInterval(start=datetime.time(18), end=datetime.time(21)), datetime.UTC
    ),
    FrequencySchedule(5, 30),
    Before_DawnDuskTimeInterval(10, datetime.UTC),
    After_DawnDuskTimeInterval(10, datetime.UTC),
    SavingThreshold(0.5),
    DetectionTagValue(["a"]),
    DetectionTags([data.Tag("species", "a")]),
]
OF_DETECTIONS = (SavingThreshold, DetectionTagValue, DetectionTags)


@pytest.fixture(params=FILTERS, ids=lambda f: type(f).__name__)
def saving_filter(request: pytest.FixtureRequest) -> RecordingSavingFilter:
    return request.param


def test_it_answers_with_a_bool(saving_filter: RecordingSavingFilter) -> None:
    recording = make_recording()
    empty = data.ModelOutput(name_model="m", recording=recording)

    for outputs in (None, [], [empty]):
        assert saving_filter.should_save_recording(recording, outputs) in (True, False)
    assert saving_filter.should_save_recording(recording) in (True, False)


def test_a_file_is_not_needed(saving_filter: RecordingSavingFilter) -> None:
    there, gone = make_recording(), make_recording(path=Path("gone.wav"))

    assert saving_filter.should_save_recording(there) == saving_filter.should_save_recording(gone)


def test_the_zone_of_the_time_does_not_matter(saving_filter: RecordingSavingFilter) -> None:
    for minute in range(0, 1440, 7):
        utc = datetime.datetime(2024, 8, 1, tzinfo=datetime.UTC) + datetime.timedelta(
            minutes=minute
        )
        zone = datetime.timezone(datetime.timedelta(hours=5, minutes=45))

        answers = {
            saving_filter.should_save_recording(make_recording(created_on=time))
            for time in (utc, utc.astimezone(zone))
        }

        assert len(answers) == 1


@pytest.mark.parametrize(
    "of_detections",
    [each for each in FILTERS if isinstance(each, OF_DETECTIONS)],
    ids=lambda f: type(f).__name__,
)
def test_nothing_found_is_nothing_to_keep_for_a_filter_of_detections(
    of_detections: RecordingSavingFilter,
) -> None:
    nothing = data.ModelOutput(name_model="m", recording=make_recording())

    for outputs in (None, [], [nothing]):
        assert of_detections.should_save_recording(make_recording(), outputs) is False
