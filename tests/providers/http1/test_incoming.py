"""A reply as it arrives: in any pieces, with any end, and never more of it than is allowed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.providers.http1.failures import Expired, Http1Error, InvalidHttp, Lost
from assay.providers.http1.incoming import MAX_HEAD_BYTES, MAX_HEADERS, Incoming

T = TypeVar("T")

OK = b"HTTP/1.1 200 OK\r\n"
SIZED = OK + b"Content-Type: text/plain\r\ncontent-length: 5\r\n\r\nhello"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2;a=b\r\nlo\r\n0\r\nx-trailer: 1\r\n\r\n"
INTERIM = b"HTTP/1.1 103 Early Hints\r\ncontent-length: 9\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + SIZED
UNFRAMED = OK + b"\r\nhello"
WHOLE = {"sized": SIZED, "chunked": CHUNKED, "interim": INTERIM}


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


Make = Callable[..., Incoming]


@pytest.fixture(scope="module")
def make(loop: asyncio.AbstractEventLoop) -> Make:
    return lambda method="POST": Incoming(loop, method)


def now(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of what does not have to wait."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    finally:
        coroutine.close()
    raise AssertionError("it waits")


def fed(incoming: Incoming, pieces: Iterable[bytes]) -> Incoming:
    for piece in pieces:
        if not incoming.over:
            incoming.feed(piece)
    return incoming


def all_of(incoming: Incoming) -> tuple[int, dict[str, str], bytes]:
    headers = dict(now(incoming.head()))
    body = b""
    while piece := now(incoming.read()):
        body += piece
    return incoming.status, headers, body


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    ends = sorted({place % len(data) for place in places} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@pytest.mark.parametrize("data", WHOLE.values(), ids=WHOLE)
def test_a_reply_byte_by_byte(make: Make, data: bytes) -> None:
    whole, bytewise = fed(make(), [data]), fed(make(), (bytes([byte]) for byte in data))
    assert all_of(whole) == all_of(bytewise)
    assert bytewise.reusable
    assert all_of(fed(make(), [data]))[2] == b"hello"
    assert all_of(fed(make(), [data]))[1].get("x-trailer") is None


@given(st.sampled_from(list(WHOLE.values())), st.lists(st.integers(0, 1000)))
def test_a_reply_in_any_pieces(make: Make, data: bytes, places: list[int]) -> None:
    incoming = fed(make(), cut(data, places))
    assert all_of(incoming) == all_of(fed(make(), [data]))
    assert incoming.reusable


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.sampled_from([OK, SIZED, CHUNKED, b"\r\n", b"content-length: 3\r\n", b"HTTP/1.1 ", b"a\r\n"]),
        )
    ),
    st.booleans(),
)
def test_byte_soup_is_a_reply_or_a_typed_failure(make: Make, pieces: list[bytes], in_order: bool) -> None:
    incoming = fed(make(), pieces)
    if not incoming.over:
        incoming.eof(in_order=in_order)
    assert incoming.over
    try:
        all_of(incoming)
    except Http1Error:
        assert not incoming.reusable


@given(st.binary(max_size=300))
def test_a_body_is_what_was_sent(make: Make, body: bytes) -> None:
    chunks = (
        b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in cut(body, [7, 100, 131]) if part)
        if body
        else b""
    )
    for data in (
        OK + b"content-length: %d\r\n\r\n%b" % (len(body), body),
        OK + b"transfer-encoding: Chunked\r\n\r\n" + chunks + b"0\r\n\r\n",
    ):
        incoming = fed(make(), [data])
        assert all_of(incoming)[2] == body
        assert incoming.reusable


def test_headers_are_looked_up_without_regard_to_case_and_the_first_counts(make: Make) -> None:
    data = OK + b"X-One: 1\r\nx-one: 2\r\nX-\xc3\x9c: \xc3\xbc\xff\r\ncontent-length: 0\r\n\r\n"
    with pytest.raises(InvalidHttp):
        all_of(fed(make(), [data]))
    headers = now(fed(make(), [data.replace(b"X-\xc3\x9c", b"x-u")]).head())
    assert (headers["x-ONE"], headers["X-U"], len(headers)) == ("1", "ü\udcff", 3)
    assert "content-LENGTH" in headers
    assert headers.get("y\ud800") is None


KEPT = {
    b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na": True,
    b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\na": False,
    b"HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\na": False,
    b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 1\r\n\r\na": True,
    b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\naHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nb": False,
    b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\naH": False,
    b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nab": False,
    b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\nab": False,
    b"HTTP/1.1 200 OK\ncontent-length: 1\n\na": True,
}


@pytest.mark.parametrize(("data", "kept"), KEPT.items())
def test_a_connection_may_carry_another_call_where_nothing_speaks_against_it(
    make: Make, data: bytes, kept: bool
) -> None:
    incoming = fed(make(), [data])
    assert (all_of(incoming)[2], incoming.reusable) == (b"a", kept)


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
@pytest.mark.parametrize("header", [b"content-length: 5\r\n", b"transfer-encoding: chunked\r\n", b""])
def test_some_statuses_have_no_body(make: Make, status: bytes, header: bytes) -> None:
    incoming = fed(make(), [b"HTTP/1.1 %b\r\n%b\r\n" % (status, header)])
    assert all_of(incoming)[2] == b""
    assert incoming.reusable


def test_the_reply_to_head_has_no_body(make: Make) -> None:
    incoming = fed(make("HEAD"), [OK + b"content-length: 5\r\n\r\n"])
    assert all_of(incoming) == (200, {"content-length": "5"}, b"")
    assert all_of(fed(make("HEAD"), [SIZED]))[2] == b""


def test_a_body_without_length_ends_with_its_connection(make: Make) -> None:
    incoming = fed(make(), [UNFRAMED])
    incoming.eof(in_order=True)
    assert all_of(incoming)[2] == b"hello"
    assert not incoming.reusable
    incoming = fed(make(), [UNFRAMED])
    incoming.eof(in_order=False)
    with pytest.raises(Lost):
        all_of(incoming)


@pytest.mark.parametrize(
    "data", [SIZED[:-1], CHUNKED[:-1], CHUNKED[:-2], OK, INTERIM[:60], b"", b"HTTP/1.1 200"]
)
def test_any_other_end_is_a_loss(make: Make, data: bytes) -> None:
    incoming = fed(make(), [data])
    incoming.eof(in_order=True)
    with pytest.raises(Lost):
        all_of(incoming)


INVALID = {
    "another protocol": b"HTTP/1.1 101 Yes\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    "the same without its headers": b"HTTP/1.1 101 Yes\r\n\r\n",
    "HTTP/2": b"HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n",
    "HTTP/0.9": b"HTTP/0.9 200 OK\r\ncontent-length: 0\r\n\r\n",
    "a status below all": b"HTTP/1.1 099 OK\r\ncontent-length: 0\r\n\r\n",
    "a status above all": b"HTTP/1.1 1000 OK\r\ncontent-length: 0\r\n\r\n",
    "a coded body": OK + b"transfer-encoding: gzip, chunked\r\n\r\n",
    "a coded body, told apart": OK + b"transfer-encoding: chunked\r\ntransfer-encoding: gzip\r\n\r\n",
    "chunks in chunks": OK + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
    "both": OK + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n",
    "both, the other way": OK + b"transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n",
    "two lengths": OK + b"content-length: 2\r\ncontent-length: 2\r\n\r\n",
    "a length beyond all": OK + b"content-length: 99999999999999999999999\r\n\r\n",
    "a request": b"POST / HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("data", INVALID.values(), ids=INVALID)
def test_what_is_not_taken(make: Make, data: bytes) -> None:
    with pytest.raises(InvalidHttp):
        all_of(fed(make(), [data]))
    with pytest.raises(InvalidHttp):
        all_of(fed(make(), (bytes([byte]) for byte in data)))


@pytest.mark.parametrize("headers", [b"", b"upgrade: x\r\nconnection: upgrade\r\n"])
def test_another_protocol_is_refused_by_its_name(make: Make, headers: bytes) -> None:
    with pytest.raises(InvalidHttp, match="status 101"):
        all_of(fed(make(), [b"HTTP/1.1 101 Yes\r\n%b\r\n" % headers]))


CHUNK = OK + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n"
ENDLESS = {
    "status line": (b"HTTP/1.1 200 ", b"a"),
    "name": (OK, b"a"),
    "value": (OK + b"a: ", b"b"),
    "headers": (OK, b"a%d: b\r\n"),
    "one header": (OK, b"a: b\r\n"),
    "interim replies": (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "empty lines": (b"", b"\r\n"),
    "chunk size": (CHUNK, b"0"),
    "chunk extension": (CHUNK + b"1;", b"a"),
    "trailer": (CHUNK + b"0\r\na: ", b"b"),
    "trailers": (CHUNK + b"0\r\n", b"a%d: b\r\n"),
}


@pytest.mark.parametrize("size", [1, 1000, 100_000], ids="pieces of {}".format)
@pytest.mark.parametrize(("start", "more"), ENDLESS.values(), ids=ENDLESS)
def test_nothing_goes_on_without_end(make: Make, start: bytes, more: bytes, size: int) -> None:
    incoming = make()
    incoming.feed(start + b"") if start else None
    sent = n = 0
    while not incoming.over:
        assert sent < 2 * MAX_HEAD_BYTES + 2 * size
        piece = b""
        while len(piece) < size:
            n += 1
            piece += more % n if b"%d" in more else more
        sent += len(piece)
        incoming.feed(piece)
    with pytest.raises(InvalidHttp):
        all_of(incoming)


def test_a_head_has_its_limits_in_one_piece_too(make: Make) -> None:
    many = b"".join(b"x%d: y\r\n" % n for n in range(MAX_HEADERS - 1))
    assert all_of(fed(make(), [OK + many + b"content-length: 0\r\n\r\n"]))[0] == 200
    long = b"x: " + b"a" * (MAX_HEAD_BYTES + 1) + b"\r\n"
    for headers in (many + b"one: more\r\n", long):
        with pytest.raises(InvalidHttp, match="more than"):
            all_of(fed(make(), [OK + headers + b"content-length: 0\r\n\r\n"]))


@pytest.mark.parametrize("failure", [Expired(), Lost(), InvalidHttp("x")])
def test_what_came_before_a_failure_is_read_before_it(make: Make, failure: Http1Error) -> None:
    incoming = fed(make(), [CHUNK])
    incoming.fail(failure)
    assert incoming.over
    assert now(incoming.head())["transfer-encoding"] == "chunked"
    assert now(incoming.read()) == b"a"
    for _ in range(2):
        with pytest.raises(type(failure)):
            now(incoming.read())


def test_a_failure_after_the_end_is_none(make: Make) -> None:
    incoming = fed(make(), [SIZED])
    incoming.fail(Lost())
    assert all_of(incoming)[2] == b"hello"
    assert now(incoming.read()) == b""


def test_one_task_reads(make: Make) -> None:
    incoming = make()
    waiting = incoming.read()
    waiting.send(None)
    with pytest.raises(RuntimeError, match="Two tasks"):
        now(incoming.read())
    waiting.close()
