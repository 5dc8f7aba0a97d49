"""A program as other people publish them, under the process target: from setup to its messages.

Real Celery processes on the embedded broker, a simulated microphone, the real command line,
a real HTTP server.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from acoupi.components.stores import SqliteStore
from acoupi.data import RecordingState
from tests.sensors import Sensor
from tests.servers import HTTPSink
from tests.services import eventually, require

PUBLISHED = Path(__file__).parent / "published"
ACOUPI = Path(sys.executable).with_name("acoupi")


@pytest.fixture
def sink() -> Any:
    with HTTPSink() as sink:
        yield sink


@pytest.fixture
def acoupi(home: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command line, with the published package importable; nothing is left running."""
    monkeypatch.setenv("PYTHONPATH", str(PUBLISHED))
    sensor = Sensor(home, home.parent / "unused")

    def run(*args: str) -> str:
        result = subprocess.run(
            [ACOUPI, *args], capture_output=True, text=True, timeout=120, check=False
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    yield run
    sensor.end()


def received(sink: HTTPSink, key: str) -> list[dict[str, Any]]:
    """What the server was sent that has this key."""
    contents = [request.json() for request in list(sink.requests) if request.body]
    return [content for content in contents if key in content]


@pytest.mark.integration
def test_it_runs_unmodified_from_setup_to_messages(
    acoupi: Callable[..., str], sink: HTTPSink, home: Path
) -> None:
    acoupi(
        *("setup", "--program", "acoupi_nightjar.program", "--target", "process", "--no-prompt"),
        *("--microphone.simulated.seed", "1", "--microphone.samplerate", "48000"),
        *("--recording.duration", "1", "--recording.interval", "1"),
        *("--recording.schedule_start", "00:00", "--recording.schedule_end", "00:00"),
        *("--messaging.http.base_url", f"http://127.0.0.1:{sink.port}/ingest"),
        *("--messaging.message_send_interval", "2", "--summariser.interval", "4"),
        *("--saving_filters.starttime", "00:00", "--saving_filters.endtime", "23:59:59"),
    )

    acoupi("deployment", "start", "--name", "heath", "--latitude", "51.5", "--longitude", "-0.1")
    eventually(lambda: received(sink, "detections"), "a detection at the server")
    eventually(lambda: received(sink, "timeinterval"), "a summary at the server")
    status = json.loads(acoupi("deployment", "status", "--json"))
    acoupi("deployment", "stop")

    outputs = received(sink, "detections")
    message = outputs[0]
    assert message["name_model"] == "Nightjar"
    assert message["recording"]["deployment"]["name"] == "heath"
    assert [d["prediction_type"] for d in message["detections"]] == ["presence"]
    assert len({one["id"] for one in outputs}) == len(outputs)
    assert status["deployment"]["name"] == "heath"
    counts = SqliteStore(home / "data" / "metadata.db").count_recordings()
    kept = list((home / "data" / "recordings" / "nightjars").glob("*.wav"))
    assert counts[RecordingState.KEPT] == len(kept) > 0
    assert list((home / "data" / "spool").glob(".*.part")) == []


@pytest.fixture(scope="module")
def from_the_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program as it is published, without its model, which takes gigabytes."""
    folder = tmp_path_factory.mktemp("index")
    options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--target", str(folder))
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "acoupi-batdetect2==0.3.0"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    require(f"pip does not get it: {done.stderr[-300:]}", done.returncode == 0)
    return folder


@pytest.mark.integration
def test_one_from_the_index_is_set_up_and_records(
    acoupi: Callable[..., str], from_the_index: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(from_the_index))
    monkeypatch.setenv("ACOUPI_SIMULATED_AUDIO", "synthetic")

    acoupi(
        *("setup", "--program", "acoupi_batdetect2.program", "--target", "process", "--no-prompt"),
        *("--microphone.device_name", "default", "--microphone.samplerate", "48000"),
        *("--recording.duration", "1", "--recording.interval", "1"),
        *("--recording.schedule_start", "00:00", "--recording.schedule_end", "00:00"),
        *("--messaging.http.base_url", "http://127.0.0.1:9/ingest"),
    )
    tasks = {one["name"] for one in json.loads(acoupi("task", "list", "--json"))}
    acoupi("workers", "start")
    acoupi("task", "run", "recording_task")

    assert tasks >= {"recording_task", "detection_task", "file_management_task", "summary_task"}
    counts = SqliteStore(home / "data" / "metadata.db").count_recordings()
    assert sum(counts.values()) > 0
