"""The Responses API towards callers, as pure translation, and going on from earlier responses (.stored).

Sockets belong to assay.server.calls; the upstream side of the dialect is assay.providers.openai_responses.
"""

from __future__ import annotations

from assay.providers.openai_responses.vocabulary import DIALECT as _NAME
from assay.server.dialect import Dialect
from assay.server.openai_chat.errors import encode_error
from assay.server.openai_responses.output import new_id
from assay.server.openai_responses.parse import Options, parse, parse_count
from assay.server.openai_responses.reply import write, write_count
from assay.server.openai_responses.stored import continue_
from assay.server.openai_responses.stream import StreamEncoder

__all__ = ["COUNT", "DIALECT", "Options", "StreamEncoder", "encode_error", "parse", "write"]

_FORWARDED = ("openai-beta",)

DIALECT = Dialect(
    _NAME,
    parse,
    write,
    StreamEncoder,
    encode_error,
    forwarded=_FORWARDED,
    resolve=continue_,
    kept=lambda options: options.kept,
    new_id=new_id,
)
"""POST /v1/responses."""

COUNT = Dialect(
    _NAME,
    parse_count,
    write_count,
    StreamEncoder,
    encode_error,
    forwarded=_FORWARDED,
    operation="count_tokens",
    resolve=continue_,
)
"""POST /v1/responses/input_tokens."""
