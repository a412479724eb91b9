"""One connection, on a socket that the test plays: what is written when, and when it is given up."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from assay.providers.http1.connection import MAX_HELD_BYTES, PIECE_BYTES, Connection
from assay.providers.http1.failures import InvalidHttp, Lost
from assay.providers.http1.incoming import Incoming
from assay.providers.http1.request import Head, Origin

pytestmark = pytest.mark.anyio

ORIGIN = Origin(False, "h", 80)
HEAD = Head(ORIGIN, "POST", b"POST / HTTP/1.1\r\n")
REPLY = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
LARGE = b"x" * (PIECE_BYTES * 10 + 1)


class Socket(asyncio.Transport):
    """Takes everything, until `full`, which pauses the writer after each piece."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.reading = True
        self.aborted = False
        self.full = False
        self.connection: Connection

    def write(self, data: bytes | bytearray | memoryview[int]) -> None:
        assert not self.aborted
        self.written.append(bytes(data))
        if self.full:
            self.connection.pause_writing()

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True


class Kept:
    """What the connection tells its keeper, in order."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def free(self, connection: Connection) -> None:
        self.told.append("free")

    def gone(self, connection: Connection) -> None:
        self.told.append("gone")

    def closed(self, connection: Connection) -> None:
        self.told.append("closed")


Line = tuple[Connection, Socket, Kept]


@pytest.fixture
async def line() -> Line:
    socket, kept = Socket(), Kept()
    connection = Connection(ORIGIN, kept, asyncio.get_running_loop())
    socket.connection = connection
    connection.connection_made(socket)
    return connection, socket, kept


async def body_of(incoming: Incoming) -> bytes:
    await incoming.head()
    body = b""
    while piece := await incoming.read():
        body += piece
    return body


async def let_run() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


async def test_a_small_call_is_one_write_and_its_connection_is_free_again(line: Line) -> None:
    connection, socket, kept = line
    for _ in range(2):
        incoming = connection.send(HEAD, b"{}")
        connection.data_received(REPLY)
        assert await body_of(incoming) == b"hi"
    assert socket.written == [b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"] * 2
    assert kept.told == ["free", "free"]
    assert connection.open


async def test_a_large_body_goes_piece_by_piece_and_others_have_their_turn(line: Line) -> None:
    connection, socket, _ = line
    connection.send(HEAD, LARGE)
    assert len(socket.written) == 1
    await let_run()
    assert b"".join(socket.written) == HEAD.written(LARGE) + LARGE
    assert max(map(len, socket.written[1:])) == PIECE_BYTES


async def test_nothing_is_written_while_the_upstream_takes_nothing(line: Line) -> None:
    connection, socket, _ = line
    socket.full = True
    connection.send(HEAD, LARGE)
    for count in range(1, 4):
        await let_run()
        assert len(socket.written) == count
        connection.resume_writing()
    socket.full = False
    await let_run()
    assert b"".join(socket.written).endswith(b"\r\n\r\n" + LARGE)


@pytest.mark.parametrize("full", [True, False])
async def test_an_early_reply_is_read_and_its_connection_given_up(line: Line, full: bool) -> None:
    connection, socket, kept = line
    socket.full = full
    incoming = connection.send(HEAD, LARGE)
    connection.data_received(REPLY)
    assert socket.aborted
    await let_run()
    assert len(socket.written) == 1
    assert await body_of(incoming) == b"hi"
    assert kept.told == ["gone"]


async def test_the_rest_of_the_body_is_sent_while_an_early_reply_goes_on(line: Line) -> None:
    connection, socket, kept = line
    incoming = connection.send(HEAD, LARGE)
    connection.data_received(CHUNKED)
    await incoming.head()
    await let_run()
    assert b"".join(socket.written).endswith(b"\r\n\r\n" + LARGE)
    connection.data_received(b"2\r\nhi\r\n0\r\n\r\n")
    assert await body_of(incoming) == b"hi"
    assert kept.told == ["free"]


async def test_a_call_given_up_writes_no_more(line: Line) -> None:
    connection, socket, kept = line
    incoming = connection.send(HEAD, LARGE)
    assert incoming.leave is not None
    incoming.leave()
    connection.resume_writing()
    await let_run()
    assert (len(socket.written), socket.aborted, kept.told) == (1, True, ["gone"])
    with pytest.raises(Lost):
        await incoming.head()


async def test_a_reader_who_is_slow_stops_the_upstream(line: Line) -> None:
    connection, socket, kept = line
    incoming = connection.send(HEAD, b"")
    connection.data_received(CHUNKED)
    chunk = b"1000\r\n" + b"x" * 0x1000 + b"\r\n"
    sent = 0
    for _ in range(3):
        while socket.reading:
            connection.data_received(chunk)
            sent += 0x1000
            assert incoming.held <= MAX_HELD_BYTES + 0x1000
        assert len(await incoming.read()) > MAX_HELD_BYTES
        assert incoming.held == 0
        assert socket.reading
    connection.data_received(b"0\r\n\r\n")
    assert await incoming.read() == b""
    assert kept.told == ["free"]


async def test_a_connection_is_never_kept_while_it_does_not_read(line: Line) -> None:
    connection, socket, kept = line
    incoming = connection.send(HEAD, b"")
    connection.data_received(CHUNKED + b"%x\r\n" % (MAX_HELD_BYTES + 1) + b"x" * (MAX_HELD_BYTES + 1))
    assert not socket.reading
    # Some had been taken in already, as under TLS.
    connection.data_received(b"\r\n0\r\n\r\n")
    assert socket.reading
    assert kept.told == ["free"]
    assert len(await body_of(incoming)) == MAX_HELD_BYTES + 1


async def test_bytes_that_nobody_asked_for_end_the_connection(line: Line) -> None:
    connection, socket, kept = line
    connection.data_received(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert socket.aborted
    assert not connection.open
    connection.connection_lost(None)
    assert kept.told == ["gone", "closed"]


@pytest.mark.parametrize(
    "reply", [REPLY + b"H", REPLY + REPLY, REPLY.replace(b"200 OK", b"200 OK\r\nconnection: close")]
)
async def test_a_connection_that_should_not_be_used_again_is_not(line: Line, reply: bytes) -> None:
    connection, socket, kept = line
    incoming = connection.send(HEAD, b"")
    connection.data_received(reply)
    assert await body_of(incoming) == b"hi"
    assert (socket.aborted, kept.told) == (True, ["gone"])


async def test_an_invalid_reply_ends_the_connection(line: Line) -> None:
    connection, socket, kept = line
    incoming = connection.send(HEAD, b"")
    connection.data_received(b"SSH-2.0-OpenSSH\r\n")
    with pytest.raises(InvalidHttp):
        await incoming.head()
    assert (socket.aborted, kept.told) == (True, ["gone"])


@pytest.mark.parametrize("exc", [None, ConnectionResetError()])
async def test_a_lost_connection_is_told_once(line: Line, exc: Exception | None) -> None:
    connection, _, kept = line
    incoming = connection.send(HEAD, b"")
    connection.data_received(b"HTTP/1.1 200 OK\r\n\r\nhi")
    await incoming.head()
    if exc is None:
        connection.eof_received()
        assert await body_of(incoming) == b"hi"
    connection.connection_lost(exc)
    assert kept.told == ["gone", "closed"]
    if exc is not None:
        with pytest.raises(Lost):
            await body_of(incoming)


async def test_the_parser_and_the_reply_do_not_hold_each_other_in_memory(line: Line) -> None:
    connection, _, _ = line
    incoming = connection.send(HEAD, b"")
    assert not incoming.over
    connection.data_received(REPLY)
    assert incoming.over
    assert cast("object", incoming.leave) is None
    assert incoming._parser is None
