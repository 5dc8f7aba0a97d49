"""A sensor that runs, and somebody who looks after it with a phone."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from acoupi.system import setup_program
from tests.browsers import PASSWORD, choose_password
from tests.sensors import Sensor, sensor_at, wait_for
from tests.services import free_port
from tests.web.chromium import PHONE, chromium, opened

pytestmark = pytest.mark.integration


@pytest.fixture
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def sensor(tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sensor]:
    """The demo, with a page."""
    with sensor_at(tmp_path / "home", monkeypatch) as sensor:
        options = {"recording.duration": 1, "recording.interval": 2, "sensor.web.port": port}
        given = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        setup_program(sensor.settings, "demo", [*given, "--sensor.web.enabled", "true"])
        choose_password(sensor.settings)
        sensor.target.up()
        yield sensor
        sensor.target.down()


def test_a_sensor_is_looked_after_from_a_phone(browser: Browser, sensor: Sensor, port: int) -> None:
    with opened(browser, f"http://127.0.0.1:{port}", viewport=PHONE) as page:
        page.goto("/login?then=/deployment")
        page.get_by_label("Password").fill(PASSWORD)
        page.keyboard.press("Enter")

        page.get_by_label("Name of the site").fill("Old oak")
        page.get_by_role("button", name="Start recording").click()
        expect(page.get_by_role("heading", name="Deployment", exact=True)).to_be_visible()
        expect(page.locator("dl.facts")).to_contain_text("Old oak")

        page.goto("/")
        heard = page.locator("#heard-head ~ table tbody a")
        expect(heard.first).to_be_visible()
        heard.first.click()
        page.locator("audio").wait_for()
        page.keyboard.press("p")
        wait_for(
            lambda: page.evaluate("document.querySelector('audio').currentTime > 0"),
            "what was heard to be played",
            sensor,
        )

        page.goto("/settings")
        page.locator("summary", has_text="recording").first.click()
        page.get_by_label("recording.interval", exact=True).fill("3")
        page.get_by_role("button", name="Show what would change").click()
        expect(page.locator("ins")).to_have_text(["3.0"])
        before = {name: sensor.pulse(name).pid for name in ("recording", "default", "web")}
        page.get_by_role("button", name="Apply").click()
        for name, pid in before.items():
            wait_for(
                lambda name=name, pid=pid: (  # type: ignore[misc]
                    sensor.pulse(name).pid != pid and sensor.is_ready(name)
                ),
                f"{name} with the new setting",
                sensor,
            )
        assert _settings(sensor)["recording"]["interval"] == 3

        page.goto("/deployment")
        page.get_by_text("Stop it …").click()
        page.get_by_role("button", name="Stop recording").click()
        expect(page.get_by_text("None is running.")).to_be_visible()
        wait_for(
            lambda: "Not recording" in sensor.log("recording"), "the recorder stands by", sensor
        )


def _settings(sensor: Sensor) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads(
        sensor.settings.program_config_file.read_text()
    )
    return found
