"""An Upstream over HTTP: joins a WireFormat to the transport. Knows neither a dialect nor a socket.

    HttpUpstream("openai", OpenAIChat(), "https://api.openai.com/v1", key, transport)

Here is decided what no dialect decides: whether a reply is a stream, how much of it is read, and that errors
name the provider and never show its key.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from assay.errors import AssayError, ProviderError
from assay.providers.base import EventDecoder, WireFormat
from assay.providers.sse import SseDecoder
from assay.providers.transport import HttpCall, HttpReply, Transport
from assay.types import Completed, Ended, Event, Request

MAX_REPLY_BYTES = 64 << 20
"""The longest reply that is read in one piece."""
MAX_ERROR_BYTES = 64 << 10
"""How much of an error's body is read; what the error keeps of it is the wire format's to say."""

# The end of an HTTP body comes with the last event or right after it, and only a connection that has seen it
# can be used again. A server that holds it back costs us a connection, and not the caller's time.
LINGER_S = 0.1


class HttpUpstream:
    """One provider's API. `base_url` is what stands before the wire format's paths; `api_key` may be None."""

    def __init__(
        self, name: str, wire: WireFormat, base_url: str, api_key: str | None, transport: Transport
    ) -> None:
        self.name = name
        self._wire = wire
        self._base_url = base_url.rstrip("/")
        self._headers = wire.headers(api_key)
        self._secret = api_key
        self._transport = transport

    @property
    def problem(self) -> None:
        """Unknown before a call: whether the upstream answers is its own matter."""

    async def __call__(self, request: Request) -> AsyncIterator[Event]:
        """Closing the iterator closes the connection, so that the upstream stops working."""
        try:
            path, body = self._wire.encode(request)
            call = HttpCall("POST", self._base_url + path, self._headers, body)
            async with self._transport.send(call) as reply:
                if reply.status != 200:
                    raise await self._refusal(reply)
                if not _is_stream(reply, request):
                    response = self._wire.decode(await reply.read(MAX_REPLY_BYTES))
                    yield Completed(response)
                    return
                frames, decoder = SseDecoder(), self._wire.events()
                ended = False
                async for chunk in reply.chunks:
                    for kind, data in frames.feed(chunk):
                        for event in decoder.feed(kind, data):
                            yield event
                            ended = type(event) is Ended
                    if ended:
                        break
                if not ended:
                    for event in _last(frames, decoder):
                        yield event
                with suppress(ProviderError, TimeoutError):
                    async with asyncio.timeout(LINGER_S):
                        async for _ in reply.chunks:
                            pass
        except AssayError as error:
            self._sign(error)
            raise

    async def aclose(self) -> None:
        """Nothing: the transport belongs to whoever opened it."""

    async def _refusal(self, reply: HttpReply) -> AssayError:
        """The error for a status that is not 200, whatever becomes of the rest of its body."""
        body = bytearray()
        with suppress(ProviderError):
            async for chunk in reply.chunks:
                body += chunk
                if len(body) >= MAX_ERROR_BYTES:
                    break
        return self._wire.error(reply.status, reply.headers, self._without_key(bytes(body[:MAX_ERROR_BYTES])))

    def _without_key(self, body: bytes) -> bytes:
        """Some servers quote the key that they refuse."""
        return body.replace(self._secret.encode(), b"[api_key]") if self._secret else body

    def _sign(self, error: AssayError) -> None:
        """Says whose error it is, and takes the key out of it: some servers quote what they refuse."""
        if isinstance(error, ProviderError):
            error.provider = self.name
            error.message = f"{self.name}: {error.message}"
            error.body = self._clean(error.body) if error.body else error.body
        error.message = self._clean(error.message)
        error.args = (error.message,)

    def _clean(self, text: str) -> str:
        return text.replace(self._secret, "[api_key]") if self._secret else text


def _last(frames: SseDecoder, decoder: EventDecoder) -> list[Event]:
    """What the end of the body completes. Raises BadResponse when the stream was cut off."""
    events = [event for kind, data in frames.end() for event in decoder.feed(kind, data)]
    return [*events, *decoder.end()]


def _is_stream(reply: HttpReply, request: Request) -> bool:
    """What the reply says it is; where it says something else, what was asked for."""
    content_type = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "text/event-stream":
        return True
    return request.stream and content_type not in {"application/json", "text/html"}
