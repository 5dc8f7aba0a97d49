"""What was heard over a while."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoupi import data
from acoupi.components.summariser import (
    StatisticsDetectionsSummariser,
    ThresholdsDetectionsSummariser,
)

NOW = datetime(2024, 8, 1, 21, 0, tzinfo=UTC)
POND = data.Deployment(name="Pond", latitude=51.5, longitude=-0.1)


class OutputStore:
    """Holds outputs; notes for which window it was asked."""

    def __init__(self, *outputs: data.ModelOutput) -> None:
        self.outputs = outputs
        self.asked: list[tuple[datetime, datetime]] = []

    def get_model_outputs_by_recording_time(
        self, start: datetime, end: datetime
    ) -> list[data.ModelOutput]:
        self.asked.append((start, end))
        return [o for o in self.outputs if start <= o.recording.created_on < end]


@pytest.fixture(autouse=True)
def _device(home: Path) -> None:
    (home / "config").mkdir(parents=True)
    (home / "config" / "device.json").write_text('{"id": "sensor-7"}')


def output(
    *scores: float,
    before: float = 60,
    tag: data.Tag = data.Tag("species", "Myotis"),  # noqa: B008 - frozen
    deployment: data.Deployment = POND,
    model: str = "BatDetect2",
) -> data.ModelOutput:
    """What a model found in a recording that began some seconds before NOW."""
    return data.ModelOutput(
        name_model=model,
        detections=[
            data.Detection(tags=[data.PredictedTag(tag=tag, confidence_score=score)])
            for score in scores
        ],
        recording=data.Recording(
            duration=3,
            samplerate=256_000,
            deployment=deployment,
            created_on=NOW - timedelta(seconds=before),
        ),
    )


def content(message: Any) -> Any:
    assert isinstance(message, data.Message)
    return json.loads(message.content)


def test_a_summary_says_when_where_and_what() -> None:
    store = OutputStore(output(0.25, 0.75), output(0.5))

    message = StatisticsDetectionsSummariser(store).build_summary(NOW)

    assert isinstance(message, data.Message)
    assert message.message_type is data.MessageType.SUMMARY
    assert content(message) == {
        "timeinterval": {"starttime": "2024-08-01T20:00:00Z", "endtime": "2024-08-01T21:00:00Z"},
        "device": "sensor-7",
        "deployment": {
            "id": str(POND.id),
            "name": "Pond",
            "latitude": 51.5,
            "longitude": -0.1,
        },
        "models": ["BatDetect2"],
        "recordings": 2,
        "tags": {"species": {"Myotis": {"mean": 0.5, "min": 0.25, "max": 0.75, "count": 3}}},
    }


def test_the_mean_has_three_decimals() -> None:
    message = StatisticsDetectionsSummariser(OutputStore(output(1, 1, 0))).build_summary(NOW)

    assert content(message)["tags"]["species"]["Myotis"]["mean"] == 0.667


def test_nothing_heard_is_no_message() -> None:
    summariser = StatisticsDetectionsSummariser(OutputStore(output()))

    assert summariser.build_summary(NOW) is None
    assert StatisticsDetectionsSummariser(OutputStore()).build_summary(NOW) is None


def test_values_of_different_keys_are_not_mixed() -> None:
    store = OutputStore(
        output(0.2, tag=data.Tag("event", "Social")), output(0.8, tag=data.Tag("species", "Social"))
    )

    tags = content(StatisticsDetectionsSummariser(store).build_summary(NOW))["tags"]

    assert tags["event"]["Social"]["max"] == 0.2
    assert tags["species"]["Social"]["min"] == 0.8


def test_a_tag_may_be_called_timeinterval() -> None:
    store = OutputStore(output(0.8, tag=data.Tag("timeinterval", "timeinterval")))

    summary = content(StatisticsDetectionsSummariser(store).build_summary(NOW))

    assert summary["tags"]["timeinterval"]["timeinterval"]["count"] == 1
    assert "starttime" in summary["timeinterval"]


def test_windows_that_follow_each_other_count_every_recording_once() -> None:
    store = OutputStore(output(0.5, before=3600), output(0.5, before=0))
    summariser = StatisticsDetectionsSummariser(store)

    earlier = content(summariser.build_summary(NOW))
    later = content(summariser.build_summary(NOW + timedelta(hours=1)))

    assert earlier["recordings"] == 1
    assert later["recordings"] == 1


def test_a_window_begins_where_the_last_one_ended(caplog: pytest.LogCaptureFixture) -> None:
    store = OutputStore()
    summariser = StatisticsDetectionsSummariser(store, interval=3600)  # type: ignore[arg-type]
    late = [0.0, 3602, 7195, 10_800]

    for seconds in late:
        summariser.build_summary(NOW + timedelta(seconds=seconds))

    ends = [NOW + timedelta(seconds=seconds) for seconds in late]
    assert store.asked == list(zip([NOW - timedelta(hours=1), *ends], ends, strict=False))
    assert caplog.text == ""


def test_seconds_taken_for_minutes_leave_no_recording_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outputs = [output(0.5, before=-60 * minute) for minute in range(180)]
    store = OutputStore(*outputs)
    summariser = StatisticsDetectionsSummariser(store, interval=60)  # type: ignore[arg-type]

    summariser.build_summary(NOW)
    messages = [summariser.build_summary(NOW + timedelta(hours=hour)) for hour in (1, 2, 3)]

    assert [content(message)["recordings"] for message in messages] == [60, 60, 60]
    assert caplog.text.count("same unit") == 1
    assert "1:00:00" in caplog.text


def test_windows_that_are_meant_to_overlap_do() -> None:
    store = OutputStore()
    summariser = StatisticsDetectionsSummariser(store, interval=86_400)  # type: ignore[arg-type]

    for hour in range(3):
        summariser.build_summary(NOW + timedelta(hours=hour))

    assert {end - start for start, end in store.asked} == {timedelta(days=1)}


def test_a_window_whose_store_failed_is_made_up_for() -> None:
    class Failing(OutputStore):
        fails = False

        def get_model_outputs_by_recording_time(
            self, start: datetime, end: datetime
        ) -> list[data.ModelOutput]:
            if self.fails:
                raise OSError("the disk")
            return super().get_model_outputs_by_recording_time(start, end)

    store = Failing()
    summariser = StatisticsDetectionsSummariser(store, interval=3600)  # type: ignore[arg-type]
    summariser.build_summary(NOW)
    store.fails = True
    with pytest.raises(OSError, match="the disk"):
        summariser.build_summary(NOW + timedelta(hours=1))
    store.fails = False
    summariser.build_summary(NOW + timedelta(hours=2))

    assert store.asked[-1] == (NOW, NOW + timedelta(hours=2))


def test_it_is_the_time_of_the_recording_that_counts() -> None:
    late = output(0.5, before=7200)

    assert late.created_on > NOW
    assert StatisticsDetectionsSummariser(OutputStore(late)).build_summary(NOW) is None


def test_a_store_that_returns_too_much_does_no_harm() -> None:
    class Generous(OutputStore):
        def get_model_outputs_by_recording_time(
            self, start: datetime, end: datetime
        ) -> list[data.ModelOutput]:
            return list(self.outputs)

    store = Generous(output(0.5, before=0), output(0.5, before=3600), output(0.5, before=3601))

    assert content(StatisticsDetectionsSummariser(store).build_summary(NOW))["recordings"] == 1


@pytest.mark.parametrize("interval", [600, 600.0, timedelta(minutes=10)])
def test_a_number_is_seconds(interval: float | timedelta) -> None:
    store = OutputStore()

    StatisticsDetectionsSummariser(store, interval).build_summary(NOW)

    assert store.asked == [(NOW - timedelta(minutes=10), NOW)]


def test_a_delay_lets_the_last_recordings_be_analysed_first() -> None:
    store = OutputStore()

    StatisticsDetectionsSummariser(store, 600, delay=60).build_summary(NOW)

    assert store.asked == [(NOW - timedelta(minutes=11), NOW - timedelta(minutes=1))]


def test_a_local_time_is_told_in_utc() -> None:
    store = OutputStore(output(0.5))

    message = StatisticsDetectionsSummariser(store).build_summary(
        NOW.astimezone(ZoneInfo("Australia/Adelaide"))
    )

    assert content(message)["timeinterval"]["endtime"] == "2024-08-01T21:00:00Z"


def test_each_deployment_has_a_message_of_its_own() -> None:
    wood = data.Deployment(name="Wood")
    store = OutputStore(output(0.5), output(0.7, deployment=wood), output(0.9, deployment=wood))

    messages = StatisticsDetectionsSummariser(store).build_summary(NOW)

    assert isinstance(messages, list)
    told = {content(m)["deployment"]["name"]: content(m)["recordings"] for m in messages}
    assert told == {"Pond": 1, "Wood": 2}


def test_the_same_window_again_is_the_same_message() -> None:
    store = OutputStore(output(0.5))
    first = StatisticsDetectionsSummariser(store).build_summary(NOW)
    again = StatisticsDetectionsSummariser(store).build_summary(NOW)
    other = ThresholdsDetectionsSummariser(store).build_summary(NOW)

    assert isinstance(first, data.Message)
    assert isinstance(again, data.Message)
    assert isinstance(other, data.Message)
    assert first.id == again.id != other.id


def test_one_score_lands_in_each_band() -> None:
    store = OutputStore(output(0.05, 0.45, 0.85))

    summary = content(ThresholdsDetectionsSummariser(store).build_summary(NOW))

    assert summary["tags"]["species"]["Myotis"] == {
        "low": {"count": 1, "mean": 0.05},
        "mid": {"count": 1, "mean": 0.45},
        "high": {"count": 1, "mean": 0.85},
        "above_high": {"count": 0, "mean": 0},
    }


def test_an_edge_belongs_to_the_band_below_it() -> None:
    store = OutputStore(output(0.1, 0.5, 0.9, 0.91))

    bands = content(ThresholdsDetectionsSummariser(store).build_summary(NOW))["tags"]["species"][
        "Myotis"
    ]

    assert {name: band["count"] for name, band in bands.items()} == {
        "low": 1,
        "mid": 1,
        "high": 2,
        "above_high": 1,
    }


def test_all_thresholds_may_be_zero() -> None:
    store = OutputStore(output(0.05, 0.85))

    summary = content(ThresholdsDetectionsSummariser(store, 3600, 0, 0, 0).build_summary(NOW))

    assert summary["tags"]["species"]["Myotis"]["high"]["count"] == 2


@pytest.mark.parametrize(
    "thresholds", [(0.5, 0.1, 0.9), (0.1, 0.9, 0.5), (-0.1, 0.5, 0.9), (0.1, 0.5, 1.1)]
)
def test_thresholds_that_do_not_rise_are_refused(thresholds: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="rise"):
        ThresholdsDetectionsSummariser(OutputStore(), 3600, *thresholds)


@pytest.mark.parametrize("interval", [0, -1, timedelta(0)])
def test_an_empty_window_is_refused(interval: float | timedelta) -> None:
    with pytest.raises(ValueError, match="interval"):
        StatisticsDetectionsSummariser(OutputStore(), interval)


def test_a_negative_delay_is_refused() -> None:
    with pytest.raises(ValueError, match="delay"):
        StatisticsDetectionsSummariser(OutputStore(), delay=-1)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_every_score_is_in_exactly_one_band(scores: list[float]) -> None:
    summariser = ThresholdsDetectionsSummariser(OutputStore(output(*scores)))

    bands = summariser._describe(scores)

    assert sum(bands[name]["count"] for name in ("low", "mid", "high")) == len(scores)
    assert bands["above_high"]["count"] <= bands["high"]["count"]


class FailedStore(OutputStore):
    """Also knows recordings that a model failed on."""

    def __init__(self, *outputs: data.ModelOutput, failed: list[data.Recording]) -> None:
        super().__init__(*outputs)
        self.failed = failed

    def get_unanalysed_recordings(self, start: datetime, end: datetime) -> list[data.Recording]:
        return [one for one in self.failed if start <= one.created_on < end]


@pytest.mark.parametrize("outputs", [[], [output()]])
def test_what_was_not_analysed_is_not_told_as_nothing_heard(outputs: list) -> None:
    store = FailedStore(*outputs, failed=[output().recording, output(before=7200).recording])

    found = content(StatisticsDetectionsSummariser(store).build_summary(NOW))

    assert (found["recordings"], found["not_analysed"], found["tags"]) == (len(outputs), 1, {})
    assert found["deployment"]["name"] == "Pond"


def test_a_summary_counts_what_was_not_analysed_beside_what_was_heard() -> None:
    store = FailedStore(output(0.5), failed=[output().recording])

    found = content(StatisticsDetectionsSummariser(store).build_summary(NOW))

    assert (found["recordings"], found["not_analysed"]) == (1, 1)
    assert found["tags"]["species"]["Myotis"]["count"] == 1
