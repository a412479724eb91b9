"""What is said in a reply, under rules, as it comes: text is held back while a rule may still find something.

Each part of each choice is looked at by itself. Tool calls are held until their choice is finished. Where a
part is followed by another, what it holds back is released first: the order of a reply stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, assert_never

from assay.gateway.guards.content import JsonWindow, Sifter, each
from assay.gateway.guards.window import Wanted, Window
from assay.types import (
    AudioDelta,
    Choice,
    Completed,
    Delta,
    Ended,
    Event,
    Finished,
    JsonOutput,
    OpaqueDelta,
    Part,
    ReasoningDelta,
    RefusalDelta,
    Request,
    Response,
    SchemaOutput,
    Started,
    Text,
    TextDelta,
    ToolCallDelta,
    WireData,
    replace,
)

_TEXTS: Final = ("text", "transcript", "summary")
Found = Callable[[Sequence[Wanted]], None]
"""Is told of what was found, and raises where the reply ends by it."""


class _Part:
    """One part in the making: a window for each of its texts, its kind, and the call that it holds."""

    __slots__ = ("calls", "last", "windows")

    def __init__(self) -> None:
        self.windows: dict[str, Window | JsonWindow] = {}
        self.calls: list[ToolCallDelta] = []
        self.last: Delta | None = None

    @property
    def changed(self) -> bool:
        return any(window.changed for window in self.windows.values())


class Screen:
    """The events of one reply, with what the rules hide. `found` hears of findings before they are out."""

    def __init__(self, wanted: Sequence[Wanted], request: Request, found: Found) -> None:
        self._wanted = wanted
        self._found = found
        self._json = isinstance(request.output, JsonOutput | SchemaOutput)
        self._choices: dict[int, dict[int, _Part]] = {}

    def events(self, event: Event) -> list[Event]:
        """What may be let out now that `event` has come."""
        match event:
            case Completed(response):
                return [Completed(self._whole(response))]
            case Started() | Ended():
                return [event]
            case Finished():
                return [*self._finish(event.choice), event]
            case WireData():
                raise AssertionError("a guarded reply never comes in its upstream's own bytes")
            case _:
                return self._delta(event)

    def _delta(self, delta: Delta) -> list[Event]:
        parts = self._choices.setdefault(delta.choice, {})
        part = parts.get(delta.part)
        before: list[Event] = []
        if part is None:
            before = [late for index in sorted(parts) for late in self._flushed(parts[index])]
            part = parts[delta.part] = _Part()
        match delta:
            case TextDelta():
                text = self._feed(part, "text", delta.text, delta)
                annotations = delta.annotations and self._sifted(delta.annotations)
                if not text and not annotations and delta.signature is None and delta.extra is None:
                    return before
                return [*before, replace(delta, text=text, annotations=annotations)]
            case RefusalDelta():
                text = self._feed(part, "text", delta.text, delta)
                return [*before, replace(delta, text=text)] if text else before
            case ReasoningDelta():
                return [*before, *self._reasoning(part, delta)]
            case ToolCallDelta():
                part.calls.append(delta)
                return before
            case AudioDelta():
                return [
                    *before,
                    replace(delta, transcript=self._feed(part, "transcript", delta.transcript, delta)),
                ]
            case OpaqueDelta():
                sifter = Sifter(self._wanted)
                clean = replace(delta.body, body=sifter.value(delta.body.body))
                self._found(sifter.found)
                return [*before, replace(delta, body=clean)]
            case _:
                assert_never(delta)

    def _reasoning(self, part: _Part, delta: ReasoningDelta) -> list[Event]:
        """A signature ends its text, and goes where the text was changed: it vouches for another."""
        signed = delta.signature is not None
        text = self._feed(part, "text", delta.text, delta, final=signed)
        summary = delta.summary
        if summary is not None or (signed and "summary" in part.windows):
            summary = self._feed(part, "summary", summary or "", delta, final=signed) or None
        signature = None if part.changed else delta.signature
        clean = replace(delta, text=text, summary=summary, signature=signature)
        if not text and summary is None and signature is None and not delta.encrypted and not delta.id:
            return []
        return [clean]

    def _feed(self, part: _Part, name: str, text: str, delta: Delta, *, final: bool = False) -> str:
        window = part.windows.get(name)
        if window is None:
            if not text:
                return ""
            shaped = self._json and type(delta) is TextDelta
            window = part.windows[name] = JsonWindow(self._wanted) if shaped else Window(self._wanted)
        part.last = delta
        clean, found = window.feed(text, final=final)
        if found:
            self._found(found)
        if final:
            del part.windows[name]
            part.windows[f"{name}, signed"] = window
        return clean

    def _flushed(self, part: _Part) -> list[Event]:
        return self._late(part, lambda window: window.flush())

    def _ended(self, part: _Part) -> list[Event]:
        return self._late(part, lambda window: window.feed("", final=True))

    def _finish(self, choice: int) -> list[Event]:
        """All that is still held of a choice, in the order of its parts."""
        events: list[Event] = []
        for _, part in sorted(self._choices.pop(choice, {}).items()):
            events += self._ended(part)
            if part.calls:
                events.append(self._call(part.calls))
        return events

    def _late(
        self, part: _Part, rest: Callable[[Window | JsonWindow], tuple[str, list[Wanted]]]
    ) -> list[Event]:
        texts: dict[str, str] = {}
        for name, window in part.windows.items():
            if name in _TEXTS:
                clean, found = rest(window)
                if found:
                    self._found(found)
                if clean:
                    texts[name] = clean
        return _bare(part.last, texts) if part.last is not None and texts else []

    def _call(self, pieces: list[ToolCallDelta]) -> ToolCallDelta:
        """The whole call in one piece."""
        first = pieces[0]
        for piece in pieces[1:]:
            first = replace(
                first,
                id=first.id if piece.id is None else piece.id,
                name=first.name if piece.name is None else piece.name,
                kind=first.kind if piece.kind == "function" else piece.kind,
                signature=first.signature if piece.signature is None else piece.signature,
            )
        sifter = Sifter(self._wanted)
        spelled = sifter.arguments if first.kind == "function" else sifter.plain
        clean = spelled("".join(piece.arguments for piece in pieces))
        self._found(sifter.found)
        return replace(first, arguments=clean)

    def _sifted(self, values: tuple[object, ...]) -> tuple[object, ...]:
        sifter = Sifter(self._wanted)
        clean = each(sifter.value, values)
        self._found(sifter.found)
        return clean

    def _whole(self, response: Response) -> Response:
        """A reply in one piece: what the same reply would have become as a stream."""
        sifter = Sifter(self._wanted)
        choices = each(partial(self._choice, sifter), response.choices)
        self._found(sifter.found)
        return response if choices is response.choices else replace(response, choices=choices)

    def _choice(self, sifter: Sifter, choice: Choice) -> Choice:
        if not self._json:
            parts = each(partial(_said, sifter), choice.message.parts)
        else:
            parts = each(partial(self._shaped, sifter), choice.message.parts)
        if parts is choice.message.parts:
            return choice
        return replace(choice, message=replace(choice.message, parts=parts))

    def _shaped(self, sifter: Sifter, part: Part) -> Part:
        if not isinstance(part, Text):
            return _said(sifter, part)
        clean, found = JsonWindow(self._wanted).feed(part.text, final=True)
        sifter.found += found
        return _said(sifter, part, text=clean)


def _said(sifter: Sifter, part: Part, text: str | None = None) -> Part:
    """A part of a reply: its text is what it is, not JSON by its looks, as that is not known of a stream."""
    if not isinstance(part, Text):
        return sifter.part(part)
    clean = sifter.plain(part.text) if text is None else text
    annotations = each(sifter.value, part.annotations)
    if clean == part.text and annotations is part.annotations:
        return part
    return replace(part, text=clean, annotations=annotations)


def _bare(last: Delta, texts: dict[str, str]) -> list[Event]:
    """What was held back of a part, without what its deltas carried beside their texts."""
    match last:
        case TextDelta():
            return [TextDelta(texts["text"], last.part, last.choice)]
        case RefusalDelta():
            return [RefusalDelta(texts["text"], last.part, last.choice)]
        case ReasoningDelta():
            return [
                ReasoningDelta(texts.get("text", ""), last.part, last.choice, summary=texts.get("summary"))
            ]
        case AudioDelta():
            return [
                AudioDelta(last.part, last.choice, transcript=texts["transcript"], media_type=last.media_type)
            ]
        case ToolCallDelta() | OpaqueDelta():
            return []
        case _:
            assert_never(last)
