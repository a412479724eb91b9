"""A streamed response as canonical events: the state machine of one reply, without its SSE framing.

An item announces itself, grows by deltas, and is sent whole when it is done. The deltas are what is handed
on; the whole fills in what they left out, for servers that skip some of them. The last event holds the whole
response: usage, why it ended, and items that nobody announced.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from assay.errors import BadResponse
from assay.providers.openai_chat.reply import made_up_id
from assay.providers.openai_chat.vocabulary import DONE, WireLogprob
from assay.providers.openai_responses.reply import (
    Kind,
    WireItem,
    WirePart,
    WireResponse,
    call_words,
    check,
    decode_item,
    failure,
    is_call,
    kind_of,
    told,
)
from assay.providers.openai_responses.vocabulary import DIALECT, finish_from, tokens_from, usage_from
from assay.providers.refusal import bad_response
from assay.types import (
    Ended,
    Event,
    Finished,
    Opaque,
    OpaqueDelta,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
)


class WireEvent(msgspec.Struct):
    """Any event of the stream: the fields that have a canonical meaning."""

    type: str | None = None
    response: msgspec.Raw = msgspec.Raw()
    item: msgspec.Raw = msgspec.Raw()
    output_index: int | None = None
    content_index: int | None = None
    summary_index: int | None = None
    delta: Any = None
    text: str | None = None
    refusal: str | None = None
    arguments: str | None = None
    input: str | None = None
    annotation: Any = None
    logprobs: list[WireLogprob] | None = None
    part: Any = None


_DECODE = msgspec.json.Decoder(WireEvent).decode
_RESPONSE = msgspec.json.Decoder(WireResponse).decode
_ABSENT = (b"", b"null")
_NO_EVENTS: tuple[Event, ...] = ()
_OPENING = frozenset({"response.created", "response.in_progress", "response.queued"})
_CLOSING = frozenset(
    {"response.completed", "response.incomplete", "response.failed", "response.cancelled", "response.done"}
)

Place = tuple[str, int]
"""Which text of an item: its kind and its index."""


class _Text:
    """One text of an item, as far as it has come: pieces, tokens and citations that were handed on."""

    __slots__ = ("notes", "part", "pieces", "tokens")

    def __init__(self) -> None:
        self.part = -1
        self.pieces: list[str] = []
        self.tokens = 0
        self.notes = 0

    def rest(self, whole: str) -> str:
        """What of the whole has not been seen. What was said cannot be unsaid."""
        seen = "".join(self.pieces)
        return whole[len(seen) :] if whole.startswith(seen) else ""


class _Item:
    """An item in the making. Each text of a message is a part of its own; other items are one part."""

    __slots__ = ("done", "kind", "opened", "part", "texts")

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.part = -1
        self.texts: dict[Place, _Text] = {}
        self.opened = False
        self.done = False

    def text(self, place: Place) -> _Text:
        found = self.texts.get(place)
        if found is None:
            found = self.texts[place] = _Text()
        return found


class ResponseStream:
    """The EventDecoder of one reply."""

    __slots__ = ("_by_id", "_called", "_ended", "_id", "_items", "_parts", "_started")

    def __init__(self) -> None:
        self._items: dict[int, _Item] = {}
        self._by_id: dict[str, _Item] = {}
        self._parts = 0
        self._id = ""
        self._started = False
        self._ended = False
        self._called = False

    def feed(self, event: str, data: str) -> Sequence[Event]:
        """Raises BadResponse for what is not an event of a response, or the error that one carries."""
        if self._ended or not data:
            return _NO_EVENTS
        if data == DONE:
            return self.end()
        try:
            return self._take(_DECODE(data), event, data)
        except (ValueError, RecursionError) as error:
            raise bad_response("an event that is not one of a response", data, error) from error

    def end(self) -> Sequence[Event]:
        """The stream is over. Raises BadResponse when the response had not ended."""
        if not self._ended:
            raise BadResponse(
                "The upstream's stream ended before the response did; the answer is cut off",
                upstream_status=200,
            )
        return _NO_EVENTS

    def _take(self, wire: WireEvent, event: str, data: str) -> Sequence[Event]:
        kind = wire.type or event
        handle = _HANDLERS.get(kind)
        if handle is not None:
            events = handle(self, wire)
            return events if self._started or not events else [self._begin(msgspec.Raw()), *events]
        if kind in _OPENING:
            return () if self._started else (self._begin(wire.response),)
        if kind in _CLOSING:
            return self._finish(wire)
        if kind == "error":
            raise failure(msgspec.json.decode(data))
        # A progress report of a hosted tool, or an event of tomorrow.
        return _NO_EVENTS

    # --- beginning and end -----------------------------------------------------------------------

    def _begin(self, raw: msgspec.Raw) -> Started:
        response = WireResponse() if bytes(raw) in _ABSENT else _RESPONSE(raw)
        self._started = True
        self._id = response.id or ""
        return Started(self._id, response.model or "", int(response.created_at or 0))

    def _finish(self, wire: WireEvent) -> Sequence[Event]:
        if bytes(wire.response) in _ABSENT:
            raise ValueError("it has no response")
        response = _RESPONSE(wire.response)
        check(response)
        events: list[Event] = [] if self._started else [self._begin(wire.response)]
        for index, raw in enumerate(response.output or ()):
            item = decode_item(raw)
            # By its id where one like it was announced, else by its place: some servers count anew here,
            # others give an item a new id with every event.
            known = self._by_id.get(item.id or "") or self._known(index, item)
            events.extend(self._whole(known, item, index, raw))
        reason = response.incomplete_details.reason if response.incomplete_details else None
        finish = finish_from(response.status or "", reason, called=self._called)
        self._ended = True
        events.append(Finished(finish))
        events.append(Ended(usage_from(response.usage), extra=told(wire.response)))
        return events

    # --- items -----------------------------------------------------------------------------------

    def _added(self, wire: WireEvent) -> Sequence[Event]:
        if bytes(wire.item) in _ABSENT or wire.output_index is None:
            raise ValueError("it has no item or no output_index")
        item = decode_item(wire.item)
        return self._open(self._known(wire.output_index, item), item, wire.output_index)

    def _done(self, wire: WireEvent) -> Sequence[Event]:
        if bytes(wire.item) in _ABSENT or wire.output_index is None:
            raise ValueError("it has no item or no output_index")
        item = decode_item(wire.item)
        return self._whole(self._known(wire.output_index, item), item, wire.output_index, wire.item)

    def _known(self, index: int, item: WireItem) -> _Item:
        kind = kind_of(item)
        known = self._items.get(index)
        if known is None or known.kind != kind:
            known = self._items[index] = _Item(kind)
        if item.id:
            self._by_id[item.id] = known
        return known

    def _open(self, known: _Item, item: WireItem, index: int) -> Sequence[Event]:
        """What is known of an item from the first."""
        if known.opened:
            return ()
        known.opened = True
        match known.kind:
            case "message":
                return ()
            case "reasoning":
                return (ReasoningDelta("", self._item_part(known), id=item.id),)
            case "function" | "custom" as kind:
                name, _ = call_words(item, kind)
                self._called = True
                call_id = item.call_id or made_up_id(self._id, 0, index)
                return (ToolCallDelta(self._item_part(known), 0, call_id, name, "", kind),)
            case "opaque":
                self._called = self._called or is_call(item)
                self._item_part(known)
                return ()

    def _whole(self, known: _Item, item: WireItem, index: int, raw: msgspec.Raw) -> Sequence[Event]:
        """What the deltas of an item left out, once."""
        if known.done or known.kind != kind_of(item):
            return ()
        known.done = True
        events = [*self._open(known, item, index)]
        match known.kind:
            case "message":
                for number, piece in enumerate(item.content or ()):
                    events.extend(self._rest(known, number, piece))
            case "reasoning":
                for place, pieces in (("content", item.content), ("summary", item.summary)):
                    for number, piece in enumerate(pieces or ()):
                        rest = known.text((place, number)).rest(piece.text or "")
                        events.extend(self._thought(known, (place, number), rest))
                if item.encrypted_content is not None:
                    part = self._item_part(known)
                    events.append(ReasoningDelta("", part, encrypted=item.encrypted_content))
            case "function" | "custom" as kind:
                rest = known.text(_WORDS).rest(call_words(item, kind)[1])
                events.extend(self._arguments(known, kind, rest))
            case "opaque":
                body = Opaque(DIALECT, msgspec.json.decode(raw))
                events.append(OpaqueDelta(self._item_part(known), body))
        return events

    def _next_part(self) -> int:
        self._parts += 1
        return self._parts - 1

    def _item_part(self, known: _Item) -> int:
        """The number of an item that is one part, given when its first piece comes."""
        if known.part < 0:
            known.part = self._next_part()
        return known.part

    def _text_part(self, text: _Text) -> int:
        if text.part < 0:
            text.part = self._next_part()
        return text.part

    def _growing(self, wire: WireEvent, kind: Kind) -> _Item:
        """The item that a delta belongs to, announced or not."""
        index = wire.output_index
        if index is None:
            raise ValueError("it has no output_index")
        known = self._items.get(index)
        if known is None:
            known = self._items[index] = _Item(kind)
        if known.kind != kind:
            raise ValueError(f"output item {index} is a {known.kind}, not a {kind}")
        return known

    # --- texts -----------------------------------------------------------------------------------

    def _text(self, wire: WireEvent) -> Sequence[Event]:
        text = self._growing(wire, "message").text(("text", wire.content_index or 0))
        delta = _string(wire.delta)
        tokens = tokens_from(wire.logprobs) if wire.logprobs else ()
        if not delta and not tokens:
            return _NO_EVENTS
        text.pieces.append(delta)
        text.tokens += len(tokens)
        return (TextDelta(delta, self._text_part(text), 0, tokens),)

    def _refusal(self, wire: WireEvent) -> Sequence[Event]:
        text = self._growing(wire, "message").text(("refusal", wire.content_index or 0))
        delta = _string(wire.delta)
        text.pieces.append(delta)
        return (RefusalDelta(delta, self._text_part(text)),) if delta else ()

    def _annotation(self, wire: WireEvent) -> Sequence[Event]:
        text = self._growing(wire, "message").text(("text", wire.content_index or 0))
        text.notes += 1
        return (TextDelta("", self._text_part(text), annotations=(wire.annotation,)),)

    def _rest(self, known: _Item, number: int, piece: WirePart) -> Sequence[Event]:
        """What of a message's text has not been said by deltas."""
        if piece.type == "refusal":
            text = known.text(("refusal", number))
            rest = text.rest(piece.refusal or "")
            return (RefusalDelta(rest, self._text_part(text)),) if rest else ()
        if piece.type != "output_text":
            raise ValueError(f"a message holds a part of type {piece.type!r}")
        text = known.text(("text", number))
        rest = text.rest(piece.text or "")
        tokens = tokens_from(piece.logprobs)[text.tokens :]
        notes = tuple(piece.annotations or ())[text.notes :]
        if not (rest or tokens or notes):
            return ()
        return (TextDelta(rest, self._text_part(text), 0, tokens, notes),)

    def _summary(self, wire: WireEvent) -> Sequence[Event]:
        place = ("summary", wire.summary_index or 0)
        return self._thought(self._growing(wire, "reasoning"), place, _string(wire.delta))

    def _reasoning(self, wire: WireEvent) -> Sequence[Event]:
        place = ("content", wire.content_index or 0)
        return self._thought(self._growing(wire, "reasoning"), place, _string(wire.delta))

    def _thought(self, known: _Item, place: Place, delta: str) -> Sequence[Event]:
        if not delta:
            return ()
        text = known.text(place)
        begins = place[1] > 0 and not text.pieces
        text.pieces.append(delta)
        if begins:  # pieces are paragraphs
            delta = "\n\n" + delta
        part = self._item_part(known)
        return (
            ReasoningDelta("", part, summary=delta) if place[0] == "summary" else ReasoningDelta(delta, part),
        )

    # --- calls -----------------------------------------------------------------------------------

    def _function(self, wire: WireEvent) -> Sequence[Event]:
        return self._called_with(wire, "function")

    def _custom(self, wire: WireEvent) -> Sequence[Event]:
        return self._called_with(wire, "custom")

    def _called_with(self, wire: WireEvent, kind: Literal["function", "custom"]) -> Sequence[Event]:
        known = self._items.get(-1 if wire.output_index is None else wire.output_index)
        if known is None or known.kind == "opaque":
            # Of a call that was not announced, or has no canonical name: it comes whole in the end.
            return _NO_EVENTS
        return self._arguments(self._growing(wire, kind), kind, _string(wire.delta))

    def _arguments(self, known: _Item, kind: Literal["function", "custom"], delta: str) -> Sequence[Event]:
        if not delta:
            return ()
        known.text(_WORDS).pieces.append(delta)
        return (ToolCallDelta(self._item_part(known), arguments=delta, kind=kind),)


_WORDS: Place = ("arguments", 0)


def _string(delta: Any) -> str:
    match delta:
        case str():
            return delta
        case _:
            raise ValueError("its delta is not text")


_HANDLERS = {
    "response.output_text.delta": ResponseStream._text,
    "response.output_item.added": ResponseStream._added,
    "response.output_item.done": ResponseStream._done,
    "response.refusal.delta": ResponseStream._refusal,
    "response.output_text.annotation.added": ResponseStream._annotation,
    "response.function_call_arguments.delta": ResponseStream._function,
    "response.custom_tool_call_input.delta": ResponseStream._custom,
    "response.reasoning_summary_text.delta": ResponseStream._summary,
    "response.reasoning_text.delta": ResponseStream._reasoning,
}
