"""How a microphone does, told from its sound."""

import math
from typing import Any

import numpy as np
import pytest

from acoupi import data
from acoupi.audio.health import HealthMeter

RATE = 8000


def measure(samples: Any, *, step: int = 2000, sample_bytes: int = 2) -> data.MicrophoneHealth:
    samples = np.atleast_2d(samples).reshape(len(samples), -1)
    kind = np.int16 if sample_bytes == 2 else np.int32
    meter = HealthMeter(RATE, samples.shape[1], sample_bytes)
    for start in range(0, len(samples), step):
        meter.add(samples[start : start + step].astype(kind).tobytes())
    health = meter.result()
    assert health is not None
    return health


def noise(level: float, seconds: float = 1, channels: int = 1) -> Any:
    size = (round(seconds * RATE), channels)
    return np.random.default_rng(0).normal(0, level * 32768, size).clip(-32768, 32767)


def test_nothing_has_no_health() -> None:
    assert HealthMeter(RATE, 1).result() is None


@pytest.mark.parametrize("step", [1, 399, 8000])
def test_a_sine_at_full_scale_is_three_decibels_below_it(step: int) -> None:
    time = np.arange(RATE) / RATE
    health = measure(32767 * np.sin(2 * np.pi * 440 * time), step=max(step, 50))

    assert health.rms_dbfs == pytest.approx(-3.01, abs=0.02)
    assert health.peak_dbfs == pytest.approx(0, abs=0.01)
    assert not health.is_silent
    assert not health.is_stuck


def test_an_offset_is_not_loudness() -> None:
    health = measure(noise(0.001) + 3277)

    assert health.dc_offset == pytest.approx(0.1, abs=1e-3)
    assert health.rms_dbfs == pytest.approx(-60, abs=0.5)


def test_clipped_samples_are_counted_on_both_sides() -> None:
    samples = noise(0.01)
    samples[:800] = 32767
    samples[800:1600] = -32768

    assert measure(samples).clipped_share == pytest.approx(0.2)


def test_the_noise_floor_is_that_of_the_quiet_moments() -> None:
    samples = np.concatenate([noise(0.1, 8), noise(0.0003, 2)])

    health = measure(samples)

    assert health.noise_floor_dbfs == pytest.approx(20 * math.log10(0.0003), abs=1)
    assert health.rms_dbfs == pytest.approx(-21, abs=1)


@pytest.mark.parametrize("value", [0, 1234])
def test_one_value_for_ever_is_silent_and_stuck(value: int) -> None:
    health = measure(np.full(RATE, value))

    assert health.is_silent
    assert health.is_stuck
    assert health.rms_dbfs == health.noise_floor_dbfs == data.LOWEST_DBFS


def test_a_value_repeated_for_a_tenth_of_a_second_is_stuck() -> None:
    samples = noise(0.01)
    samples[3000:4500] = 77

    health = measure(samples)

    assert health.is_stuck
    assert not health.is_silent


def test_one_dead_channel_is_noticed() -> None:
    samples = noise(0.01, channels=2)
    samples[:, 1] = 0

    assert measure(samples).is_silent


def test_the_last_bit_alone_is_silence() -> None:
    assert measure(np.random.default_rng(1).integers(-1, 2, RATE)).is_silent
    assert not measure(np.random.default_rng(1).integers(-8, 9, RATE)).is_silent


def test_wide_samples_have_the_same_levels() -> None:
    samples = noise(0.01)

    assert measure(samples * 65536, sample_bytes=4).rms_dbfs == pytest.approx(
        measure(samples).rms_dbfs, abs=0.02
    )


def test_a_microphone_of_24_bits_that_says_next_to_nothing_has_the_lowest_floor() -> None:
    samples = np.zeros(RATE)
    samples[::399] = 1  # Of 32 bits: below the lowest level that is told apart.
    samples[RATE // 2 :] = 2**16 * noise(0.01, 0.5)[:, 0]

    assert measure(samples, sample_bytes=4).noise_floor_dbfs == data.LOWEST_DBFS
