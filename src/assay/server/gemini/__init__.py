"""Gemini's API towards callers, as pure translation. Sockets and paths belong to assay.server.

    parsed = GENERATE.parse(body, "gemini-2.5-flash")   # bytes -> Request; raises RequestError
    GENERATE.write(response, parsed.options)            # Response -> bytes
    encoder = STREAM_SSE.stream(parsed.options)         # Event -> bytes
    status, body = GENERATE.error(error)                # AssayError -> status and bytes

The upstream side of the same dialect is assay.providers.gemini.
"""

from __future__ import annotations

from functools import partial

from assay.providers.gemini.vocabulary import DIALECT
from assay.server.dialect import Dialect
from assay.server.gemini.errors import encode_error
from assay.server.gemini.models import model, model_list
from assay.server.gemini.parse import Options, parse_batch, parse_count, parse_embed, parse_generate
from assay.server.gemini.reply import write_batch, write_count, write_embed, write_generate
from assay.server.gemini.stream import ArrayEncoder, SseEncoder, no_stream

__all__ = [
    "BATCH_EMBED",
    "COUNT_TOKENS",
    "EMBED",
    "GENERATE",
    "STREAM_ARRAY",
    "STREAM_SSE",
    "ArrayEncoder",
    "Options",
    "SseEncoder",
    "encode_error",
    "model",
    "model_list",
]

_whole = partial(parse_generate, stream=False)
_streamed = partial(parse_generate, stream=True)

GENERATE = Dialect(DIALECT, _whole, write_generate, SseEncoder, encode_error, streamed=False)
"""POST /v1beta/models/{model}:generateContent."""
STREAM_SSE = Dialect(DIALECT, _streamed, write_generate, SseEncoder, encode_error, streamed=True)
"""POST /v1beta/models/{model}:streamGenerateContent?alt=sse."""
STREAM_ARRAY = Dialect(DIALECT, _streamed, write_generate, ArrayEncoder, encode_error, streamed=True)
"""POST /v1beta/models/{model}:streamGenerateContent, without alt=sse."""
EMBED = Dialect(
    DIALECT, parse_embed, write_embed, no_stream, encode_error, operation="embeddings", streamed=False
)
"""POST /v1beta/models/{model}:embedContent."""
BATCH_EMBED = Dialect(
    DIALECT, parse_batch, write_batch, no_stream, encode_error, operation="embeddings", streamed=False
)
"""POST /v1beta/models/{model}:batchEmbedContents."""
COUNT_TOKENS = Dialect(
    DIALECT, parse_count, write_count, no_stream, encode_error, operation="count_tokens", streamed=False
)
"""POST /v1beta/models/{model}:countTokens."""
