"""Service tiers: a call costs what the tier costs that it was answered in; a guess is called one."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from assay.gateway import Route, Target, gateway, tiers
from assay.prices import Pricing
from assay.providers.scripted import Scripted
from assay.trace import Span, Tracer
from assay.types import (
    Choice,
    Completed,
    Cost,
    Ended,
    Event,
    Extra,
    Finish,
    Finished,
    Request,
    Response,
    Started,
    TextDelta,
    Usage,
    assistant,
    closing,
    user,
)

pytestmark = pytest.mark.anyio

USAGE = Usage(input=3, output=2)


def by_tier(model: str, usage: Usage | None, tier: str | None = None) -> Cost:
    if tier == "scale":
        return Cost("estimated", Decimal(1), "no price for scale")
    return Cost("exact", {None: Decimal(1), "flex": Decimal("0.5"), "priority": Decimal(2)}[tier], "test")


def whole(extra: Extra | None, dropped: tuple[str, ...]) -> list[Event]:
    choices = (Choice(assistant("Hi"), Finish("stop")),)
    return [Completed(Response("r", "m", choices, USAGE, extra=extra, dropped=dropped))]


def begun(extra: Extra | None, dropped: tuple[str, ...]) -> list[Event]:
    """A stream that tells it at once."""
    end: list[Event] = [TextDelta("Hi"), Finished(Finish("stop")), Ended(USAGE)]
    return [Started("r", "m", extra=extra, dropped=dropped), *end]


def ended(extra: Extra | None, dropped: tuple[str, ...]) -> list[Event]:
    """A stream that knows better in the end."""
    early = Extra("openai", {"service_tier": "priority"})
    end: list[Event] = [TextDelta("Hi"), Finished(Finish("stop")), Ended(USAGE, extra=extra)]
    return [Started("r", "m", extra=early if extra else None, dropped=dropped), *end]


async def cost(script: list[Event], asked: str | None, pricing: Pricing = by_tier) -> Cost:
    spans: list[Span] = []
    route = Route("m", (Target("m", Scripted("up", [script]), "m", pricing),))
    handler = gateway({"m": route}, Tracer(spans.append))
    async with closing(handler(Request("m", (user("Hi"),), service_tier=asked))) as events:
        assert [event async for event in events]
    assert spans[0].cost is not None
    return spans[0].cost


@pytest.mark.parametrize("form", [whole, begun, ended])
@pytest.mark.parametrize(
    ("told", "usd"),
    [
        (Extra("openai", {"service_tier": "flex"}), "0.5"),
        (Extra("openai-responses", {"service_tier": "default"}), "1"),
        (Extra("anthropic", {"usage": {"service_tier": "priority", "speed": "standard"}}), "2"),
        (Extra("gemini", {"usageMetadata": {"serviceTier": "STANDARD"}}), "1"),
        (Extra("gemini", {"usageMetadata": {"trafficType": "ON_DEMAND_FLEX"}}), "0.5"),
        (Extra("gemini", {"usageMetadata": {"trafficType": "ON_DEMAND"}}), "1"),
    ],
)
async def test_the_tier_that_the_reply_tells_is_paid(form: Any, told: Extra, usd: str) -> None:
    assert await cost(form(told, ()), "priority") == Cost("exact", Decimal(usd), "test")


@pytest.mark.parametrize("form", [whole, begun, ended])
async def test_what_was_only_asked_for_is_estimated(form: Any) -> None:
    found = await cost(form(None, ()), "flex")
    assert (found.kind, found.usd) == ("estimated", Decimal("0.5"))
    assert "'flex' as asked for" in found.source
    assert (await cost(form(None, ()), "auto")).kind == "exact"
    assert (await cost(form(None, ("service_tier",)), "flex")) == Cost("exact", Decimal(1), "test")


async def test_a_tier_that_the_list_does_not_have_is_estimated() -> None:
    told = Extra("openai", {"service_tier": "scale"})
    assert (await cost(whole(told, ()), None)).kind == "estimated"


@pytest.mark.parametrize("junk", [["flex"], {"flex": 1}, None, 7, {"service_tier": {"a": 1}}])
async def test_a_tier_of_any_shape_is_no_tier(junk: Any) -> None:
    for fields in ({"service_tier": junk}, {"usage": junk}, {"usageMetadata": junk}):
        assert (await cost(whole(Extra("openai", fields), ()), None)).kind == "exact"


def test_doctests() -> None:
    import doctest

    assert doctest.testmod(tiers).failed == 0
