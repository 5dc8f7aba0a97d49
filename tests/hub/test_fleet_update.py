"""Images from a hub: staged, tried, undone; real homes, HTTP and PostgreSQL, and no engine."""

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
from acoupi.hub.fleet_settings import Change, set_image, set_key, set_value, unset_value
from acoupi.hub.fleet_trial import ChangeRow, advance, changes
from acoupi.hub.parts import Hub
from acoupi.offers import make_key, public_key
from tests.clocks import Clock
from tests.fleets import ChosenSensor, FakeImages, FollowingSensor

FIRST, A, B = "acoupi/sensor:1", "repo/sensor:a", "repo/sensor@sha256:b"


class Fleet:
    """Sensors in containers, and one that sets itself up."""

    def __init__(self, hub: HubDatabase, client: TestClient, folder: Path, clock: Clock) -> None:
        self.hub, self.client, self.folder, self.clock = hub, client, folder, clock
        self.key = make_key()
        set_key(hub, public_key(self.key))

    def sensor(self, name: str, target: str = "compose") -> ChosenSensor:
        own = (self.hub, self.client, name, self.folder / name, public_key(self.key), self.clock)
        found = ChosenSensor(*own)
        found.set_up(target=target)
        if target == "compose":
            found.images = FakeImages(found.settings.home, FIRST)
        found.lives()
        found.lives()
        return found

    def other(self, name: str) -> FollowingSensor:
        own = (self.hub, self.client, name, self.folder / name, public_key(self.key), self.clock)
        found = FollowingSensor(*own)
        found.lives()
        return found

    def change(self) -> Change:
        return Change(private=self.key, now=self.clock.now, minutes=10)

    def last(self) -> ChangeRow:
        with self.hub.reading() as connection:
            return next(changes(connection, 1))


@pytest.fixture
def fleet(hub: HubDatabase, clock: Clock, tmp_path: Path) -> Iterator[Fleet]:
    with TestClient(ingest.make_ingest(Hub(hub))) as client:
        yield Fleet(hub, client, tmp_path, clock)


def images(sensor: ChosenSensor) -> FakeImages:
    assert sensor.images is not None
    return sensor.images


def test_an_image_reaches_the_first_and_the_others_when_it_is_well_and_goes_back_to_the_first(
    hub: HubDatabase, fleet: Fleet
) -> None:
    oak, elm = fleet.sensor("oak-1"), fleet.sensor("elm-2")

    def settled(*runs: str) -> None:
        for _ in range(3):
            for one in (elm, oak):
                one.lives()
        assert fleet.last().state == "done"
        assert (images(oak).runs, images(elm).runs) == runs

    found = set_image(hub, "base", A, fleet.change())
    assert (found.first, found.others) == (["elm-2"], ["oak-1"])
    elm.follow()
    oak.follow()
    assert (images(oak).runs, images(elm).runs) == (FIRST, A)
    settled(A, A)
    set_image(hub, "oak-1", B, fleet.change())
    settled(B, A)
    set_value(hub, "base", "recording.duration", "5", fleet.change())  # keeps the images
    settled(B, A)
    assert oak.duration() == 5
    unset_value(hub, "oak-1", "sensor.image", fleet.change())
    settled(A, A)
    unset_value(hub, "base", "sensor.image", fleet.change())
    settled(FIRST, FIRST)


def test_one_that_goes_back_by_itself_undoes_it_everywhere(hub: HubDatabase, fleet: Fleet) -> None:
    oak, elm = fleet.sensor("oak-1"), fleet.sensor("elm-2")
    images(oak).crashing = {A}
    set_image(hub, "base", A, fleet.change())
    for _ in range(2):
        elm.lives()
    assert fleet.last().state == "all"

    found = oak.follow()

    assert found.fault is not None
    assert "was undone. 5 minutes" in found.fault.text()  # half of those of the change
    oak.report()
    advance(hub, oak.clock.now)
    assert "undone by the sensor oak-1" in fleet.last().why
    for one in (oak, elm):
        assert one.follow().fault is None
    assert (images(oak).runs, images(elm).runs) == (FIRST, FIRST)


def test_an_image_that_records_silence_is_undone_by_the_hub(hub: HubDatabase, fleet: Fleet) -> None:
    oak = fleet.sensor("oak-1")
    set_image(hub, "oak-1", A, fleet.change())
    oak.lives(silent=True)
    assert images(oak).runs == A
    oak.clock.advance(11 * 60)

    oak.follow()

    assert images(oak).runs == FIRST
    assert "are silent" in fleet.last().why


def test_a_rollback_on_the_sensor_is_told_to_the_hub_and_undoes_it(
    hub: HubDatabase, fleet: Fleet
) -> None:
    oak, elm = fleet.sensor("oak-1"), fleet.sensor("elm-2")
    set_image(hub, "base", A, fleet.change())
    elm.lives()
    images(elm).roll_back()

    found = elm.follow()

    assert found.fault is not None
    assert "acoupi rollback" in found.fault.text()
    elm.report()
    advance(hub, elm.clock.now)
    assert "undone by the sensor elm-2" in fleet.last().why
    assert elm.follow().fault is None
    assert (images(oak).runs, images(elm).runs) == (FIRST, FIRST)


def test_one_long_after_stays_and_is_told_until_the_hub_gives_another(
    hub: HubDatabase, fleet: Fleet
) -> None:
    oak = fleet.sensor("oak-1")
    set_image(hub, "oak-1", A, fleet.change())
    oak.lives()
    oak.lives()
    assert fleet.last().state == "done"
    images(oak).roll_back()

    for _ in range(3):
        assert oak.follow().fault is not None
        assert images(oak).runs == FIRST

    set_image(hub, "oak-1", B, fleet.change())
    assert oak.follow().fault is None
    assert images(oak).runs == B


def test_an_update_that_was_interrupted_is_undone_and_told(hub: HubDatabase, fleet: Fleet) -> None:
    oak = fleet.sensor("oak-1")
    images(oak).update(A, 1)
    images(oak).kept[0].stage = "judging"  # and then the power failed
    set_image(hub, "oak-1", A, fleet.change())

    found = oak.follow()

    assert found.fault is not None
    assert "interrupted" in found.fault.text()
    assert images(oak).runs == FIRST
    oak.report()
    advance(hub, oak.clock.now)
    assert "undone by the sensor oak-1" in fleet.last().why


def test_who_cannot_get_an_image_is_refused_by_name_and_keeps_its_settings(
    hub: HubDatabase, fleet: Fleet
) -> None:
    fleet.sensor("oak-1")
    elm, ash = fleet.other("elm-2"), fleet.sensor("ash-3", target="process")

    for name, why in (("elm-2", "from variables"), ("ash-3", '"process"')):
        with pytest.raises(ConfigurationError, match=name) as error:
            set_image(hub, name, A, fleet.change())
        assert why in str(error.value.why)
    with pytest.raises(ConfigurationError, match="ash-3"):
        set_image(hub, "base", A, fleet.change())
    for wrong in ("--privileged", "two words", ""):
        with pytest.raises(AcoupiError, match="name of an image"):
            set_image(hub, "oak-1", wrong, fleet.change())
    with pytest.raises(AcoupiError, match="not a setting"):
        set_value(hub, "oak-1", "sensor.image", A, fleet.change())
    for one in (elm, ash):
        assert one.follow().fault is None


def test_the_command_and_the_refusal_of_an_update_by_hand(
    hub: HubDatabase, fleet: Fleet, url: str, tmp_path: Path
) -> None:
    oak = fleet.sensor("oak-1")
    (tmp_path / "key").write_text(fleet.key)

    def acoupi(*words: str) -> Any:
        variables = {"ACOUPI_HUB_DATABASE": url, "ACOUPI_HOME": str(oak.settings.home)}
        return CliRunner().invoke(app, words, env=variables)

    found = acoupi("fleet", "update", "oak-1", A, "--key", str(tmp_path / "key"))
    assert "Offered to oak-1" in found.output
    oak.follow()
    assert json.loads(acoupi("fleet", "list", "--json").stdout) == [
        {"place": "the sensor oak-1", "setting": "sensor.image", "value": A}
    ]
    refused = acoupi("update", "--image", B)
    assert "the hub chooses" in f"{refused.output} {refused.exception}"
