"""The bridge between a writing thread and a reading event loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from assay.providers.local.bridge import Bridge

pytestmark = pytest.mark.anyio


class Room(threading.Semaphore):
    """A semaphore that tells when somebody has to wait."""

    def __init__(self, value: int) -> None:
        super().__init__(value)
        self.full = threading.Event()

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        if super().acquire(blocking=False):
            return True
        self.full.set()
        return super().acquire(blocking, timeout)


def write(bridge: Bridge, count: int) -> threading.Thread:
    def work() -> None:
        for number in range(count):
            if bridge.put(str(number)):
                return
        bridge.end()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


async def test_everything_arrives_in_order() -> None:
    bridge = Bridge(capacity=3)
    thread = write(bridge, 5_000)
    read = []
    while (chunk := await bridge.get()) is not None:
        read.append(int(chunk))
    thread.join()
    assert read == list(range(5_000))


async def test_writer_waits_when_nobody_reads() -> None:
    bridge = Bridge()
    bridge._room = room = Room(2)
    thread = write(bridge, 10)
    await asyncio.to_thread(room.full.wait)
    assert len(bridge._chunks) == 2
    rest = []
    while (chunk := await bridge.get()) is not None:
        rest.append(chunk)
    thread.join()
    assert len(rest) == 10


async def test_a_waiting_writer_is_let_go_when_the_reader_leaves() -> None:
    bridge = Bridge()
    bridge._room = room = Room(2)
    thread = write(bridge, 1_000_000)
    await asyncio.to_thread(room.full.wait)
    bridge.cancel()
    await asyncio.to_thread(thread.join)
    assert len(bridge._chunks) == 2
    assert bridge.put("late") is True


async def test_end_without_a_chunk() -> None:
    bridge = Bridge()
    bridge.end()
    assert await bridge.get() is None


def test_a_closed_loop_stops_the_writer() -> None:
    async def make() -> Bridge:
        return Bridge()

    bridge = asyncio.run(make())
    assert bridge.put("nobody hears it") is True
    assert bridge.cancelled
