"""Budgets, what was spent, and what workers hold of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "budgets",
        sa.Column("kind", sa.String(length=4), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("per", sa.String(length=5), nullable=False),
        sa.Column("limit_pico", sa.BigInteger(), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "holder", "per", name=op.f("pk_budgets")),
    )
    op.create_index(op.f("ix_budgets_version"), "budgets", ["version"], unique=False)
    op.create_table(
        "spending",
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("team", sa.Text(), nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("settled_pico", sa.BigInteger(), nullable=False),
        sa.Column("uncertain_pico", sa.BigInteger(), nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("unknown", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key_id", "team", "day", name=op.f("pk_spending")),
    )
    op.create_index(op.f("ix_spending_team"), "spending", ["team", "day"], unique=False)
    op.create_table(
        "allowances",
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(length=4), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("period", sa.String(length=10), nullable=False),
        sa.Column("held_pico", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("worker", "kind", "holder", "period", name=op.f("pk_allowances")),
    )
    op.create_index(op.f("ix_allowances_kind"), "allowances", ["kind", "holder", "period"], unique=False)
    op.create_table(
        "spenders",
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("until_ns", sa.BigInteger(), nullable=False),
        sa.Column("journal", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("worker", name=op.f("pk_spenders")),
    )
