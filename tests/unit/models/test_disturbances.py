"""The reference detector among rain, wind, hum, crickets and choruses.

The sounds and the calls in them are those of `scripts/bench detector`, which takes longer ones.
"""

import numpy as np
import pytest

from acoupi.components.models import detect
from acoupi.components.models.choruses import with_choruses_merged
from acoupi.components.models.disturbances import cleaned, never_pausing
from acoupi.components.models.regions import REGION
from tests.unit.test_bench import load

SECONDS = 12
sounds = load("_soundscapes")


@pytest.mark.parametrize("rate", [48_000, 192_000, 384_000])
@pytest.mark.parametrize("kind", sorted(sounds.MAKERS))
def test_a_disturbance_is_no_flood_and_hides_no_call(kind: str, rate: int) -> None:
    trial = sounds.trial(detect, kind, rate, 11, SECONDS)

    assert trial.false <= 10 * SECONDS / 60 + 1
    assert trial.recall >= 0.9
    assert trial.chance <= 0.25


def test_a_box_around_everything_is_about_no_call() -> None:
    call = sounds.Call(1, 1.1, 2_000, 3_000)

    assert sounds.meets((1.05, 1_500, 1.3, 2_500), call)
    assert not sounds.meets((0, 1_500, 60, 2_500), call)
    assert not sounds.meets((1.05, 0, 1.3, 24_000), call)
    assert not sounds.meets((1.2, 1_500, 1.3, 2_500), call)


def test_rain_that_nearly_never_pauses_is_not_half_background_and_half_sound() -> None:
    """Seed and rate at which some bins, and not others, had a drop in nearly every moment."""
    rate, seconds, drops = 192_000, 4, 75 * 4
    random = np.random.default_rng(5)
    rain = 0.0018 * random.standard_normal(seconds * rate)
    time = np.arange(int(0.004 * rate)) / rate
    for start in random.uniform(0, len(rain) - len(time), drops).astype(int):
        loud = 0.03 * random.lognormal(0, 0.8) * np.exp(-time / 0.0007)
        rain[start : start + len(time)] += loud * random.standard_normal(len(time))

    assert detect(rain.astype(np.float32), rate) == []


def cells(frames: int) -> np.ndarray:
    """Noise above its own mean: shape (frames, 257)."""
    return np.random.default_rng(0).exponential(1, (frames, 257)).astype(np.float32)


BAND = np.arange(257) > 2


def test_a_ring_is_hidden_if_a_knock_began_it() -> None:
    struck, called = cells(64), cells(64)
    for sound in (struck, called):
        sound[30:33, 40:43] += [[10_000], [2_000], [200]]
    struck[30] += 200

    ring = cleaned(struck, BAND, 160)[30:33, 40:43]
    call = cleaned(called, BAND, 160)[30:33, 40:43]

    assert ring.max() <= 10**0.7
    assert call.min() > 100
    assert cleaned(struck, BAND, 0)[30, 41] > 10  # where nothing rings, it is a call


def test_a_steady_buzz_is_no_knock() -> None:
    buzz = cells(64) * np.where(np.arange(64) % 2, 3, 30)[:, np.newaxis]
    buzz[30:40, 40:43] += 3_000

    assert cleaned(buzz.astype(np.float32), BAND, 160)[30:40, 40:43].min() > 10


def test_what_reaches_up_from_the_lowest_bin_without_a_gap_is_wind() -> None:
    gust, call = cells(64), cells(64)
    gust[20:60, :60] *= 100
    call[20:60, 20:60] *= 100

    assert cleaned(gust, BAND, 0)[24:56, 3:60].mean() < 1
    assert cleaned(call, BAND, 0)[24:56, 20:60].mean() > 50


def moments(animals: int, share: float) -> np.ndarray:
    """Sixty moments of four frames, in which each animal fills four bins for a share of them."""
    random = np.random.default_rng(1)
    heard = np.ones((60, 4, 257), np.float32)
    for animal in range(animals):
        first = 40 + 3 * animal
        heard[random.random(60) < share, :, first : first + 4] = 1_000
    return heard


def test_a_crowd_that_never_pauses_is_background() -> None:
    level = never_pausing(moments(20, 0.2))

    assert (level[40:100] == 1_000).all()
    assert (level[:30] == 1).all()
    assert (level[120:] == 1).all()


def test_a_cricket_that_never_pauses_is_background() -> None:
    level = never_pausing(moments(1, 0.98))

    assert (level[40:44] == 1_000).all()
    assert level.sum() < 10_000


@pytest.mark.parametrize(("animals", "share"), [(1, 0.85), (3, 0.3)])
def test_animals_that_pause_are_no_background(animals: int, share: float) -> None:
    assert (never_pausing(moments(animals, share)) == 1).all()


def crowd(per_second: int, seconds: int, power: float = 10) -> np.ndarray:
    """Regions at regular times: 100 frames a second, bins 40 to 49."""
    regions = np.zeros(per_second * seconds, REGION)
    regions["first"] = np.arange(len(regions)) * 100 // per_second
    regions["last"] = regions["first"] + 2
    regions["low"], regions["high"] = 40, 49
    regions["peak"] = regions["sum"] = power
    return regions


def test_a_chorus_is_one_sound_and_what_stands_out_its_own() -> None:
    regions = crowd(20, 6)
    regions["sum"][50] = 100
    aside = crowd(1, 6)
    aside["low"], aside["high"] = 80, 89

    merged = with_choruses_merged(np.concatenate([regions, aside]), 600, 6, crowded=16)

    assert len(merged) == 1 + 1 + 6
    chorus = merged[-1]
    assert (chorus["first"], chorus["last"]) == (0, regions["last"][-1])
    assert (chorus["low"], chorus["high"]) == (40, 49)


@pytest.mark.parametrize(("per_second", "seconds"), [(20, 2), (15, 60)])
def test_a_busy_moment_is_no_chorus(per_second: int, seconds: int) -> None:
    regions = crowd(per_second, seconds)

    merged = with_choruses_merged(regions, 100 * seconds, seconds, crowded=16)

    assert len(merged) == len(regions)
