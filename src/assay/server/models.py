"""The models that callers may name, in the words of each family of SDKs. Which there are, the App knows."""

from __future__ import annotations

from typing import Any

import msgspec

from assay.app import App, ModelInfo
from assay.errors import NotFound
from assay.gateway.keys import check_model
from assay.keys import Key
from assay.server import anthropic, gemini
from assay.server.asgi import Scope
from assay.server.routes import family, page


def usable(app: App, key: Key | None) -> list[ModelInfo]:
    """Those that the key may use; all of them without one."""
    return [info for info in app.models if key is None or key.allows(info.name)]


def listed(app: App, scope: Scope, key: Key | None) -> bytes:
    """All that the key may use."""
    found = usable(app, key)
    match family(scope):
        case "openai":
            body = {"object": "list", "data": [_openai(info) for info in found]}
            return msgspec.json.encode(body)
        case "anthropic":
            return anthropic.model_list(found, **page(scope))  # type: ignore[arg-type]
        case "gemini":
            return gemini.model_list(found)


def one(app: App, scope: Scope, name: str, key: Key | None) -> bytes:
    """One of them. Raises NotFound, and Forbidden for one that the key may not use."""
    if key is not None:
        check_model(key, name)
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
