"""Chat completions towards an upstream, as pure translation. The callers' side: assay.server.openai_chat."""

from __future__ import annotations

from assay.providers.openai_chat.wire import OpenAIChat

__all__ = ["OpenAIChat"]
