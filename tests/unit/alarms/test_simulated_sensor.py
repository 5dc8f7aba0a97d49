"""Faults are told within two minutes of the sensor's time, and nothing else is."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from acoupi.audio.system_clock import ClockState
from tests.unit.alarms.simulated_sensor import FAULTS, INTERVAL, SimulatedSensor, inject

TAKE_AN_HOUR = ("clock set back", "beat restarts")
"""`scripts/bench alarms` has the others."""
EVENING = datetime(2024, 6, 20, 20, tzinfo=UTC)


TAKE_AN_HOUR = ("clock set back", "beat restarts")
"""`scripts/bench alarms` has the others."""


@pytest.fixture
def sensor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[SimulatedSensor]:
    """One that has begun to record."""
    interval = getattr(request, "param", INTERVAL)
    sensor = SimulatedSensor(tmp_path, monkeypatch, seed=3, start=EVENING, interval=interval)
    sensor.run(3)
    yield sensor
    sensor.close()


@pytest.mark.parametrize(
    ("name", "sensor"),
    [
        (name, 30.0 if name in TAKE_AN_HOUR else INTERVAL)
        for name, one in FAULTS.items()
        if one.cleared_within <= 5 or name in TAKE_AN_HOUR
    ],
    indirect=["sensor"],
)
def test_a_fault_is_told_within_two_minutes_and_so_is_its_end(
    name: str, sensor: SimulatedSensor
) -> None:
    told, cleared = inject(sensor, FAULTS[name])

    assert told is not None
    assert told <= 120
    assert cleared is not None
    states = [one.state for one in sensor.told if one.alarm == FAULTS[name].alarm]
    assert states == ["raised", "cleared"]
    assert {one.alarm for one in sensor.told} == {FAULTS[name].alarm}
    assert FAULTS[name].alarm not in sensor.active()


def test_an_ordinary_evening_raises_nothing(sensor: SimulatedSensor) -> None:
    sensor.run(10)
    sensor.restart("detection")
    sensor.clock.step(0.4)  # as time servers do
    sensor.run(5)
    sensor.cut_power(2)
    sensor.run(5)

    assert sensor.told == []
    assert sensor.active() == set()


def test_setting_the_clock_after_the_start_is_no_step(sensor: SimulatedSensor) -> None:
    sensor.clock.state = ClockState(is_synchronised=False, error=None)
    sensor.run(1)
    sensor.clock.step(3 * 86_400.0)
    sensor.clock.state = ClockState(is_synchronised=True, error=0.01)
    sensor.run(3)

    assert "clock_stepped" not in {one.alarm for one in sensor.told}


def test_alarms_wait_while_the_link_is_down(sensor: SimulatedSensor) -> None:
    sensor.link_is_up = False
    sensor.restart("beat")
    sensor.run(1)
    sensor.restart("beat")
    sensor.restart("beat")
    sensor.run(2)
    assert sensor.told == []
    assert sensor.active() == {"service_restarts"}

    sensor.link_is_up = True
    sensor.run(1)

    assert [(one.alarm, one.state) for one in sensor.told] == [("service_restarts", "raised")]


def test_its_weather_differs_from_seed_to_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (
        SimulatedSensor(tmp_path / str(seed), monkeypatch, seed, EVENING, learnt_days=0)
        for seed in (1, 2)
    )

    assert one.weather != other.weather
    assert set(one.weather) == set(other.weather)
    assert max(one.weather) - min(one.weather) > timedelta(days=2)
    one.close()
    other.close()
