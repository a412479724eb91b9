"""A streamed chat completion as canonical events: the state machine of one reply, without its SSE framing.

The dialect lets a choice finish while others go on, and sends the expiry of a sound after the end of its
choice. The grammar of assay.types.events wants every delta before the first Finished, so finish reasons are
held until the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from assay.errors import BadResponse
from assay.providers.openai_chat.errors import error_in_stream
from assay.providers.openai_chat.reply import (
    WireAudio,
    WireToolCall,
    decode_base64,
    made_up_id,
)
from assay.providers.openai_chat.vocabulary import (
    DIALECT,
    DONE,
    STREAMED_AUDIO_TYPE,
    WireLogprobs,
    WireUsage,
    finish_from,
    logprobs_from,
    usage_from,
)
from assay.providers.refusal import bad_response
from assay.types import (
    AudioDelta,
    Delta,
    Ended,
    Event,
    Extra,
    Finish,
    Finished,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    Usage,
)


class WireDelta(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    annotations: list[Any] | None = None
    audio: WireAudio | None = None
    tool_calls: list[WireToolCall] | None = None


class WireChunkChoice(msgspec.Struct):
    delta: WireDelta | None = None
    index: int | None = None
    finish_reason: str | None = None
    logprobs: WireLogprobs | None = None


class WireChunk(msgspec.Struct):
    choices: list[WireChunkChoice] | None = None
    id: str | None = None
    model: str | None = None
    created: int | float | None = None
    usage: WireUsage | None = None
    error: Any = None
    system_fingerprint: str | None = None
    service_tier: str | None = None
    moderation: Any = None


_DECODE = msgspec.json.Decoder(WireChunk).decode
_NO_EVENTS: tuple[Event, ...] = ()
_NO_LOGPROBS = WireLogprobs()
_EXTRA = ("system_fingerprint", "service_tier", "moderation")


class _Call:
    """A tool call in the making."""

    __slots__ = ("id", "kind", "number", "part")

    def __init__(self, number: int, part: int, call_id: str, kind: Literal["function", "custom"]) -> None:
        self.number = number
        self.part = part
        self.id = call_id
        self.kind = kind


class _Choice:
    """Where the parts of one choice stand: each gets its number when its first piece comes."""

    __slots__ = ("audio", "by_index", "calls", "finish", "number", "parts", "reasoning", "refusal", "text")

    def __init__(self, number: int) -> None:
        self.number = number
        self.parts = 0
        self.text = self.refusal = self.reasoning = self.audio = -1
        self.calls: list[_Call] = []
        self.by_index: dict[int, _Call] = {}
        self.finish: Finish | None = None

    def open(self) -> int:
        self.parts += 1
        return self.parts - 1


class ChatStream:
    """The EventDecoder of one reply."""

    __slots__ = ("_choices", "_ended", "_extra", "_id", "_started", "_told", "_usage")

    def __init__(self) -> None:
        self._choices: dict[int, _Choice] = {}
        self._id = ""
        self._extra: dict[str, Any] = {}
        self._told: dict[str, Any] = {}
        self._usage: Usage | None = None
        self._started = False
        self._ended = False

    def feed(self, event: str, data: str) -> Sequence[Event]:
        """Raises BadResponse for what is not a chunk, or the error that a chunk carries."""
        if self._ended or not data:
            return _NO_EVENTS
        if data == DONE:
            return self._finish("said [DONE]")
        try:
            chunk = _DECODE(data)
            if chunk.error or event == "error":
                raise error_in_stream(msgspec.json.decode(data))
            return self._take(chunk)
        except (ValueError, RecursionError) as error:
            raise bad_response("a chunk that is not one of a chat completion", data, error) from error

    def end(self) -> Sequence[Event]:
        """The stream is over, with or without [DONE]. Raises BadResponse when choices were left open."""
        return _NO_EVENTS if self._ended else self._finish("ended")

    def _take(self, chunk: WireChunk) -> Sequence[Event]:
        if chunk.usage is not None:
            self._usage = usage_from(chunk.usage) or self._usage
        for name in _EXTRA:
            if (value := getattr(chunk, name)) is not None:
                self._extra[name] = value
        if not chunk.choices:
            return _NO_EVENTS
        events: list[Event] = []
        if not self._started:
            events.append(self._start(chunk))
        for wire in chunk.choices:
            number = wire.index or 0
            choice = self._choices.get(number)
            if choice is None:
                choice = self._choices[number] = _Choice(number)
            if wire.delta is not None:
                self._deltas(choice, wire.delta, wire.logprobs, events)
            if wire.finish_reason and choice.finish is None:
                choice.finish = finish_from(wire.finish_reason)
        return events

    def _start(self, chunk: WireChunk) -> Started:
        self._started = True
        self._id = chunk.id or ""
        self._told = dict(self._extra)
        return Started(
            self._id,
            chunk.model or "",
            int(chunk.created or 0),
            extra=Extra(DIALECT, self._told) if self._told else None,
        )

    def _finish(self, how: str) -> Sequence[Event]:
        unfinished = [choice.number for choice in self._choices.values() if choice.finish is None]
        if unfinished or not self._choices:
            what = f"choice {unfinished[0]} had a finish_reason" if unfinished else "any choice came"
            raise BadResponse(
                f"The upstream's stream {how} before {what}; the answer is cut off", upstream_status=200
            )
        self._ended = True
        events: list[Event] = [
            Finished(choice.finish, choice.number)
            for _, choice in sorted(self._choices.items())
            if choice.finish is not None
        ]
        news = Extra(DIALECT, self._extra) if self._extra != self._told else None
        events.append(Ended(self._usage, extra=news))
        return events

    def _deltas(
        self, choice: _Choice, delta: WireDelta, logprobs: WireLogprobs | None, events: list[Event]
    ) -> None:
        if thought := delta.reasoning_content or delta.reasoning:
            if choice.reasoning < 0:
                choice.reasoning = choice.open()
            events.append(ReasoningDelta(thought, choice.reasoning, choice.number))
        tokens = logprobs or _NO_LOGPROBS
        said, refused = logprobs_from(tokens.content), logprobs_from(tokens.refusal)
        if delta.refusal or refused:
            if choice.refusal < 0:
                choice.refusal = choice.open()
            events.append(RefusalDelta(delta.refusal or "", choice.refusal, choice.number, refused))
        if delta.content or said or delta.annotations:
            if choice.text < 0:
                choice.text = choice.open()
            annotations = tuple(delta.annotations) if delta.annotations else ()
            events.append(TextDelta(delta.content or "", choice.text, choice.number, said, annotations))
        if delta.audio is not None:
            events.append(_audio_delta(choice, delta.audio))
        for call in delta.tool_calls or ():
            events.append(self._tool_call(choice, call))

    def _tool_call(self, choice: _Choice, wire: WireToolCall) -> Delta:
        name = arguments = None
        if wire.custom is not None:
            name, arguments = wire.custom.name, wire.custom.input
        elif wire.function is not None:
            name, arguments = wire.function.name, wire.function.arguments
        call = _continued(choice, wire, name)
        opened = call is None
        if call is None:
            number = len(choice.calls)
            if not name:
                raise ValueError(f"tool call {number} of choice {choice.number} begins without a name")
            kind: Literal["function", "custom"] = "function" if wire.custom is None else "custom"
            call_id = wire.id or made_up_id(self._id, choice.number, number)
            call = _Call(number, choice.open(), call_id, kind)
            choice.calls.append(call)
            choice.by_index[number if wire.index is None else wire.index] = call
        return ToolCallDelta(
            call.part,
            choice.number,
            call.id if opened else None,
            name if opened else None,
            arguments or "",
            call.kind,
            wire.signature,
        )


def _continued(choice: _Choice, wire: WireToolCall, name: str | None) -> _Call | None:
    """The call that this piece goes on with, or None when it opens a new one.

    Some servers number every parallel call 0, or none at all: a name together with another id than before
    opens a new call. Others send a new id with every piece: an id alone opens nothing.
    """
    if wire.index is None:
        call = choice.calls[-1] if choice.calls else None
        if wire.id:
            call = next((known for known in choice.calls if known.id == wire.id), call)
    else:
        call = choice.by_index.get(wire.index)
    if call is not None and name and wire.id and wire.id != call.id:
        return None
    if call is not None and wire.index is None and name and not wire.id:
        return None
    return call


def _audio_delta(choice: _Choice, audio: WireAudio) -> AudioDelta:
    if choice.audio < 0:
        choice.audio = choice.open()
    return AudioDelta(
        choice.audio,
        choice.number,
        decode_base64(audio.data) if audio.data else b"",
        STREAMED_AUDIO_TYPE,
        audio.transcript or "",
        audio.id,
        audio.expires_at,
    )
