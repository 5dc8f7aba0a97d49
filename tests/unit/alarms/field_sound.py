"""The levels of ordinary field sound over days, with rain, wind and quiet nights."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import numpy as np

from acoupi.alarms.facts import Heard
from acoupi.captures import MicrophoneHealth

SELF_NOISE = -84.0
"""Noise floor of the microphone itself, dBFS."""


def health(floor: float, **changes: object) -> MicrophoneHealth:
    """A sound microphone that hears this noise floor."""
    values = {
        "rms_dbfs": floor + 9,
        "peak_dbfs": min(0.0, floor + 35),
        "clipped_share": 0.0,
        "dc_offset": 0.001,
        "is_silent": False,
        "is_stuck": False,
        "noise_floor_dbfs": floor,
    }
    return MicrophoneHealth(**(values | changes))  # type: ignore[arg-type]


def heard(start: datetime, floor: float, **changes: object) -> Heard:
    """One recording of ten seconds at 48 kHz."""
    return Heard(start, 10.0, 96_000, health(floor, **changes))


def floors(start: datetime, days: int, seed: int) -> Iterator[tuple[datetime, float]]:
    """The noise floor of each minute: animals by the hour, and weather as it comes.

    A chorus at dawn (+14 dB within half an hour), insects in the evening, wind that rises in the
    afternoon, on some days to a storm, rain for hours on some days, and calm nights near the
    noise of the microphone. The weather changes slowly, and from day to day.
    """
    random = np.random.default_rng(seed)
    gusts = 0.0
    for day in range(days):
        storm = float(random.choice([0, 2, 6, 16], p=[0.4, 0.3, 0.2, 0.1]))
        rain_from, rain_hours = random.uniform(0, 24), random.choice([0, 0, 0, 2, 7])
        rain = random.uniform(8, 22)
        calm = random.uniform(0, 3)
        for minute in range(1440):
            hour = minute / 60
            gusts = 0.97 * gusts + random.normal(0, 0.6)
            ambient = -76 - calm + 4 * np.sin((hour - 8) / 24 * 2 * np.pi)
            dawn = 14 * np.exp(-(((hour - 5.3) / 0.45) ** 2))
            insects = 8 * np.exp(-(((hour - 21.5) / 1.5) ** 2))
            wind = storm * max(0.0, np.sin((hour - 9) / 12 * np.pi)) + abs(gusts)
            wet = rain if rain_from <= hour < rain_from + rain_hours else 0.0
            level = ambient + dawn + insects + wind + wet + random.normal(0, 0.5)
            power = 10 ** (level / 10) + 10 ** (SELF_NOISE / 10)
            yield start + timedelta(days=day, minutes=minute), float(10 * np.log10(power))
