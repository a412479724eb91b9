"""Anthropic's Messages towards an upstream, as pure translation. Callers: assay.server.anthropic."""

from __future__ import annotations

from assay.providers.anthropic.wire import Anthropic

__all__ = ["Anthropic"]
