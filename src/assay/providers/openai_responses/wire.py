"""The WireFormat of OpenAI's Responses API, put together from the pure functions beside it. No I/O."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

from assay.errors import AssayError, UnsupportedFeature
from assay.providers.base import Encoded
from assay.providers.openai_chat.errors import error_of_reply
from assay.providers.openai_responses.reply import decode_count, decode_reply
from assay.providers.openai_responses.request import encode_request, forwarded
from assay.providers.openai_responses.stream import ResponseStream
from assay.providers.openai_responses.vocabulary import DIALECT
from assay.types import Operation, Request, Response, WireCall

PATH: Final = "/responses"
COUNT_PATH: Final = "/responses/input_tokens"


class OpenAIResponses:
    """POST /responses and /responses/input_tokens, of OpenAI and of the servers that speak as it does.

    Nothing is kept at the upstream: every call sends its whole conversation, with `store` false, and asks for
    the reasoning in the encrypted form that can be sent back. `extensions` says that the upstream is not
    OpenAI's own: `top_k` and the readable text of earlier reasoning are sent, which OpenAI refuses. `clock`
    (seconds since 1970) turns a Retry-After date into seconds where the upstream does not tell its own time.

    >>> from assay.types import Operation, Request, user
    >>> path, body, *_ = OpenAIResponses().encode(Request("gpt-5", (user("Hi"),)))
    >>> path, body
    ('/responses', b'{"model":"gpt-5","input":[{"role":"user","content":"Hi"}],"store":false}')
    """

    dialect = DIALECT
    operations: frozenset[Operation] = frozenset({"chat", "count_tokens"})

    def __init__(self, *, extensions: bool = False, clock: Callable[[], float] = time.time) -> None:
        self._extensions = extensions
        self._clock = clock

    def encode(self, request: Request) -> Encoded:
        """Raises UnsupportedFeature for what the API cannot carry."""
        body, dropped = encode_request(request, extensions=self._extensions)
        return Encoded(_path(request), body, dropped)

    def forward(self, request: Request, call: WireCall) -> Encoded:
        """Reasoning that only another provider could read is taken out of the caller's body."""
        return Encoded(_path(request), forwarded(call.body, request.model))

    def hidden(self, request: Request, event: str, data: str) -> bool:
        """Nothing: the usage is part of every reply."""
        return False

    def headers(self, api_key: str | None) -> tuple[tuple[str, str], ...]:
        content_type = ("content-type", "application/json")
        return (content_type,) if api_key is None else (content_type, ("authorization", f"Bearer {api_key}"))

    def decode(self, request: Request, body: bytes) -> Response:
        """Raises BadResponse when the body is not what was asked for, or the error that it holds instead."""
        return decode_count(request, body) if request.operation == "count_tokens" else decode_reply(body)

    def events(self, request: Request) -> ResponseStream:
        return ResponseStream()

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> AssayError:
        """A ProviderError, or a RequestError with the upstream's own words when it blames the request."""
        return error_of_reply(status, headers, body, clock=self._clock)


def _path(request: Request) -> str:
    match request.operation:
        case "chat":
            return PATH
        case "count_tokens":
            return COUNT_PATH
        case "embeddings":
            raise UnsupportedFeature(
                f"The Responses API has no embeddings; give {request.model} a provider of dialect openai",
                param="model",
            )
