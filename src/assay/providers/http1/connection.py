"""One connection: writes a request in pieces, feeds the reply, and notices when either side hangs up.

It carries one call at a time and belongs to a `Keeper`, which is told when it is free and when it is gone.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from assay.providers.http1.failures import Lost
from assay.providers.http1.incoming import Incoming
from assay.providers.http1.request import Head, Origin

PIECE_BYTES = 64 << 10
"""How much of a body is written at a time, before other tasks have their turn."""
MAX_HELD_BYTES = 128 << 10
"""How much of a reply may wait to be read before no more is taken from the socket."""


class Keeper(Protocol):
    def free(self, connection: Connection) -> None:
        """Its reply is whole, and it may carry another call."""

    def gone(self, connection: Connection) -> None:
        """Given up, by either side; told once."""

    def closed(self, connection: Connection) -> None:
        """Its socket is closed."""


class Connection(asyncio.Protocol):
    __slots__ = (
        "_gone",
        "_held",
        "_incoming",
        "_keeper",
        "_loop",
        "_next",
        "_paused",
        "_transport",
        "_unsent",
        "idle_since",
        "origin",
    )

    def __init__(self, origin: Origin, keeper: Keeper, loop: asyncio.AbstractEventLoop) -> None:
        self.origin = origin
        self.idle_since = 0.0
        self._keeper = keeper
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._incoming: Incoming | None = None
        self._unsent: memoryview | None = None
        self._next: asyncio.Handle | None = None
        self._held = False
        self._paused = False
        self._gone = False

    @property
    def open(self) -> bool:
        return not self._gone and self._transport is not None and not self._transport.is_closing()

    def send(self, head: Head, body: bytes) -> Incoming:
        """Sends a request, and gives its reply to come. The connection must be free."""
        assert self._incoming is None
        assert self._transport is not None
        self._incoming = incoming = Incoming(self._loop, head.method)
        incoming.leave = self.abort
        self._transport.write(head.written(body) + body[:PIECE_BYTES])
        if len(body) > PIECE_BYTES:
            self._unsent = memoryview(body)[PIECE_BYTES:]
            self._go_on()
        return incoming

    def abort(self) -> None:
        """Gives the connection up at once, with whatever is unsent or unread on it."""
        self._finish()
        if self._transport is not None:
            self._transport.abort()

    def _finish(self) -> None:
        self._unsent = None
        if self._next is not None:
            self._next.cancel()
            self._next = None
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            incoming.fail(Lost())
        if not self._gone:
            self._gone = True
            self._keeper.gone(self)

    # --- reading ------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        incoming = self._incoming
        if incoming is None:
            # Nobody asked: such bytes must not pass for the reply to the next call.
            self.abort()
            return
        incoming.feed(data)
        if incoming.over:
            self._incoming = None
            if not incoming.reusable or self._unsent is not None or self._held:
                # Also where the upstream answered before it had heard everything.
                self.abort()
                return
            if self._paused:
                self._resume()
            self._keeper.free(self)
        elif incoming.held > MAX_HELD_BYTES and not self._paused and self.open:
            assert self._transport is not None
            self._transport.pause_reading()
            self._paused = True
            incoming.resume = self._resume

    def _resume(self) -> None:
        self._paused = False
        if self.open:
            assert self._transport is not None
            self._transport.resume_reading()

    def eof_received(self) -> None:
        """The upstream sends no more: nothing is left to be written either, so its reply ends here."""
        if self._incoming is not None:
            self._incoming.eof(in_order=True)
        self.abort()

    # --- writing ------------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Writes the next piece soon, so that others have their turn; but not while nothing is taken."""
        if self._unsent is not None and self._next is None and not self._held:
            self._next = self._loop.call_soon(self._write)

    def _write(self) -> None:
        self._next = None
        unsent = self._unsent
        assert unsent is not None
        assert self._transport is not None
        self._unsent = unsent[PIECE_BYTES:] if len(unsent) > PIECE_BYTES else None
        self._transport.write(unsent[:PIECE_BYTES])
        self._go_on()

    def pause_writing(self) -> None:
        self._held = True

    def resume_writing(self) -> None:
        self._held = False
        self._go_on()

    # --- beginning and end --------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._incoming is not None:
            self._incoming.eof(in_order=exc is None)
        self._finish()
        self._keeper.closed(self)
