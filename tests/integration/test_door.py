"""The worker that keeps the stores is killed while a model works: nothing lost, nothing twice."""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from acoupi import data
from acoupi.components import SqliteMessageStore, SqliteStore
from acoupi.door.folders import door_folder, waiting_folder
from acoupi.door.waiting import WaitingCalls
from acoupi.system import setup_program
from tests.sensors import Sensor, kill, sensor_at, wait_for

pytestmark = pytest.mark.integration

WAITS = "is waiting in a file for the store"


@pytest.fixture
def sensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sensor]:
    with sensor_at(tmp_path / "home", monkeypatch) as sensor:
        setup_program(sensor.settings, "listening", ["--folder", str(tmp_path / "stores")])
        yield sensor


def analysed(store: SqliteStore, recordings: list[UUID]) -> list[UUID]:
    """Those of the recordings that a model is done with."""
    found = [recording for recording, _ in store.get_recordings(recordings)]
    return [
        id_
        for id_, analyses in store.get_analyses(found).items()
        if [one.state for one in analyses] == [data.AnalysisState.DONE]
    ]


def message_of(output: data.ModelOutput) -> UUID:
    return data.derived_id(output.id, "FullModelOutputMessageBuilder", 0, 0)


def test_no_detection_is_lost_or_stored_twice_when_the_keeper_is_killed(
    sensor: Sensor, tmp_path: Path
) -> None:
    store = SqliteStore(tmp_path / "stores" / "metadata.db")
    messages = SqliteMessageStore(tmp_path / "stores" / "messages.db")
    waiting = WaitingCalls(waiting_folder(sensor.home, "detection"))
    sensor.target.up()
    wait_for(lambda: len(store.get_model_outputs()) > 2, "three detections", sensor)
    assert (door_folder(sensor.settings.run_dir, "detection") / "door.sock").is_socket()

    for number in range(1, 3):
        killed = sensor.pulse("default").pid
        waited = sensor.log("detection").count(WAITS)
        kill(killed)
        wait_for(lambda n=waited: sensor.log("detection").count(WAITS) > n + 3, "files", sensor)
        wait_for(
            lambda pid=killed: sensor.pulse("default").pid != pid and sensor.is_ready("default"),
            f"a new keeper, {number}",
            sensor,
        )

    recorded = [one.id for one in store.get_captured_recordings()]
    wait_for(lambda: len(analysed(store, recorded)) == len(recorded), "every analysis", sensor)
    wait_for(lambda: waiting.names() == [], "nothing to wait", sensor)
    sensor.target.down()

    every = store.get_model_outputs()
    heard = [one for one in every if one.recording.id in recorded]
    assert sorted(one.recording.id for one in heard) == sorted(recorded)
    sent = {message.id for message in messages.get_unsent_messages()}
    assert {message_of(one) for one in heard} <= sent <= {message_of(one) for one in every}
