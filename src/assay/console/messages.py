"""Messages laid out for reading: every kind of part as text, code, a picture or a note.

Nothing is fetched: a picture that the message only links to is shown as its address.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Literal, assert_never

from assay.console.figures import readable, tidy
from assay.types import (
    Audio,
    File,
    Image,
    Inline,
    Link,
    Message,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Source,
    Text,
    ToolCall,
    ToolResult,
    Uploaded,
    Value,
)

_PICTURES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_PICTURE_BYTES = 4_000_000


class Shown(Value):
    """A part as the page shows it. `label` says what it is where the text alone does not."""

    kind: Literal["text", "aside", "code", "picture", "note"]
    text: str
    label: str = ""


def shown(message: Message) -> list[Shown]:
    """The parts of a message, in order."""
    return [piece for part in message.parts for piece in _part(part)]


def _part(part: Part) -> Iterator[Shown]:
    match part:
        case Text():
            yield Shown("text", part.text)
        case Refusal():
            yield Shown("text", part.text, "refusal")
        case Reasoning():
            said = part.text or "\n".join(part.summary)
            yield (
                Shown("aside", said, "reasoning")
                if said
                else Shown("note", "reasoning, kept by the provider")
            )
        case ToolCall():
            yield Shown("code", tidy(part.arguments), f"calls {part.name}")
        case ToolResult():
            yield Shown("note", _result(part))
            for inner in part.parts:
                yield from _part(inner)
        case Image():
            yield _picture(part.source)
        case Audio():
            if part.transcript:
                yield Shown("text", part.transcript, "said aloud")
            yield Shown("note", f"audio: {_source(part.source)}" if part.source else "audio, by reference")
        case File():
            yield Shown("note", f"file {part.name or ''}: {_source(part.source)}".replace(" :", ":"))
        case Opaque():
            yield Shown("code", readable(part.body), f"a part in the words of {part.dialect}")
        case _:
            assert_never(part)


def _result(part: ToolResult) -> str:
    failed = "failed: " if part.is_error else ""
    return f"{failed}result of {part.name or part.call_id}"


def _picture(source: Source) -> Shown:
    known = isinstance(source, Inline) and source.media_type in _PICTURES
    if isinstance(source, Inline) and known and len(source.data) <= _PICTURE_BYTES:
        data = base64.b64encode(source.data).decode()
        return Shown("picture", f"data:{source.media_type};base64,{data}", _source(source))
    return Shown("note", f"picture: {_source(source)}")


def _source(source: Source) -> str:
    match source:
        case Inline():
            return f"{source.media_type}, {len(source.data):,} bytes"
        case Link():
            return source.url
        case Uploaded():
            return f"uploaded as {source.file_id}"
        case _:
            assert_never(source)
