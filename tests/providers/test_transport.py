"""The transport against upstreams that misbehave: real sockets on loopback, the test playing the far end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import traceback
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from assay.errors import AssayError, BadResponse, ConfigError, ProviderTimeout, ProviderUnavailable
from assay.providers.transport import HttpCall, HttpReply, Transport

from .far_end import FarEnd, Upstream

# Under uvloop a signal cannot interrupt a test that hangs.
pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30, method="thread")]

OK = b"HTTP/1.1 200 OK\r\n"
SIZED = OK + b"content-length: 10\r\n\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
UNFRAMED = OK + b"\r\n"
HELLO = OK + b"content-length: 5\r\n\r\nhello"


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    upstream = await Upstream().listen()
    yield upstream
    upstream.close()


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    async with Transport() as transport:
        yield transport


async def fetch(transport: Transport, call: HttpCall) -> tuple[int, bytes]:
    async with transport.send(call) as reply:
        return reply.status, await reply.read(1 << 20)


@contextlib.asynccontextmanager
async def fetching(transport: Transport, call: HttpCall) -> AsyncIterator[asyncio.Task[tuple[int, bytes]]]:
    """The call under way in a task, which does not outlive the block."""
    task = asyncio.create_task(fetch(transport, call))
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, AssayError):
            await task


@contextlib.asynccontextmanager
async def replied(
    transport: Transport, upstream: Upstream, data: bytes
) -> AsyncIterator[tuple[HttpReply, FarEnd]]:
    """Both ends of a call that the upstream has answered with this, as yet."""
    async with contextlib.AsyncExitStack() as stack:
        entering = asyncio.create_task(stack.enter_async_context(transport.send(upstream.call())))
        far_end = await upstream.answer(data)
        yield await entering, far_end


# --- what goes over the wire --------------------------------------------------------------------------------


async def test_the_request_carries_what_was_given_and_asks_for_no_compression(
    transport: Transport, upstream: Upstream
) -> None:
    headers = (
        ("Authorization", "Bearer k"),
        ("Content-Type", "application/json"),
        ("X-Tag", "a"),
        ("X-Tag", "b"),
    )
    url = f"http://127.0.0.1:{upstream.port}/models/m:generate?alt=sse"
    async with fetching(transport, HttpCall("POST", url, headers, b'{"a":1}')) as task:
        far_end = await upstream.accept()
        head, body = await far_end.request()
        await far_end.send(HELLO)
        assert await task == (200, b"hello")
    lines = head.lower().split("\r\n")
    assert lines[0] == "post /models/m:generate?alt=sse http/1.1"
    assert {"authorization: bearer k", "x-tag: a", "x-tag: b", "content-length: 7"} <= set(lines)
    assert "accept-encoding: identity" in lines
    assert body == b'{"a":1}'


async def test_a_large_body_arrives_whole(transport: Transport, upstream: Upstream) -> None:
    body = bytes(range(256)) * 12_000
    async with fetching(transport, upstream.call(body=body)) as task:
        far_end = await upstream.accept()
        head, received = await far_end.request()
        await far_end.send(HELLO)
        await task
    assert received == body
    assert "transfer-encoding" not in head.lower()


async def test_chunks_come_one_by_one_as_they_are_sent(transport: Transport, upstream: Upstream) -> None:
    async with replied(transport, upstream, CHUNKED) as (reply, far_end):
        for text in (b"one", b"two", b"three"):
            await far_end.send(b"%x\r\n%s\r\n" % (len(text), text))
            assert await anext(reply.chunks) == text
        await far_end.send(b"0\r\n\r\n")
        with pytest.raises(StopAsyncIteration):
            await anext(reply.chunks)


async def test_every_status_is_a_reply(transport: Transport, upstream: Upstream) -> None:
    head = b"HTTP/1.1 429 Slow down\r\nRetry-After: 7\r\ncontent-length: 4\r\n\r\n"
    async with replied(transport, upstream, head + b"late") as (reply, _):
        assert (reply.status, reply.headers["retry-after"], await reply.read(4)) == (429, "7", b"late")


async def test_redirects_are_not_followed(transport: Transport, upstream: Upstream) -> None:
    async with fetching(transport, upstream.call()) as task:
        far_end = await upstream.accept()
        await far_end.request()
        target = f"http://127.0.0.1:{upstream.port}/elsewhere".encode()
        await far_end.send(b"HTTP/1.1 307 Moved\r\nlocation: %s\r\ncontent-length: 0\r\n\r\n" % target)
        assert await task == (307, b"")
    assert len(upstream.accepted) == 1


async def test_interim_responses_are_skipped(transport: Transport, upstream: Upstream) -> None:
    async with fetching(transport, upstream.call()) as task:
        await upstream.answer(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + HELLO)
        assert await task == (200, b"hello")


async def test_proxies_of_the_environment_are_ignored(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{unused_port()}")
    async with Transport() as transport, fetching(transport, upstream.call()) as task:
        await upstream.answer(HELLO)
        assert await task == (200, b"hello")


async def test_a_connection_is_used_again_and_cookies_are_not(
    transport: Transport, upstream: Upstream
) -> None:
    heads = []
    for _ in range(2):
        async with fetching(transport, upstream.call()) as task:
            far_end = upstream.accepted[0] if upstream.accepted else await upstream.accept()
            heads.append((await far_end.request())[0])
            await far_end.send(OK + b"set-cookie: session=1; path=/\r\ncontent-length: 2\r\n\r\nhi")
            assert await task == (200, b"hi")
    assert len(upstream.accepted) == 1
    assert "cookie" not in heads[1].lower()


async def test_calls_beyond_the_limit_wait_for_a_connection(upstream: Upstream) -> None:
    async with Transport(max_connections=1) as transport, fetching(transport, upstream.call("/1")) as first:
        far_end = await upstream.accept()
        await far_end.request()
        async with fetching(transport, upstream.call("/2")) as second:
            with pytest.raises(ProviderTimeout):
                await fetch(transport, upstream.call("/3", timeout_s=0.05))
            await far_end.send(HELLO)
            await first
            assert (await far_end.request())[0].startswith("POST /2 ")
            await far_end.send(HELLO)
            assert await second == (200, b"hello")
    assert len(upstream.accepted) == 1


async def test_concurrent_calls_get_their_own_replies(transport: Transport, upstream: Upstream) -> None:
    async def echo() -> None:
        far_end = await upstream.accept()
        _, body = await far_end.request()
        await far_end.send(OK + b"content-length: %d\r\n\r\n%s" % (len(body), body))

    echoes = [echo() for _ in range(50)]
    calls = [fetch(transport, upstream.call(body=b"call %d" % n)) for n in range(50)]
    replies = (await asyncio.gather(*calls, *echoes))[:50]
    assert replies == [(200, b"call %d" % n) for n in range(50)]


# --- replies that are not right -----------------------------------------------------------------------------

BROKEN_HEADS = {
    "not HTTP": b"\x16\x03\x01\x02\x00\r\n\r\n",
    "a line of text": b"hello world\n",
    "a status that is no number": b"HTTP/1.1 abc OK\r\n\r\n",
    "a header without colon": OK + b"no colon here\r\n\r\n",
    "a length that is no number": OK + b"content-length: ten\r\n\r\n",
    "two lengths": OK + b"content-length: 2\r\ncontent-length: 3\r\n\r\nabc",
    "length and chunks": OK + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "an endless head": OK + b"x-a: " + b"a" * 100_000,
}


@pytest.mark.parametrize("head", BROKEN_HEADS.values(), ids=BROKEN_HEADS)
async def test_an_invalid_head_is_a_bad_response(
    transport: Transport, upstream: Upstream, head: bytes
) -> None:
    async with fetching(transport, upstream.call()) as task:
        far_end = await upstream.answer(head)
        with pytest.raises(BadResponse):
            await task
        await far_end.closed_by_peer()


async def test_compression_that_was_not_asked_for_is_refused(
    transport: Transport, upstream: Upstream
) -> None:
    async with fetching(transport, upstream.call()) as task:
        await upstream.answer(OK + b"content-encoding: gzip\r\ncontent-length: 2\r\n\r\n\x1f\x8b")
        with pytest.raises(BadResponse, match="gzip"):
            await task


BROKEN_BODIES = {
    "sized": (SIZED, b"hello"),
    "sized, nothing came": (SIZED, b""),
    "chunked, between chunks": (CHUNKED, b"5\r\nhello\r\n"),
    "chunked, nothing came": (CHUNKED, b""),
    "chunked, inside a chunk": (CHUNKED, b"a\r\nhello"),
    "chunked, inside a size": (CHUNKED, b"5\r\nhello\r\n1"),
    "chunked, before the last line": (CHUNKED, b"5\r\nhello\r\n0\r\n"),
}


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("together", [True, False], ids=["one packet", "two packets"])
@pytest.mark.parametrize(("head", "body"), BROKEN_BODIES.values(), ids=BROKEN_BODIES)
async def test_a_body_that_breaks_off_never_ends_quietly(
    transport: Transport, upstream: Upstream, head: bytes, body: bytes, together: bool, how: str
) -> None:
    with pytest.raises(BadResponse, match="broke off"):
        await broken_off(transport, upstream, head, body, together=together, reset=how == "reset")


async def test_a_body_without_length_ends_with_its_connection_unless_that_is_reset(
    transport: Transport, upstream: Upstream
) -> None:
    for together in (True, False):
        assert (
            await broken_off(transport, upstream, UNFRAMED, b"hello", together=together, reset=False)
            == b"hello"
        )
        with pytest.raises(BadResponse, match="broke off"):
            await broken_off(transport, upstream, UNFRAMED, b"hello", together=together, reset=True)


async def broken_off(
    transport: Transport, upstream: Upstream, head: bytes, body: bytes, *, together: bool, reset: bool
) -> bytes:
    """What the client reads when the upstream sends this and then hangs up."""
    async with replied(transport, upstream, head + body if together else head) as (reply, far_end):
        if not together:
            await far_end.send(body)
        far_end.reset() if reset else far_end.close()
        return await reply.read(1 << 20)


@pytest.mark.parametrize("body", [b"zz\r\nhello\r\n", b"5 \x00\r\nhello", b"5\r\nhelloworld\r\n"])
async def test_chunks_that_are_not_chunks_are_a_bad_response(
    transport: Transport, upstream: Upstream, body: bytes
) -> None:
    async with replied(transport, upstream, CHUNKED) as (reply, far_end):
        await far_end.send(body)
        with pytest.raises(BadResponse, match="broke off"):
            await reply.read(1 << 20)
        await far_end.closed_by_peer()


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_hanging_up_before_the_head_is_unavailable(
    transport: Transport, upstream: Upstream, how: str
) -> None:
    async with fetching(transport, upstream.call()) as task:
        far_end = await upstream.accept()
        await far_end.request()
        far_end.reset() if how == "reset" else far_end.close()
        with pytest.raises(ProviderUnavailable, match="before it answered") as caught:
            await task
    assert caught.value.retryable


async def test_a_reply_beyond_the_limit_is_refused_and_given_up(
    transport: Transport, upstream: Upstream
) -> None:
    async with replied(transport, upstream, UNFRAMED + b"x" * 101) as (reply, far_end):
        with pytest.raises(BadResponse, match="longer than 100 bytes"):
            await reply.read(100)
    await far_end.closed_by_peer()


# --- upstreams that cannot be reached -----------------------------------------------------------------------


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def full_backlog() -> Iterator[int]:
    """The port of a socket whose queue of connections is full: the kernel answers no further SYN."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(listener.getsockname())
        yield listener.getsockname()[1]


def call_to(url: str, **headers: str) -> HttpCall:
    return HttpCall("POST", url, tuple(headers.items()), b"{}")


async def test_a_refused_connection_is_unavailable(transport: Transport) -> None:
    with pytest.raises(ProviderUnavailable, match="Connection refused"):
        await fetch(transport, call_to(f"http://127.0.0.1:{unused_port()}/"))


async def test_a_host_without_address_is_unavailable(transport: Transport) -> None:
    with pytest.raises(ProviderUnavailable, match=r"host of http://nowhere\.invalid cannot be found"):
        await fetch(transport, call_to("http://nowhere.invalid/"))


async def test_a_connection_that_is_not_accepted_times_out(full_backlog: int) -> None:
    async with Transport(connect_timeout_s=0.05) as transport:
        with pytest.raises(ProviderTimeout, match="accepted no connection"):
            await fetch(transport, call_to(f"http://127.0.0.1:{full_backlog}/"))


@pytest.mark.parametrize(
    "url", ["127.0.0.1/v1", "ftp://127.0.0.1/", "http://[::zz/", "http://127.0.0.1:99999/", ""]
)
async def test_a_url_that_cannot_be_called_is_a_configuration_error(transport: Transport, url: str) -> None:
    with pytest.raises(ConfigError, match="base_url"):
        await fetch(transport, call_to(url))


@pytest.mark.parametrize("value", ["sk-1\n", "sk-1\r\nx-admin: 1", "sk-1\0"])
async def test_a_header_cannot_smuggle_another(transport: Transport, upstream: Upstream, value: str) -> None:
    with pytest.raises(ConfigError, match="api_key"):
        await fetch(transport, call_to(f"http://127.0.0.1:{upstream.port}/", authorization=value))
    # Nothing came of it: the first request that arrives is the next one.
    async with fetching(transport, upstream.call("/next")) as task:
        far_end = await upstream.accept()
        assert (await far_end.head()).startswith("POST /next ")
        await far_end.send(HELLO)
        await task
    assert len(upstream.accepted) == 1


async def test_no_message_shows_the_query_or_the_credentials_of_a_url(
    transport: Transport, upstream: Upstream
) -> None:
    secret = "s3cr3t"
    urls = [
        f"http://127.0.0.1:{unused_port()}/v1?key={secret}",
        f"http://nowhere.invalid/v1?key={secret}",
        f"ftp://user:{secret}@127.0.0.1/v1?key={secret}",
        f"http://[::zz/v1?key={secret}",
    ]
    for url in urls:
        with pytest.raises(AssayError) as caught:
            await fetch(transport, call_to(url))
        assert secret not in "".join(traceback.format_exception(caught.value))
    async with fetching(transport, upstream.call(f"/v1?key={secret}")) as task:
        await upstream.answer(b"nonsense\r\n\r\n")
        with pytest.raises(BadResponse) as bad:
            await task
    assert secret not in "".join(traceback.format_exception(bad.value))


# --- silence, and callers that go away ----------------------------------------------------------------------

STALLS = {"before the head": b"", "after the head": CHUNKED, "inside the body": CHUNKED + b"2\r\nhi\r\n"}


@pytest.mark.parametrize("sent", STALLS.values(), ids=STALLS)
async def test_a_silent_upstream_times_out_and_is_given_up(
    transport: Transport, upstream: Upstream, sent: bytes
) -> None:
    async with fetching(transport, upstream.call(timeout_s=0.1)) as task:
        far_end = await upstream.answer(sent)
        with pytest.raises(ProviderTimeout, match=r"within 0\.1 s"):
            await task
        await far_end.closed_by_peer()


@pytest.mark.parametrize("timeout_s", [0.0, -1.0])
async def test_a_call_without_time_left_is_not_made(
    transport: Transport, upstream: Upstream, timeout_s: float
) -> None:
    with pytest.raises(ProviderTimeout, match="No time was left"):
        await fetch(transport, upstream.call(timeout_s=timeout_s))
    assert not upstream.accepted


@pytest.mark.parametrize("sent", STALLS.values(), ids=STALLS)
async def test_cancelling_the_task_closes_the_connection(
    transport: Transport, upstream: Upstream, sent: bytes
) -> None:
    arrived: asyncio.Queue[HttpReply | bytes] = asyncio.Queue()

    async def consume() -> None:
        async with transport.send(upstream.call()) as reply:
            arrived.put_nowait(reply)
            async for chunk in reply.chunks:
                arrived.put_nowait(chunk)

    task = asyncio.create_task(consume())
    far_end = await upstream.answer(sent)
    for _ in range((sent != b"") + (b"hi" in sent)):
        await arrived.get()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await far_end.closed_by_peer()


async def test_what_a_cancelled_call_had_not_sent_stays_unsent(
    transport: Transport, upstream: Upstream
) -> None:
    # Over loopback the kernel takes megabytes at once: a huge body shows what any does on a slow network.
    body = b"x" * 50_000_000
    async with fetching(transport, upstream.call(body=body)) as task:
        far_end = await upstream.accept()
        await far_end.head()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await far_end.closed_by_peer() < len(body)


async def test_leaving_the_block_early_closes_the_connection(
    transport: Transport, upstream: Upstream
) -> None:
    async with replied(transport, upstream, CHUNKED + b"2\r\nhi\r\n") as (reply, far_end):
        assert await anext(reply.chunks) == b"hi"
    await far_end.closed_by_peer()


async def test_closing_the_transport_ends_the_calls_under_way(upstream: Upstream) -> None:
    async with Transport() as transport, fetching(transport, upstream.call()) as task:
        far_end = await upstream.accept()
        await far_end.request()
        await transport.aclose()
        with pytest.raises(ProviderUnavailable):
            await task
        await far_end.closed_by_peer()


async def test_a_transport_that_was_not_entered_says_so() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await fetch(Transport(), call_to("http://127.0.0.1/"))


# --- TLS ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def tls_upstream(certificate: Path) -> AsyncIterator[Upstream]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    upstream = await Upstream().listen(context)
    yield upstream
    upstream.close()


async def test_the_system_store_is_trusted_and_ssl_cert_file_replaces_it(
    tls_upstream: Upstream, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = call_to(f"https://127.0.0.1:{tls_upstream.port}/v1")
    async with Transport() as transport:
        with pytest.raises(ProviderUnavailable, match="SSL_CERT_FILE") as caught:
            await fetch(transport, call)
    assert not caught.value.retryable

    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with Transport() as transport, fetching(transport, call) as task:
        await tls_upstream.answer(HELLO)
        assert await task == (200, b"hello")


async def test_a_body_that_breaks_off_under_tls_is_a_bad_response(
    tls_upstream: Upstream, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    call = call_to(f"https://127.0.0.1:{tls_upstream.port}/v1")
    async with Transport() as transport, fetching(transport, call) as task:
        far_end = await tls_upstream.answer(CHUNKED + b"5\r\nhello\r\n")
        far_end.close()
        with pytest.raises(BadResponse):
            await task


async def test_an_upstream_that_does_not_speak_tls_is_unavailable(
    transport: Transport, upstream: Upstream
) -> None:
    async with fetching(transport, call_to(f"https://127.0.0.1:{upstream.port}/v1")) as task:
        far_end = await upstream.accept()
        await far_end.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(ProviderUnavailable, match="does not speak TLS"):
            await task
