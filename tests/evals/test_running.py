"""Running experiments: order, resuming, stopping early, and what of it is stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from decimal import Decimal

import anyio
import pytest

from assay.errors import ConfigError, Conflict, NotFound, ProviderUnavailable, StorageError
from assay.evals import (
    Answer,
    Dataset,
    Example,
    Judge,
    Outcome,
    Plan,
    Progress,
    PromptTask,
    Score,
    exact,
    function_scorer,
    function_task,
    list_experiments,
    load_experiment,
    make_dataset,
    run_experiment,
)
from assay.prompts import parse_prompt
from assay.runs import RunLog
from assay.storage import Store
from assay.trace import Span, Tracer
from assay.types import Choice, Context, Cost, Finish, Response, Usage, assistant

pytestmark = pytest.mark.anyio


def letters(count: int) -> Dataset:
    return make_dataset("letters", [Example(chr(97 + place), chr(65 + place)) for place in range(count)])


class Recorder:
    """A task that notes its calls; `answer` decides what comes of each."""

    name = "recorder"
    identity = "recorder"

    def __init__(self, answer: Callable[[str], object] = str.upper) -> None:
        self.answer = answer
        self.calls: list[str] = []

    async def run(self, input: str, context: Context) -> Answer:  # noqa: A002
        self.calls.append(input)
        found = self.answer(input)
        if hasattr(found, "__await__"):
            found = await found
        if isinstance(found, Exception):
            raise found
        return found if isinstance(found, Answer) else Answer(found)


def plan(task: object, size: int = 3, *scorers: object, repeats: int = 1) -> Plan:
    return Plan(task, letters(size), scorers or (exact(),), repeats)


def values(outcomes: tuple[Outcome, ...], name: str = "exact") -> list[float | None]:
    return [outcome.scores[name].value for outcome in outcomes]


# --- what comes out ------------------------------------------------------------------------------


async def test_every_outcome_is_there_with_its_scores(store: Store) -> None:
    task = Recorder(
        lambda text: Answer(text.upper() if text != "b" else "?", Usage(1, output=2), finish="stop")
    )
    found = await run_experiment(plan(task), store)
    assert found.complete
    assert [outcome.output for outcome in found.outcomes] == ["A", "?", "C"]
    assert values(found.outcomes) == [1.0, 0.0, 1.0]
    assert found.outcomes[1].scores["exact"].reason == "expected 'B'"
    assert {(one.usage, one.finish, one.repeat) for one in found.outcomes} == {
        (Usage(1, output=2), "stop", 0)
    }
    assert all(outcome.latency_s > 0 for outcome in found.outcomes)


async def test_the_order_is_the_datasets_whatever_finishes_first(store: Store) -> None:
    gates = {letter: anyio.Event() for letter in "abc"}
    before = {"b": "c", "a": "b"}

    async def answer(letter: str) -> str:
        if letter in before:
            await gates[before[letter]].wait()
        gates[letter].set()
        return letter.upper()

    task = Recorder(answer)
    found = await run_experiment(plan(task, repeats=1), store)
    assert [outcome.output for outcome in found.outcomes] == ["A", "B", "C"]
    stored = [step.body["output"] for step in RunLog(store).steps(found.run.run_id)]
    assert stored == ["C", "B", "A"]


async def test_no_more_run_at_once_than_allowed(store: Store) -> None:
    running, most = 0, 0

    async def answer(letter: str) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        running -= 1
        return letter

    await run_experiment(plan(Recorder(answer), 12), store, concurrency=3)
    assert most == 3


async def test_every_example_comes_once_before_any_comes_twice(store: Store) -> None:
    task = Recorder()
    found = await run_experiment(plan(task, 3, repeats=2), store, concurrency=1)
    assert task.calls == ["a", "b", "c", "a", "b", "c"]
    assert [(one.output, one.repeat) for one in found.outcomes] == [
        ("A", 0), ("A", 1), ("B", 0), ("B", 1), ("C", 0), ("C", 1),
    ]  # fmt: skip
    assert [one.repeat for one in found.of(found.dataset.examples[1])] == [0, 1]


async def test_calls_lie_below_the_span_of_their_example(store: Store, model) -> None:
    spans: list[Span] = []
    prompt = parse_prompt("{{letter}}", name="shout")
    asked = model(lambda request: request.messages[-1].text.upper())
    judged = model('{"verdict": "pass"}')
    task = PromptTask(prompt, asked, model="fake")
    found = await run_experiment(
        plan(task, 2, exact(), Judge("Be loud.", "judge", judged), repeats=2),
        store,
        tracer=Tracer(spans.append),
    )
    below = {outcome.span_id: outcome for outcome in found.outcomes}
    for request in asked.requests:
        context = request.context
        assert (context.trace_id, context.purpose, context.prompt) == (found.run.trace_id, "eval", prompt.ref)
        assert context.repeat == below[context.parent_span_id].repeat
    assert Counter(request.context.repeat for request in asked.requests) == {0: 2, 1: 2}
    assert {request.context.parent_span_id for request in judged.requests} == set(below)
    assert {request.context.purpose for request in judged.requests} == {"judge"}
    (root,) = (span for span in spans if span.operation == "experiment")
    examples = [span for span in spans if span.operation == "example"]
    assert {span.span_id for span in examples} == set(below)
    assert {(span.trace_id, span.parent_id) for span in examples} == {(found.run.trace_id, root.span_id)}
    assert examples[0].attributes["assay.scores"] == {"exact": 1.0, "judge": 1.0}
    assert examples[0].attributes["assay.run.id"] == found.run.run_id


async def test_without_a_tracer_no_span_is_claimed(store: Store) -> None:
    found = await run_experiment(plan(Recorder(), 1), store)
    assert found.outcomes[0].span_id is None


async def test_what_answers_and_judges_cost_is_kept_apart(store: Store, model) -> None:
    price = Cost("exact", Decimal("0.001"), "list")
    verdict = Response(
        "r",
        "m",
        (Choice(assistant('{"verdict": "pass"}'), Finish("stop")),),
        cost=Cost("exact", Decimal("0.02"), "l"),
    )
    task = Recorder(lambda text: Answer(text, cost=price))
    found = await run_experiment(plan(task, 3, Judge("r", "m", model(verdict))), store)
    assert (found.task_cost.usd, found.task_cost.kind) == (Decimal("0.003"), "exact")
    assert (found.scoring_cost.usd, found.scoring_cost.calls) == (Decimal("0.06"), 3)


async def test_progress_counts_what_is_done(store: Store, model) -> None:
    told: list[Progress] = []

    def answer(letter: str) -> object:
        return ValueError("no") if letter == "b" else Answer(letter, cost=Cost("exact", Decimal(1), "l"))

    scorers = (exact(), function_scorer(lambda output, example: None if output == "a" else 1.0, name="some"))
    await run_experiment(plan(Recorder(answer), 3, *scorers), store, progress=told.append)
    assert [one.done for one in told] == [0, 1, 2, 3]
    last = told[-1]
    assert (last.total, last.recorded, last.errors, last.unscored) == (3, 0, 1, 1)
    assert (last.cost.usd, last.cost.unknown) == (Decimal(2), 1)
    await run_experiment(plan(Recorder(answer), 3, *scorers), store, progress=told.append)
    assert len(told) == 4, "a finished experiment has nothing to tell"


async def test_experiments_are_found_again(store: Store) -> None:
    first = await run_experiment(plan(Recorder(), 2), store)
    second = await run_experiment(Plan(Recorder(), letters(3), (exact(),), name="mine"), store)
    assert load_experiment(store, "mine") == load_experiment(store, second.run.run_id[:6]) == second
    assert load_experiment(store, "recorder") == first
    assert list_experiments(store) == (second, first)
    with pytest.raises(NotFound, match="There is no experiment 'other'"):
        load_experiment(store, "other")


@pytest.mark.parametrize(("repeats", "concurrency"), [(0, 1), (1, 0)])
async def test_nothing_to_do_is_a_mistake(store: Store, repeats: int, concurrency: int) -> None:
    with pytest.raises(ConfigError, match="at least on"):
        await run_experiment(plan(Recorder(), 2, repeats=repeats), store, concurrency=concurrency)


# --- errors and what is unscored -----------------------------------------------------------------


async def test_an_error_is_a_result_and_counts_as_0(store: Store) -> None:
    task = Recorder(lambda text: ValueError("no b") if text == "b" else text.upper())
    lenient = function_scorer(lambda output, example: 0.5, name="quality", on_error=None)
    found = await run_experiment(plan(task, 3, exact(), lenient), store)
    failed = found.outcomes[1]
    assert failed.output is None
    assert failed.error is not None
    assert (failed.error.type, failed.error.message) == ("ValueError", "no b")
    assert failed.scores["exact"] == Score("exact", 0.0, "the task failed: ValueError: no b")
    assert failed.scores["quality"].value is None
    assert values(found.outcomes, "quality") == [0.5, None, 0.5]
    assert found.errors == 1
    assert found.task_cost.unknown == 1


async def test_a_scorer_that_fails_leaves_unscored(store: Store) -> None:
    def picky(output: str, example: Example) -> bool:
        if output == "B":
            raise KeyError("b")
        return True

    found = await run_experiment(plan(Recorder(), 3, function_scorer(picky)), store)
    assert values(found.outcomes, "picky") == [1.0, None, 1.0]
    assert found.outcomes[1].scores["picky"].reason == "not scored: KeyError: 'b'"
    assert found.outcomes[1].error is None


class Odd:
    """A scorer that is immediate, gives what it is told, and does not know its own name."""

    name = "odd"
    identity = "odd"
    on_error = 0.0
    immediate = True

    def __init__(self, found: object) -> None:
        self.found = found

    async def score(self, output: object, example: Example, context: Context) -> Score:
        if isinstance(self.found, Exception):
            raise self.found
        return Score("another name", self.found)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
async def test_a_score_that_is_no_number_is_unscored(store: Store, value: float) -> None:
    found = await run_experiment(plan(Recorder(), 1, Odd(value)), store)
    assert found.outcomes[0].scores["odd"] == Score("odd", None, f"the scorer gave {value}")


# --- resuming ------------------------------------------------------------------------------------


async def test_a_finished_experiment_is_given_back_without_a_call(store: Store) -> None:
    first = await run_experiment(plan(Recorder()), store)
    task = Recorder()
    assert await run_experiment(plan(task), store) == first
    assert task.calls == []


async def test_fresh_begins_a_new_run_that_is_then_the_newest(store: Store) -> None:
    first = await run_experiment(plan(Recorder()), store)
    second = await run_experiment(plan(Recorder()), store, fresh=True)
    assert second.run.run_id != first.run.run_id
    assert await run_experiment(plan(Recorder()), store) == second


async def test_what_outcomes_depend_on_tells_experiments_apart(store: Store) -> None:
    base = await run_experiment(plan(Recorder()), store)
    changed = Recorder()
    changed.identity = "changed"
    others = [
        plan(Recorder(), 4),
        plan(Recorder(), repeats=2),
        plan(Recorder(), 3, exact(ignore_case=True)),
        plan(changed),
    ]
    found = [(await run_experiment(other, store)).run.run_id for other in others]
    assert len({base.run.run_id, *found}) == 5
    renamed = Plan(Recorder(), letters(3), (exact(),), name="other name")
    assert (await run_experiment(renamed, store, concurrency=1)).run.run_id == base.run.run_id


async def interrupted(some: Plan, store: Store, after: int, **more: object) -> None:
    """Runs a plan until `after` outcomes are done, then cancels it as Ctrl-C does."""
    with anyio.CancelScope() as scope:

        def progress(now: Progress) -> None:
            if now.done >= after:
                scope.cancel()

        await run_experiment(some, store, progress=progress, **more)
    assert scope.cancelled_caught


async def test_a_cancelled_run_goes_on_where_it_was(store: Store) -> None:
    task = Recorder()
    await interrupted(plan(task, 10), store, 4, concurrency=1)
    assert task.calls == list("abcd")
    half = load_experiment(store, "recorder")
    assert not half.complete
    assert [outcome.output for outcome in half.outcomes] == list("ABCD")
    assert half.run.lease_owner is None, "nobody has to wait for a lease"
    told: list[Progress] = []
    whole = await run_experiment(plan(task, 10), store, progress=told.append)
    assert Counter(task.calls) == Counter("abcdefghij")
    assert whole.run.run_id == half.run.run_id
    assert [outcome.output for outcome in whole.outcomes] == list("ABCDEFGHIJ")
    assert (told[0].done, told[0].recorded, told[-1].done) == (4, 4, 10)


async def test_an_answer_that_is_there_when_the_run_is_cancelled_is_kept(store: Store) -> None:
    scope = anyio.CancelScope()

    def answer(letter: str) -> str:
        scope.cancel()
        return letter.upper()

    with scope:
        await run_experiment(plan(Recorder(answer), 3), store, concurrency=1)
    assert scope.cancelled_caught
    task = Recorder()
    await run_experiment(plan(task, 3), store)
    assert sorted(task.calls) == ["b", "c"]


async def test_judging_goes_on_without_asking_the_task_again(store: Store, model) -> None:
    task = Recorder()
    never = anyio.Event()
    judging = anyio.Event()

    async def stuck(request: object) -> str:
        judging.set()
        await never.wait()
        return ""

    first = Judge("r", "m", model('{"verdict": "pass"}'), name="first")
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:

            async def cancel() -> None:
                await judging.wait()
                scope.cancel()

            group.start_soon(cancel)
            second = Judge("s", "m", model(stuck), name="second")
            await run_experiment(plan(task, 1, exact(), first, second), store, concurrency=1)
    half = load_experiment(store, "recorder")
    assert set(half.outcomes[0].scores) == {"exact", "first"}
    again = model('{"verdict": "fail"}')
    scorers = (exact(), Judge("r", "m", again, name="first"), Judge("s", "m", again, name="second"))
    whole = await run_experiment(plan(task, 1, *scorers), store)
    assert task.calls == ["a"]
    assert len(again.requests) == 1
    assert {name: score.value for name, score in whole.outcomes[0].scores.items()} == {
        "exact": 1.0,
        "first": 1.0,
        "second": 0.0,
    }


async def test_failures_are_kept_when_a_run_is_cancelled(store: Store) -> None:
    task = Recorder(lambda text: ValueError("always"))
    await interrupted(plan(task, 10), store, 3, concurrency=1)
    assert len(load_experiment(store, "recorder").outcomes) == 3


# --- stopping early ------------------------------------------------------------------------------


async def test_a_set_up_that_does_not_work_stops_and_leaves_no_results(store: Store) -> None:
    task = Recorder(lambda text: NotFound("Model 'x' is not configured"))
    with pytest.raises(NotFound, match="Model 'x' is not configured"):
        await run_experiment(plan(task, 20), store, concurrency=1)
    assert len(task.calls) == 5
    task.answer = str.upper
    whole = await run_experiment(plan(task, 20), store)
    assert whole.errors == 0
    assert len(task.calls) == 25


async def test_a_bug_in_the_task_is_told_as_one(store: Store) -> None:
    task = Recorder(lambda text: 1 / 0)
    with pytest.raises(
        ConfigError, match="the task failed alike on 5 examples.*ZeroDivisionError: division by zero"
    ):
        await run_experiment(plan(task, 20), store, concurrency=1)


async def test_a_small_dataset_that_fails_alike_stops_too(store: Store) -> None:
    with pytest.raises(NotFound):
        await run_experiment(plan(Recorder(lambda text: NotFound("no")), 2), store)
    assert load_experiment(store, "recorder").outcomes == ()


async def test_a_provider_that_goes_down_stops_the_run_until_later(store: Store) -> None:
    task = Recorder(lambda text: text.upper() if text in "abc" else ProviderUnavailable(f"down at {text}"))
    with pytest.raises(ProviderUnavailable):
        await run_experiment(plan(task, 20), store, concurrency=1)
    assert len(task.calls) == 8
    assert [one.output for one in load_experiment(store, "recorder").outcomes] == ["A", "B", "C"]
    task.answer = str.upper
    assert (await run_experiment(plan(task, 20), store)).errors == 0
    assert len(task.calls) == 25


async def test_single_failures_of_a_provider_are_results(store: Store) -> None:
    task = Recorder(lambda text: ProviderUnavailable("down") if text in "ad" else text.upper())
    found = await run_experiment(plan(task, 6), store, concurrency=1)
    assert values(found.outcomes) == [0.0, 1.0, 1.0, 0.0, 1.0, 1.0]
    assert found.outcomes[0].error is not None
    assert found.outcomes[0].error.retryable


async def test_a_judge_that_cannot_be_reached_stops_and_keeps_the_answers(store: Store, model) -> None:
    task = Recorder()
    with pytest.raises(NotFound, match="no judge"):
        await run_experiment(
            plan(task, 9, Judge("r", "m", model(NotFound("no judge")))), store, concurrency=1
        )
    assert len(task.calls) == 5
    found = await run_experiment(plan(task, 9, Judge("r", "m", model('{"verdict": "pass"}'))), store)
    assert values(found.outcomes, "judge") == [1.0] * 9
    assert Counter(task.calls) == Counter("abcdefghi")


async def test_an_immediate_scorer_that_is_broken_stops_and_keeps_the_answers(store: Store) -> None:
    task = Recorder()
    with pytest.raises(
        ConfigError, match="the scorer odd failed alike on 5 examples in a row.*TypeError: oops"
    ):
        await run_experiment(plan(task, 9, exact(), Odd(TypeError("oops"))), store, concurrency=1)
    found = await run_experiment(plan(task, 9, exact(), Odd(0.5)), store)
    assert values(found.outcomes, "odd") == [0.5] * 9
    assert Counter(task.calls) == Counter("abcdefghi")


async def test_a_store_that_fails_stops_the_run(store: Store) -> None:
    task = Recorder(lambda text: StorageError("disk is full") if text == "c" else text.upper())
    with pytest.raises(StorageError, match="disk is full"):
        await run_experiment(plan(task, 20), store, concurrency=1)
    assert task.calls == ["a", "b", "c"]


# --- one process at a time -----------------------------------------------------------------------


async def test_a_second_process_is_told_who_works_on_it(store: Store) -> None:
    held, free = anyio.Event(), anyio.Event()

    async def answer(letter: str) -> str:
        held.set()
        await free.wait()
        return letter.upper()

    async with anyio.create_task_group() as group:
        group.start_soon(run_experiment, plan(Recorder(answer)), store)
        await held.wait()
        with pytest.raises(Conflict, match="is being worked on by process"):
            await run_experiment(plan(Recorder()), store)
        free.set()
    assert load_experiment(store, "recorder").complete


async def test_who_loses_the_run_stops_and_writes_nothing(store: Store) -> None:
    def answer(letter: str) -> str:
        if letter == "b":
            run = RunLog(store).get("recorder")
            late = RunLog(store, lambda: run.lease_until_ns + 1)
            late.acquire(run.run_id).release()
        return letter.upper()

    task = Recorder(answer)
    with pytest.raises(Conflict, match="no longer held by this process"):
        await run_experiment(plan(task, 9), store, concurrency=1)
    assert task.calls == ["a", "b"]
    assert [one.output for one in load_experiment(store, "recorder").outcomes] == ["A"]
    task.answer = str.upper
    assert (await run_experiment(plan(task, 9), store)).complete


async def test_functions_run_as_they_are(store: Store) -> None:
    def shout(text: str) -> str:
        return text.upper()

    found = await run_experiment(plan(function_task(shout), 3), store)
    assert values(found.outcomes) == [1.0, 1.0, 1.0]
    assert found.name == "shout"
    assert found.task_cost.unknown == 3
