"""A head and the first of a body in one write; nothing kept back, nothing out of order."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.server.joined import Http, _Transport

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


class Wire:
    """The real transport, as far as these tests go."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.writes.append(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


class Loop:
    """Turns are taken by hand."""

    def __init__(self) -> None:
        self.soon: list[Any] = []

    def call_soon(self, callback: Any) -> None:
        self.soon.append(callback)

    def turn(self) -> None:
        due, self.soon = self.soon, []
        for callback in due:
            callback()


def joined() -> tuple[Any, Wire, Loop]:
    wire, loop = Wire(), Loop()
    return _Transport(wire, loop), wire, loop  # type: ignore[arg-type]


def test_a_whole_reply_is_one_write() -> None:
    transport, wire, loop = joined()
    transport.write(HEAD)
    transport.write(b"body")
    loop.turn()
    assert wire.writes == [HEAD + b"body"]


def test_a_head_alone_does_not_wait_for_the_model() -> None:
    transport, wire, loop = joined()
    transport.write(HEAD)
    assert wire.writes == []
    loop.turn()
    assert wire.writes == [HEAD]
    transport.write(b"later")
    assert wire.writes == [HEAD, b"later"]


def test_closing_sends_what_was_kept() -> None:
    transport, wire, loop = joined()
    transport.write(HEAD)
    transport.close()
    assert (wire.writes, wire.closed) == ([HEAD], True)
    loop.turn()


def test_what_was_aborted_meanwhile_is_not_written_to() -> None:
    transport, wire, loop = joined()
    transport.write(HEAD)
    wire.closed = True
    loop.turn()
    assert wire.writes == []


@given(st.lists(st.sampled_from([HEAD, b"body", b"HTTP/1.1 in a body", None])))
def test_bytes_keep_their_order(steps: list[bytes | None]) -> None:
    transport, wire, loop = joined()
    for step in steps:
        if step is None:
            loop.turn()
        else:
            transport.write(step)
    loop.turn()
    assert b"".join(wire.writes) == b"".join(step for step in steps if step is not None)


@pytest.mark.anyio
async def test_over_a_socket() -> None:
    import uvicorn

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    config = uvicorn.Config(app, http=Http, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    listener = await asyncio.get_running_loop().create_server(
        lambda: Http(config=config, server_state=server.server_state, app_state={}), "127.0.0.1", 0
    )
    reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
    for _ in range(2):
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        reply = await reader.readuntil(b"ok")
        assert reply.startswith(b"HTTP/1.1 200 OK\r\n")
    writer.close()
    await writer.wait_closed()
    listener.close()
    await listener.wait_closed()
