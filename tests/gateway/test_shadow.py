"""Shadow traffic: after the reply, beside the caller, bounded, and ended with the process."""

from __future__ import annotations

import asyncio
import random

import pytest

from assay.errors import RateLimited
from assay.gateway import Route, Target, gateway
from assay.gateway.shadow import ShadowOf, Shadows
from assay.prices import free
from assay.providers.scripted import Scripted, tape
from assay.trace import Span, Tracer
from assay.types import Context, Event, Handler, Request, closing, user

pytestmark = pytest.mark.anyio


class World:
    def __init__(self, shadows: Shadows, share: float = 1.0, script: object = ("shadow",)) -> None:
        self.model = Scripted("up", ["reply"])
        self.other = Scripted("other", script)  # type: ignore[arg-type]
        self.spans: list[Span] = []
        routes = {
            "m": Route("m", (Target("m", self.model, "m", free("t")),), shadow=ShadowOf("other", share)),
            "other": Route(
                "other", (Target("other", self.other, "other", free("t")),), shadow=ShadowOf("m", 1.0)
            ),
        }
        self.handler: Handler = gateway(routes, Tracer(self.spans.append), shadows=shadows)

    async def ask(self, purpose: str = "call", *, stream: bool = False) -> list[Event]:
        request = Request("m", (user("hi"),), stream=stream, context=Context(purpose=purpose))
        async with closing(self.handler(request)) as events:
            return [event async for event in events]


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_is_followed_by_a_span_of_its_trace(stream: bool) -> None:
    shadows = Shadows()
    world = World(shadows)
    await world.ask(stream=stream)
    assert world.other.requests == []
    await settled()
    assert [request.messages for request in world.other.requests] == [(user("hi"),)]
    call, shadow = world.spans
    assert (shadow.purpose, shadow.trace_id, shadow.parent_id) == ("shadow", call.trace_id, call.span_id)
    assert shadow.attributes["assay.tags"] == {"shadow_of": "m"}
    assert len(world.model.requests) == 1  # a shadow has no shadow
    assert shadows.counts == {"sent": 1}


async def test_a_shadow_that_fails_is_counted_and_nobody_hears_of_it() -> None:
    shadows = Shadows()
    await World(shadows, script=[RateLimited("busy")]).ask()
    await settled()
    assert shadows.counts == {"sent": 1, "failed": 1}


async def test_what_does_not_fit_is_dropped_and_the_end_cancels_the_rest() -> None:
    shadows, gate = Shadows(at_once=2), asyncio.Event()
    world = World(shadows, script=[[gate, *tape("late")]])
    for _ in range(3):
        await world.ask()
        await settled()
    assert world.other.running == 2
    assert shadows.counts == {"sent": 2, "dropped": 1}
    await shadows.aclose()
    assert world.other.running == 0
    await world.ask()
    assert shadows.counts["dropped"] == 2


async def test_only_a_share_of_callers_calls_is_followed() -> None:
    shadows = Shadows(draw=random.Random(1))
    world = World(shadows, share=0.25)
    for _ in range(200):
        await world.ask()
        await settled()
    assert 30 <= shadows.counts["sent"] <= 70
    before = shadows.counts["sent"]
    whole = World(shadows)
    await whole.ask("eval")
    await settled()
    assert shadows.counts["sent"] == before


async def test_a_call_that_failed_or_was_left_has_no_shadow() -> None:
    shadows = Shadows()
    world = World(shadows)
    world.model._script = (RateLimited("busy"), "one two three")
    with pytest.raises(RateLimited):
        await world.ask()
    async with closing(world.handler(Request("m", (user("hi"),), stream=True))) as events:
        await anext(events)
    await settled()
    assert not shadows.counts
