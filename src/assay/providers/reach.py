"""Whether a provider's address answers: TCP, TLS, and the clock of its Date header. Nothing that is paid for.

    reached = await reach("https://api.openai.com/v1")

One HEAD request without a key is sent; whatever is answered to it, a refusal too, is an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from assay.errors import ProviderTimeout, ProviderUnavailable
from assay.providers.http1.dial import system_tls
from assay.types import Value

_HEAD_BYTES = 65_536


class Reached(Value):
    """`connect_s` is TCP and TLS together. `skew_s`: this clock is ahead of the provider's, if told."""

    address: str
    connect_s: float
    tls: bool
    skew_s: float | None = None


async def reach(base_url: str, *, timeout_s: float = 5.0, clock: Callable[[], float] = time.time) -> Reached:
    """Connects to the host of `base_url`. Raises ProviderUnavailable or ProviderTimeout."""
    url = urlsplit(base_url)
    host, tls = url.hostname or "", url.scheme == "https"
    address = f"{host}:{url.port or (443 if tls else 80)}"
    began = time.perf_counter()
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(
                host, url.port or (443 if tls else 80), ssl=system_tls() if tls else None, limit=_HEAD_BYTES
            )
    except TimeoutError:
        raise ProviderTimeout(f"{address} accepted no connection within {timeout_s:g} s") from None
    except ssl.SSLCertVerificationError as error:
        reason = f"its certificate is not trusted ({error.verify_message})"
        raise ProviderUnavailable(f"{address}: {reason}; see SSL_CERT_FILE") from error
    except socket.gaierror as error:
        raise ProviderUnavailable(f"{address}: there is no such host; check base_url and DNS") from error
    except OSError as error:
        raise ProviderUnavailable(f"{address} cannot be reached ({error.strerror or error})") from error
    took_s = time.perf_counter() - began
    try:
        writer.write(
            f"HEAD {url.path or '/'} HTTP/1.1\r\nHost: {url.netloc}\r\nConnection: close\r\n\r\n".encode()
        )
        async with asyncio.timeout(timeout_s):
            head = await reader.readuntil(b"\r\n\r\n")
        return Reached(address, took_s, tls, _skew_s(head, clock()))
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        # It is reached all the same; only its clock is not known.
        return Reached(address, took_s, tls)
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(timeout_s):
                await writer.wait_closed()


def _skew_s(head: bytes, now_s: float) -> float | None:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"date":
            try:
                return now_s - parsedate_to_datetime(value.strip().decode("latin-1")).timestamp()
            except ValueError:
                return None
    return None
