"""The current deployment, in its file."""

import datetime
from pathlib import Path

import pytest

from acoupi.errors import DeploymentError
from acoupi.system import Settings, end_deployment, get_current_deployment, start_deployment
from acoupi.system.deployments import read_deployment
from tests.clocks import Clock


def test_a_deployment_starts_and_ends(settings: Settings, clock: Clock) -> None:
    started = start_deployment(settings, "heath", 51.5, -0.1)
    assert get_current_deployment(settings) == started

    clock.advance(60)
    ended = end_deployment(settings)

    assert ended.id == started.id
    assert ended.ended_on == started.started_on + datetime.timedelta(seconds=60)
    assert read_deployment(settings) == ended


def test_a_second_one_is_refused_while_one_goes_on(settings: Settings) -> None:
    first = start_deployment(settings, "heath")

    with pytest.raises(DeploymentError) as caught:
        start_deployment(settings, "moor")

    assert '"heath" has been running' in (caught.value.why or "")
    assert get_current_deployment(settings) == first


def test_after_one_has_ended_another_can_start(settings: Settings) -> None:
    start_deployment(settings, "heath")
    end_deployment(settings)

    assert start_deployment(settings, "moor").name == "moor"


def test_without_one_there_is_none(settings: Settings) -> None:
    with pytest.raises(DeploymentError, match="there is no deployment"):
        get_current_deployment(settings)
    start_deployment(settings, "heath")
    end_deployment(settings)
    with pytest.raises(DeploymentError) as caught:
        end_deployment(settings)

    assert '"heath", ended on' in (caught.value.why or "")


def test_a_time_without_a_zone_is_utc(settings: Settings) -> None:
    settings.deployment_file.parent.mkdir(parents=True)
    settings.deployment_file.write_text(
        '{"name": "heath", "started_on": "2024-06-01T12:00:00", '
        '"id": "7b0cf52e-0b6b-5d3f-9c59-1a3c0f8d4e11"}'
    )

    started = get_current_deployment(settings).started_on

    assert started == datetime.datetime(2024, 6, 1, 12, tzinfo=datetime.UTC)


@pytest.mark.parametrize(("latitude", "longitude"), [(91, 0), (0, -181), (float("nan"), 0)])
def test_a_place_that_is_not_on_earth_is_refused(
    settings: Settings, latitude: float, longitude: float
) -> None:
    with pytest.raises(DeploymentError) as caught:
        start_deployment(settings, "heath", latitude, longitude)

    assert len(caught.value.lines()) == 3
    assert not settings.deployment_file.exists()


@pytest.mark.parametrize("name", ["", "   "])
def test_a_deployment_needs_a_name(settings: Settings, name: str) -> None:
    with pytest.raises(DeploymentError, match="without a name"):
        start_deployment(settings, name)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": 3}', "\x00"])
def test_a_broken_file_is_said_to_be(settings: Settings, text: str) -> None:
    settings.deployment_file.parent.mkdir(parents=True)
    settings.deployment_file.write_text(text)

    with pytest.raises(DeploymentError, match="cannot read") as caught:
        get_current_deployment(settings)

    assert len(caught.value.lines()) == 3


def test_an_interrupt_just_after_it_was_written_leaves_no_deployment(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def interrupted(path: Path, to: Path) -> Path:
        moved = replace(path, to)
        if to.name == "deployment.json":
            monkeypatch.undo()
            raise KeyboardInterrupt
        return moved

    monkeypatch.setattr(Path, "replace", interrupted)

    with pytest.raises(KeyboardInterrupt):
        start_deployment(settings, "heath")

    assert read_deployment(settings) is None
    assert start_deployment(settings, "moor").name == "moor"
