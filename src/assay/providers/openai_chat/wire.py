"""The WireFormat of OpenAI's chat completions, put together from the pure functions beside it. No I/O."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from assay.errors import AssayError
from assay.providers.openai_chat.errors import error_of_reply
from assay.providers.openai_chat.reply import decode_reply
from assay.providers.openai_chat.request import encode_request
from assay.providers.openai_chat.stream import ChatStream
from assay.types import Request, Response


class OpenAIChat:
    """POST /chat/completions, of OpenAI and of the many servers that speak as it does.

    `extensions` says that the upstream is one of the latter: `top_k`, the text of earlier reasoning
    (`reasoning_content`) and Gemini's signatures are sent. OpenAI's own servers refuse a call that has them;
    with `extensions=False` the first raises UnsupportedFeature and the others are left out. `clock` (seconds
    since 1970) turns a Retry-After date into seconds where the upstream does not tell its own time.

    >>> from assay.types import Request, user
    >>> path, body = OpenAIChat().encode(Request("gpt-4o-mini", (user("Hi"),)))
    >>> path, body
    ('/chat/completions', b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Hi"}]}')
    """

    def __init__(self, *, extensions: bool = True, clock: Callable[[], float] = time.time) -> None:
        self._extensions = extensions
        self._clock = clock

    def encode(self, request: Request) -> tuple[str, bytes]:
        """Path below the base URL, and body. A streamed call asks for its usage, so that its cost is exact.

        Raises UnsupportedFeature for what chat completions cannot carry.
        """
        return "/chat/completions", encode_request(request, extensions=self._extensions)

    def headers(self, api_key: str | None) -> tuple[tuple[str, str], ...]:
        content_type = ("content-type", "application/json")
        return (content_type,) if api_key is None else (content_type, ("authorization", f"Bearer {api_key}"))

    def decode(self, body: bytes) -> Response:
        """Raises BadResponse when the body is not a chat completion, or the error that it holds instead."""
        return decode_reply(body)

    def events(self) -> ChatStream:
        return ChatStream()

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> AssayError:
        """A ProviderError, or a RequestError with the upstream's own words when it blames the request."""
        return error_of_reply(status, headers, body, clock=self._clock)
