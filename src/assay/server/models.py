"""The models that callers may name, in the words of each family of SDKs. Which there are, the App knows."""

from __future__ import annotations

from typing import Any

import msgspec

from assay.app import App, ModelInfo
from assay.errors import NotFound
from assay.server import anthropic, gemini
from assay.server.asgi import Scope
from assay.server.routes import family, page


def listed(app: App, scope: Scope) -> bytes:
    """All of them."""
    match family(scope):
        case "openai":
            body = {"object": "list", "data": [_openai(info) for info in app.models]}
            return msgspec.json.encode(body)
        case "anthropic":
            return anthropic.model_list(app.models, **page(scope))  # type: ignore[arg-type]
        case "gemini":
            return gemini.model_list(app.models)


def one(app: App, scope: Scope, name: str) -> bytes:
    """One of them. Raises NotFound."""
    found = next((info for info in app.models if info.name == name), None)
    if found is None:
        raise NotFound(
            f"Model {name!r} is not configured; GET {scope['path'].rpartition('/models/')[0]}/models lists "
            "what is",
            code="model_not_found",
        )
    match family(scope):
        case "openai":
            return msgspec.json.encode(_openai(found))
        case "anthropic":
            return anthropic.model(found)
        case "gemini":
            return gemini.model(found)


def _openai(info: ModelInfo) -> dict[str, Any]:
    return {"id": info.name, "object": "model", "created": 0, "owned_by": info.provider}
