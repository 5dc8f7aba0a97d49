"""The reference detector among rain, wind, hum, crickets and choruses.

The sounds and the calls in them are those of `scripts/bench detector`, which takes longer ones.
"""

import numpy as np
import pytest

from acoupi.components.models import detect
from acoupi.components.models.choruses import with_choruses_merged
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


@pytest.mark.parametrize("rate", [192_000, 384_000])
@pytest.mark.parametrize("kind", ["hum", "cricket", "rain", "wind"])
def test_what_is_found_there_is_not_found_by_chance(kind: str, rate: int) -> None:
    assert sounds.trial(detect, kind, rate, 12, SECONDS).chance < 0.1


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
