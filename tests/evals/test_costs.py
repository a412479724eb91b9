"""Sums of costs: exact, and unknown as soon as one part is."""

from __future__ import annotations

from decimal import Decimal

import pytest

from assay.evals.costs import Spend, dollars, total
from assay.types import Cost

EXACT = Cost("exact", Decimal("0.1"), "list")
ABOUT = Cost("estimated", Decimal("0.2"), "list")
UNKNOWN = Cost("unknown", None, "no price")


def test_a_sum_is_exact_to_the_last_digit() -> None:
    assert total([EXACT] * 3).usd == Decimal("0.3")


@pytest.mark.parametrize(
    ("costs", "kind", "per_two", "text"),
    [
        ([], "exact", Decimal(0), "$0"),
        ([None, None], "exact", Decimal(0), "$0"),
        ([EXACT, EXACT], "exact", Decimal("0.1"), "$0.2"),
        ([EXACT, ABOUT], "estimated", Decimal("0.15"), "about $0.3"),
        ([EXACT, UNKNOWN], "unknown", None, "$0.1 and 1 of unknown cost"),
        ([ABOUT, UNKNOWN, None], "unknown", None, "about $0.2 and 1 of unknown cost"),
        ([UNKNOWN, UNKNOWN], "unknown", None, "unknown"),
    ],
)
def test_the_worst_kind_is_the_kind_of_the_sum(costs, kind: str, per_two: Decimal | None, text: str) -> None:
    spend = total(costs)
    assert (spend.kind, spend.per(2), str(spend)) == (kind, per_two, text)
    assert spend + Spend() == spend == total(costs[:1]) + total(costs[1:])


def test_small_amounts_are_not_rounded_away() -> None:
    amounts = ["0.00000123", "0.0999", "0.5", "1.005", "120", "-0.002"]
    assert [dollars(Decimal(amount)) for amount in amounts] == [
        "$0.00000123",
        "$0.0999",
        "$0.5",
        "$1.00",
        "$120.00",
        "$-0.002",
    ]
