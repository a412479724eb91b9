"""The tables of the prompt store: immutable versions, and every place where a label ever stood."""

from __future__ import annotations

import sqlalchemy as sa

from assay.storage import metadata

prompt_versions = sa.Table(
    "prompt_versions",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    # sha256 of the canonical source, in hex; people use the first twelve.
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("created_ns", sa.BigInteger, nullable=False),
)

prompt_labels = sa.Table(
    "prompt_labels",
    metadata,
    # Append-only: the newest row of (name, label) is where the label stands; undo appends the one before.
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("moved_ns", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.ForeignKeyConstraint(["name", "digest"], ["prompt_versions.name", "prompt_versions.digest"]),
    sa.Index("ix_prompt_labels_name", "name", "label"),
)
