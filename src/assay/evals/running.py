"""Running an experiment: bounded concurrency, every outcome stored as it comes, resuming, stopping early.

What is recorded is never done again. A call whose answer arrived is recorded even while the run is being
cancelled; only a process that is killed can lose the answers of the calls that were under way.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Final, TypeAlias, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread

from assay.errors import AssayError, ConfigError, StorageError
from assay.evals.costs import Spend, total
from assay.evals.dataset import Example
from assay.evals.experiment import (
    KIND,
    Experiment,
    Failure,
    Outcome,
    Plan,
    Scored,
    StepBody,
    failure_of,
    key,
    outcomes_of,
    read_experiment,
    with_score,
)
from assay.evals.score import Score, Scorer
from assay.evals.store import DatasetStore
from assay.evals.streak import Streak
from assay.runs import Lease, Run, RunLog
from assay.storage import Store
from assay.trace import OpenSpan, Tracer, new_trace_id
from assay.types import JSON, Context, Cost, Value, replace

DEFAULT_CONCURRENCY: Final = 8
_Result = TypeVar("_Result")
_Step: TypeAlias = tuple[str, StepBody]


class Progress(Value):
    """How far an experiment is. `recorded` of the `done` outcomes were there when this process began."""

    run_id: str
    total: int
    recorded: int = 0
    done: int = 0
    errors: int = 0
    unscored: int = 0
    cost: Spend = Spend()

    def plus(self, outcome: Outcome) -> Progress:
        scores = outcome.scores.values()
        return replace(
            self,
            done=self.done + 1,
            errors=self.errors + (outcome.error is not None),
            unscored=self.unscored + any(score.value is None for score in scores),
            cost=self.cost.plus(outcome.cost) + total(score.cost for score in scores),
        )


async def run_experiment(
    plan: Plan,
    store: Store,
    *,
    concurrency: int = DEFAULT_CONCURRENCY,
    fresh: bool = False,
    progress: Callable[[Progress], object] | None = None,
    tracer: Tracer | None = None,
) -> Experiment:
    """Runs what is missing of an experiment and gives all of it.

    The newest run of the same spec is gone on with, or given back when it is finished; `fresh` begins a new
    one. `progress` is called on the event loop after each outcome. With a `tracer`, each example is a span
    in the run's trace, and the calls of its task and judges lie below it.

    Raises Conflict while another process works on the run; StorageError when outcomes cannot be stored; and
    the task's or a scorer's own error when it fails alike on example after example (see Streak), which is a
    mistake in the set-up, not a result.
    """
    if concurrency < 1:
        raise ConfigError(f"concurrency is {concurrency}; at least one example has to run at a time")
    run = await _in_thread(lambda: _begin(plan, store, fresh))
    if run.status != "finished":
        async with _leased(store, run) as lease:
            work = _Work(plan, run, lease, progress or _ignore, tracer)
            await work.resume(RunLog(store))
            await work.go(concurrency)
            await _in_thread(lease.finish)
    return await _in_thread(lambda: read_experiment(store, RunLog(store).get(run.run_id)))


def _begin(plan: Plan, store: Store, fresh: bool) -> Run:
    DatasetStore(store).save(plan.dataset)
    log = RunLog(store)
    run = log.begin(
        KIND, plan.title, plan.spec, trace_id=new_trace_id(), reuse=() if fresh else ("open", "finished")
    )
    # What was run before under another name, or none, is asked for by this one from now on.
    return log.rename(run.run_id, plan.name) if plan.name and run.name != plan.name else run


@asynccontextmanager
async def _leased(store: Store, run: Run) -> AsyncIterator[Lease]:
    """The run's lease, given back at the end of the block, whatever that is."""
    lease = await _in_thread(lambda: RunLog(store).acquire(run.run_id))
    try:
        yield lease
    finally:
        with anyio.CancelScope(shield=True):
            await _in_thread(lease.release)


class _Work:
    """One process's share of an experiment. Lives on one event loop; only storing leaves it."""

    def __init__(
        self,
        plan: Plan,
        run: Run,
        lease: Lease,
        progress: Callable[[Progress], object],
        tracer: Tracer | None,
    ) -> None:
        self._plan = plan
        self._run = run
        self._lease = lease
        self._tell = progress
        self._traced = tracer is not None
        self._tracer = tracer or Tracer(_ignore)
        self._outcomes: dict[str, Outcome] = {}
        self._progress = Progress(run.run_id, plan.size)
        self._disk = anyio.CapacityLimiter(1)
        limit = min(Streak.LIMIT, plan.size)
        self._tries: Streak[_Step] = Streak("the task", limit)
        self._scorings = {
            scorer.name: Streak[_Step](f"the scorer {scorer.name}", limit) for scorer in plan.scorers
        }

    async def resume(self, log: RunLog) -> None:
        """Takes up what is recorded."""
        self._outcomes = outcomes_of(await _in_thread(lambda: log.steps(self._run.run_id)))
        for outcome in self._outcomes.values():
            if not self._lacks(outcome):
                self._progress = self._progress.plus(outcome)
        self._progress = replace(self._progress, recorded=self._progress.done)
        self._tell(self._progress)

    async def go(self, concurrency: int) -> None:
        """Does everything that is missing. Raises the first error that is nobody's result."""
        pending = self._pending()
        queue = iter(pending)
        with self._tracer.span(
            f"experiment {self._run.name}", KIND, trace_id=self._run.trace_id, **self._attributes()
        ):
            try:
                async with anyio.create_task_group() as group:
                    group.start_soon(self._heartbeat)
                    async with anyio.create_task_group() as workers:
                        for _ in range(min(concurrency, len(pending))):
                            workers.start_soon(self._worker, queue)
                    group.cancel_scope.cancel()
            except BaseExceptionGroup as errors:
                raise _first(errors) from None
            finally:
                with anyio.CancelScope(shield=True):
                    for streak in (self._tries, *self._scorings.values()):
                        await self._store(streak.release())

    def _pending(self) -> list[tuple[Example, int]]:
        """What is missing; every example once before any of them twice."""
        examples, repeats = self._plan.dataset.examples, range(self._plan.repeats)
        tries = [(example, repeat) for repeat in repeats for example in examples]
        return [one for one in tries if self._lacks(self._outcomes.get(key(one[0].id, one[1])))]

    def _lacks(self, outcome: Outcome | None) -> bool:
        return outcome is None or any(scorer.name not in outcome.scores for scorer in self._plan.scorers)

    async def _heartbeat(self) -> None:
        while True:
            await anyio.sleep(self._lease.ttl_s / 3)
            await _in_thread(self._lease.renew, self._disk)

    async def _worker(self, queue: Iterator[tuple[Example, int]]) -> None:
        for example, repeat in queue:
            # A task may never wait, and storing is shielded: here the run can be cancelled in any case.
            await anyio.lowlevel.checkpoint()
            about = {**self._attributes(), "assay.example.id": example.id, "assay.repeat": repeat}
            with self._tracer.span(f"example {example.id[:8]}", "example", **about) as span:
                outcome = await self._one(example, repeat, span)
                span.attributes.update(_findings(outcome))
            self._progress = self._progress.plus(outcome)
            self._tell(self._progress)

    # --- one example -------------------------------------------------------------------------------

    async def _one(self, example: Example, repeat: int, span: OpenSpan) -> Outcome:
        context = Context(span.trace_id, span.span_id, purpose="eval", repeat=repeat)
        outcome = self._outcomes.get(key(example.id, repeat))
        if outcome is None:
            outcome = await self._answer(example, context)
        for scorer in self._plan.scorers:
            if scorer.name not in outcome.scores:
                outcome = await self._score(scorer, outcome, example, context)
        return outcome

    async def _answer(self, example: Example, context: Context) -> Outcome:
        """Runs the task; stores the outcome with every score that is there at once."""
        span_id = context.parent_span_id if self._traced else None
        outcome = Outcome(example.id, context.repeat, 0.0, span_id=span_id)
        error: Exception | None = None
        began = time.perf_counter()
        try:
            answer = await self._plan.task.run(example.input, context)
        except StorageError:
            raise
        except Exception as raised:  # noqa: BLE001  (a task may raise anything: it is the example's result)
            error = raised
            outcome = replace(outcome, error=failure_of(error), cost=_cost_of_failure(error))
        else:
            outcome = replace(
                outcome, output=answer.output, usage=answer.usage, cost=answer.cost, finish=answer.finish
            )
        outcome = replace(outcome, latency_s=time.perf_counter() - began)
        with anyio.CancelScope(shield=True):
            outcome = await self._score_at_once(outcome, example, context)
            await self._record(outcome, self._tries.admit((outcome.key, outcome), error))
        self._tries.check()
        return outcome

    async def _score_at_once(self, outcome: Outcome, example: Example, context: Context) -> Outcome:
        """The scores of a task that failed, and those of immediate scorers that do not fail."""
        for scorer in self._plan.scorers:
            if outcome.error is not None:
                outcome = with_score(outcome, _score_of_failure(scorer, outcome.error))
            elif scorer.immediate:
                score, error = await _ask(scorer, outcome.output, example, context)
                outcome = outcome if error else with_score(outcome, score)
        return outcome

    async def _score(self, scorer: Scorer, outcome: Outcome, example: Example, context: Context) -> Outcome:
        """One score that takes a while, or that failed at once: a step of its own."""
        score, error = await _ask(scorer, outcome.output, example, context)
        step = (f"{outcome.key}/{scorer.name}", Scored(outcome.example_id, outcome.repeat, score))
        outcome = with_score(outcome, score)
        with anyio.CancelScope(shield=True):
            await self._record(outcome, self._scorings[scorer.name].admit(step, error))
        self._scorings[scorer.name].check()
        return outcome

    async def _record(self, outcome: Outcome, steps: list[_Step]) -> None:
        self._outcomes[outcome.key] = outcome
        await self._store(steps)

    async def _store(self, steps: list[_Step]) -> None:
        if steps:
            await _in_thread(lambda: self._lease.append_all(steps), self._disk)

    def _attributes(self) -> dict[str, JSON]:
        return {"assay.run.id": self._run.run_id}


async def _ask(
    scorer: Scorer, output: JSON, example: Example, context: Context
) -> tuple[Score, Exception | None]:
    """A score; unscored, and the error, when the scorer fails."""
    try:
        score = await scorer.score(output, example, context)
    except StorageError:
        raise
    except Exception as error:  # noqa: BLE001  (a scorer may raise anything: the output is then unscored)
        cost = None if scorer.immediate else _cost_of_failure(error)
        failure = failure_of(error)
        return Score(scorer.name, None, f"not scored: {failure.type}: {failure.message}", cost), error
    if score.value is not None and not math.isfinite(score.value):
        score = replace(score, value=None, reason=f"the scorer gave {score.value}")
    return replace(score, name=scorer.name), None


def _score_of_failure(scorer: Scorer, failure: Failure) -> Score:
    return Score(scorer.name, scorer.on_error, f"the task failed: {failure.type}: {failure.message}")


def _cost_of_failure(error: Exception) -> Cost | None:
    """A call that was refused before a model was asked costs nothing; of any other nobody knows."""
    if isinstance(error, AssayError) and 400 <= error.status < 500:
        return None
    return Cost("unknown", None, "the call did not complete")


def _findings(outcome: Outcome) -> dict[str, JSON]:
    found: dict[str, JSON] = {"assay.scores": {score.name: score.value for score in outcome.scores.values()}}
    return found if outcome.error is None else {**found, "error.type": outcome.error.type}


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


async def _in_thread(work: Callable[[], _Result], limiter: anyio.CapacityLimiter | None = None) -> _Result:
    return await anyio.to_thread.run_sync(work, limiter=limiter)


def _ignore(_: object) -> None:
    return None
