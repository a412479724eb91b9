"""The gateway's policies: what a call leaves behind, what it costs, and how it may end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from decimal import Decimal

import pytest

from assay.errors import BadResponse, DeadlineExceeded, NotFound, ProviderUnavailable, RateLimited
from assay.gateway import Route, Target, gateway
from assay.prices import Pricing, free
from assay.trace import Span, Tracer
from assay.types import (
    Assembly,
    Choice,
    Completed,
    Context,
    Cost,
    Ended,
    Event,
    Finish,
    Finished,
    FunctionTool,
    Handler,
    Request,
    Response,
    Sampling,
    Started,
    TextDelta,
    Usage,
    assistant,
    closing,
    replace,
    system,
    user,
)

pytestmark = pytest.mark.anyio

STREAM: list[Event] = [
    Started("r1", "m-2026"),
    TextDelta("Hel"),
    TextDelta("lo"),
    Finished(Finish("stop")),
    Ended(Usage(input=3, output=2)),
]
WHOLE: list[Event] = [
    Completed(
        Response("r1", "m-2026", (Choice(assistant("Hello"), Finish("stop")),), Usage(input=3, output=2))
    )
]


class Upstream:
    """Answers with events; an exception among them is raised; a callable is awaited."""

    name = "up"

    def __init__(self, *script: Event | Exception | Callable[[], object]) -> None:
        self.script = script
        self.seen: list[Request] = []
        self.closed = asyncio.Event()

    async def __call__(self, request: Request) -> AsyncIterator[Event]:
        self.seen.append(request)
        try:
            for item in self.script:
                if isinstance(item, Exception):
                    raise item
                if callable(item):
                    await item()  # type: ignore[misc]
                else:
                    yield item
        finally:
            self.closed.set()

    async def aclose(self) -> None: ...


def two_prices(model: str, usage: Usage | None) -> Cost:
    if model != "m-2026" or usage is None:
        return Cost("unknown", None, f"no price for {model}")
    return Cost("exact", Decimal("0.000001") * usage.tokens, "test")


def build(
    upstream: Upstream, pricing: Pricing = two_prices, deadline_s: float | None = None
) -> tuple[Handler, list[Span]]:
    spans: list[Span] = []
    route = Route("m", (Target("m", upstream, "m-upstream", pricing, deadline_s),))
    return gateway({"m": route}, Tracer(spans.append)), spans


async def run(handler: Handler, request: Request) -> Response:
    assembly = Assembly()
    async with closing(handler(request)) as events:
        async for event in events:
            assembly.add(event)
    return assembly.response()


REQUEST = Request("m", (system("s"), user("hi")), sampling=Sampling(temperature=0.0, max_tokens=5))


@pytest.mark.parametrize("script", [STREAM, WHOLE])
async def test_a_call_becomes_a_span(script: list[Event]) -> None:
    upstream = Upstream(*script)
    handler, spans = build(upstream)
    response = await run(handler, REQUEST)
    assert response.text == "Hello"
    assert response.provider == "up"
    assert response.cost == Cost("exact", Decimal("0.000005"), "test")
    assert upstream.seen[0].model == "m-upstream"
    (span,) = spans
    assert (span.name, span.operation, span.status) == ("chat m", "chat", "ok")
    assert span.input == REQUEST.messages
    assert span.output == (assistant("Hello"),)
    assert (span.usage, span.cost) == (response.usage, response.cost)
    attributes = span.otel_attributes()
    assert attributes["gen_ai.request.temperature"] == 0.0
    assert attributes["gen_ai.response.model"] == "m-2026"
    assert attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert attributes["gen_ai.provider.name"] == "up"
    assert ("assay.time_to_first_token_s" in attributes) is (script is STREAM)


async def test_the_call_hangs_below_the_callers_span_and_the_upstream_below_the_call() -> None:
    upstream = Upstream(*STREAM)
    handler, spans = build(upstream)
    context = Context(trace_id="a" * 32, parent_span_id="b" * 16, purpose="eval", prompt="p@1")
    await run(handler, Request("m", (user("x"),), context=context))
    (span,) = spans
    assert (span.trace_id, span.parent_id, span.purpose, span.prompt) == ("a" * 32, "b" * 16, "eval", "p@1")
    assert upstream.seen[0].context.parent_span_id == span.span_id


async def test_a_call_inside_a_span_of_this_process_is_its_child() -> None:
    upstream = Upstream(*STREAM)
    handler, spans = build(upstream)
    tracer = Tracer(spans.append)
    with tracer.span("work", "task") as outer:
        await run(handler, REQUEST)
    assert (spans[0].trace_id, spans[0].parent_id) == (outer.trace_id, outer.span_id)


async def test_an_alias_is_priced_by_the_name_that_was_asked_for() -> None:
    def pricing(model: str, usage: Usage | None) -> Cost:
        return Cost("exact", Decimal(1)) if model == "m-upstream" else Cost("unknown")

    handler, _ = build(Upstream(*STREAM), pricing)
    assert (await run(handler, REQUEST)).cost == Cost("exact", Decimal(1))


@pytest.mark.parametrize("kept", [0, 1, 2, 3, 4])
async def test_a_reply_that_is_cut_off_is_an_error_and_what_came_is_recorded(kept: int) -> None:
    handler, spans = build(Upstream(*STREAM[:kept]))
    with pytest.raises(BadResponse, match="provider up ended its reply in the middle"):
        await run(handler, REQUEST)
    (span,) = spans
    assert (span.status, span.error_type) == ("error", "bad_response")
    assert span.cost is not None
    assert span.cost.kind == "unknown"
    assert "".join(message.text for message in span.output) == ("", "", "Hel", "Hello", "Hello")[kept]


@pytest.mark.parametrize("kept", [1, 2, 4])
async def test_what_a_stream_told_at_its_beginning_is_billed_when_it_is_cut_off(kept: int) -> None:
    begun = Started("r1", "m-2026", usage=Usage(input=3, output=1))
    for leaves in (False, True):
        handler, spans = build(Upstream(begun, *STREAM[1:kept]))
        async with closing(handler(REQUEST)) as events:
            for _ in range(kept):
                await anext(events)
            if not leaves:
                with pytest.raises(BadResponse):
                    await anext(events)
        (span,) = spans
        assert (span.status, span.usage) == ("error", Usage(input=3, output=1))
        assert span.cost is not None
        assert (span.cost.kind, span.cost.usd) == ("estimated", Decimal("0.000004"))
        assert "at least" in span.cost.source


async def test_the_end_of_a_stream_has_the_last_word_on_what_it_took() -> None:
    begun = Started("r1", "m-2026", usage=Usage(input=9, output=1))
    handler, spans = build(Upstream(begun, *STREAM[1:]))
    response = await run(handler, REQUEST)
    assert (response.usage, response.cost) == (Usage(input=3, output=2), spans[0].cost)
    assert response.cost == Cost("exact", Decimal("0.000005"), "test")
    silent, spans = build(Upstream(begun, *STREAM[1:-1], Ended()))
    assert (await run(silent, REQUEST)).usage is None
    assert spans[0].cost == Cost("unknown", None, "no price for m-upstream")


async def test_events_out_of_order_are_an_error() -> None:
    handler, spans = build(Upstream(TextDelta("x"), *STREAM))
    with pytest.raises(BadResponse, match="broke the order"):
        await run(handler, REQUEST)
    assert spans[0].status == "error"


async def test_a_failure_is_recorded_and_passed_on() -> None:
    handler, spans = build(Upstream(*STREAM[:2], ProviderUnavailable("gone")))
    with pytest.raises(ProviderUnavailable):
        await run(handler, REQUEST)
    assert (spans[0].error_type, spans[0].error_message) == ("provider_unavailable", "gone")


async def test_an_unknown_model_names_the_nearest_and_costs_nothing() -> None:
    handler, spans = build(Upstream())
    with pytest.raises(NotFound, match="Model 'n' is not configured; .*assay.toml"):
        await run(handler, Request("n", (user("x"),)))
    with pytest.raises(NotFound, match="did you mean 'm'"):
        await run(handler, Request("mm", (user("x"),)))
    assert [span.cost for span in spans] == [None, None]
    assert spans[0].error_type == "model_not_found"


async def test_the_deadline_ends_the_call_and_closes_the_upstream() -> None:
    never = asyncio.Event()
    upstream = Upstream(*STREAM[:2], never.wait)
    handler, spans = build(upstream, deadline_s=0.01)
    with pytest.raises(DeadlineExceeded, match=r"deadline of 0\.01 s"):
        await run(handler, REQUEST)
    assert upstream.closed.is_set()
    assert spans[0].error_type == "deadline_exceeded"
    assert spans[0].output[0].text == "Hel"


async def test_the_callers_own_deadline_goes_before_the_models() -> None:
    never = asyncio.Event()
    handler, _ = build(Upstream(never.wait), deadline_s=1000)
    with pytest.raises(DeadlineExceeded, match=r"0\.02 s"):
        await run(handler, Request("m", (user("x"),), context=Context(deadline_s=0.02)))


async def test_the_deadline_leaves_the_consumers_own_work_alone() -> None:
    handler, _ = build(Upstream(*STREAM), deadline_s=0.01)
    async with closing(handler(REQUEST)) as events:
        await anext(events)
        rung = asyncio.Event()
        asyncio.get_running_loop().call_later(0.02, rung.set)
        await rung.wait()
        with pytest.raises(DeadlineExceeded):
            await anext(events)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_caller_who_goes_away_closes_the_upstream_and_leaves_a_span() -> None:
    never = asyncio.Event()
    upstream = Upstream(*STREAM[:2], never.wait)
    handler, spans = build(upstream)
    started = asyncio.Event()

    async def caller() -> None:
        async with closing(handler(REQUEST)) as events:
            async for _ in events:
                started.set()

    task = asyncio.create_task(caller())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert upstream.closed.is_set()
    assert (spans[0].status, spans[0].error_type) == ("error", "cancelled")


async def test_a_caller_who_stops_reading_closes_the_upstream() -> None:
    upstream = Upstream(*STREAM)
    handler, spans = build(upstream)
    async with closing(handler(REQUEST)) as events:
        assert isinstance(await anext(events), Started)
    assert upstream.closed.is_set()
    assert spans[0].error_type == "cancelled"


@pytest.mark.parametrize("script", [STREAM, WHOLE])
async def test_a_caller_who_leaves_after_the_end_has_had_a_whole_reply(script: list[Event]) -> None:
    handler, spans = build(Upstream(*script))
    async with closing(handler(REQUEST)) as events:
        async for event in events:
            if isinstance(event, Ended | Completed):
                break
    assert spans[0].status == "ok"
    assert spans[0].cost == Cost("exact", Decimal("0.000005"), "test")


async def test_a_cancellation_that_came_before_the_deadline_stays_one() -> None:
    release, cleaning = asyncio.Event(), asyncio.Event()

    class Slow(Upstream):
        async def __call__(self, request: Request) -> AsyncIterator[Event]:
            try:
                await asyncio.Event().wait()
                yield STREAM[0]
            finally:
                cleaning.set()
                await release.wait()

    handler, _ = build(Slow(), deadline_s=0.05)
    task = asyncio.create_task(run(handler, REQUEST))
    asyncio.get_running_loop().call_later(0.01, task.cancel)
    await cleaning.wait()
    asyncio.get_running_loop().call_later(0.1, release.set)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_failure_in_the_middle_has_an_unknown_cost_whoever_is_to_blame() -> None:
    handler, spans = build(Upstream(*STREAM[:2], RateLimited("slow down")))
    with pytest.raises(RateLimited):
        await run(handler, REQUEST)
    assert spans[0].cost is not None
    assert spans[0].cost.kind == "unknown"


async def test_content_is_not_recorded_when_the_configuration_says_so() -> None:
    spans: list[Span] = []
    route = Route("m", (Target("m", Upstream(*STREAM), "m", free("test")),))
    asked = replace(REQUEST, context=Context(variables={"name": "secret"}), tools=(FunctionTool("secret"),))
    await run(gateway({"m": route}, Tracer(spans.append), capture_content=False), asked)
    assert "secret" not in str(spans[0].otel_attributes())
    assert (spans[0].input, spans[0].output) == ((), ())
    assert spans[0].usage == Usage(input=3, output=2)
