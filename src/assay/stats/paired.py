"""Differences between A and B: paired, clustered, binary, unpaired. What they mean for a change: decision."""

from __future__ import annotations

from math import inf, sqrt

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import bdtr, stdtr

from assay.stats.intervals import Interval, clustered_df, clustered_se, t_quantile, z_quantile
from assay.stats.samples import Labels, clusters_of, is_binary, pair_of, scores_of


class Difference(Interval, frozen=True, kw_only=True):
    """The interval of mean(B) - mean(A); `p_value` is two-sided, against no difference.

    The interval excludes 0 only if p_value < 1 - level.
    """

    p_value: float


def paired_difference(
    a: ArrayLike, b: ArrayLike, *, clusters: Labels | None = None, level: float = 0.95
) -> Difference:
    """mean(B) - mean(A) over the same items, from the item-by-item differences, with a t interval.

    `a` and `b` have shape (n,), n >= 2, in the same order of items; `clusters` holds a label per item (at
    least 2 different ones), as for `clustered_interval`. Pairing removes what makes an item easy or hard for
    both, so it needs fewer items than comparing two means. Source: Miller, arXiv 2411.00640. Differences
    that are all equal give no width; `decide` looks after that case.

    >>> a, b = [1, 1, 0, 1, 1, 0, 1, 0, 1, 1], [1, 0, 0, 1, 0, 0, 1, 0, 1, 0]
    >>> result = paired_difference(a, b)
    >>> round(result.estimate, 5), round(result.se, 5), round(result.p_value, 4)
    (-0.3, 0.15275, 0.0811)
    """
    scores_a, scores_b = pair_of(a, b)
    difference = scores_b - scores_a
    n = difference.size
    if clusters is None:
        if n < 2:
            raise ValueError("a paired t interval needs at least 2 items; with 1 the spread is unknown")
        se = float(difference.std(ddof=1)) / sqrt(n)
        return _t_difference(float(difference.mean()), se, n - 1.0, level, n, "paired t")
    groups = clusters_of(clusters, n)
    if groups.count < 2:
        raise ValueError("all items are in one cluster; a clustered interval needs at least 2 clusters")
    se = clustered_se(difference, groups)
    df = clustered_df(groups)
    return _t_difference(float(difference.mean()), se, df, level, n, "clustered paired t", groups.count)


def unpaired_difference(a: ArrayLike, b: ArrayLike, *, level: float = 0.95) -> Difference:
    """mean(B) - mean(A) when A and B saw different items: Welch's t interval; at least 2 items each.

    `n` counts the items of both. Source: Welch 1947, Biometrika 34:28.
    """
    scores_a, scores_b = scores_of(a, "scores_a"), scores_of(b, "scores_b")
    if min(scores_a.size, scores_b.size) < 2:
        raise ValueError("Welch's interval needs at least 2 items on each side")
    part_a = float(scores_a.var(ddof=1)) / scores_a.size
    part_b = float(scores_b.var(ddof=1)) / scores_b.size
    spread = part_a**2 / (scores_a.size - 1) + part_b**2 / (scores_b.size - 1)
    n = scores_a.size + scores_b.size
    df = (part_a + part_b) ** 2 / spread if spread > 0 else n - 2.0
    effect = float(scores_b.mean() - scores_a.mean())
    return _t_difference(effect, sqrt(part_a + part_b), df, level, n, "Welch t")


def mcnemar_exact(wins: int, losses: int) -> float:
    """The two-sided p-value of the exact McNemar test: are wins and losses a fair coin's heads and tails?

    Items on which A and B agree say nothing about which is better. Source: McNemar 1947, Psychometrika 12.

    >>> mcnemar_exact(0, 3)
    0.25
    """
    if wins < 0 or losses < 0:
        raise ValueError(f"{wins} wins and {losses} losses: counts cannot be negative")
    return min(1.0, 2.0 * float(bdtr(min(wins, losses), wins + losses, 0.5)))


def paired_proportions(a: ArrayLike, b: ArrayLike, *, level: float = 0.95) -> Difference:
    """mean(B) - mean(A) of 0/1 scores over the same n >= 1 items: Tango's score interval.

    It holds its level at small n and never collapses, not even when A and B agree on every item. Where the
    exact McNemar test, whose p-value is reported, does not reject equality, the interval is widened to reach
    0. So it holds what the exact test (at 0) or Tango's (elsewhere) does not reject, never excludes 0 against
    the p-value, and calls equals different with a probability of at most 1 - level, at every n.
    Source: Tango 1998, Stat Med 17:891; compared by Fagerland, Lydersen and Laake 2014, Stat Med 33:2850.

    >>> result = paired_proportions([0] * 9 + [1], [1] * 9 + [1])
    >>> round(result.estimate, 2), round(result.low, 2), round(result.high, 2), round(result.p_value, 4)
    (0.9, 0.37, 0.98, 0.0039)
    """
    scores_a, scores_b = pair_of(a, b)
    for name, scores in (("scores_a", scores_a), ("scores_b", scores_b)):
        if not is_binary(scores):
            bad = int(np.argmin((scores == 0.0) | (scores == 1.0)))
            raise ValueError(f"{name}[{bad}] is {scores[bad]}, not 0 or 1; use paired_difference")
    n = scores_a.size
    wins, losses = int((scores_b > scores_a).sum()), int((scores_b < scores_a).sum())
    unanimous = n in (wins, losses, n - wins - losses)
    p_value = mcnemar_exact(wins, losses)
    z = z_quantile(level)
    low, high = _tango_low(wins, losses, n, z), -_tango_low(losses, wins, n, z)
    if p_value >= 1.0 - level:
        low, high = min(low, 0.0), max(high, 0.0)
    return Difference(
        estimate=(wins - losses) / n,
        low=low,
        high=high,
        level=level,
        se=None if unanimous else float((scores_b - scores_a).std(ddof=1)) / sqrt(n),
        n=n,
        method="Tango score, exact McNemar at 0",
        p_value=p_value,
    )


def _tango_low(wins: int, losses: int, n: int, z: float) -> float:
    """The lower limit: the smallest difference whose score test does not reject at z standard errors."""
    estimate = (wins - losses) / n
    if losses == n:
        return -1.0

    def excess(delta: float) -> float:
        return -z if delta == estimate else min(_tango_z(wins, losses, n, delta), 2 * z) - z

    return float(brentq(excess, -1.0, estimate))


def _tango_z(wins: int, losses: int, n: int, delta: float) -> float:
    """Tango's score statistic of the hypothesis p(win) - p(loss) = delta, for delta below the estimate."""
    linear = (2 * n - wins + losses) * delta - wins - losses
    root = sqrt(max(0.0, linear**2 + 8 * n * losses * delta * (1 - delta)))
    p_loss = (root - linear) / (4 * n)
    variance = n * (2 * p_loss + delta * (1 - delta))
    return (wins - losses - n * delta) / sqrt(variance) if variance > 0 else inf


def _t_difference(
    effect: float, se: float, df: float, level: float, n: int, method: str, n_clusters: int | None = None
) -> Difference:
    half = t_quantile(level, df) * se
    distance = abs(effect) / se if se > 0 else 0.0 if effect == 0 else inf
    return Difference(
        estimate=effect,
        low=effect - half,
        high=effect + half,
        level=level,
        se=se,
        n=n,
        n_clusters=n_clusters,
        df=df,
        method=method,
        p_value=2.0 * float(stdtr(df, -distance)),
    )
