"""An Upstream over HTTP: joins a WireFormat to the transport. Knows neither a dialect nor a socket.

    HttpUpstream("openai", [OpenAIChat()], "https://api.openai.com/v1", key, transport)

Here is decided what no dialect decides: whether a call is translated or goes on in its caller's own bytes,
whether a reply is a stream, how much of it is read, and that errors name the provider and never show its key.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import suppress
from time import perf_counter

from assay.errors import AssayError, ProviderError
from assay.providers.base import Encoded, EventDecoder, WireFormat
from assay.providers.proofs import SEALED, opened_body, opened_request, sealed_event
from assay.providers.sse import SseDecoder, Whole, written
from assay.providers.transport import HttpCall, HttpReply, Transport
from assay.types import (
    Completed,
    Ended,
    Event,
    ReasoningDelta,
    Request,
    Response,
    Started,
    TextDelta,
    ToolCallDelta,
    WireCall,
    WireData,
    replace,
)
from assay.types.timing import timing

MAX_REPLY_BYTES = 64 << 20
"""The longest reply that is read in one piece."""
MAX_ERROR_BYTES = 64 << 10
"""How much of an error's body is read; what the error keeps of it is the wire format's to say."""

# The end of an HTTP body comes with the last event or right after it, and only a connection that has seen it
# can be used again. A server that holds it back costs us a connection, and not the caller's time.
LINGER_S = 0.1


class HttpUpstream:
    """One provider, by the APIs that it has. `base_url` is what stands before the wire formats' paths.

    A call whose caller speaks the dialect of one of the `wires` goes through that one, in the caller's own
    bytes where they still say it; any other is translated by the first that can. `api_key` may be None.
    """

    def __init__(
        self, name: str, wires: Sequence[WireFormat], base_url: str, api_key: str | None, transport: Transport
    ) -> None:
        self.name = name
        self._wires = {wire.dialect: wire for wire in wires}
        self._first = wires[0]
        self._base_url = base_url.rstrip("/")
        self._headers = {id(wire): wire.headers(api_key) for wire in wires}
        self._secret = api_key
        self._transport = transport
        self.dialects = frozenset(self._wires)

    @property
    def problem(self) -> None:
        """Unknown before a call: whether the upstream answers is its own matter."""

    async def __call__(self, request: Request) -> AsyncIterator[Event]:
        """Closing the iterator closes the connection, so that the upstream stops working."""
        own = None if request.wire is None else self._wires.get(request.wire.dialect)
        wire = own or self._translator(request)
        said = None if own is None else _verbatim(request)
        verbatim = said is not None
        try:
            encoded = _encode(wire, request) if said is None else wire.forward(request, said)
            call = HttpCall(
                "POST",
                self._base_url + encoded.path,
                (*self._headers[id(wire)], *encoded.headers),
                encoded.body,
            )
            times = timing()
            if times is not None:
                times.sent = perf_counter()
            async with self._transport.send(call) as far:
                if times is not None:
                    times.head = perf_counter()
                if far.status != 200:
                    raise await self._refusal(wire, far)
                if not _is_stream(far, request):
                    body = self._without_key(await far.read(MAX_REPLY_BYTES))
                    if times is not None:
                        times.read = perf_counter()
                    reply = _told(wire.decode(request, body), encoded)
                    done = sealed_event(Completed(reply), wire.dialect)
                    if times is not None:
                        times.decoded = perf_counter()
                    yield WireData(body, (done,)) if verbatim and not request.stream else done
                    return
                stream = _Stream(wire, request, self._secret, verbatim=verbatim and request.stream)
                async for chunk in far.chunks:
                    for event in stream.feed(chunk):
                        yield _first(event, encoded) if encoded.dropped else event
                    if stream.ended:
                        break
                for event in stream.end():
                    yield event
                with suppress(ProviderError, TimeoutError):
                    async with asyncio.timeout(LINGER_S):
                        async for _ in far.chunks:
                            pass
        except AssayError as error:
            self._sign(error)
            raise

    async def aclose(self) -> None:
        """Nothing: the transport belongs to whoever opened it."""

    def _translator(self, request: Request) -> WireFormat:
        """The first API that can be asked for this; where none can, the first says so."""
        able = (wire for wire in self._wires.values() if request.operation in wire.operations)
        return next(able, self._first)

    async def _refusal(self, wire: WireFormat, reply: HttpReply) -> AssayError:
        """The error for a status that is not 200, whatever becomes of the rest of its body."""
        body = bytearray()
        with suppress(ProviderError):
            async for chunk in reply.chunks:
                body += chunk
                if len(body) >= MAX_ERROR_BYTES:
                    break
        return wire.error(reply.status, reply.headers, self._without_key(bytes(body[:MAX_ERROR_BYTES])))

    def _without_key(self, body: bytes) -> bytes:
        """Some servers quote the key that they refuse."""
        if self._secret and (key := self._secret.encode()) in body:
            return body.replace(key, _HIDDEN.encode())
        return body

    def _sign(self, error: AssayError) -> None:
        """Says whose error it is, and takes the key out of it: some servers quote what they refuse."""
        if isinstance(error, ProviderError):
            error.provider = self.name
            error.message = f"{self.name}: {error.message}"
            error.body = self._clean(error.body) if error.body else error.body
        error.message = self._clean(error.message)
        error.args = (error.message,)

    def _clean(self, text: str) -> str:
        return text.replace(self._secret, _HIDDEN) if self._secret else text


_HIDDEN = "[api_key]"


def _verbatim(request: Request) -> WireCall | None:
    """The caller's bytes for an upstream of its dialect, without proofs that only another API could read.

    Where the bytes were understood the translation leaves those out better: it knows what depends on them.
    """
    said = request.verbatim
    if said is None or not any(mark in said.body for mark in SEALED):
        return said
    return None if said.problem is None else replace(said, body=opened_body(said.body, said.dialect))


def _encode(wire: WireFormat, request: Request) -> Encoded:
    """The translation, without what only another API could read."""
    opened, foreign = opened_request(request, wire.dialect)
    encoded = wire.encode(opened)
    return encoded._replace(dropped=(*foreign, *encoded.dropped)) if foreign else encoded


def _told(response: Response, encoded: Encoded) -> Response:
    return replace(response, dropped=encoded.dropped) if encoded.dropped else response


def _first(event: Event, encoded: Encoded) -> Event:
    return replace(event, dropped=encoded.dropped) if isinstance(event, Started) else event


def _kept(event: Event, dialect: str) -> Event:
    """The event with its proofs sealed; most have none, and looking for them is not free."""
    if isinstance(event, (TextDelta, ToolCallDelta)):
        return event if event.signature is None else sealed_event(event, dialect)
    return sealed_event(event, dialect) if isinstance(event, ReasoningDelta) else event


_SIGNED = frozenset({TextDelta, ToolCallDelta, ReasoningDelta})


class _Stream:
    """The events of a streamed body: one by one, or with the bytes that they came in for the caller."""

    def __init__(self, wire: WireFormat, request: Request, secret: str | None, *, verbatim: bool) -> None:
        self._wire = wire
        self._request = request
        self._secret = secret
        self._frames = SseDecoder()
        self._decoder: EventDecoder = wire.events(request)
        self._whole = Whole() if verbatim else None
        self.ended = False

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Raises what the wire format raises, after the events before it."""
        if self._whole is None:
            yield from self._events(self._frames.feed(chunk))
        elif data := self._whole.feed(chunk):
            yield from self._verbatim(self._frames.feed(data), data)

    def end(self) -> Iterator[Event]:
        """What the end of the body completes. Raises BadResponse when the stream was cut off.

        When its last event has come already, only bytes can be left.
        """
        if self._whole is None:
            if not self.ended:
                yield from self._events(self._frames.end())
                yield from self._decoder.end()
            return
        data = self._whole.end()
        if data:
            frames = [] if self.ended else [*self._frames.feed(data), *self._frames.end()]
            yield from self._verbatim(frames, data)
        if not self.ended and (last := tuple(self._decoder.end())):
            yield WireData(b"", last)

    def _events(self, frames: Iterable[tuple[str, str]]) -> Iterator[Event]:
        for kind, data in frames:
            for event in self._decoder.feed(kind, self._clean(data)):
                yield sealed_event(event, self._wire.dialect) if type(event) in _SIGNED else event
                self.ended = type(event) is Ended

    def _verbatim(self, frames: Sequence[tuple[str, str]], data: bytes) -> Iterator[Event]:
        """The events of these frames, with the bytes that they came in, less what is not for the caller."""
        events: list[Event] = []
        shown: list[tuple[str, str]] = []
        as_sent = True
        try:
            for kind, sent in frames:
                text = self._clean(sent)
                for event in self._decoder.feed(kind, text):
                    signed = type(event) in _SIGNED
                    events.append(sealed_event(event, self._wire.dialect) if signed else event)
                if self._wire.hidden(self._request, kind, text):
                    as_sent = False
                    continue
                as_sent = as_sent and text is sent
                shown.append((kind, text))
        except AssayError:
            # What came before the fault has been said.
            if shown:
                yield WireData(b"".join(written(*frame) for frame in shown), tuple(events))
            raise
        self.ended = self.ended or (bool(events) and type(events[-1]) is Ended)
        yield WireData(data if as_sent else b"".join(written(*frame) for frame in shown), tuple(events))

    def _clean(self, text: str) -> str:
        """Some servers quote the key that they refuse."""
        return text.replace(self._secret, _HIDDEN) if self._secret and self._secret in text else text


def _is_stream(reply: HttpReply, request: Request) -> bool:
    """What the reply says it is; where it says something else, what was asked for."""
    content_type = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "text/event-stream":
        return True
    return request.stream and content_type not in {"application/json", "text/html"}
