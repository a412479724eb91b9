"""Opens connections: addresses of a host, TCP to the first of them that answers, TLS. Keeps none.

Addresses are tried as RFC 8305 says ("happy eyeballs"): one family after the other, each a little after the
last, and the first that answers is taken. This is written here because uvloop does not offer it.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from assay.providers.http1.connection import Connection
from assay.providers.http1.failures import ConnectTimeout
from assay.providers.http1.request import Origin

HEAD_START_S = 0.25
"""How long one address is tried alone, before the next joins in (RFC 8305, section 5)."""

Address = tuple[socket.AddressFamily, int, Any]


def system_tls() -> ssl.SSLContext:
    """Verifies against the system's trust store, or SSL_CERT_FILE and SSL_CERT_DIR; speaks HTTP/1.1 alone."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


async def dial(
    origin: Origin, make: Callable[[], Connection], tls: ssl.SSLContext, timeout_s: float
) -> Connection:
    """A new connection. Raises ConnectTimeout (TCP and TLS beyond `timeout_s`), gaierror, other OSErrors."""
    addresses = await _resolved(origin)
    try:
        async with asyncio.timeout(timeout_s):
            return await _joined(origin, make, tls, await _connected(addresses))
    except TimeoutError as exc:
        if exc.errno is not None:
            raise  # the system's own, sooner than ours
        raise ConnectTimeout from None


async def _joined(
    origin: Origin, make: Callable[[], Connection], tls: ssl.SSLContext, sock: socket.socket
) -> Connection:
    """The connection on this socket, which the loop closes when this fails."""
    loop = asyncio.get_running_loop()
    if not origin.tls:
        return (await loop.create_connection(make, sock=sock))[1]
    # In two steps: asyncio leaves a socket behind that it was to secure in one, when that is cancelled.
    plain, unsecured = await loop.create_connection(_Unsecured, sock=sock)
    if unsecured.spoken:
        plain.abort()
        raise ssl.SSLError(1, "it speaks before it is spoken to")
    connection = make()
    try:
        secured = await loop.start_tls(plain, connection, tls, server_hostname=origin.host.rstrip("."))
    except BaseException:
        plain.abort()
        raise
    if secured is None:  # it was closed in the meantime
        raise ConnectionResetError
    connection.connection_made(secured)
    return connection


class _Unsecured(asyncio.Protocol):
    """Until TLS begins. What comes before is none: whoever serves TLS waits for the client's word."""

    def __init__(self) -> None:
        self.spoken = False

    def data_received(self, data: bytes) -> None:
        self.spoken = True


async def _resolved(origin: Origin) -> list[Address]:
    try:
        # An address needs no thread.
        found = socket.getaddrinfo(
            origin.host, origin.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )
    except socket.gaierror:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    return interleaved([(family, proto, address) for family, _, proto, _, address in found])


def interleaved(addresses: Sequence[Address]) -> list[Address]:
    """Each family in its turn, beginning with the one that the system puts first."""
    families: dict[int, list[Address]] = {}
    for address in addresses:
        families.setdefault(address[0], []).append(address)
    turns = itertools.zip_longest(*families.values())
    return [address for turn in turns for address in turn if address is not None]


async def _connected(addresses: Sequence[Address]) -> socket.socket:
    """A socket connected to the first that answers. Raises the first of their OSErrors when none does."""
    if len(addresses) == 1:
        return await _attempt(addresses[0])
    left = iter(addresses)
    running: set[asyncio.Task[socket.socket]] = set()
    errors: list[OSError] = []
    winner: socket.socket | None = None
    try:
        exhausted = False
        while winner is None:
            address = next(left, None)
            exhausted = address is None
            if address is not None:
                running.add(asyncio.create_task(_attempt(address)))
            elif not running:
                raise errors[0] if errors else OSError("the host has no address")
            done, running = await asyncio.wait(
                running, timeout=None if exhausted else HEAD_START_S, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                error = task.exception()
                if isinstance(error, OSError):
                    errors.append(error)
                elif error is not None:
                    raise error
                elif winner is None:
                    winner = task.result()
                else:
                    task.result().close()
        return winner
    finally:
        await _called_off(running)


async def _called_off(attempts: Iterable[asyncio.Task[socket.socket]]) -> None:
    tasks = list(attempts)
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, socket.socket):
            outcome.close()


async def _attempt(address: Address) -> socket.socket:
    family, proto, where = address
    sock = socket.socket(family, socket.SOCK_STREAM, proto)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, where)
    except BaseException:
        sock.close()
        raise
    return sock
