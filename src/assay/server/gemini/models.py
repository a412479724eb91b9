"""The list of models in Gemini's words: GET /v1beta/models and /v1beta/models/{name}."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from assay.app import ModelInfo

_METHODS = (
    "generateContent",
    "streamGenerateContent",
    "countTokens",
    "embedContent",
    "batchEmbedContents",
)


def model_list(infos: Iterable[ModelInfo]) -> bytes:
    """All models, on one page."""
    return msgspec.json.encode({"models": [_model(info) for info in infos]})


def model(info: ModelInfo) -> bytes:
    return msgspec.json.encode(_model(info))


def _model(info: ModelInfo) -> dict[str, Any]:
    return {
        "name": f"models/{info.name}",
        "baseModelId": info.name,
        "version": info.model,
        "displayName": info.name,
        "description": f"{info.model} of {info.provider}",
        "supportedGenerationMethods": _METHODS,
    }
