"""A clock that is set while something waits: no wait becomes longer or shorter by that."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from acoupi.system import start_workers, stop_workers
from tests.rig import part_of_rig
from tests.sensors import sensor_at, wait_for
from tests.services import require_program

pytestmark = pytest.mark.integration

HOURS = 7200.0
WORKERS = ("recording", "detection", "default")


@pytest.mark.parametrize("step", [-HOURS, HOURS])
def test_services_are_there_though_the_clock_was_set_while_they_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    require_program("cc")
    clock = part_of_rig("clocks").Clock(tmp_path)
    with sensor_at(tmp_path / "home", monkeypatch) as sensor, ThreadPoolExecutor(1) as pool:
        sensor.set_up()
        for name, value in clock.variables.items():
            monkeypatch.setenv(name, value)

        started = pool.submit(start_workers, sensor.settings)
        supervisors = sensor.settings.run_dir.glob
        wait_for(
            lambda: len(list(supervisors("*.supervisor.pid"))) == len(WORKERS), "starting", sensor
        )
        clock.step(step)
        started.result(timeout=110)

        assert all(sensor.is_ready(name) for name in WORKERS)
        stop_workers(sensor.settings)
