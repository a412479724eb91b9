"""A reply as a stream of events, and the fold from events to a Response.

The grammar, which every Handler keeps and `Assembly` checks:

    reply := Completed                                   a reply that was not streamed upstream
           | Started delta* Finished+ Ended              one that was
           | WireData+                                   either, in the upstream's own bytes, as below

Nothing follows `Completed` or `Ended`. A stream that stops without either was cut off; it is an error, never
a success. A delta names the choice and the part of the message it belongs to; parts open in order and
a part never changes its kind.

A call that reached an upstream in its caller's own words (`Request.wire`) is answered in WireData: the bytes
for the caller, and the events that they stand for, which follow the grammar above across the WireData of one
reply. A policy that wants to change what a reply says clears `wire` on the request that it hands on, and then
never meets WireData.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Literal, TypeAlias, assert_never, cast

from assay.types.calls import (
    Cached,
    Choice,
    Cost,
    Finish,
    Request,
    Response,
    TokenLogprob,
    Usage,
)
from assay.types.content import (
    Audio,
    Extra,
    Inline,
    Message,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    Value,
)


class Started(Value, tag="started"):
    """The upstream has begun to answer.

    `usage` is what it has told by now, which is billed even if nothing more comes; `cost` is what that costs.
    """

    id: str
    model: str
    created_s: int = 0
    provider: str = ""
    extra: Extra | None = None
    dropped: tuple[str, ...] = ()
    cached: Cached | None = None
    usage: Usage | None = None
    cost: Cost | None = None


class TextDelta(Value, tag="text_delta"):
    text: str
    part: int = 0
    choice: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()
    annotations: tuple[object, ...] = ()
    signature: str | None = None
    extra: Extra | None = None


class RefusalDelta(Value, tag="refusal_delta"):
    text: str
    part: int = 0
    choice: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()


class ReasoningDelta(Value, tag="reasoning_delta"):
    text: str = ""
    part: int = 0
    choice: int = 0
    summary: str | None = None
    signature: str | None = None
    encrypted: str | None = None
    id: str | None = None


class ToolCallDelta(Value, tag="tool_call_delta"):
    """The first delta of a call carries its id and name, and may carry arguments already."""

    part: int
    choice: int = 0
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    kind: Literal["function", "custom"] = "function"
    signature: str | None = None


class AudioDelta(Value, tag="audio_delta"):
    part: int = 0
    choice: int = 0
    data: bytes = b""
    media_type: str = "audio/pcm"
    transcript: str = ""
    id: str | None = None
    expires_at_s: int | None = None


class OpaqueDelta(Value, tag="opaque_delta"):
    """A whole part that only its dialect knows."""

    part: int
    body: Opaque
    choice: int = 0


class Finished(Value, tag="finished"):
    """One choice is complete."""

    finish: Finish
    choice: int = 0


class Ended(Value, tag="ended"):
    """The stream is complete. `usage` is None when the upstream told nothing."""

    usage: Usage | None = None
    cost: Cost | None = None
    extra: Extra | None = None


class Completed(Value, tag="completed"):
    """A reply that came in one piece."""

    response: Response


class WireData(Value, tag="wire"):
    """What the upstream sent, for a caller of its own dialect, and what it means.

    `data` is whole server-sent events, or the body of a whole reply. `events` may be empty: not all that an
    upstream says has a canonical name.
    """

    data: bytes
    events: tuple[Event, ...] = ()


Delta: TypeAlias = TextDelta | RefusalDelta | ReasoningDelta | ToolCallDelta | AudioDelta | OpaqueDelta
Event: TypeAlias = Started | Delta | Finished | Ended | Completed | WireData

Handler: TypeAlias = Callable[[Request], AsyncIterator[Event]]
"""Every model call takes this shape, from the outermost policy to the provider."""
Policy: TypeAlias = Callable[[Handler], Handler]
"""A rule around a call."""


def closing(events: AsyncIterator[Event]) -> aclosing[AsyncGenerator[Event, None]]:
    """Closes a handler's iterator on the way out: whoever reads events reads them inside this.

    async with closing(handler(request)) as events:
        async for event in events: ...
    """
    return aclosing(cast("AsyncGenerator[Event, None]", events))


class _Buffer:
    """One part as it grows; texts are joined once, at the end."""

    __slots__ = ("audio", "fields", "kind", "lists", "texts")

    def __init__(self, kind: type[Part]) -> None:
        self.kind = kind
        self.texts: list[str] = []
        self.lists: list[object] = []
        self.audio: list[bytes] = []
        self.fields: dict[str, object] = {}

    def keep(self, **fields: object) -> None:
        self.fields.update({name: value for name, value in fields.items() if value is not None})

    def part(self) -> Part:
        text, fields = "".join(self.texts), self.fields
        if self.kind is Text:
            return Text(text, tuple(self.lists), **fields)  # type: ignore[arg-type]
        if self.kind is Refusal:
            return Refusal(text)
        if self.kind is Reasoning:
            summary = tuple(str(piece) for piece in self.lists)
            return Reasoning(text, ("".join(summary),) if summary else (), **fields)  # type: ignore[arg-type]
        if self.kind is ToolCall:
            call = {"id": "", "name": "", **fields}
            return ToolCall(arguments=text, **call)  # type: ignore[arg-type]
        if self.kind is Audio:
            fields = dict(fields)
            media_type = str(fields.pop("media_type", "audio/pcm"))
            source = Inline(media_type, b"".join(self.audio)) if self.audio else None
            return Audio(source, transcript=text or None, **fields)  # type: ignore[arg-type]
        body = fields["body"]
        assert isinstance(body, Opaque)
        return body


class _Reply:
    __slots__ = ("finish", "logprobs", "parts")

    def __init__(self) -> None:
        self.parts: dict[int, _Buffer] = {}
        self.logprobs: list[TokenLogprob] = []
        self.finish: Finish | None = None

    def buffer(self, index: int, kind: type[Part]) -> _Buffer:
        found = self.parts.get(index)
        if found is None:
            found = self.parts[index] = _Buffer(kind)
        elif found.kind is not kind:
            raise ValueError(f"part {index} changed from {found.kind.__name__} to {kind.__name__}")
        return found


class Assembly:
    """Folds a stream of events into a Response.

    `add` raises ValueError when an event breaks the grammar. `response` gives what has arrived so far, so
    that a call that was cut off can still be recorded; `complete` says whether the stream ended as it should.
    """

    __slots__ = ("_ended", "_replies", "_response", "_started")

    def __init__(self) -> None:
        self._started: Started | None = None
        self._ended: Ended | None = None
        self._response: Response | None = None
        self._replies: dict[int, _Reply] = {}

    @property
    def complete(self) -> bool:
        return self._response is not None or self._ended is not None

    def add(self, event: Event) -> None:
        if type(event) is TextDelta and self._ended is None:
            # Nearly all events are these: the way below would say the same.
            reply = self._replies.get(event.choice)
            if reply is not None and (text := reply.parts.get(event.part)) and text.kind is Text:
                text.texts.append(event.text)
                if event.logprobs or event.annotations or event.signature is not None or event.extra:
                    _details(reply, text, event)
                return
        if type(event) is WireData:
            for inner in event.events:
                self.add(inner)
        else:
            self._add(event)

    def _add(self, event: Event) -> None:
        if self.complete:
            raise ValueError(f"{type(event).__name__} after the end of the stream")
        match event:
            case Completed(response):
                if self._started is not None:
                    raise ValueError("Completed inside a stream")
                self._response = response
            case Started():
                if self._started is not None:
                    raise ValueError("Started twice")
                self._started = event
            case _ if self._started is None:
                raise ValueError(f"{type(event).__name__} before Started")
            case Ended():
                if not self._replies or any(reply.finish is None for reply in self._replies.values()):
                    raise ValueError("Ended before every choice was Finished")
                self._ended = event
            case _:
                self._grow(event)

    def _grow(self, event: Event) -> None:
        assert not isinstance(event, Completed | Started | Ended | WireData)
        reply = self._replies.get(event.choice)
        if reply is None:
            reply = self._replies[event.choice] = _Reply()
        if isinstance(event, Finished):
            reply.finish = event.finish
        else:
            _grow(reply, event)

    def response(self) -> Response:
        """The reply as far as it has come; choices that are not Finished have the reason `other`."""
        if self._response is not None:
            return self._response
        started = self._started or Started("", "")
        # Of a reply that was cut off, what it had told at its beginning is the least that it took.
        ended = self._ended or Ended(started.usage, started.cost)
        choices = tuple(
            Choice(
                Message("assistant", tuple(reply.parts[index].part() for index in sorted(reply.parts))),
                reply.finish or Finish("other", raw="incomplete"),
                tuple(reply.logprobs),
            )
            for _, reply in sorted(self._replies.items())
        )
        return Response(
            started.id,
            started.model,
            choices,
            usage=ended.usage,
            cost=ended.cost,
            created_s=started.created_s,
            provider=started.provider,
            extra=ended.extra or started.extra,
            dropped=started.dropped,
            cached=started.cached,
        )


def _grow(reply: _Reply, delta: Delta) -> None:
    match delta:
        case TextDelta():
            buffer = reply.buffer(delta.part, Text)
            buffer.texts.append(delta.text)
            _details(reply, buffer, delta)
        case RefusalDelta():
            reply.buffer(delta.part, Refusal).texts.append(delta.text)
            reply.logprobs.extend(delta.logprobs)
        case ReasoningDelta():
            buffer = reply.buffer(delta.part, Reasoning)
            buffer.texts.append(delta.text)
            if delta.summary is not None:
                buffer.lists.append(delta.summary)
            buffer.keep(signature=delta.signature, encrypted=delta.encrypted, id=delta.id)
        case ToolCallDelta():
            buffer = reply.buffer(delta.part, ToolCall)
            buffer.texts.append(delta.arguments)
            buffer.keep(id=delta.id, name=delta.name, signature=delta.signature)
            if delta.kind != "function":
                buffer.keep(kind=delta.kind)
        case AudioDelta():
            buffer = reply.buffer(delta.part, Audio)
            buffer.texts.append(delta.transcript)
            if delta.data:
                buffer.audio.append(delta.data)
            buffer.keep(id=delta.id, expires_at_s=delta.expires_at_s, media_type=delta.media_type)
        case OpaqueDelta():
            reply.buffer(delta.part, Opaque).keep(body=delta.body)
        case _:
            assert_never(delta)


def _details(reply: _Reply, text: _Buffer, delta: TextDelta) -> None:
    text.lists.extend(delta.annotations)
    reply.logprobs.extend(delta.logprobs)
    text.keep(signature=delta.signature, extra=delta.extra)


def stream_of(response: Response) -> list[Event]:
    """A whole reply as the stream it might have been: Started, one delta a part, Finished, Ended.

    Cached replies and upstreams that cannot stream answer a streaming caller this way.

    >>> from assay.types import Choice, Finish, Response, assistant
    >>> reply = Response("r1", "m", (Choice(assistant("Hi"), Finish("stop")),))
    >>> [type(event).__name__ for event in stream_of(reply)]
    ['Started', 'TextDelta', 'Finished', 'Ended']
    """
    events: list[Event] = [
        Started(
            response.id,
            response.model,
            response.created_s,
            response.provider,
            response.extra,
            response.dropped,
            response.cached,
        )
    ]
    for number, choice in enumerate(response.choices):
        logprobs = choice.logprobs
        for index, part in enumerate(choice.message.parts):
            events.append(_delta(part, index, number, logprobs))
            if isinstance(part, Text | Refusal):
                logprobs = ()
        events.append(Finished(choice.finish, number))
    events.append(Ended(response.usage, response.cost))
    return events


def _delta(part: Part, index: int, choice: int, logprobs: tuple[TokenLogprob, ...]) -> Delta:
    match part:
        case Text():
            return TextDelta(part.text, index, choice, logprobs, part.annotations, part.signature, part.extra)
        case Refusal():
            return RefusalDelta(part.text, index, choice, logprobs)
        case Reasoning():
            summary = "".join(part.summary) if part.summary else None
            return ReasoningDelta(part.text, index, choice, summary, part.signature, part.encrypted, part.id)
        case ToolCall():
            return ToolCallDelta(index, choice, part.id, part.name, part.arguments, part.kind, part.signature)
        case Audio(source=Inline() | None as source):
            data, media_type = (source.data, source.media_type) if source else (b"", "audio/pcm")
            return AudioDelta(
                index, choice, data, media_type, part.transcript or "", part.id, part.expires_at_s
            )
        case Opaque():
            return OpaqueDelta(index, part, choice)
        case _:
            raise ValueError(f"a reply cannot stream a part of type {type(part).__name__}")
