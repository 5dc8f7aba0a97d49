"""A sensor with a hub: from its settings to what people are told."""

import json
from pathlib import Path

import pytest

from acoupi.components.stores import SqliteStore
from acoupi.components.stores.unreported import Unreported
from acoupi.components.stores.unsent import UnsentSound
from acoupi.config.sensor import load_sensor
from acoupi.services.construction import load_program
from acoupi.system import Settings
from acoupi.system.planning import SetupRequest, plan_setup
from acoupi.system.reporting import hub_state
from tests.cli.support import Run
from tests.stores import recording

HUB = {"url": "https://hub.example.org/", "token": "s3cret-token"}


@pytest.fixture
def with_hub(run: Run, sensor: Path) -> Path:
    result = run("config", "set", "--json", "sensor.hub", json.dumps(HUB))
    assert result.exit_code == 0, result.output
    return sensor


def test_a_sensor_without_a_hub_has_no_task_for_it(sensor: Path) -> None:
    assert "hub_task" not in load_program(Settings(home=sensor)).tasks
    assert hub_state(Settings(home=sensor)) is None


def test_a_sensor_with_a_hub_reports_by_a_task_and_keeps_its_token_secret(with_hub: Path) -> None:
    settings = Settings(home=with_hub)

    assert "hub_task" in load_program(settings).tasks
    assert "hub_task" in settings.schedule_file.read_text()
    assert "s3cret" not in settings.sensor_config_file.read_text()
    hub = load_sensor(settings).hub
    assert (hub.url, hub.token.get_secret_value()) == ("https://hub.example.org", "s3cret-token")


def test_only_the_worker_that_reports_has_a_network(with_hub: Path, run: Run) -> None:
    def with_network() -> list[str]:
        request = SetupRequest("connected", target="fake", environ={})
        stack = plan_setup(Settings(home=with_hub), request).stack
        return [one.name for one in stack.services if one.network]

    assert with_network() == ["default"]
    assert run("config", "set", "sensor.hub.url", "null", "--json").exit_code == 0
    assert with_network() == []


@pytest.mark.parametrize(
    ("hub", "told"),
    [
        ({"url": "https://hub.example.org"}, "needs a token"),
        ({"url": "hub.example.org", "token": "x"}, "must be a web address"),
        ({"url": "https://me:pw@hub.example.org", "token": "x"}, "no user or password"),
    ],
)
def test_a_hub_that_cannot_be_one_is_refused(
    run: Run, sensor: Path, hub: dict[str, str], told: str
) -> None:
    result = run("config", "set", "--json", "sensor.hub", json.dumps(hub))

    assert result.exit_code != 0
    assert told in " ".join(result.output.split())


def test_status_says_what_the_hub_does_not_know_and_why(run: Run, with_hub: Path) -> None:
    path = with_hub / "data" / "metadata.db"
    store = SqliteStore(path)
    store.store_recording(recording("a.wav"))
    store.close()
    noted = Unreported(path)
    noted.start("hub:hub.example.org")
    noted.settle("HTTP 401: this token is not valid", 60)
    noted.close()

    noted = UnsentSound(path)
    noted.start("hub:hub.example.org", "all")
    noted.settle("HTTP 507: the hub has no room for more sound", 60)
    noted.close()
    result = run("deployment", "status")
    assert "sound file" not in result.output

    assert run("config", "set", "sensor.hub.audio", "all").exit_code == 0
    state = hub_state(Settings(home=with_hub))
    assert state is not None
    assert state.sound is not None
    assert (state.sound.waiting, state.sound.trouble) == (
        1,
        "HTTP 507: the hub has no room for more sound",
    )
    result = run("deployment", "status")
    assert "1 sound file to send" in " ".join(result.output.split())
    assert "nothing reported yet, 2 to report" in result.output
    assert "HTTP 401: this token is not valid" in " ".join(result.output.split())
