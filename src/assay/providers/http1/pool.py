"""The connections of one event loop: kept for reuse, how many there may be, and whose turn is next.

A place is held by each connection that is open, being opened, or granted to somebody who waits. Who waits is
served in the order of arrival. While anybody waits no connection is idle, so nobody can overtake.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque

from assay.providers.http1.connection import Connection
from assay.providers.http1.dial import dial
from assay.providers.http1.failures import Lost
from assay.providers.http1.request import Origin

# A connection that is ready, or a place to open one.
Turn = Connection | None


class Pool:
    def __init__(
        self, *, max_connections: int, connect_timeout_s: float, keepalive_s: float, tls: ssl.SSLContext
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._max_connections = max_connections
        self._connect_timeout_s = connect_timeout_s
        self._keepalive_s = keepalive_s
        self._tls = tls
        self._places = 0
        self._idle: dict[Origin, list[Connection]] = {}
        self._waiting: deque[tuple[Origin, asyncio.Future[Turn]]] = deque()
        self._known: set[Connection] = set()
        self._dialling: set[asyncio.Timeout] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._emptied = asyncio.Event()
        self._over = False

    def take(self, origin: Origin) -> Connection | None:
        """An idle connection, the one used last."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if not idle:
                del self._idle[origin]
            if connection.open and self._loop.time() - connection.idle_since < self._keepalive_s:
                return connection
            connection.abort()
        return None

    async def acquire(self, origin: Origin) -> Connection:
        """Waits for a place, if need be, and opens a connection. Raises what `dial` raises, and Lost."""
        while (connection := self.take(origin)) is None:
            if self._over:
                raise Lost
            if self._places >= self._max_connections:
                self._make_room()
            if self._places < self._max_connections:
                self._places += 1
                return await self._dial(origin)
            granted = await self._turn(origin)
            if granted is None:
                return await self._dial(origin)
            if granted.open:
                return granted
        return connection

    async def aclose(self) -> None:
        """Ends every call, also those that wait. Returns when the sockets are closed."""
        self._over = True
        if self._sweep is not None:
            self._sweep.cancel()
        for limit in self._dialling:
            limit.reschedule(self._loop.time())
        for _, waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(Lost())
        for connection in list(self._known):
            connection.abort()
        if self._known:
            await self._emptied.wait()

    # --- what connections tell ----------------------------------------------------------------------------

    def free(self, connection: Connection) -> None:
        waiting = self._waiting
        while waiting and waiting[0][1].done():
            waiting.popleft()
        if self._over or (waiting and waiting[0][0] != connection.origin):
            connection.abort()
        elif waiting:
            waiting.popleft()[1].set_result(connection)
        else:
            connection.idle_since = self._loop.time()
            self._idle.setdefault(connection.origin, []).append(connection)
            if self._sweep is None:
                self._sweep = self._loop.call_later(self._keepalive_s, self._expire)

    def gone(self, connection: Connection) -> None:
        if connection not in self._known:
            return  # it was lost while it was being opened: see `_dial`
        idle = self._idle.get(connection.origin)
        if idle is not None and connection in idle:
            idle.remove(connection)
            if not idle:
                del self._idle[connection.origin]
        self._vacate()

    def closed(self, connection: Connection) -> None:
        self._known.discard(connection)
        if self._over and not self._known:
            self._emptied.set()

    # --- places -------------------------------------------------------------------------------------------

    def _vacate(self) -> None:
        while self._waiting:
            _, waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._places -= 1

    async def _turn(self, origin: Origin) -> Turn:
        waiter: asyncio.Future[Turn] = self._loop.create_future()
        entry = (origin, waiter)
        self._waiting.append(entry)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                if entry in self._waiting:
                    self._waiting.remove(entry)
            elif waiter.exception() is None:
                # Granted, and cancelled before it knew.
                granted = waiter.result()
                if granted is None:
                    self._vacate()
                elif granted.open:
                    self.free(granted)
            raise

    async def _dial(self, origin: Origin) -> Connection:
        """A new connection in a place that the caller holds, and that is vacated where none comes of it."""
        try:
            async with asyncio.timeout(None) as limit:
                self._dialling.add(limit)
                try:
                    connection = await dial(
                        origin,
                        lambda: Connection(origin, self, self._loop),
                        self._tls,
                        self._connect_timeout_s,
                    )
                finally:
                    self._dialling.discard(limit)
        except BaseException as exc:
            self._vacate()
            if self._over and isinstance(exc, TimeoutError):
                raise Lost from None
            raise
        if self._over or not connection.open:
            connection.abort()
            self._vacate()
            raise Lost
        self._known.add(connection)
        return connection

    def _make_room(self) -> None:
        """Closes the connection that has been idle longest, if any is."""
        oldest = min((idle[0] for idle in self._idle.values()), key=lambda c: c.idle_since, default=None)
        if oldest is not None:
            oldest.abort()

    def _expire(self) -> None:
        """Closes what has been idle too long, and comes again for the next."""
        self._sweep = None
        now = self._loop.time()
        idle = [connection for connections in self._idle.values() for connection in connections]
        for connection in idle:
            if now - connection.idle_since >= self._keepalive_s:
                connection.abort()
        left = [idle[0].idle_since for idle in self._idle.values()]
        if left:
            self._sweep = self._loop.call_at(min(left) + self._keepalive_s, self._expire)
