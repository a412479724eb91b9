"""Gemini's API towards an upstream, as pure translation. The callers' side: assay.server.gemini."""

from __future__ import annotations

from assay.providers.gemini.wire import Gemini

__all__ = ["Gemini"]
