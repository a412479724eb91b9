"""One mean: what each interval promises besides its published values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.stats import (
    clustered_interval,
    constant_interval,
    item_means,
    mean_interval,
    score_interval,
    wilson_interval,
)

scores = st.lists(st.integers(0, 64).map(lambda i: i / 64), min_size=2, max_size=30)


def test_repeats_are_averaged_before_anything_else() -> None:
    means = item_means([[1, 0, 1, 1], [0, 0], [1]])
    assert means.tolist() == [0.75, 0.0, 1.0]
    assert mean_interval(means).n == 3


@given(scores, st.integers(-5, 5))
def test_shifting_scores_shifts_the_interval(values: list[float], shift: int) -> None:
    here, there = mean_interval(values), mean_interval(np.array(values) + shift)
    assert (there.low, there.high) == pytest.approx((here.low + shift, here.high + shift), abs=1e-9)


@given(scores)
def test_a_higher_level_is_wider(values: list[float]) -> None:
    narrow, wide = mean_interval(values, level=0.8), mean_interval(values, level=0.99)
    assert wide.low <= narrow.low <= narrow.estimate <= narrow.high <= wide.high


@given(scores)
def test_clusters_of_one_item_are_no_clusters(values: list[float]) -> None:
    plain, clustered = mean_interval(values), clustered_interval(values, [None] * len(values))
    assert (clustered.se, clustered.df) == pytest.approx((plain.se, plain.df), abs=1e-12)


def df_by_matrix(sizes: list[int]) -> float:
    """Satterthwaite's degrees of freedom, written with the matrices of the definition."""
    share = np.array(sizes) / sum(sizes)
    residual = np.eye(len(sizes)) - np.outer(share, np.ones(len(sizes)))
    covariance = residual @ np.diag(share**2) @ residual.T
    return float(np.trace(covariance) ** 2 / np.trace(covariance @ covariance))


@given(st.lists(st.integers(1, 30), min_size=2, max_size=12))
def test_unequal_clusters_have_fewer_degrees_of_freedom(sizes: list[int]) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    df = clustered_interval(np.sin(np.arange(labels.size)), labels.tolist()).df
    assert df == pytest.approx(df_by_matrix(sizes), rel=1e-6)
    assert df is not None
    assert 1 - 1e-9 <= df <= len(sizes) - 1 + 1e-9
    assert (df == pytest.approx(len(sizes) - 1)) == (len(sizes) == 2 or len(set(sizes)) == 1)


def test_a_dominant_cluster_does_not_drown_the_degrees_of_freedom_in_rounding() -> None:
    """In the limit the residual sums have covariance [[12,-4,-4,-4],[-4,2,1,1],...]: 18^2 / 258."""
    labels = ["big"] * 200_000 + ["b", "c", "d"]
    df = clustered_interval(np.arange(len(labels)) % 7, labels).df
    assert df == pytest.approx(18**2 / 258, abs=1e-3)


@given(scores, st.integers(2, 4))
def test_copies_of_an_item_in_its_cluster_add_nothing(values: list[float], copies: int) -> None:
    labels = list(range(len(values)))
    copied = clustered_interval(values * copies, labels * copies)
    assert copied.se == pytest.approx(mean_interval(values).se, abs=1e-12)


@given(st.integers(1, 300), st.data())
def test_wilson_stays_in_range_is_symmetric_and_grows(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    interval, mirrored = wilson_interval(k, n), wilson_interval(n - k, n)
    assert 0 <= interval.low <= k / n <= interval.high <= 1
    assert interval.low < interval.high
    assert (mirrored.low, mirrored.high) == pytest.approx((1 - interval.high, 1 - interval.low))
    if k < n:
        more = wilson_interval(k + 1, n)
        assert more.low > interval.low
        assert more.high > interval.high or interval.high == 1


def test_rule_of_three_narrows_with_draws_and_counts_clusters_not_items() -> None:
    few, many = constant_interval(0.4, 10, (0, 1)), constant_interval(0.4, 1000, (0, 1))
    assert few.low < many.low < 0.4 < many.high < few.high
    assert many.high - 0.4 == pytest.approx(0.6 * 3 / 1000, rel=0.01), "about 3/n of the items may differ"
    clustered = constant_interval(0.4, 1000, (0, 1), n_clusters=10)
    assert (clustered.low, clustered.high) == (few.low, few.high)


@pytest.mark.parametrize(
    ("values", "options", "method"),
    [
        ([1, 0, 1, 1], {}, "Wilson"),
        ([1, 1, 1, 1], {}, "Wilson"),
        ([1], {}, "Wilson"),
        ([1, 0, 1, 1], {"clusters": "abcd"}, "Wilson"),
        ([1, 0, 1, 1], {"clusters": "aabb"}, "clustered t"),
        ([1, 1, 1, 1], {"clusters": "aabb"}, "rule of three"),
        ([0.5, 0.25, 1, 1], {}, "t"),
        ([0.5, 0.5, 0.5], {"bounds": (0, 1)}, "rule of three"),
    ],
)
def test_the_interval_that_fits(values: list[float], options: dict[str, object], method: str) -> None:
    interval = score_interval(values, **options)
    assert interval is not None
    assert interval.method == method
    assert interval.low < interval.high


@pytest.mark.parametrize(
    ("values", "options"),
    [([0.5], {}), ([0.5, 0.5], {}), ([1, 0, 0.5], {"clusters": "aaa"}), ([0.1 + 0.2, 0.3], {})],
)
def test_no_interval_where_the_data_give_none(values: list[float], options: dict[str, object]) -> None:
    assert score_interval(values, **options) is None


def test_known_bounds_clip_the_interval() -> None:
    values = [1, 1, 1, 0.9]
    free, bounded = score_interval(values), score_interval(values, bounds=(0, 1))
    assert free is not None
    assert bounded is not None
    assert free.high > 1 == bounded.high
    assert free.low == bounded.low


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_interval([]), "scores is empty"),
        (lambda: mean_interval([0.5]), "at least 2 items"),
        (lambda: mean_interval([0.5, 1, float("nan")]), r"scores\[2\] is nan; leave out"),
        (lambda: mean_interval([0.5, float("inf")]), r"scores\[1\] is inf"),
        (lambda: mean_interval([0.5, None]), r"scores\[1\] is nan"),
        (lambda: mean_interval([[0.5, 1], [1, 1]]), r"shape \(2, 2\).*average the repeats"),
        (lambda: mean_interval([0.5, 1], level=95), "level is 95"),
        (lambda: item_means([]), "repeats is empty"),
        (lambda: item_means([[1], []]), r"repeats\[1\] is empty"),
        (lambda: clustered_interval([1, 0], ["a", "a"]), "at least 2 clusters"),
        (lambda: clustered_interval([1, 0], ["a"]), "1 cluster labels for 2 items"),
        (lambda: wilson_interval(5, 4), "5 successes of 4"),
        (lambda: wilson_interval(-1, 4), "-1 successes of 4"),
        (lambda: wilson_interval(0, 0), "n >= 1"),
        (lambda: constant_interval(0.5, 1, (0, 1)), "from 2 items"),
        (lambda: constant_interval(2, 9, (0, 1)), "outside the bounds"),
        (lambda: score_interval([0.5, 3, 0.1], bounds=(0, 1)), r"scores\[1\] is 3.0, outside the bounds"),
        (lambda: score_interval([0.5], bounds=(1, 0)), "low < high"),
    ],
)
def test_refusals_name_what_is_wrong(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
