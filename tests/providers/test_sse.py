"""Server-sent events, whole and in any pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import BadResponse
from assay.providers import sse
from assay.providers.sse import EventStream


def events_of(*chunks: bytes) -> list[tuple[str, str]]:
    stream = EventStream()
    events = [event for chunk in chunks for event in stream.feed(chunk)]
    return [*events, *stream.end()]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"data: a\n\n", [("message", "a")]),
        (b"data:a\n\ndata:  b\n\n", [("message", "a"), ("message", " b")]),
        (b"event: ping\ndata: {}\n\ndata: x\n\n", [("ping", "{}"), ("message", "x")]),
        (b"data: a\ndata: b\ndata:\n\n", [("message", "a\nb\n")]),
        (b": heartbeat\n\n: again\n\ndata: a\n\n", [("message", "a")]),
        (b"event: ping\n\ndata: a\n\n", [("message", "a")]),
        (b"id: 7\nretry: 10\nodd\ndata: a\n\n", [("message", "a")]),
        (b"\xef\xbb\xbfdata: a\n\n", [("message", "a")]),
        (b"data: a\n\ndata: [DONE]", [("message", "a"), ("message", "[DONE]")]),
        (b"data: a\x0bb\x0cc\xc2\x85d\xe2\x80\xa8e\n\n", [("message", "a\x0bb\x0cc\x85d\u2028e")]),
        (b"data: \xff\n\n", [("message", "\ufffd")]),
    ],
)
def test_what_is_in_a_stream(data: bytes, expected: list[tuple[str, str]]) -> None:
    assert events_of(data) == expected


LINES = st.sampled_from(
    ["data: a", "data:", "data: wörld 👋", "event: e", ": c", "", "", "\ufeffdata: b", "id: 1", "data"]
)


@given(st.lists(LINES, max_size=12), st.sampled_from(["\n", "\r\n", "\r"]), st.data())
def test_cutting_changes_nothing(lines: list[str], newline: str, draw: st.DataObject) -> None:
    data = "".join(line + newline for line in lines).encode()
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=6)))
    chunks = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    one_by_one = [data[at : at + 1] for at in range(len(data))]
    assert events_of(*chunks) == events_of(data) == events_of(*one_by_one)
    assert events_of(data) == events_of("".join(line + "\n" for line in lines).encode())


def test_an_event_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 1_000)
    for endless in (b"data: xxxxxxxxx", b"data: xxxxxxxxx\n"):
        stream = EventStream()
        with pytest.raises(BadResponse, match="1,000 bytes"):
            for _ in range(1_000):
                stream.feed(endless)
    stream = EventStream()
    for _ in range(1_000):
        assert stream.feed(b"data: xxxxxxxxx\n\n")
