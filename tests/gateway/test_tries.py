"""Routes: retries, fallbacks, balance and circuits, over scripted models and a clock that only tests move."""

from __future__ import annotations

import asyncio
import doctest
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import (
    AssayError,
    BadResponse,
    ContextExceeded,
    DeadlineExceeded,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    RequestError,
    UnsupportedFeature,
)
from assay.gateway import Route, Target, breaker, gateway
from assay.gateway.breaker import Breaker
from assay.gateway.route import Healths, ordered
from assay.gateway.tries import Failed, tries
from assay.prices import free
from assay.providers.scripted import Scripted, tape
from assay.trace import Span, Tracer
from assay.types import Assembly, Context, Event, Handler, Request, Started, TextDelta, closing, replace, user

pytestmark = pytest.mark.anyio

ASK = Request("fast", (user("Hi"),), stream=True)
BUSY, AWAY = RateLimited("busy"), ProviderUnavailable("away")


class World:
    """A route over scripted models, its clock, and what was noted."""

    def __init__(self, *scripts: Any, **settings: Any) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        self.noted: list[Failed] = []
        self.models = [Scripted(f"p{number}", script) for number, script in enumerate(scripts)]
        targets = tuple(Target(model.name, model, "m", free("test")) for model in self.models)
        self.route = Route("fast", targets, **settings)
        self.healths = Healths(lambda: self.now)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    @property
    def handler(self) -> Handler:
        return tries(
            self.route,
            self.healths,
            note=self.noted.append,
            clock_ns=lambda: int(self.now * 1e9),
            sleep=self.sleep,
            draw=random.Random(1),
        )

    @property
    def asked(self) -> list[int]:
        return [len(model.requests) for model in self.models]


async def answer(handler: Handler, request: Request = ASK) -> str:
    assembly = Assembly()
    async with closing(handler(request)) as events:
        async for event in events:
            assembly.add(event)
    return assembly.response().text


async def failure(handler: Handler, request: Request = ASK) -> tuple[list[Event], AssayError]:
    seen: list[Event] = []
    with pytest.raises(AssayError) as caught:
        async with closing(handler(request)) as events:
            async for event in events:
                seen.append(event)
    return seen, caught.value


def test_examples() -> None:
    assert doctest.testmod(breaker).failed == 0


async def test_the_first_that_answers_is_the_answer() -> None:
    world = World(["one"], ["two"])
    assert await answer(world.handler) == "one"
    assert world.asked == [1, 0]
    assert world.noted == []


async def test_a_retry_at_the_same_model_comes_before_another() -> None:
    world = World([BUSY, "one"], ["two"], retries=1)
    assert await answer(world.handler) == "one"
    assert world.asked == [2, 0]
    assert len(world.slept) == 1
    assert 0 <= world.slept[0] <= 0.5


async def test_waits_grow_and_hold_to_what_the_provider_says() -> None:
    world = World([BUSY, BUSY, RateLimited("busy", retry_after_s=7.0), "one"], retries=3)
    assert await answer(world.handler) == "one"
    assert world.slept[2] >= 7.0
    assert all(wait <= 0.5 * 2**number for number, wait in enumerate(world.slept[:2]))


@pytest.mark.parametrize(
    "error",
    [
        AWAY,
        BUSY,
        BadResponse("garbage"),
        ProviderError("no credit", retryable=False),
        UnsupportedFeature("no tools here"),
        ContextExceeded("too long"),
    ],
)
async def test_what_one_model_cannot_another_may(error: AssayError) -> None:
    world = World([error], ["two"])
    assert await answer(world.handler) == "two"
    (noted,) = world.noted
    assert noted.error is error
    assert noted.target.name == "p0"


async def test_what_cannot_be_mended_by_trying_is_not_tried_again() -> None:
    world = World([ProviderError("key refused", retryable=False)], ["two"], retries=3)
    assert await answer(world.handler) == "two"
    assert world.asked == [1, 1]
    wrong = World([RequestError("no such field", param="x")], ["two"], retries=3)
    _, error = await failure(wrong.handler)
    assert isinstance(error, RequestError)
    assert wrong.asked == [1, 0]


async def test_after_the_first_event_nothing_is_tried_again() -> None:
    world = World([[*tape("one two")[:2], BadResponse("gone")]], ["three"], retries=2)
    seen, error = await failure(world.handler)
    assert [type(event) for event in seen] == [Started, TextDelta]
    assert isinstance(error, BadResponse)
    assert world.asked == [1, 0]


async def test_when_all_fail_the_last_error_is_told() -> None:
    world = World([BUSY], [AWAY])
    _, error = await failure(world.handler)
    assert error is AWAY
    assert [noted.error for noted in world.noted] == [BUSY, AWAY]


async def test_all_tries_share_one_budget_of_time() -> None:
    world = World([RateLimited("busy", retry_after_s=100.0)], ["two"], retries=5, deadline_s=60.0)
    assert await answer(world.handler) == "two"
    assert world.asked == [1, 1], "a wait that outlasts the deadline is not begun"
    slow = World([BUSY], ["two"], deadline_s=10.0)

    async def take_eleven(request: Request) -> BaseException:
        slow.now += 11.0
        return AWAY

    slow.models[0]._script = take_eleven
    _, error = await failure(slow.handler)
    assert error is AWAY
    assert slow.asked == [1, 0]


async def test_each_try_gets_the_time_that_is_left() -> None:
    world = World([BUSY], ["two"], deadline_s=10.0)

    async def take_four(request: Request) -> BaseException:
        world.now += 4.0
        return AWAY

    world.models[0]._script = take_four
    await answer(world.handler, replace(ASK, context=Context(deadline_s=9.0)))
    assert world.models[0].requests[0].context.deadline_s == 9.0
    assert world.models[1].requests[0].context.deadline_s == pytest.approx(5.0)


async def test_a_caller_who_leaves_ends_it_all() -> None:
    gate = asyncio.Event()
    world = World([[gate]], ["two"])
    task = asyncio.create_task(answer(world.handler))
    while not world.models[0].running:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.asked == [1, 0]
    assert world.models[0].running == 0


# --- circuits ---------------------------------------------------------------------------------------


async def test_a_model_that_keeps_failing_is_left_alone_and_probed() -> None:
    world = World([AWAY], ["two"])
    for _ in range(8):
        assert await answer(world.handler) == "two"
    assert world.asked == [5, 8]
    world.now += 10.0
    assert await answer(world.handler) == "two"
    assert world.asked == [6, 9], "one probe"
    world.models[0]._script = ("back",)
    world.now += 20.0
    assert await answer(world.handler) == "back"
    assert await answer(world.handler) == "back"


async def test_when_every_circuit_is_open_it_says_so() -> None:
    world = World([AWAY])
    for _ in range(5):
        await failure(world.handler)
    _, error = await failure(world.handler)
    assert isinstance(error, ProviderUnavailable)
    assert "left alone" in error.message
    assert world.asked == [5]


async def test_an_error_of_the_callers_opens_nothing() -> None:
    world = World([ContextExceeded("too long")], ["two"])
    for _ in range(9):
        await answer(world.handler)
    assert world.asked == [9, 9]


@given(
    st.lists(st.tuples(st.sampled_from(["ask", "ok", "bad", "left", "wait"]), st.floats(0, 400)), max_size=60)
)
def test_a_circuit_never_lets_two_probe_and_always_lets_one_in_the_end(
    steps: list[tuple[str, float]],
) -> None:
    now = 0.0
    circuit = Breaker(lambda: now, failures=2)
    probing = False
    for step, wait in steps:
        match step:
            case "ask":
                before = circuit.state
                allowed = circuit.allows()
                if before == "closed":
                    assert allowed
                elif before == "open":
                    assert not allowed
                else:
                    assert allowed is not probing
                    probing = True
            case "ok":
                circuit.succeeded()
                probing = False
                assert circuit.state == "closed"
            case "bad":
                circuit.failed()
                probing = False
            case "left":
                circuit.abandoned()
                probing = False
            case "wait":
                now += wait
    circuit.abandoned()
    now += 301.0
    assert circuit.allows()


# --- balance ----------------------------------------------------------------------------------------


def firsts(world: World, requests: list[Request]) -> Counter[str]:
    draw = random.Random(7)
    return Counter(ordered(world.route, request, world.healths, draw)[0].name for request in requests)


def test_weights_are_shares() -> None:
    world = World(["a"], ["b"], balance="weighted", weights=(3.0, 1.0))
    counts = firsts(world, [ASK] * 4000)
    assert 2850 < counts["p0"] < 3150
    never = World(["a"], ["b"], balance="weighted", weights=(0.0, 1.0))
    assert firsts(never, [ASK] * 200) == {"p1": 200}


def test_a_sticky_key_stays_and_many_of_them_share() -> None:
    world = World(["a"], ["b"], balance="weighted", weights=(1.0, 1.0))
    keyed = [replace(ASK, context=Context(sticky=f"user-{number}")) for number in range(2000)]
    assert all(len(firsts(world, [request] * 5)) == 1 for request in keyed[:50])
    assert 850 < firsts(world, keyed)["p0"] < 1150


async def test_the_one_that_begins_soonest_goes_first() -> None:
    world = World(["a"], ["b"], balance="latency")
    world.healths.of(world.route.targets[0]).began(0.9)
    world.healths.of(world.route.targets[1]).began(0.1)
    assert await answer(world.handler) == "b"


@given(st.integers(1, 6), st.sampled_from(["order", "weighted", "latency"]), st.integers(0, 999))
@settings(max_examples=60)
def test_every_model_is_in_the_order_once(count: int, balance: Any, seed: int) -> None:
    world = World(*[["x"]] * count, balance=balance)
    found = ordered(world.route, ASK, world.healths, random.Random(seed))
    assert sorted(target.name for target in found) == sorted(target.name for target in world.route.targets)


# --- in the gateway ----------------------------------------------------------------------------------


async def test_a_try_that_failed_is_a_span_below_the_calls() -> None:
    world = World([AWAY], ["two"])
    spans: list[Span] = []
    assert await answer(gateway({"fast": world.route}, Tracer(spans.append))) == "two"
    tried, call = spans
    assert (tried.name, tried.status, tried.provider) == ("try p0", "error", "p0")
    assert (tried.trace_id, tried.parent_id) == (call.trace_id, call.span_id)
    assert tried.cost is not None
    assert tried.cost.kind == "unknown", "nobody knows what an upstream that broke bills"
    assert (call.status, call.provider) == ("ok", "p1")
    assert call.attributes["assay.route.model"] == "p1"


async def test_no_time_at_all_is_a_deadline() -> None:
    world = World(["one"], deadline_s=5.0)
    world.healths.clock = _steps(world, [0.0, 6.0, 6.0, 6.0])  # type: ignore[method-assign]
    _, error = await failure(world.handler)
    assert isinstance(error, DeadlineExceeded)


def _steps(world: World, times: list[float]) -> Callable[[], float]:
    return lambda: times.pop(0) if len(times) > 1 else times[0]
