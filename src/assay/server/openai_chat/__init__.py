"""Chat completions towards callers, as pure translation. Sockets and paths belong to assay.server.chat.

    request, options = parse(body)                      # bytes -> Request; raises RequestError
    encode_response(response)                           # Response -> bytes
    encoder = StreamEncoder(options)                    # Event -> bytes, as server-sent events
    status, body = encode_error(error)                  # AssayError -> status and bytes

The upstream side of the same dialect is assay.providers.openai_chat.
"""

from __future__ import annotations

from assay.server.openai_chat.errors import encode_error
from assay.server.openai_chat.parse import Options, parse
from assay.server.openai_chat.reply import StreamEncoder, encode_response

__all__ = ["Options", "StreamEncoder", "encode_error", "encode_response", "parse"]
