"""Server-sent events out of bytes, however the network cut them. What they mean is the wire formats'."""

from __future__ import annotations

from assay.errors import BadResponse

MAX_EVENT_BYTES = 16 << 20
"""The longest event, and the longest line, that is kept in memory."""


class EventStream:
    r"""The parser of one stream. Comments, ids and retry times are passed over.

    >>> stream = EventStream()
    >>> stream.feed(b"event: ping\r\ndata: o")
    []
    >>> stream.feed(b"ne\r\ndata: two\r\n\r\n")
    [('ping', 'one\ntwo')]
    """

    __slots__ = ("_after_cr", "_data", "_kind", "_line", "_size")

    def __init__(self) -> None:
        self._line: list[bytes] = []
        self._data: list[str] = []
        self._kind = ""
        self._size = 0
        self._after_cr = False

    def feed(self, chunk: bytes) -> list[tuple[str, str]]:
        """The events (kind, data) that are complete now; the kind is `message` where none is given.

        Raises BadResponse when an event grows beyond MAX_EVENT_BYTES.
        """
        if self._after_cr and chunk[:1] == b"\n":
            chunk = chunk[1:]
        if not chunk:
            return []
        self._after_cr = chunk.endswith(b"\r")
        self._size += len(chunk)
        events: list[tuple[str, str]] = []
        lines = chunk.splitlines()
        rest = b"" if chunk.endswith((b"\n", b"\r")) else lines.pop()
        if lines and self._line:
            self._line.append(lines[0])
            lines[0] = b"".join(self._line)
            self._line.clear()
        for line in lines:
            if line:
                self._take(line)
            else:
                self._dispatch(events)
        if rest:
            self._line.append(rest)
        if self._size > MAX_EVENT_BYTES:
            self._measure()
        return events

    def end(self) -> list[tuple[str, str]]:
        """The event that the end of the stream left without its empty line, if any."""
        return self.feed(b"\n\n")

    def _take(self, line: bytes) -> None:
        name, _, value = line.decode("utf-8", "replace").removeprefix("\ufeff").partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._kind = value

    def _dispatch(self, events: list[tuple[str, str]]) -> None:
        if self._data:
            events.append((self._kind or "message", "\n".join(self._data)))
        self._data.clear()
        self._kind = ""

    def _measure(self) -> None:
        """Counts what is really held: `_size` only grows, so that counting is seldom."""
        self._size = sum(map(len, self._line)) + sum(map(len, self._data))
        if self._size > MAX_EVENT_BYTES:
            raise BadResponse(
                f"The upstream sent an event of more than {MAX_EVENT_BYTES:,} bytes; check that its base_url "
                "leads to a model API",
                upstream_status=200,
            )
