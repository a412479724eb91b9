"""Storage: the engine, transactions and migrations. Rooms own their tables and their SQL."""

from __future__ import annotations

from assay.storage.engine import Json, Store, metadata

__all__ = ["Json", "Store", "metadata"]
