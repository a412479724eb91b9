"""The tables of spending. Sums of money are whole picodollars."""

from __future__ import annotations

import sqlalchemy as sa

from assay.storage import metadata

budgets = sa.Table(
    "budgets",
    metadata,
    # key or team, and the key's id or the team's name.
    sa.Column("kind", sa.String(4), primary_key=True),
    sa.Column("holder", sa.Text, primary_key=True),
    # day, month or total.
    sa.Column("per", sa.String(5), primary_key=True),
    # None: it was removed, which workers have to hear.
    sa.Column("limit_pico", sa.BigInteger),
    sa.Column("version", sa.BigInteger, nullable=False, index=True),
)

spending = sa.Table(
    "spending",
    metadata,
    sa.Column("key_id", sa.Text, primary_key=True),
    # The key's team when it called, or empty.
    sa.Column("team", sa.Text, primary_key=True),
    # 2026-11-24, in UTC: when the call began.
    sa.Column("day", sa.String(10), primary_key=True),
    sa.Column("settled_pico", sa.BigInteger, nullable=False),
    sa.Column("uncertain_pico", sa.BigInteger, nullable=False),
    sa.Column("calls", sa.BigInteger, nullable=False),
    sa.Column("unknown", sa.BigInteger, nullable=False),
    sa.Index("ix_spending_team", "team", "day"),
)

allowances = sa.Table(
    "allowances",
    metadata,
    sa.Column("worker", sa.Text, primary_key=True),
    sa.Column("kind", sa.String(4), primary_key=True),
    sa.Column("holder", sa.Text, primary_key=True),
    # 2026-11-24, 2026-11 or total.
    sa.Column("period", sa.String(10), primary_key=True),
    sa.Column("held_pico", sa.BigInteger, nullable=False),
    sa.Index("ix_allowances_kind", "kind", "holder", "period"),
)

spenders = sa.Table(
    "spenders",
    metadata,
    # A worker that holds allowances: assay.runs.lease.Owner as text, and until when it is taken for alive.
    sa.Column("worker", sa.Text, primary_key=True),
    sa.Column("until_ns", sa.BigInteger, nullable=False),
    # The name of its journal, and up to where `spending` has what stands in it.
    sa.Column("journal", sa.Text, nullable=False),
    sa.Column("position", sa.BigInteger, nullable=False),
)
