"""Connections kept, shared out and given up, over real sockets: who gets one, and that no place is lost."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from assay.errors import AssayError, BadResponse, ProviderUnavailable
from assay.providers import transport as seam
from assay.providers.http1 import pool as pool_module
from assay.providers.http1.pool import Pool
from assay.providers.transport import HttpCall, Transport

from ..far_end import FarEnd, Upstream

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30, method="thread")]

HELLO = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


class Echo(Upstream):
    """Answers every request on every connection with what it asks, by itself."""

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super()._connected(reader, writer)
        self.tasks.append(asyncio.create_task(self._serve(self.accepted[-1])))

    async def _serve(self, far_end: FarEnd) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                _, body = await far_end.request()
                self.asked.append(body.decode())
                await far_end.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

    async def listen(self, context: ssl.SSLContext | None = None) -> Echo:
        self.tasks: list[asyncio.Task[None]] = []
        self.asked: list[str] = []
        await super().listen(context)
        return self

    def close(self) -> None:
        super().close()
        for task in self.tasks:
            task.cancel()


@asynccontextmanager
async def echoing(context: ssl.SSLContext | None = None) -> AsyncIterator[Echo]:
    echo = await Echo().listen(context)
    try:
        yield echo
    finally:
        echo.close()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    async with echoing() as echo:
        yield echo


async def fetch(transport: Transport, call: HttpCall) -> bytes:
    async with transport.send(call) as reply:
        return await reply.read(1 << 20)


def pool_of(transport: Transport) -> Pool:
    assert transport._pool is not None
    return transport._pool


def assert_all_in_order(transport: Transport) -> None:
    """Every place belongs to a connection, and every connection is idle."""
    pool = pool_of(transport)
    idle = [connection for connections in pool._idle.values() for connection in connections]
    assert pool._places == sum(connection.open for connection in pool._known) == len(idle)
    assert all(pool._idle.values())
    assert not pool._waiting
    assert not pool._dialling


# --- kept -----------------------------------------------------------------------------------------------


async def test_calls_one_after_another_share_a_connection(echo: Echo, transport: Transport) -> None:
    for n in range(5):
        assert await fetch(transport, echo.call(body=b"%d" % n)) == b"%d" % n
    assert len(echo.accepted) == 1
    assert_all_in_order(transport)


async def test_calls_at_a_time_have_their_own_and_share_them_later(echo: Echo, transport: Transport) -> None:
    for _ in range(3):
        await asyncio.gather(*(fetch(transport, echo.call()) for _ in range(10)))
    assert len(echo.accepted) == 10
    assert_all_in_order(transport)


async def test_a_connection_is_free_when_the_reply_is_whole_not_when_it_is_read(echo: Echo) -> None:
    async with Transport(max_connections=1) as transport:
        async with transport.send(echo.call(body=b"1")) as first:
            assert await fetch(transport, echo.call(body=b"2")) == b"2"
            assert await first.read(10) == b"1"
        assert len(echo.accepted) == 1
        assert_all_in_order(transport)


async def test_an_idle_connection_is_closed_after_its_time(
    echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seam, "KEEPALIVE_S", 0.005)
    async with Transport() as transport:
        await asyncio.gather(*(fetch(transport, echo.call()) for _ in range(3)))
        await asyncio.gather(*echo.tasks)  # each ends when the client has gone
        assert_all_in_order(transport)
        assert not pool_of(transport)._known
        await fetch(transport, echo.call())
    assert len(echo.accepted) == 4


async def test_a_connection_beyond_its_time_is_not_used_though_no_timer_has_come_yet(
    echo: Echo, transport: Transport
) -> None:
    await fetch(transport, echo.call())
    pool = pool_of(transport)
    ((connection,),) = pool._idle.values()
    connection.idle_since -= seam.KEEPALIVE_S
    await fetch(transport, echo.call())
    assert len(echo.accepted) == 2
    assert_all_in_order(transport)


async def test_the_timer_comes_again_for_those_that_are_younger(echo: Echo, transport: Transport) -> None:
    await asyncio.gather(*(fetch(transport, echo.call()) for _ in range(3)))
    pool = pool_of(transport)
    ((older, *younger),) = pool._idle.values()
    older.idle_since -= seam.KEEPALIVE_S
    pool._expire()
    assert list(pool._idle.values()) == [younger]
    assert pool._sweep is not None
    for connection in younger:
        connection.idle_since -= seam.KEEPALIVE_S
    pool._sweep.cancel()
    pool._expire()
    assert not pool._idle
    assert pool._sweep is None
    assert_all_in_order(transport)


@pytest.mark.parametrize("parting", [b"", b"HTTP/1.1 408 Request Timeout\r\n\r\n", HELLO, b"\r\n"])
async def test_a_connection_that_the_upstream_ended_while_idle_is_not_used(
    upstream: Upstream, transport: Transport, parting: bytes
) -> None:
    for count in (1, 2):
        answering = asyncio.create_task(upstream.answer(HELLO))
        assert await fetch(transport, upstream.call()) == b"hello"
        far_end = await answering
        assert len(upstream.accepted) == count
        await far_end.send(parting) if parting else far_end.writer.write_eof()
        await far_end.closed_by_peer()
    assert_all_in_order(transport)


async def test_a_connection_that_is_lost_as_it_is_used_again_is_an_error_to_be_retried(
    upstream: Upstream, transport: Transport
) -> None:
    answering = asyncio.create_task(upstream.answer(HELLO))
    await fetch(transport, upstream.call())
    far_end = await answering
    calling = asyncio.create_task(fetch(transport, upstream.call()))
    await far_end.request()
    far_end.close()
    with pytest.raises(ProviderUnavailable, match="before it answered") as caught:
        await calling
    assert caught.value.retryable
    assert_all_in_order(transport)


# --- shared out -----------------------------------------------------------------------------------------


async def test_who_waits_is_served_in_order_whatever_the_upstream(echo: Echo) -> None:
    async with echoing() as other, Transport(max_connections=1) as transport:
        order: list[int] = []

        async def call(n: int) -> None:
            await fetch(transport, (other if n % 3 else echo).call())
            order.append(n)

        await asyncio.gather(*(call(n) for n in range(12)))
        assert order == list(range(12))
        assert_all_in_order(transport)
        assert pool_of(transport)._places == 1


async def test_there_are_never_more_connections_than_allowed(echo: Echo) -> None:
    async with echoing() as other, Transport(max_connections=3) as transport:
        await asyncio.gather(*(fetch(transport, (other if n % 2 else echo).call()) for n in range(40)))
        assert pool_of(transport)._places <= 3
        assert_all_in_order(transport)
    assert len(echo.asked) == len(other.asked) == 20


async def test_an_idle_connection_makes_room_for_another_upstream(echo: Echo) -> None:
    async with echoing() as other, Transport(max_connections=2) as transport:
        await fetch(transport, echo.call())
        await fetch(transport, other.call())
        async with echoing() as third:
            await fetch(transport, third.call())
            assert_all_in_order(transport)
            await fetch(transport, other.call())
        assert (len(echo.accepted), len(other.accepted)) == (1, 1)


async def test_a_dial_that_fails_gives_its_place_to_the_next(echo: Echo) -> None:
    gone = await Upstream().listen()
    gone.close()
    async with Transport(max_connections=1) as transport:
        calls = [gone.call(), echo.call(body=b"1"), gone.call(), echo.call(body=b"2")]
        outcomes = await asyncio.gather(*(fetch(transport, call) for call in calls), return_exceptions=True)
        assert outcomes[1::2] == [b"1", b"2"]
        assert all(isinstance(outcome, ProviderUnavailable) for outcome in outcomes[::2])
        assert_all_in_order(transport)


@pytest.mark.parametrize("waiting", [False, True])
@pytest.mark.parametrize("tls", [False, True])
async def test_a_call_cancelled_at_any_step_leaves_nothing_behind(
    certificate: Path, monkeypatch: pytest.MonkeyPatch, tls: bool, waiting: bool
) -> None:
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with echoing(context) as echo, Transport(max_connections=1) as transport:
        url = f"{'https' if tls else 'http'}://127.0.0.1:{echo.port}/"
        call = HttpCall("POST", url, (), b"x")
        finished = steps = 0
        while finished < 3:
            first = asyncio.create_task(fetch(transport, call)) if waiting else None
            task = asyncio.create_task(fetch(transport, call))
            for _ in range(steps):
                await asyncio.sleep(0)
            steps += 1
            finished += task.done()
            task.cancel()
            with suppress(asyncio.CancelledError):
                assert await task == b"x"
            if first is not None:
                assert await first == b"x"
            assert_all_in_order(transport)
            if steps % 2:  # so that some of them have to dial
                for connection in list(pool_of(transport)._known):
                    connection.abort()
        assert await fetch(transport, call) == b"x"


async def test_who_gives_up_waiting_is_forgotten_at_once(upstream: Upstream) -> None:
    async with Transport(max_connections=1) as transport:
        first = asyncio.create_task(fetch(transport, upstream.call()))
        far_end = await upstream.accept()
        pool = pool_of(transport)
        waiting = [asyncio.create_task(fetch(transport, upstream.call(timeout_s=60))) for _ in range(5)]
        while len(pool._waiting) < 5:
            await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert not pool._waiting
        await far_end.request()
        await far_end.send(HELLO)
        assert await first == b"hello"
        assert_all_in_order(transport)


# --- given up -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", range(0, 40, 3))
async def test_closing_at_any_step_ends_every_call(echo: Echo, steps: int) -> None:
    transport = await Transport(max_connections=2).__aenter__()
    calls = [asyncio.create_task(fetch(transport, echo.call(body=b"x"))) for _ in range(5)]
    for _ in range(steps):
        await asyncio.sleep(0)
    await asyncio.gather(transport.aclose(), transport.aclose())
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        assert outcome == b"x" or isinstance(outcome, ProviderUnavailable | BadResponse)
    assert not pool_of(transport)._known
    with pytest.raises(AssayError):
        await fetch(transport, echo.call())


async def test_closing_ends_a_call_whose_connection_is_being_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    dialled = asyncio.Event()

    async def never(*_: object) -> None:
        dialled.set()
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(pool_module, "dial", never)
    async with Transport() as transport:
        call = asyncio.create_task(fetch(transport, HttpCall("POST", "http://127.0.0.1:9/", (), b"")))
        await dialled.wait()
        await transport.aclose()
        with pytest.raises(ProviderUnavailable):
            await call
        assert_all_in_order(transport)


async def test_a_reply_that_is_refused_for_its_coding_is_not_read_on(
    upstream: Upstream, transport: Transport
) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: br\r\ntransfer-encoding: chunked\r\n\r\n"
    answering = asyncio.create_task(upstream.answer(head))
    with pytest.raises(BadResponse, match="br"):
        await fetch(transport, upstream.call())
    await (await answering).closed_by_peer()
    assert_all_in_order(transport)


async def test_a_slow_reader_gets_everything_and_holds_the_upstream_up(
    upstream: Upstream, transport: Transport
) -> None:
    data = bytes(range(256)) * (1 << 16)
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(data)
    answering = asyncio.create_task(upstream.answer(head + data))
    async with transport.send(upstream.call()) as reply:
        received = await anext(reply.chunks)
        assert not answering.done()
        async for chunk in reply.chunks:
            assert len(chunk) < 1 << 20
            received += chunk
    assert received == data
    await answering


async def test_much_goes_both_ways_under_tls(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    data = bytes(range(256)) * (1 << 15)
    upstream = await Upstream().listen(context)

    async def play() -> bytes:
        far_end = await upstream.accept()
        _, body = await far_end.request()
        await far_end.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(data), data))
        return body

    playing = asyncio.create_task(play())
    async with Transport() as transport:
        call = HttpCall("POST", f"https://127.0.0.1:{upstream.port}/", (), data)
        async with transport.send(call) as reply:
            received = await anext(reply.chunks)
            async for chunk in reply.chunks:
                assert len(chunk) < 1 << 20
                received += chunk
        assert received == data == await playing
        assert_all_in_order(transport)
    upstream.close()
