"""Deployments of a sensor that records: cut short, started twice, started while it records."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from acoupi import data
from acoupi.components import SqliteStore
from acoupi.data import EffortState
from acoupi.effort import ledger
from acoupi.errors import DeploymentError
from acoupi.system import (
    get_current_deployment,
    setup_program,
    start_program,
    start_workers,
    stop_program,
)
from acoupi.system.deployments import read_deployment
from tests.integration.programs.cut_short import CUT
from tests.sensors import Sensor, sensor_at, wait_for

pytestmark = pytest.mark.integration

START = "from acoupi.system import *; start_program(Settings(), {name!r}, 52, 1)"
STOP = "from acoupi.system import *; stop_program(Settings())"
OPTIONS = [
    *("--recording.duration", "1", "--recording.interval", "1"),
    *("--recording.schedule_start", "0", "--recording.schedule_end", "0"),
    *("--microphone.samplerate", "8000"),
]


@pytest.fixture
def sensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sensor]:
    """A sensor that records a second after the other, once it is started."""
    monkeypatch.setenv("ACOUPI_SIMULATED_AUDIO", "synthetic")
    with sensor_at(tmp_path / "home", monkeypatch) as sensor:
        setup_program(sensor.settings, "cut_short", OPTIONS, target="process")
        yield sensor


@pytest.fixture
def store(sensor: Sensor) -> SqliteStore:
    return SqliteStore(sensor.home / "data" / "metadata.db")


def begun(code: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors


def cut(code: str, signal: str) -> int:
    """Run a command that gets a signal between the file of the deployment and the store."""
    return ended(begun(code, **{CUT: signal}))[0]


def names(store: SqliteStore) -> list[tuple[str, bool]]:
    """The deployments in the store, and whether they are open."""
    return [(one.name, one.ended_on is None) for one in store.get_deployments()]


def recorded(store: SqliteStore, name: str) -> int:
    return sum(one.deployment.name == name for one in store.get_captured_recordings())


def spans(store: SqliteStore, of: data.Deployment) -> list[tuple[Any, str]]:
    history = store.get_effort(of)
    assert history is not None
    return [(span.state, span.detail) for span in ledger(history, data.utc_now())]


def test_a_killed_stop_and_a_killed_start_are_settled_when_the_workers_start(
    sensor: Sensor, store: SqliteStore
) -> None:
    start_program(sensor.settings, "S1", 51, 0)

    stopped = cut(STOP, "SIGKILL")
    left = names(store)
    started = cut(START.format(name="S3"), "SIGKILL")
    start_workers(sensor.settings)
    settled = names(store)
    stop_program(sensor.settings)

    assert (stopped, left) == (-9, [("S1", True)])
    assert (started, settled) == (-9, [("S1", False), ("S3", True)])
    assert names(store) == [("S1", False), ("S3", False)]
    assert sensor.processes() == []


def test_a_start_that_was_killed_can_be_stopped(sensor: Sensor, store: SqliteStore) -> None:
    cut(START.format(name="S3"), "SIGKILL")

    stop_program(sensor.settings)

    [only] = store.get_deployments()
    assert (only.name, only.latitude, only.ended_on is None) == ("S3", 52, False)


def test_an_interrupted_start_leaves_nothing(sensor: Sensor, store: SqliteStore) -> None:
    assert cut(START.format(name="S3"), "SIGINT") != 0

    assert read_deployment(sensor.settings) is None
    assert all(not is_open for _, is_open in names(store))
    assert sensor.processes() == []


def test_an_interrupted_stop_is_finished_by_the_next(sensor: Sensor, store: SqliteStore) -> None:
    start_program(sensor.settings, "S1")
    assert cut(STOP, "SIGINT") != 0

    with pytest.raises(DeploymentError, match="there is no deployment"):
        stop_program(sensor.settings)

    assert names(store) == [("S1", False)]
    assert [one.ended_on for one in store.get_deployments()] == [
        last.ended_on for last in [read_deployment(sensor.settings)] if last
    ]


def test_of_two_starts_at_once_one_is_told_of_the_other(sensor: Sensor, store: SqliteStore) -> None:
    ends = [ended(one) for one in [begun(START.format(name=name)) for name in ("A", "B")]]

    [(_, why)] = [end for end in ends if end[0] != 0]
    winner = get_current_deployment(sensor.settings).name
    assert f'cannot start the deployment "{"B" if winner == "A" else "A"}"' in why
    assert names(store) == [(winner, True)]
    stop_program(sensor.settings)
    assert names(store) == [(winner, False)]


def test_a_named_deployment_takes_over_from_an_unnamed_one_while_it_records(
    sensor: Sensor, store: SqliteStore
) -> None:
    sensor.target.up()
    wait_for(lambda: len(store.get_deployments()) == 1, "a recording", sensor)
    [unnamed] = store.get_deployments()
    wait_for(lambda: recorded(store, unnamed.name) >= 2, "two recordings", sensor)

    start_program(sensor.settings, "Oak", 51, 0)
    wait_for(lambda: recorded(store, "Oak") >= 2, "two recordings of Oak", sensor)
    stop_program(sensor.settings)

    [first, oak] = store.get_deployments()
    assert (first.id, first.name[:8]) == (unnamed.id, "unnamed_")
    assert first.ended_on == oak.started_on
    reached = [state for state, _ in spans(store, oak)]
    assert EffortState.RECORDED in reached
    assert "the recorder was starting" not in {detail for _, detail in spans(store, oak)}
    assert spans(store, first)[-1] == (EffortState.RECORDED, "")


def test_what_is_recorded_without_a_name_can_be_stopped(sensor: Sensor, store: SqliteStore) -> None:
    sensor.target.up()
    wait_for(lambda: len(store.get_deployments()) == 1, "a recording", sensor)

    stop_program(sensor.settings)

    [unnamed] = store.get_deployments()
    assert unnamed.ended_on is not None
    assert sensor.processes() == []
    assert read_deployment(sensor.settings) is None
    with pytest.raises(DeploymentError, match="there is no deployment"):
        stop_program(sensor.settings)
