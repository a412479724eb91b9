"""Comparing experiments: by hand-computed numbers, and what is told when they cannot be compared."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec
import pytest

from assay.errors import RequestError
from assay.evals import (
    Example,
    Experiment,
    Failure,
    Outcome,
    Plan,
    Score,
    exact,
    function_task,
    make_dataset,
    run_experiment,
)
from assay.evals.compare import Decision, compare, percentile
from assay.runs import Run
from assay.storage import Store
from assay.types import Cost

Value = float | None


def experiment(
    name: str,
    scores: Sequence[Value | Sequence[Value]],
    *,
    clusters: str | None = None,
    first: int = 0,
    costs: Sequence[Cost | None] = (),
    latencies: Sequence[float] = (),
    failed: Sequence[int] = (),
    scorers: dict[str, object] | None = None,
    status: str = "finished",
) -> Experiment:
    """One example a score (or a list of scores, its repeats), numbered from `first`.

    `clusters` has a letter for each, a space for none.
    """
    tries = [list(one) if isinstance(one, Sequence) else [one] for one in scores]
    examples = [
        Example(first + place, "expected", cluster=clusters[place].strip() or None if clusters else None)
        for place in range(len(tries))
    ]
    outcomes = []
    for place, (example, repeats) in enumerate(zip(examples, tries, strict=True)):
        for repeat, value in enumerate(repeats):
            outcomes.append(
                Outcome(
                    example.id,
                    repeat,
                    latencies[place] if latencies else 1.0,
                    output=None if place in failed else f"{name} {place}.{repeat}",
                    error=Failure("timeout", "too slow") if place in failed else None,
                    cost=costs[place] if costs else None,
                    scores={"exact": Score("exact", value, "" if value is not None else "did not parse")},
                )
            )
    dataset = make_dataset("support", examples)
    spec = {
        "dataset": {"name": dataset.name, "digest": dataset.digest},
        "scorers": {"exact": {"scorer": "exact"}} if scorers is None else scorers,
        "repeats": len(tries[0]),
    }
    run = Run(name.encode().hex().ljust(32, "0"), "experiment", name, spec, "d", status, "t", 1)
    return Experiment(run, dataset, tuple(outcomes))


def bits(text: str) -> list[float]:
    return [float(bit) for bit in text if bit in "01"]


def test_paired_binary_scores_by_published_values() -> None:
    decision = compare(experiment("v1", bits("1101011011")), experiment("v2", bits("1001001010")))
    verdict = decision.verdict
    assert verdict.effect == pytest.approx(-0.3)
    assert verdict.se == pytest.approx(0.15275, abs=5e-6)
    assert verdict.p_value == pytest.approx(0.25)
    assert (decision.outcome, verdict.n_items, verdict.n_clusters) == ("not enough data", 10, None)
    assert (decision.a.mean, decision.b.mean) == (0.7, 0.4)
    assert (decision.a.method, decision.b.method) == ("Wilson", "Wilson")
    assert (decision.a.low, decision.a.high) == (
        pytest.approx(0.39677, abs=1e-5),
        pytest.approx(0.89221, abs=1e-5),
    )
    assert (decision.b.low, decision.b.high) == (
        pytest.approx(0.16818, abs=1e-5),
        pytest.approx(0.68733, abs=1e-5),
    )


def test_repeats_are_averaged_first() -> None:
    a = experiment("v1", [[1, 0], [1, 1], [0, 0], [0, 1]])
    b = experiment("v2", [[1, 1], [1, 1], [1, 0], [1, 0]])
    verdict = compare(a, b).verdict
    # Differences .5, 0, .5, 0: sd .288675, se .144338, t(3) 3.182446.
    assert (verdict.effect, verdict.se, verdict.n_items) == (0.25, pytest.approx(0.144338, abs=1e-6), 4)
    assert verdict.low == pytest.approx(0.25 - 3.182446 * 0.144338, abs=1e-5)
    assert compare(a, b).a.method == "t"
    assert compare(a, b).a.answers == 8


def test_pass_fail_scores_have_bounds_though_their_means_are_all_equal() -> None:
    """So that 30 examples which all agree say something: a rule of three, not nothing."""
    decision = compare(experiment("v1", [[1, 0]] * 30), experiment("v2", [[0, 1]] * 30))
    assert decision.verdict.method == decision.a.method == "rule of three"
    graded = compare(experiment("v1", [[0.9, 0.1]] * 30), experiment("v2", [[0.1, 0.9]] * 30))
    assert (graded.verdict.low, graded.a.low, graded.a.method) == (None, None, "none")


def test_different_numbers_of_repeats_can_be_compared() -> None:
    decision = compare(experiment("v1", [0, 0, 1, 0]), experiment("v2", [[1, 1], [0, 1], [1, 1], [0, 0]]))
    assert (decision.verdict.effect, decision.verdict.n_items) == (0.375, 4)
    assert (decision.a.answers, decision.b.answers) == (4, 8)


def test_clusters_widen_the_interval_by_published_values() -> None:
    scores = bits("111 001 100 000")
    a = experiment("v1", [0.0] * 12, clusters="aaabbbcccddd")
    b = experiment("v2", scores, clusters="aaabbbcccddd")
    decision = compare(a, b)
    assert decision.verdict.effect == pytest.approx(0.41667, abs=5e-6)
    assert decision.verdict.se == pytest.approx(0.20972, abs=5e-6)
    assert (decision.verdict.n_clusters, decision.verdict.df) == (4, 3)
    assert decision.verdict.low == pytest.approx(0.41667 - 3.18245 * 0.20972, abs=1e-4)
    assert decision.b.method == "clustered t"
    alone = compare(experiment("v1", [0.0] * 12), experiment("v2", scores))
    assert alone.verdict.se == pytest.approx(0.14865, abs=5e-6)


def test_examples_without_a_cluster_stand_alone() -> None:
    scores = bits("000000"), bits("110100")
    a, b = (experiment(name, one, clusters="aab b ") for name, one in zip(("v1", "v2"), scores, strict=True))
    assert [example.cluster for example in a.dataset.examples] == ["a", "a", "b", None, "b", None]
    assert compare(a, b).verdict.n_clusters == 4


def test_the_verdict_is_the_one_that_the_numbers_give() -> None:
    low, high = bits("0" * 60 + "1" * 20), bits("1" * 50 + "0" * 10 + "1" * 20)
    assert compare(experiment("a", low), experiment("b", high)).outcome == "better"
    assert compare(experiment("a", high), experiment("b", low)).outcome == "worse"
    assert compare(experiment("a", high), experiment("b", high)).outcome == "not enough data"
    assert compare(experiment("a", high * 4), experiment("b", high * 4), margin=0.05).outcome == "equivalent"


def test_what_one_side_left_unscored_is_left_out_of_both() -> None:
    a = experiment("v1", [1, 0, None, 1, 0, 0, 1, 1, 0, 0])
    b = experiment("v2", [1, 1, 1, 1, 0, 0, 1, None, 0, 0])
    decision = compare(a, b)
    ids = [example.id for example in a.dataset.examples]
    assert decision.unscored == (ids[2], ids[7])
    assert decision.verdict.n_items == 8
    assert decision.verdict.effect == pytest.approx(1 / 8)
    assert (decision.a.mean, decision.a.unscored) == (pytest.approx(3 / 8), 1)
    assert "2 unscored and left out" in decision.summary()


def test_a_repeat_that_is_unscored_leaves_the_others() -> None:
    a = experiment("v1", [[1, None, 0], [1, 1, 1], [0, 0, 0]])
    b = experiment("v2", [[1, 1, 1], [1, 1, 1], [0, 0, 0]])
    decision = compare(a, b)
    assert (decision.a.mean, decision.a.unscored, decision.unscored) == (0.5, 1, ())


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (
            [None, None, None, 1],
            [1, 1, 1, 1],
            r"exact left 3 of 4 examples unscored, more than 20%.*: did not parse",
        ),
        ([None, 1, 1, 1], [1, None, 1, 1], "exact left 2 of 4 examples unscored"),
        ([None] * 4, [None] * 4, "exact left 4 of 4 examples unscored"),
        ([1, 1], [[1, None], [None, 1]], "exact left 2 of 4 outcomes of v2 unscored"),
    ],
)
def test_too_much_that_is_unscored_is_refused(a: list, b: list, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        compare(experiment("v1", a), experiment("v2", b))


def test_a_fifth_unscored_is_still_compared() -> None:
    assert (
        compare(experiment("v1", [None, 1, 1, 0, 1]), experiment("v2", [1, 1, 0, 1, 1])).verdict.n_items == 4
    )


def test_examples_of_one_side_only_are_told_and_left_out() -> None:
    a, b = experiment("v1", [1, 0, 1, 0]), experiment("v2", [1, 1, 1, 1], first=1)
    decision = compare(a, b)
    assert decision.only_in_a == (Example(0, "expected").id,)
    assert decision.only_in_b == (Example(4, "expected").id,)
    assert (decision.verdict.n_items, decision.a.answers, decision.b.answers) == (3, 3, 3)
    assert decision.a.mean == pytest.approx(1 / 3)
    assert "2 in one experiment only and left out" in decision.summary()
    with pytest.raises(RequestError, match="v1 .support@.* and v2 .support@.* have no example in common"):
        compare(a, experiment("v2", [1], first=9))


def test_the_scorer_that_decides() -> None:
    same, other = {"scorer": "x"}, {"scorer": "y"}
    both = experiment("v1", [1, 0], scorers={"exact": same, "judge": same})
    with pytest.raises(RequestError, match="Which scorer decides. Choose one of exact, judge with --scorer"):
        compare(both, experiment("v2", [1, 1], scorers={"exact": same, "judge": same}))
    assert compare(both, experiment("v2", [1, 1], scorers={"exact": same})).scorer == "exact"
    with pytest.raises(RequestError, match=r"no scorer in common \(v1 has exact, judge; v2 has regex\)"):
        compare(both, experiment("v2", [1, 1], scorers={"regex": same}))
    with pytest.raises(RequestError, match="The scorer 'judge' is not in both experiments"):
        compare(both, experiment("v2", [1, 1], scorers={"exact": same}), scorer="judge")
    with pytest.raises(RequestError, match="The scorer 'exact' is not the same in both experiments"):
        compare(both, experiment("v2", [1, 1], scorers={"exact": other}), scorer="exact")


def test_what_is_not_finished_or_the_same_is_refused() -> None:
    done = experiment("v1", [1, 0])
    with pytest.raises(RequestError, match="v2 .7632.* is not finished: 2 of 2 outcomes; run it again"):
        compare(done, experiment("v2", [1, 0], status="open"))
    with pytest.raises(RequestError, match="A and B are the same experiment .*run it once more with --fresh"):
        compare(done, done)
    with pytest.raises(RequestError, match="cannot be compared: margin is -1"):
        compare(done, experiment("v2", [1, 0]), margin=-1)


def test_costs_stay_what_they_are() -> None:
    cheap, dear = Cost("exact", Decimal("0.001"), "l"), Cost("exact", Decimal("0.003"), "l")
    unknown = Cost("unknown", None, "no price")
    decision = compare(
        experiment("v1", [1, 0], costs=[cheap, dear]), experiment("v2", [1, 1], costs=[cheap, unknown])
    )
    assert (decision.a.cost.usd, decision.a.usd_per_answer) == (Decimal("0.004"), Decimal("0.002"))
    assert (decision.b.cost.kind, decision.b.usd_per_answer) == ("unknown", None)
    assert "cost $0.001 and 1 of unknown cost vs $0.004" in decision.summary()


def test_latencies_are_of_the_answers_that_came() -> None:
    a = experiment("v1", [1.0] * 20, latencies=[float(number) for number in range(1, 21)])
    b = experiment("v2", [0, 0, *[1.0] * 18], latencies=[600.0, 600.0, *[2.0] * 18], failed=[0, 1])
    decision = compare(a, b)
    assert (decision.a.latency_p50_s, decision.a.latency_p95_s) == (10.0, 19.0)
    assert (decision.b.latency_p50_s, decision.b.latency_p95_s) == (2.0, 2.0)
    assert (decision.a.errors, decision.b.errors) == (0, 2)
    assert "errors 2 vs 0" in decision.summary()
    assert percentile([], 0.5) is None
    assert percentile([3.0], 0.95) == 3.0


def test_flips_begin_with_what_got_worst() -> None:
    a = experiment("v1", [[1, 1], [0, 0], [1, 0], [1, 1]], failed=[3])
    b = experiment("v2", [[0, 0], [1, 1], [0, 1], [1, 0]])
    flips = compare(a, b).flips
    assert [(flip.input, flip.score_a, flip.score_b) for flip in flips] == [(0, 1, 0), (3, 1, 0.5), (1, 0, 1)]
    worst = flips[0]
    assert (worst.change, worst.expected) == (-1, "expected")
    assert [outcome.output for outcome in worst.a] == ["v1 0.0", "v1 0.1"]
    assert [outcome.output for outcome in worst.b] == ["v2 0.0", "v2 0.1"]
    assert flips[1].a[0].error == Failure("timeout", "too slow")


def test_a_decision_is_json() -> None:
    price = [Cost("exact", Decimal("0.001"), "l")] * 6
    a = experiment("v1", [1, 0, None, 1, 1, 0], clusters="aabbcc", costs=price, failed=[1])
    b = experiment("v2", [1, 1, 1, 0, 1, 0], clusters="aabbcc")
    decision = compare(a, b, margin=0.1)
    assert decision.flips
    assert decision.unscored
    assert msgspec.json.decode(msgspec.json.encode(decision), type=Decision) == decision


def test_the_sentence() -> None:
    low, high = bits("0" * 60 + "1" * 20), bits("1" * 50 + "0" * 10 + "1" * 20)
    free = [Cost("exact", Decimal(0), "local")] * 80
    clusters = "abcdefgh" * 10
    a = experiment("v1", low, costs=free, clusters=clusters)
    b = experiment("v2", high, costs=free, clusters=clusters)
    better = compare(a, b)
    assert better.verdict.low is not None
    assert better.summary() == (
        f"v2 is better than v1 on exact: +0.62 [{better.verdict.low:.2f}, {better.verdict.high:.2f}] "
        "(95%, clustered paired t), n=80 in 8 clusters, cost $0 vs $0"
    )
    assert compare(b, a).summary().startswith("v1 is worse than v2 on exact: -0.62 [")
    same = experiment("v1", high * 3), experiment("v2", high * 3)
    assert (
        compare(*same, margin=0.05)
        .summary()
        .startswith("v2 and v1 are equivalent on exact within 0.05: +0.00 [")
    )
    open_question = compare(experiment("v1", bits("1101011011")), experiment("v2", bits("1001001010")))
    assert open_question.summary().startswith("Not enough data to tell v2 from v1 on exact: -0.30 [")
    more = open_question.verdict.more_needed
    assert open_question.summary().endswith(f"; about {more} more examples would decide")
    one = compare(experiment("v1", [0.3]), experiment("v2", [0.5]))
    assert one.summary() == (
        "Not enough data to tell v2 from v1 on exact: +0.20, n=1, cost $0 vs $0; "
        "one item does not show how much items differ; add items"
    )


def test_two_runs_of_one_name_are_told_apart() -> None:
    a = experiment("same", bits("0000000000"))
    b = msgspec.structs.replace(
        experiment("same", bits("1111111111")), run=msgspec.structs.replace(a.run, run_id="f" * 32)
    )
    assert (
        compare(a, b)
        .summary()
        .startswith(f"same (ffffffff) is better than same ({a.run.run_id[:8]}) on exact")
    )


@pytest.mark.anyio
async def test_real_runs_are_compared(store: Store) -> None:
    dataset = make_dataset("letters", [Example(chr(97 + place), chr(65 + place)) for place in range(20)])

    def shout(text: str) -> str:
        return text.upper()

    def mumble(text: str) -> str:
        return text

    a, b = [
        await run_experiment(Plan(function_task(one), dataset, (exact(),)), store) for one in (mumble, shout)
    ]
    decision = compare(a, b)
    assert (decision.outcome, decision.verdict.effect, len(decision.flips)) == ("better", 1.0, 20)
    assert decision.flips[0].b[0].output == "A"
