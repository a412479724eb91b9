"""Spans know the id of the reply that they brought, so that a later call can go on from it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("spans", sa.Column("response_id", sa.Text(), nullable=True))
    op.create_index(op.f("ix_spans_response_id"), "spans", ["response_id"], unique=False)
