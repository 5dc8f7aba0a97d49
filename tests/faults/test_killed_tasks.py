"""Processes that are killed at random: nothing is lost, nothing comes twice."""

import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from acoupi import data
from acoupi.components import (
    FullModelOutputMessageBuilder,
    IDFileManager,
    SqliteMessageStore,
    SqliteStore,
    types,
)
from acoupi.effort import ledger
from acoupi.tasks import (
    generate_detection_task,
    generate_file_management_task,
    generate_recovery_task,
    generate_send_messages_task,
)
from acoupi.testing import FakeModel, ListMessenger
from tests.services import eventually, require

SENSOR = """
import sys
from pathlib import Path
from acoupi import data
from acoupi.components import *
from acoupi.tasks import *
from acoupi.audio import wav
from acoupi.audio.guano import build_guano, guano_of_recording
from acoupi.testing import FakeModel, make_recording

root = Path(sys.argv[1])
finished = (root / "finished.txt").open("a", buffering=1)

class Recorder(types.AudioRecorder):
    def record(self, deployment):
        recording = make_recording(deployment=deployment, created_on=data.utc_now())
        path = root / "spool" / f"{recording.created_on:%Y%m%d_%H%M%S}_{recording.id}.wav"
        text = build_guano(guano_of_recording(recording))
        with wav.WavWriter(path, 8000, 1, guano=text) as writer:
            for _ in range(8):
                writer.write(bytes(200))
            writer.finish()
        finished.write(f"{recording.id}\\n")
        return recording.model_copy(update={"path": path})

store, messages = SqliteStore(root / "m.db"), SqliteMessageStore(root / "s.db")
record = generate_recording_task(Recorder(), store)
detect = generate_detection_task(
    store, FakeModel(), messages, message_factories=[FullModelOutputMessageBuilder()]
)
class Even(types.RecordingSavingFilter):
    def should_save_recording(self, recording, model_outputs=None):
        return recording.id.int % 2 == 0
manage = generate_file_management_task(
    store, [IDFileManager(Path(sys.argv[2]))], file_filters=[Even()],
    required_models=["fake"], tmp_path=root / "spool",
)
recover = generate_recovery_task(
    store, detect, lambda: 0, required_models=["fake"], tmp_path=root / "spool",
    settle_time=-1, time_limit=0,
)
recover()
print("ready", flush=True)
while True:
    detect(record())
    manage()
    recover()
"""


@pytest.fixture(params=["same file system", "another file system"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    if request.param == "same file system":
        (tmp_path / "kept").mkdir()
        yield tmp_path / "kept"
        return
    other = Path("/dev/shm")
    is_other = other.is_dir() and other.stat().st_dev != tmp_path.stat().st_dev
    require("a second file system at /dev/shm", is_other)
    with tempfile.TemporaryDirectory(dir=other) as folder:
        yield Path(folder)


@pytest.mark.slow
def test_a_sensor_that_is_killed_again_and_again_keeps_its_books(
    tmp_path: Path, kept: Path
) -> None:
    chance = random.Random(7)
    finished = tmp_path / "finished.txt"
    for life in range(1, 13):
        sensor = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", SENSOR, str(tmp_path), str(kept)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert sensor.stdout is not None
        assert sensor.stdout.readline() == "ready\n", sensor.communicate()[1]
        eventually(lambda: len(finished.read_text().split()) >= life, "a recording")  # noqa: B023
        time.sleep(chance.uniform(0, 0.3))  # a moment nobody chose, not a wait for anything
        sensor.send_signal(signal.SIGKILL)
        sensor.communicate()

    store, messages = SqliteStore(tmp_path / "m.db"), SqliteMessageStore(tmp_path / "s.db")
    spool = tmp_path / "spool"
    finish(store, messages, spool, kept)
    messenger = ListMessenger()
    generate_send_messages_task(messages, [messenger])()

    states = store.count_recordings()
    recordings = sum(states.values())
    outputs = store.get_model_outputs()
    assert recordings >= 12
    assert states[data.RecordingState.CAPTURED] == states[data.RecordingState.LOST] == 0
    assert len(outputs) == len({output.recording.id for output in outputs}) == recordings
    assert len(messenger.sent) == recordings
    rows = [row for row, _ in store.get_recordings([o.recording.id for o in outputs])]
    assert {row.path for row in rows if row.path} == set(kept.iterdir())
    assert all((row.path is not None) == (row.id.int % 2 == 0) for row in rows)
    assert list(spool.iterdir()) == []
    assert set(finished.read_text().split()) <= {str(o.recording.id) for o in outputs}
    store.close()
    messages.close()


class Even(types.RecordingSavingFilter):
    def should_save_recording(
        self, recording: data.Recording, model_outputs: list[data.ModelOutput] | None = None
    ) -> bool:
        return recording.id.int % 2 == 0


def finish(store: SqliteStore, messages: SqliteMessageStore, spool: Path, kept: Path) -> None:
    detect = generate_detection_task(
        store, FakeModel(), messages, message_factories=[FullModelOutputMessageBuilder()]
    )
    recover = generate_recovery_task(
        store, detect, lambda: 0, required_models=["fake"], tmp_path=spool,
        settle_time=-1, time_limit=0,
    )  # fmt: skip
    manage = generate_file_management_task(
        store, [IDFileManager(kept)], file_filters=[Even()],
        required_models=["fake"], tmp_path=spool,
    )  # fmt: skip
    for step in (recover, manage, recover):
        step()


DIES = """
import os, sys
from pathlib import Path
from acoupi import data
from acoupi.audio.simulated import SimulatedAudio
from acoupi.components import PARecorder, SqliteStore
from acoupi.effort import CapturePlan
from acoupi.tasks import generate_recording_task

class Mortal(SqliteStore):
    def store_recording(self, recording):
        if not (root / "second").exists():
            (root / "second").touch()
            return super().store_recording(recording)
        os.kill(os.getpid(), 9)  # Its file has its name, and nobody knows of it.

root = Path(sys.argv[1])
recorder = PARecorder(
    0.5, 8000, 1, "default", audio_dir=root / "spool", interval=0.5, file_format=sys.argv[2],
    simulated=SimulatedAudio.parse("counter,faults=overrun:0.7:0.05"),
)
plan = CapturePlan(duration=0.5, interval=0.5)
record = generate_recording_task(recorder, Mortal(root / "m.db"), plan=plan)
record()
record()
"""


@pytest.mark.parametrize("file_format", ["wav", "flac"])
def test_a_recorder_that_is_killed_before_it_stores_leaves_an_account_that_adds_up(
    tmp_path: Path, file_format: str
) -> None:
    died = subprocess.run(
        [sys.executable, "-W", "error", "-c", DIES, str(tmp_path), file_format],
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    store = SqliteStore(tmp_path / "m.db")
    assert sum(store.count_recordings().values()) == 1

    generate_recovery_task(store, tmp_path=tmp_path / "spool", settle_time=-1)()

    assert sum(store.count_recordings().values()) == 2
    site = store.get_current_deployment()
    last, history = store.get_last_recording(site), store.get_effort(site)
    assert last is not None
    assert history is not None
    assert last.capture is not None
    assert last.capture.health is not None
    assert last.capture.first_frame == 4000
    (overrun,) = last.capture.overruns
    first, adopted = history.captured
    assert adopted.overruns == (overrun,)
    assert (adopted.stream_id, adopted.first_frame) == (first.stream_id, 4000)
    spans = ledger(history, data.utc_now())
    lost = sum(span.duration for span in spans if span.state is data.EffortState.OVERRUN)
    heard = sum(span.duration for span in spans if span.state is data.EffortState.RECORDED)
    assert lost == pytest.approx(overrun.frames / 8000, abs=1e-5)
    assert heard + lost == pytest.approx(1, abs=1e-5)
    store.close()
