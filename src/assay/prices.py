"""What a call costs, by the genai-prices list. Budgets and sums live elsewhere; unknown is never zero.

The list is a snapshot that ships with the installed genai-prices; nothing is fetched.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple, Protocol

import genai_prices
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, ModelPrice, TieredPrices

from assay.errors import ConfigError
from assay.types import Cost, Usage, Value, replace


class Pricing(Protocol):
    """What a call costs: `model` is the upstream's name, `tier` the service tier where it is not the standard
    one."""

    def __call__(self, model: str, usage: Usage | None, tier: str | None = None, /) -> Cost: ...


SOURCE = f"genai-prices {genai_prices.__version__}"
_MILLION = 1_000_000
_WAYS = ("service_tier", "processing", "speed")

# How each class of tokens is told to genai-prices, whose totals include their details.
_KEYS: dict[str, tuple[str, ...]] = {
    "input": ("input_tokens",),
    "input_audio": ("input_tokens", "input_audio_tokens"),
    "input_image": ("input_tokens", "input_image_tokens"),
    "cache_read": ("input_tokens", "cache_read_tokens"),
    "cache_read_audio": (
        "input_tokens",
        "input_audio_tokens",
        "cache_read_tokens",
        "cache_audio_read_tokens",
    ),
    "cache_write": ("input_tokens", "cache_write_tokens", "cache_write_5m_tokens"),
    "cache_write_1h": ("input_tokens", "cache_write_tokens", "cache_write_1h_tokens"),
    "output": ("output_tokens",),
    "reasoning": ("output_tokens", "output_reasoning_tokens"),
    "output_audio": ("output_tokens", "output_audio_tokens"),
    "output_image": ("output_tokens", "output_image_tokens"),
}


def free(reason: str) -> Pricing:
    """Models that nobody bills for: exactly 0 dollars."""
    cost = Cost("exact", Decimal(0), reason)

    def price(_model: str, _usage: Usage | None, _tier: str | None = None) -> Cost:
        return cost

    return price


def unpriced(reason: str) -> Pricing:
    """Models of which no price is known."""
    cost = Cost("unknown", None, reason)

    def price(_model: str, _usage: Usage | None, _tier: str | None = None) -> Cost:
        return cost

    return price


def assumed(prices: Pricing, usd_per_mtok_in: Decimal, usd_per_mtok_out: Decimal) -> Pricing:
    """Where `prices` knows none, these: the cost is an estimate, and its source says whose.

    >>> from assay.types import Usage
    >>> assumed(unpriced("?"), Decimal(1), Decimal(2))("m", Usage(input=1_000_000, output=500_000)).usd
    Decimal('2')
    """

    def price(model: str, usage: Usage | None, tier: str | None = None) -> Cost:
        found = prices(model, usage, tier)
        if found.usd is not None or usage is None:
            return found
        usd = (usage.tokens_in * usd_per_mtok_in + usage.tokens_out * usd_per_mtok_out) / _MILLION
        return Cost("estimated", usd, "assumed in assay.toml")

    return price


def listed(
    provider: str | None = None, *, url: str | None = None, clock: Callable[[], float] = time.time
) -> Pricing:
    """Prices of a provider by its genai-prices id ("openai"), or by its API's URL.

    A service tier of which the list knows nothing costs what the standard one does, and is marked estimated.
    Raises ConfigError for an id that the list does not have; a URL that it does not know is unpriced.
    """
    snapshot = get_snapshot()
    try:
        found = snapshot.find_provider(None, provider, url)
    except LookupError as error:
        if provider is None:
            return unpriced(f'{SOURCE} knows no provider at {url}; name one with prices = "..."')
        known = ", ".join(sorted(entry.id for entry in snapshot.providers))
        raise ConfigError(f"There is no price list {provider!r}; there are: {known}") from error
    rates: dict[tuple[str, int, str | None], _Rates | None] = {}

    def price(model: str, usage: Usage | None, tier: str | None = None) -> Cost:
        if usage is None:
            return Cost("unknown", None, "the upstream reported no usage")
        # Prices change by date and by time of day, at whole minutes.
        minute = int(clock() // 60)
        key = (model, minute, tier)
        if key not in rates:
            if len(rates) > 1000:
                rates.clear()
            rates[key] = _rates(found.id, model, minute, tier)
        known = rates[key]
        if known is None:
            return Cost("unknown", None, f"{SOURCE} has no price for {model} of {found.id}")
        a_token, of_tier = known
        usd = _linear(a_token, usage) if isinstance(a_token, dict) else _by_list(a_token, usage)
        if tier is not None and not of_tier:
            source = f"{SOURCE} has no price for the service tier {tier[:40]!r}; this is the standard one"
            return Cost("estimated", usd, source)
        return Cost("estimated" if usage.estimated else "exact", usd, SOURCE)

    return price


class Listed(Value):
    """What the price list says of a model: US dollars for a million tokens at the base rate; its context."""

    context_tokens: int | None = None
    usd_per_mtok_in: Decimal | None = None
    usd_per_mtok_out: Decimal | None = None


def look_up(model: str, provider: str | None = None, *, url: str | None = None) -> Listed:
    """The list's entry for a model by its upstream name; empty where it has none."""
    try:
        found = get_snapshot().find_provider(None, provider, url)
        _, info = get_snapshot().find_provider_model(model, None, found.id, None)
    except LookupError:
        return Listed()
    prices = info.get_prices(datetime.now(UTC))
    return Listed(info.context_window, _base(prices.input_mtok), _base(prices.output_mtok))


def _base(price: Decimal | TieredPrices | None) -> Decimal | None:
    return price.base if isinstance(price, TieredPrices) else price


class _Rates(NamedTuple):
    """Dollars a token for each class, or the list's own object where prices depend on the number of tokens.

    `of_tier`: the list has them for the service tier that was named.
    """

    a_token: dict[str, Decimal] | ModelPrice
    of_tier: bool


def _rates(provider: str, model: str, minute: int, tier: str | None) -> _Rates | None:
    try:
        _, info = get_snapshot().find_provider_model(model, None, provider, None)
    except LookupError:
        return None
    moment = datetime.fromtimestamp(minute * 60, UTC)
    way = None if tier is None else _way(info, tier, moment)
    prices = info.get_prices(moment, way)
    named = {name: value for name, value in vars(prices).items() if value is not None}
    if not any(name.startswith(("input", "output")) for name in named):
        return None
    if any(isinstance(value, TieredPrices) for value in named.values()):
        return _Rates(prices, way is not None)
    a_token = {name: _by_list(prices, replace(Usage(), **{name: _MILLION})) / _MILLION for name in _KEYS}
    return _Rates(a_token, way is not None)


def _way(info: ModelInfo, tier: str, moment: datetime) -> dict[str, str] | None:
    """The tier in the list's words, which depend on the provider; None where the list has no price for it."""
    for variant in info.price_variants or ():
        for name in _WAYS:
            if variant.when == {name: tier} and (
                variant.constraint is None or variant.constraint.active(moment)
            ):
                return {name: tier}
    return None


def _linear(rates: dict[str, Decimal], usage: Usage) -> Decimal:
    usd = usage.input * rates["input"] + usage.output * rates["output"]
    if usage.tokens != usage.input + usage.output:
        for name, rate in rates.items():
            if name not in {"input", "output"} and (count := getattr(usage, name)):
                usd += count * rate
    return usd


def _by_list(prices: ModelPrice, usage: Usage) -> Decimal:
    counts: dict[str, int] = {}
    for name, keys in _KEYS.items():
        if count := getattr(usage, name):
            for key in keys:
                counts[key] = counts.get(key, 0) + count
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return prices.calc_price(genai_prices.Usage(**counts))["total_price"]
