"""How often a model is right at a score, from what people said of its detections.

The chance that a detection is right is a logistic curve of its score, one for each model and
species (Platt 1999, "Probabilistic outputs for support vector machines", in Advances in Large
Margin Classifiers; for thresholds of bird and bat detectors, Wood & Kahl 2024,
doi:10.1007/s10336-024-02144-5). It is fitted by Newton's method with Jeffreys' prior, which is
weak, and keeps the curve finite where a score separates right from wrong (Firth 1993,
doi:10.1093/biomet/80.1.27; Heinze & Schemper 2002, doi:10.1002/sim.1047).

The curve is a statement about each score, so the clips that were reviewed need not have the
scores that detections usually have. The precision above a threshold is the mean of the curve
over all detections there, reviewed or not.
"""

import csv
import io
import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from acoupi.exports.reader import Reader
from acoupi.heard import Filters, Verdict
from acoupi.writing import write_atomic

__all__ = ["FEWEST", "Calibration", "Curve", "Estimate", "calibrations", "write_calibration"]

FEWEST = 20
"""Verdicts (right, wrong or another species) that a curve needs."""
ASKED = 0.9
"""The chance of being right for which a score is reported."""
_MOST_STEPS = 100
_FINEST = 1000
"""Scores are counted in thousandths: memory does not grow with the detections."""


class Estimate(NamedTuple):
    """A value with its 95 % interval; None where the data do not bound it."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Curve:
    """P(right) = 1 / (1 + exp(-(intercept + slope * score)))."""

    intercept: float
    slope: float
    covariance: NDArray[np.float64]
    """Covariance of intercept and slope, (2, 2)."""
    n: int
    """How many verdicts it was fitted to."""

    @property
    def _reach(self) -> float:
        """Half a 95 % interval, in standard errors: Student's t (Abramowitz & Stegun 26.7.5)."""
        z = 1.959964
        return z + (z**3 + z) / (4 * max(1, self.n - 2))

    @classmethod
    def fit(cls, scores: ArrayLike, are_right: ArrayLike) -> "Curve":
        """Return the curve through verdicts.

        Parameters
        ----------
        scores
            0 to 1, (n,).
        are_right
            1 or True where the detection was right, (n,).
        """
        x = np.column_stack([np.ones(np.size(scores)), np.asarray(scores, float)])
        y = np.asarray(are_right, float)
        beta = np.zeros(2)
        for _ in range(_MOST_STEPS):
            chance, inverse = _information(x, beta)
            weight = chance * (1 - chance)
            leverage = weight * np.einsum("ij,jk,ik->i", x, inverse, x)
            step = inverse @ (x.T @ (y - chance + leverage * (0.5 - chance)))
            step *= min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-300))
            beta = beta + step
            if np.abs(step).max() < 1e-8:
                break
        return cls(float(beta[0]), float(beta[1]), _information(x, beta)[1], len(y))

    def precision(self, scores: ArrayLike, counts: ArrayLike) -> Estimate:
        """Return the share that is right at each of these scores, with numbers of detections."""
        s, n = np.asarray(scores, float), np.asarray(counts, float)
        if not n.sum():
            return Estimate(None, None, None)
        share = n / n.sum()
        chance = _logistic(self.intercept + self.slope * s)
        mean = float(share @ chance)
        slopes = share * chance * (1 - chance)
        gradient = np.array([slopes.sum(), slopes @ s]) / max(mean * (1 - mean), 1e-12)
        error = self._reach * math.sqrt(max(0.0, float(gradient @ self.covariance @ gradient)))
        middle = _logit(mean)
        low, high = _logistic(np.array([middle - error, middle + error]))
        return Estimate(mean, float(low), float(high))

    def score_for(self, chance: float = ASKED) -> Estimate:
        """Return the score above which a detection is right with that chance (Fieller 1954).

        None, and an interval that is open, where the score says too little.
        """
        a, b, wanted = self.intercept, self.slope, _logit(chance)
        if b <= 0:
            return Estimate(None, None, None)
        (vaa, vab), (_, vbb) = self.covariance * self._reach**2
        square, linear, rest = b * b - vbb, (a - wanted) * b - vab, (a - wanted) ** 2 - vaa
        inside = linear * linear - square * rest
        value = (wanted - a) / b
        if square <= 0 or inside < 0:
            return Estimate(_within(value), None, None)
        root = math.sqrt(inside)
        low, high = (-linear - root) / square, (-linear + root) / square
        return Estimate(_within(value), _within(low), _within(high))


def _information(
    x: NDArray[np.float64], beta: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the chances of a curve at each row, and the inverse of Fisher's information."""
    chance = _logistic(x @ beta)
    information = (x * (chance * (1 - chance))[:, None]).T @ x
    return chance, np.asarray(np.linalg.inv(information + 1e-9 * np.eye(2)), np.float64)


def _logistic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-np.clip(x, -500, 500)))


def _logit(chance: float) -> float:
    chance = min(max(chance, 1e-12), 1 - 1e-12)
    return math.log(chance / (1 - chance))


def _within(score: float) -> float | None:
    """Return a score that there can be; None for one that there cannot."""
    return score if 0 <= score <= 1 else None


@dataclass
class Calibration:
    """What is known of one model and species."""

    model: str
    species: str
    scores: list[float] = field(default_factory=list)
    """Reviewed detections, and whether they are right."""
    are_right: list[bool] = field(default_factory=list)
    found: Counter[int] = field(default_factory=Counter)
    """Detections, reviewed or not, by their score in thousandths."""

    @property
    def n(self) -> int:
        """How many detections were reviewed, the unsure ones left out."""
        return len(self.scores)

    @property
    def curve(self) -> Curve | None:
        """The curve; None for fewer verdicts than `FEWEST`."""
        return Curve.fit(self.scores, self.are_right) if self.n >= FEWEST else None

    def precision_from(self, curve: Curve, threshold: float) -> Estimate:
        """Return the precision of all detections with that score or more."""
        above = {one: n for one, n in self.found.items() if one >= round(threshold * _FINEST)}
        return curve.precision(np.array(list(above)) / _FINEST, list(above.values()))


def calibrations(reader: Reader, filters: Filters) -> list[Calibration]:
    """Return the calibration of each model and species with at least one verdict, in order."""
    if next(reader.verdicts(filters), None) is None:
        return []
    every: dict[tuple[str, str], Calibration] = {}
    found: defaultdict[tuple[str, str], Counter[int]] = defaultdict(Counter)
    for row in reader.detections(filters):
        key = (row.model, row.species.tag.value if row.species else "")
        found[key][round(row.score * _FINEST)] += 1
        said = row.verdict and row.verdict.verdict
        if said in {Verdict.RIGHT, Verdict.WRONG, Verdict.OTHER}:
            one = every.setdefault(key, Calibration(*key))
            one.scores.append(row.score)
            one.are_right.append(said is Verdict.RIGHT)
    for key, one in every.items():
        one.found = found[key]
    return [every[key] for key in sorted(every)]


COLUMNS = ("species", "model", "n", "right", "intercept", "slope", "threshold90", "lower", "upper")


def write_calibration(reader: Reader, filters: Filters, path: Path) -> None:
    """Write ``calibration.csv``: the curve of each model and species that people reviewed.

    The columns after the numbers of verdicts are empty for fewer than `FEWEST`. `threshold90`
    is the score from which a detection is right with a chance of 0.9, `lower` and `upper` its
    95 % interval; empty where it is not between 0 and 1, or the verdicts do not bound it.

    Raises
    ------
    DeviceError
        If the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_columns(calibrations(reader, filters)))
    write_atomic(path, text.getvalue())


def _columns(every: list[Calibration]) -> Iterator[list[str | int]]:
    for one in every:
        curve = one.curve
        values = (curve.intercept, curve.slope, *curve.score_for()) if curve else (None,) * 5
        numbers = ["" if value is None else f"{value:.6g}" for value in values]
        yield [one.species, one.model, one.n, sum(one.are_right), *numbers]
