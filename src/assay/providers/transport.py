"""The sockets to upstreams: one pooled HTTP/1.1 client. What is said over them belongs to the wire formats.

    async with Transport() as transport:                      # one per event loop
        async with transport.send(call) as reply:             # leaving the block gives the connection up
            if reply.status == 200:
                async for chunk in reply.chunks: ...          # as they arrive, nothing is gathered
            else:
                body = await reply.read(limit_bytes=65_536)

What a caller may rely on:

- An HTTP status, whatever it is, is a reply. Everything else that goes wrong is raised once, here, as a
  `ProviderError` (or as a `ConfigError`, when the URL or a header cannot be sent at all).
- A body that breaks off raises `BadResponse`; `chunks` ends quietly only where HTTP says that it is whole. A
  body framed by nothing but the close of its connection has no such mark, only a reset shows: there the wire
  format must look for its own.
- Cancelling the task, or leaving the block before the body ended, resets the connection at once, whatever is
  still unsent or unread on it, so that the upstream stops working on the call.
- Redirects are answers, not followed. Proxies and credentials in the environment, and cookies, are ignored.
  Compression is not asked for, and refused when it comes all the same: a compressor holds tokens back.
- TLS is verified against the system's trust store, as OpenSSL finds it; SSL_CERT_FILE and SSL_CERT_DIR name
  another.

How HTTP/1.1 is spoken: assay.providers.http1; why by code of our own: docs/decisions/0007-own-http-client.md.
Importing this module loads asyncio and ssl, so nothing that `import assay` runs may import it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import lru_cache
from time import perf_counter
from typing import Self
from urllib.parse import urlsplit

from assay.errors import AssayError, BadResponse, ConfigError, ProviderTimeout, ProviderUnavailable
from assay.providers.http1.connection import Connection
from assay.providers.http1.dial import system_tls
from assay.providers.http1.failures import (
    ConnectTimeout,
    Expired,
    Http1Error,
    InvalidHttp,
    InvalidUrl,
    Lost,
    Unsendable,
)
from assay.providers.http1.incoming import Incoming
from assay.providers.http1.pool import Pool
from assay.providers.http1.request import Head, head
from assay.types.timing import timing

# Shorter than the idle limits of the load balancers that upstreams stand behind (60 s and more), so that this
# side drops an idle connection first, and a call seldom meets one that is just being closed.
KEEPALIVE_S = 30.0


@dataclass(frozen=True, slots=True)
class HttpCall:
    """One request. `timeout_s` bounds it from the wait for a connection to that for the reply's last byte."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class HttpReply:
    """Status, headers (looked up without regard to case) and the body, which can be consumed once."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]

    async def read(self, limit_bytes: int) -> bytes:
        """The whole body. Raises BadResponse beyond `limit_bytes`, and whatever `chunks` raises."""
        parts: list[bytes] = []
        size = 0
        async for chunk in self.chunks:
            size += len(chunk)
            if size > limit_bytes:
                raise BadResponse(
                    f"The upstream's reply is longer than {limit_bytes:,} bytes; check that its base_url "
                    "leads to a model API",
                    upstream_status=self.status,
                )
            parts.append(chunk)
        return b"".join(parts)


class Transport:
    """The connections of one event loop: opened on demand, kept for reuse, closed when the block is left.

    `connect_timeout_s` bounds TCP and TLS of a new connection (the call's own timeout bounds the look-up of
    its name). A call beyond `max_connections` at a time, over all upstreams, waits until one is free, at most
    until its own timeout.
    """

    def __init__(self, *, connect_timeout_s: float = 10.0, max_connections: int = 512) -> None:
        self._connect_timeout_s = connect_timeout_s
        self._max_connections = max_connections
        self._pool: Pool | None = None
        # A provider's calls differ in their bodies alone.
        self._head = lru_cache(maxsize=256)(head)

    async def __aenter__(self) -> Self:
        self._pool = Pool(
            max_connections=self._max_connections,
            connect_timeout_s=self._connect_timeout_s,
            keepalive_s=KEEPALIVE_S,
            tls=system_tls(),
        )
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes every connection; calls still under way end with ProviderUnavailable or BadResponse."""
        self._head.cache_clear()
        if self._pool is not None:
            await self._pool.aclose()

    def send(self, call: HttpCall) -> AbstractAsyncContextManager[HttpReply]:
        """Sends the call and enters with the reply as soon as its head is there.

        Raises ProviderUnavailable (not reached, or hung up before it answered), ProviderTimeout, BadResponse
        (invalid HTTP, a body cut short) and ConfigError (a URL or header that cannot be sent).
        """
        return _Sending(self, call)

    async def _start(self, call: HttpCall, deadline: float | None) -> Incoming:
        """The call, sent; its reply is awaited. Raises Http1Error and OSError."""
        if self._pool is None:
            raise RuntimeError("Enter the Transport first: async with Transport() as transport")
        request: Head = self._head(call.method, call.url, call.headers)
        connection: Connection | None = self._pool.take(request.origin)
        if connection is None:
            since = perf_counter()
            async with asyncio.timeout_at(deadline):
                connection = await self._pool.acquire(request.origin)
            if (times := timing()) is not None:
                times.waited_s = perf_counter() - since
        return connection.send(request, call.body)

    def _failure(self, call: HttpCall, exc: Exception) -> AssayError:
        """What went wrong before the head of a reply was there."""
        origin = _origin(call)
        match exc:
            case InvalidUrl():
                return ConfigError(f"'{origin}' is not an http or https URL; check base_url")
            case Unsendable():
                return ConfigError(
                    f"The call to {origin} cannot be sent: {exc} Check its api_key and headers"
                )
            case ssl.SSLCertVerificationError():
                return ProviderUnavailable(
                    f"The TLS certificate of {origin} is not trusted ({exc}); if an "
                    "authority of your own signed it, name its file in SSL_CERT_FILE",
                    retryable=False,
                )
            case ssl.SSLError():
                return ProviderUnavailable(
                    f"{origin} does not speak TLS as expected ({exc}); check the scheme of base_url"
                )
            case socket.gaierror():
                return ProviderUnavailable(f"The host of {origin} cannot be found; check base_url and DNS")
            case ConnectTimeout():
                limit = f"{self._connect_timeout_s:g} s"
                return ProviderTimeout(f"{origin} accepted no connection within {limit}; check that it is up")
            case Expired() | TimeoutError(errno=None):
                return ProviderTimeout(f"{origin} did not answer within {call.timeout_s:g} s")
            case InvalidHttp():
                return BadResponse(f"{origin} answered with invalid HTTP: {exc}")
            case OSError():
                reason = os.strerror(exc.errno) if exc.errno else str(exc)
                return ProviderUnavailable(
                    f"{origin} cannot be reached ({reason}); check base_url and that it is up"
                )
            case _:
                return ProviderUnavailable(f"{origin} closed the connection before it answered")


class _Sending:
    """One call: the block around it, and the chunks of its reply, with what goes wrong translated."""

    __slots__ = ("_call", "_incoming", "_timer", "_transport")

    def __init__(self, transport: Transport, call: HttpCall) -> None:
        self._transport = transport
        self._call = call
        self._incoming: Incoming | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> HttpReply:
        call = self._call
        deadline = None
        if call.timeout_s is not None:
            if call.timeout_s <= 0:
                raise ProviderTimeout(f"No time was left for the call to {_origin(call)}")
            deadline = asyncio.get_running_loop().time() + call.timeout_s
        try:
            self._incoming = incoming = await self._transport._start(call, deadline)
            if deadline is not None:
                self._timer = asyncio.get_running_loop().call_at(deadline, self._expire)
            headers = await incoming.head()
        except (Http1Error, OSError) as exc:
            # Unchained: the system's own messages may quote what the call holds.
            self._leave()
            raise self._transport._failure(call, exc) from None
        except BaseException:
            self._leave()
            raise
        encoding = headers.get("content-encoding", "identity")
        if encoding != "identity":
            self._leave()
            raise BadResponse(
                f"{_origin(call)} compressed its reply ({encoding}) though it was not asked to; turn "
                "compression off between here and the upstream",
                upstream_status=incoming.status,
            )
        return HttpReply(incoming.status, headers, self)

    async def __aexit__(self, *exc_info: object) -> None:
        self._leave()

    def _leave(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        incoming = self._incoming
        if incoming is not None and incoming.leave is not None:
            incoming.leave()

    def _expire(self) -> None:
        incoming = self._incoming
        if incoming is not None and (leave := incoming.leave) is not None:
            incoming.fail(Expired())
            leave()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        incoming = self._incoming
        assert incoming is not None
        try:
            chunk = await incoming.read()
        except Expired:
            raise ProviderTimeout(
                f"{_origin(self._call)} did not finish its reply within {self._call.timeout_s:g} s",
                upstream_status=incoming.status,
            ) from None
        except (InvalidHttp, Lost):
            raise BadResponse(
                f"{_origin(self._call)} broke off in the middle of its reply",
                upstream_status=incoming.status,
            ) from None
        if not chunk:
            raise StopAsyncIteration
        return chunk


def _origin(call: HttpCall) -> str:
    """The part of the URL that a message may show: no credentials, no query."""
    shown = call.url.partition("?")[0]
    try:
        parts = urlsplit(shown)
    except ValueError:
        return shown
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.netloc else shown
