"""How a recorder behaves where a supervisor starts, updates and ends it: a real worker."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from acoupi import data
from acoupi.audio import formats
from acoupi.components import SqliteStore
from acoupi.data import EffortState
from acoupi.services.restarts import NO_MICROPHONE
from acoupi.stack.pulse import read_pulse
from acoupi.system import Settings, get_celery_app, load_program, setup_program, start_deployment
from tests.services import DEADLINE, eventually

HEADER = 8192
"""Bytes of a file that are not sound, at most."""

pytestmark = pytest.mark.integration


class Recorder:
    """The recorder of a home, as a process."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home)
        self.spool = home / "data" / "spool"
        self.lock = home / "balena" / "updates.lock"

    def set_up(self, **recording: str) -> None:
        """Set it up to record all day, at no time by itself."""
        options = {"duration": "3", "interval": "5", **recording}
        setup_program(
            self.settings,
            "default",
            [
                *(
                    text
                    for name, value in options.items()
                    for text in (f"--recording.{name}", value)
                ),
                *("--recording.schedule_start", "00:00", "--recording.schedule_end", "00:00"),
                *("--microphone.device_name", "there is none such"),
                *("--microphone.samplerate", "8000"),
            ],
            environ={},
        )
        deployment = start_deployment(self.settings, "Oak")
        self.store.store_deployment(deployment)

    @property
    def store(self) -> SqliteStore:
        return SqliteStore(self.settings.home / "data" / "metadata.db")

    def last(self) -> data.Recording:
        """The last recording of its deployment."""
        (deployment,) = self.store.get_deployments()
        recording = self.store.get_last_recording(deployment)
        assert recording is not None
        return recording

    @contextlib.contextmanager
    def running(self, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
        process = subprocess.Popen(
            [sys.executable, "-m", "acoupi.system.celery.worker", "recording"],
            env={**os.environ, "ACOUPI_UPDATE_LOCK": str(self.lock), **variables},
        )
        try:
            eventually(lambda: self.says("ready"), "the recorder to be ready")
            yield process
        finally:
            process.kill()
            process.wait()

    def says(self, state: str) -> bool:
        pulse = read_pulse(self.settings.run_dir, "recording")
        return pulse is not None and pulse.state == state

    def order(self) -> None:
        get_celery_app(self.settings).send_task("recording_task", queue="recording")

    def written(self) -> int:
        """Bytes of the recording that is being made."""
        return sum(part.stat().st_size for part in formats.find_parts(self.spool))


@pytest.fixture
def recorder(home: Path) -> Recorder:
    return Recorder(home)


def test_ended_in_the_middle_of_a_recording_nothing_of_it_is_lost(recorder: Recorder) -> None:
    recorder.set_up(duration="600", interval="601")
    recorder.lock.parent.mkdir()
    with recorder.running(ACOUPI_SIMULATED_AUDIO="synthetic") as process:
        recorder.order()
        eventually(lambda: recorder.written() > 16_000, "a second of sound")
        assert recorder.lock.exists()
        process.send_signal(signal.SIGTERM)
        eventually(lambda: recorder.says("stopping"), "it to be stopping")
        process.kill()  # the grace is over
        process.wait()
    (part,) = formats.find_parts(recorder.spool)
    heard = (part.stat().st_size - HEADER) / 16_000
    assert recorder.lock.exists()

    recover(recorder, part)

    recording = recorder.last()
    assert heard <= recording.duration < 600
    assert recording.capture is not None
    assert recording.capture.incomplete
    with recorder.running(ACOUPI_SIMULATED_AUDIO="synthetic"):
        assert not recorder.lock.exists()  # what the crash left


def recover(recorder: Recorder, part: Path) -> None:
    """Let recovery do its work twice, as if the file had rested for long."""
    task: Any = load_program(recorder.settings).tasks["recovery_task"]
    os.utime(part, (0, 0))
    task.function()
    for path in recorder.spool.glob("*.wav"):
        os.utime(path, (0, 0))
    task.function()


def test_asked_to_stop_it_finishes_the_recording_in_hand(recorder: Recorder) -> None:
    recorder.set_up(duration="3", interval="4")
    with recorder.running(ACOUPI_SIMULATED_AUDIO="synthetic") as process:
        recorder.order()
        eventually(lambda: recorder.written() > 1000, "the recording to begin")
        process.send_signal(signal.SIGTERM)

        assert process.wait(timeout=DEADLINE) == 0
    recording = recorder.last()
    assert recording.duration == 3
    assert not recorder.lock.exists()


def test_without_a_microphone_it_ends_itself_and_the_ledger_says_why(recorder: Recorder) -> None:
    recorder.set_up()
    with recorder.running(ACOUPI_MICROPHONE_PATIENCE="1") as process:
        while process.poll() is None:
            recorder.order()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=1)
            assert len(list((recorder.settings.run_dir / "broker").rglob("*"))) < 500, "it stays"

        assert process.returncode == NO_MICROPHONE
    (deployment,) = recorder.store.get_deployments()
    history = recorder.store.get_effort(deployment)
    assert history is not None
    assert {note.state for note in history.notes} >= {EffortState.DEVICE_MISSING}
    log = (recorder.settings.log_dir / "recording.log").read_text()
    assert "there was no microphone for" in log
