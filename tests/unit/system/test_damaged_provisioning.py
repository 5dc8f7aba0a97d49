"""What a sensor that sets itself up does with damaged files that it wrote itself."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from acoupi import data
from acoupi.errors import ConfigurationError
from acoupi.provisioned import CACHE, MARKER, Fetched, Provisioned, read_cache, read_provisioned
from acoupi.provisioning.apply import provision
from acoupi.services.declared_deployments import CALLED, read_called, settle_deployments
from acoupi.services.program_hooks import hook_service
from acoupi.services.waiting import await_home
from acoupi.system import Settings, get_status, load_config
from acoupi.system.sensor import Sensor

URL = "http://x/a"
GIVEN = {"ACOUPI_PROGRAM": "default", "ACOUPI_CONFIG_URL": URL}
DAMAGES = [b"", b"\0" * 20, b"\xff\xfe{", b'{"generation"', b"[]"]


def answer(url: str) -> Fetched:
    assert url == URL
    return Fetched("recording: {duration: 4}", ".yaml")


def away(url: str) -> Fetched:
    raise ConfigurationError("cannot fetch the configuration.", why=f"{url} is away.")


def put(
    settings: Settings, fetch: Callable[[str], Fetched] = answer, name: str = "Oak"
) -> tuple[Provisioned, bool]:
    return provision(settings, {**GIVEN, "ACOUPI_DEPLOYMENT__NAME": name}, fetch)


@pytest.fixture
def settings(home: Path) -> Settings:
    """A home that has set itself up twice."""
    settings = Settings(home=home)
    put(settings)
    put(settings, name="Elm")
    return settings


def config_dir(settings: Settings) -> Path:
    return settings.program_config_file.parent


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_is_written_again_and_no_deployment_is_lost(
    settings: Settings, damage: bytes
) -> None:
    before = read_provisioned(config_dir(settings))
    assert before is not None
    for _ in range(2):
        (config_dir(settings) / MARKER).write_bytes(damage)

        found, _is_new = put(settings, name="Elm")

        assert found.fault is None
        assert found.provisioned_on != before.provisioned_on
        assert [(one.id, one.name) for one in found.deployments] == [
            (one.id, one.name) for one in before.deployments
        ]
        assert found.deployments[0].ended_on is not None
        assert read_provisioned(config_dir(settings)) == found


def test_a_home_with_a_damaged_state_is_not_taken_for_one_that_a_person_set_up(
    settings: Settings,
) -> None:
    (config_dir(settings) / MARKER).write_bytes(b"")

    status = get_status(settings)
    environ = {"ACOUPI_PROGRAM": "default"}
    watch = await_home(settings, "recording", environ=environ)

    assert status.program.status == "unhealthy"
    assert MARKER in (status.program.message or "")
    assert watch is not None  # the worker had the home set up again
    assert read_provisioned(config_dir(settings)) == watch.known


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_copy_of_what_was_fetched_is_named_and_written_again(
    settings: Settings, damage: bytes
) -> None:
    (config_dir(settings) / CACHE).write_bytes(damage)

    found, is_new = put(settings, away, "Elm")
    assert not is_new
    assert found.fault is not None
    assert CACHE in found.fault.text()
    assert (
        load_config(
            settings.program_config_file, type(Sensor.read(settings).config)
        ).recording.duration
        == 4
    )

    found, is_new = put(settings, name="Elm")
    assert not is_new
    assert found.fault is None
    assert read_cache(config_dir(settings)) is not None


@pytest.mark.parametrize("damage", DAMAGES)
def test_hooks_are_called_again_when_it_is_not_known_which_were(
    settings: Settings, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    called: list[str] = []
    program: Any = SimpleNamespace(
        on_start=lambda deployment: called.append(f"start {deployment.name}"),
        on_end=lambda deployment: called.append(f"end {deployment.name}"),
    )
    stack: Any = SimpleNamespace(workers=Sensor.read(settings).services)
    deployments = [
        data.Deployment(name="Oak", ended_on=data.utc_now()),
        data.Deployment(name="Elm"),
    ]
    (settings.home / "data").mkdir(exist_ok=True)
    (settings.home / CALLED).write_bytes(damage)
    caplog.set_level(logging.WARNING)

    for _ in range(2):
        settle_deployments(settings, hook_service(stack.workers), stack, program, deployments)

    assert called == ["start Oak", "end Oak", "start Elm"]
    assert "deployments.json" in caplog.text
    assert (settings.home / f"{CALLED}.damaged").read_bytes() == damage
    assert len(read_called(settings.home / CALLED)) == 2
    assert json.loads((settings.home / CALLED).read_text())
