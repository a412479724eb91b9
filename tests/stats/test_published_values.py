"""Published and worked values for every formula; coverage by simulation is in test_coverage."""

import numpy as np
import pytest

from assay.stats import (
    PairedNoise,
    clustered_interval,
    items_to_detect,
    mcnemar_exact,
    mean_interval,
    minimum_detectable_effect,
    paired_difference,
    paired_proportions,
    pass_at_k,
    pass_hat_k,
    unpaired_difference,
    wilson_interval,
)

A = [1, 1, 0, 1, 1, 0, 1, 0, 1, 1]
B = [1, 0, 0, 1, 0, 0, 1, 0, 1, 0]


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(90, 100, 0.82563, 0.94477), (9, 10, 0.59585, 0.98212), (0, 30, 0.0, 0.11351)],
)
def test_wilson(successes: int, n: int, low: float, high: float) -> None:
    interval = wilson_interval(successes, n)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-6)


def test_clustered_standard_error_is_larger_than_the_naive_one() -> None:
    scores = [1, 1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0]
    clustered = clustered_interval(scores, list("aaabbbcccddd"))
    assert clustered.estimate == pytest.approx(0.41667, abs=5e-6)
    assert clustered.se == pytest.approx(0.20972, abs=5e-6)
    assert (clustered.df, clustered.n, clustered.n_clusters) == (3, 12, 4)
    assert mean_interval(scores).se == pytest.approx(0.14865, abs=5e-6)


def test_paired_against_unpaired() -> None:
    paired = paired_difference(B, A)
    assert paired.estimate == pytest.approx(0.3)
    assert paired.se == pytest.approx(0.15275, abs=5e-6)
    assert paired.p_value == pytest.approx(0.0811, abs=5e-5)
    assert unpaired_difference(B, A).se == pytest.approx(0.22361, abs=5e-6)
    assert paired_proportions(B, A).p_value == 0.25


def test_t_interval_of_student_1908() -> None:
    """The first data a paired t was ever used on: hours of sleep gained with one drug and with another."""
    one = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    other = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    gain = paired_difference(one, other)
    assert gain.estimate == pytest.approx(1.58)
    assert (gain.low, gain.high) == pytest.approx((0.7001142, 2.4598858), abs=1e-6)
    assert gain.p_value == pytest.approx(0.002833, abs=1e-6)
    welch = unpaired_difference(one, other)
    assert welch.df == pytest.approx(17.776, abs=5e-4)
    assert (welch.low, welch.high) == pytest.approx((-0.2054832, 3.3654832), abs=1e-6)
    assert welch.p_value == pytest.approx(0.07939, abs=1e-5)


def test_tango_and_mcnemar_on_a_published_table() -> None:
    """Cavo et al. 2012 (59, 6, 16, 80) in Fagerland, Lydersen and Laake: Tango -0.1240 to -0.0054."""
    after, before = np.repeat([[1, 1], [1, 0], [0, 1], [0, 0]], [59, 6, 16, 80], axis=0).T
    assert mcnemar_exact(6, 16) == pytest.approx(0.052479, abs=5e-7)
    difference = paired_proportions(before, after)
    assert difference.estimate == pytest.approx(-0.0621, abs=5e-5)
    assert difference.low == pytest.approx(-0.1240, abs=5e-5)
    assert difference.high == 0.0, "Tango says -0.0054, but the exact test does not reject equality"
    looser = paired_proportions(before, after, level=0.94)
    assert -0.0621 < looser.high < -0.0054, "where the exact test rejects, Tango's limit stands"


def test_tango_without_disagreement_is_wilson_without_success() -> None:
    agreed = paired_proportions([1] * 30, [1] * 30)
    assert (agreed.low, agreed.high) == pytest.approx((-0.11351, 0.11351), abs=5e-6)


def test_power_and_minimum_detectable_effect() -> None:
    assert items_to_detect(0.03, PairedNoise(item=1 / 9)) == 969
    for repeats, expected in ((1, 0.1327), (10, 0.0757)):
        noise = PairedNoise(1 / 9, 1 / 6, 1 / 6, repeats, repeats)
        assert minimum_detectable_effect(198, noise) == pytest.approx(expected, abs=5e-5)


def test_pass_at_k_and_pass_hat_k() -> None:
    assert pass_at_k(10, 3, 5) == pytest.approx(0.91667, abs=5e-6)
    assert pass_hat_k(8, 6, 4) == pytest.approx(0.21429, abs=5e-6)
