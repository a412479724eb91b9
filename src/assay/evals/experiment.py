"""Experiments: what is planned, what came out, and how it is read back. Running one is assay.evals.running's.

An experiment is a run of the log: one step for each example and repeat with its outcome, one more for each
score that took a call. What a run depends on (dataset, task, scorers, repeats) is its spec; the same spec
finds the same run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

import msgspec

from assay.errors import AssayError, ConfigError
from assay.evals.catalogue import check_names
from assay.evals.costs import Spend, total
from assay.evals.dataset import Dataset, Example
from assay.evals.score import Score, Scorer
from assay.evals.store import DatasetStore
from assay.evals.task import Task
from assay.runs import Run, RunLog, Step
from assay.storage import Store
from assay.types import JSON, Cost, Usage, Value, replace

KIND: Final = "experiment"


class Failure(Value):
    """Why a task gave no output: the error's stable word, its message, whether trying again may help."""

    type: str
    message: str
    retryable: bool = False


class Outcome(Value, tag="outcome"):
    """What came out for one example at one repeat (counted from 0).

    `output` is None where `error` says why. `cost` is the task's alone; each score has its own. Scores that
    are still missing are not in `scores`.
    """

    example_id: str
    repeat: int
    latency_s: float
    output: JSON = None
    error: Failure | None = None
    finish: str | None = None
    usage: Usage | None = None
    cost: Cost | None = None
    span_id: str | None = None
    scores: dict[str, Score] = {}  # noqa: RUF012

    @property
    def key(self) -> str:
        return key(self.example_id, self.repeat)


class Scored(Value, tag="scored"):
    """A score that came after its outcome."""

    example_id: str
    repeat: int
    score: Score


StepBody: TypeAlias = Outcome | Scored


@dataclass(frozen=True)
class Plan:
    """What to try: a task on every example of a dataset, `repeats` times each, judged by `scorers`.

    `name` is for people. Raises ConfigError when scorers are missing or share a name.
    """

    task: Task
    dataset: Dataset
    scorers: tuple[Scorer, ...]
    repeats: int = 1
    name: str = ""

    def __post_init__(self) -> None:
        check_names(self.scorers)
        if self.repeats < 1:
            raise ConfigError(f"repeats is {self.repeats}; each example is tried at least once")

    @property
    def title(self) -> str:
        return self.name or self.task.name

    @property
    def spec(self) -> JSON:
        """All that the outcomes depend on, as JSON."""
        return {
            "dataset": {"name": self.dataset.name, "digest": self.dataset.digest},
            "task": {"name": self.task.name, "identity": self.task.identity},
            "scorers": {scorer.name: scorer.identity for scorer in self.scorers},
            "repeats": self.repeats,
        }

    @property
    def size(self) -> int:
        return len(self.dataset) * self.repeats


class Experiment(Value):
    """An experiment with all that it has so far; `outcomes` follow the dataset's order, then repeats."""

    run: Run
    dataset: Dataset
    outcomes: tuple[Outcome, ...]

    @property
    def name(self) -> str:
        return self.run.name

    @property
    def scorers(self) -> tuple[str, ...]:
        return tuple(self.run.spec["scorers"])

    @property
    def repeats(self) -> int:
        return int(self.run.spec["repeats"])

    @property
    def complete(self) -> bool:
        return self.run.status == "finished"

    @property
    def errors(self) -> int:
        return sum(outcome.error is not None for outcome in self.outcomes)

    @property
    def task_cost(self) -> Spend:
        """What the answers cost."""
        return total(outcome.cost for outcome in self.outcomes)

    @property
    def scoring_cost(self) -> Spend:
        """What judging them cost."""
        return total(score.cost for outcome in self.outcomes for score in outcome.scores.values())

    def of(self, example: Example) -> tuple[Outcome, ...]:
        """The outcomes of one example, a repeat each."""
        return tuple(outcome for outcome in self.outcomes if outcome.example_id == example.id)


def load_experiment(store: Store, reference: str) -> Experiment:
    """An experiment by the beginning of its run's id, or the newest of that name. Raises NotFound."""
    return read_experiment(store, RunLog(store).get(reference, kind=KIND))


def list_experiments(store: Store, *, limit: int = 20) -> tuple[Experiment, ...]:
    """The newest experiments first."""
    return tuple(read_experiment(store, run) for run in RunLog(store).list(KIND, limit=limit))


def read_experiment(store: Store, run: Run) -> Experiment:
    """The experiment of a run, finished or not."""
    named = run.spec["dataset"]
    dataset = DatasetStore(store).get(f"{named['name']}@{named['digest']}")
    outcomes = outcomes_of(RunLog(store).steps(run.run_id))
    keys = (key(example.id, repeat) for example in dataset.examples for repeat in range(run.spec["repeats"]))
    return Experiment(run, dataset, tuple(outcomes[one] for one in keys if one in outcomes))


def outcomes_of(steps: Iterable[Step]) -> dict[str, Outcome]:
    """The log folded: each outcome by its key, with the scores that came after it."""
    found: dict[str, Outcome] = {}
    for step in steps:
        body = msgspec.convert(step.body, StepBody)
        if isinstance(body, Outcome):
            found[body.key] = body
        else:
            outcome = found[key(body.example_id, body.repeat)]
            found[outcome.key] = with_score(outcome, body.score)
    return found


def with_score(outcome: Outcome, score: Score) -> Outcome:
    return replace(outcome, scores={**outcome.scores, score.name: score})


def key(example_id: str, repeat: int) -> str:
    """The step's key in the log."""
    return f"{example_id}/{repeat}"


def failure_of(error: Exception) -> Failure:
    """An exception as a result."""
    if isinstance(error, AssayError):
        return Failure(error.code, error.message, error.retryable)
    return Failure(type(error).__name__, str(error))
