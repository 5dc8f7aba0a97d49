"""What to keep."""

import datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoupi import data
from acoupi.components.saving_filters import (
    After_DawnDuskTimeInterval,
    Before_DawnDuskTimeInterval,
    DetectionTags,
    DetectionTagValue,
    FrequencySchedule,
    SaveIfInInterval,
    SavingThreshold,
)
from acoupi.testing import make_deployment, make_recording

ADELAIDE = ZoneInfo("Australia/Adelaide")
LONDON = ZoneInfo("Europe/London")
BAT = data.Tag("species", "Myotis")


def recorded(time: str, zone: datetime.tzinfo = datetime.UTC, **deployment: float):
    created_on = datetime.datetime.fromisoformat(time).replace(tzinfo=zone)
    return make_recording(created_on=created_on, deployment=make_deployment(**deployment))


def output(score: float, tag: data.Tag = BAT, confidence: float | None = None):
    predicted = data.PredictedTag(tag, score if confidence is None else confidence)
    detection = data.Detection(detection_score=score, tags=[predicted])
    return data.ModelOutput(name_model="m", recording=make_recording(), detections=[detection])


def test_an_interval_is_in_local_time() -> None:
    evening = data.TimeInterval(start=datetime.time(18), end=datetime.time(19))

    # 18:30 BST is 17:30 UTC.
    assert SaveIfInInterval(evening, LONDON).should_save_recording(recorded("2024-07-01T17:30"))
    assert not SaveIfInInterval(evening, LONDON).should_save_recording(recorded("2024-07-01T18:30"))


def test_an_interval_wraps_past_midnight() -> None:
    night = data.TimeInterval(start=datetime.time(22), end=datetime.time(4))
    keep = SaveIfInInterval(night, datetime.UTC)

    kept = [
        hour
        for hour in range(24)
        if keep.should_save_recording(recorded(f"2024-07-01T{hour:02}:00"))
    ]

    assert kept == [0, 1, 2, 3, 4, 22, 23]


@pytest.mark.parametrize(
    ("time", "before", "after"),
    [
        ("06:42", True, False),  # 5 min before dawn: rejected by the peer (W5)
        ("06:30", False, False),
        ("06:52", False, True),
        ("07:00", False, False),
        ("12:32", False, False),  # the peer's dawn, at Greenwich
    ],
)
@pytest.mark.parametrize("has_place", [True, False])
def test_dawn_in_adelaide(time: str, before: bool, after: bool, has_place: bool) -> None:
    place = {"latitude": -34.93, "longitude": 138.6} if has_place else {}
    zone = LONDON if has_place else ADELAIDE
    recording = recorded(f"2024-06-01T{time}", ADELAIDE, **place)

    assert Before_DawnDuskTimeInterval(10, zone).should_save_recording(recording) is before
    assert After_DawnDuskTimeInterval(10, zone).should_save_recording(recording) is after


def test_dusk_counts_like_dawn() -> None:
    # Dusk in Adelaide on 1 June is at 17:38.
    early, late = (recorded(f"2024-06-01T17:{m}", ADELAIDE) for m in (33, 43))

    assert Before_DawnDuskTimeInterval(10, ADELAIDE).should_save_recording(early)
    assert not Before_DawnDuskTimeInterval(10, ADELAIDE).should_save_recording(late)
    assert After_DawnDuskTimeInterval(10, ADELAIDE).should_save_recording(late)
    assert not After_DawnDuskTimeInterval(10, ADELAIDE).should_save_recording(early)


def test_instants_are_compared_not_times_of_day() -> None:
    # Dusk near midnight local time: St Petersburg in June, with its clock an hour ahead of the sun.
    place = {"latitude": 59.0, "longitude": 30.0}
    zone = datetime.timezone(datetime.timedelta(hours=3))
    after = After_DawnDuskTimeInterval(120, zone)

    # Dusk falls on 20 June shortly before midnight; half past midnight is the 21st.
    assert after.should_save_recording(recorded("2024-06-21T00:40", zone, **place))


@pytest.mark.parametrize("hour", range(0, 24, 2))
def test_polar_day_keeps_nothing_around_dawn_and_dusk(hour: int) -> None:
    tromso = {"latitude": 69.65, "longitude": 18.96}
    recording = recorded(f"2024-06-15T{hour:02}:00", **tromso)

    assert not Before_DawnDuskTimeInterval(90, datetime.UTC).should_save_recording(recording)
    assert not After_DawnDuskTimeInterval(90, datetime.UTC).should_save_recording(recording)


def test_polar_night_has_twilight_around_noon() -> None:
    tromso = {"latitude": 69.65, "longitude": 18.96}

    kept = [
        hour
        for hour in range(24)
        if Before_DawnDuskTimeInterval(60, datetime.UTC).should_save_recording(
            recorded(f"2024-12-21T{hour:02}:00", **tromso)
        )
    ]

    assert kept == [8, 12]  # before 08:31 and 12:54 UTC


@given(
    frequency=st.sampled_from([1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60]),
    duration=st.integers(0, 61),
    time=st.datetimes(timezones=st.just(datetime.UTC)),
)
def test_a_frequency_that_divides_the_hour_is_the_minute_of_the_hour(
    frequency: int, duration: int, time: datetime.datetime
) -> None:
    seconds = time.second + time.microsecond / 1e6

    kept = FrequencySchedule(duration, frequency).should_save_recording(
        make_recording(created_on=time)
    )

    assert kept is (time.minute % frequency + seconds / 60 < duration)


@pytest.mark.parametrize("frequency", [7, 45, 90, 240, 1440, 5000])
def test_any_frequency_keeps_its_share_evenly(frequency: int) -> None:
    keep = FrequencySchedule(5, frequency)
    start = datetime.datetime(2024, 3, 1, tzinfo=datetime.UTC)

    kept = [
        minute
        for minute in range(4 * frequency)
        if keep.should_save_recording(
            make_recording(created_on=start + datetime.timedelta(minutes=minute))
        )
    ]

    assert len(kept) == 20
    assert all(b - a in (1, frequency - 4) for a, b in pairwise(kept))


def test_a_frequency_that_divides_the_day_begins_at_midnight_utc() -> None:
    keep = FrequencySchedule(1, 90)

    assert keep.should_save_recording(recorded("2024-03-01T00:00:30"))
    assert keep.should_save_recording(recorded("2024-03-01T01:30:30"))
    assert not keep.should_save_recording(recorded("2024-03-01T01:00:30"))


def test_impossible_rounds_and_durations_are_refused() -> None:
    for frequency in (0, -5):
        with pytest.raises(ValueError, match="greater than 0"):
            FrequencySchedule(1, frequency)
    with pytest.raises(ValueError, match="0 minutes or more"):
        Before_DawnDuskTimeInterval(-1, LONDON)


@pytest.mark.parametrize(("score", "expected"), [(0.5, True), (0.499, False)])
def test_a_threshold_is_reached_at_it(score: float, expected: bool) -> None:
    outputs = [output(0.1), output(score)]

    assert SavingThreshold(0.5).should_save_recording(make_recording(), outputs) is expected


def test_tag_values_count_whatever_the_score() -> None:
    keep = DetectionTagValue(["Myotis"])

    assert keep.should_save_recording(make_recording(), [output(0.01)])
    assert not keep.should_save_recording(
        make_recording(), [output(0.9, data.Tag("species", "Nyctalus"))]
    )


@pytest.mark.parametrize(
    ("score", "confidence", "tag", "expected"),
    [
        (0.5, 0.5, BAT, True),
        (0.9, 0.4, BAT, False),
        (0.4, 0.9, BAT, False),
        (0.9, 0.9, data.Tag("genus", "Myotis"), False),
    ],
)
def test_tags_need_a_sure_detection_and_a_sure_tag(
    score: float, confidence: float, tag: data.Tag, expected: bool
) -> None:
    outputs = [output(score, tag, confidence)]

    assert DetectionTags([BAT]).should_save_recording(make_recording(), outputs) is expected
