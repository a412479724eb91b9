r"""Server-sent events: bytes in, events out. What an event means belongs to the wire formats.

    >>> decoder = SseDecoder()
    >>> decoder.feed(b'event: delta\ndata: {"text"')
    []
    >>> decoder.feed(b': "hi"}\n\ndata: [DONE]\n\n')
    [('delta', '{"text": "hi"}'), ('message', '[DONE]')]

By the WHATWG's HTML standard, section 9.2.6, with two differences: text that is not UTF-8 is an error, not
replaced, and the event that a body ends in the middle of is given, not dropped (see `end`).
"""

from __future__ import annotations

from assay.errors import BadResponse

# Room for an image in base64 within one event.
LIMIT_BYTES = 16 << 20

_BOM = b"\xef\xbb\xbf"


class SseDecoder:
    """The decoder of one body. Chunks may end anywhere, within a character or a line end too."""

    def __init__(self, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._line: list[bytes] = []  # the pieces of a line whose end has not come yet
        self._line_bytes = 0
        self._event = b""
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._at_start = True
        self._after_cr = False

    def feed(self, chunk: bytes) -> list[tuple[str, str]]:
        """The events, as (event, data), that this chunk completes.

        The event is "message" where none is named; several lines of data are joined with newlines. Comments
        and the fields `id` and `retry` have no say. Raises BadResponse when an event is larger than the
        limit, or not UTF-8.
        """
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk[0] == 10:  # the second half of a line end that was split
                chunk = chunk[1:]
        lines = chunk.splitlines()
        if not lines:
            return []
        unfinished = b"" if chunk.endswith((b"\n", b"\r")) else lines.pop()
        self._after_cr = chunk.endswith(b"\r")
        if lines and self._line:
            lines[0] = self._joined(lines[0])
        events = self._take(lines)
        if unfinished:
            self._line.append(unfinished)
            self._line_bytes += len(unfinished)
            self._check_size()
        return events

    def end(self) -> list[tuple[str, str]]:
        """The last event, where the body ended without the blank line that should close it.

        Only for a body that HTTP says is whole: some upstreams leave the line out. The standard drops such an
        event; here what is in it decides, and half a JSON document does not parse.
        """
        return self._take([self._joined(b""), b""])

    def _joined(self, last: bytes) -> bytes:
        self._line.append(last)
        line = b"".join(self._line)
        self._line.clear()
        self._line_bytes = 0
        return line

    def _take(self, lines: list[bytes]) -> list[tuple[str, str]]:
        if self._at_start and lines:
            self._at_start = False
            lines[0] = lines[0].removeprefix(_BOM)
        events = []
        for line in lines:
            if not line:
                if self._data:
                    events.append(self._finished())
                self._event = b""
                continue
            field, _, value = line.partition(b":")
            if field == b"data":
                self._data.append(value.removeprefix(b" "))
                self._data_bytes += len(value) + 1
                self._check_size()
            elif field == b"event":
                self._event = value.removeprefix(b" ")
        return events

    def _finished(self) -> tuple[str, str]:
        data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        self._data.clear()
        self._data_bytes = 0
        try:
            return self._event.decode() or "message", data.decode()
        except UnicodeDecodeError as exc:
            raise BadResponse(f"The upstream sent an event that is not UTF-8: {exc}") from None

    def _check_size(self) -> None:
        if self._line_bytes + self._data_bytes > self._limit_bytes:
            raise _too_large(self._limit_bytes)


def _too_large(limit_bytes: int) -> BadResponse:
    return BadResponse(
        f"The upstream sent an event larger than {limit_bytes:,} bytes; check that its base_url leads to a "
        "model API"
    )


class Whole:
    """The same bytes, cut so that each piece is whole events: what follows a piece can be something else.

    What it gives has only events that SseDecoder finds complete in it, wherever the bytes came cut.

    >>> whole = Whole()
    >>> whole.feed(b'data: 1\\n\\nda'), whole.feed(b'ta: 2\\n'), whole.end()
    (b'data: 1\\n\\n', b'', b'data: 2\\n\\n')
    """

    __slots__ = ("_limit_bytes", "_pieces", "_size", "_tail")

    def __init__(self, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._pieces: list[bytes] = []  # of what is not whole yet
        self._size = 0
        self._tail = b""  # its last bytes, in which a blank line may have begun

    def feed(self, chunk: bytes) -> bytes:
        """Raises BadResponse when an event is larger than the limit."""
        seen = self._tail + chunk
        end = max(seen.rfind(b"\n\n") + 2, seen.rfind(b"\n\r\n") + 3, seen.rfind(b"\r\r") + 2)
        cut = end - len(self._tail)
        if end < 3 or cut <= 0:  # rfind gives -1 where there is none
            self._keep(chunk)
            return b""
        if not self._pieces and cut == len(chunk):
            self._tail = b""
            return chunk
        data = b"".join((*self._pieces, chunk[:cut]))
        self._pieces.clear()
        self._size = 0
        self._tail = b""
        if cut < len(chunk):
            self._keep(chunk[cut:])
        return data

    def end(self) -> bytes:
        """What is left of a body that ended without its last blank line, with that line."""
        rest = b"".join(self._pieces).rstrip(b"\r\n")
        self._pieces.clear()
        return rest + b"\n\n" if rest else b""

    def _keep(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._size += len(piece)
        self._tail = (self._tail + piece)[-2:]
        if self._size > self._limit_bytes:
            raise _too_large(self._limit_bytes)


def written(event: str, data: str) -> bytes:
    """One event, as bytes."""
    name = b"" if event == "message" else f"event: {event}\n".encode()
    return name + b"".join(f"data: {line}\n".encode() for line in data.split("\n")) + b"\n"
