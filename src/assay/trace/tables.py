"""The tables of the trace store: spans, and the messages that they refer to."""

from __future__ import annotations

import sqlalchemy as sa

from assay.storage import metadata

messages = sa.Table(
    "messages",
    metadata,
    # blake2b-128 of (parent, body), in hex: a conversation is a path, and equal prefixes are stored once.
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("parent_id", sa.String(32), sa.ForeignKey("messages.id")),
    sa.Column("body", sa.Text, nullable=False),
)

spans = sa.Table(
    "spans",
    metadata,
    sa.Column("span_id", sa.String(16), primary_key=True),
    sa.Column("trace_id", sa.String(32), nullable=False, index=True),
    sa.Column("parent_id", sa.String(16)),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("operation", sa.Text, nullable=False),
    sa.Column("start_ns", sa.BigInteger, nullable=False, index=True),
    sa.Column("end_ns", sa.BigInteger, nullable=False),
    sa.Column("status", sa.String(8), nullable=False),
    sa.Column("error_type", sa.Text),
    sa.Column("error_message", sa.Text),
    sa.Column("provider", sa.Text),
    sa.Column("model", sa.Text),
    sa.Column("purpose", sa.Text),
    sa.Column("prompt", sa.Text),
    sa.Column("key_id", sa.Text),
    sa.Column("tokens_in", sa.BigInteger),
    sa.Column("tokens_out", sa.BigInteger),
    sa.Column("cost_kind", sa.String(9)),
    # Whole picodollars (1e-12 USD): sums are exact.
    sa.Column("cost_pico", sa.BigInteger),
    sa.Column("input_id", sa.String(32), sa.ForeignKey("messages.id")),
    # Ids of messages, with spaces between.
    sa.Column("output_ids", sa.Text),
    # A JSON object.
    sa.Column("attributes", sa.Text, nullable=False),
    # What a caller may name to go on from this call, or to read its reply again.
    sa.Column("response_id", sa.Text, index=True),
)
