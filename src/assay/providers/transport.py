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

The choice of aiohttp, measured: docs/decisions/0001-upstream-http-client.md. Importing this module costs some
150 ms, so nothing that `import assay` runs may import it.
"""

from __future__ import annotations

import io
import math
import os
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Self, cast
from urllib.parse import urlsplit

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError

from assay.errors import AssayError, BadResponse, ConfigError, ProviderTimeout, ProviderUnavailable

# Shorter than the idle limits of the load balancers that upstreams stand behind (60 s and more), so that this
# side drops an idle connection first, and a call seldom meets one that is just being closed.
KEEPALIVE_S = 30.0

# From this size on aiohttp wants a file, which it writes piece by piece, giving way to other tasks.
LARGE_BODY_BYTES = 1 << 20

_DEFAULT_HEADERS = {"User-Agent": "assay", "Accept-Encoding": "identity"}


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
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=_Connector(self._max_connections),
            headers=_DEFAULT_HEADERS,
            skip_auto_headers=("Content-Type",),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes every connection; calls still under way end with ProviderUnavailable or BadResponse."""
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def send(self, call: HttpCall) -> AsyncIterator[HttpReply]:
        """Sends the call and enters with the reply as soon as its head is there.

        Raises ProviderUnavailable (not reached, or hung up before it answered), ProviderTimeout, BadResponse
        (invalid HTTP, a body cut short) and ConfigError (a URL or header that cannot be sent).
        """
        response = await self._open(call)
        try:
            encoding = response.headers.get("Content-Encoding", "identity")
            if encoding != "identity":
                raise BadResponse(
                    f"{_origin(call)} compressed its reply ({encoding}) though it was not asked to; turn "
                    "compression off between here and the upstream",
                    upstream_status=response.status,
                )
            yield HttpReply(response.status, response.headers, _Body(response, call))
        finally:
            response.close()

    async def _open(self, call: HttpCall) -> aiohttp.ClientResponse:
        if self._session is None:
            raise RuntimeError("Enter the Transport first: async with Transport() as transport")
        if call.timeout_s is not None and call.timeout_s <= 0:
            raise ProviderTimeout(f"No time was left for the call to {_origin(call)}")
        try:
            return await self._session.request(
                call.method,
                call.url,
                headers=call.headers,
                data=call.body if len(call.body) < LARGE_BODY_BYTES else io.BytesIO(call.body),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    total=call.timeout_s, sock_connect=self._connect_timeout_s, ceil_threshold=math.inf
                ),
            )
        except (aiohttp.ClientError, TimeoutError, ValueError) as exc:
            # Unchained: aiohttp's own messages quote the URL with its query, which may hold a key.
            raise self._failure(call, exc) from None

    def _failure(self, call: HttpCall, exc: Exception) -> AssayError:
        """What went wrong before the head of a reply was there."""
        origin = _origin(call)
        match exc:
            case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
                return ConfigError(f"'{origin}' is not an http or https URL; check base_url")
            case aiohttp.ClientConnectorCertificateError():
                return ProviderUnavailable(
                    f"The TLS certificate of {origin} is not trusted ({exc.certificate_error}); if an "
                    "authority of your own signed it, name its file in SSL_CERT_FILE",
                    retryable=False,
                )
            case aiohttp.ClientConnectorSSLError():
                return ProviderUnavailable(
                    f"{origin} does not speak TLS as expected ({exc.os_error}); check the scheme of base_url"
                )
            case aiohttp.ClientConnectorDNSError():
                return ProviderUnavailable(f"The host of {origin} cannot be found; check base_url and DNS")
            case aiohttp.ClientConnectorError():
                reason = os.strerror(exc.errno) if exc.errno else str(exc.os_error)
                return ProviderUnavailable(
                    f"{origin} cannot be reached ({reason}); check base_url and that it is up"
                )
            case aiohttp.ServerTimeoutError():
                limit = f"{self._connect_timeout_s:g} s"
                return ProviderTimeout(f"{origin} accepted no connection within {limit}; check that it is up")
            case TimeoutError():
                return ProviderTimeout(f"{origin} did not answer within {call.timeout_s:g} s")
            case aiohttp.ClientResponseError():
                return BadResponse(f"{origin} answered with invalid HTTP: {_first_line(exc.message)}")
            case aiohttp.ClientError():
                return ProviderUnavailable(f"{origin} closed the connection before it answered")
            case _:
                return ConfigError(
                    f"The call to {origin} cannot be sent: {exc} Check its api_key and headers"
                )


class _Connector(aiohttp.TCPConnector):
    """aiohttp's pool, filled with our own connections."""

    def __init__(self, max_connections: int) -> None:
        trusted = ssl.create_default_context()
        super().__init__(limit=max_connections, keepalive_timeout=KEEPALIVE_S, ssl=trusted)
        self._factory = cast("partial[ResponseHandler]", partial(_Connection, self._loop))


class _Connection(ResponseHandler):
    """aiohttp's side of one connection, with its ends put right."""

    def close(self) -> None:
        """Gives the connection up at once.

        aiohttp would first send all that was written, and so deliver a call that was cancelled.
        """
        self.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Fails a body that was not whole.

        aiohttp would take a reset for the end of a body that the close of its connection ends, and would let
        the reader of a body with an invalid chunk wait for ever.
        """
        body = self._payload
        if body is None or body.is_eof():
            super().connection_lost(exc)
            return
        lost = aiohttp.ClientPayloadError("The connection was lost in the middle of the body")
        if exc is not None:
            body.set_exception(lost)
        super().connection_lost(exc)
        if body.exception() is None and not body.is_eof():
            body.set_exception(lost)


class _Body:
    """The chunks of one reply, with what goes wrong in the middle of it translated."""

    __slots__ = ("_call", "_response")

    def __init__(self, response: aiohttp.ClientResponse, call: HttpCall) -> None:
        self._response = response
        self._call = call

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._response.content.readany()
        except TimeoutError:
            raise ProviderTimeout(
                f"{_origin(self._call)} did not finish its reply within {self._call.timeout_s:g} s",
                upstream_status=self._response.status,
            ) from None
        except (aiohttp.ClientError, HttpProcessingError):
            raise BadResponse(
                f"{_origin(self._call)} broke off in the middle of its reply",
                upstream_status=self._response.status,
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


def _first_line(message: str) -> str:
    return message.partition("\n")[0].rstrip(":")
