"""Rate limits of models and keys, on a clock that only tests move: exact, bounded, and nobody waits."""

from __future__ import annotations

import asyncio
import doctest
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import AssayError, LimitReached, ProviderUnavailable, RateLimited, RequestError
from assay.gateway import Route, Target, compose, gateway, limits
from assay.gateway.limits import Bucket, Meter, Meters, estimated, of_keys, of_model
from assay.gateway.route import Healths
from assay.gateway.tracing import trace
from assay.prices import free
from assay.providers.scripted import Scripted, tape
from assay.trace import Span, Tracer
from assay.types import (
    Assembly,
    Context,
    Ended,
    FunctionTool,
    Handler,
    Image,
    Inline,
    Message,
    Request,
    Sampling,
    Usage,
    WireData,
    closing,
    replace,
    user,
)
from assay.types.limits import Limits

pytestmark = pytest.mark.anyio

ASK = Request("m", (user("x" * 400),), sampling=Sampling(max_tokens=100), stream=True)
"""Taken for 200 tokens."""


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def metered_model(limits: Limits, *script: Any, share: int = 1) -> tuple[Handler, Scripted, Clock, Meters]:
    clock = Clock()
    meters = Meters(clock, share=share)
    model = Scripted("p", list(script) or ["one two"])
    return of_model("m", limits, meters, model), model, clock, meters


async def answer(handler: Handler, request: Request = ASK) -> str:
    assembly = Assembly()
    async with closing(handler(request)) as events:
        async for event in events:
            assembly.add(event)
    return assembly.response().text


async def too_early(handler: Handler, request: Request = ASK) -> float:
    with pytest.raises(LimitReached) as caught:
        await answer(handler, request)
    assert caught.value.status == 429
    assert caught.value.retry_after_s is not None
    return caught.value.retry_after_s


def test_examples() -> None:
    assert doctest.testmod(limits).failed == 0


async def test_so_many_requests_a_minute_then_one_by_one() -> None:
    handler, model, clock, _ = metered_model(Limits(requests_per_minute=6))
    for _ in range(6):
        await answer(handler)
    assert await too_early(handler) == pytest.approx(10.0)
    clock.now = 9.0
    assert await too_early(handler) == pytest.approx(1.0)
    clock.now = 10.0
    await answer(handler)
    assert len(model.requests) == 7, "what is too early reaches nobody"


async def test_tokens_are_taken_beforehand_and_put_right_afterwards() -> None:
    used = Usage(input=100, output=20)
    handler, _, clock, _ = metered_model(Limits(tokens_per_minute=600), tape("x", usage=used))
    # 200 are taken and 80 given back, so that after three calls 240 are left.
    for _ in range(4):
        await answer(handler)
    assert await too_early(handler) == pytest.approx(8.0)
    clock.now = 8.0
    await answer(handler)


async def test_who_took_more_than_estimated_is_in_debt() -> None:
    handler, _, clock, _ = metered_model(Limits(tokens_per_minute=600), tape("x", usage=Usage(output=1200)))
    await answer(handler)
    assert await too_early(handler) == pytest.approx(80.0)
    clock.now = 80.0
    await answer(handler)


async def test_a_call_that_is_larger_than_a_minute_goes_when_nothing_was_used() -> None:
    large = replace(ASK, sampling=Sampling(max_tokens=5000))
    handler, _, clock, _ = metered_model(Limits(tokens_per_minute=600), tape("x", usage=Usage(output=600)))
    await answer(handler, large)
    assert await too_early(handler, large) == pytest.approx(60.0)
    clock.now = 60.0
    await answer(handler, large)


@pytest.mark.parametrize(
    ("error", "left"),
    [
        (RequestError("wrong"), 600),
        (RateLimited("busy"), 600),
        (ProviderUnavailable("broke"), 400),
    ],
)
async def test_what_was_refused_has_used_nothing_of_the_rest_nobody_knows(
    error: AssayError, left: int
) -> None:
    handler, _, _, meters = metered_model(Limits(tokens_per_minute=600), error)
    with pytest.raises(type(error)):
        await answer(handler)
    meter = meters.of("model", "m", Limits(tokens_per_minute=600))
    assert meter._tokens is not None
    assert meter._tokens.wait_s(left) == 0
    assert left == 600 or meter._tokens.wait_s(left + 1) > 0


async def test_a_reply_that_broke_off_keeps_what_it_was_taken_for() -> None:
    broken = [*tape("one two")[:2], RateLimited("enough")]
    handler, _, _, _ = metered_model(Limits(tokens_per_minute=300), broken)
    with pytest.raises(RateLimited):
        await answer(handler)
    assert await too_early(handler) == pytest.approx(20.0)


async def test_usage_is_read_from_a_callers_own_bytes_too() -> None:
    *events, ended = tape("x", usage=Usage(output=500))
    wire = [WireData(b"data", tuple(events)), WireData(b"end", (ended,))]
    handler, _, _, _ = metered_model(Limits(tokens_per_minute=600), wire)
    await answer(handler)
    assert await too_early(handler) == pytest.approx(10.0)


async def test_so_many_at_once_and_whoever_leaves_makes_room() -> None:
    gate = asyncio.Event()
    handler, model, _, _ = metered_model(Limits(at_once=2), [gate, *tape("one")])
    calls = [asyncio.create_task(answer(handler)) for _ in range(2)]
    while model.running < 2:
        await asyncio.sleep(0)
    assert await too_early(handler) == 1.0
    calls[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await calls[0]
    third = asyncio.create_task(answer(handler))
    gate.set()
    assert [await calls[1], await third] == ["one", "one"]
    assert model.running == 0


async def test_workers_share() -> None:
    handler, _, _, _ = metered_model(Limits(requests_per_minute=8), share=4)
    for _ in range(2):
        await answer(handler)
    assert await too_early(handler) == pytest.approx(30.0)
    meter = Meter(Limits(at_once=3), Clock(), share=4)
    meter.enter(ASK, "each may")
    with pytest.raises(LimitReached):
        meter.enter(ASK, "each may")


def test_without_limits_there_is_no_layer() -> None:
    model = Scripted("p", "x")
    assert of_model("m", Limits(), Meters(Clock()), model) is model


# --- keys -------------------------------------------------------------------------------------------


async def test_a_key_has_limits_of_its_own() -> None:
    allowed = {"a": Limits(requests_per_minute=1), "b": Limits(requests_per_minute=2), "free": Limits()}
    spans: list[Span] = []
    held = of_keys(allowed.__getitem__, Meters(Clock()))
    handler = compose([trace(Tracer(spans.append)), held], Scripted("p", "x"))

    def by(key: str | None) -> Request:
        return replace(ASK, context=Context(key_id=key))

    await answer(handler, by("a"))
    assert await too_early(handler, by("a")) == pytest.approx(60.0)
    for _ in range(2):
        await answer(handler, by("b"))
    assert await too_early(handler, by("b")) == pytest.approx(30.0)
    for key in ("free", None, "free", None):
        await answer(handler, by(key))
    refused = [span for span in spans if span.status == "error"]
    assert [span.error_type for span in refused] == ["rate_limit_exceeded"] * 2
    assert [span.cost for span in refused] == [None, None], "nobody was asked"


async def test_new_limits_of_a_key_hold_from_the_next_call() -> None:
    now = {"a": Limits(requests_per_minute=1)}
    handler = of_keys(now.__getitem__, Meters(Clock()))(Scripted("p", "x"))
    keyed = replace(ASK, context=Context(key_id="a"))
    await answer(handler, keyed)
    await too_early(handler, keyed)
    now["a"] = Limits(requests_per_minute=2)
    await answer(handler, keyed)


def test_what_is_known_is_bounded() -> None:
    meters = Meters(Clock())
    for number in range(limits.MAX_KNOWN + 5):
        meters.of("key", str(number), Limits(at_once=1))
    assert len(meters) == limits.MAX_KNOWN


# --- in a route -------------------------------------------------------------------------------------


def routed(*limited: Limits, retries: int = 2) -> tuple[Handler, list[Scripted], list[Span], Clock]:
    clock, spans = Clock(), list[Span]()
    models = [Scripted(f"p{number}", f"from {number}") for number in range(len(limited))]
    targets = tuple(
        Target(model.name, model, "m", free("test"), limits=limit)
        for model, limit in zip(models, limited, strict=True)
    )
    route = Route("m", targets, retries=retries)
    return gateway({"m": route}, Tracer(spans.append), healths=Healths(clock)), models, spans, clock


async def test_what_is_too_much_for_one_model_goes_to_the_next_at_once() -> None:
    handler, models, spans, _ = routed(Limits(requests_per_minute=1), Limits())
    answers = [await answer(handler) for _ in range(9)]
    assert answers == ["from 0"] + ["from 1"] * 8
    assert len(models[0].requests) == 1
    passed = [span for span in spans if span.operation == "try"]
    assert {(span.name, span.error_type) for span in passed} == {("try p0", "rate_limit_exceeded")}
    assert len(passed) == 8


async def test_a_limit_of_ours_opens_no_circuit() -> None:
    handler, _, _, clock = routed(Limits(requests_per_minute=1), Limits())
    for _ in range(9):
        await answer(handler)
    clock.now = 60.0
    assert await answer(handler) == "from 0"


async def test_when_all_are_used_up_the_soonest_is_told() -> None:
    handler, _, _, _ = routed(Limits(requests_per_minute=6), Limits(requests_per_minute=2))
    for _ in range(8):
        await answer(handler)
    assert await too_early(handler) == pytest.approx(10.0)


async def test_a_model_has_one_limit_whatever_it_is_called_by() -> None:
    clock, model = Clock(), Scripted("p", "x")
    target = Target("m", model, "m", free("test"), limits=Limits(requests_per_minute=2))
    routes = {"m": Route("m", (target,)), "fast": Route("fast", (target,), retries=1)}
    handler = gateway(routes, Tracer(lambda span: None), healths=Healths(clock))
    await answer(handler)
    await answer(handler, replace(ASK, model="fast"))
    for name in routes:
        assert await too_early(handler, replace(ASK, model=name)) == pytest.approx(30.0)


# --- what holds whatever comes ----------------------------------------------------------------------


@given(
    st.integers(1, 600),
    st.lists(st.tuples(st.floats(0, 30), st.integers(0, 900), st.integers(-300, 900)), max_size=40),
)
@settings(max_examples=200)
def test_a_bucket_lets_in_no_more_than_it_holds_and_tells_the_exact_time(
    size: int, steps: list[tuple[float, int, int]]
) -> None:
    clock = Clock()
    bucket = Bucket(size, clock)
    taken = 0.0
    for wait, amount, correction in steps:
        clock.now += wait
        before = bucket.wait_s(amount)
        if before:
            clock.now += before * 0.99
            assert bucket.wait_s(amount) > 0
            clock.now += before * 0.01 + 1e-6
            assert bucket.wait_s(amount) == 0
        bucket.take(amount)
        bucket.take(max(correction, -amount))
        taken += amount + max(correction, -amount)
        # Never beyond one bucket, what has flowed since, and what could not be foreseen of this one call.
        assert taken - amount - max(correction, -amount) <= size * (1 + clock.now / 60) + 900 + 1e-3


@given(st.lists(st.sampled_from(["enter", "leave"]), max_size=60), st.integers(1, 5))
def test_at_once_is_never_exceeded_and_never_leaks(steps: list[str], most: int) -> None:
    meter = Meter(Limits(at_once=most), Clock())
    running = 0
    for step in steps:
        if step == "enter":
            try:
                meter.enter(ASK, "it takes")
                running += 1
            except LimitReached:
                assert running == most
        elif running:
            meter.leave(0, None)
            running -= 1
        assert meter.running == running <= most


def test_estimates() -> None:
    assert estimated(ASK) == 200
    assert estimated(replace(ASK, sampling=Sampling())) == 1100
    assert estimated(replace(ASK, choices=3)) == 400
    assert estimated(replace(ASK, operation="embeddings")) == 100
    assert estimated(replace(ASK, operation="count_tokens")) == 0
    picture = Message("user", (Image(Inline("image/png", b"x" * 900_000)),))
    assert estimated(replace(ASK, messages=(picture,))) == 1100
    tool = FunctionTool("f" * 40, "d" * 340, {"type": "object"})
    assert estimated(replace(ASK, tools=(tool,))) == 299
    assert isinstance(tape("x")[-1], Ended)
