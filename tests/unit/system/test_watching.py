"""What the worker of the default queue sees and writes where the sensor looks after itself."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from acoupi.stack.settings import Settings
from acoupi.stack.watching import with_watcher
from acoupi.system import SetupRequest
from acoupi.system.planning import Plan, plan_setup

ALARMS = ("--sensor.alarms.enabled", "true")


def plan(home: Path, *options: str, target: str = "compose") -> Plan:
    return plan_setup(Settings(home=home), SetupRequest("default", options, target=target))


def seen_by_the_keeper(found: Plan, home: Path) -> dict[str, bool]:
    """What it sees of ``run/``, and whether it may only read that."""
    mounts = found.stack.service("default").mounts
    run = home / "run"
    return {one.source.name: one.read_only for one in mounts if one.source.parent == run}


def test_a_sensor_that_looks_for_faults_sees_the_pulses_of_all(tmp_path: Path) -> None:
    home = tmp_path / "home"

    usual = seen_by_the_keeper(plan(home), home)
    found = plan(home, *ALARMS)

    assert usual == {"default": False}
    assert seen_by_the_keeper(found, home) == {"default": False, "recording": True, "beat": True}
    others = [one for one in found.stack.services if one.name != "default"]
    assert others == [one for one in plan(home).stack.services if one.name != "default"]


def test_what_is_mounted_already_is_not_mounted_twice(tmp_path: Path) -> None:
    home = tmp_path / "home"
    found = plan(home, *ALARMS)

    again = with_watcher(found.stack, Settings(home=home), sees_services=True)

    assert again == found.stack


def test_a_fleet_that_looks_for_faults_sees_them_too(tmp_path: Path) -> None:
    found = plan(tmp_path / "home", *ALARMS, target="balena")

    (path,) = [one for one in found.generated if str(one) == "balena/docker-compose.yml"]
    services = YAML(typ="safe").load(found.generated[path].text)["services"]
    assert {"run-recording:/acoupi/run/recording:ro", "run-beat:/acoupi/run/beat:ro"} <= set(
        services["default"]["volumes"]
    )


@pytest.mark.parametrize(("path", "folder"), [("data/m/x.prom", None), ("/srv/prom/x.prom", "")])
def test_the_text_file_of_metrics_can_be_written(
    tmp_path: Path, path: str, folder: str | None
) -> None:
    home = tmp_path / "home"

    found = plan(home, "--sensor.metrics.textfile", path)

    mounts = found.stack.service("default").mounts
    written = [one.source for one in mounts if not one.read_only]
    assert (Path("/srv/prom") in written) is (folder is not None)
    assert any((home / path).is_relative_to(folder) for folder in written)
    assert "recording" in seen_by_the_keeper(found, home)


def test_with_the_page_each_folder_is_mounted_once(tmp_path: Path) -> None:
    found = plan(tmp_path / "home", *ALARMS, "--sensor.web.enabled", "true")

    sources = [one.source for one in found.stack.service("default").mounts]
    assert len(sources) == len(set(sources))
    assert tmp_path / "home" / "run" / "web" in sources
