"""A streamed message as canonical events: the state machine of one reply, without its SSE framing.

Blocks may grow side by side. One that has a canonical name is told as it grows; any other is gathered, and
told whole when it is complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from assay.errors import AssayError
from assay.providers.anthropic.errors import error_in_stream
from assay.providers.anthropic.reply import (
    FIELDS,
    KNOWN,
    WireMessage,
    WireRedacted,
    WireText,
    WireThinking,
    WireToolUse,
    named,
    read_block,
)
from assay.providers.anthropic.vocabulary import (
    DIALECT,
    Tally,
    WireUsage,
    finish_from,
    made_up_id,
    unread,
)
from assay.providers.refusal import bad_response
from assay.types import (
    Ended,
    Event,
    Extra,
    Finish,
    Finished,
    Opaque,
    OpaqueDelta,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallDelta,
)


class WireDelta(msgspec.Struct):
    """What a block grows by, or (without a type) how the message stopped."""

    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    citation: Any = None
    stop_reason: str | None = None
    stop_sequence: str | None = None


class WireEvent(msgspec.Struct):
    type: str | None = None
    index: int | None = None
    delta: WireDelta | None = None
    message: WireMessage | None = None
    content_block: msgspec.Raw = msgspec.Raw()
    usage: WireUsage | None = None
    error: Any = None


_DECODE = msgspec.json.Decoder(WireEvent).decode
_NO_EVENTS: tuple[Event, ...] = ()
_TYPES_OF_DELTA = {
    "text_delta": "text",
    "citations_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "thinking",
    "input_json_delta": "tool_use",
}
_STOP_KNOWN = frozenset({"type", "stop_reason", "stop_sequence"})
_DELTA_KNOWN = frozenset({"type", "delta"})


class _Block:
    """A block that is open: its type, its place among the parts, and what is not told yet."""

    __slots__ = ("body", "input", "kind", "part", "pieces")

    def __init__(self, kind: str, part: int) -> None:
        self.kind = kind
        self.part = part
        self.pieces: list[str] = []
        """An Opaque block's input as it comes; of a tool call, only whether anything came."""
        self.input = ""
        """A tool call's arguments where none come in pieces."""
        self.body: dict[str, Any] = {}

    def complete(self) -> list[Event]:
        """What is left to tell once the block has ended. Raises ValueError for an input that is not JSON."""
        if self.kind == "tool_use" and not self.pieces:
            return [ToolCallDelta(self.part, arguments=self.input)]
        if self.kind != "opaque":
            return []
        if written := "".join(self.pieces):
            self.body["input"] = msgspec.json.decode(written)
        return [OpaqueDelta(self.part, Opaque(DIALECT, self.body))]


class MessageStream:
    """The EventDecoder of one reply."""

    __slots__ = ("_ended", "_extra", "_finish", "_id", "_open", "_parts", "_started", "_tally", "_told")

    def __init__(self) -> None:
        self._open: dict[int, _Block] = {}
        self._parts = 0
        self._id = ""
        self._finish: Finish | None = None
        self._tally = Tally()
        self._extra: dict[str, Any] = {}
        self._told: dict[str, Any] = {}
        self._started = False
        self._ended = False

    def feed(self, event: str, data: str) -> Sequence[Event]:
        """Raises BadResponse for what the API does not allow, or the error that the event carries."""
        if self._ended or not data or event == "ping" or data == "[DONE]":
            return _NO_EVENTS
        try:
            wire = _DECODE(data)
            if wire.error:
                raise error_in_stream(msgspec.json.decode(data))
            return self._take(wire.type or event, wire, data)
        except (ValueError, RecursionError) as error:
            if event == "error":
                raise error_in_stream(data) from None
            raise bad_response("an event that its API does not allow", data, error) from error

    def end(self) -> Sequence[Event]:
        """Raises BadResponse unless the message was stopped as it should."""
        if self._ended:
            return _NO_EVENTS
        what = "message_stop" if self._started else "message_start"
        raise _cut_off(f"ended before {what}")

    def _take(self, kind: str, wire: WireEvent, data: str) -> Sequence[Event]:
        match kind:
            case "content_block_delta":
                return self._grow(wire, data)
            case "content_block_start":
                return self._block(wire)
            case "content_block_stop":
                return self._opened(wire, close=True).complete()
            case "message_delta":
                return self._delta(wire, data)
            case "message_start":
                return (self._start(wire, data),)
            case "message_stop":
                return self._stop()
            case "error":
                raise error_in_stream(msgspec.json.decode(data))
            case _:
                return _NO_EVENTS

    def _start(self, wire: WireEvent, data: str) -> Started:
        if self._started:
            raise ValueError("message_start came twice")
        if wire.message is None:
            raise ValueError("message_start has no message")
        message = wire.message
        self._started = True
        self._id = message.id or ""
        self._tally.tell(message.usage)
        self._extra = unread(FIELDS(FIELDS(data)["message"]), KNOWN)
        self._told = dict(self._extra)
        return Started(
            self._id,
            message.model or "",
            extra=Extra(DIALECT, self._told) if self._told else None,
            usage=self._tally.usage(),
        )

    def _block(self, wire: WireEvent) -> Sequence[Event]:
        if not self._started:
            raise ValueError("content_block_start came before message_start")
        if wire.index is None or not bytes(wire.content_block):
            raise ValueError("content_block_start has no index or no content_block")
        if wire.index in self._open:
            raise ValueError(f"the block {wire.index} was started twice")
        found = read_block(wire.content_block)
        part = self._parts
        self._parts += 1
        match found:
            case WireText():
                self._open[wire.index] = _Block("text", part)
                return (TextDelta(found.text, part, annotations=tuple(found.citations or ())),)
            case WireThinking():
                self._open[wire.index] = _Block("thinking", part)
                return (ReasoningDelta(found.thinking, part, signature=found.signature or None),)
            case WireRedacted():
                self._open[wire.index] = _Block("redacted_thinking", part)
                return (ReasoningDelta(part=part, encrypted=found.data),)
            case WireToolUse():
                call = self._open[wire.index] = _Block("tool_use", part)
                call.input = found.arguments
                return (ToolCallDelta(part, id=found.id or made_up_id(self._id, part), name=named(found)),)
            case _:
                self._open[wire.index] = opaque = _Block("opaque", part)
                opaque.body = found
                return _NO_EVENTS

    def _opened(self, wire: WireEvent, *, close: bool = False) -> _Block:
        block = None if wire.index is None else self._open.get(wire.index)
        if block is None or wire.index is None:
            raise ValueError(f"the block {wire.index} is not open")
        if close:
            del self._open[wire.index]
        return block

    def _grow(self, wire: WireEvent, data: str) -> Sequence[Event]:
        block, delta = self._opened(wire), wire.delta
        if delta is None or not delta.type:
            raise ValueError("content_block_delta has no delta or no type")
        if block.kind == "opaque":
            _gather(block, delta, data)
            return _NO_EVENTS
        kind = _TYPES_OF_DELTA.get(delta.type)
        if kind is None:
            return _NO_EVENTS
        if kind != block.kind:
            raise ValueError(f"a {delta.type} came for a block of type {block.kind}")
        match delta.type:
            case "text_delta":
                return (TextDelta(_given(delta.text, delta), block.part),)
            case "input_json_delta":
                if not (piece := _given(delta.partial_json, delta)):
                    return _NO_EVENTS
                if not block.pieces:
                    block.pieces.append("")
                return (ToolCallDelta(block.part, arguments=piece),)
            case "thinking_delta":
                return (ReasoningDelta(_given(delta.thinking, delta), block.part),)
            case "signature_delta":
                return (ReasoningDelta(part=block.part, signature=_given(delta.signature, delta) or None),)
            case _:
                if delta.citation is None:
                    raise ValueError("a citations_delta has no citation")
                return (TextDelta("", block.part, annotations=(delta.citation,)),)

    def _delta(self, wire: WireEvent, data: str) -> Sequence[Event]:
        if not self._started:
            raise ValueError("message_delta came before message_start")
        self._tally.tell(wire.usage)
        if wire.delta is not None and wire.delta.stop_reason:
            self._finish = finish_from(wire.delta.stop_reason, wire.delta.stop_sequence)
        fields = FIELDS(data)
        news = unread(fields, _DELTA_KNOWN)
        if wire.delta is not None:
            news |= unread(FIELDS(fields["delta"]), _STOP_KNOWN)
        if "usage" in news:
            news["usage"] = {**self._extra.get("usage", {}), **news["usage"]}
        self._extra = {**self._extra, **news}
        return _NO_EVENTS

    def _stop(self) -> Sequence[Event]:
        if self._finish is None:
            raise _cut_off("was stopped before it had a stop_reason")
        events: list[Event] = []
        for block in self._open.values():
            events.extend(block.complete())
        self._open = {}
        self._ended = True
        news = Extra(DIALECT, self._extra) if self._extra != self._told else None
        return [*events, Finished(self._finish), Ended(self._tally.usage(), extra=news)]


def _gather(block: _Block, delta: WireDelta, data: str) -> None:
    """Adds to a block that has no canonical name: a list or a text grows, anything else is set."""
    match delta.type:
        case "input_json_delta":
            block.pieces.append(_given(delta.partial_json, delta))
        case "text_delta":
            block.body["text"] = f"{block.body.get('text') or ''}{_given(delta.text, delta)}"
        case "thinking_delta":
            block.body["thinking"] = f"{block.body.get('thinking') or ''}{_given(delta.thinking, delta)}"
        case "citations_delta":
            known = block.body.get("citations")
            block.body["citations"] = [*(known if isinstance(known, list) else ()), delta.citation]
        case _:
            fields = msgspec.json.decode(FIELDS(data)["delta"])
            block.body.update({name: value for name, value in fields.items() if name != "type"})


def _given(value: str | None, delta: WireDelta) -> str:
    if value is None:
        raise ValueError(f"a {delta.type} has nothing in it")
    return value


def _cut_off(how: str) -> AssayError:
    return bad_response(f"a stream that {how}; the answer is cut off", "")
