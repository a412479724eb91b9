"""Anthropic's Messages towards callers, as pure translation. Sockets belong to assay.server.calls.

    MESSAGES            POST /v1/messages
    COUNT_TOKENS        POST /v1/messages/count_tokens
    model, model_list   GET /v1/models

The upstream side of the same dialect is assay.providers.anthropic.
"""

from __future__ import annotations

from assay.providers.anthropic.vocabulary import DIALECT
from assay.server.anthropic.errors import encode_error
from assay.server.anthropic.models import model, model_list
from assay.server.anthropic.parse import parse, parse_count
from assay.server.anthropic.reply import write, write_count
from assay.server.anthropic.stream import MessageStream
from assay.server.dialect import Dialect

__all__ = ["COUNT_TOKENS", "MESSAGES", "MessageStream", "model", "model_list"]

_FORWARDED = ("anthropic-version", "anthropic-beta")

MESSAGES = Dialect(DIALECT, parse, write, MessageStream, encode_error, forwarded=_FORWARDED)
"""POST /v1/messages."""

COUNT_TOKENS = Dialect(
    DIALECT,
    parse_count,
    write_count,
    MessageStream,
    encode_error,
    _FORWARDED,
    operation="count_tokens",
    streamed=False,
)
"""POST /v1/messages/count_tokens. Its calls are never streamed."""
