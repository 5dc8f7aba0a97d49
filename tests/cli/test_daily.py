"""The commands of every day: start, stop, status, logs, watch."""

import datetime
import zoneinfo
from pathlib import Path

import pytest

from acoupi import data
from acoupi.cli import daily
from acoupi.cli.deployment import microphone_words
from acoupi.components import SqliteMessageStore, SqliteStore
from acoupi.home import memory_folder
from acoupi.system import Settings
from acoupi.system.deployments import read_deployment
from acoupi.system.state import MicrophoneState
from tests.cli.support import Calls, Run, data_of


@pytest.fixture
def recorded(run: Run, sensor: Path) -> Path:
    """A sensor at a site, with a recording and two detections of today."""
    started = run("start", "Old oak", "--at", "51.54,-0.02", "--no-check")
    assert started.exit_code == 0, started.stderr
    deployment = read_deployment(Settings(home=sensor))
    assert deployment is not None
    store = SqliteStore(sensor / "data" / "metadata.db")
    recording = data.Recording(
        deployment=deployment, created_on=data.utc_now(), duration=1, samplerate=8000
    )
    store.store_recording(recording)
    detections = [data.Detection(detection_score=score) for score in (0.5, 0.9)]
    store.store_model_output(
        data.ModelOutput(name_model="m", recording=recording, detections=detections)
    )
    store.close()
    _send(sensor / "data" / "messages.db")
    return sensor


def _send(path: Path) -> None:
    """Deliver one message of two."""
    outbox = SqliteMessageStore(path)
    sent, waiting = data.Message(content="one"), data.Message(content="two")
    outbox.store_message(sent)
    outbox.store_message(waiting)
    outbox.store_response(data.Response(message=sent, status=data.ResponseStatus.SUCCESS))
    outbox.close()


def test_a_deployment_starts_and_stops(run: Run, target: Calls, recorded: Path) -> None:
    deployment = read_deployment(Settings(home=recorded))
    assert deployment is not None
    place = deployment.name, deployment.latitude, deployment.longitude
    assert place == ("Old oak", 51.54, -0.02)

    stopped = run("stop")

    assert stopped.exit_code == 0, stopped.stderr
    assert 'The deployment "Old oak" has ended.' in stopped.stdout


@pytest.mark.parametrize("place", ["51.54", "here", "51.54,-0.02,3", "91,0", "51,-181", "nan,0"])
def test_a_place_that_is_none_is_refused_and_nothing_starts(
    run: Run, sensor: Path, place: str
) -> None:
    result = run("start", "Old oak", "--at", place, "--no-check")
    assert result.exit_code == 2
    assert "51.54" in result.stderr
    assert read_deployment(Settings(home=sensor)) is None


def test_status_says_what_people_ask(run: Run, recorded: Path) -> None:
    shown = run("status").stdout
    found = data_of(run("status", "--json"))

    assert 'at "Old oak", since ' in shown
    counted = "1 recording, 2 detections, 1 message"
    assert [line.partition("  ")[0] for line in shown.splitlines() if counted in line] == [
        "today",
        "at this site",
    ]
    assert "GB free" in shown
    assert found["today"] == {"recordings": 1, "detections": 2, "messages": 1}
    assert found["deployment_so_far"] == found["today"]
    assert found["status"]["deployment"]["name"] == "Old oak"


def test_status_says_what_a_power_cut_would_take(run: Run, recorded: Path) -> None:
    assert "power cut" not in run("status").stdout
    run("config", "set", "sensor.spool.memory_mb", "8")
    store = SqliteStore(recorded / "data" / "metadata.db")
    store.store_recording(
        data.Recording(
            deployment=store.get_current_deployment(),
            created_on=data.utc_now(),
            duration=3,
            samplerate=8000,
            path=memory_folder(recorded / "data" / "spool") / "one.wav",
        )
    )
    store.close()

    assert "a power cut now would lose 1 recording, 3 s of sound" in run("status").stdout


def test_status_says_which_services_keep_it_from_recording(
    run: Run, recorded: Path, target: Calls
) -> None:
    target.state = "stopped"

    result = run("status")

    assert result.exit_code == 3
    assert 'should be at "Old oak", since ' in result.stdout
    assert "(recording stopped, default stopped, beat stopped)" in result.stdout


def test_status_says_what_starts_a_dead_beat_again(run: Run, recorded: Path, target: Calls) -> None:
    target.state, target.beat = "ready", "stopped"

    for command in (("status",), ("deployment", "status")):
        said = " ".join(run(*command).stderr.split())
        assert "not running: beat. To start it again: acoupi workers restart" in said
    assert run("workers", "restart").exit_code == 0
    assert "up" in target.names
    assert "not running" not in run("status").stderr


@pytest.mark.parametrize("name", ["metadata.db", "messages.db"])
def test_a_damaged_database_is_something_wrong_and_the_rest_is_still_told(
    run: Run, recorded: Path, name: str
) -> None:
    for path in (recorded / "data").glob(f"{name}*"):
        path.write_bytes(b"noise" * 2000)

    shown, as_json = run("status"), run("status", "--json")

    assert [shown.exit_code, as_json.exit_code] == [3, 3], shown.stderr
    assert 'at "Old oak", since ' in shown.stdout
    assert data_of(as_json)["ok"] is False
    for result in (shown, as_json):
        assert name in result.stderr
        assert "acoupi stores --heal" in result.stderr


def test_a_sensor_that_is_not_to_record_is_well(run: Run, sensor: Path) -> None:
    result = run("status")
    assert result.exit_code == 0, result.stderr
    assert "no: acoupi start" in result.stdout


def test_recordings_of_yesterday_are_not_of_today(run: Run, recorded: Path) -> None:
    store = SqliteStore(recorded / "data" / "metadata.db")
    deployment = store.get_current_deployment()
    yesterday = data.utc_now() - datetime.timedelta(days=2)
    store.store_recording(
        data.Recording(deployment=deployment, created_on=yesterday, duration=1, samplerate=8000)
    )
    store.close()
    assert data_of(run("status", "--json"))["today"]["recordings"] == 1


def test_times_of_the_microphone_are_those_of_the_other_lines() -> None:
    at = datetime.datetime(2026, 6, 1, 20, 0, tzinfo=datetime.UTC)
    state = MicrophoneState(
        missing_since=at, faults=["missing"], missing_detail="it was pulled out"
    )

    there = microphone_words(state, zoneinfo.ZoneInfo("Europe/Berlin"))

    assert there == "missing since 22:00:00: it was pulled out"
    assert microphone_words(state) == "missing since 20:00:00 UTC: it was pulled out"


def test_logs_are_those_of_the_services(run: Run, sensor: Path) -> None:
    every, one = run("logs"), run("logs", "recording", "-n", "1")
    assert every.exit_code == 0, every.stderr
    assert one.exit_code == 0, one.stderr
    assert data_of(run("logs", "--json")).keys() == data_of(run("logs", "--json")).keys()


def test_watch_looks_again_until_it_is_interrupted(
    run: Run, recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(daily.time, "sleep", sleep)
    result = run("watch")
    assert result.exit_code == 130
    assert result.stdout.count('at "Old oak"') == 2
