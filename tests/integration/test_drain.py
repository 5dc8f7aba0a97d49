"""A real sensor that is behind: what waits is done before it stops, and recording ends first."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from acoupi import data
from acoupi.components import SqliteMessageStore, SqliteStore
from acoupi.effort import horizon, ledger
from acoupi.stack.pulse import is_locked, read_pulse
from tests.sensors import SERVICES
from tests.services import eventually

ACOUPI = Path(sys.executable).with_name("acoupi")
SETUP = [
    *("--program", "demo", "--target", "process", "--no-prompt"),
    *("--recording.duration", "1", "--recording.interval", "1"),
    *("--messaging.message_send_interval", "1", "--management_interval", "1"),
]

pytestmark = [pytest.mark.integration, pytest.mark.slow]


class Board:
    """A sensor of the demo program, and its model, which can be stopped."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environ = {**os.environ, "ACOUPI_HOME": str(home)}
        self.store = SqliteStore(home / "data" / "metadata.db")

    def start(self, *args: str) -> subprocess.Popen[str]:
        """Run a command."""
        return subprocess.Popen(
            [str(ACOUPI), *args],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *args: str) -> str:
        process = self.start(*args)
        out, err = process.communicate()
        assert process.returncode == 0, err
        return out

    def waiting(self) -> int:
        return self.store.count_recordings()[data.RecordingState.CAPTURED]

    def signal_model(self, number: int) -> None:
        pulse = read_pulse(self.home / "run", "detection")
        assert pulse is not None
        os.kill(pulse.pid, number)

    def fall_behind(self) -> None:
        """Stop the model until three recordings wait for it."""
        self.signal_model(signal.SIGSTOP)
        eventually(lambda: self.waiting() >= 3, "recordings that wait")

    def running(self) -> list[str]:
        return [name for name in SERVICES if is_locked(self.home / "run", name)]


@pytest.fixture
def board(home: Path) -> Iterator[Board]:
    board = Board(home)
    board.run("setup", *SETUP)
    board.run("deployment", "start", "--name", "heath", "--no-check")
    yield board
    if board.running():
        board.signal_model(signal.SIGCONT)
        board.run("deployment", "stop")
    board.store.close()


def read_until(process: subprocess.Popen[str], words: str) -> None:
    assert process.stderr is not None
    assert any(words in line for line in process.stderr), f"it never said {words!r}"


def test_what_waits_is_analysed_and_sent_before_the_sensor_stops(board: Board) -> None:
    board.fall_behind()

    process = board.start("deployment", "stop", "--drain", "--json")
    read_until(process, "Recording has stopped. Waiting:")
    assert "recording" not in board.running()
    resumed_on = data.utc_now()
    board.signal_model(signal.SIGCONT)
    out, err = process.communicate()

    assert process.returncode == 0, err
    assert "ended with" not in err
    assert board.running() == []
    ended_on = data.Deployment.model_validate(json.loads(out)).ended_on
    assert ended_on is not None
    assert ended_on <= resumed_on  # before the work was done
    assert board.waiting() == 0
    analyses = board.store.count_analyses()
    assert analyses.get(data.AnalysisState.DONE) == sum(board.store.count_recordings().values())
    messages = SqliteMessageStore(board.home / "data" / "messages.db")
    [states] = messages.count_deliveries().values()
    assert (states["pending"], states["dead"]) == (0, 0)
    [deployment] = board.store.get_deployments()
    assert deployment.ended_on == ended_on
    history = board.store.get_effort(deployment)
    assert history is not None
    assert ledger(history, horizon(history, data.utc_now()))[-1].end <= ended_on
