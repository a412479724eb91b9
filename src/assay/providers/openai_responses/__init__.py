"""The Responses API towards an upstream: pure translation. Callers' side: assay.server.openai_responses."""

from __future__ import annotations

from assay.providers.openai_responses.wire import OpenAIResponses

__all__ = ["OpenAIResponses"]
