"""The input items of a Responses call as canonical messages. The rest of the body is .parse's concern.

The API's conversation is a flat list. What the model said between two turns of others is one canonical turn,
except that a message right after a message begins a new one. Calls that only this API can answer (functions
in namespaces, hosted tools) are kept whole, as Opaque.
"""

from __future__ import annotations

import binascii
import mimetypes
from base64 import b64decode
from typing import Any, TypeVar, assert_never

import msgspec

from assay.errors import RequestError, UnsupportedFeature
from assay.providers.openai_chat.vocabulary import INPUT_AUDIO_TYPES
from assay.providers.openai_responses.vocabulary import DIALECT, MADE_UP_REASONING
from assay.server.openai_responses import body as wire
from assay.server.openai_responses.errors import body_error
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

T = TypeVar("T")

SIGNED = "assay:signature:"
"""Begins the `encrypted_content` that is another API's signature of readable reasoning."""


def messages_of(items: list[msgspec.Raw]) -> tuple[Message, ...]:
    """Raises RequestError, with `param` naming the item and field."""
    turns = _Turns()
    for number, raw in enumerate(items):
        turns.add(raw, f"input[{number}]")
    return turns.messages()


class _Turns:
    """The conversation so far, and the turn of the model that is not closed yet."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._parts: list[Part] = []
        self._spoke = False

    def messages(self) -> tuple[Message, ...]:
        self._close()
        return tuple(self._messages)

    def add(self, raw: msgspec.Raw, path: str) -> None:
        head = decode(raw, wire.Head, path)
        match head.type:
            case "message" | None if head.role is not None or head.type is not None:
                self._message(decode(raw, wire.MessageItem, path), path)
            case "reasoning":
                self._said(_reasoning(decode(raw, wire.ReasoningItem, path)))
            case "function_call":
                function = decode(raw, wire.FunctionCall, path)
                self._said(_opaque(raw) if _special(function) else _function_call(function))
            case "custom_tool_call":
                custom = decode(raw, wire.CustomCall, path)
                self._said(_opaque(raw) if _special(custom) else _custom_call(custom))
            case "function_call_output" | "custom_tool_call_output":
                output = decode(raw, wire.CallOutput, path)
                if _special(output):
                    self._answered("user", _opaque(raw))
                else:
                    self._answered("tool", _result(output, path))
            case str() as kind if kind in wire.HOSTED_BY_MODEL:
                self._said(_opaque(raw))
            case str() as kind if kind in wire.HOSTED_BY_CALLER:
                self._answered("user", _opaque(raw))
            case "item_reference" | None:
                raise UnsupportedFeature(
                    f"'{path}' refers to an item by its id, and items are not kept one by one; send the item "
                    "itself, or go on from its response with 'previous_response_id'",
                    param=path,
                )
            case kind:
                at = f"{path}.type"
                raise RequestError(
                    f"Invalid value for '{at}': {kind!r}; supported values are {', '.join(wire.OWN_ITEMS)} "
                    "and the items of OpenAI's hosted tools",
                    param=at,
                )

    def _message(self, item: wire.MessageItem, path: str) -> None:
        parts = _content(item, path)
        if item.role != "assistant":
            self._close()
            self._messages.append(Message(item.role, parts))
            return
        if self._spoke:
            self._close()
        self._parts.extend(parts)
        self._spoke = True

    def _said(self, part: Part) -> None:
        self._parts.append(part)
        self._spoke = False

    def _answered(self, role: str, part: Part) -> None:
        self._close()
        self._messages.append(Message("tool" if role == "tool" else "user", (part,)))

    def _close(self) -> None:
        if self._parts or self._spoke:
            self._messages.append(Message("assistant", tuple(self._parts)))
        self._parts, self._spoke = [], False


def decode(raw: msgspec.Raw, kind: type[T], path: str) -> T:
    """One object of the body, which stands at `path`."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except (ValueError, RecursionError) as error:
        raise body_error(error, path) from error


def _opaque(raw: msgspec.Raw) -> Opaque:
    return Opaque(DIALECT, msgspec.json.decode(raw))


def _special(item: wire.FunctionCall | wire.CustomCall | wire.CallOutput) -> bool:
    """Whether it is more than a call or its result: only this API can make sense of it."""
    direct = item.caller is None or item.caller.get("type") == "direct"
    waits = not isinstance(item, wire.CallOutput) and bool(item.is_async)
    return item.namespace is not None or waits or not direct


# --- what the model said -------------------------------------------------------------------------


def _function_call(item: wire.FunctionCall) -> ToolCall:
    return ToolCall(item.call_id, item.name, item.arguments, signature=_signature(item.extra_content))


def _custom_call(item: wire.CustomCall) -> ToolCall:
    return ToolCall(item.call_id, item.name, item.input, "custom", _signature(item.extra_content))


def _signature(extra: wire.ExtraContent | None) -> str | None:
    return None if extra is None or extra.google is None else extra.google.thought_signature


def _reasoning(item: wire.ReasoningItem) -> Reasoning:
    """What replies of this server put into the item is taken out again: see .output."""
    own = item.id is not None and item.id.startswith(MADE_UP_REASONING)
    sealed = item.encrypted_content
    signature = None
    if sealed is not None and sealed.startswith(SIGNED):
        signature, sealed = sealed.removeprefix(SIGNED), None
    return Reasoning(
        "\n\n".join(piece.text for piece in item.content or ()),
        tuple(piece.text for piece in item.summary),
        signature,
        sealed,
        None if own else item.id,
    )


# --- content -------------------------------------------------------------------------------------


def _result(item: wire.CallOutput, path: str) -> ToolResult:
    if isinstance(item.output, str):
        return ToolResult(item.call_id, (Text(item.output),), item.name)
    parts = (_part(part, f"{path}.output[{number}]") for number, part in enumerate(item.output))
    return ToolResult(item.call_id, tuple(parts), item.name)


def _content(item: wire.MessageItem, path: str) -> tuple[Part, ...]:
    phase = None if item.phase is None else Extra(DIALECT, {"phase": item.phase})
    if isinstance(item.content, str):
        return (Text(item.content, extra=phase),)
    if not item.content and item.role != "assistant":
        at = f"{path}.content"
        raise RequestError(f"Invalid '{at}': empty array; give a string, or at least one part", param=at)
    return tuple(_part(part, f"{path}.content[{number}]", phase) for number, part in enumerate(item.content))


def _part(part: wire.ContentPart, path: str, phase: Extra | None = None) -> Part:
    match part:
        case wire.InputText():
            return Text(part.text, extra=_breakpoint(part) or phase)
        case wire.OutputText():
            return Text(part.text, tuple(part.annotations or ()), extra=phase)
        case wire.OutputRefusal():
            return Refusal(part.refusal)
        case wire.InputImage():
            detail = None if part.detail == "auto" else part.detail
            return Image(_image(part, path), detail, extra=_breakpoint(part))
        case wire.InputFile():
            return File(_file(part, path), part.filename, extra=_breakpoint(part))
        case wire.InputAudio(input_audio=given):
            data = _base64(given.data, f"{path}.input_audio.data")
            return Audio(Inline(INPUT_AUDIO_TYPES[given.format], data), extra=_breakpoint(part))
        case _:
            assert_never(part)


def _breakpoint(
    part: wire.InputText | wire.InputImage | wire.InputFile | wire.InputAudio,
) -> Extra | None:
    fields: dict[str, Any] = {}
    if isinstance(part, wire.InputFile) and part.detail is not None:
        fields["detail"] = part.detail
    if part.prompt_cache_breakpoint is not None:
        fields["prompt_cache_breakpoint"] = part.prompt_cache_breakpoint
    return Extra(DIALECT, fields) if fields else None


def _image(part: wire.InputImage, path: str) -> Inline | Link | Uploaded:
    match part.image_url, part.file_id:
        case str() as url, None:
            return _inline(url, f"{path}.image_url") if url[:5].lower() == "data:" else Link(url)
        case None, str() as file_id:
            return Uploaded(file_id)
        case _:
            raise RequestError(f"Invalid '{path}': give either 'image_url' or 'file_id'", param=path)


def _file(part: wire.InputFile, path: str) -> Inline | Link | Uploaded:
    match part.file_data, part.file_id, part.file_url:
        case str() as data, None, None if data[:5].lower() == "data:":
            return _inline(data, f"{path}.file_data")
        case str() as data, None, None:
            media_type, _ = mimetypes.guess_type(part.filename or "")
            return Inline(media_type or "application/octet-stream", _base64(data, f"{path}.file_data"))
        case None, str() as file_id, None:
            return Uploaded(file_id)
        case None, None, str() as url:
            return Link(url)
        case _:
            raise RequestError(
                f"Invalid '{path}': give one of 'file_data', 'file_id' and 'file_url'", param=path
            )


def _inline(url: str, path: str) -> Inline:
    head, comma, data = url.partition(",")
    media_type, base64, _ = head[5:].rpartition(";base64")
    if not comma or not base64 or not media_type:
        raise RequestError(
            f"Invalid '{path}': a data URL has the form data:MEDIA/TYPE;base64,DATA", param=path
        )
    return Inline(media_type, _base64(data, path))


def _base64(data: str, path: str) -> bytes:
    try:
        return b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(f"Invalid '{path}': not valid base64 ({error})", param=path) from None
