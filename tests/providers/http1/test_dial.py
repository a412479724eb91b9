"""New connections: which address of a host is taken, and what TLS is told."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from assay.errors import ProviderTimeout, ProviderUnavailable
from assay.providers.http1 import dial
from assay.providers.http1.dial import Address, interleaved
from assay.providers.transport import HttpCall, Transport

from ..far_end import Upstream

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30, method="thread")]

SIX, FOUR = socket.AF_INET6, socket.AF_INET


def addresses(*ports: int) -> list[Address]:
    return [(FOUR, 0, ("127.0.0.1", port)) for port in ports]


def test_families_take_turns() -> None:
    found: Sequence[Address] = [(SIX, 0, 1), (SIX, 0, 2), (SIX, 0, 3), (FOUR, 0, 4), (FOUR, 0, 5)]
    assert [where for _, _, where in interleaved(found)] == [1, 4, 2, 5, 3]


class Network:
    """Plays sock_connect: each port answers when it is told to, or at once."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.sockets: list[socket.socket] = []
        self.answers: dict[int, asyncio.Future[None]] = {}

    def port(self, number: int, error: OSError | None = None, *, now: bool = True) -> None:
        self.answers[number] = asyncio.get_running_loop().create_future()
        if now:
            self.say(number, error)

    def say(self, number: int, error: OSError | None = None) -> None:
        answer = self.answers[number]
        answer.set_exception(error) if error else answer.set_result(None)

    async def attempt(self, address: Address) -> socket.socket:
        self.asked.append(address[2][1])
        sock = socket.socket()
        self.sockets.append(sock)
        try:
            await self.answers[address[2][1]]
        except BaseException:
            sock.close()
            raise
        return sock

    def left_open(self) -> int:
        return sum(sock.fileno() != -1 for sock in self.sockets)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Iterable[Network]:
    network = Network()
    monkeypatch.setattr(dial, "_attempt", network.attempt)
    monkeypatch.setattr(dial, "HEAD_START_S", 0.005)
    yield network
    for sock in network.sockets:
        sock.close()


async def test_a_silent_address_holds_up_no_other(network: Network) -> None:
    network.port(1, now=False)
    network.port(2)
    network.port(3)
    sock = await dial._connected(addresses(1, 2, 3))
    assert network.asked == [1, 2]
    assert sock is network.sockets[1]
    assert network.left_open() == 1


async def test_an_address_that_refuses_is_followed_by_the_next_at_once(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dial, "HEAD_START_S", 1_000)
    network.port(1, ConnectionRefusedError(111, "no"))
    network.port(2)
    await dial._connected(addresses(1, 2, 3))
    assert network.asked == [1, 2]
    assert network.left_open() == 1


async def test_a_slow_address_may_still_be_the_first_to_answer(network: Network) -> None:
    for port in (1, 2):
        network.port(port, now=False)
    connecting = asyncio.create_task(dial._connected(addresses(1, 2)))
    while len(network.asked) < 2:  # the second joins in after its time
        await asyncio.sleep(0)
    network.say(1)
    network.say(2)
    await connecting
    assert network.left_open() == 1


async def test_where_no_address_answers_the_first_reason_is_told(network: Network) -> None:
    network.port(1, ConnectionRefusedError(111, "first"))
    network.port(2, OSError(113, "second"))
    with pytest.raises(OSError, match="first"):
        await dial._connected(addresses(1, 2))
    assert network.left_open() == 0
    with pytest.raises(OSError, match="no address"):
        await dial._connected([])


async def test_a_dial_that_is_cancelled_leaves_no_socket(network: Network) -> None:
    for steps in range(12):
        for port in (1, 2):
            network.port(port, now=False)
        connecting = asyncio.create_task(dial._connected(addresses(1, 2)))
        for step in range(steps):
            await asyncio.sleep(0)
            if step == 6:
                network.say(1)
        connecting.cancel()
        with suppress(asyncio.CancelledError):
            (await connecting).close()
        assert network.left_open() == 0


async def test_a_host_with_several_addresses_is_reached(
    upstream: Upstream, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        closed = stack.enter_context(socket.socket())
        closed.bind(("127.0.0.1", 0))

        async def resolved(_origin: Any) -> list[Address]:
            return addresses(closed.getsockname()[1], upstream.port)

        monkeypatch.setattr(dial, "_resolved", resolved)
        call = HttpCall("POST", f"http://name.example:{upstream.port}/", (), b"{}")
        answering = asyncio.create_task(upstream.answer(b"HTTP/1.1 204 No\r\n\r\n"))
        async with transport.send(call) as reply:
            assert reply.status == 204
        await answering


async def test_a_name_of_this_machine(upstream: Upstream, transport: Transport) -> None:
    answering = asyncio.create_task(upstream.answer(b"HTTP/1.1 204 No\r\n\r\n"))
    call = HttpCall("POST", f"http://localhost:{upstream.port}/", (), b"{}")
    async with transport.send(call) as reply:
        assert reply.status == 204
    await answering


async def test_a_handshake_that_is_not_answered_ends_with_its_time(upstream: Upstream) -> None:
    async with Transport(connect_timeout_s=0.05) as transport:
        with pytest.raises(ProviderTimeout, match="accepted no connection"):
            async with transport.send(HttpCall("POST", f"https://127.0.0.1:{upstream.port}/", (), b"")):
                pass
        far_end = await upstream.accept()
        assert await far_end.closed_by_peer() > 0


async def test_tls_names_the_host_and_speaks_http_1_1_alone(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.set_alpn_protocols(["h2", "http/1.1"])
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    upstream = await Upstream().listen(context)
    async with Transport() as transport:
        # The certificate is one of an address: a name is told, and then not trusted.
        with pytest.raises(ProviderUnavailable, match="not trusted"):
            async with transport.send(HttpCall("POST", f"https://localhost:{upstream.port}/", (), b"")):
                pass
        assert names == ["localhost"]
        answering = asyncio.create_task(upstream.answer(b"HTTP/1.1 204 No\r\n\r\n"))
        async with transport.send(HttpCall("POST", f"https://127.0.0.1:{upstream.port}/", (), b"")) as reply:
            assert reply.status == 204
        far_end = await answering
        assert far_end.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
    upstream.close()
