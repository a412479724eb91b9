"""The table of keys. No key is in it, only what tells the right one from any other."""

from __future__ import annotations

import sqlalchemy as sa

from assay.storage import Json, metadata

keys = sa.Table(
    "keys",
    metadata,
    # The public part of the key.
    sa.Column("id", sa.String(10), primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("team", sa.Text),
    # Globs over the names of models and routes: a JSON list.
    sa.Column("models", Json, nullable=False),
    sa.Column("console", sa.Boolean, nullable=False),
    # What it may ask: the Limits as a JSON object; null: whatever it likes.
    sa.Column("limits", Json),
    # SHA-256 of the whole key, in hex; and of the one before, while it may still be used.
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("old_digest", sa.String(64)),
    sa.Column("old_until_ns", sa.BigInteger),
    sa.Column("created_ns", sa.BigInteger, nullable=False),
    sa.Column("rotated_ns", sa.BigInteger),
    sa.Column("expires_ns", sa.BigInteger),
    sa.Column("revoked_ns", sa.BigInteger),
    sa.Column("last_used_ns", sa.BigInteger),
    # Counts the changes to this table, but for `last_used_ns`: who has read up to one sees what came later.
    sa.Column("version", sa.BigInteger, nullable=False, index=True),
)
