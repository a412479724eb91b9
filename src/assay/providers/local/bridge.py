"""Chunks from a worker thread to an event loop: in order, none lost, a bounded number waiting.

It knows nothing of models; assay.providers.local.model puts one between the engine and each call.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque

CAPACITY = 64
"""Chunks that may wait for the reader before the writer has to."""


class Bridge:
    """One writer, in any thread; one reader, on the event loop that the bridge was made on."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._loop = asyncio.get_running_loop()
        self._chunks: deque[str] = deque()
        self._room = threading.Semaphore(capacity)
        self._news = asyncio.Event()
        self._ended = False
        self._cancelled = False

    @property
    def cancelled(self) -> bool:
        return self._cancelled

    def put(self, chunk: str) -> bool:
        """From the writer's thread. True says that nobody reads any more: stop."""
        if not self._cancelled:
            self._room.acquire()
        if self._cancelled:
            return True
        self._chunks.append(chunk)
        return not self._wake()

    def end(self) -> None:
        """From any thread: nothing follows."""
        self._ended = True
        self._wake()

    def cancel(self) -> None:
        """From any thread: the reader has gone. A writer that waits for room is let go."""
        self._cancelled = True
        self._room.release()

    async def get(self) -> str | None:
        """The next chunk; None after the last one."""
        while True:
            ended = self._ended  # read before the queue: what was put before the end is then in it
            if self._chunks:
                self._room.release()
                return self._chunks.popleft()
            if ended:
                return None
            self._news.clear()
            await self._news.wait()

    def _wake(self) -> bool:
        """False when the reader's loop is closed."""
        try:
            self._loop.call_soon_threadsafe(self._news.set)
        except RuntimeError:
            self._cancelled = True
        return not self._cancelled
