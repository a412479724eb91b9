"""Replies as Anthropic's stream: message_start, blocks one after the other, message_delta, message_stop.

Canonical parts may grow by turns; Anthropic's blocks may not. A text or thought that is interrupted ends
there, and what comes of it later is a block of its own. A tool call cannot be cut: until its arguments are
whole, what belongs to other parts waits.
"""

from __future__ import annotations

from typing import assert_never

from assay.errors import AssayError, BadResponse
from assay.server.anthropic.blocks import (
    Block,
    CallBlock,
    OpaqueBlock,
    TextBlock,
    ThoughtBlock,
    Writer,
    sse,
)
from assay.server.anthropic.errors import encode_error
from assay.server.anthropic.reply import (
    Body,
    citations,
    final_usage,
    message,
    only_choice,
    own,
    stop,
    too_many,
    unsupported,
    usage,
)
from assay.server.dialect import ServerSentEvents
from assay.types import (
    AudioDelta,
    Completed,
    Delta,
    Ended,
    Event,
    Finish,
    Finished,
    Opaque,
    OpaqueDelta,
    Reasoning,
    ReasoningDelta,
    Refusal,
    RefusalDelta,
    Response,
    Started,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
    WireData,
    stream_of,
)

_PING = b'event: ping\ndata: {"type":"ping"}\n\n'
_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


class MessageStream(ServerSentEvents):
    """Server-sent events for the events of one reply. `encode` gives b"" for what has nothing to say yet.

    >>> encoder = MessageStream()
    >>> for event in [Started("msg_1", "m"), TextDelta("Hi"), Finished(Finish("stop")), Ended()]:
    ...     print([line[7:] for line in encoder.encode(event).decode().splitlines() if line[:5] == "event"])
    ['message_start', 'ping']
    ['content_block_start', 'content_block_delta']
    ['content_block_stop']
    ['message_delta', 'message_stop']
    """

    __slots__ = ("_calls", "_finish", "_open", "_refused", "_started", "_waiting", "_writer")

    def __init__(self, _options: object = None) -> None:
        self._started: Started | None = None
        self._finish: Finish | None = None
        self._writer = Writer()
        self._open: Block | None = None
        self._waiting: dict[int, list[Delta]] = {}
        self._calls: set[int] = set()
        self._refused = False

    def encode(self, event: Event) -> bytes:
        """Raises UnsupportedFeature for a part that the API has no place for."""
        match event:
            case TextDelta():
                open_ = self._open
                if (
                    type(open_) is TextBlock
                    and open_.part == event.part
                    and not (event.annotations or event.choice or self._waiting)
                ):
                    # Nearly all events are these: the way below would say the same.
                    return open_.text(event.text)
                return self._delta(event)
            case RefusalDelta() | ReasoningDelta() | ToolCallDelta() | AudioDelta() | OpaqueDelta():
                return self._delta(event)
            case Started():
                return self._start(event, event.usage)
            case Finished():
                if event.choice:
                    raise too_many()
                self._finish = event.finish
                return self._close_all()
            case Ended():
                return self._end(event)
            case Completed(response):
                return self._whole(response)
            case WireData(data):
                return self.wire(data)
            case _:
                assert_never(event)

    def error(self, error: AssayError) -> bytes:
        """The last event of a stream that failed: without message_stop nobody takes it for whole."""
        _, body = encode_error(error)
        return b"event: error\ndata: " + body + b"\n\n"

    # --- around the blocks -----------------------------------------------------------------------

    def _start(self, started: Started, told: Usage | None) -> bytes:
        """What is not known of the usage where the reply is just beginning message_delta has."""
        self._started = started
        body = message(started.id, started.model, started.extra, usage(told, started.extra))
        return sse("message_start", {"message": body}) + _PING

    def _whole(self, response: Response) -> bytes:
        choice = only_choice(response)
        for part in choice.message.parts:
            if not isinstance(part, Text | Refusal | Reasoning | ToolCall | Opaque):
                raise unsupported(type(part).__name__)
        started, *rest = stream_of(response)
        assert isinstance(started, Started)
        return self._start(started, response.usage) + b"".join(self.encode(event) for event in rest)

    def _end(self, ended: Ended) -> bytes:
        extra = ended.extra or (self._started.extra if self._started is not None else None)
        finish = self._finish or Finish("other")
        delta = stop(finish, extra, called=bool(self._calls), refused=self._refused)
        delta["container"] = own(extra).get("container")
        body = {"delta": delta, "usage": final_usage(ended.usage, extra), **_beside(own(extra))}
        return sse("message_delta", body) + _STOP

    # --- whose turn it is ------------------------------------------------------------------------

    def _delta(self, event: Delta) -> bytes:
        if event.choice:
            raise too_many()
        if not _says(event):
            return b""
        if self._open is not None and self._open.part == event.part:
            return self._say(event) + self._drain()
        if isinstance(event, ToolCallDelta) and event.part in self._calls:
            if event.arguments.strip():
                raise BadResponse("The upstream added to a tool call whose arguments were whole already")
            return b""
        if self._open is None:
            return self._say(event)
        self._waiting.setdefault(event.part, []).append(event)
        return self._drain()

    def _drain(self) -> bytes:
        """As many of those that wait as may speak."""
        said = b""
        while self._waiting and (self._open is None or self._open.whole):
            said += self._close() + self._next()
        return said

    def _next(self) -> bytes:
        """All that waits of the part that has waited longest."""
        turn = self._waiting.pop(next(iter(self._waiting)))
        return b"".join(map(self._say, turn))

    def _close_all(self) -> bytes:
        said = self._close()
        while self._waiting:
            said += self._next() + self._close()
        return said

    def _close(self) -> bytes:
        block, self._open = self._open, None
        return b"" if block is None else block.close()

    def _say(self, event: Delta) -> bytes:
        block = self._open = self._open or self._block(event)
        if not isinstance(event, block.kinds):
            raise BadResponse(f"The upstream's part {event.part} changed its kind to {type(event).__name__}")
        return block.say(event)

    def _block(self, event: Delta) -> Block:
        match event:
            case TextDelta() | RefusalDelta():
                self._refused = self._refused or isinstance(event, RefusalDelta)
                return TextBlock(self._writer, event)
            case ReasoningDelta():
                return ThoughtBlock(self._writer, event)
            case ToolCallDelta():
                self._calls.add(event.part)
                return CallBlock(self._writer, event, self._started.id if self._started is not None else "")
            case OpaqueDelta():
                return OpaqueBlock(self._writer, event)
            case AudioDelta():
                raise unsupported("Audio")
            case _:
                assert_never(event)


def _beside(fields: Body) -> Body:
    """What betas tell at the end of a stream."""
    return {name: fields[name] for name in ("context_management", "input_transformations") if name in fields}


def _says(event: Delta) -> bool:
    """Whether it says anything: the API would not take back a block that does not."""
    match event:
        case TextDelta():
            return bool(event.text or citations(event.annotations))
        case RefusalDelta():
            return bool(event.text)
        case ReasoningDelta():
            return bool(event.text or event.summary or event.signature or event.encrypted)
        case _:
            return True
