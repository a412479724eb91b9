"""What calls have cost, summed over spans: exact, estimated and unknown apart. Budgets are the gateway's.

Every span with a cost counts once: calls, and the tries of a call that failed before another one answered.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final, Literal, TypeAlias

import sqlalchemy as sa

from assay.storage import Store
from assay.trace.rows import dollars
from assay.trace.tables import spans
from assay.types import Value

By: TypeAlias = Literal["key", "model", "prompt", "route", "purpose", "day"]
DAY_NS: Final = 86_400_000_000_000


class CostSum(Value, omit_defaults=False):
    """What came to one value of what was asked for; None where spans have none: calls without a key.

    `unknown` counts calls and tries whose cost nobody knows: their dollars are in neither sum.
    """

    name: str | None
    calls: int
    tries: int
    exact_usd: Decimal
    estimated_usd: Decimal
    estimated: int
    unknown: int
    tokens_in: int
    tokens_out: int

    @property
    def known_usd(self) -> Decimal:
        return self.exact_usd + self.estimated_usd

    def plus(self, other: CostSum) -> CostSum:
        """Both together, under the name of this one."""
        return CostSum(
            self.name,
            self.calls + other.calls,
            self.tries + other.tries,
            self.exact_usd + other.exact_usd,
            self.estimated_usd + other.estimated_usd,
            self.estimated + other.estimated,
            self.unknown + other.unknown,
            self.tokens_in + other.tokens_in,
            self.tokens_out + other.tokens_out,
        )


def costs(store: Store, by: By, *, since_ns: int | None = None, until_ns: int | None = None) -> list[CostSum]:
    """The sums of the spans that began in that time, the dearest first; days in their order.

    `model` is the one that answered, by its provider's name; `route` the name that the caller used.
    """
    calls, tries = spans.alias("calls"), spans.c
    whose = _column(by, calls)
    cost: list[sa.ColumnElement[bool]] = [spans.c.cost_kind.is_not(None)]
    if since_ns is not None:
        cost.append(spans.c.start_ns >= since_ns)
    if until_ns is not None:
        cost.append(spans.c.start_ns < until_ns)
    is_try = tries.operation == "try"
    source: Any = spans
    if by == "route":
        # A try is called by the name of its target: its call has the caller's.
        source = spans.outerjoin(calls, sa.and_(is_try, calls.c.span_id == spans.c.parent_id))

    def of_kind(kind: str) -> sa.ColumnElement[int]:
        return sa.func.coalesce(
            sa.func.sum(sa.case((spans.c.cost_kind == kind, spans.c.cost_pico), else_=0)), 0
        )

    def count(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
        return sa.func.sum(sa.case((condition, 1), else_=0))

    query = sa.select(
        whose.label("name"),
        count(sa.not_(is_try)),
        count(is_try),
        of_kind("exact"),
        of_kind("estimated"),
        count(spans.c.cost_kind == "estimated"),
        count(spans.c.cost_kind == "unknown"),
        sa.func.coalesce(sa.func.sum(spans.c.tokens_in), 0),
        sa.func.coalesce(sa.func.sum(spans.c.tokens_out), 0),
    )
    query = query.select_from(source).where(*cost).group_by(whose)
    with store.read() as connection:
        found = [_sum(by, *row) for row in connection.execute(query)]
    if by == "day":
        return sorted(found, key=lambda one: one.name or "")
    return sorted(found, key=lambda one: (-one.known_usd, -one.calls, one.name or ""))


def _column(by: By, calls: Any) -> sa.ColumnElement[Any]:
    match by:
        case "key":
            return spans.c.key_id
        case "model":
            answered = sa.func.json_extract(spans.c.attributes, '$."gen_ai.response.model"')
            return sa.func.coalesce(answered, spans.c.model)
        case "prompt":
            return spans.c.prompt
        case "purpose":
            return spans.c.purpose
        case "route":
            return sa.func.coalesce(calls.c.model, spans.c.model)
        case "day":
            return sa.func.strftime("%Y-%m-%d", spans.c.start_ns // sa.literal(1_000_000_000), "unixepoch")


def _sum(by: By, name: str | None, *values: Any) -> CostSum:
    calls, tries, exact, estimated, estimates, unknown, tokens_in, tokens_out = values
    return CostSum(
        name, calls, tries, dollars(exact), dollars(estimated), estimates, unknown, tokens_in, tokens_out
    )


class Charged(Value):
    """What the spans of one key on one day say: picodollars that are known, and how many calls and tries."""

    pico: int
    calls: int
    unknown: int


def charged(store: Store) -> dict[tuple[str, str], Charged]:
    """By a key's id and the day (in UTC), for the check of the ledger. What was free is not counted."""
    day = _column("day", spans).label("day")
    unknown = sa.func.sum(sa.case((spans.c.cost_kind == "unknown", 1), else_=0))
    known = sa.func.coalesce(sa.func.sum(spans.c.cost_pico), 0)
    query = sa.select(spans.c.key_id, day, known, sa.func.count(), unknown)
    costly = sa.or_(spans.c.cost_kind == "unknown", spans.c.cost_pico != 0)
    query = query.where(spans.c.key_id.is_not(None), costly).group_by(spans.c.key_id, day)
    with store.read() as connection:
        return {(row[0], row[1]): Charged(row[2], row[3], row[4]) for row in connection.execute(query)}
