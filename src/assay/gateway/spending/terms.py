"""The words of spending: budgets, their periods, accounts and sums. Money is in whole picodollars (1e-12)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec

from assay.types import Value

Kind: TypeAlias = Literal["key", "team"]
Per: TypeAlias = Literal["day", "month", "total"]

PERS: Final[tuple[Per, ...]] = ("day", "month", "total")
DAY_NS: Final = 86_400_000_000_000
PICO: Final = 10**12


class Budget(Value):
    """What a key, by its id, or a team, by its name, may spend in a period. None: no longer limited."""

    kind: Kind
    holder: str
    per: Per
    limit_pico: int | None
    version: int = 0


class Account(NamedTuple):
    """A budget in one period: `2026-11-24`, `2026-11` (both UTC) or `total`."""

    kind: Kind
    holder: str
    period: str

    @property
    def per(self) -> Per:
        return per_of(self.period)


class Line(NamedTuple):
    """Where spending is written down. `team` is that of the key when it called, or empty."""

    key_id: str
    team: str
    day: str


class Sums(msgspec.Struct):
    """What came to a line. `settled` is what calls cost; `uncertain` what was reserved for `unknown` others,
    and the rest of what was reserved for calls of which only the least is known.

    `calls` are those that cost anything or whose cost is unknown, tries that failed included.
    """

    settled: int = 0
    uncertain: int = 0
    calls: int = 0
    unknown: int = 0

    def add(self, other: Sums) -> None:
        self.settled += other.settled
        self.uncertain += other.uncertain
        self.calls += other.calls
        self.unknown += other.unknown


class Standing(Value, omit_defaults=False):
    """How a budget stands in its period; `left_pico` may be below zero. `reserved` is for calls under way."""

    kind: Kind
    holder: str
    per: Per
    period: str
    limit_pico: int
    spent_pico: int
    uncertain_pico: int
    reserved_pico: int
    resets_ns: int | None

    @property
    def left_pico(self) -> int:
        return self.limit_pico - self.spent_pico - self.reserved_pico


class Exceeded(Exception):
    """A budget has less left than a call may need."""

    def __init__(self, standing: Standing, need_pico: int) -> None:
        super().__init__(f"{standing.kind} {standing.holder}")
        self.standing = standing
        self.need_pico = need_pico


def day_of(at_ns: int) -> str:
    """
    >>> day_of(1_700_000_000_000_000_000)
    '2023-11-14'
    """
    return _day(at_ns // DAY_NS)


@lru_cache(maxsize=64)
def _day(number: int) -> str:
    return datetime.fromtimestamp(number * DAY_NS // 1_000_000_000, UTC).strftime("%Y-%m-%d")


def period_of(per: Per, day: str) -> str:
    """The period that a day belongs to."""
    match per:
        case "day":
            return day
        case "month":
            return day[:7]
        case "total":
            return "total"


def per_of(period: str) -> Per:
    return "total" if period == "total" else "month" if len(period) == 7 else "day"


def days_of(period: str) -> tuple[str, str]:
    """The first and the last day of a period, as they are compared: text by text."""
    if period == "total":
        return "", "9999-99-99"
    return (period, period) if len(period) == 10 else (f"{period}-01", f"{period}-31")


def end_ns(period: str) -> int | None:
    """When a period is over; None for `total`.

    >>> end_ns("2026-12") == end_ns("2026-12-31")
    True
    """
    if period == "total":
        return None
    if len(period) == 10:
        after = datetime.fromisoformat(period) + timedelta(days=1)
    else:
        year, month = int(period[:4]), int(period[5:])
        after = datetime(year + month // 12, month % 12 + 1, 1)
    return int(after.replace(tzinfo=UTC).timestamp()) * 1_000_000_000


def pico(usd: Decimal) -> int:
    """Whole picodollars, rounded up: what is reserved is never too little."""
    return int((usd * PICO).to_integral_value(ROUND_CEILING))


def usd(picodollars: int) -> Decimal:
    return Decimal(picodollars) / PICO
