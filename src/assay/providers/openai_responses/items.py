"""Canonical messages as the input items of the Responses API. What else a call says is .request's concern.

The API's conversation is a flat list: a canonical turn is as many items as it has things of different kinds,
in their order. Results of tools come before what else their turn says.
"""

from __future__ import annotations

import mimetypes
from base64 import b64encode
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any, TypeAlias, assert_never

from assay.errors import RequestError, UnsupportedFeature
from assay.providers.openai_responses.vocabulary import DIALECT, MADE_UP_REASONING, call_id, citation
from assay.providers.translation import Drops
from assay.types import (
    Audio,
    Extra,
    File,
    Image,
    Inline,
    Link,
    Message,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
    Uploaded,
)

Body: TypeAlias = dict[str, Any]
Numbered: TypeAlias = tuple[int, Part]

API = "The Responses API"
_AUDIO_FORMATS = {
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
}


def encode_items(messages: Iterable[Message], drops: Drops, *, extensions: bool = False) -> list[Body]:
    """Raises UnsupportedFeature for a part that the API cannot take, RequestError for an empty tool turn."""
    messages = tuple(messages)
    custom = {
        part.id
        for turn in messages
        for part in turn.parts
        if isinstance(part, ToolCall) and part.kind == "custom"
    }
    items: list[Body] = []
    for number, turn in enumerate(messages):
        drops.enter(f"messages[{number}]")
        if turn.name is not None:
            drops.add(".name")
        if turn.role == "assistant":
            items.extend(_Turn(turn, drops, extensions).items())
        else:
            items.extend(_said(turn, custom, drops))
    drops.enter("")
    return items


# --- what was said to the model ------------------------------------------------------------------


def _said(turn: Message, custom: set[str], drops: Drops) -> Iterator[Body]:
    parts = list(enumerate(turn.parts))
    results = [(number, part) for number, part in parts if isinstance(part, ToolResult)]
    for number, result in results:
        yield _result(result, number, custom, drops)
    rest: list[Numbered] = []
    for number, part in parts:
        match part:
            case ToolResult():
                continue
            case Opaque(dialect="openai-responses", body=dict() as item):
                if rest:
                    yield _message(turn, rest, drops)
                    rest = []
                yield item
            case _:
                rest.append((number, part))
    if turn.role == "tool" and not results:
        raise RequestError("A message of role 'tool' holds no ToolResult; add one", param="messages")
    if rest or not parts:
        yield _message(turn, rest, drops)


def _message(turn: Message, parts: list[Numbered], drops: Drops) -> Body:
    message: Body = {"role": "user" if turn.role == "tool" else turn.role}
    message["content"] = _content(parts, "", f"a {turn.role} message", drops)
    drops.take(message, turn.extra, "")
    return message


def _result(result: ToolResult, number: int, custom: set[str], drops: Drops) -> Body:
    kind = "custom_tool_call_output" if result.call_id in custom else "function_call_output"
    at = f".parts[{number}]"
    output = _content(list(enumerate(result.parts)), at, "a tool result", drops)
    item: Body = {"type": kind, "call_id": call_id(result.call_id), "output": output}
    if result.name is not None:
        drops.part(number, "name")
    if result.is_error:
        drops.part(number, "is_error")
    if result.cache is not None:
        drops.part(number, "cache")
    drops.take(item, result.extra, at)
    return item


def _content(parts: list[Numbered], at: str, where: str, drops: Drops) -> str | list[Body]:
    """A plain string where one text is all there is, else a list. `at` is the path of what holds them."""
    if not parts:
        return ""
    bodies = [_input(part, f"{at}.parts[{number}]", where, drops) for number, part in parts]
    if len(bodies) == 1 and bodies[0].keys() == {"type", "text"}:
        return str(bodies[0]["text"])
    return bodies


def _input(part: Part, path: str, where: str, drops: Drops) -> Body:
    match part:
        case Text():
            body: Body = {"type": "input_text", "text": part.text}
            for name in ("annotations", "signature"):
                if getattr(part, name):
                    drops.add(f"{path}.{name}")
        case Image():
            body = {"type": "input_image", **_image(part)}
        case File():
            body = {"type": "input_file", **_file(part)}
        case Audio() if where != "a tool result":
            body = {"type": "input_audio", "input_audio": _audio(part)}
        case _:
            raise unsupported(part, where)
    if part.cache is not None:
        drops.add(f"{path}.cache")
    drops.take(body, part.extra, path)
    return body


def _image(image: Image) -> Body:
    match image.source:
        case Inline() as source:
            body: Body = {"image_url": _data_url(source)}
        case Link(url=link):
            body = {"image_url": link}
        case Uploaded(file_id=file_id):
            body = {"file_id": file_id}
        case _:
            assert_never(image.source)
    # The API's types insist on it; `auto` is what it takes where nothing is said.
    body["detail"] = image.detail or "auto"
    return body


def _file(file: File) -> Body:
    body: Body = {}
    match file.source:
        case Inline(media_type=media_type) as source:
            if media_type.startswith(("video/", "audio/")):
                raise UnsupportedFeature(
                    f"{API} takes documents as files, not {media_type}; call a model that takes it",
                    param="messages",
                )
            # The API wants a name with the bytes.
            body["filename"] = f"file{mimetypes.guess_extension(media_type) or ''}"
            body["file_data"] = _data_url(source)
        case Uploaded(file_id=file_id):
            body["file_id"] = file_id
        case Link(url=url):
            body["file_url"] = url
        case _:
            assert_never(file.source)
    if file.name is not None:
        body["filename"] = file.name
    return body


def _audio(audio: Audio) -> Body:
    name = _AUDIO_FORMATS.get(audio.source.media_type) if isinstance(audio.source, Inline) else None
    if name is None or not isinstance(audio.source, Inline):
        raise UnsupportedFeature(
            f"{API} takes sound inline, as wav or mp3; convert it, or call another model", param="messages"
        )
    return {"data": b64encode(audio.source.data).decode(), "format": name}


def _data_url(source: Inline) -> str:
    return f"data:{source.media_type};base64,{b64encode(source.data).decode()}"


# --- what the model said -------------------------------------------------------------------------


class _Turn:
    """The items of one assistant turn. Texts and refusals that follow each other share a message."""

    def __init__(self, turn: Message, drops: Drops, extensions: bool) -> None:
        self._turn = turn
        self._drops = drops
        self._extensions = extensions
        self._items: list[Body] = []
        self._content: list[Body] = []
        self._phase: str | None = None

    def items(self) -> list[Body]:
        for number, part in enumerate(self._turn.parts):
            match part:
                case Text():
                    self._say(self._output_text(part, number), _phase(part))
                case Refusal():
                    self._say({"type": "refusal", "refusal": part.text}, None)
                case ToolCall():
                    self._close()
                    self._items.append(self._call(part, number))
                case Reasoning():
                    self._close()
                    self._think(part, number)
                case Opaque(dialect="openai-responses", body=dict() as item):
                    self._close()
                    self._items.append(item)
                case _:
                    raise unsupported(part, "an assistant message")
        self._close()
        self._end()
        return self._items

    def _say(self, part: Body, phase: str | None) -> None:
        if phase != self._phase:
            self._close()
            self._phase = phase
        self._content.append(part)

    def _close(self) -> None:
        content, self._content = self._content, []
        phase, self._phase = self._phase, None
        if not content:
            return
        plain = len(content) == 1 and content[0].keys() == {"type", "text", "annotations"}
        if plain and not content[0]["annotations"]:
            item: Body = {"role": "assistant", "content": content[0]["text"]}
        else:
            item = {"type": "message", "role": "assistant", "content": content}
        if phase is not None:
            item["phase"] = phase
        self._drops.take(item, self._turn.extra, "")
        self._items.append(item)

    def _end(self) -> None:
        if not self._turn.parts:
            self._items.append({"role": "assistant", "content": ""})
        # Reasoning that nothing followed (an answer that was cut off) is refused by OpenAI.
        while self._items and self._items[-1].get("type") == "reasoning" and not self._extensions:
            self._items.pop()
            last = max(n for n, part in enumerate(self._turn.parts) if isinstance(part, Reasoning))
            self._drops.part(last, "reasoning")

    def _output_text(self, text: Text, number: int) -> Body:
        annotations = [found for one in text.annotations if (found := citation(one)) is not None]
        if len(annotations) < len(text.annotations):
            self._drops.part(number, "annotations")
        for name in ("cache", "signature"):
            if getattr(text, name) is not None:
                self._drops.part(number, name)
        body: Body = {"type": "output_text", "text": text.text, "annotations": annotations}
        extra = text.extra
        if extra is not None and extra.dialect == DIALECT:  # said of the whole message, see _phase
            extra = Extra(DIALECT, {name: value for name, value in extra.fields.items() if name != "phase"})
        self._drops.take(body, extra, f".parts[{number}]")
        return body

    def _call(self, call: ToolCall, number: int) -> Body:
        kind, words = (
            ("custom_tool_call", "input") if call.kind == "custom" else ("function_call", "arguments")
        )
        item: Body = {"type": kind, "call_id": call_id(call.id), "name": call.name, words: call.arguments}
        for name in ("signature", "cache"):
            if getattr(call, name) is not None:
                self._drops.part(number, name)
        self._drops.take(item, call.extra, f".parts[{number}]")
        return item

    def _think(self, thought: Reasoning, number: int) -> None:
        """What this API encrypted goes back to it; what another did, it cannot read."""
        item: Body = {"type": "reasoning", "id": thought.id}
        item["summary"] = [{"type": "summary_text", "text": text} for text in thought.summary]
        if thought.text:
            item["content"] = [{"type": "reasoning_text", "text": thought.text}]
        if thought.id is not None and thought.encrypted is not None and thought.signature is None:
            item["encrypted_content"] = thought.encrypted
        elif self._extensions and (thought.text or thought.summary):
            item["id"] = thought.id or _reasoning_id(thought)
            if thought.signature is not None or thought.encrypted is not None:
                self._drops.part(number, "signature")
        else:
            self._drops.part(number, "reasoning")
            return
        self._drops.take(item, thought.extra, f".parts[{number}]")
        self._items.append(item)


def _phase(text: Text) -> str | None:
    """Whether OpenAI's models said this on the way or at the end: they want to see it again."""
    if text.extra is None or text.extra.dialect != DIALECT:
        return None
    phase = text.extra.fields.get("phase")
    return phase if isinstance(phase, str) else None


def _reasoning_id(thought: Reasoning) -> str:
    said = thought.text or "\n\n".join(thought.summary)
    return MADE_UP_REASONING + blake2b(said.encode("utf-8", "replace"), digest_size=12).hexdigest()


def unsupported(part: Part, where: str) -> UnsupportedFeature:
    kind = f"{part.dialect} part" if isinstance(part, Opaque) else type(part).__name__
    return UnsupportedFeature(
        f"{API} cannot carry a {kind} in {where}; leave it out or choose another model", param="messages"
    )
