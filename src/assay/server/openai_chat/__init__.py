"""Chat completions towards callers, as pure translation. Sockets belong to assay.server.calls.

    request, options = parse(body)                      # bytes -> Request; raises RequestError
    encode_response(response)                           # Response -> bytes
    encoder = StreamEncoder(options)                    # Event -> bytes, as server-sent events
    status, body = encode_error(error)                  # AssayError -> status and bytes

The upstream side of the same dialect is assay.providers.openai_chat.
"""

from __future__ import annotations

from assay.providers.openai_chat.vocabulary import DIALECT
from assay.server.dialect import Dialect, Parsed, Written
from assay.server.openai_chat.errors import encode_error
from assay.server.openai_chat.parse import Options, parse
from assay.server.openai_chat.reply import StreamEncoder, dropped, encode_response
from assay.types import Response

__all__ = ["CHAT_COMPLETIONS", "Options", "StreamEncoder", "encode_error", "encode_response", "parse"]


def _parse(body: bytes, _model: str) -> Parsed:
    return Parsed(*parse(body))


def _write(response: Response, _options: Options | None) -> Written:
    return Written(encode_response(response), dropped(response))


def _stream(options: Options | None) -> StreamEncoder:
    return StreamEncoder(options or Options())


CHAT_COMPLETIONS = Dialect(DIALECT, _parse, _write, _stream, encode_error, forwarded=("openai-beta",))
"""POST /v1/chat/completions."""
