"""The tables of datasets: immutable versions made of content-addressed examples. Experiments are runs."""

from __future__ import annotations

import sqlalchemy as sa

from assay.storage import Json, metadata

examples = sa.Table(
    "examples",
    metadata,
    # blake2b-128 of the example's canonical JSON, in hex.
    sa.Column("example_id", sa.String(32), primary_key=True),
    sa.Column("body", Json, nullable=False),
)

datasets = sa.Table(
    "datasets",
    metadata,
    # blake2b-128 of the ordered example ids, in hex.
    sa.Column("digest", sa.String(32), primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("size", sa.Integer, nullable=False),
    # When it was last saved: the newest is what the name stands for.
    sa.Column("saved_ns", sa.BigInteger, nullable=False),
)

members = sa.Table(
    "dataset_examples",
    metadata,
    sa.Column("digest", sa.String(32), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("example_id", sa.String(32), sa.ForeignKey("examples.example_id"), nullable=False),
)
