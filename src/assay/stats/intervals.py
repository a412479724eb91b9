"""Intervals for one mean: t, clustered t, Wilson, and equal scores. Differences live in paired."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import msgspec
import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri, stdtrit

from assay.stats.samples import (
    Clusters,
    FloatArray,
    Labels,
    check_bounds,
    check_fraction,
    clusters_of,
    is_binary,
    is_negligible,
    scores_of,
)


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """An estimate and how far to trust it; all in the unit of the scores.

    `level` is the nominal coverage (0.95), `n` counts items (never repeats), `n_clusters` is None for
    unclustered data, `df` are the degrees of freedom where the method has them, and `se` is None where the
    data do not tell it: equal scores do not show a spread of 0.
    """

    estimate: float
    low: float
    high: float
    level: float
    se: float | None
    n: int
    n_clusters: int | None = None
    df: float | None = None
    method: str


def item_means(repeats: Sequence[ArrayLike]) -> FloatArray:
    """Average the repeats of each item, because n is the number of items and a repeat never inflates it.

    `repeats` holds one sequence of scores per item, each with at least one score; they may differ in length.

    >>> item_means([[1, 0, 1, 1], [0, 0]]).tolist()
    [0.75, 0.0]
    """
    if len(repeats) == 0:
        raise ValueError("repeats is empty; at least one item is needed")
    return np.array([scores_of(scores, f"repeats[{i}]").mean() for i, scores in enumerate(repeats)])


def mean_interval(scores: ArrayLike, *, level: float = 0.95) -> Interval:
    """The mean of n >= 2 independent item scores with its t interval, n - 1 degrees of freedom.

    Equal scores give a standard error of 0 and an interval of no width, which claims more than it knows:
    `score_interval` looks after that case.

    >>> mean_interval([0.2, 0.4, 0.9, 0.5]).df
    3.0
    """
    values = scores_of(scores)
    if values.size < 2:
        raise ValueError("a t interval needs at least 2 items; with 1 the spread is unknown")
    se = float(values.std(ddof=1)) / sqrt(values.size)
    return _t_interval(values, se, values.size - 1.0, level, "t")


def clustered_interval(scores: ArrayLike, clusters: Labels, *, level: float = 0.95) -> Interval:
    """The mean when items come in clusters (one document, one user, one topic), with a t interval.

    SE^2 = C/(C-1) * sum over clusters of (sum of the residuals in the cluster)^2 / n^2, C >= 2 clusters.
    C - 1 degrees of freedom for clusters of equal size, fewer where some outweigh others (`clustered_df`).
    `clusters` holds a label per item; None makes an item its own cluster.
    Source: Miller, Adding Error Bars to Evals, arXiv 2411.00640, with the small-sample factor.

    >>> result = clustered_interval([1, 1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0], list("aaabbbcccddd"))
    >>> round(result.estimate, 5), round(result.se, 5)
    (0.41667, 0.20972)
    """
    values = scores_of(scores)
    groups = clusters_of(clusters, values.size)
    if groups.count < 2:
        raise ValueError("all items are in one cluster; a clustered interval needs at least 2 clusters")
    se = clustered_se(values, groups)
    return _t_interval(values, se, clustered_df(groups), level, "clustered t", groups.count)


def clustered_se(values: FloatArray, clusters: Clusters) -> float:
    """The cluster-robust standard error of the mean of `values`, shape (n,), over at least 2 clusters."""
    sums = np.bincount(clusters.codes, weights=values - values.mean(), minlength=clusters.count)
    return sqrt(float(sums @ sums) * clusters.count / (clusters.count - 1)) / values.size


def clustered_df(clusters: Clusters) -> float:
    """The degrees of freedom of `clustered_se`: C - 1 for clusters of equal size, fewer for unequal ones.

    With C - 1 a nominal 95% interval covers 80% when one of ten clusters holds half of the items. This is
    Satterthwaite's approximation for the hardest case, items that agree within their cluster; at least 1.
    Source: Bell and McCaffrey 2002, Survey Methodology 28:169; Imbens and Kolesar 2016, REStat 98:701.
    """
    sizes, n = clusters.sizes, clusters.codes.size
    s2, s3, s4, s5 = (sum(size**power for size in sizes) for power in (2, 3, 4, 5))
    # With M = I - sizes 1'/n and W = diag(sizes^2), the residual sums have covariance K = M W M'. The degrees
    # of freedom are trace(K)^2 / trace(K K), here in whole numbers: a dominant cluster leaves no digits over.
    trace = s2 * n**2 - 2 * s3 * n + s2**2
    square = s4 * n**4 + 4 * s2 * s4 * n**2 + 2 * s3**2 * n**2 + s2**4 - 4 * s5 * n**3 - 4 * s2**2 * s3 * n
    return trace**2 / square


def wilson_interval(successes: int, n: int, *, level: float = 0.95) -> Interval:
    """A proportion: `successes` of n >= 1 items. Never leaves [0, 1], never collapses at 0 or n of n.

    Source: Wilson 1927, JASA 22:209. The textbook p +- 1.96 sqrt(p(1-p)/n) is too narrow below a few
    hundred items (Bowyer et al., arXiv 2503.01747).

    >>> result = wilson_interval(9, 10)
    >>> round(result.low, 5), round(result.high, 5)
    (0.59585, 0.98212)
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} items: give n >= 1 and successes between 0 and n")
    z2 = z_quantile(level) ** 2
    p = successes / n
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return Interval(
        estimate=p,
        low=0.0 if successes == 0 else centre - half,
        high=1.0 if successes == n else centre + half,
        level=level,
        se=sqrt(p * (1 - p) / n) if 0 < successes < n else None,
        n=n,
        method="Wilson",
    )


def constant_interval(
    value: float, n: int, bounds: tuple[float, float], *, level: float = 0.95, n_clusters: int | None = None
) -> Interval:
    """The mean of a bounded score of which all draws were equal: a rule of three, not a width of 0.

    The first draw names the value. Had fewer than q = (1-level)^(1/(draws-1)) of the population this value,
    the other draws would all repeat it with a probability below 1-level. So at most 1-q of the population
    differs, and differs at most as far as the bounds. Draws are items, or clusters where items come in
    clusters; at least 2. Each end holds with probability `level` by itself.

    >>> result = constant_interval(0.0, 60, (-1.0, 1.0))
    >>> round(result.low, 4), round(result.high, 4)
    (-0.0495, 0.0495)
    """
    check_fraction(level, "level")
    check_bounds(np.array([value]), bounds, "value")
    draws = n if n_clusters is None else n_clusters
    if draws < 2:
        raise ValueError("equal scores tell something about the rest only from 2 items, or clusters, on")
    others = 1.0 - (1.0 - level) ** (1.0 / (draws - 1))
    low, high = bounds
    return Interval(
        estimate=value,
        low=value - others * (value - low),
        high=value + others * (high - value),
        level=level,
        se=None,
        n=n,
        n_clusters=n_clusters,
        method="rule of three",
    )


def score_interval(
    scores: ArrayLike,
    *,
    clusters: Labels | None = None,
    bounds: tuple[float, float] | None = None,
    level: float = 0.95,
) -> Interval | None:
    """The interval that fits the scores of one experiment, or None where the data do not give one.

    Scores that are all 0 or 1 get Wilson's interval; clustered scores a clustered t interval; others a t
    interval. Equal scores get the rule of three if `bounds`, the range the score can take, are known (they
    are for binary ones). None means: one item, one cluster, or equal scores on a scale without bounds.

    >>> score_interval([1, 0, 1, 1]).method
    'Wilson'
    >>> score_interval([0.7]) is None
    True
    """
    values = scores_of(scores)
    check_fraction(level, "level")
    if bounds is not None:
        check_bounds(values, bounds)
    elif is_binary(values):
        bounds = (0.0, 1.0)
    groups = None if clusters is None else clusters_of(clusters, values.size)
    alone = groups is None or groups.count == values.size
    if alone and is_binary(values):
        return wilson_interval(int(values.sum()), values.size, level=level)
    draws = values.size if groups is None else groups.count
    if draws < 2:
        return None
    if is_negligible(float(np.ptp(values)), float(np.abs(values).max())):
        if bounds is None:
            return None
        count = None if groups is None else groups.count
        return constant_interval(float(values[0]), values.size, bounds, level=level, n_clusters=count)
    if clusters is None:
        return _clipped(mean_interval(values, level=level), bounds)
    return _clipped(clustered_interval(values, clusters, level=level), bounds)


def t_quantile(level: float, df: float) -> float:
    """How many standard errors a two-sided t interval of this level reaches."""
    check_fraction(level, "level")
    return float(stdtrit(df, 0.5 + level / 2))


def z_quantile(level: float) -> float:
    """How many standard errors a two-sided normal interval of this level reaches."""
    check_fraction(level, "level")
    return float(ndtri(0.5 + level / 2))


def _t_interval(
    values: FloatArray, se: float, df: float, level: float, method: str, n_clusters: int | None = None
) -> Interval:
    mean = float(values.mean())
    half = t_quantile(level, df) * se
    return Interval(
        estimate=mean,
        low=mean - half,
        high=mean + half,
        level=level,
        se=se,
        n=values.size,
        n_clusters=n_clusters,
        df=df,
        method=method,
    )


def _clipped(interval: Interval, bounds: tuple[float, float] | None) -> Interval:
    if bounds is None:
        return interval
    low, high = bounds
    return msgspec.structs.replace(interval, low=max(interval.low, low), high=min(interval.high, high))
