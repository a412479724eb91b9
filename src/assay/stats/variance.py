"""Variance split: what makes a mean uncertain, items, sampling or the judge, hence what to buy more of."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from assay.stats.samples import FloatArray, scores_of


class VarianceSplit(msgspec.Struct, frozen=True, kw_only=True):
    """Variance components of one score, in squared units of the score.

    `item`: between items. `sampling`: between answers to one item. `judge`: between verdicts on one answer.
    A component is None when nothing was repeated that would show it; it then sits in the one above it.
    A component estimated below 0 is reported as 0. `n`: items. `se`: of the mean, from the item means.
    """

    item: float
    sampling: float | None
    judge: float | None
    n: int
    se: float

    def se_with(self, *, items: int, repeats: int = 1, judge_runs: int = 1) -> float:
        """The standard error of the mean that other numbers of items, repeats and judge runs would give."""
        if min(items, repeats, judge_runs) < 1:
            raise ValueError("items, repeats and judge_runs are at least 1")
        sampling = (self.sampling or 0.0) / repeats
        judge = (self.judge or 0.0) / (repeats * judge_runs)
        return sqrt((self.item + sampling + judge) / items)


def split_variance(repeats: Sequence[ArrayLike]) -> VarianceSplit:
    """Split into items and sampling: `repeats` holds, per item, the scores of its repeated answers.

    n >= 2 items; items may differ in their number of repeats (at least 1).
    Var(mean) = (item + sampling/K)/n. Source: Miller, arXiv 2411.00640.

    >>> split = split_variance([[1, 0, 1, 0], [1, 1, 1, 1], [0, 0, 0, 1]])
    >>> round(split.sampling, 4), split.judge
    (0.1944, None)
    """
    return _split([[[score] for score in scores_of(item, f"repeats[{i}]")] for i, item in enumerate(repeats)])


def split_judged_variance(verdicts: Sequence[Sequence[ArrayLike]]) -> VarianceSplit:
    """Split into items, sampling and judge: per item, per answer, the scores of the judge's repeated runs.

    n >= 2 items; numbers of answers and of runs may differ (at least 1), as verdicts that did not parse are
    left out. Var(mean) = (item + sampling/K + judge/(K*J))/n.
    """
    return _split(verdicts)


def _split(verdicts: Sequence[Sequence[ArrayLike]]) -> VarianceSplit:
    """The nested random-effects model by the method of moments, from the innermost level outwards."""
    n = len(verdicts)
    if n < 2:
        raise ValueError(f"{n} items: a variance between items needs at least 2")
    runs = [
        [scores_of(answer, f"scores[{i}][{k}]") for k, answer in enumerate(item)]
        for i, item in enumerate(verdicts)
    ]
    if not all(runs):
        raise ValueError(f"item {runs.index([])} has no answers; leave it out")
    judge = _pooled_variance([answer for item in runs for answer in item])
    answer_means = [np.array([answer.mean() for answer in item]) for item in runs]
    # The judge's share in the mean of one answer (1/J), averaged as the pooled variance weighs items.
    shares = [np.array([1.0 / answer.size for answer in item]) for item in runs]
    sampling = _pooled_variance(answer_means)
    if sampling is not None:
        weights = np.array([item.size - 1.0 for item in answer_means])
        share = float(weights @ [part.mean() for part in shares]) / float(weights.sum())
        sampling = max(0.0, sampling - share * (judge or 0.0))
    means = np.array([item.mean() for item in answer_means])
    total = float(means.var(ddof=1))
    inner = [
        (sampling or 0.0) / part.size + (judge or 0.0) * float(part.sum()) / part.size**2 for part in shares
    ]
    return VarianceSplit(
        item=max(0.0, total - float(np.mean(inner))),
        sampling=sampling,
        judge=judge,
        n=n,
        se=sqrt(total / n),
    )


def _pooled_variance(groups: Sequence[FloatArray]) -> float | None:
    """The variance within groups, weighted by degrees of freedom; None when no group has two values."""
    df = sum(group.size - 1 for group in groups)
    if df == 0:
        return None
    return float(sum(((group - group.mean()) ** 2).sum() for group in groups)) / df
