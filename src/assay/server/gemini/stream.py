"""Replies in Gemini's words, streamed: as server-sent events, or as one JSON array. Whole ones are .reply's.

Every chunk is a GenerateContentResponse. Function calls come whole, so their arguments are gathered first;
finish reasons and usage come with the last chunk.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from assay.errors import AssayError, UnsupportedFeature
from assay.providers.growing import GrowingObject
from assay.providers.sse import SseDecoder
from assay.server.dialect import ServerSentEvents
from assay.server.gemini.errors import error_body
from assay.server.gemini.parse import Options
from assay.server.gemini.reply import (
    Body,
    arguments,
    call_to,
    candidate,
    finish_fields,
    logprobs_to,
    media_to,
    merged,
    named,
    own,
    part_to,
    proof_to,
    response_body,
    signature_to,
    unsupported,
    usage_to,
)
from assay.types import (
    AudioDelta,
    Completed,
    Delta,
    Ended,
    Event,
    Finish,
    Finished,
    Inline,
    OpaqueDelta,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    WireData,
)

_ENCODE = msgspec.json.Encoder().encode


class _Call:
    """A function call as it grows."""

    __slots__ = ("arguments", "id", "kind", "name", "signature")

    def __init__(self) -> None:
        self.id = self.name = ""
        self.kind = "function"
        self.arguments = GrowingObject()
        self.signature: str | None = None

    def add(self, event: ToolCallDelta) -> None:
        self.id = event.id or self.id
        self.name = event.name or self.name
        self.kind = event.kind
        self.signature = event.signature or self.signature
        self.arguments.add(event.arguments)

    @property
    def text(self) -> str:
        return self.arguments.text

    def part(self) -> Body | None:
        """None when the arguments are not a JSON object, or not yet."""
        args = arguments(self.text)
        if args is None:
            return None
        return {"functionCall": call_to(self.id, self.name, args), **signature_to(self.signature)}


class _Candidate:
    """One of the replies that were asked for, as far as it has come."""

    __slots__ = ("broken", "calls", "finish", "logprob_count", "logprob_sum", "parts", "refused", "thoughts")

    def __init__(self) -> None:
        self.calls: dict[int, _Call] = {}
        self.parts: list[Body] = []
        self.broken: list[ToolCall] = []
        self.finish = Finish("other")
        self.refused = False
        self.thoughts: dict[int, list[str]] = {}
        self.logprob_sum = 0.0
        self.logprob_count = 0

    def complete_calls(self, but: int) -> list[Body]:
        """The calls that are whole, in their order, now that part `but` is being said."""
        found: list[Body] = []
        for number in sorted(self.calls):
            call = self.calls[number]
            if number == but or not call.arguments.whole or (part := call.part()) is None:
                break
            del self.calls[number]
            found.append(part)
        return found

    def end(self, finish: Finish) -> None:
        self.finish = finish
        for _, call in sorted(self.calls.items()):
            part = call.part()
            if part is None:
                self.broken.append(ToolCall(call.id, call.name, call.text))
            else:
                self.parts.append(part)
        self.calls.clear()

    def last(self, number: int) -> Body:
        body = candidate(self.parts, number)
        body |= finish_fields(self.finish, self.broken, refused=self.refused)
        if self.logprob_count:
            body["avgLogprobs"] = self.logprob_sum / self.logprob_count
        return body


class Chunks:
    """The chunks that the events of one reply make, each as JSON. How they are framed is not decided here."""

    __slots__ = ("_candidates", "_common", "_options", "_own", "_tail")

    def __init__(self, options: Options) -> None:
        self._options = options
        self._common: Body = {}
        self._own: Body = {}
        self._tail = b"}"
        self._candidates: dict[int, _Candidate] = {}

    def of(self, event: Event) -> list[bytes]:
        """Raises UnsupportedFeature for a part that the API has no place for."""
        match event:
            case Started():
                self._common = named(event.model, event.id)
                self._own = own(event.extra)
                common = _ENCODE(self._common)
                self._tail = b"," + common[1:] if len(common) > 2 else b"}"
                return []
            case Finished():
                self._candidate(event.choice).end(event.finish)
                return []
            case Ended():
                return [self._end(event)]
            case Completed(response):
                return [_ENCODE(response_body(response, self._options)[0])]
            case WireData():
                raise TypeError("WireData has its own way: wire()")
            case _:
                return self._delta(event)

    def _candidate(self, number: int) -> _Candidate:
        found = self._candidates.get(number)
        if found is None:
            found = self._candidates[number] = _Candidate()
        return found

    def _delta(self, event: Delta) -> list[bytes]:
        found = self._candidate(event.choice)
        parts = found.complete_calls(event.part) if found.calls else []
        logprobs: tuple[TokenLogprob, ...] = ()
        match event:
            case TextDelta():
                parts.append({"text": event.text, **signature_to(event.signature)})
                logprobs = event.logprobs
            case RefusalDelta():
                found.refused = True
                parts.append({"text": event.text})
                logprobs = event.logprobs
            case ReasoningDelta():
                parts.extend(self._thought(found, event))
            case ToolCallDelta():
                if event.kind != "function":
                    raise unsupported("ToolCall")
                found.calls.setdefault(event.part, _Call()).add(event)
            case AudioDelta():
                parts.extend(_audio(event))
            case OpaqueDelta():
                parts.append(part_to(event.body))
        if not parts and not logprobs:
            return []
        body = candidate(parts, event.choice)
        if logprobs:
            body["logprobsResult"] = logprobs_to(logprobs)
            found.logprob_sum += sum(item.logprob for item in logprobs)
            found.logprob_count += len(logprobs)
        return [b'{"candidates":[' + _ENCODE(body) + b"]" + self._tail]

    def _thought(self, found: _Candidate, event: ReasoningDelta) -> list[Body]:
        """Thoughts are shown to who asked; signed ones to all, because they are to be sent back."""
        text, signature = event.text or event.summary or "", proof_to(event.signature, event.encrypted)
        if not self._options.include_thoughts:
            kept = found.thoughts.setdefault(event.part, [])
            kept.append(text)
            if not signature:
                return []
            text = "".join(kept)
            kept.clear()
        return [{"text": text, "thought": True, **signature}] if text or signature else []

    def _end(self, ended: Ended) -> bytes:
        body: Body = {"candidates": [one.last(number) for number, one in sorted(self._candidates.items())]}
        if ended.usage is not None:
            body["usageMetadata"] = usage_to(ended.usage)
        return _ENCODE(merged({**body, **self._common}, own(ended.extra) or self._own))


def _audio(event: AudioDelta) -> list[Body]:
    if event.data:
        return [media_to(Inline(event.media_type, event.data), {})]
    return []


# --- framing -------------------------------------------------------------------------------------


class SseEncoder(ServerSentEvents):
    """Server-sent events, as `alt=sse` asks for. `encode` gives b"" for what has nothing to say.

    >>> encoder = SseEncoder()
    >>> encoder.encode(Started("r1", "m"))
    b''
    >>> encoder.encode(TextDelta("Hi"))[:54]
    b'data: {"candidates":[{"content":{"parts":[{"text":"Hi"'
    """

    __slots__ = ("_chunks",)

    def __init__(self, options: Options | None = None) -> None:
        self._chunks = Chunks(options or Options())

    def encode(self, event: Event) -> bytes:
        """Raises UnsupportedFeature for a part that the API has no place for."""
        return b"".join(b"data: " + chunk + b"\r\n\r\n" for chunk in self._chunks.of(event))

    def error(self, error: AssayError) -> bytes:
        """The last event of a stream that failed."""
        return b"data: " + _ENCODE(error_body(error)) + b"\r\n\r\n"


class ArrayEncoder:
    """One JSON array whose elements are sent one by one. Ended, Completed and errors close it.

    After `wire` the elements are the upstream's own, and `close` closes the array.

    >>> encoder = ArrayEncoder()
    >>> encoder.wire(b'data: {"a": 1}\\r\\n\\r\\ndata: {"b": 2}\\r\\n\\r\\n') + encoder.close()
    b'[{"a": 1}\\r\\n,\\r\\n{"b": 2}\\r\\n]'
    """

    __slots__ = ("_begun", "_chunks", "_closed", "_frames")
    content_type = b"application/json"

    def __init__(self, options: Options | None = None) -> None:
        self._chunks = Chunks(options or Options())
        self._frames: SseDecoder | None = None
        self._begun = self._closed = False

    def encode(self, event: Event) -> bytes:
        """Raises UnsupportedFeature for a part that the API has no place for."""
        data = self._elements(self._chunks.of(event))
        return data + self.close() if isinstance(event, Ended | Completed) else data

    def wire(self, data: bytes) -> bytes:
        if self._frames is None:
            self._frames = SseDecoder()
        return self._elements([text.encode() for _, text in self._frames.feed(data)])

    def error(self, error: AssayError) -> bytes:
        """The last element of a stream that failed, and the end of the array."""
        return self._elements([_ENCODE(error_body(error))]) + self.close()

    def _elements(self, chunks: list[bytes]) -> bytes:
        if not chunks:
            return b""
        before = b",\r\n" if self._begun else b"["
        self._begun = True
        return before + b",\r\n".join(chunk + b"\r\n" for chunk in chunks)

    def close(self) -> bytes:
        if self._closed:
            return b""
        self._closed = True
        return b"]" if self._begun else b"[]"


Encoder: TypeAlias = SseEncoder | ArrayEncoder


def no_stream(_options: object) -> SseEncoder:
    """For the operations that have no streamed form."""
    raise UnsupportedFeature("This call has no streamed form; make it without asking for a stream")
