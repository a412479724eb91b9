"""The tables of durable runs: what was begun, and the append-only log of what was done."""

from __future__ import annotations

import sqlalchemy as sa

from assay.storage import Json, metadata

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("run_id", sa.String(32), primary_key=True),
    sa.Column("kind", sa.Text, nullable=False, index=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("spec", Json, nullable=False),
    # blake2b of the spec: the same command finds the run that it began.
    sa.Column("spec_digest", sa.String(32), nullable=False, index=True),
    sa.Column("status", sa.String(12), nullable=False),
    sa.Column("trace_id", sa.String(32), nullable=False),
    sa.Column("created_ns", sa.BigInteger, nullable=False),
    sa.Column("ended_ns", sa.BigInteger),
    sa.Column("lease_owner", sa.Text),
    sa.Column("lease_until_ns", sa.BigInteger),
)

steps = sa.Table(
    "steps",
    metadata,
    sa.Column("run_id", sa.String(32), sa.ForeignKey("runs.run_id"), primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    # What the step is, in the run's own words: a key that has an outcome is never executed again.
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("body", Json, nullable=False),
    sa.Column("at_ns", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("run_id", "key"),
)
