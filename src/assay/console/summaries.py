"""Experiments in a line each: how far they are, what they scored, cost and took. No pages here.

The statistics are imported when the first experiment is looked at: numpy and scipy would double what a
server that nobody looks at needs of memory.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import Final, Literal, TypeAlias

from assay.evals.costs import Spend
from assay.evals.experiment import KIND, Experiment, read_experiment
from assay.runs import Owner, Run, RunLog
from assay.storage import Store
from assay.types import Value

State: TypeAlias = Literal["finished", "running", "unfinished", "failed", "cancelled"]

_KEPT: Final = 500


class Mean(Value):
    """The mean of one scorer over examples (their repeats averaged first) with its 95% interval.

    `value` is None when nothing is scored, the interval where the data give none. `scored` and `unscored`
    count outcomes.
    """

    scorer: str
    value: float | None
    low: float | None
    high: float | None
    scored: int
    unscored: int


class Summary(Value):
    """An experiment without its outcomes. `size` outcomes are planned, `done` are there."""

    run: Run
    state: State
    task: str
    model: str | None
    prompt: str | None
    dataset: str
    examples: int
    repeats: int
    size: int
    done: int
    errors: int
    means: tuple[Mean, ...]
    task_cost: Spend
    scoring_cost: Spend
    latency_p50_s: float | None
    latency_p95_s: float | None

    @property
    def cost(self) -> Spend:
        return self.task_cost + self.scoring_cost


class Summaries:
    """Summaries out of the store. Those of ended runs never change and are kept. Thread-safe; calls block."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._log = RunLog(store)
        self._ended: OrderedDict[str, Summary] = OrderedDict()
        self._lock = Lock()

    def newest(self, limit: int, before_ns: int | None = None) -> list[Summary]:
        """The newest first; `before_ns` is when the last one of the page before was begun."""
        return [self._of(run) for run in self._log.list(KIND, limit=limit, before_ns=before_ns)]

    def finished(self, limit: int) -> list[Run]:
        """The runs of the newest experiments that are finished, which is what can be compared."""
        return [run for run in self._log.list(KIND, limit=limit) if run.status == "finished"]

    def _of(self, run: Run) -> Summary:
        with self._lock:
            known = self._ended.get(run.run_id)
        if known is not None:
            return known
        summary = summarize(read_experiment(self._store, run))
        if run.status != "open":
            with self._lock:
                self._ended[run.run_id] = summary
                if len(self._ended) > _KEPT:
                    self._ended.popitem(last=False)
        return summary


def summarize(experiment: Experiment) -> Summary:
    """The summary of an experiment as it is now."""
    from assay.evals.compare import percentile

    task = experiment.run.spec["task"]
    identity = task["identity"] if isinstance(task["identity"], dict) else {}
    prompt = f"{identity['prompt']}@{identity['digest'][:12]}" if identity.get("task") == "prompt" else None
    latencies = sorted(outcome.latency_s for outcome in experiment.outcomes if outcome.error is None)
    return Summary(
        run=experiment.run,
        state=state_of(experiment.run),
        task=task["name"],
        model=identity.get("model"),
        prompt=prompt,
        dataset=experiment.dataset.ref,
        examples=len(experiment.dataset),
        repeats=experiment.repeats,
        size=len(experiment.dataset) * experiment.repeats,
        done=len(experiment.outcomes),
        errors=experiment.errors,
        means=_means(experiment),
        task_cost=experiment.task_cost,
        scoring_cost=experiment.scoring_cost,
        latency_p50_s=percentile(latencies, 0.5),
        latency_p95_s=percentile(latencies, 0.95),
    )


def state_of(run: Run, now_ns: int | None = None) -> State:
    """What a run is doing: `running` only while a process that may be alive holds its lease."""
    if run.status != "open":
        return run.status
    now_ns = time.time_ns() if now_ns is None else now_ns
    held = run.lease_owner is not None and now_ns < (run.lease_until_ns or 0)
    return "running" if held and not Owner.parse(run.lease_owner or "").gone() else "unfinished"


def _means(experiment: Experiment) -> tuple[Mean, ...]:
    clusters = {example.id: example.cluster for example in experiment.dataset.examples}
    found = []
    for scorer in experiment.scorers:
        scores = [
            (outcome.example_id, outcome.scores[scorer].value)
            for outcome in experiment.outcomes
            if scorer in outcome.scores
        ]
        values: dict[str, list[float]] = {}
        for example_id, value in scores:
            if value is not None:
                values.setdefault(example_id, []).append(value)
        labels = [clusters[example_id] for example_id in values]
        unscored = sum(value is None for _, value in scores)
        found.append(_mean(scorer, list(values.values()), labels, len(scores) - unscored, unscored))
    return tuple(found)


def _mean(
    scorer: str, items: Sequence[Sequence[float]], labels: Sequence[str | None], scored: int, unscored: int
) -> Mean:
    from assay.stats import item_means, score_interval

    if not items:
        return Mean(scorer, None, None, None, scored, unscored)
    means = item_means(items)
    binary = all(value in (0.0, 1.0) for values in items for value in values)
    interval = score_interval(
        means,
        clusters=labels if any(label is not None for label in labels) else None,
        bounds=(0.0, 1.0) if binary else None,
    )
    low, high = (interval.low, interval.high) if interval else (None, None)
    return Mean(scorer, float(means.mean()), low, high, scored, unscored)
