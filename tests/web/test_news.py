"""What is new at a sensor: each thing once, in order, whatever the sensor answers."""

from pathlib import Path
from typing import Any

import pytest

from acoupi import data
from acoupi.errors import AcoupiError
from acoupi.web import news
from acoupi.web.news import Event, News
from tests.stores import SITE, detection, output
from tests.web.watched import Sensor, add

BAT = ("species", "Myotis nattereri", 0.9)


@pytest.fixture
def sensor(tmp_path: Path) -> Sensor:
    sensor = Sensor(tmp_path)
    sensor.store.store_deployment(SITE)
    return sensor


def news_of(sensor: Sensor) -> News:
    return News(sensor)  # type: ignore[arg-type]


def told(events: list[Event], kind: str, name: str) -> list[Any]:
    return [one.content[name] for one in events if one.kind == kind]


def test_who_comes_first_hears_of_what_was_heard_last_the_newest_last(sensor: Sensor) -> None:
    for number in range(25):
        add(sensor, number, detection(number / 100, BAT))

    found = news_of(sensor)
    events = found.heard()

    assert told(events, "detection", "score") == [number / 100 for number in range(5, 25)]
    assert len(told(events, "recording", "recording_id")) == 20
    assert found.recent() == sorted(events, key=lambda one: one.kind, reverse=True)
    assert found.heard() == []


def test_a_detection_is_told_once_when_it_is_stored(sensor: Sensor) -> None:
    found = news_of(sensor)
    found.heard()
    one = add(sensor, 3)
    assert told(found.heard(), "recording", "detection_count") == [0]

    sensor.store.store_model_output(output(one, detection(0.7, BAT)))
    events = found.heard()

    assert told(events, "detection", "species") == ["Myotis nattereri"]
    assert told(events, "recording", "detection_count") == [1]
    sensor.store.store_model_output(output(one, detection(0.6), name_model="birds"))
    assert told(found.heard(), "detection", "score") == [0.6]
    assert found.heard() == []


def test_what_was_rejected_says_why(sensor: Sensor) -> None:
    found = news_of(sensor)
    unwanted, skipped, failed = (add(sensor, number) for number in range(3))
    found.heard()
    for one, state, error in (
        (skipped, data.AnalysisState.SKIPPED, None),
        (failed, data.AnalysisState.FAILED, "no weights"),
    ):
        begun = sensor.store.begin_analysis(one, "bats")
        sensor.store.end_analysis(begun.model_copy(update={"state": state, "error": error}))
    for one in (unwanted, skipped, failed):
        sensor.store.end_recording(one, data.RecordingState.DELETED)

    events = found.heard()

    assert told(events, "recording", "rejected") == [
        "No saving filter kept it.",
        "A processing filter refused it.",
        "Its analysis by bats failed: no weights.",
    ]


def test_the_state_is_told_when_it_is_another_not_when_only_time_has_passed(
    sensor: Sensor,
) -> None:
    found = news_of(sensor)

    assert told(found.state(), "now", "ok") == [True]
    sensor.now_ = {**sensor.now_, "time": "2"}
    assert found.state() == []
    sensor.now_ = {**sensor.now_, "ok": False}
    assert told(found.state(), "now", "ok") == [False]


def test_a_sensor_that_does_not_answer_is_told_once_and_so_is_its_return(sensor: Sensor) -> None:
    found = news_of(sensor)
    found.heard()
    sensor.error = AcoupiError("the sensor sleeps.", "wake it", why="it is tired.")

    assert told(found.heard(), "problem", "error") == ["the sensor sleeps."]
    assert found.heard() == []
    assert told(found.recent(), "problem", "try") == ["wake it"]
    sensor.error = None
    add(sensor, 1)
    events = found.heard()
    assert told(events, "problem", "error") == [None]
    assert len(told(events, "recording", "recording_id")) == 1


def test_a_flood_of_detections_is_told_in_part_and_nothing_is_remembered_for_ever(
    sensor: Sensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(news, "_MOST_OF_ONE", 5)
    monkeypatch.setattr(news, "_LOOKED_AT", 3)
    found = news_of(sensor)
    found.heard()
    add(sensor, 0, *(detection(number / 100) for number in range(20)))

    assert len(told(found.heard(), "detection", "score")) == 5
    for number in range(1, 10):
        add(sensor, number, detection())
        found.heard()
    assert len(found._told) == 3
