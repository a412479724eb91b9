"""Betting: tests and intervals that hold when looked at after every item. For one look: intervals, paired."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from assay.stats.intervals import Interval
from assay.stats.samples import FloatArray, check_bounds, check_fraction, pair_of, scores_of

Bounds = tuple[float, float]
UNIT: Bounds = (0.0, 1.0)


@dataclass(frozen=True, eq=False)
class EProcess:
    """The evidence against a null mean after each item, in the order in which the items came.

    `log_above` and `log_below`, shape (n,), are the logarithms of the e-values for a mean above and below the
    null; each has half of the stake. Under the null either ever reaches 1/alpha with probability <= alpha,
    however often and whenever one looks, so one may stop as soon as it does.
    """

    log_above: FloatArray
    log_below: FloatArray
    alpha: float

    @property
    def decided_at(self) -> int | None:
        """After how many items the null was first rejected; None if it never was."""
        crossed = np.maximum(self.log_above, self.log_below) >= -log(self.alpha)
        return int(np.argmax(crossed)) + 1 if crossed.any() else None

    @property
    def direction(self) -> Literal["above", "below"] | None:
        """The side of the null on which the mean is, as of the first rejection; None if there was none."""
        if self.decided_at is None:
            return None
        last = self.decided_at - 1
        return "above" if self.log_above[last] > self.log_below[last] else "below"

    @property
    def p_value(self) -> float:
        """Valid at any time, hence never going up again: 1 over the largest e-value so far, at most 1."""
        best = max(float(self.log_above.max()), float(self.log_below.max()))
        return min(1.0, exp(-best))


def mean_e_process(
    scores: ArrayLike, null_mean: float, *, bounds: Bounds = UNIT, alpha: float = 0.05
) -> EProcess:
    """Test "the mean is null_mean" (strictly within the bounds) on bounded scores, one by one, shape (n,).

    Hand over the items in an order that has nothing to do with their scores (a shuffled dataset, not the
    order in which calls finished: long answers finish late). Source: Waudby-Smith and Ramdas,
    arXiv 2010.09686, the hedged capital process with predictable plug-in bets.

    >>> mean_e_process([1] * 20, 0.5).decided_at
    10
    """
    check_fraction(alpha, "alpha")
    x = _unit_scores(scores_of(scores), bounds)
    m = (null_mean - bounds[0]) / (bounds[1] - bounds[0])
    if not 0.0 < m < 1.0:
        raise ValueError(f"null_mean is {null_mean}; it must lie strictly within the bounds {bounds}")
    stakes = _stakes(x, alpha)
    return EProcess(
        np.cumsum(_log_growth(x, m, stakes)) - log(2),
        np.cumsum(_log_growth(1 - x, 1 - m, stakes)) - log(2),
        alpha,
    )


def paired_e_process(a: ArrayLike, b: ArrayLike, *, bounds: Bounds = UNIT, alpha: float = 0.05) -> EProcess:
    """Test "A and B have the same mean" on paired bounded scores; "above" means that B is better.

    Bets on (1 + B - A)/2 against 1/2, as `mean_e_process`.
    """
    scores_a, scores_b = pair_of(a, b)
    difference = _unit_scores(scores_b, bounds, "scores_b") - _unit_scores(scores_a, bounds, "scores_a")
    return mean_e_process((1 + difference) / 2, 0.5, alpha=alpha)


def betting_interval(scores: ArrayLike, *, bounds: Bounds = UNIT, level: float = 0.95) -> Interval:
    """The mean of n >= 1 bounded scores: all null means that betting has not rejected after the last one.

    Holds its level at every n at once, for any distribution within the bounds; wider than `mean_interval`.
    """
    check_fraction(level, "level")
    values = scores_of(scores)
    x = _unit_scores(values, bounds)
    stakes = _stakes(x, 1 - level)
    low, high = bounds
    return Interval(
        estimate=float(values.mean()),
        low=low + (high - low) * _lowest_mean(x, stakes, level),
        high=high - (high - low) * _lowest_mean(1 - x, stakes, level),
        level=level,
        se=None,
        n=values.size,
        method="betting",
    )


def _unit_scores(scores: FloatArray, bounds: Bounds, name: str = "scores") -> FloatArray:
    check_bounds(scores, bounds, name)
    low, high = bounds
    return (scores - low) / (high - low)


def _stakes(x: FloatArray, alpha: float) -> FloatArray:
    """lambda_t, from the items before t alone: that is what makes the bets fair."""
    t = np.arange(1, x.size + 1)
    means = (0.5 + np.cumsum(x)) / (t + 1)
    variances = (0.25 + np.cumsum((x - means) ** 2)) / (t + 1)
    before = np.concatenate(([0.25], variances[:-1]))
    stakes: FloatArray = np.sqrt(2 * log(2 / alpha) / (t * np.log(t + 1) * before))
    return stakes


def _log_growth(x: FloatArray, m: float, stakes: FloatArray) -> FloatArray:
    """The log of what each item multiplies the capital by, when betting on a mean above m, 0 < m < 1."""
    growth: FloatArray = np.log1p(np.minimum(stakes, 1 / (2 * m)) * (x - m))
    return growth


def _lowest_mean(x: FloatArray, stakes: FloatArray, level: float) -> float:
    """The smallest mean that betting on a larger one has not rejected; the capital falls as m grows."""
    threshold = log(2 / (1 - level))

    def excess(m: float) -> float:
        return float(_log_growth(x, m, stakes).sum()) - threshold

    smallest = 1e-9
    return 0.0 if excess(smallest) <= 0 else float(brentq(excess, smallest, 1.0))
