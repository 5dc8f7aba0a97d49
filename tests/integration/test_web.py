"""The page of a sensor that runs: who logs in changes it, and it goes on recording."""

import json
import socket
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest

from acoupi.errors import TargetError
from acoupi.system import Settings, setup_program
from tests.browsers import PASSWORD, Browser, choose_password
from tests.sensors import Sensor, sensor_at, wait_for
from tests.services import free_port

pytestmark = pytest.mark.integration

RESTARTED = ("recording", "default", "beat", "web")


class Watched:
    """A sensor with a page, and who looks at it."""

    def __init__(self, sensor: Sensor, port: int) -> None:
        self.sensor, self.browser = sensor, Browser(port)

    def recordings(self) -> int:
        return self.sensor.pulse("recording").done


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    port = free_port()
    with sensor_at(tmp_path / "home", monkeypatch) as sensor:
        settings: Settings = sensor.settings
        options = {"recording.duration": 1, "recording.interval": 2, "sensor.web.port": port}
        given = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        setup_program(settings, "demo", [*given, "--sensor.web.enabled", "true"])
        choose_password(settings)
        sensor.target.up()
        yield Watched(sensor, port)
        sensor.target.down()
        assert sensor.processes() == []


def test_settings_and_deployments_change_while_it_runs(watched: Watched) -> None:
    sensor, browser = watched.sensor, watched.browser
    assert {one.name: one.state for one in sensor.target.status()}["web"] == "ready"
    assert browser.post("/deployment/start", name="Oak") == 401
    assert browser.post("/login", password=PASSWORD) == 200

    assert browser.post("/deployment/start", name="Oak", csrf=browser.csrf()) == 200
    assert browser.now()["status"]["deployment"]["name"] == "Oak"
    wait_for(lambda: watched.recordings() > 0, "a recording", sensor)
    wait_for(lambda: "Oak" in browser.get("/api/v1/recordings"), "it on the page", sensor)
    assert browser.first("/api/v1/live", "columns")["columns"]

    before = {name: sensor.pulse(name).pid for name in RESTARTED}
    changes = json.dumps({"recording.interval": 3})
    assert browser.post("/settings", changes=changes, csrf=browser.csrf()) == 200

    def applied() -> bool:
        return all(
            sensor.pulse(name).pid != pid and sensor.is_ready(name) for name, pid in before.items()
        )

    wait_for(applied, "all services with the new settings", sensor)
    wait_for(lambda: watched.recordings() > 0, "a recording with them", sensor)
    assert json.loads(sensor.settings.program_config_file.read_text())["recording"]["interval"] == 3
    assert browser.post("/settings", changes=changes, csrf=browser.csrf()) == 200

    assert browser.post("/deployment/stop", csrf=browser.csrf()) == 200
    wait_for(lambda: "Not recording" in sensor.log("recording"), "the recorder stands by", sensor)
    assert browser.now()["status"]["deployment"] is None
    assert browser.now()["status"]["unnamed"] is None
    assert sensor.is_ready("recording")
    newest = json.loads(browser.get("/api/v1/recordings"))["recordings"][0]
    assert newest["deployment_name"] == "Oak"


def test_what_asks_without_end_does_not_disturb_the_recorder(watched: Watched) -> None:
    sensor, browser = watched.sensor, watched.browser
    wait_for(lambda: watched.recordings() > 0, "a recording", sensor)

    def code() -> int:
        try:
            browser.get("/api/v1/now")
        except urllib.error.HTTPError as error:
            return error.code
        return 200

    codes = {code() for _ in range(1000)}

    assert codes == {401, 429}
    assert sensor.pulse("recording").failed == 0
    assert sensor.log("web").count("Too many requests") == 1
    before = watched.recordings()
    wait_for(lambda: watched.recordings() > before, "the next recording", sensor)


def test_a_port_that_is_taken_is_named_and_nothing_else_stops(watched: Watched) -> None:
    sensor = watched.sensor
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        setup_program(sensor.settings, "demo", ["--sensor.web.port", str(taken)])
        with pytest.raises(TargetError, match='"web" could not be started'):
            sensor.target.restart()

        assert f"cannot be served at 127.0.0.1:{taken}" in sensor.log("web")
        assert "another program listens on that port" in sensor.log("web")
        assert f"--sensor.web.port {taken + 1}" in sensor.log("web")
        wait_for(lambda: watched.recordings() > 0, "a recording", sensor)
