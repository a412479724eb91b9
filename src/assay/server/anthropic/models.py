"""The models that callers may name, as Anthropic's /v1/models tells them. Which there are, the App knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

# Anthropic's own word for a release date that nobody knows.
_EPOCH = "1970-01-01T00:00:00Z"


class Named(Protocol):
    """Such as assay.app.ModelInfo."""

    @property
    def name(self) -> str: ...


def model(info: Named) -> bytes:
    """One model."""
    return msgspec.json.encode(_model(info))


def model_list(
    models: Sequence[Named],
    *,
    limit: int | None = None,
    after_id: str | None = None,
    before_id: str | None = None,
) -> bytes:
    """A page of them: at most `limit`, behind `after_id` or just before `before_id`; else all.

    A name that is not there is as good as none.
    """
    names = [info.name for info in models]
    page = list(models)
    if after_id in names:
        page = page[names.index(after_id) + 1 :]
    elif before_id in names:
        page = page[: names.index(before_id)]
    more = False
    if limit is not None and len(page) > limit:
        more = True
        page = page[-limit:] if before_id in names and after_id not in names else page[:limit]
    body = {
        "data": [_model(info) for info in page],
        "has_more": more,
        "first_id": page[0].name if page else None,
        "last_id": page[-1].name if page else None,
    }
    return msgspec.json.encode(body)


def _model(info: Named) -> dict[str, Any]:
    return {
        "type": "model",
        "id": info.name,
        "display_name": info.name,
        "created_at": _EPOCH,
        "lifecycle": "active",
        "line": None,
        "max_input_tokens": None,
        "max_tokens": None,
        "deprecated_at": None,
        "retires_at": None,
        "capabilities": None,
    }
