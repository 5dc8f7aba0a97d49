"""A service that is no worker, as a process beside the workers."""

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from acoupi.stack.pulse import is_locked
from acoupi.targets.process import run_script
from tests.docker.beside import hello_service
from tests.docker.beside.hello_service import ENTRY_POINTS, NAME
from tests.packages import install
from tests.sensors import Sensor, kill, sensor_at, wait_for
from tests.services import DEADLINE, free_port

pytestmark = pytest.mark.integration

PORT = free_port()
"""Of this process of the tests: others run the same tests."""


def page(path: str = "/") -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}{path}", timeout=DEADLINE) as answer:
        text: str = answer.read().decode()
        return text


@pytest.fixture
def sensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sensor]:
    """A sensor that is set up with the service, and does not run."""
    source = Path(hello_service.__file__).read_text()
    source = source.replace(f"PORT = {hello_service.PORT}\n", f"PORT = {PORT}\n")
    folder = install(monkeypatch, tmp_path / "package", ENTRY_POINTS, {"hello_service.py": source})
    with sensor_at(tmp_path / "home", monkeypatch) as sensor:
        monkeypatch.setenv("PYTHONPATH", str(folder), prepend=":")
        sensor.set_up()
        yield sensor


def test_it_starts_and_stops_with_the_others_and_answers_meanwhile(sensor: Sensor) -> None:
    sensor.target.up()

    assert page() == "hello"
    assert page("/home") == str(sensor.settings.home)
    states = {one.name: (one.role, one.state) for one in sensor.target.status()}
    assert states[NAME] == (NAME, "ready")
    assert NAME in sensor.target.logs()

    sensor.target.down()

    with pytest.raises(OSError, match="refused"):
        page()
    assert not is_locked(sensor.settings.run_dir, NAME)
    assert sensor.processes() == []


def test_workers_are_stopped_without_it_and_it_without_them(sensor: Sensor) -> None:
    sensor.target.up()

    sensor.target.stop_workers()
    assert page() == "hello"

    run_script(sensor.settings, sensor.settings.stop_script_path, NAME)
    assert not is_locked(sensor.settings.run_dir, NAME)
    sensor.target.down()


def test_one_that_is_killed_is_started_again(sensor: Sensor) -> None:
    sensor.target.up()
    before = {one.name: one for one in sensor.target.status()}[NAME]
    assert before.pid is not None

    kill(before.pid)

    def again() -> bool:
        now = {one.name: one for one in sensor.target.status()}[NAME]
        return now.is_well and now.pid != before.pid

    wait_for(again, "the service again", sensor)
    assert page() == "hello"
    sensor.target.down()
