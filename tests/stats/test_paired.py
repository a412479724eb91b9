"""Differences of A and B: symmetry, agreement of interval and p-value, refusals."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.stats import Difference, mcnemar_exact, paired_difference, paired_proportions, unpaired_difference

pairs = st.lists(st.tuples(st.integers(0, 64), st.integers(0, 64)), min_size=2, max_size=30).map(
    lambda rows: np.array(rows, dtype=float).T / 64
)
binary_pairs = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40).map(
    lambda rows: np.array(rows, dtype=float).T
)


def proportions(wins: int, losses: int, n: int, level: float = 0.95) -> Difference:
    b = np.repeat([1, 0, 1], [wins, losses, n - wins - losses])
    a = np.repeat([0, 1, 1], [wins, losses, n - wins - losses])
    return paired_proportions(a, b, level=level)


@given(pairs)
def test_swapping_a_and_b_mirrors_a_t_interval(pair: np.ndarray) -> None:
    a, b = pair
    labels = [i % 3 for i in range(a.size)] if a.size > 3 else None
    for forth, back in (
        (paired_difference(a, b), paired_difference(b, a)),
        (paired_difference(a, b, clusters=labels), paired_difference(b, a, clusters=labels)),
        (unpaired_difference(a, b), unpaired_difference(b, a)),
    ):
        assert (back.low, back.high, back.p_value) == pytest.approx((-forth.high, -forth.low, forth.p_value))


@given(binary_pairs)
def test_swapping_a_and_b_mirrors_a_proportions_interval(pair: np.ndarray) -> None:
    forth, back = paired_proportions(*pair), paired_proportions(*pair[::-1])
    assert (back.estimate, back.low, back.high) == (-forth.estimate, -forth.high, -forth.low)
    assert -1 <= forth.low <= forth.estimate <= forth.high <= 1
    assert forth.low < forth.high


@given(pairs, st.integers(-4, 4))
def test_what_both_share_cancels(pair: np.ndarray, shift: int) -> None:
    difficulty = np.linspace(-1, 1, pair.shape[1])
    plain, shifted = paired_difference(*pair), paired_difference(*(pair + difficulty + shift))
    assert (shifted.low, shifted.high) == pytest.approx((plain.low, plain.high), abs=1e-9)


@pytest.mark.parametrize("alpha", [0.2, 0.1, 0.05, 0.01])
def test_proportions_interval_and_exact_test_never_disagree(alpha: float) -> None:
    for n in (1, 5, 12, 25):
        for wins in range(n + 1):
            for losses in range(n + 1 - wins):
                difference = proportions(wins, losses, n, 1 - alpha)
                excludes_0 = difference.low > 0 or difference.high < 0
                assert excludes_0 == (difference.p_value < alpha), (n, wins, losses)


def test_proportions_interval_moves_with_wins_and_narrows_with_ties() -> None:
    n = 15
    for losses in range(n):
        results = [proportions(wins, losses, n) for wins in range(n - losses + 1)]
        for fewer, more in pairwise(results):
            assert fewer.low <= more.low
            assert fewer.high <= more.high
    assert proportions(8, 1, 40).high < proportions(8, 1, 20).high


@given(pairs)
def test_t_interval_and_p_value_never_disagree(pair: np.ndarray) -> None:
    difference = paired_difference(*pair)
    assert (difference.low > 0 or difference.high < 0) == (difference.p_value < 0.05)


def test_equal_differences_have_no_spread_to_report() -> None:
    assert paired_proportions([0, 0, 0], [1, 1, 1]).se is None
    assert paired_proportions([0, 1, 0], [1, 1, 1]).se is not None


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_binomial_tail(wins: int, losses: int) -> None:
    total = wins + losses
    heads = np.random.default_rng(7).binomial(total, 0.5, 4000) if total else np.zeros(1)
    as_far = np.abs(heads - total / 2) >= abs(wins - losses) / 2
    assert mcnemar_exact(wins, losses) == pytest.approx(as_far.mean(), abs=0.04)
    assert mcnemar_exact(wins, losses) == mcnemar_exact(losses, wins)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: paired_difference([1, 2, 3], [1, 2]), "3 items and scores_b 2; .*keep the items that both"),
        (lambda: paired_difference([1, 2], [1, float("nan")]), r"scores_b\[1\] is nan"),
        (lambda: paired_difference([], []), "scores_a is empty"),
        (lambda: paired_difference([1], [2]), "at least 2 items"),
        (lambda: paired_difference([1, 2], [3, 5], clusters=["x", "x"]), "at least 2 clusters"),
        (lambda: paired_proportions([1, 0], [1, 0.5]), r"scores_b\[1\] is 0.5, not 0 or 1"),
        (lambda: unpaired_difference([1], [1, 2]), "at least 2 items on each side"),
        (lambda: mcnemar_exact(-1, 2), "cannot be negative"),
    ],
)
def test_refusals_name_what_is_wrong(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
