"""Tasks: a prompt at a version, and any function."""

from __future__ import annotations

import threading
from decimal import Decimal

import anyio
import anyio.from_thread
import pytest

from assay.errors import BadResponse, DatasetError, PromptError, RateLimited
from assay.evals import Answer, PromptTask, Task, function_task
from assay.prompts import parse_prompt
from assay.types import Choice, Context, Cost, Finish, JsonOutput, Response, Sampling, Usage, assistant

pytestmark = pytest.mark.anyio

HEAD = "---\nmodel: local\nconfig:\n  temperature: 0.2\n  maxOutputTokens: 60\n---\n"
ASK = parse_prompt(HEAD + "{{role 'system'}}Be brief.{{role 'user'}}{{question}}", name="ask")
BOTH = parse_prompt(HEAD + "{{policy}} {{question}}", name="both")
REPLY = Response(
    "r",
    "local",
    (Choice(assistant("30 days"), Finish("length")),),
    Usage(7, output=2),
    Cost("exact", Decimal(1), "l"),
)


async def test_a_prompt_is_rendered_and_sent(model) -> None:
    asked = model(REPLY)
    task = PromptTask(ASK, asked)
    answer = await task.run({"question": "How long?"}, Context("t", "s", purpose="eval", repeat=2))
    assert answer == Answer("30 days", Usage(7, output=2), Cost("exact", Decimal(1), "l"), "length")
    (request,) = asked.requests
    assert [message.text for message in request.messages] == ["Be brief.", "How long?"]
    assert (request.model, request.sampling) == ("local", Sampling(max_tokens=60, temperature=0.2))
    assert request.context == Context("t", "s", purpose="eval", repeat=2, prompt=ASK.ref)
    assert isinstance(task, Task)


async def test_model_and_sampling_of_the_task_go_first(model) -> None:
    task = PromptTask(ASK, model(REPLY), model="big", sampling=Sampling(temperature=0.0, seed=1))
    request = task.request("How long?")
    assert (request.model, request.sampling) == ("big", Sampling(max_tokens=60, temperature=0.0, seed=1))


async def test_a_text_is_the_only_variable(model) -> None:
    assert PromptTask(ASK, model(REPLY)).request("How long?").messages[-1].text == "How long?"
    with pytest.raises(
        PromptError, match="both@.* takes policy, question; give the example's input as an object"
    ):
        PromptTask(BOTH, model(REPLY)).request("How long?")


async def test_versions_with_different_variables_share_a_dataset(model) -> None:
    given = {"question": "How long?", "policy": "30 days."}
    assert PromptTask(ASK, model(REPLY)).request(given).messages[-1].text == "How long?"
    assert PromptTask(BOTH, model(REPLY)).request(given).messages[-1].text == "30 days. How long?"
    with pytest.raises(PromptError, match="'policy' is missing"):
        PromptTask(BOTH, model(REPLY)).request({"question": "How long?"})


async def test_what_a_prompt_wants_back_is_asked_for(model) -> None:
    prompt = parse_prompt("---\nmodel: m\noutput:\n  format: json\n---\nHi", name="j")
    assert PromptTask(prompt, model(REPLY)).request({}).output == JsonOutput()


async def test_a_prompt_without_a_model_needs_one(model) -> None:
    bare = parse_prompt("{{question}}", name="bare")
    with pytest.raises(PromptError, match="bare@.* names no model"):
        PromptTask(bare, model(REPLY))
    assert PromptTask(bare, model(REPLY), model="local").request("x").model == "local"


async def test_what_an_answer_depends_on_is_the_identity(model) -> None:
    call = model(REPLY)
    base = PromptTask(ASK, call).identity
    assert base == PromptTask(ASK, model("other")).identity
    others = [
        PromptTask(ASK, call, model="big"),
        PromptTask(ASK, call, sampling=Sampling(temperature=0.3)),
        PromptTask(parse_prompt(ASK.source + "!", name="ask"), call),
    ]
    assert base not in [other.identity for other in others]


async def test_a_reply_that_is_cut_off_is_no_answer(model) -> None:
    with pytest.raises(BadResponse):
        await PromptTask(ASK, model([])).run("x", Context())
    with pytest.raises(RateLimited):
        await PromptTask(ASK, model(RateLimited("no"))).run("x", Context())


async def test_a_cost_that_no_policy_computed_is_unknown(model) -> None:
    answer = await PromptTask(ASK, model("30 days")).run("x", Context())
    assert answer.cost is not None
    assert answer.cost.kind == "unknown"


async def test_any_function_is_a_task() -> None:
    async def double(x: int) -> int:
        return 2 * x

    for call in (double, lambda x: 2 * x):
        answer = await function_task(call).run(21, Context())
        assert answer.output == 42
        assert answer.cost is not None
        assert answer.cost.kind == "unknown"
    assert function_task(double).name == "double"
    assert isinstance(function_task(double), Task)


async def test_a_plain_function_that_does_not_return_can_be_left() -> None:
    started, free = anyio.Event(), threading.Event()

    def stuck(x: int) -> bool:
        anyio.from_thread.run_sync(started.set)
        return free.wait(60)

    async with anyio.create_task_group() as group:
        group.start_soon(function_task(stuck).run, 1, Context())
        await started.wait()
        group.cancel_scope.cancel()
    assert not free.is_set()
    free.set()


async def test_a_function_may_report_what_it_used() -> None:
    whole = Answer(("a", 1), Usage(output=3), Cost("exact", Decimal("0.5"), "x"))
    assert await function_task(lambda x: whole).run(1, Context()) == Answer(["a", 1], whole.usage, whole.cost)
    assert (await function_task(lambda x: REPLY).run(1, Context())).cost == REPLY.cost


async def test_a_function_that_asks_for_it_gets_the_context() -> None:
    async def where(x: int, *, context: Context) -> str:
        return f"{context.trace_id}/{context.repeat}"

    assert (await function_task(where).run(1, Context("t", repeat=4))).output == "t/4"


async def test_an_output_must_be_json() -> None:
    for output in (object(), float("nan"), Answer(b"raw")):
        with pytest.raises(DatasetError, match="^output is "):
            await function_task(lambda x, output=output: output).run(1, Context())


async def test_what_the_source_does_not_show_can_be_said() -> None:
    one, other = (function_task(len, identity={"index": version}) for version in (1, 2))
    assert one.identity != other.identity
