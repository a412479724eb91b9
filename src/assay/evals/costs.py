"""Sums of costs, in which what is unknown stays unknown. Prices live in assay.prices."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Literal

from assay.types import JSON, Cost, Value


class Spend(Value):
    """What several calls cost: the sum of what is known, and how many are only estimated or not known.

    >>> str(total([Cost("exact", Decimal("0.012")), Cost("unknown", None, "no price")]))
    '$0.012 and 1 of unknown cost'
    """

    usd: Decimal = Decimal(0)
    calls: int = 0
    estimated: int = 0
    unknown: int = 0

    @property
    def kind(self) -> Literal["exact", "estimated", "unknown"]:
        """Of the whole sum: it is unknown as soon as one part is."""
        if self.unknown:
            return "unknown"
        return "estimated" if self.estimated else "exact"

    def as_json(self) -> dict[str, JSON]:
        """For programs: `usd` is null as soon as a part is unknown; `known_usd` is the sum of the others."""
        known = str(self.usd)
        counts = {"calls": self.calls, "estimated": self.estimated, "unknown": self.unknown}
        return {"usd": None if self.unknown else known, "known_usd": known, **counts}

    def plus(self, cost: Cost | None) -> Spend:
        """With one more call; None is no call at all."""
        if cost is None:
            return self
        return Spend(
            self.usd + (cost.usd or 0),
            self.calls + 1,
            self.estimated + (cost.kind == "estimated"),
            self.unknown + (cost.kind == "unknown"),
        )

    def __add__(self, other: Spend) -> Spend:
        return Spend(
            self.usd + other.usd,
            self.calls + other.calls,
            self.estimated + other.estimated,
            self.unknown + other.unknown,
        )

    def per(self, count: int) -> Decimal | None:
        """US dollars for each of `count`; None when a part of the sum is unknown."""
        return None if self.unknown or not count else self.usd / count

    def __str__(self) -> str:
        known = f"{'about ' if self.estimated else ''}{dollars(self.usd)}"
        if not self.unknown:
            return known
        return "unknown" if self.unknown == self.calls else f"{known} and {self.unknown} of unknown cost"


def total(costs: Iterable[Cost | None]) -> Spend:
    """The sum of many."""
    spend = Spend()
    for cost in costs:
        spend = spend.plus(cost)
    return spend


def dollars(usd: Decimal) -> str:
    """US dollars for people: cents from a dollar on, three significant digits below, never rounded to 0.

    >>> dollars(Decimal("12.346")), dollars(Decimal("0.0001234")), dollars(Decimal(0))
    ('$12.35', '$0.000123', '$0')
    """
    if not usd:
        return "$0"
    if abs(usd) >= 1:
        return f"${usd:.2f}"
    digits = 2 - usd.adjusted()
    return f"${usd:.{digits}f}".rstrip("0").rstrip(".")
