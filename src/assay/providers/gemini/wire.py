"""The WireFormat of Gemini's API, put together from the pure functions beside it. No I/O."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import assert_never

import msgspec

from assay.errors import AssayError, RequestError
from assay.providers.base import Encoded
from assay.providers.gemini.embeddings import decode_vectors, encode_inputs
from assay.providers.gemini.errors import error_of_reply
from assay.providers.gemini.reply import decode_count, decode_reply
from assay.providers.gemini.request import encode_count, encode_request
from assay.providers.gemini.stream import ContentStream, decode_array
from assay.providers.gemini.vocabulary import DIALECT, path, resource
from assay.providers.translation import to_json
from assay.types import Operation, Request, Response, WireCall

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_LIST = msgspec.json.Decoder(list[msgspec.Raw]).decode
_ENCODE = msgspec.json.Encoder().encode


class Gemini:
    """models/...:generateContent and its relatives, of Google and of servers that speak as it does.

    `clock` (seconds since 1970) turns a Retry-After date into seconds where the upstream tells no time.

    >>> from assay.types import Operation, Request, user
    >>> path, body, *_ = Gemini().encode(Request("gemini-2.5-flash", (user("Hi"),)))
    >>> path, body
    ('/models/gemini-2.5-flash:generateContent', b'{"contents":[{"role":"user","parts":[{"text":"Hi"}]}]}')
    """

    dialect = DIALECT
    operations: frozenset[Operation] = frozenset({"chat", "embeddings", "count_tokens"})

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock

    def encode(self, request: Request) -> Encoded:
        """Raises UnsupportedFeature for what the API cannot carry."""
        match request.operation:
            case "chat":
                body, dropped = encode_request(request)
                return Encoded(_chat_path(request), body, dropped)
            case "embeddings":
                inputs, dropped = encode_inputs(request)
                return Encoded(path(request.model, "batchEmbedContents"), to_json(inputs), dropped)
            case "count_tokens":
                body, dropped = encode_count(request)
                return Encoded(path(request.model, "countTokens"), body, dropped)
            case _:
                assert_never(request.operation)

    def forward(self, request: Request, call: WireCall) -> Encoded:
        """The model stands in the path; a body that names it too gets it there as well.

        A body of embedContent has `content`, one of batchEmbedContents has `requests`.
        """
        match request.operation:
            case "chat":
                return Encoded(_chat_path(request), _renamed(call.body, request.model))
            case "embeddings":
                method = "batchEmbedContents" if "requests" in _fields(call.body) else "embedContent"
            case "count_tokens":
                method = "countTokens"
            case _:
                assert_never(request.operation)
        return Encoded(path(request.model, method), _renamed(call.body, request.model))

    def hidden(self, request: Request, event: str, data: str) -> bool:
        """Never: the API counts tokens unasked."""
        return False

    def headers(self, api_key: str | None) -> tuple[tuple[str, str], ...]:
        content_type = ("content-type", "application/json")
        return (content_type,) if api_key is None else (content_type, ("x-goog-api-key", api_key))

    def decode(self, request: Request, body: bytes) -> Response:
        """Raises BadResponse when the body is not what was asked for, or the error that it holds instead.

        A JSON array of chunks, the API's stream without server-sent events, is taken too.
        """
        match request.operation:
            case "chat" if body.lstrip()[:1] == b"[":
                return decode_array(request, body)
            case "chat":
                return decode_reply(request, body)
            case "embeddings":
                return decode_vectors(request, body)
            case "count_tokens":
                return decode_count(request, body)
            case _:
                assert_never(request.operation)

    def events(self, request: Request) -> ContentStream:
        return ContentStream(request.model)

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> AssayError:
        """A ProviderError, or a RequestError with the upstream's own words when it blames the request."""
        return error_of_reply(status, headers, body, clock=self._clock)


def _chat_path(request: Request) -> str:
    if request.stream:
        return path(request.model, "streamGenerateContent") + "?alt=sse"
    return path(request.model, "generateContent")


def _renamed(body: bytes, model: str) -> bytes:
    """The body with its model's name wherever the API has one; the same bytes where it has none."""
    if b'"model"' not in body:
        return body
    fields = _fields(body)
    try:
        named = msgspec.Raw(_ENCODE(resource(model)))
        if "model" in fields:
            fields["model"] = named
        for name in ("generateContentRequest", "generate_content_request"):
            if name in fields:
                fields[name] = _with(fields[name], named)
        if "requests" in fields:
            fields["requests"] = msgspec.Raw(
                _ENCODE([_with(one, named) for one in _LIST(fields["requests"])])
            )
        return _ENCODE(fields)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"The body is not what the API takes ({error})") from error


def _fields(body: bytes) -> dict[str, msgspec.Raw]:
    try:
        return _FIELDS(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"The body is not a JSON object ({error})") from error


def _with(body: msgspec.Raw, model: msgspec.Raw) -> msgspec.Raw:
    fields = _FIELDS(body)
    if "model" in fields:
        fields["model"] = model
    return msgspec.Raw(_ENCODE(fields))
