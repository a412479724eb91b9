"""A streamed reply of streamGenerateContent as canonical events, without its SSE framing.

Each chunk is a GenerateContentResponse of its own with whole parts; texts one after the other are pieces of
one text, function calls come whole. A text ends with its signature, which often comes alone at the last, as
it would stand on the whole text of a reply that is not streamed. There is no event for the end: the last
chunk has a finishReason, some models give one with every chunk, and counts may follow it. So finish reasons
are held until the body ends.

The API's other framing, a JSON array of the same chunks, is no stream of server-sent events: `decode_array`
takes it whole, from a proxy that knows no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, assert_never

import msgspec

from assay.providers.gemini.errors import error_in_reply
from assay.providers.gemini.reply import (
    ReplyPart,
    WireCandidate,
    WireReply,
    aside,
    cut_off,
    extra_of,
    part_from,
    parts_of,
    seconds,
)
from assay.providers.gemini.vocabulary import (
    WireUsage,
    blocked,
    finish_from,
    logprobs_from,
    made_up_id,
    usage_from,
)
from assay.providers.refusal import bad_response
from assay.types import (
    Assembly,
    Audio,
    AudioDelta,
    Delta,
    Ended,
    Event,
    Extra,
    Finish,
    Finished,
    Inline,
    Opaque,
    OpaqueDelta,
    Reasoning,
    ReasoningDelta,
    Request,
    Response,
    Started,
    Text,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    replace,
)

_DECODE = msgspec.json.Decoder(WireReply).decode
_CHUNKS = msgspec.json.Decoder(list[msgspec.Raw]).decode
_ANY = msgspec.json.Decoder().decode
_NO_EVENTS: tuple[Event, ...] = ()


class _Candidate:
    """Where the parts of one candidate stand. `open` is the kind of part that a piece may go on with."""

    __slots__ = ("aside", "calls", "finish", "logprobs", "media_type", "number", "open", "part", "text")

    def __init__(self, number: int) -> None:
        self.number = number
        self.part = -1
        self.open: type[ReplyPart] | None = None
        self.media_type = ""
        self.text = -1
        self.calls = 0
        self.finish = ""
        self.aside: dict[str, Any] = {}
        self.logprobs: list[TokenLogprob] = []

    def place(self, kind: type[ReplyPart], *, joins: bool) -> int:
        """The number of the part that a piece belongs to."""
        if not joins or self.open is not kind:
            self.part += 1
        self.open = kind
        return self.part

    def delta(self, part: ReplyPart) -> Delta:
        match part:
            case Text():
                self.text = at = self.place(Text, joins=True)
                if part.signature is not None:
                    self.open = None
                told, self.logprobs = tuple(self.logprobs), []
                return TextDelta(part.text, at, self.number, told, (), part.signature)
            case Reasoning():
                at = self.place(Reasoning, joins=True)
                if part.signature is not None:
                    self.open = None
                return ReasoningDelta(part.text, at, self.number, signature=part.signature)
            case ToolCall():
                self.calls += 1
                at = self.place(ToolCall, joins=False)
                return ToolCallDelta(
                    at, self.number, part.id, part.name, part.arguments, signature=part.signature
                )
            case Audio():
                assert isinstance(part.source, Inline)
                media_type = part.source.media_type
                at = self.place(Audio, joins=media_type == self.media_type)
                self.media_type = media_type
                return AudioDelta(at, self.number, part.source.data, media_type)
            case Opaque():
                return OpaqueDelta(self.place(Opaque, joins=False), part, self.number)
            case _:
                assert_never(part)


class ContentStream:
    """The EventDecoder of one reply. `model` is its name where the chunks do not tell it."""

    __slots__ = (
        "_blocked",
        "_candidates",
        "_ended",
        "_fields",
        "_id",
        "_model",
        "_started",
        "_told",
        "_usage",
    )

    def __init__(self, model: str) -> None:
        self._model = model
        self._candidates: dict[int, _Candidate] = {}
        self._id = ""
        self._fields: dict[str, Any] = {}
        self._usage: WireUsage | None = None
        self._blocked: Finish | None = None
        self._told: Extra | None = None
        self._started = False
        self._ended = False

    def feed(self, event: str, data: str) -> Sequence[Event]:
        """Raises BadResponse for what is not a chunk, or the error that a chunk carries."""
        if self._ended or not data or data == "[DONE]":
            return _NO_EVENTS
        try:
            chunk = _DECODE(data)
            if chunk.error or event == "error":
                raise error_in_reply(_ANY(data))
            return self._take(chunk)
        except (ValueError, RecursionError) as error:
            raise bad_response("a chunk that is not one of generateContent", data, error) from error

    def end(self) -> Sequence[Event]:
        """The stream is over. Raises BadResponse when a candidate was left without its finishReason."""
        if self._ended:
            return _NO_EVENTS
        numbers = sorted(self._candidates)
        unfinished = [number for number in numbers if not self._candidates[number].finish]
        if unfinished or not (numbers or self._blocked):
            raise cut_off(
                f"candidate {unfinished[0]} had a finishReason" if unfinished else "any candidate came"
            )
        self._ended = True
        events: list[Event] = []
        for number in numbers:
            candidate = self._candidates[number]
            if candidate.logprobs and candidate.text >= 0:
                events.append(TextDelta("", candidate.text, number, tuple(candidate.logprobs)))
        for number in numbers:
            candidate = self._candidates[number]
            events.append(Finished(finish_from(candidate.finish, called=candidate.calls > 0), number))
        if self._blocked is not None and not numbers:
            events.append(Finished(self._blocked))
        extra = self._extra()
        events.append(Ended(usage_from(self._usage), extra=extra if extra != self._told else None))
        return events

    def _take(self, chunk: WireReply) -> Sequence[Event]:
        if chunk.usage_metadata is not None:
            known = self._usage
            self._usage = chunk.usage_metadata if known is None else known.updated(chunk.usage_metadata)
        if chunk.prompt_feedback is not None:
            self._fields["promptFeedback"] = chunk.prompt_feedback
            self._blocked = blocked(chunk.prompt_feedback) or self._blocked
        if chunk.model_status is not None:
            self._fields["modelStatus"] = chunk.model_status
        events: list[Event] = []
        if not self._started and (chunk.candidates or self._blocked):
            self._started = True
            self._id = chunk.response_id or ""
            self._told = self._extra()
            events.append(
                Started(
                    self._id,
                    chunk.model_version or self._model,
                    seconds(chunk.create_time),
                    extra=self._told,
                    usage=usage_from(self._usage),
                )
            )
        for wire in chunk.candidates or ():
            self._candidate(wire, events)
        return events

    def _candidate(self, wire: WireCandidate, events: list[Event]) -> None:
        number = wire.index or 0
        candidate = self._candidates.get(number)
        if candidate is None:
            candidate = self._candidates[number] = _Candidate(number)
        if wire.logprobs_result is not None:
            candidate.logprobs.extend(logprobs_from(wire.logprobs_result))
        for raw in parts_of(wire):
            part = part_from(raw, made_up_id(self._id, number, candidate.calls))
            if part is not None:
                events.append(candidate.delta(part))
        candidate.aside.update(aside(wire))
        # Where each chunk has a reason, the last is meant; but nothing makes a bad end a good one.
        if wire.finish_reason and candidate.finish in {"", "STOP"}:
            candidate.finish = wire.finish_reason

    def _extra(self) -> Extra | None:
        asides = [self._candidates[number].aside for number in sorted(self._candidates)]
        return extra_of(self._fields, asides, self._usage)


def decode_array(request: Request, body: bytes) -> Response:
    """The reply in a whole JSON array of chunks. Raises as `ContentStream` does."""
    try:
        chunks = _CHUNKS(body)
    except (ValueError, RecursionError) as error:
        raise bad_response("a list that is not one of chunks", body, error) from error
    stream, assembly = ContentStream(request.model), Assembly()
    for chunk in chunks:
        for event in stream.feed("message", bytes(chunk).decode("utf-8", "replace")):
            assembly.add(event)
    for event in stream.end():
        assembly.add(event)
    return replace(assembly.response(), provider="")
