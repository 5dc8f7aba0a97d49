"""Alarms: how soon each fault is told, and how many are told in days of ordinary field sound.

The sensor is that of the tests, on a made-up clock (`tests/unit/alarms/simulated_sensor.py`): real
stores, pulses, rules and messages; sound with rain, wind, choruses and calm nights, measured as
the recorder measures it. Each day of it is another weather, and has what happens on ordinary days:
services that are restarted once, small corrections of the clock, a link that is down, a power cut.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.unit.alarms.simulated_sensor import FAULTS, SimulatedSensor, inject

START = datetime(2024, 6, 20, 20, tzinfo=UTC)
DAYS = int(os.environ.get("ACOUPI_BENCH_DAYS", "5"))
"""Simulated days of ordinary field sound, each with another seed."""
SECONDS_TO_TELL = 120.0
SHORT = 30.0
"""Seconds from one recording to the next in the days; the looks are as many as ever."""


def run(runs: int) -> dict[str, Any]:
    """Return seconds until each fault was told and cleared, and the number of false alarms."""
    del runs
    return {
        "told": {name: _fault(name) for name in FAULTS},
        "false_alarms": {
            "value": sum(_false_alarms(seed) for seed in range(1, DAYS + 1)),
            "unit": f"in {24 * DAYS} hours",
            "goal": 0,
        },
    }


@contextmanager
def _sensor(seed: int, **options: Any) -> Iterator[SimulatedSensor]:
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with (
        tempfile.TemporaryDirectory(dir=memory) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        sensor = SimulatedSensor(Path(folder), patch, seed, START, **options)
        try:
            yield sensor
        finally:
            sensor.close()


def _fault(name: str) -> dict[str, Any]:
    fault = FAULTS[name]
    options = {"interval": SHORT} if fault.cleared_within > 5 else {}
    with _sensor(3, **options) as sensor:
        sensor.run(3)
        told, cleared = inject(sensor, fault)
    _say(f"{name}: told after {told} s, cleared after {cleared} s")
    return {
        "raised": {"value": _number(told), "unit": "s", "goal": SECONDS_TO_TELL},
        "cleared": {"value": _number(cleared), "unit": "s", "goal": 60 * fault.cleared_within},
    }


def _number(seconds: float | None) -> float:
    return float("inf") if seconds is None else seconds


def _false_alarms(seed: int) -> int:
    with _sensor(seed, learnt_days=10, learnt_hours=24, interval=SHORT) as sensor:
        for hour in range(24):
            _ordinary(sensor, hour)
            sensor.run(60)
        levels = [level for time, level in sensor.weather.items() if (time - START).days < 1]
        told = [(one.alarm, one.state) for one in sensor.told]
    quiet, loud = min(levels), max(levels)
    _say(f"seed {seed}: {quiet:.0f} to {loud:.0f} dBFS, told: {told or 'nothing'}")
    return sum(state == "raised" for _, state in told)


def _ordinary(sensor: SimulatedSensor, hour: int) -> None:
    """Let something happen that is no fault."""
    sensor.link_is_up = hour not in (8, 9, 10)
    if hour == 3:
        sensor.restart("detection")
    if hour == 6:
        sensor.clock.step(-0.4)
    if hour == 14:
        sensor.cut_power(2)
    if hour == 20:
        sensor.restart("default")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
