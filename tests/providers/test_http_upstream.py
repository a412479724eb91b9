"""An upstream over HTTP against servers that behave, and that do not: real sockets on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from assay.errors import (
    AssayError,
    BadResponse,
    ContextExceeded,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    RequestError,
    UnsupportedFeature,
)
from assay.providers import http
from assay.providers.http import HttpUpstream
from assay.providers.openai_chat import OpenAIChat
from assay.providers.transport import Transport
from assay.types import (
    Assembly,
    CacheMark,
    Completed,
    Context,
    Ended,
    Event,
    Extra,
    FunctionTool,
    Message,
    Request,
    Response,
    Started,
    Text,
    TextDelta,
    WireCall,
    WireData,
    closing,
    replace,
    user,
)

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30, method="thread")]

FIXTURES = Path(__file__).parents[1] / "fixtures" / "openai"
REPLY = (FIXTURES / "chat.json").read_bytes()
STREAM = (FIXTURES / "stream_text.sse").read_bytes()
FIRST, SECOND, *_ = (event + b"\n\n" for event in STREAM.split(b"\n\n"))
KEY = "sk-not-to-be-shown"

ASK = Request("gpt-4o-mini", (user("Hi"),))
ASK_STREAMED = replace(ASK, stream=True)

Play = Callable[["FarEnd"], Awaitable[None]]


class FarEnd:
    """One connection, seen from the upstream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def request(self) -> tuple[str, dict[str, str], bytes]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return first, headers, await self.reader.readexactly(int(headers["content-length"]))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def open_stream(self) -> None:
        head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
        await self.send(head.encode() + b"transfer-encoding: chunked\r\n\r\n")

    async def chunk(self, data: bytes) -> None:
        await self.send(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    async def closed(self) -> None:
        """Returns when the client has gone."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(1 << 16):
                pass


class Server:
    """Plays a part on every connection, and remembers what was asked and by how many connections."""

    def __init__(self) -> None:
        self.connections = 0
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self._play: Play | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    def plays(self, play: Play) -> None:
        self._play = play

    def answers(self, status: int, body: bytes, **headers: str) -> None:
        async def play(far_end: FarEnd) -> None:
            told = {"content-type": "application/json", "content-length": str(len(body))}
            told |= {name.replace("_", "-"): value for name, value in headers.items()}
            head = "".join(f"{name}: {value}\r\n" for name, value in told.items())
            await far_end.send(f"HTTP/1.1 {status} Said\r\n{head}\r\n".encode() + body)

        self._play = play

    def streams(self, *chunks: bytes, end: bytes = b"0\r\n\r\n") -> None:
        async def play(far_end: FarEnd) -> None:
            await far_end.open_stream()
            for chunk in chunks:
                await far_end.chunk(chunk)
            await far_end.send(end)
            if not end:
                far_end.writer.close()

        self._play = play

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        far_end = FarEnd(reader, writer)
        assert self._play is not None
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                self.requests.append(await far_end.request())
                await self._play(far_end)
        writer.close()

    async def close(self) -> None:
        self._server.close()
        await self._server.wait_closed()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    await server.listen()
    yield server
    server._server.close()


@pytest.fixture
async def upstream(server: Server) -> AsyncIterator[HttpUpstream]:
    async with Transport() as transport:
        yield HttpUpstream("openai", [OpenAIChat()], server.url + "/", KEY, transport)


async def events_of(upstream: HttpUpstream, request: Request = ASK_STREAMED) -> list[Event]:
    async with closing(upstream(request)) as events:
        return [event async for event in events]


async def reply_of(upstream: HttpUpstream, request: Request = ASK_STREAMED) -> Response:
    assembly = Assembly()
    for event in await events_of(upstream, request):
        assembly.add(event)
    assert assembly.complete
    return assembly.response()


async def failure_of(
    upstream: HttpUpstream, request: Request = ASK_STREAMED
) -> tuple[list[Event], AssayError]:
    """What came, and the error that ended it."""
    seen: list[Event] = []
    with pytest.raises(AssayError) as caught:
        async with closing(upstream(request)) as events:
            async for event in events:
                seen.append(event)
    if isinstance(caught.value, ProviderError):
        assert caught.value.provider == "openai"
        assert str(caught.value).startswith("openai: ")
    return seen, caught.value


# --- it works ------------------------------------------------------------------------------------


async def test_a_whole_reply(server: Server, upstream: HttpUpstream) -> None:
    server.answers(200, REPLY)
    (event,) = await events_of(upstream, ASK)
    assert isinstance(event, Completed)
    assert event.response == OpenAIChat().decode(Request("m", ()), REPLY)
    (first, headers, body), *_ = server.requests
    assert first == "POST /v1/chat/completions HTTP/1.1"
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["content-type"] == "application/json"
    assert body == OpenAIChat().encode(ASK)[1]


@pytest.mark.parametrize("size", [1, 7, 100_000])
async def test_a_stream_in_any_pieces(server: Server, upstream: HttpUpstream, size: int) -> None:
    server.streams(*(STREAM[at : at + size] for at in range(0, len(STREAM), size)))
    reply = await reply_of(upstream)
    assert reply.text == "Hello, wörld"
    assert reply.usage is not None
    assert json.loads(server.requests[0][2])["stream_options"] == {"include_usage": True}


async def test_events_come_as_they_are_sent(server: Server, upstream: HttpUpstream) -> None:
    seen = asyncio.Event()

    async def play(far_end: FarEnd) -> None:
        await far_end.open_stream()
        await far_end.chunk(FIRST + SECOND)
        await seen.wait()
        await far_end.chunk(STREAM.removeprefix(FIRST + SECOND))
        await far_end.send(b"0\r\n\r\n")

    server.plays(play)
    texts = []
    async with closing(upstream(ASK_STREAMED)) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                texts.append(event.text)
                seen.set()
    assert texts == ["Hello", ", wörld"]


async def test_a_server_that_does_not_stream_is_understood(server: Server, upstream: HttpUpstream) -> None:
    server.answers(200, REPLY)
    assert [type(event) for event in await events_of(upstream, ASK_STREAMED)] == [Completed]


@pytest.mark.parametrize("content_type", ["text/plain", "TEXT/EVENT-STREAM;charset=utf-8"])
async def test_a_stream_under_another_name(server: Server, upstream: HttpUpstream, content_type: str) -> None:
    server.answers(200, STREAM, content_type=content_type)
    assert (await reply_of(upstream)).text == "Hello, wörld"


async def test_a_whole_reply_under_another_name(server: Server, upstream: HttpUpstream) -> None:
    server.answers(200, REPLY, content_type="text/plain")
    assert [type(event) for event in await events_of(upstream, ASK)] == [Completed]


async def test_the_connection_is_used_again(server: Server, upstream: HttpUpstream) -> None:
    for stream in (True, False, True):
        if stream:
            server.streams(STREAM)
        else:
            server.answers(200, REPLY)
        await reply_of(upstream, replace(ASK, stream=stream))
    assert len(server.requests) == 3
    assert server.connections == 1


async def test_the_connection_is_used_again_when_the_body_ends_late(
    server: Server, upstream: HttpUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "LINGER_S", 20)
    ended = asyncio.Event()

    async def play(far_end: FarEnd) -> None:
        await far_end.open_stream()
        await far_end.chunk(STREAM)
        await ended.wait()
        await far_end.send(b"0\r\n\r\n")

    server.plays(play)
    for _ in range(2):
        ended.clear()
        async with closing(upstream(ASK_STREAMED)) as events:
            async for event in events:
                if isinstance(event, Ended):
                    ended.set()
    assert server.connections == 1


async def test_a_server_that_never_ends_its_body_keeps_nobody_waiting(
    server: Server, upstream: HttpUpstream
) -> None:
    server.streams(STREAM, end=b"1\r\n\n\r\n")
    assert (await reply_of(upstream)).text == "Hello, wörld"
    server.streams(STREAM)
    await reply_of(upstream)
    assert server.connections == 2


async def test_what_breaks_after_the_end_does_not_matter(server: Server, upstream: HttpUpstream) -> None:
    server.streams(STREAM, end=b"")
    assert (await reply_of(upstream)).text == "Hello, wörld"


async def test_what_cannot_be_carried_is_refused_before_anything_is_sent(
    server: Server, upstream: HttpUpstream
) -> None:
    _, error = await failure_of(upstream, replace(ASK, extra=Extra("gemini", {"safety": 1})))
    assert isinstance(error, UnsupportedFeature)
    assert server.connections == 0


# --- it does not ---------------------------------------------------------------------------------


async def test_nobody_listens(server: Server, upstream: HttpUpstream) -> None:
    await server.close()
    seen, error = await failure_of(upstream)
    assert not seen
    assert isinstance(error, ProviderUnavailable)
    assert error.retryable


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("status", "body", "headers", "kind", "retry_after_s"),
    [
        (429, "error_429_rate.json", {"retry_after": "20"}, RateLimited, 20.0),
        (
            429,
            "error_429_rate.json",
            {"retry_after": "Wed, 21 Oct 2026 07:28:10 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"},
            RateLimited,
            10.0,
        ),
        (500, "error_500.json", {}, ProviderUnavailable, None),
        (502, "error_500.json", {}, ProviderUnavailable, None),
        (503, "error_500.json", {"Retry_After": "1"}, ProviderUnavailable, 1.0),
        (529, "error_500.json", {}, ProviderUnavailable, None),
    ],
)
async def test_a_passing_trouble_may_be_retried(
    server: Server,
    upstream: HttpUpstream,
    stream: bool,
    status: int,
    body: str,
    headers: dict[str, str],
    kind: type[ProviderError],
    retry_after_s: float | None,
) -> None:
    server.answers(status, (FIXTURES / body).read_bytes(), **headers)
    seen, error = await failure_of(upstream, replace(ASK, stream=stream))
    assert not seen
    assert type(error) is kind
    assert (error.retryable, error.retry_after_s) == (True, retry_after_s)


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (400, "error_400_context.json", ContextExceeded, "context_length_exceeded"),
        (400, "error_400_value.json", RequestError, "decimal_above_max_value"),
        (401, "error_401.json", ProviderError, "provider_auth"),
        (403, "error_401.json", ProviderError, "provider_auth"),
    ],
)
async def test_a_lasting_one_is_not_retried(
    server: Server, upstream: HttpUpstream, status: int, body: str, kind: type[AssayError], code: str
) -> None:
    server.answers(status, (FIXTURES / body).read_bytes())
    _, error = await failure_of(upstream)
    assert type(error) is kind
    assert (error.retryable, error.code) == (False, code)


async def test_the_key_is_shown_to_nobody(server: Server, upstream: HttpUpstream) -> None:
    server.answers(401, json.dumps({"error": {"message": f"Bad key {KEY}"}}).encode())
    _, error = await failure_of(upstream)
    assert isinstance(error, ProviderError)
    assert "Bad key [api_key]" in error.message
    assert KEY not in f"{error.message} {error.body} {error!r}"


async def test_a_refusal_without_end_is_read_only_so_far(server: Server, upstream: HttpUpstream) -> None:
    async def play(far_end: FarEnd) -> None:
        await far_end.send(b"HTTP/1.1 500 Oh\r\ntransfer-encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                await far_end.chunk(b"x" * 10_000)

    server.plays(play)
    _, error = await failure_of(upstream)
    assert isinstance(error, ProviderUnavailable)
    assert len(error.message) < 1_000


async def test_a_refusal_that_breaks_off_is_still_that_refusal(
    server: Server, upstream: HttpUpstream
) -> None:
    async def play(far_end: FarEnd) -> None:
        await far_end.send(b"HTTP/1.1 429 Oh\r\ncontent-length: 100\r\n\r\n")
        await far_end.send(b'{"error": ')
        far_end.writer.close()

    server.plays(play)
    _, error = await failure_of(upstream)
    assert isinstance(error, RateLimited)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("body", "content_type"),
    [(b"", "application/json"), (b"<html>hello</html>", "text/html"), (b"{}", "application/json")],
)
async def test_a_200_that_is_no_reply(
    server: Server, upstream: HttpUpstream, stream: bool, body: bytes, content_type: str
) -> None:
    server.answers(200, body, content_type=content_type)
    seen, error = await failure_of(upstream, replace(ASK, stream=stream))
    assert not seen
    assert isinstance(error, BadResponse)


async def test_a_reply_is_not_read_without_limit(
    server: Server, upstream: HttpUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "MAX_REPLY_BYTES", 100)
    server.answers(200, REPLY)
    _, error = await failure_of(upstream, ASK)
    assert isinstance(error, BadResponse)
    assert "100 bytes" in error.message


ERROR_EVENT = b'data: {"error": {"message": "overloaded", "type": "server_error"}}\n\n'
CUT = {
    "nothing at all": ([b": hello\n\n"], b"0\r\n\r\n", 0, "before any choice came"),
    "no finish reason": ([FIRST, SECOND], b"0\r\n\r\n", 2, "cut off"),
    "done without a finish reason": ([FIRST, SECOND, b"data: [DONE]\n\n"], b"0\r\n\r\n", 2, "cut off"),
    "the connection breaks": ([FIRST, SECOND], b"", 2, "broke off"),
    "a chunk in the middle of a line": ([FIRST, SECOND, SECOND[:40]], b"0\r\n\r\n", 2, "begins with"),
    "a malformed chunk": ([FIRST, SECOND, b"data: {oops\n\n"], b"0\r\n\r\n", 2, "{oops"),
    "an error as the first event": ([ERROR_EVENT], b"0\r\n\r\n", 0, "overloaded"),
    "an error in the middle": ([FIRST, SECOND, ERROR_EVENT], b"0\r\n\r\n", 2, "overloaded"),
}


@pytest.mark.parametrize(("chunks", "end", "count", "words"), CUT.values(), ids=CUT.keys())
async def test_a_stream_that_goes_wrong_is_never_a_success(
    server: Server, upstream: HttpUpstream, chunks: list[bytes], end: bytes, count: int, words: str
) -> None:
    server.streams(*chunks, end=end)
    seen, error = await failure_of(upstream)
    assert [type(event) for event in seen] == [Started, TextDelta][:count]
    assert isinstance(error, BadResponse | ProviderUnavailable)
    assert words in error.message


@pytest.mark.parametrize("sent", [[], [FIRST, SECOND]], ids=["before the first token", "in the middle"])
async def test_a_caller_who_goes_away_ends_the_call_upstream(
    server: Server, upstream: HttpUpstream, sent: list[bytes]
) -> None:
    asked, gone = asyncio.Event(), asyncio.Event()

    async def play(far_end: FarEnd) -> None:
        await far_end.open_stream()
        for chunk in sent:
            await far_end.chunk(chunk)
        asked.set()
        await far_end.closed()
        gone.set()

    server.plays(play)
    reader = asyncio.create_task(events_of(upstream))
    await asked.wait()
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    await gone.wait()


async def test_a_reader_who_has_enough_ends_the_call_upstream(server: Server, upstream: HttpUpstream) -> None:
    gone = asyncio.Event()

    async def play(far_end: FarEnd) -> None:
        await far_end.open_stream()
        await far_end.chunk(FIRST + SECOND)
        await far_end.closed()
        gone.set()

    server.plays(play)
    async with closing(upstream(ASK_STREAMED)) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                break
    await gone.wait()


# --- in the caller's own bytes ----------------------------------------------------------------------


def verbatim(body: bytes, request: Request = ASK_STREAMED) -> Request:
    return replace(request, wire=WireCall("openai", body, request=request))


OWN = (
    b'{"model": "fast", "messages": [{"role": "user", "content": "Hi"}], "new_field": {"a": 1.50}, '
    b'"stream": %s}'
)
COUNTED = OWN[:-1] + b', "stream_options": {"include_usage": true}}'


async def test_a_caller_of_the_dialect_is_sent_on_in_its_own_bytes(
    server: Server, upstream: HttpUpstream
) -> None:
    server.answers(200, REPLY.replace(b'"model"', b'"unheard_of": [1.0],  "model"'))
    (event,) = await events_of(upstream, verbatim(OWN % b"false", ASK))
    assert isinstance(event, WireData)
    assert event.data == REPLY.replace(b'"model"', b'"unheard_of": [1.0],  "model"')
    (inner,) = event.events
    assert isinstance(inner, Completed)
    assert inner.response.usage is not None
    sent = server.requests[0][2]
    assert b'"new_field":{"a": 1.50}' in sent
    assert json.loads(sent) == {**json.loads(OWN % b"false"), "model": "gpt-4o-mini"}


@pytest.mark.parametrize("size", [1, 7, 100_000])
async def test_a_stream_in_the_upstreams_own_bytes(server: Server, upstream: HttpUpstream, size: int) -> None:
    told = STREAM.replace(b"data: ", b": ping\n\ndata: ", 1)
    server.streams(*(told[at : at + size] for at in range(0, len(told), size)))
    events = await events_of(upstream, verbatim(COUNTED % b"true"))
    assert all(isinstance(event, WireData) for event in events)
    pieces = [event.data for event in events if isinstance(event, WireData)]
    assert b"".join(pieces) == told
    assert all(piece.endswith(b"\n\n") for piece in pieces if piece)
    server.streams(told)
    assert events_within(events) == await events_of(upstream)


def events_within(events: list[Event]) -> list[Event]:
    return [inner for event in events if isinstance(event, WireData) for inner in event.events]


async def test_usage_that_the_caller_did_not_ask_for_is_counted_and_not_shown(
    server: Server, upstream: HttpUpstream
) -> None:
    server.streams(STREAM)
    events = await events_of(upstream, verbatim(OWN % b"true"))
    shown = b"".join(event.data for event in events if isinstance(event, WireData))
    assert b'"choices":[]' not in shown
    assert shown.count(b"data: ") == STREAM.count(b"data: ") - 1
    ended = events_within(events)[-1]
    assert isinstance(ended, Ended)
    assert ended.usage is not None
    assert json.loads(server.requests[0][2])["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    ("changed", "own"),
    [
        ({"model": "gpt-4o"}, True),
        ({"context": Context(repeat=3)}, True),
        ({"messages": (user("Bye"),)}, False),
        ({"tools": (FunctionTool("f"),)}, False),
    ],
)
async def test_what_a_policy_has_changed_is_translated(
    server: Server, upstream: HttpUpstream, changed: dict[str, Any], own: bool
) -> None:
    server.answers(200, REPLY)
    request = replace(verbatim(OWN % b"false", ASK), **changed)
    (event,) = await events_of(upstream, request)
    assert isinstance(event, WireData) is own
    sent = json.loads(server.requests[0][2])
    assert ("new_field" in sent) is own
    assert sent["model"] == request.model


async def test_a_caller_of_another_dialect_is_translated(server: Server, upstream: HttpUpstream) -> None:
    server.answers(200, REPLY)
    (event,) = await events_of(upstream, replace(ASK, wire=WireCall("anthropic", b"{}", request=ASK)))
    assert isinstance(event, Completed)
    assert server.requests[0][2] == OpenAIChat().encode(ASK).body


async def test_a_stream_in_own_bytes_that_is_cut_off_ends_after_what_was_whole(
    server: Server, upstream: HttpUpstream
) -> None:
    server.streams(FIRST + SECOND[:20], end=b"0\r\n\r\n")
    seen, error = await failure_of(upstream, verbatim(COUNTED % b"true"))
    assert isinstance(error, BadResponse)
    assert b"".join(event.data for event in seen if isinstance(event, WireData)) == FIRST


async def test_an_error_in_the_middle_of_a_piece_does_not_swallow_what_came_before(
    server: Server, upstream: HttpUpstream
) -> None:
    server.streams(FIRST + SECOND + b'data: {"error": {"message": "over", "type": "server_error"}}\n\n')
    seen, error = await failure_of(upstream, verbatim(COUNTED % b"true"))
    assert isinstance(error, ProviderUnavailable)
    (event,) = seen
    assert isinstance(event, WireData)
    assert event.data == FIRST + SECOND
    assert isinstance(event.events[0], Started)


async def test_a_whole_reply_to_a_caller_that_wants_a_stream_is_not_its_own_bytes(
    server: Server, upstream: HttpUpstream
) -> None:
    server.answers(200, REPLY)
    (event,) = await events_of(upstream, verbatim(OWN % b"true"))
    assert isinstance(event, Completed)


async def test_what_a_translation_leaves_out_is_told_with_the_reply(
    server: Server, upstream: HttpUpstream
) -> None:
    marked = Message("user", (Text("Hi", cache=CacheMark()),))
    server.answers(200, REPLY)
    assert (await reply_of(upstream, replace(ASK, messages=(marked,)))).dropped == (
        "messages[0].parts[0].cache",
    )
    server.streams(STREAM)
    first, *_ = await events_of(upstream, replace(ASK_STREAMED, messages=(marked,)))
    assert isinstance(first, Started)
    assert first.dropped == ("messages[0].parts[0].cache",)


CRLF = STREAM.replace(b"\n", b"\r\n")


@pytest.mark.parametrize("body", [OWN % b"true", COUNTED % b"true"], ids=["not asked", "asked"])
async def test_own_bytes_are_whole_wherever_line_ends_are_cut(
    server: Server, upstream: HttpUpstream, body: bytes
) -> None:
    server.streams(CRLF)
    whole = b"".join(
        event.data for event in await events_of(upstream, verbatim(body)) if isinstance(event, WireData)
    )
    ends = [at for at in range(1, len(CRLF)) if CRLF[at - 1 : at + 1] == b"\r\n"]
    for at in ends:
        server.streams(CRLF[:at], CRLF[at:])
        events = await events_of(upstream, verbatim(body))
        got = b"".join(event.data for event in events if isinstance(event, WireData))
        assert got.replace(b"\r", b"") == whole.replace(b"\r", b"")


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ('{"include_usage": false}', {"include_usage": True}),
        ('{"include_obfuscation": false}', {"include_obfuscation": False, "include_usage": True}),
        ("null", {"include_usage": True}),
    ],
)
async def test_a_stream_is_counted_whatever_its_caller_says(
    server: Server, upstream: HttpUpstream, options: str, sent: dict[str, bool]
) -> None:
    server.streams(STREAM)
    body = (OWN % b"true")[:-1] + f', "stream_options": {options}}}'.encode()
    events = await events_of(upstream, verbatim(body.replace(b"Hi", b"include_usage")))
    assert json.loads(server.requests[0][2])["stream_options"] == sent
    shown = b"".join(event.data for event in events if isinstance(event, WireData))
    assert b'"choices":[]' not in shown


async def test_a_chunk_without_choices_that_says_something_else_is_shown(
    server: Server, upstream: HttpUpstream
) -> None:
    filters = b'data: {"id":"","choices":[],"prompt_filter_results":[{"prompt_index":0}]}\n\n'
    server.streams(filters + STREAM)
    events = await events_of(upstream, verbatim(OWN % b"true"))
    shown = b"".join(event.data for event in events if isinstance(event, WireData))
    assert b"prompt_filter_results" in shown
    assert b'"total_tokens"' not in shown


@pytest.mark.parametrize("own", [True, False])
async def test_no_error_inside_a_200_shows_the_key(server: Server, upstream: HttpUpstream, own: bool) -> None:
    error = {"type": "invalid_request_error", "code": KEY, "param": KEY, "message": "x" * 480 + KEY}
    data = b"data: " + json.dumps({"error": error}).encode() + b"\n\n"
    server.streams(data)
    _, failure = await failure_of(upstream, verbatim(COUNTED % b"true") if own else ASK_STREAMED)
    assert KEY[:6] not in str(vars(failure))
    server.answers(200, json.dumps({"error": error}).encode())
    _, failure = await failure_of(upstream, verbatim(OWN % b"false", ASK) if own else ASK)
    assert KEY[:6] not in str(vars(failure))


async def test_a_body_with_anothers_proofs_that_nobody_understood_is_sent_on_without_them(
    server: Server, upstream: HttpUpstream
) -> None:
    server.answers(200, REPLY)
    call = {"id": "1", "extra_content": {"google": {"thought_signature": "assay:gemini:c2ln"}}}
    body = json.dumps({"model": "fast", "new": 1, "messages": [{"role": "x", "tool_calls": [call]}]}).encode()
    problem = RequestError("unknown role")
    request = replace(ASK, wire=WireCall("openai", body, request=ASK, problem=problem))
    await events_of(upstream, request)
    sent = json.loads(server.requests[0][2])
    assert sent["new"] == 1
    assert sent["messages"] == [{"role": "x", "tool_calls": [{"id": "1", "extra_content": {"google": {}}}]}]


async def test_an_event_without_end_does_not_fill_the_memory(server: Server, upstream: HttpUpstream) -> None:
    server.streams(*[b": keepalive\n" * 100_000] * 15)
    _, error = await failure_of(upstream, verbatim(COUNTED % b"true"))
    assert isinstance(error, BadResponse)
    assert "larger than" in error.message
