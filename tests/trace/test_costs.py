"""Sums of costs: nothing is left out, nothing is counted twice, and unknown is never 0."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from assay.storage import Store
from assay.trace import Span, SpanWriter
from assay.trace.costs import By, Charged, charged, costs
from assay.types import Cost, Usage

DAY_NS = 86_400_000_000_000
MIDNIGHT_NS = 20_000 * DAY_NS


def span(number: int, cost: Cost | None, **fields: object) -> Span:
    at = MIDNIGHT_NS + number * 1_000
    values: dict[str, object] = {"model": "fast", "operation": "chat", "key_id": "k1", "purpose": "call"}
    values |= {"name": "n", "start_ns": at, "end_ns": at + 1, "usage": Usage(input=2, output=3)}
    return Span("a" * 32, f"{number:016x}", cost=cost, **(values | fields))  # type: ignore[arg-type]


SPANS = [
    span(1, Cost("exact", Decimal("0.25")), attributes={"gen_ai.response.model": "gpt"}),
    span(2, Cost("estimated", Decimal("0.5")), key_id=None, prompt="p@1", purpose="eval"),
    span(3, Cost("unknown", None), status="error", start_ns=MIDNIGHT_NS - 1),
    span(4, Cost("unknown", None), operation="try", model="slow", parent_id=f"{1:016x}", usage=None),
    span(5, None, status="error", usage=None),
    span(6, Cost("exact", Decimal(0)), key_id="k2"),
]


COUNTS = {"calls": 4, "tries": 1, "estimated": 1, "unknown": 2}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(f"sqlite:///{tmp_path}/assay.db")
    writer = SpanWriter(opened)
    for one in SPANS:
        writer.record(one)
    writer.close()
    yield opened
    opened.close()


@pytest.mark.parametrize("by", ["key", "model", "prompt", "route", "purpose", "day"])
def test_whatever_it_is_summed_by_the_whole_is_the_sum_of_the_spans(store: Store, by: By) -> None:
    found = costs(store, by)
    assert sum(one.exact_usd for one in found) == Decimal("0.25")
    assert sum(one.estimated_usd for one in found) == Decimal("0.5")
    counts = {name: sum(getattr(one, name) for one in found) for name in COUNTS}
    assert counts == COUNTS
    assert sum(one.tokens_out for one in found) == 12


def test_names_are_those_that_were_asked_for(store: Store) -> None:
    def names(by: By) -> dict[str | None, Decimal]:
        return {one.name: one.known_usd for one in costs(store, by)}

    assert names("key") == {None: Decimal("0.5"), "k1": Decimal("0.25"), "k2": Decimal(0)}
    assert names("model") == {"fast": Decimal("0.5"), "gpt": Decimal("0.25"), "slow": Decimal(0)}
    # A try is part of its call, whatever it was tried at.
    assert names("route") == {"fast": Decimal("0.75")}
    assert names("prompt") == {"p@1": Decimal("0.5"), None: Decimal("0.25")}
    assert names("purpose") == {"eval": Decimal("0.5"), "call": Decimal("0.25")}
    assert [one.name for one in costs(store, "day")] == ["2024-10-03", "2024-10-04"]
    [later] = costs(store, "purpose", since_ns=MIDNIGHT_NS + 6_000, until_ns=MIDNIGHT_NS + 7_000)
    assert (later.calls, later.known_usd) == (1, 0)


def test_what_the_ledger_is_compared_with(store: Store) -> None:
    quarter = 250_000_000_000
    assert charged(store) == {
        ("k1", "2024-10-03"): Charged(0, 1, 1),
        ("k1", "2024-10-04"): Charged(quarter, 2, 1),
    }
