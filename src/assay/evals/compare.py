"""Comparing two experiments: what pairs, what is left out, and the Decision. Formulas are assay.stats's."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from assay.errors import RequestError
from assay.evals.costs import Spend, total
from assay.evals.dataset import Example
from assay.evals.experiment import Experiment, Outcome
from assay.stats import Outcome as Ruling
from assay.stats import Verdict, decide, item_means, score_interval
from assay.types import JSON, Value

MAX_UNSCORED: Final = 0.2
"""With more than this share unscored, the rest is too likely to be a special part of the whole."""


class Side(Value):
    """One of the two experiments, on the examples that both have.

    `mean` and its interval (None where the data give none) are over the examples that both have scored.
    `cost` is the task's, `scoring_cost` the judges', `usd_per_answer` the task's for one example at one
    repeat, None when a part of it is unknown. Latencies, in seconds, are of the answers that did not fail.
    """

    run_id: str
    name: str
    mean: float
    low: float | None
    high: float | None
    method: str
    answers: int
    errors: int
    unscored: int
    cost: Spend
    scoring_cost: Spend
    usd_per_answer: Decimal | None
    latency_p50_s: float | None
    latency_p95_s: float | None


class Flip(Value):
    """An example whose score is different: its means, and everything that came out on both sides."""

    example_id: str
    input: JSON
    expected: JSON
    cluster: str | None
    score_a: float
    score_b: float
    a: tuple[Outcome, ...]
    b: tuple[Outcome, ...]

    @property
    def change(self) -> float:
        return self.score_b - self.score_a


class Decision(Value):
    """Is B better than A? `verdict` holds effect, interval and method; `flips` starts with what got worst.

    `only_in_a` and `only_in_b` are ids of examples without a partner, `unscored` of those that one side or
    both left unscored; none of them is in the numbers.
    """

    scorer: str
    verdict: Verdict
    a: Side
    b: Side
    flips: tuple[Flip, ...]
    only_in_a: tuple[str, ...] = ()
    only_in_b: tuple[str, ...] = ()
    unscored: tuple[str, ...] = ()

    @property
    def outcome(self) -> Ruling:
        return self.verdict.outcome

    def summary(self) -> str:
        """The decision in one sentence."""
        return "; ".join((f"{self._ruling()}{self._numbers()}", *self._remarks()))

    def _ruling(self) -> str:
        a, b = _names(self.a, self.b)
        match self.outcome:
            case "better" | "worse":
                return f"{b} is {self.outcome} than {a} on {self.scorer}: "
            case "equivalent":
                return f"{b} and {a} are equivalent on {self.scorer} within {self.verdict.margin:g}: "
            case _:
                return f"Not enough data to tell {b} from {a} on {self.scorer}: "

    def _numbers(self) -> str:
        verdict = self.verdict
        effect = f"{verdict.effect:+.2f}"
        if verdict.low is not None and verdict.high is not None:
            effect += f" [{verdict.low:.2f}, {verdict.high:.2f}] ({verdict.level:.0%}, {verdict.method})"
        clusters = f" in {verdict.n_clusters} clusters" if verdict.n_clusters is not None else ""
        return f"{effect}, n={verdict.n_items}{clusters}, cost {self.b.cost} vs {self.a.cost}"

    def _remarks(self) -> Iterable[str]:
        if self.outcome == "not enough data":
            more = self.verdict.more_needed
            yield f"about {more} more examples would decide" if more else self.verdict.reason
        if self.a.errors or self.b.errors:
            yield f"errors {self.b.errors} vs {self.a.errors}"
        if self.unscored:
            yield f"{len(self.unscored)} unscored and left out"
        if alone := len(self.only_in_a) + len(self.only_in_b):
            yield f"{alone} in one experiment only and left out"


def compare(
    a: Experiment,
    b: Experiment,
    *,
    scorer: str | None = None,
    margin: float = 0.0,
    alpha: float = 0.05,
    power: float = 0.8,
) -> Decision:
    """Decides whether B (the candidate) is better than A (the baseline) by one scorer's scores.

    Examples pair by id; the repeats of an example are averaged first, so that they never inflate n; clusters
    count where examples have them. `scorer` may be left out when both have just one in common. `margin`: the
    largest difference that does not matter.

    Raises RequestError when the two cannot be compared: unfinished, the same run, no example or no equal
    scorer in common, or more than a fifth unscored.
    """
    _check_both(a, b)
    chosen = _scorer(a, b, scorer)
    pairs = _Pairs.of(a, b, chosen)
    try:
        verdict = decide(
            pairs.scores_a,
            pairs.scores_b,
            clusters=pairs.clusters,
            bounds=pairs.bounds,
            margin=margin,
            alpha=alpha,
            power=power,
        )
    except ValueError as error:
        raise RequestError(f"{a.name} and {b.name} cannot be compared: {error}") from error
    return Decision(
        scorer=chosen,
        verdict=verdict,
        a=_side(a, pairs, pairs.scores_a, pairs.tried_a, chosen, 1 - alpha),
        b=_side(b, pairs, pairs.scores_b, pairs.tried_b, chosen, 1 - alpha),
        flips=pairs.flips(),
        only_in_a=_without(a, b),
        only_in_b=_without(b, a),
        unscored=pairs.unscored,
    )


@dataclass(frozen=True)
class _Pairs:
    """The examples that both tried, the ones among them that both scored, and their mean scores, in order."""

    common: tuple[Example, ...]
    scored: tuple[Example, ...]
    tried_a: dict[str, tuple[Outcome, ...]]
    tried_b: dict[str, tuple[Outcome, ...]]
    scores_a: list[float]
    scores_b: list[float]
    bounds: tuple[float, float] | None

    @classmethod
    def of(cls, a: Experiment, b: Experiment, scorer: str) -> _Pairs:
        theirs = _ids(b)
        common = tuple(example for example in a.dataset.examples if example.id in theirs)
        if not common:
            raise RequestError(
                f"{a.name} ({a.dataset.ref}) and {b.name} ({b.dataset.ref}) have no example in common; "
                "run both on the same dataset"
            )
        tried_a, tried_b = _by_example(a, common), _by_example(b, common)
        given_a = {one: _values(outcomes, scorer) for one, outcomes in tried_a.items()}
        given_b = {one: _values(outcomes, scorer) for one, outcomes in tried_b.items()}
        scored = tuple(example for example in common if given_a[example.id] and given_b[example.id])
        _check_unscored(scorer, common, scored, (a, tried_a), (b, tried_b))
        values_a, values_b = ([given[one.id] for one in scored] for given in (given_a, given_b))
        binary = all(value in (0.0, 1.0) for values in (*values_a, *values_b) for value in values)
        return cls(
            common,
            scored,
            tried_a,
            tried_b,
            item_means(values_a).tolist(),
            item_means(values_b).tolist(),
            (0.0, 1.0) if binary else None,
        )

    @property
    def clusters(self) -> list[str | None] | None:
        """A label an example, None where it has none; None when no example has one."""
        labels = [example.cluster for example in self.scored]
        return labels if any(label is not None for label in labels) else None

    @property
    def unscored(self) -> tuple[str, ...]:
        scored = {example.id for example in self.scored}
        return tuple(example.id for example in self.common if example.id not in scored)

    def flips(self) -> tuple[Flip, ...]:
        found = [
            Flip(
                example.id,
                example.input,
                example.expected,
                example.cluster,
                score_a,
                score_b,
                self.tried_a[example.id],
                self.tried_b[example.id],
            )
            for example, score_a, score_b in zip(self.scored, self.scores_a, self.scores_b, strict=True)
            if score_a != score_b
        ]
        return tuple(sorted(found, key=lambda flip: flip.change))


def _check_both(a: Experiment, b: Experiment) -> None:
    for experiment in (a, b):
        if not experiment.complete:
            done, size = len(experiment.outcomes), len(experiment.dataset) * experiment.repeats
            named = f"{experiment.name} ({experiment.run.run_id[:8]})"
            raise RequestError(
                f"{named} is not finished: {done} of {size} outcomes; "
                "run it again to finish it (deciding on the way would mislead)"
            )
    if a.run.run_id == b.run.run_id:
        raise RequestError(
            f"A and B are the same experiment ({a.run.run_id[:8]}, {a.name}); "
            "to see how much the same task varies, run it once more with --fresh"
        )


def _scorer(a: Experiment, b: Experiment, wanted: str | None) -> str:
    """The one that both have, by the same rules."""
    rules_a, rules_b = a.run.spec["scorers"], b.run.spec["scorers"]
    both = [name for name in rules_a if name in rules_b]
    offers = f"{a.name} has {', '.join(rules_a)}; {b.name} has {', '.join(rules_b)}"
    if wanted is None and len(both) != 1:
        if both:
            raise RequestError(f"Which scorer decides? Choose one of {', '.join(both)} with --scorer")
        raise RequestError(f"The two have no scorer in common ({offers}); run both with the same")
    chosen = wanted if wanted is not None else both[0]
    if chosen not in both:
        raise RequestError(f"The scorer {chosen!r} is not in both experiments ({offers})")
    if rules_a[chosen] != rules_b[chosen]:
        raise RequestError(
            f"The scorer {chosen!r} is not the same in both experiments (its options, rubric, model or code "
            f"differ), so its scores cannot be compared; run one of them again with the other's scorer"
        )
    return chosen


def _check_unscored(
    scorer: str,
    common: Sequence[Example],
    scored: Sequence[Example],
    *sides: tuple[Experiment, dict[str, tuple[Outcome, ...]]],
) -> None:
    """Refuses when too much is missing: of the pairs, or of one side's outcomes."""
    left_out = len(common) - len(scored)
    problem = f"{left_out} of {len(common)} examples" if left_out > MAX_UNSCORED * len(common) else ""
    for experiment, tried in sides:
        outcomes = [outcome for each in tried.values() for outcome in each]
        missing = sum(_value(outcome, scorer) is None for outcome in outcomes)
        if not problem and missing > MAX_UNSCORED * len(outcomes):
            problem = f"{missing} of {len(outcomes)} outcomes of {experiment.name}"
    if problem:
        reasons = (
            _reason(outcome, scorer) for _, tried in sides for each in tried.values() for outcome in each
        )
        reason = next(filter(None, reasons), "")
        raise RequestError(
            f"{scorer} left {problem} unscored, more than {MAX_UNSCORED:.0%}, and what is left may not stand "
            f"for the whole; the first reason: {reason}"
        )


def _side(
    experiment: Experiment,
    pairs: _Pairs,
    scores: list[float],
    tried: dict[str, tuple[Outcome, ...]],
    scorer: str,
    level: float,
) -> Side:
    outcomes = [outcome for each in tried.values() for outcome in each]
    interval = score_interval(scores, clusters=pairs.clusters, bounds=pairs.bounds, level=level)
    cost = total(outcome.cost for outcome in outcomes)
    latencies = sorted(outcome.latency_s for outcome in outcomes if outcome.error is None)
    return Side(
        run_id=experiment.run.run_id,
        name=experiment.name,
        mean=sum(scores) / len(scores),
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        method=interval.method if interval else "none",
        answers=len(outcomes),
        errors=sum(outcome.error is not None for outcome in outcomes),
        unscored=sum(_value(outcome, scorer) is None for outcome in outcomes),
        cost=cost,
        scoring_cost=total(score.cost for outcome in outcomes for score in outcome.scores.values()),
        usd_per_answer=cost.per(len(outcomes)),
        latency_p50_s=percentile(latencies, 0.5),
        latency_p95_s=percentile(latencies, 0.95),
    )


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest value that at least `share` of them do not exceed (nearest rank); None of none.

    >>> percentile([1.0, 2.0, 3.0, 4.0], 0.5), percentile([1.0, 2.0, 3.0, 4.0], 0.95)
    (2.0, 4.0)
    """
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def _by_example(experiment: Experiment, examples: Sequence[Example]) -> dict[str, tuple[Outcome, ...]]:
    found: dict[str, list[Outcome]] = {example.id: [] for example in examples}
    for outcome in experiment.outcomes:
        if outcome.example_id in found:
            found[outcome.example_id].append(outcome)
    return {example_id: tuple(outcomes) for example_id, outcomes in found.items()}


def _value(outcome: Outcome, scorer: str) -> float | None:
    score = outcome.scores.get(scorer)
    return None if score is None else score.value


def _values(outcomes: Sequence[Outcome], scorer: str) -> list[float]:
    """The scores of an example's repeats, without the unscored ones."""
    return [value for outcome in outcomes if (value := _value(outcome, scorer)) is not None]


def _reason(outcome: Outcome, scorer: str) -> str | None:
    score = outcome.scores.get(scorer)
    return score.reason if score is not None and score.value is None else None


def _ids(experiment: Experiment) -> set[str]:
    return {example.id for example in experiment.dataset.examples}


def _without(one: Experiment, other: Experiment) -> tuple[str, ...]:
    theirs = _ids(other)
    return tuple(example.id for example in one.dataset.examples if example.id not in theirs)


def _names(a: Side, b: Side) -> tuple[str, str]:
    if a.name != b.name:
        return a.name, b.name
    return f"{a.name} ({a.run_id[:8]})", f"{b.name} ({b.run_id[:8]})"
