"""The decoder of server-sent events: the standard's examples, and the same events wherever bytes are cut."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import BadResponse
from assay.providers import sse
from assay.providers.sse import SseDecoder

Events = list[tuple[str, str]]


def decode(*chunks: bytes) -> Events:
    decoder = SseDecoder()
    events = [event for chunk in chunks for event in decoder.feed(chunk)]
    return events + decoder.end()


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"", []),
        (b"data: a\n\n", [("message", "a")]),
        (b"data: a\r\n\r\n", [("message", "a")]),
        (b"data: a\r\r", [("message", "a")]),
        (b"data: a\r\n\ndata: b\n\r\n", [("message", "a"), ("message", "b")]),
        (b"event: delta\ndata: a\n\ndata: b\n\n", [("delta", "a"), ("message", "b")]),
        (b"data: a\nevent: late\n\n", [("late", "a")]),
        (b"event: one\nevent: two\ndata: a\n\n", [("two", "a")]),
        (b"event:\ndata: a\n\n", [("message", "a")]),
        (b"event: nothing to tell\n\ndata: a\n\n", [("message", "a")]),
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", [("message", "YHOO\n+2\n10")]),
        (b"data\n\ndata\ndata\n\n", [("message", ""), ("message", "\n")]),
        (b"data:a\n\ndata:  b\n\n", [("message", "a"), ("message", " b")]),
        (b"data: a: b\n\n", [("message", "a: b")]),
        (b": heartbeat\n\n:\n\ndata: a\n: between\n\n", [("message", "a")]),
        (b"id: 1\nretry: 10\nnonsense\n Data: x\nDATA: x\ndata: a\n\n", [("message", "a")]),
        (b"\xef\xbb\xbfdata: a\n\n", [("message", "a")]),
        (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [("message", "a")]),
        ("data: süß \u2028 \x85 \x0b \x1c ✓\n\n".encode(), [("message", "süß \u2028 \x85 \x0b \x1c ✓")]),
        (b"\n\n\r\r\r\n\r\n", []),
        (b"data: a\n\ndata: [DONE]\n", [("message", "a"), ("message", "[DONE]")]),
        (b"data: a\n\ndata: [DONE]", [("message", "a"), ("message", "[DONE]")]),
        (b"data: a\n\nevent: x\n: y", [("message", "a")]),
    ],
)
def test_a_stream_in_one_piece_and_byte_by_byte(stream: bytes, events: Events) -> None:
    assert decode(stream) == events
    assert decode(*(stream[i : i + 1] for i in range(len(stream)))) == events


def test_an_event_is_given_as_soon_as_its_blank_line_is_there() -> None:
    decoder = SseDecoder()
    assert decoder.feed(b"data: a\r\n\r") == [("message", "a")]
    assert decoder.feed(b"\ndata: b\r\r") == [("message", "b")]
    assert decoder.feed(b"\n") == []
    assert decoder.feed(b"\ndata: c\n\n") == [("message", "c")]


line_ends = st.sampled_from(["\n", "\r", "\r\n"])
# No surrogates: they cannot be encoded. No line ends: they are drawn apart.
text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=8)
lines = st.one_of(
    text,
    st.just(""),
    text.map("data: {}".format),
    text.map("data:{}".format),
    text.map("event: {}".format),
    text.map(": {}".format),
)
streams = st.builds(
    lambda bom, parts: (bom + "".join(line + end for line, end in parts)).encode(),
    st.sampled_from(["", "\ufeff"]),
    st.lists(st.tuples(lines, line_ends), max_size=12),
)


@given(stream=streams, data=st.data())
def test_where_the_bytes_are_cut_changes_nothing(stream: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert decode(*pieces) == decode(stream)


@given(stream=streams)
def test_it_reads_what_the_standard_says(stream: bytes) -> None:
    assert decode(stream) == by_the_standard(stream.decode())


def by_the_standard(stream: str) -> Events:
    """The algorithm of the HTML standard, 9.2.6, word for word, over a whole stream, its last event ended."""
    events: Events = []
    event_type = buffer = ""
    whole = stream.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n") + "\n\n"
    for line in whole.split("\n"):
        if line == "":
            if buffer:
                events.append((event_type or "message", buffer.removesuffix("\n")))
            event_type = buffer = ""
        elif not line.startswith(":"):
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                event_type = value
            elif field == "data":
                buffer += value + "\n"
    return events


@given(values=st.lists(st.tuples(text, text), max_size=6), end=line_ends)
def test_what_was_written_is_read(values: list[tuple[str, str]], end: str) -> None:
    stream = "".join(f"event: {name}{end}data: {data}{end}{end}" for name, data in values)
    assert decode(stream.encode()) == [(name or "message", data) for name, data in values]


@pytest.mark.parametrize(
    "piece", [b"data: " + b"x" * 90 + b"\n", b"data: x" + b"x" * 90, b": " + b"x" * 90, b"data\n"]
)
def test_an_event_larger_than_the_limit_is_a_bad_response(piece: bytes) -> None:
    decoder = SseDecoder(limit_bytes=1_000)
    with pytest.raises(BadResponse, match="larger than 1,000 bytes"):
        for _ in range(2_000):
            assert decoder.feed(piece) == []


def test_the_limit_is_of_one_event_not_of_the_stream() -> None:
    decoder = SseDecoder(limit_bytes=100)
    for _ in range(1_000):
        assert decoder.feed(b": heart") == decoder.feed(b"beat\nda") == []
        assert decoder.feed(b"ta: " + b"x" * 80 + b"\n\n") == [("message", "x" * 80)]


@pytest.mark.parametrize(
    "stream", [b"data: \xff\n\n", b"event: \xc3\ndata: a\n\n", "data: é".encode()[:-1] + b"\n\n"]
)
def test_text_that_is_not_utf8_is_a_bad_response(stream: bytes) -> None:
    with pytest.raises(BadResponse, match="UTF-8"):
        SseDecoder().feed(stream)


def test_the_example_of_the_module_runs() -> None:
    assert doctest.testmod(sse).failed == 0
