"""Settings from a hub over those that a person chose: homes of `acoupi setup`, HTTP, PostgreSQL."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from acoupi.cli.app import app
from acoupi.errors import AcoupiError, ConfigurationError
from acoupi.hub import ingest
from acoupi.hub.database import HubDatabase
from acoupi.hub.fleet_settings import Change, set_value, unset_value
from acoupi.hub.fleet_trial import ChangeRow, advance, changes
from acoupi.hub.parts import Hub
from acoupi.offers import Offer, public_key, sealed
from acoupi.provisioned import CACHE, CONFIRMED, FROM_HUB, read_from_hub
from acoupi.services.in_force import settings_report
from acoupi.system import page_changes
from acoupi.system.config_history import read_history
from tests.clocks import Clock
from tests.fleets import ChosenSensor
from tests.provisioning import config_of

DURATION = "recording.duration"
CHOSEN = 4.0


@pytest.fixture
def oak(hub: HubDatabase, key: str, clock: Clock, tmp_path: Path) -> Iterator[ChosenSensor]:
    with TestClient(ingest.make_ingest(Hub(hub))) as client:
        sensor = ChosenSensor(hub, client, "oak-1", tmp_path / "oak-1", public_key(key), clock)
        sensor.set_up("--recording.duration", "4")
        sensor.lives()
        yield sensor


def give(oak: ChosenSensor, key: str, setting: str, value: str) -> None:
    """Set a setting at the hub, and let the sensor be well with it."""
    set_value(oak.hub, "oak-1", setting, value, Change(private=key, now=oak.clock.now, minutes=10))
    for _ in range(2):
        oak.lives()
    assert last(oak.hub).state == "done"


def last(hub: HubDatabase) -> ChangeRow:
    with hub.reading() as connection:
        return next(changes(connection, 1))


def acoupi(oak: ChosenSensor, *words: str) -> Any:
    return CliRunner().invoke(app, words, env={"ACOUPI_HOME": str(oak.settings.home)})


def test_what_the_hub_gives_is_in_force_until_it_goes_and_the_choice_comes_back(
    oak: ChosenSensor, key: str
) -> None:
    assert settings_report(oak.settings).in_force == 0

    give(oak, key, DURATION, "5")

    assert oak.duration() == 5
    by = read_history(oak.settings)[-1].by
    kept = [oak.settings.home / "config" / name for name in (CACHE, CONFIRMED, FROM_HUB)]
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in kept)  # services read them
    assert by == "document 1 of sensor.hub.url (http://hub/v1/settings)"
    give(oak, key, "sensor.disk.enabled", "true")
    assert json.loads(acoupi(oak, "config", "get", "sensor.disk.enabled").stdout) is True
    for name in (DURATION, "sensor.disk.enabled"):
        unset_value(oak.hub, "oak-1", name, Change(private=key, now=oak.clock.now, minutes=10))
        for _ in range(2):
            oak.lives()
    assert oak.duration() == CHOSEN
    assert json.loads(acoupi(oak, "config", "get", "sensor.disk.enabled").stdout) is False
    sections = json.loads(oak.settings.sensor_config_file.read_text())
    assert list(sections) == ["hub"]


def test_another_choice_is_kept_and_one_that_the_hub_decides_is_refused_by_name(
    oak: ChosenSensor, key: str
) -> None:
    give(oak, key, DURATION, "5")

    refused = acoupi(oak, "config", "set", DURATION, "6")
    assert isinstance(refused.exception, ConfigurationError) or refused.exit_code == 2
    assert f'the hub decides "{DURATION}"' in refused.output + str(refused.exception)
    with pytest.raises(AcoupiError, match="the hub decides"):
        oak.set_up("--recording.duration", "6")
    with pytest.raises(AcoupiError) as on_the_page:
        page_changes.apply(oak.settings, {DURATION: "6"}, "somebody")
    assert "the hub gives 5" in str(on_the_page.value.why)
    assert acoupi(oak, "config", "set", "recording.interval", "20").exit_code == 0
    assert acoupi(oak, "setup", "--no-prompt").exit_code == 0
    assert (oak.duration(), config_of(oak.settings).recording.interval) == (5, 20)

    unset_value(oak.hub, "oak-1", DURATION, Change(private=key, now=oak.clock.now, minutes=10))
    oak.follow()

    assert (oak.duration(), config_of(oak.settings).recording.interval) == (CHOSEN, 20)
    assert acoupi(oak, "config", "set", DURATION, "6").exit_code == 0


def test_without_the_confirmation_of_the_hub_it_goes_back_by_itself(
    oak: ChosenSensor, key: str
) -> None:
    set_value(oak.hub, "oak-1", DURATION, "5", Change(private=key, now=oak.clock.now, minutes=10))
    oak.follow()
    oak.is_linked = False
    oak.clock.advance(10 * 60 + 14)
    assert oak.follow().fault is not None  # the link
    assert oak.duration() == 5

    oak.clock.advance(2)
    found = oak.follow()

    assert oak.duration() == CHOSEN
    assert found.fault is not None
    assert "did not confirm" in found.fault.text()
    oak.is_linked = True
    oak.report()
    advance(oak.hub, oak.clock.now)
    assert "undone by the sensor oak-1" in last(oak.hub).why
    assert oak.follow().fault is None


def test_silence_is_undone_by_the_hub(oak: ChosenSensor, key: str) -> None:
    set_value(oak.hub, "oak-1", DURATION, "5", Change(private=key, now=oak.clock.now, minutes=10))
    oak.lives(silent=True)
    oak.clock.advance(11 * 60)

    oak.follow()

    assert oak.duration() == CHOSEN
    assert "are silent" in last(oak.hub).why


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"recording": {"duraton": 5}}, "recording.duration"),
        ({"recording": {"duration": -5}}, "greater than 0"),
        ({"sensor": {"hub": {"url": "http://elsewhere"}}}, "without its hub"),
        ({"sensor": {"hub": {"token": "x"}}}, "without its hub"),
        ({"sensor": {"nothing": {"here": 1}}}, "no such setting"),
    ],
)
def test_the_sensor_refuses_what_it_cannot_have_whoever_signed_it(
    oak: ChosenSensor, key: str, settings: dict[str, Any], why: str
) -> None:
    set_value(oak.hub, "oak-1", DURATION, "5", Change(private=key, now=oak.clock.now, minutes=10))
    wrong = sealed(key, Offer(sensor="oak-1", number=1, minutes=10, settings=settings))
    with oak.hub.writing() as connection:
        connection.execute(
            "UPDATE fleet_document SET document = :document, signature = :signature",
            {"document": wrong.document, "signature": wrong.signature},
        )
    before = oak.settings.program_config_file.read_text()

    found = oak.follow()

    assert found.fault is not None
    assert why in f"{found.fault.text().lower()} {found.fault.help}"
    assert oak.settings.program_config_file.read_text() == before
    oak.report()
    advance(oak.hub, oak.clock.now)
    assert "undone by the sensor oak-1" in last(oak.hub).why


def test_without_a_key_it_follows_nothing_and_the_choice_holds_again(
    oak: ChosenSensor, key: str
) -> None:
    give(oak, key, DURATION, "5")
    assert acoupi(oak, "config", "set", "sensor.hub.key", "null").exit_code == 0

    assert oak.follow().followed is None

    assert oak.duration() == CHOSEN
    assert settings_report(oak.settings).in_force is None
    assert acoupi(oak, "fleet", "follow", "--once").exit_code == 0


def test_a_follower_that_was_killed_before_the_restart_is_continued(
    oak: ChosenSensor, key: str
) -> None:
    set_value(oak.hub, "oak-1", DURATION, "5", Change(private=key, now=oak.clock.now, minutes=10))

    def killed(_: str) -> None:
        raise KeyboardInterrupt

    oak.tell = killed
    with pytest.raises(KeyboardInterrupt):
        oak.follow()
    state = read_from_hub(oak.settings.program_config_file.parent)
    assert state is not None
    assert (state.restart_due, oak.duration()) == (True, 5)
    oak.tell = lambda _: None

    assert oak.follow().restart_due is False
    for _ in range(2):
        oak.lives()
    assert last(oak.hub).state == "done"


def test_a_home_that_sets_itself_up_is_told_so(oak: ChosenSensor) -> None:
    (oak.settings.home / "config" / "provisioned.json").write_text("{}")

    with pytest.raises(ConfigurationError, match="not for this sensor"):
        oak.follow()
