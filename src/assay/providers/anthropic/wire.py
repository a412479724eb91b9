"""The WireFormat of Anthropic's Messages, put together from the pure functions beside it. No I/O."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from assay.errors import AssayError, UnsupportedFeature
from assay.providers.anthropic.errors import error_of_reply
from assay.providers.anthropic.reply import decode_count, decode_reply
from assay.providers.anthropic.request import encode_request
from assay.providers.anthropic.stream import MessageStream
from assay.providers.anthropic.vocabulary import DIALECT, VERSION
from assay.providers.base import Encoded
from assay.providers.translation import with_model
from assay.types import Operation, Request, Response, WireCall

_VERSION = "anthropic-version"
_BETA = "anthropic-beta"


class Anthropic:
    """POST /messages and /messages/count_tokens, of Anthropic and of the servers that speak as it does.

    `max_tokens` is the limit of a reply where the caller sets none: the API needs one. `clock` (seconds since
    1970) turns a Retry-After date into seconds where the upstream does not tell its own time.

    >>> from assay.types import Operation, Request, user
    >>> path, body, dropped, headers = Anthropic().encode(Request("claude-opus-5", (user("Hi"),)))
    >>> path, body
    ('/messages', b'{"model":"claude-opus-5","max_tokens":4096,"messages":[{"role":"user","content":"Hi"}]}')
    >>> headers
    (('anthropic-version', '2023-06-01'),)
    """

    dialect = DIALECT
    operations: frozenset[Operation] = frozenset({"chat", "count_tokens"})

    def __init__(self, *, max_tokens: int = 4096, clock: Callable[[], float] = time.time) -> None:
        self._max_tokens = max_tokens
        self._clock = clock

    def encode(self, request: Request) -> Encoded:
        """Raises UnsupportedFeature for what the API cannot carry."""
        path = _path(request)
        body, dropped = encode_request(request, self._max_tokens)
        return _encoded(path, body, dropped, request.wire)

    def forward(self, request: Request, call: WireCall) -> Encoded:
        """The caller's own bytes, with the upstream's name for the model."""
        return _encoded(_path(request), with_model(call.body, request.model), (), call)

    def hidden(self, request: Request, event: str, data: str) -> bool:
        """Never: nothing is asked beyond the caller's words."""
        return False

    def headers(self, api_key: str | None) -> tuple[tuple[str, str], ...]:
        """Without the API's version, which may be the caller's to say: `encode` and `forward` give it."""
        content_type = ("content-type", "application/json")
        return (content_type,) if api_key is None else (content_type, ("x-api-key", api_key))

    def decode(self, request: Request, body: bytes) -> Response:
        """Raises BadResponse when the body is not what was asked for, or the error that it holds instead."""
        if request.operation == "count_tokens":
            return decode_count(request.model, body)
        return decode_reply(body)

    def events(self, request: Request) -> MessageStream:
        return MessageStream()

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> AssayError:
        """A ProviderError, or a RequestError with the upstream's own words when it blames the request."""
        return error_of_reply(status, headers, body, clock=self._clock)


def _path(request: Request) -> str:
    match request.operation:
        case "chat":
            return "/messages"
        case "count_tokens":
            return "/messages/count_tokens"
        case "embeddings":
            raise UnsupportedFeature(
                "Anthropic has no embeddings; choose a model of another provider for them", param="model"
            )


def _encoded(path: str, body: bytes, dropped: tuple[str, ...], call: WireCall | None) -> Encoded:
    """With the headers of a caller of this dialect: its betas hold for its words, also changed ones."""
    headers = call.headers if call is not None and call.dialect == DIALECT else ()
    names = {name for name, _ in headers}
    if _VERSION not in names:
        headers = ((_VERSION, VERSION), *headers)
    return Encoded(f"{path}?beta=true" if _BETA in names else path, body, dropped, headers)
