"""The far end of a connection, for a test to play: real sockets on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from typing import Self

from assay.providers.transport import HttpCall


class FarEnd:
    """The upstream's side of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def head(self) -> str:
        return (await self.reader.readuntil(b"\r\n\r\n")).decode()

    async def request(self) -> tuple[str, bytes]:
        head = await self.head()
        length = next(
            (
                int(line.split(":")[1])
                for line in head.splitlines()
                if line.lower().startswith("content-length")
            ),
            0,
        )
        return head, await self.reader.readexactly(length)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        linger_not = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_not)
        self.writer.transport.abort()

    async def closed_by_peer(self) -> int:
        """Waits until the client has gone; how many more bytes came before."""
        count = 0
        with contextlib.suppress(ConnectionError):
            while data := await self.reader.read(1 << 16):
                count += len(data)
        return count


class Upstream:
    """A listening socket whose connections the test accepts and plays itself."""

    def __init__(self) -> None:
        self.accepted: list[FarEnd] = []
        self._arrived: asyncio.Queue[FarEnd] = asyncio.Queue()

    async def listen(self, context: ssl.SSLContext | None = None) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted.append(FarEnd(reader, writer))
        self._arrived.put_nowait(self.accepted[-1])

    async def accept(self) -> FarEnd:
        return await self._arrived.get()

    async def answer(self, data: bytes) -> FarEnd:
        """Takes the next connection and its request, and sends this."""
        far_end = await self.accept()
        await far_end.request()
        await far_end.send(data)
        return far_end

    def call(self, path: str = "/v1", *, timeout_s: float | None = None, body: bytes = b"{}") -> HttpCall:
        url = f"http://127.0.0.1:{self.port}{path}"
        return HttpCall("POST", url, (("Content-Type", "application/json"),), body, timeout_s)

    def close(self) -> None:
        self._server.close()
        for far_end in self.accepted:
            far_end.writer.transport.abort()
