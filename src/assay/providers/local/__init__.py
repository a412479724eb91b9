"""A model that runs in this process, on llama.cpp. Where its weights come from: assay.providers.weights."""

from __future__ import annotations

from assay.providers.local.model import LocalModel

__all__ = ["LocalModel"]
