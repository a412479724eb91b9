"""Replies that may be given again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "cached_replies",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("made_ns", sa.BigInteger(), nullable=False),
        sa.Column("expires_ns", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("partition", sa.String(length=64), nullable=True),
        sa.Column("vector", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_cached_replies")),
    )
    op.create_index(op.f("ix_cached_replies_made_ns"), "cached_replies", ["made_ns"], unique=False)
    op.create_index(op.f("ix_cached_replies_expires_ns"), "cached_replies", ["expires_ns"], unique=False)
    op.create_index("ix_cached_replies_partition", "cached_replies", ["partition", "made_ns"], unique=False)
    op.create_table(
        "cache_clears",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("at_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("model", name=op.f("pk_cache_clears")),
    )
