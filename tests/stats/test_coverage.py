"""Coverage: how often each 95% interval holds the truth; by counting where possible, else by simulation."""

from collections.abc import Callable
from functools import cache
from math import comb, lgamma

import numpy as np
import pytest

from assay.stats import (
    Interval,
    clustered_interval,
    constant_interval,
    mean_interval,
    paired_difference,
    paired_proportions,
    unpaired_difference,
    wilson_interval,
)

DRAWS = 3000


def covered(truth: float, draw: Callable[[np.random.Generator], Interval], seed: int) -> float:
    rng = np.random.default_rng(seed)
    intervals = (draw(rng) for _ in range(DRAWS))
    return sum(interval.low <= truth <= interval.high for interval in intervals) / DRAWS


@pytest.mark.parametrize("n", [3, 10, 30])
def test_t_covers_exactly_for_normal_scores(n: int) -> None:
    share = covered(0.6, lambda rng: mean_interval(rng.normal(0.6, 0.2, n)), seed=n)
    assert share == pytest.approx(0.95, abs=0.012)


@pytest.mark.parametrize(("n", "least"), [(10, 0.88), (30, 0.915), (100, 0.935)])
def test_t_covers_a_little_less_for_skewed_scores(n: int, least: float) -> None:
    """Beta(0.5, 2): most scores near 0, a few high, mean 0.2."""
    share = covered(0.2, lambda rng: mean_interval(rng.beta(0.5, 2.0, n)), seed=n)
    assert least < share < 0.96


def wilson_coverage(n: int, p: float) -> float:
    holds = [wilson_interval(k, n) for k in range(n + 1)]
    return sum(comb(n, k) * p**k * (1 - p) ** (n - k) for k, i in enumerate(holds) if i.low <= p <= i.high)


def textbook_coverage(n: int, p: float) -> float:
    half = [1.96 * (k / n * (1 - k / n) / n) ** 0.5 for k in range(n + 1)]
    return sum(
        comb(n, k) * p**k * (1 - p) ** (n - k) for k, h in enumerate(half) if abs(k / n - p) <= h + 1e-12
    )


@pytest.mark.parametrize("n", [5, 10, 30, 100])
def test_wilson_covers_at_small_n_where_the_textbook_interval_does_not(n: int) -> None:
    grid = np.linspace(0.02, 0.98, 97)
    shares = [wilson_coverage(n, p) for p in grid]
    assert np.mean(shares) == pytest.approx(0.953, abs=0.007)
    assert min(shares) > 0.83
    assert np.mean([textbook_coverage(n, p) for p in grid]) < np.mean(shares) - 0.015
    assert min(textbook_coverage(n, p) for p in grid) < 0.9


def clustered_scores(rng: np.random.Generator, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels = np.repeat(np.arange(sizes.size), sizes)
    return rng.normal(0, 0.3, sizes.size)[labels] + rng.normal(0, 0.3, labels.size), labels


CLUSTER_SIZES = {
    "equal": [5] * 6,
    "one has half of the items": [27, *[3] * 9],
    "1 to 11": [1, 3, 5, 7, 9, 11],
    "1 to 11, many": [1, 3, 5, 7, 9, 11] * 6,
}


@pytest.mark.parametrize(
    ("sizes", "least", "most"),
    [
        ("equal", 0.935, 0.965),
        ("one has half of the items", 0.945, 1.0),
        ("1 to 11", 0.94, 0.98),
        ("1 to 11, many", 0.94, 0.965),
    ],
)
def test_clustered_t_covers_with_clusters_of_unequal_size(sizes: str, least: float, most: float) -> None:
    def draw(rng: np.random.Generator) -> Interval:
        scores, labels = clustered_scores(rng, np.array(CLUSTER_SIZES[sizes]))
        return clustered_interval(scores, labels.tolist())

    assert least < covered(0.0, draw, seed=1) < most


def test_ignoring_clusters_does_not_cover() -> None:
    sizes = 1 + np.arange(12) % 6 * 2
    share = covered(0.0, lambda rng: mean_interval(clustered_scores(rng, sizes)[0]), seed=1)
    assert share < 0.8


def test_clustered_paired_difference_covers() -> None:
    sizes = 1 + np.arange(20) % 5 * 2

    def draw(rng: np.random.Generator) -> Interval:
        gain, labels = clustered_scores(rng, sizes)
        a = rng.random(gain.size)
        return paired_difference(a, a + 0.1 + gain, clusters=labels.tolist())

    assert covered(0.1, draw, seed=2) == pytest.approx(0.952, abs=0.012)


def test_pairing_covers_with_less_width() -> None:
    """Hard and easy items: both intervals cover, the paired one is narrower."""
    widths: dict[str, list[float]] = {"paired": [], "unpaired": []}

    def draw(rng: np.random.Generator, method: str) -> Interval:
        a = rng.normal(0, 0.5, 15)
        b = a + rng.normal(0.1, 0.1, 15)
        result = paired_difference(a, b) if method == "paired" else unpaired_difference(a, b)
        widths[method].append(result.high - result.low)
        return result

    assert covered(0.1, lambda rng: draw(rng, "paired"), seed=3) == pytest.approx(0.95, abs=0.012)
    assert covered(0.1, lambda rng: draw(rng, "unpaired"), seed=3) > 0.99
    assert np.mean(widths["paired"]) < np.mean(widths["unpaired"]) / 5


def test_welch_covers_with_unequal_sizes_and_spreads() -> None:
    share = covered(
        0.2, lambda rng: unpaired_difference(rng.normal(0, 1, 8), rng.normal(0.2, 0.2, 25)), seed=4
    )
    assert share == pytest.approx(0.95, abs=0.012)


@cache
def proportions(wins: int, losses: int, n: int) -> Interval:
    a = np.repeat([0, 1, 1], [wins, losses, n - wins - losses])
    return paired_proportions(a, np.repeat([1, 0, 1], [wins, losses, n - wins - losses]))


def proportions_coverage(n: int, p_win: float, p_loss: float) -> float:
    """The exact chance, over all tables of n pairs, that the interval holds p_win - p_loss."""
    truth, share = p_win - p_loss, 0.0
    logs = np.log([p_win, p_loss, 1 - p_win - p_loss])
    for wins in range(n + 1):
        for losses in range(n + 1 - wins):
            counts = np.array([wins, losses, n - wins - losses])
            interval = proportions(wins, losses, n)
            if interval.low <= truth <= interval.high:
                share += np.exp(lgamma(n + 1) - sum(map(lgamma, counts + 1.0)) + counts @ logs)
    return share


@pytest.mark.parametrize(("n", "typical"), [(8, 0.976), (20, 0.962)])
def test_paired_proportions_cover_at_small_n(n: int, typical: float) -> None:
    grid = [(w, x) for w in np.linspace(0.02, 0.62, 9) for x in np.linspace(0.01, 0.37, 7) if w + x < 0.98]
    shares = [proportions_coverage(n, w, x) for w, x in grid]
    assert min(shares) > 0.935
    assert np.mean(shares) == pytest.approx(typical, abs=0.005)


@pytest.mark.parametrize("n", [8, 20])
def test_paired_proportions_hold_their_level_exactly_where_nothing_differs(n: int) -> None:
    assert min(proportions_coverage(n, p, p) for p in np.linspace(0.02, 0.48, 12)) >= 0.95


@pytest.mark.parametrize("rare", [0.3, 0.1, 0.02])
@pytest.mark.parametrize("n", [3, 10, 40])
def test_rule_of_three_misleads_as_rarely_as_it_says(n: int, rare: float) -> None:
    """Scores of 0 but for a share `rare` of 1: all n are 0 and the interval misses the mean of `rare`."""
    interval = constant_interval(0.0, n, (0, 1))
    misleads = (1 - rare) ** n if interval.high < rare else 0.0
    assert misleads <= 0.05
