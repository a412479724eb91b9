"""Service tiers: which one a call was answered in, as its reply or else its caller says. Prices are
assay.prices'.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from assay.prices import Pricing
from assay.types import Cost, Extra, Request, Usage, Value, replace

_STANDARD = frozenset({"", "auto", "default", "on_demand", "standard", "standard_only", "unspecified"})
_PLACES = ("usage", "usageMetadata")
_NAMES = ("speed", "service_tier", "serviceTier", "trafficType")


class Tier(Value):
    """A tier with prices of its own, by its provider's word for it. `told`: by the reply."""

    name: str
    told: bool


def tier_of(request: Request, dropped: tuple[str, ...], told: Extra | None) -> Tier | None:
    """None for the standard one. `told` is what the reply says; `dropped` what was not sent of the request.

    >>> from assay.types import user
    >>> asked = Request("m", (user("Hi"),), service_tier="flex")
    >>> tier_of(asked, (), None)
    Tier(name='flex', told=False)
    >>> tier_of(asked, (), Extra("openai", {"service_tier": "default"})) is None
    True
    """
    words = [] if told is None else list(_words(told.fields))
    if words:
        name = next((word for word in words if word not in _STANDARD), None)
        return None if name is None else Tier(name, told=True)
    asked = (request.service_tier or "").lower()
    return None if asked in _STANDARD or "service_tier" in dropped else Tier(asked, told=False)


def _words(fields: dict[str, Any]) -> Iterator[str]:
    for place in (fields, *(fields.get(name) for name in _PLACES)):
        if isinstance(place, dict):
            for name in _NAMES:
                if isinstance(word := place.get(name), str):
                    yield word.lower().removeprefix("on_demand_")


def priced(pricing: Pricing, model: str, usage: Usage | None, tier: Tier | None) -> Cost:
    """The cost at the tier's price: estimated where that, or what the reply was answered in, is not known."""
    if tier is None:
        return pricing(model, usage)
    cost = pricing(model, usage, tier.name)
    if tier.told or not cost.usd:
        return cost
    return replace(
        cost,
        kind="estimated",
        source=f"{cost.source}; service tier {tier.name[:40]!r} as asked for, the reply does not tell it",
    )
