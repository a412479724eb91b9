"""One reply as it arrives: its head, its body until it is read, and how it ends. Knows no socket.

How the end of a body is known: by its length, by its last chunk, or, where the head names neither, by the
close of the connection. Only the last of these lets a lost connection pass for the end, and only when it was
closed in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from assay.providers.http1.failures import Http1Error, InvalidHttp, Lost

MAX_HEAD_BYTES = 64 << 10
"""Of a head, with the interim ones before it; and of what stands between two pieces of a body."""
MAX_HEADERS = 256


class Headers(Mapping[str, str]):
    """Looked up without regard to case; of a name that comes twice, the first counts."""

    __slots__ = ("_raw",)

    def __init__(self, raw: dict[bytes, bytes]) -> None:
        self._raw = raw

    def __getitem__(self, name: str) -> str:
        # What is not ASCII is no header's name, and neither is what stands for it here.
        return _text(self._raw[name.lower().encode("ascii", "replace")])

    def __iter__(self) -> Iterator[str]:
        return map(_text, self._raw)

    def __len__(self) -> int:
        return len(self._raw)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _size(raw: dict[bytes, bytes]) -> int:
    return sum(len(name) + len(value) for name, value in raw.items())


class Incoming:
    """Fed by a connection, read by one task. What arrived before a failure is read before that is raised.

    `over`: nothing more will be taken in. `reusable`: the reply ended where the bytes did, and its connection
    may carry another. `held` is the count of bytes that wait to be read; `resume`, where somebody has set it,
    is called when there is room again. `leave` gives the reply up.
    """

    __slots__ = (
        "_bodiless",
        "_failure",
        "_fed",
        "_interim",
        "_loop",
        "_parser",
        "_parts",
        "_raw",
        "_refused",
        "_waiter",
        "_whole",
        "held",
        "leave",
        "resume",
        "reusable",
        "status",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, method: str) -> None:
        self._loop = loop
        self._bodiless = method == "HEAD"
        self._raw: dict[bytes, bytes] = {}
        self._parts: list[bytes] = []
        self._fed = 0
        self._interim = False
        self._whole = False
        self._refused = ""
        self._failure: Http1Error | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.status = 0
        self.held = 0
        self.reusable = False
        self.resume: Callable[[], None] | None = None
        self.leave: Callable[[], None] | None = None
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        # What a careless server writes and nobody can be misled by.
        self._parser.set_dangerous_leniencies(
            lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )

    @property
    def over(self) -> bool:
        return self._parser is None

    # --- the connection's side ----------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        assert self._parser is not None
        self._fed += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as exc:
            # After the end it is the next reply that is invalid, and nobody asked for one.
            self.reusable = False
            if not self._whole:
                self.fail(InvalidHttp(self._refused or str(exc).partition("\n")[0].rstrip(":")))
                return
        if self._whole:
            self._end()
        elif self._fed > MAX_HEAD_BYTES:
            # `on_body` counts anew: all of this was a head, or stands between two pieces of a body.
            self.fail(InvalidHttp(f"more than {MAX_HEAD_BYTES:,} bytes without a piece of body"))
        else:
            self._wake()

    def eof(self, *, in_order: bool) -> None:
        """The connection has ended."""
        framed = b"content-length" in self._raw or b"transfer-encoding" in self._raw
        if self.status and in_order and not framed:
            self._whole = True
            self._end()
        else:
            self.fail(Lost())

    def fail(self, failure: Http1Error) -> None:
        """Ends the reply, unless it has ended."""
        if self._parser is not None:
            self.reusable = False
            self._failure = failure
            self._end()

    def _end(self) -> None:
        # The parser knows us by our methods: a cycle that nobody else would break.
        self._parser = self.resume = self.leave = None
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    # --- the reader's side --------------------------------------------------------------------------------

    async def head(self) -> Headers:
        """Returns when the status and the headers are there. Raises Http1Error."""
        while not self.status:
            if self._failure is not None:
                raise self._failure
            await self._more()
        return Headers(self._raw)

    async def read(self) -> bytes:
        """All that has arrived, at least a byte; b"" at the end. Raises Http1Error."""
        while not self._parts:
            if self._failure is not None:
                raise self._failure
            if self._parser is None:
                return b""
            await self._more()
        parts = self._parts
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self.held = 0
        if self.resume is not None:
            self.resume()
            self.resume = None
        return data

    async def _more(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            raise RuntimeError("Two tasks read one reply")
        self._waiter = waiter = self._loop.create_future()
        await waiter

    # --- the parser's side --------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._whole:
            self.reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.status:
            return  # a trailer, or what follows the end
        raw = self._raw
        name = name.lower()
        if name == b"transfer-encoding" and (name in raw or value.lower() != b"chunked"):
            self._refuse("its body is coded in a way that was not asked for")
        if len(raw) >= MAX_HEADERS:
            self._refuse(f"more than {MAX_HEADERS} headers")
        raw.setdefault(name, value)

    def on_headers_complete(self) -> None:
        if self._whole:
            return
        parser = self._parser
        assert parser is not None
        status = parser.get_status_code()
        if status < 200:
            if status < 100 or status == 101:
                self._refuse(f"the status {status} was not asked for")
            self._interim = True
        elif parser.get_http_version() not in {"1.1", "1.0"}:
            self._refuse("it is not HTTP/1.1")
        elif self._fed > MAX_HEAD_BYTES and _size(self._raw) > MAX_HEAD_BYTES:
            self._refuse(f"more than {MAX_HEAD_BYTES:,} bytes of headers")
        else:
            self.status = status
            if self._bodiless:
                # The parser takes what follows for a body.
                self._whole = True

    def on_body(self, data: bytes) -> None:
        if not self._whole:
            self._parts.append(data)
            self.held += len(data)
            self._fed = 0

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
            self._raw.clear()
        elif not self._whole:
            parser = self._parser
            assert parser is not None
            self.reusable = parser.should_keep_alive()
            self._whole = True

    def _refuse(self, reason: str) -> None:
        self._refused = reason
        raise InvalidHttp(reason)
