"""A microphone that fails in two ways, and what ``acoupi effort`` makes of it."""

import contextlib
import csv
import datetime
import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from acoupi import data
from acoupi.audio.simulated import SimulatedAudio
from acoupi.components import PARecorder, SqliteStore
from acoupi.data import EffortSpan, EffortState
from acoupi.effort import CapturePlan, horizon, ledger
from acoupi.errors import DeviceError
from acoupi.tasks import generate_recording_task
from tests.services import eventually

ACOUPI = Path(sys.executable).with_name("acoupi")

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def holes(spans: list[EffortSpan]) -> set[EffortState]:
    usual = (EffortState.RECORDED, EffortState.OFF_SCHEDULE)
    return {span.state for span in spans if span.state not in usual}


def seconds_of(spans: list[EffortSpan], state: EffortState) -> float:
    return sum(span.duration for span in spans if span.state is state)


def spans_of(store: SqliteStore) -> list[EffortSpan]:
    (deployment,) = store.get_deployments()
    history = store.get_effort(deployment)
    assert history is not None
    return ledger(history, horizon(history, data.utc_now()))


def test_every_second_of_a_microphone_that_fails_is_accounted_for(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "metadata.db")
    recorder = PARecorder(
        duration=0.5,
        samplerate=8000,
        audio_channels=1,
        device_name="none",
        audio_dir=tmp_path / "spool",
        interval=0.5,
        simulated=SimulatedAudio.parse("synthetic,faults=overrun:1.2:0.4+unplug:3.3:1.5"),
    )
    plan = CapturePlan(duration=0.5, interval=0.5)
    task = generate_recording_task(recorder, store, plan=plan)

    def recorded_after_the_fault() -> bool:
        with contextlib.suppress(DeviceError):
            task()
        states = [span.state for span in spans_of(store)]
        return EffortState.DEVICE_MISSING in states and states[-1] is EffortState.RECORDED

    eventually(recorded_after_the_fault, "a recording after the replug")
    recorder.close()

    spans = spans_of(store)
    assert all(one.end == after.start for one, after in pairwise(spans))
    assert holes(spans) - {EffortState.NOT_RUNNING} == {
        EffortState.OVERRUN,
        EffortState.DEVICE_MISSING,
    }
    assert seconds_of(spans, EffortState.OVERRUN) == pytest.approx(0.4, abs=0.05)
    assert seconds_of(spans, EffortState.DEVICE_MISSING) >= 1.4
    missing = [span.detail for span in spans if span.state is EffortState.DEVICE_MISSING]
    assert all("stopped" in detail or "cannot find" in detail for detail in missing), missing
    # All that is left is the moment before the microphone was open.
    assert seconds_of(spans[1:], EffortState.NOT_RUNNING) == 0
    store.close()


def test_effort_of_a_demo_run_shows_both_holes_with_their_reasons(
    home: Path, tmp_path: Path
) -> None:
    environ = {
        **os.environ,
        "ACOUPI_HOME": str(home),
        "ACOUPI_SIMULATED_AUDIO": "synthetic,faults=overrun:7:1+unplug:13:4",
    }

    def acoupi(*args: str) -> str:
        result = subprocess.run(
            [str(ACOUPI), *args], env=environ, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    intervals = ["--recording.duration", "3", "--recording.interval", "3"]
    acoupi("setup", "--program", "acoupi.programs.demo", "--no-prompt", *intervals)
    acoupi("deployment", "start", "--name", "demo", "--no-check")
    store = SqliteStore(home / "data" / "metadata.db")

    def is_back() -> bool:
        with contextlib.suppress(ValueError):
            spans = spans_of(store)
            missing = [span for span in spans if span.state is EffortState.DEVICE_MISSING]
            return bool(missing) and spans[-1].state is EffortState.RECORDED
        return False

    try:
        eventually(is_back, "a recording after the replug", 120)
    finally:
        acoupi("deployment", "stop")

    found = json.loads(acoupi("effort", "--json"))
    table = acoupi("effort", "--csv", str(tmp_path / "effort.csv"))
    reasons = {hole["state"]: hole for hole in found["holes"]}
    assert {"overrun", "device_missing"} <= set(reasons)
    assert reasons["overrun"]["lost_s"] == pytest.approx(1, abs=0.1)
    assert reasons["device_missing"]["lost_s"] >= 3.5
    assert "stopped" in reasons["device_missing"]["detail"]
    assert set(reasons) <= {"overrun", "device_missing", "not_running"}
    length = datetime.datetime.fromisoformat(found["until"]) - datetime.datetime.fromisoformat(
        found["since"]
    )
    assert found["until"] == found["deployment"]["ended_on"].replace("Z", "+00:00")
    assert found["total_s"] == length.total_seconds()
    assert sum(round(seconds * 1e6) for seconds in found["states_s"].values()) == round(
        found["total_s"] * 1e6
    )
    assert "device missing" in table
    assert "overrun" in table
    assert "100.00 %" in table
    rows = list(csv.DictReader((tmp_path / "effort.csv").read_text().splitlines()))
    assert all(one["end"] == after["start"] for one, after in pairwise(rows))
