"""What Home Assistant is told of a sensor, and what it says to that: recorded from its own code.

`scripts/home-assistant` makes the recorded cases again, in a virtual environment of its own.
"""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pydantic import ValidationError

import acoupi
from acoupi import data
from acoupi.alarms.episodes import Alarm
from acoupi.alarms.facts import Facts
from acoupi.components.messengers import MQTTConfig
from acoupi.components.messengers.home_assistant import ENTITIES, Announcement
from acoupi.heard import DetectionRow, RecordingRow
from acoupi.services.home_assistant import entity_states
from acoupi.services.metrics import SensorState
from tests.unit.alarms.field_sound import heard

CASES = json.loads(Path(__file__).with_name("home_assistant_cases.json").read_text())
NOW = datetime(2024, 6, 20, 12, tzinfo=UTC)
SENSOR = Announcement("homeassistant", "sensor 7/ä", "acoupi/sensor-7/status")
BASE = "acoupi/sensor-7/state"


def completed(document: dict[str, Any], key: str) -> dict[str, Any]:
    """A component with what all share, as Home Assistant completes it."""
    shared = {name: document[name] for name in ("device", "origin")}
    return {**document["components"][key], **shared}


def test_home_assistant_accepted_what_is_announced() -> None:
    document = json.loads(SENSOR.payload())
    document["device"]["sw_version"] = document["origin"]["sw_version"] = CASES["acoupi"]

    announced = {key: completed(document, key) for key in document["components"]}

    assert announced == CASES["accepted"]


def test_home_assistant_refused_what_is_wrong() -> None:
    assert set(CASES["refused"]) == {"no state topic", "no such class", "no such category"}
    assert all(CASES["refused"].values())


def test_ids_come_from_the_device_alone() -> None:
    document = SENSOR.document()
    ids = [one["unique_id"] for one in document["components"].values()]

    assert SENSOR.topic == "homeassistant/device/acoupi_sensor_7__/config"
    assert document["device"]["identifiers"] == ["acoupi_sensor_7__"]
    assert document["device"]["sw_version"] == acoupi.__version__
    assert len(set(ids)) == len(ids) == len(ENTITIES) + 1
    assert all(re.fullmatch(r"acoupi_sensor_7___[a-z0-9_]+", one) for one in ids)
    assert SENSOR.payload() == Announcement(**vars(SENSOR)).payload()


def test_each_entity_has_a_topic_of_its_own_and_the_will_of_the_messenger() -> None:
    components = SENSOR.document()["components"]
    topics = [one["state_topic"] for one in components.values()]

    assert len(set(topics)) == len(topics)
    assert components.pop("online")["state_topic"] == "acoupi/sensor-7/status"
    assert {one["availability_topic"] for one in components.values()} == {"acoupi/sensor-7/status"}


def row() -> DetectionRow:
    deployment = data.Deployment(name="oak", started_on=NOW)
    recording = RecordingRow(
        uuid4(), deployment, NOW, 3.0, 48_000, 1, 1.0, None, data.RecordingState.KEPT
    )
    tag = data.PredictedTag(
        tag=data.Tag(key="species", value="Myotis daubentonii"), confidence_score=0.8
    )
    kind = data.PredictionType.PRESENCE
    box = (1.5, 0.0, 2.0, 9.0)
    return DetectionRow(uuid4(), recording, uuid4(), "bats", NOW, None, kind, box, 0.91234, (tag,))


def state(**changes: Any) -> SensorState:
    facts = {
        "now": NOW,
        "cannot_record": "",
        "missing_s": 0.0,
        "planned_s": 80_000.0,
        "recorded_s": 79_000.0,
        "heard": (heard(NOW, -61.234),),
        "free_bytes": 12.34e9,
        "disk_hours": float("inf"),
        "clock_is_set": True,
        "temperature_celsius": 51.4,
    }
    return SensorState(
        facts=Facts(**(facts | changes)),
        pulses={},
        alarms=[Alarm("disk_low", NOW, "0.1 GB free")],
        info={},
        deployment=data.Deployment(name="oak", started_on=NOW),
        recordings={data.RecordingState.CAPTURED: 4},
    )


def test_every_entity_has_a_state() -> None:
    states = entity_states(SENSOR, state(), 12, row())

    assert states.pop(f"{BASE}/last_detection/attributes").startswith('{"score": 0.912, "model"')
    assert json.loads(states.pop(f"{BASE}/alarm/attributes")) == {
        "active": ["The disk is nearly full. 0.1 GB free"]
    }
    assert {topic.removeprefix(f"{BASE}/"): value for topic, value in states.items()} == {
        "recording": "ON",
        "last_detection": "Myotis daubentonii",
        "detections_today": "12",
        "last_recording": "None",
        "recorded_share": "98.8",
        "lost_seconds": "1000",
        "waiting_recordings": "4",
        "alarm": "ON",
        "microphone_problem": "OFF",
        "noise_floor": "-61.2",
        "services_problem": "OFF",
        "clock_problem": "OFF",
        "supply_problem": "None",
        "disk_hours_left": "None",
        "disk_free": "12.3",
        "temperature": "51",
    }
    assert {topic.removeprefix(f"{BASE}/") for topic in states} == {one.key for one in ENTITIES}


@pytest.mark.parametrize(
    ("changes", "key", "value"),
    [
        ({"cannot_record": "device missing: unplugged"}, "recording", "OFF"),
        ({"cannot_record": "device missing: unplugged"}, "microphone_problem", "ON"),
        ({"missing_s": 900.0}, "recording", "OFF"),
        ({"heard": (heard(NOW, -61, is_silent=True),)}, "microphone_problem", "ON"),
        ({"clock_is_set": False}, "clock_problem", "ON"),
        ({"clock_is_set": None}, "clock_problem", "None"),
        ({"down": {"beat": "stopped"}}, "services_problem", "ON"),
        ({"planned_s": None}, "recorded_share", "None"),
        ({"disk_hours": 30.4}, "disk_hours_left", "30"),
    ],
)
def test_states_follow_the_sensor(changes: dict[str, Any], key: str, value: str) -> None:
    assert entity_states(SENSOR, state(**changes), 0, None)[f"{BASE}/{key}"] == value


def test_a_name_that_is_too_long_is_cut() -> None:
    found = row()
    tag = data.PredictedTag(tag=data.Tag(key="species", value="x" * 300), confidence_score=0.8)
    long = DetectionRow(*(getattr(found, name) for name in DetectionRow.__slots__[:9]), (tag,))

    states = entity_states(SENSOR, state(), 1, long)

    assert len(states[f"{BASE}/last_detection"]) == 255


def test_without_a_last_will_nobody_would_know_whether_it_is_there() -> None:
    with pytest.raises(ValidationError, match="home_assistant needs last_will"):
        MQTTConfig(host="hub", home_assistant=True, last_will=False)
    assert MQTTConfig(host="hub").home_assistant is False


def test_the_time_of_a_recording_is_what_home_assistant_reads() -> None:
    deployment = data.Deployment(name="oak", started_on=NOW)
    created = NOW.astimezone(data.utc_now().tzinfo) + timedelta(seconds=1.5)
    recording = data.Recording(
        path=None, duration=3, samplerate=48_000, deployment=deployment, created_on=created
    )

    found = entity_states(SENSOR, state()._replace(last_recording=recording), 0, None)

    assert found[f"{BASE}/last_recording"] == "2024-06-20T12:00:01+00:00"
