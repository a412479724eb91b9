"""Prices: equal to the list's own arithmetic, for every model, and never a zero for the unknown."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import genai_prices
import pytest
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import ConfigError
from assay.prices import free, listed, unpriced
from assay.types import Cost, Usage

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def test_a_published_price() -> None:
    # gpt-4o-mini: $0.15 input, $0.075 cached input, $0.60 output, each a million tokens.
    cost = listed("openai")("gpt-4o-mini-2024-07-18", Usage(input=900, cache_read=100, output=100))
    assert cost.kind == "exact"
    assert cost.usd == Decimal("0.0002025")
    assert cost.source.startswith("genai-prices ")


def test_cached_tokens_are_billed_once() -> None:
    price = listed("openai")
    fresh = price("gpt-4o-mini", Usage(input=1000)).usd
    half = price("gpt-4o-mini", Usage(input=500, cache_read=500)).usd
    assert fresh is not None
    assert half == fresh * Decimal("0.75")


def test_unknown_is_never_zero() -> None:
    price = listed("openai")
    assert price("no-such-model", Usage(input=1)).usd is None
    assert price("no-such-model", Usage(input=1)).kind == "unknown"
    assert price("gpt-4o-mini", None) == Cost("unknown", None, "the upstream reported no usage")
    assert listed(url="http://127.0.0.1:9/v1")("gpt-4o-mini", Usage(input=1)).kind == "unknown"
    assert unpriced("why")("m", Usage()) == Cost("unknown", None, "why")


def test_free_is_exactly_zero() -> None:
    assert free("runs here")("m", None) == Cost("exact", Decimal(0), "runs here")


def test_estimated_usage_gives_an_estimated_cost() -> None:
    assert listed("openai")("gpt-4o-mini", Usage(input=10, estimated=True)).kind == "estimated"


def test_the_provider_is_known_by_its_address() -> None:
    usage = Usage(input=1000)
    by_url = listed(url="https://api.openai.com/v1")("gpt-4o-mini", usage)
    assert by_url == listed("openai")("gpt-4o-mini", usage)


def test_a_misspelt_price_list_names_the_others() -> None:
    with pytest.raises(ConfigError, match=r"There is no price list 'opnai'.*openai"):
        listed("opnai")


MODELS = [
    (provider.id, model.id)
    for provider in get_snapshot().providers
    if provider.id in {"openai", "anthropic", "google", "deepseek", "x-ai"}
    for model in provider.models
    if model.is_match(model.id)
]
tokens = st.integers(0, 2_000_000)


@settings(max_examples=400, deadline=None)
@given(
    model=st.sampled_from(MODELS),
    fresh=tokens,
    read=tokens,
    write=tokens,
    output=tokens,
    reasoning=tokens,
)
def test_our_arithmetic_is_the_lists_own(
    model: tuple[str, str], fresh: int, read: int, write: int, output: int, reasoning: int
) -> None:
    usage = Usage(input=fresh, cache_read=read, cache_write=write, output=output, reasoning=reasoning)
    ours = listed(model[0], clock=NOON.timestamp)(model[1], usage)
    theirs = genai_prices.calc_price(
        genai_prices.Usage(
            input_tokens=fresh + read + write,
            cache_read_tokens=read,
            cache_write_tokens=write,
            cache_write_5m_tokens=write,
            output_tokens=output + reasoning,
            output_reasoning_tokens=reasoning,
        ),
        model[1],
        provider_id=model[0],
        genai_request_timestamp=NOON,
    )
    if ours.usd is None:
        assert theirs.total_price == 0
    else:
        assert ours.usd == theirs.total_price


# --- service tiers -------------------------------------------------------------------------------

NOVEMBER = datetime(2026, 11, 20, 12, tzinfo=UTC)
MILLION = Usage(input=1_000_000)


@pytest.mark.parametrize(
    ("provider", "model", "tier", "usd"),
    [
        ("openai", "o4-mini", None, "1.1"),
        ("openai", "o4-mini", "flex", "0.55"),
        ("openai", "o4-mini", "priority", "2"),
        ("openai", "o4-mini", "batch", "0.55"),
        ("anthropic", "claude-opus-5", "fast", "10"),
        ("google", "gemini-3.8-flash-tts", "flex", "0.25"),
    ],
)
def test_a_service_tier_has_a_price_of_its_own(provider: str, model: str, tier: str, usd: str) -> None:
    cost = listed(provider, clock=NOVEMBER.timestamp)(model, MILLION, tier)
    assert (cost.usd, cost.kind) == (Decimal(usd), "exact")


def test_a_tier_without_a_price_is_estimated_and_says_so() -> None:
    price = listed("openai", clock=NOVEMBER.timestamp)
    standard, scale = price("o4-mini", MILLION), price("o4-mini", MILLION, "scale")
    assert (scale.usd, scale.kind) == (standard.usd, "estimated")
    assert "no price for the service tier 'scale'" in scale.source
    assert price("no-such-model", MILLION, "flex").kind == "unknown"
    # A price that begins later is none yet.
    early = listed("openai", clock=NOON.timestamp)("o4-mini", MILLION, "priority")
    assert (early.usd, early.kind) == (standard.usd, "estimated")


def test_what_is_free_is_free_in_every_tier() -> None:
    assert free("runs here")("m", None, "priority") == Cost("exact", Decimal(0), "runs here")
    assert unpriced("why")("m", MILLION, "priority") == Cost("unknown", None, "why")
