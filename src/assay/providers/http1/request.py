"""A call's URL and headers, checked and written as the head of a request. Knows no connection.

Whatever could make one request look like two (a line break in a value, a second length) is refused here.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from typing import NamedTuple
from urllib.parse import SplitResult, quote, unquote, urlsplit

from assay.providers.http1.failures import InvalidUrl, Unsendable

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_CONTROL_BUT_TAB = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))

# These say where a request ends, or what becomes of its connection: nobody else can know that.
_OWN = frozenset({"connection", "content-length", "expect", "te", "trailer", "transfer-encoding", "upgrade"})

_DEFAULTS = (("User-Agent", "assay"), ("Accept", "*/*"), ("Accept-Encoding", "identity"))

_WITHOUT_LENGTH = frozenset({"GET", "HEAD", "DELETE", "OPTIONS", "TRACE"})


class Origin(NamedTuple):
    """Where a connection leads. `host` is a name in ASCII, or an address without brackets."""

    tls: bool
    host: str
    port: int


class Head(NamedTuple):
    """`start` is what precedes the length: see `written`."""

    origin: Origin
    method: str
    start: bytes

    def written(self, body: bytes) -> bytes:
        """The whole head of a request with this body."""
        if not body and self.method in _WITHOUT_LENGTH:
            return self.start + b"\r\n"
        return self.start + b"Content-Length: %d\r\n\r\n" % len(body)


def head(method: str, url: str, headers: tuple[tuple[str, str], ...]) -> Head:
    """Raises InvalidUrl, and Unsendable for the rest."""
    origin, authority, target, credentials = _parsed(url)
    if not _TOKEN.fullmatch(method) or method == "CONNECT":
        raise Unsendable("the method is not one of HTTP's.")
    given = {name.lower() for name, _ in headers}
    lines = [f"{method} {target} HTTP/1.1".encode("ascii")]
    if "host" not in given:
        lines.append(b"Host: " + authority.encode("ascii"))
    for name, value in (*((n, v) for n, v in _DEFAULTS if n.lower() not in given), *headers):
        lines.append(_line(name, value))
    if credentials is not None:
        if "authorization" in given:
            raise Unsendable("both its URL and its headers hold credentials.")
        lines.append(b"Authorization: Basic " + base64.b64encode(credentials.encode()))
    return Head(origin, method, b"\r\n".join(lines) + b"\r\n")


def _line(name: str, value: str) -> bytes:
    if not _TOKEN.fullmatch(name):
        raise Unsendable("the name of a header has a character that is not allowed there.")
    if name.lower() in _OWN:
        raise Unsendable(f"the header {name} is not the caller's to set.")
    if _CONTROL_BUT_TAB.search(value):
        raise Unsendable(f"the header {name} holds a line break or another control character.")
    try:
        return f"{name}: {value}".encode()
    except UnicodeEncodeError:
        raise Unsendable(f"the header {name} is not text.") from None


def _parsed(url: str) -> tuple[Origin, str, str, str | None]:
    """Origin, authority for the Host header, target, and the credentials, if any."""
    if _CONTROL.search(url):
        raise InvalidUrl
    try:
        parts = urlsplit(url)
        port = parts.port
        host = _host(parts)
        path = quote(parts.path or "/", safe=_PRINTABLE)
        query = quote(parts.query, safe=_PRINTABLE)
    except ValueError:
        raise InvalidUrl from None
    if parts.scheme not in {"http", "https"} or not path.startswith("/") or "\\" in parts.netloc:
        raise InvalidUrl
    usual = 443 if parts.scheme == "https" else 80
    shown = f"[{host.partition('%')[0]}]" if ":" in host else host
    authority = shown if port is None or port == usual else f"{shown}:{port}"
    credentials = None
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    origin = Origin(parts.scheme == "https", host, usual if port is None else port)
    return origin, authority, f"{path}?{query}" if query else path, credentials


def _host(parts: SplitResult) -> str:
    """Raises ValueError (and so UnicodeError) for what is no host."""
    host = parts.hostname
    if not host:
        raise ValueError
    if ":" in host:
        ipaddress.IPv6Address(host)
        return host
    name = host.encode("idna").decode("ascii")
    if not re.fullmatch(r"[a-z0-9_.-]+", name):
        raise ValueError
    return name
