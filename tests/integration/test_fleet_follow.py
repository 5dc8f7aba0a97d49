"""A running sensor that a person set up gets settings from a hub: its services start again."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from acoupi.offers import Envelope, Offer, make_key, public_key, sealed
from acoupi.provisioned import Fetched
from acoupi.provisioning.over_chosen import look
from acoupi.system import setup_program, start_program
from tests.sensors import SERVICES, Sensor, sensor_at

pytestmark = pytest.mark.integration

KEY = make_key()
HUB = {"url": "http://127.0.0.1:9", "token": "x", "name": "oak-1", "key": public_key(KEY)}


@pytest.fixture
def sensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sensor]:
    with sensor_at(tmp_path / "home", monkeypatch) as sensor:
        words = [word for name in HUB for word in (f"--sensor.hub.{name}", HUB[name])]
        setup_program(sensor.settings, "demo", words)
        yield sensor


def followed(sensor: Sensor, envelope: Envelope) -> list[str]:
    """Let the sensor look once; return what it did."""
    told: list[str] = []
    found = look(sensor.settings, told.append, lambda _: Fetched(envelope.model_dump_json(), ""))
    assert found.fault is None
    return told


def test_the_services_that_run_are_restarted_once_and_only_for_a_change(sensor: Sensor) -> None:
    start_program(sensor.settings, "oak")
    before = {name: sensor.pulse(name).pid for name in SERVICES}
    offer = Offer(sensor="oak-1", number=1, minutes=10, settings={"recording": {"duration": 2}})

    told = followed(sensor, sealed(KEY, offer))

    assert told[1:] == ["restarting the services: each finishes its current task"]
    after = {name: sensor.pulse(name).pid for name in SERVICES}
    assert not set(before.values()) & set(after.values())
    assert all(map(sensor.is_ready, SERVICES))
    assert followed(sensor, sealed(KEY, offer)) == []
    assert {name: sensor.pulse(name).pid for name in SERVICES} == after
