"""The decision: coherent with what it prints, symmetric, honest, and wrong as rarely as it says."""

import msgspec
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from assay.stats import PairedNoise, Verdict, decide, items_for_equivalence

MIRROR = {"better": "worse", "worse": "better"}

graded = st.lists(st.tuples(st.integers(3, 64), st.integers(3, 64)), min_size=2, max_size=25).map(
    lambda rows: np.array(rows, dtype=float).T / 16
)
binary = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=25).map(
    lambda rows: np.array(rows, dtype=float).T
)
margins = st.sampled_from([0.0, 0.05, 0.25, 1.0])


def labels_for(pair: np.ndarray, clustered: bool) -> list[int] | None:
    return [i % 4 for i in range(pair.shape[1])] if clustered else None


@given(graded | binary, margins, st.booleans())
def test_the_outcome_follows_from_the_printed_numbers(
    pair: np.ndarray, margin: float, clustered: bool
) -> None:
    verdict = decide(*pair, margin=margin, clusters=labels_for(pair, clustered))
    if verdict.low is None or verdict.high is None:
        assert verdict.outcome == "not enough data"
        assert verdict.method == "none"
        return
    assert verdict.low <= verdict.effect <= verdict.high
    within = verdict.equivalence is not None and max(map(abs, verdict.equivalence)) < margin
    assert (verdict.outcome == "equivalent") == within
    if not within:
        assert (verdict.outcome == "better") == (verdict.low > 0)
        assert (verdict.outcome == "worse") == (verdict.high < 0)
    if verdict.p_value is not None:
        assert (verdict.low > 0 or verdict.high < 0) == (verdict.p_value < 0.05)
    if verdict.outcome == "not enough data":
        assert verdict.more_needed is None or verdict.more_needed > 0
    else:
        assert verdict.more_needed == 0


@given(graded | binary, margins, st.booleans())
def test_swapping_a_and_b_mirrors_the_verdict(pair: np.ndarray, margin: float, clustered: bool) -> None:
    labels = labels_for(pair, clustered)
    forth = decide(*pair, margin=margin, clusters=labels)
    back = decide(*pair[::-1], margin=margin, clusters=labels)
    assert back.outcome == MIRROR.get(forth.outcome, forth.outcome)
    assert back.effect == -forth.effect
    assert (back.more_needed, back.p_value) == (forth.more_needed, forth.p_value)
    if forth.low is not None and forth.high is not None:
        assert (back.low, back.high) == (-forth.high, -forth.low)


@given(graded, margins, st.integers(1, 8))
def test_a_shift_of_both_changes_nothing_and_a_scale_scales(pair: np.ndarray, margin: float, by: int) -> None:
    plain = decide(*pair, margin=margin)
    shifted = decide(*(pair + by), margin=margin)
    scaled = decide(*(pair * 2**by), margin=margin * 2**by)
    assert plain.outcome == shifted.outcome == scaled.outcome
    assert plain.more_needed == shifted.more_needed == scaled.more_needed
    assert shifted.p_value == plain.p_value == scaled.p_value
    if plain.low is not None:
        assert shifted.low == plain.low
        assert scaled.low == plain.low * 2**by


@given(graded | binary, st.randoms(use_true_random=False))
def test_the_order_of_items_does_not_matter(pair: np.ndarray, random: object) -> None:
    order = list(range(pair.shape[1]))
    random.shuffle(order)  # type: ignore[attr-defined]
    labels = np.array([i % 4 for i in order])
    here = decide(*pair, clusters=(np.arange(pair.shape[1]) % 4).tolist())
    there = decide(*pair[:, order], clusters=labels.tolist())
    assert here.effect == pytest.approx(there.effect)
    assert here.method == there.method
    if here.low is not None:
        assert (there.low, there.high) == pytest.approx((here.low, here.high), abs=1e-9)


@given(graded | binary)
def test_a_wider_margin_only_ever_leads_towards_equivalent(pair: np.ndarray) -> None:
    outcomes = [decide(*pair, margin=margin).outcome for margin in (0.0, 0.01, 0.1, 0.5, 2.0, 9.0)]
    distinct = list(dict.fromkeys(outcomes))
    assert len(distinct) <= 2
    assert distinct[1:] in ([], ["equivalent"])


@given(binary)
def test_clusters_of_one_item_are_no_clusters(pair: np.ndarray) -> None:
    plain = decide(*pair)
    alone = decide(*pair, clusters=[None] * pair.shape[1])
    assert alone == msgspec.structs.replace(plain, n_clusters=pair.shape[1])


def test_the_four_outcomes() -> None:
    rng = np.random.default_rng(1)
    a = rng.random(80)
    noise = rng.normal(0, 0.1, 80)
    assert decide(a, a + 0.1 + noise).outcome == "better"
    assert decide(a, a - 0.1 + noise).outcome == "worse"
    assert decide(a, a + noise - noise.mean(), margin=0.05).outcome == "equivalent"
    assert decide(a, a + noise - noise.mean()).outcome == "not enough data"


def test_certain_but_too_small_to_matter_is_equivalent() -> None:
    gain = np.linspace(0.01, 0.03, 40)
    a = np.linspace(2, 3, 40)
    small = decide(a, a + gain, margin=0.05)
    assert small.low is not None
    assert small.low > 0
    assert small.outcome == "equivalent"
    assert small.reason.startswith("the 90% interval, 0.0")
    assert small.reason.endswith("lies within the margin of 0.05")


def test_better_by_perhaps_less_than_the_margin_says_so() -> None:
    gain = np.linspace(-0.1, 0.3, 40)
    a = np.linspace(2, 3, 40)
    verdict = decide(a, a + gain, margin=0.08)
    assert verdict.outcome == "better"
    assert "may be by less than the margin of 0.08" in verdict.reason
    assert "margin" not in decide(a, a + gain, margin=0.01).reason


def methods() -> list[tuple[str, Verdict]]:
    rng = np.random.default_rng(2)
    a, b = rng.random((2, 12))
    zeros, ones = [0] * 12, [1] * 12
    halves = [0.5] * 12
    return [
        ("Tango score, exact McNemar at 0", decide(zeros, ones)),
        ("paired t", decide(a, b)),
        ("clustered paired t", decide(a, b, clusters="aaabbbcccddd")),
        ("clustered paired t", decide(zeros, [0, 1] * 6, clusters="aaabbbcccddd")),
        ("rule of three", decide(zeros, ones, clusters="aaabbbcccddd")),
        ("rule of three", decide(halves, ones, bounds=(0, 1))),
        ("none", decide(halves, ones)),
        ("none", decide(a, b, clusters="a" * 12)),
        ("none", decide([0.3], [0.4])),
    ]


@pytest.mark.parametrize(("expected", "verdict"), methods())
def test_the_method_that_fits(expected: str, verdict: Verdict) -> None:
    assert verdict.method == expected
    assert verdict == msgspec.json.decode(msgspec.json.encode(verdict), type=Verdict)


def test_agreement_on_every_item_is_not_certainty() -> None:
    few, many = decide([1] * 20, [1] * 20, margin=0.05), decide([1] * 80, [1] * 80, margin=0.05)
    assert few.outcome == "not enough data"
    assert few.low is not None
    assert few.low < -0.1
    assert few.more_needed is not None
    assert many.outcome == "equivalent"
    assert decide([1] * 20, [1] * 20).more_needed is None, (
        "without a margin nothing shows that equals are equal"
    )


def test_equal_differences_without_a_known_range_say_nothing() -> None:
    verdict = decide([0.5] * 30, [0.7] * 30)
    assert verdict.outcome == "not enough data"
    assert verdict.effect == pytest.approx(0.2)
    assert (verdict.low, verdict.high, verdict.se, verdict.p_value, verdict.more_needed) == (None,) * 5
    assert "give the range of the score (bounds)" in verdict.reason


def test_equal_differences_of_bounded_scores_decide_once_there_are_enough() -> None:
    def same(n: int) -> Verdict:
        return decide([0.5] * n, [0.7] * n, bounds=(0, 1))

    assert same(5).outcome == "not enough data"
    more = same(5).more_needed
    assert more is not None
    assert same(5 + more).outcome == "better"
    assert same(5 + more - 1).outcome == "not enough data"
    assert decide([0.1] * 30, [0.3 - 0.2] * 30, bounds=(0, 1)).effect == pytest.approx(0)

    def agreeing(n: int) -> Verdict:
        return decide([0.5] * n, [0.5] * n, bounds=(0, 1), margin=0.1)

    more = agreeing(5).more_needed
    assert more is not None
    assert agreeing(5 + more).outcome == "equivalent"
    assert agreeing(5 + more - 1).outcome == "not enough data"


def test_clusters_that_cancel_inside_show_no_spread_between() -> None:
    a, b = np.full(8, 0.5), np.tile([0.25, 0.75], 4)
    verdict = decide(a, b, clusters="aabbccdd", bounds=(0, 1))
    assert verdict.method == "rule of three"
    assert decide(a, b, clusters="aabbccdd").method == "none"


def test_the_far_end_of_the_scale_survives_rounding() -> None:
    n = next(n for n in range(2, 100) if np.full(n, 0.1).mean() > 0.1)
    verdict = decide([0.0] * n, [0.1] * n, bounds=(0, 0.1))
    assert verdict.high == 0.1


@pytest.mark.parametrize("law", ["binary", "skewed", "clustered"])
def test_equals_are_rarely_called_different(law: str) -> None:
    rng = np.random.default_rng(3)
    alarms = 0
    for _ in range(2000):
        labels = None
        if law == "binary":
            difficulty = rng.random(25)
            a, b = (rng.random((2, 25)) < difficulty).astype(float)
        elif law == "skewed":
            a, b = rng.beta(0.5, 2.0, (2, 25))
        else:
            labels = np.repeat(np.arange(10), 1 + np.arange(10) % 4)
            a = rng.random(labels.size)
            b = a + rng.normal(0, 0.2, 10)[labels] + rng.normal(0, 0.1, labels.size)
        verdict = decide(a, b, clusters=None if labels is None else labels.tolist())
        alarms += verdict.outcome in {"better", "worse"}
    assert 0.01 < alarms / 2000 < 0.065


@pytest.mark.parametrize("law", ["binary", "graded"])
def test_a_difference_of_the_margin_is_rarely_called_equivalent(law: str) -> None:
    rng = np.random.default_rng(4)
    wrong = 0
    for _ in range(2000):
        if law == "binary":
            difference = rng.choice([1, -1, 0], 60, p=[0.2, 0.1, 0.7])
            a, b = (difference < 0).astype(float), (difference > 0).astype(float)
        else:
            a = rng.random(20)
            b = a + rng.normal(0.1, 0.1, 20)
        wrong += decide(a, b, margin=0.1).outcome == "equivalent"
    assert wrong / 2000 < 0.065


def test_planned_items_for_equivalence_have_the_planned_power() -> None:
    rng = np.random.default_rng(5)
    n = items_for_equivalence(0.1, PairedNoise(0.04))
    shown = 0
    for _ in range(2000):
        a = rng.random(n)
        shown += decide(a, a + rng.normal(0, 0.2, n), margin=0.1).outcome == "equivalent"
    assert shown / 2000 == pytest.approx(0.8, abs=0.04)


def power_with(n: int, law: str) -> float:
    rng = np.random.default_rng(6)
    found = 0
    for _ in range(1500):
        labels = None
        if law == "binary":
            difference = rng.choice([1, -1, 0], n, p=[0.3, 0.1, 0.6])
            a, b = (difference < 0).astype(float), (difference > 0).astype(float)
        elif law == "graded":
            a = rng.random(n)
            b = a + rng.normal(0.1, 0.2, n)
        else:
            labels = np.arange(n) // 4
            a = rng.random(n)
            b = a + 0.2 + rng.normal(0, 0.2, labels[-1] + 1)[labels] + rng.normal(0, 0.2, n)
        found += decide(a, b, clusters=None if labels is None else labels.tolist()).outcome == "better"
    return found / 1500


def pilot(law: str) -> Verdict:
    """A sample too small to decide whose effect and variance are those of the law itself."""
    rng = np.random.default_rng(7)
    if law == "binary":
        a, b = np.repeat([[0, 1], [1, 0], [1, 1]], [9, 3, 18], axis=0).T
        return decide(a, b)
    if law == "graded":
        noise = rng.normal(0, 1, 12)
        noise = 0.2 * (noise - noise.mean()) / noise.std(ddof=1)
        return decide(np.full(12, 0.5), 0.6 + noise)
    # 5 clusters of 4: the mean of a cluster has variance 0.04 + 0.04/4.
    between = rng.normal(0, 1, 5)
    between = 0.05**0.5 * (between - between.mean()) / between.std(ddof=1)
    return decide(np.full(20, 0.5), 0.7 + np.repeat(between, 4), clusters=(np.arange(20) // 4).tolist())


@pytest.mark.parametrize("law", ["binary", "graded", "clustered"])
def test_the_examples_asked_for_lead_to_a_decision(law: str) -> None:
    verdict = pilot(law)
    assert verdict.outcome == "not enough data"
    assert verdict.more_needed is not None
    assert power_with(verdict.n_items + verdict.more_needed, law) == pytest.approx(0.8, abs=0.05)


def test_more_needed_plans_for_the_margin_unless_the_effect_is_larger() -> None:
    rng = np.random.default_rng(8)
    noise = rng.normal(0, 1, 30)
    noise = 0.5 * (noise - noise.mean()) / noise.std(ddof=1)

    def more(effect: float, margin: float) -> int | None:
        verdict = decide(np.full(30, 0.5), 0.5 + effect + noise, margin=margin)
        assert verdict.outcome == "not enough data"
        return verdict.more_needed

    assert more(0.0, 0.0) is None
    assert more(1e-12, 0.0) is None
    assert more(1e-4, 0.0) is None, "millions of items are no plan"
    assert more(0.0, 0.1) == more(0.05, 0.1) == 197 + 2 - 30
    assert more(0.15, 0.1) == more(0.15, 0.0) == 88 + 2 - 30


def test_not_enough_data_never_asks_for_none() -> None:
    verdict = decide([0] * 5, [1] * 5)
    assert (verdict.outcome, verdict.more_needed) == ("not enough data", 1)
    assert decide([0] * 6, [1] * 6).outcome == "better"


def test_on_the_fence_the_plan_goes_on() -> None:
    """Enough items for the margin, yet undecided: half-way between 0 and the margin, at the edge of both."""
    rng = np.random.default_rng(9)
    noise = rng.normal(0, 1, 900)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    verdict = decide(np.full(900, 0.5), 0.55 + noise, margin=0.1)
    assert verdict.outcome == "not enough data"
    assert verdict.more_needed is not None
    assert verdict.more_needed > 1000


@given(graded | binary)
def test_refusing_a_score_names_its_index(pair: np.ndarray) -> None:
    assume(pair.shape[1] > 2)
    broken = pair.copy()
    broken[1, 2] = np.nan
    with pytest.raises(ValueError, match=r"scores_b\[2\] is nan"):
        decide(*broken)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: decide([], []), "scores_a is empty"),
        (lambda: decide([1, 0], [1]), "same items"),
        (lambda: decide([1, 0], [1, 1], margin=-0.1), "margin is -0.1"),
        (lambda: decide([1, 0], [1, 1], margin=float("nan")), "margin is nan"),
        (lambda: decide([1, 0], [1, 1], alpha=0.6), "2 \\* alpha is 1.2"),
        (lambda: decide([1, 0], [1, 1], power=0), "power is 0"),
        (lambda: decide([1, 0], [1, 3], bounds=(0, 1)), r"scores_b\[1\] is 3.0, outside"),
        (lambda: decide([1, 0], [1, 1], clusters=["x"]), "1 cluster labels for 2 items"),
    ],
)
def test_refusals_name_what_is_wrong(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
