"""Plans and their ingredients: power, variance split, pass@k."""

from collections.abc import Callable
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.stats import (
    PairedNoise,
    items_for_equivalence,
    items_to_detect,
    minimum_detectable_effect,
    paired_difference,
    pass_at_k,
    pass_hat_k,
    split_judged_variance,
    split_variance,
)

variances = st.floats(1e-4, 10)


@given(st.floats(0.001, 2), variances, st.sampled_from([0.8, 0.9]))
def test_minimum_detectable_effect_inverts_the_number_of_items(
    effect: float, item: float, power: float
) -> None:
    noise = PairedNoise(item)
    n = items_to_detect(effect, noise, power=power)
    assert minimum_detectable_effect(n, noise, power=power) <= effect * (1 + 1e-9)
    if n > 1:
        assert minimum_detectable_effect(n - 1, noise, power=power) >= effect * (1 - 1e-9)


@given(st.floats(0.01, 1), variances, variances, st.integers(1, 9))
def test_more_is_needed_for_less(effect: float, item: float, sampling: float, repeats: int) -> None:
    once = PairedNoise(item, sampling, sampling)
    often = PairedNoise(item, sampling, sampling, repeats, repeats)
    assert items_to_detect(effect, often) <= items_to_detect(effect, once)
    assert items_to_detect(effect, once) == items_to_detect(-effect, once)
    assert items_to_detect(effect / 2, once) >= items_to_detect(effect, once)
    assert items_to_detect(effect, once, power=0.95) >= items_to_detect(effect, once)
    assert items_for_equivalence(effect, once, effect=effect / 2) >= items_for_equivalence(effect, once)


def test_each_side_is_averaged_over_its_own_repeats() -> None:
    assert PairedNoise(0.1, 0.2, 0.3, 2, 5).variance == pytest.approx(0.1 + 0.2 / 2 + 0.3 / 5)


def test_planned_items_have_the_planned_power() -> None:
    """A difference of 0.2, items with variance 0.25 and repeats with variance 0.5: 80% are found."""
    noise = PairedNoise(0.25, 0.5, 0.5, 5, 5)
    n = items_to_detect(0.2, noise)
    rng = np.random.default_rng(11)
    found = 0
    for _ in range(2000):
        gain = rng.normal(0.2, 0.5, n)
        a = rng.normal(0, 0.5**0.5, (5, n)).mean(axis=0)
        b = gain + rng.normal(0, 0.5**0.5, (5, n)).mean(axis=0)
        found += paired_difference(a, b).low > 0
    assert found / 2000 == pytest.approx(0.8, abs=0.03)


@given(st.integers(1, 12), st.data(), st.floats(0, 1))
def test_pass_k_is_unbiased(n: int, data: st.DataObject, p: float) -> None:
    k = data.draw(st.integers(1, n))
    chance = [comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]
    all_pass = sum(w * pass_hat_k(n, c, k) for c, w in enumerate(chance))
    any_passes = sum(w * pass_at_k(n, c, k) for c, w in enumerate(chance))
    assert all_pass == pytest.approx(p**k, abs=1e-9)
    assert any_passes == pytest.approx(1 - (1 - p) ** k, abs=1e-9)


def test_pass_k_survives_many_attempts() -> None:
    assert pass_at_k(5000, 1, 2500) == pytest.approx(0.5)
    assert (pass_hat_k(5000, 5000, 700), pass_hat_k(5000, 0, 700)) == (1, 0)


def nested_sample(
    rng: np.random.Generator, answers: Callable[[int], int], runs: Callable[[int], int], n: int = 40
) -> list[list[np.ndarray]]:
    """Sd 0.5, 0.4, 0.3 of item, sampling, judge; item i has answers(i) answers, answer k runs(k) verdicts."""
    return [
        [rng.normal(0, 0.3, runs(k)) + rng.normal(0, 0.4) + level for k in range(answers(i))]
        for i, level in enumerate(rng.normal(0, 0.5, n))
    ]


@pytest.mark.parametrize(
    ("answers", "runs"),
    [(lambda _i: 3, lambda _k: 2), (lambda i: 1 + i % 4, lambda k: 1 + k % 3)],
    ids=["balanced", "ragged"],
)
def test_components_are_recovered(answers: Callable[[int], int], runs: Callable[[int], int]) -> None:
    rng = np.random.default_rng(5)
    splits = [split_judged_variance(nested_sample(rng, answers, runs)) for _ in range(400)]
    components = [(split.item, split.sampling, split.judge) for split in splits]
    assert np.mean(components, axis=0) == pytest.approx([0.25, 0.16, 0.09], abs=0.01)


def test_split_adds_up_to_the_standard_error() -> None:
    split = split_judged_variance(nested_sample(np.random.default_rng(1), lambda _i: 3, lambda _k: 2))
    assert split.se_with(items=40, repeats=3, judge_runs=2) == pytest.approx(split.se)
    assert split.se_with(items=160, repeats=3, judge_runs=2) == pytest.approx(split.se / 2)
    assert (
        split.se_with(items=40, repeats=300) < split.se_with(items=40, repeats=3, judge_runs=300) < split.se
    )


def test_what_was_not_repeated_is_not_split_off() -> None:
    rng = np.random.default_rng(2)
    once = split_variance(rng.normal(0, 1, (30, 1)))
    assert (once.sampling, once.judge) == (None, None)
    repeated = split_variance(rng.normal(0, 1, (30, 4)))
    assert repeated.sampling == pytest.approx(1, abs=0.3)
    assert repeated.judge is None
    judged_twice = split_judged_variance(rng.normal(0, 1, (30, 1, 2)))
    assert judged_twice.sampling is None
    assert judged_twice.judge == pytest.approx(1, abs=0.4)


def test_noise_alone_leaves_no_negative_component() -> None:
    splits = [split_variance(np.random.default_rng(i).normal(0, 1, (10, 3))) for i in range(30)]
    assert min(split.item for split in splits) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: items_to_detect(0, PairedNoise(1)), "smallest difference worth detecting"),
        (lambda: items_to_detect(1e-200, PairedNoise(1)), "no finite number"),
        (lambda: items_to_detect(0.1, PairedNoise(1), power=80), "power is 80"),
        (lambda: items_for_equivalence(0.1, PairedNoise(1), effect=0.1), "not within the margin"),
        (lambda: minimum_detectable_effect(0, PairedNoise(1)), "at least 1 item"),
        (lambda: PairedNoise(-1), "item is -1"),
        (lambda: PairedNoise(1, float("nan")), "sampling_a is nan"),
        (lambda: PairedNoise(1, repeats_b=0), "at least 1"),
        (lambda: pass_at_k(4, 5, 1), "5 of 4 attempts"),
        (lambda: pass_at_k(4, 2, 5), "k is 5 with 4 attempts.*at least 5 repeats"),
        (lambda: pass_hat_k(4, 2, 0), "k is 0"),
        (lambda: split_variance([[1, 0]]), "at least 2"),
        (lambda: split_variance([[1, 0], []]), r"repeats\[1\] is empty"),
        (lambda: split_judged_variance([[[1]], []]), "item 1 has no answers"),
        (lambda: split_judged_variance([[[1]], [[1], []]]), r"scores\[1\]\[1\] is empty"),
        (lambda: split_variance([[1], [0]]).se_with(items=0), "at least 1"),
    ],
)
def test_refusals_name_what_is_wrong(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
