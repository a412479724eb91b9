"""Limits: how much may be asked of a model, or by a key. Who counts is assay.gateway.limits."""

from __future__ import annotations

from typing import Final

from assay.types.content import Value


class Limits(Value, forbid_unknown_fields=True):
    """What may be asked within a minute, and at once. What is left out is not limited."""

    requests_per_minute: int | None = None
    """Calls a minute; so many may also come at once after a quiet minute."""
    tokens_per_minute: int | None = None
    """Tokens a minute, read and written together: estimated before a call, corrected after it."""
    at_once: int | None = None
    """Calls under way at the same time."""


UNLIMITED: Final = Limits()
