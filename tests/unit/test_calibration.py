"""How often a model is right at a score: curves, intervals, and what is written of them."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from acoupi.components.stores import SqliteReader, SqliteStore
from acoupi.exports import Filters, Verdict, VerdictRow
from acoupi.exports.calibration import FEWEST, Curve, calibrations, write_calibration
from tests.stores import at, detection, output, recording

RUNS, REVIEWED = 100, 50


def simulated(seed: int, intercept: float, slope: float) -> tuple[np.ndarray, ...]:
    """Return scores of a season, the true chance of each, and which are right."""
    random = np.random.default_rng(seed)
    scores = random.beta(2, 2, 2_000)
    chances = 1 / (1 + np.exp(-(intercept + slope * scores)))
    return scores, chances, random.random(2_000) < chances


def balanced(scores: np.ndarray) -> np.ndarray:
    """Return which to review: as many of each tenth of the score, as the sample has them."""
    bins = (scores * 10).astype(int)
    by_bin = [np.flatnonzero(bins == one)[: REVIEWED // 10] for one in range(10)]
    rest = np.setdiff1d(np.arange(len(scores)), np.concatenate(by_bin))
    chosen = np.concatenate([*by_bin, rest])
    return chosen[:REVIEWED]


@pytest.mark.parametrize("is_balanced", [False, True])
@pytest.mark.parametrize(("intercept", "slope"), [(-4, 8), (-6, 10), (-3, 4)])
def test_the_true_precision_is_in_the_interval(
    intercept: float, slope: float, is_balanced: bool
) -> None:
    inside = 0
    for seed in range(RUNS):
        scores, chances, are_right = simulated(seed, intercept, slope)
        reviewed = balanced(scores) if is_balanced else slice(REVIEWED)
        curve = Curve.fit(scores[reviewed], are_right[reviewed])
        above = scores >= 0.4
        _, low, high = curve.precision(scores[above], np.ones(above.sum()))
        assert low is not None
        assert high is not None
        inside += low <= chances[above].mean() <= high

    assert inside >= 93


def test_the_score_for_a_chance_of_0_9_is_in_its_interval() -> None:
    truth = (np.log(9) + 6) / 10
    inside = 0
    for seed in range(RUNS):
        scores, _, are_right = simulated(seed, -6, 10)
        _, low, high = Curve.fit(scores[:REVIEWED], are_right[:REVIEWED]).score_for()
        inside += (low is None or low <= truth) and (high is None or truth <= high)

    assert inside >= 93


def test_a_score_that_separates_right_from_wrong_gives_a_finite_curve() -> None:
    scores = np.linspace(0, 1, 40)
    curve = Curve.fit(scores, scores > 0.5)

    value, low, high = curve.score_for()
    assert 10 < curve.slope < 1_000
    assert value is not None
    assert 0.5 < value < 0.7
    assert low is None or low < value
    assert high is None or high > value


def test_where_all_are_right_the_precision_is_high_and_its_interval_says_how_sure() -> None:
    scores = np.linspace(0.5, 1, 30)
    value, low, high = Curve.fit(scores, np.ones(30)).precision(scores, np.ones(30))

    assert value is not None
    assert low is not None
    assert high is not None
    assert 0.7 < low < value < high <= 1
    assert value > 0.95


def test_scores_that_say_nothing_give_no_score() -> None:
    scores = np.tile([0.2, 0.8], 20)
    are_right = np.tile([1, 1, 0, 0], 10)

    assert Curve.fit(scores, are_right).score_for() == (None, None, None)


# What is read and written


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metadata.db"


@pytest.fixture
def reader(path: Path) -> Iterator[SqliteReader]:
    """Thirty bats of which those above 0.5 are right, five of them unsure, and three birds."""
    store = SqliteStore(path)
    for number in range(38):
        sound = recording(None, 10 * number)
        name, score = ("bat", number / 35) if number < 35 else ("bird", 0.9)
        one = detection(score, ("species", name, score))
        store.store_recording(sound)
        store.store_model_output(output(sound, one))
        said = Verdict.RIGHT if score > 0.5 else Verdict.WRONG
        if number % 7 == 0 and number < 35:
            said = Verdict.UNSURE
        elif number == 1:
            said = Verdict.OTHER
        for each in (Verdict.WRONG, said):  # the last one counts
            store.add_verdict(VerdictRow(sound.id, one.id, each, None, "Ana", "", at(0)))
    store.close()
    with SqliteReader(path) as reader:
        yield reader


def test_verdicts_are_counted_without_the_unsure_ones(reader: SqliteReader) -> None:
    bat, bird = calibrations(reader, Filters())

    assert (bat.model, bat.species, bat.n, sum(bat.are_right)) == ("bats", "bat", 30, 15)
    assert bat.curve is not None
    assert (bird.n, bird.curve) == (3, None)
    assert bat.found.total() == 35
    from_half = bat.precision_from(bat.curve, 0.6).value
    assert from_half is not None
    assert from_half > 0.9


def test_calibration_csv_has_a_row_for_each_species_and_no_curve_for_few(
    reader: SqliteReader, tmp_path: Path
) -> None:
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    write_calibration(reader, Filters(), first)
    write_calibration(reader, Filters(), second)

    with first.open() as file:
        bat, bird = csv.DictReader(file)
    assert list(bat) == [
        "species", "model", "n", "right", "intercept", "slope", "threshold90", "lower", "upper"
    ]  # fmt: skip
    assert 0.5 < float(bat["threshold90"]) < 0.7
    assert int(bat["n"]) >= FEWEST
    assert (bird["species"], bird["n"], bird["slope"], bird["threshold90"]) == ("bird", "3", "", "")
    assert first.read_bytes() == second.read_bytes()
