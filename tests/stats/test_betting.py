"""Betting: fair bets, false alarms when looked at after every item, and that it does find a difference."""

from itertools import product
from math import log, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.stats import betting_interval, mean_e_process, paired_e_process

RUNS, LOOKS = 2000, 200


def capital_by_hand(x: list[float], m: float, alpha: float) -> list[float]:
    """The upward capital of the published recipe, one bet after the other."""
    capital, history, squares, variance = 1.0, 0.0, 0.0, 0.25
    course = []
    for t, score in enumerate(x, start=1):
        stake = min(sqrt(2 * log(2 / alpha) / (t * log(t + 1) * variance)), 1 / (2 * m))
        capital *= 1 + stake * (score - m)
        course.append(capital)
        history += score
        squares += (score - (0.5 + history) / (t + 1)) ** 2
        variance = (0.25 + squares) / (t + 1)
    return course


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.floats(0.01, 0.99))
def test_capital_is_that_of_the_published_recipe(x: list[float], m: float) -> None:
    process = mean_e_process(x, m)
    above = np.log(capital_by_hand(x, m, 0.05)) - log(2)
    below = np.log(capital_by_hand([1 - score for score in x], 1 - m, 0.05)) - log(2)
    assert process.log_above == pytest.approx(above, abs=1e-8)
    assert process.log_below == pytest.approx(below, abs=1e-8)


@pytest.mark.parametrize("m", [0.1, 0.5, 0.8])
def test_bets_are_fair(m: float) -> None:
    """Over all 2^10 sequences of a coin that falls as the null says, the capital is 1 on average."""
    total = 0.0
    for sequence in product([0, 1], repeat=10):
        chance = m ** sum(sequence) * (1 - m) ** (10 - sum(sequence))
        total += chance * 2 * np.exp(mean_e_process(sequence, m).log_above[-1])
    assert total == pytest.approx(1)


def z_test_alarms(x: np.ndarray, m: float) -> float:
    """How often a plain z-test, looked at from the 10th item on, ever says that the mean is not m."""
    t = np.arange(1, x.shape[1] + 1)
    means = np.cumsum(x, axis=1) / t
    spread = np.sqrt(np.maximum(np.cumsum(x**2, axis=1) / t - means**2, 1e-12))
    return float((np.abs(means - m) > 1.96 * spread / np.sqrt(t))[:, 9:].any(axis=1).mean())


@pytest.mark.parametrize("law", ["fair coin", "rare success", "skewed", "uniform"])
def test_looking_after_every_item_raises_no_more_false_alarms(law: str) -> None:
    rng = np.random.default_rng(3)
    shape = (RUNS, LOOKS)
    m, x = {
        "fair coin": (0.5, rng.binomial(1, 0.5, shape).astype(float)),
        "rare success": (0.1, rng.binomial(1, 0.1, shape).astype(float)),
        "skewed": (0.2, rng.beta(0.5, 2.0, shape)),
        "uniform": (0.5, rng.random(shape)),
    }[law]
    alarms = float(np.mean([mean_e_process(row, m).decided_at is not None for row in x]))
    assert 0.003 < alarms <= 0.05
    assert z_test_alarms(x, m) > 0.2, "what peeking at a fixed-n test does"


def test_comparing_after_every_item_raises_no_more_false_alarms() -> None:
    rng = np.random.default_rng(4)
    difficulty = rng.random((RUNS, LOOKS))
    a, b = (rng.random((2, RUNS, LOOKS)) < difficulty).astype(float)
    alarms = np.mean([paired_e_process(*pair).decided_at is not None for pair in zip(a, b, strict=True)])
    assert 0.002 < alarms <= 0.05


def test_a_better_b_is_found_before_the_last_item() -> None:
    rng = np.random.default_rng(5)
    a, b = rng.binomial(1, 0.5, (300, LOOKS)), rng.binomial(1, 0.75, (300, LOOKS))
    processes = [paired_e_process(*pair) for pair in zip(a, b, strict=True)]
    assert np.mean([process.direction == "above" for process in processes]) > 0.85
    stops = [process.decided_at or LOOKS for process in processes]
    assert np.mean(stops) < 0.75 * LOOKS


def test_swapping_a_and_b_mirrors_the_evidence() -> None:
    rng = np.random.default_rng(6)
    a, b = rng.random(80), rng.random(80) ** 0.3
    forth, back = paired_e_process(a, b), paired_e_process(b, a)
    assert forth.log_above == pytest.approx(back.log_below)
    assert (forth.direction, back.direction) == ("above", "below")
    assert forth.decided_at == back.decided_at
    assert forth.p_value == pytest.approx(back.p_value)


def test_a_decision_and_its_p_value_are_not_taken_back() -> None:
    scores = [1.0] * 12 + [0.0] * 40
    process = mean_e_process(scores, 0.5)
    early = mean_e_process(scores[:12], 0.5)
    assert process.decided_at == early.decided_at == 10
    assert process.direction == "above"
    assert process.p_value <= early.p_value < 0.05
    assert mean_e_process([0.5, 0.5], 0.5).p_value == 1
    assert mean_e_process([0.5, 0.5], 0.5).direction is None


def test_a_long_course_does_not_overflow() -> None:
    process = mean_e_process(np.ones(20_000), 0.01)
    assert process.p_value == pytest.approx(0, abs=1e-300)
    assert betting_interval(np.ones(20_000)).high == 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_interval_holds_the_null_means_that_are_not_rejected(x: list[float]) -> None:
    interval = betting_interval(x)
    assert 0 <= interval.low <= interval.high <= 1
    for m in np.linspace(0.02, 0.98, 25):
        process = mean_e_process(x, m)
        last = max(process.log_above[-1], process.log_below[-1])
        if abs(last - log(20)) > 1e-6:
            assert (interval.low <= m <= interval.high) == (last < log(20))


def test_interval_covers_at_every_n_at_once() -> None:
    rng = np.random.default_rng(8)
    missed = 0
    for row in rng.beta(0.5, 2.0, (400, 60)):
        intervals = [betting_interval(row[:n]) for n in range(5, 61, 5)]
        missed += any(not interval.low <= 0.2 <= interval.high for interval in intervals)
    assert missed / 400 <= 0.05


def test_bounds_only_rescale() -> None:
    rng = np.random.default_rng(9)
    x = rng.random(50)
    unit, stars = betting_interval(x), betting_interval(1 + 4 * x, bounds=(1, 5))
    assert (stars.low, stars.high) == pytest.approx((1 + 4 * unit.low, 1 + 4 * unit.high))
    one, five = mean_e_process(x, 0.3), mean_e_process(1 + 4 * x, 2.2, bounds=(1, 5))
    assert five.log_above == pytest.approx(one.log_above)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_e_process([0.2, 1.5], 0.5), r"scores\[1\] is 1.5, outside the bounds"),
        (lambda: mean_e_process([0.2], 1.0), "strictly within the bounds"),
        (lambda: mean_e_process([], 0.5), "scores is empty"),
        (lambda: mean_e_process([0.2], 0.5, alpha=0), "alpha is 0"),
        (lambda: paired_e_process([0, 1], [0]), "same items"),
        (lambda: paired_e_process([0, 1], [0, -2]), r"scores_b\[1\] is -2.0, outside"),
        (lambda: betting_interval([0.3], level=1), "level is 1"),
    ],
)
def test_refusals_name_what_is_wrong(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
