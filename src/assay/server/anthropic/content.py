"""What the messages of a Messages call say: turns and content blocks as canonical Messages and Parts.

One turn of Anthropic's user may carry tool results and more. Here the results stand first, in a message of
role `tool`, and the rest follows as a message of role `user`; the upstream side joins the two again.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Collection, Iterable, Iterator
from typing import Any, TypeVar, assert_never

import msgspec

from assay.providers.anthropic.vocabulary import DIALECT
from assay.server.anthropic import body as wire
from assay.server.anthropic.errors import Fault, either, fault, nearest
from assay.types import (
    CacheMark,
    Extra,
    File,
    Image,
    Inline,
    Link,
    Message,
    Opaque,
    Part,
    Reasoning,
    Source,
    Text,
    ToolCall,
    ToolResult,
    Uploaded,
)

_T = TypeVar("_T", bound=msgspec.Struct)

_USER = frozenset({"text", "image", "document", "tool_result"}) | wire.OPAQUE_BLOCKS
_ASSISTANT = (frozenset(wire.BLOCKS) - {"tool_result"}) | wire.OPAQUE_BLOCKS
_ANY = frozenset(wire.BLOCKS) | wire.OPAQUE_BLOCKS | wire.RESULT_BLOCKS | wire.SYSTEM_BLOCKS
_ENCODE = msgspec.json.Encoder().encode

# --- turns ---------------------------------------------------------------------------------------


def messages(turns: list[wire.MessageBody]) -> Iterator[Message]:
    """Raises Fault."""
    for number, turn in enumerate(turns):
        try:
            yield from _turn(turn)
        except Fault as fault_:
            raise fault_.within(f"messages.{number}") from None


def system(content: str | list[dict[str, Any]]) -> Message | None:
    """The system prompt; None when it is empty."""
    if not content:
        return None
    try:
        return Message("system", _content(content, frozenset({"text"}), "the system prompt"))
    except Fault as fault_:
        raise _renamed(fault_, "system") from None


def _renamed(fault_: Fault, name: str) -> Fault:
    fault_.path = fault_.path.replace("content", name, 1)
    return fault_


def _turn(turn: wire.MessageBody) -> Iterator[Message]:
    content = turn.content
    if turn.role != "system" and (turn.clear_at is not None or turn.output_config is not None):
        name = "clear_at" if turn.clear_at is not None else "output_config"
        raise Fault(name, "Extra inputs are not permitted; only system messages have it")
    match turn.role:
        case "user":
            if not content:
                raise Fault(
                    "content", "Field required" if content is None else "user messages must not be empty"
                )
            parts = _content(content, _USER, "a user message")
            results = tuple(part for part in parts if isinstance(part, ToolResult))
            if not results:
                yield Message("user", parts)
                return
            yield Message("tool", results)
            if rest := tuple(part for part in parts if not isinstance(part, ToolResult)):
                yield Message("user", rest)
        case "assistant":
            if content is None:
                raise Fault("content", "Field required")
            yield Message("assistant", _content(content, _ASSISTANT, "an assistant message"))
        case "system":
            fields = {"clear_at": turn.clear_at, "output_config": turn.output_config}
            parts = _content(content or [], wire.SYSTEM_BLOCKS, "a system message")
            yield Message("system", parts, extra=_extra(fields))
        case _:
            assert_never(turn.role)


def _content(content: str | list[dict[str, Any]], allowed: Collection[str], where: str) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (Text(content),)
    parts = []
    for number, block in enumerate(content):
        try:
            parts.append(_block(block, allowed, where))
        except Fault as fault_:
            raise fault_.within(f"content.{number}") from None
    return tuple(parts)


# --- blocks --------------------------------------------------------------------------------------


def _block(block: dict[str, Any], allowed: Collection[str], where: str) -> Part:
    kind = block.get("type")
    if not isinstance(kind, str) or kind not in allowed:
        raise _not_a_block(block, allowed, where)
    if kind == "text" and len(block) == 2 and type(said := block.get("text")) is str:
        # Nearly all blocks are these: the way below would say the same.
        return Text(said)
    known = wire.BLOCKS.get(kind)
    if known is None:
        return Opaque(DIALECT, block)
    return _part(read(block, known))


def read(block: dict[str, Any], kind: type[_T]) -> _T:
    """Raises Fault, seen from within the block."""
    try:
        return msgspec.convert(block, kind)
    except msgspec.ValidationError as error:
        raise fault(error, kind.__struct_fields__) from error


def _not_a_block(block: dict[str, Any], allowed: Collection[str], where: str) -> Fault:
    kind = block.get("type")
    if kind is None:
        return Fault("type", "Field required")
    if isinstance(kind, str) and kind in _ANY:
        return Fault("type", f"`{kind}` blocks are not allowed in {where}")
    tags = either([f"'{tag}'" for tag in sorted(allowed)])
    hint = nearest(kind, allowed) if isinstance(kind, str) else ""
    told = repr(kind)[:100]
    return Fault("type", f"Input tag {told} does not match any of the expected tags: {tags}{hint}")


def _part(block: wire.Block) -> Part:
    match block:
        case wire.TextBlock():
            return Text(block.text, tuple(block.citations or ()), cache=cache(block.cache_control))
        case wire.ImageBlock():
            extra = _extra({"transformations": block.transformations})
            return Image(_source(block.source), cache=cache(block.cache_control), extra=extra)
        case wire.DocumentBlock():
            return _document(block)
        case wire.ThinkingBlock():
            return Reasoning(block.thinking, signature=block.signature or None)
        case wire.RedactedThinkingBlock():
            return Reasoning(encrypted=block.data)
        case wire.ToolUseBlock():
            return _call(block)
        case wire.ToolResultBlock():
            return _result(block)
        case _:
            assert_never(block)


def _call(block: wire.ToolUseBlock) -> ToolCall:
    """`caller` says by default that the model itself called: that needs no word."""
    caller = None if block.caller == {"type": "direct"} else block.caller
    google = block.extra_content.google if block.extra_content is not None else None
    return ToolCall(
        block.id,
        block.name,
        _ENCODE(block.input).decode(),
        signature=google.thought_signature if google is not None else None,
        cache=cache(block.cache_control),
        extra=_extra({"caller": caller, "toolset_name": block.toolset_name}),
    )


def _result(block: wire.ToolResultBlock) -> ToolResult:
    parts = () if block.content is None else _content(block.content, wire.RESULT_BLOCKS, "a tool result")
    return ToolResult(
        block.tool_use_id,
        parts,
        is_error=bool(block.is_error),
        cache=cache(block.cache_control),
        extra=_extra({"toolset_name": block.toolset_name}),
    )


def _document(block: wire.DocumentBlock) -> Part:
    """A document made of content blocks has no canonical name: it stays Anthropic's own."""
    mark = cache(block.cache_control)
    citations = None if block.citations is None else msgspec.to_builtins(block.citations)
    source = block.source
    if isinstance(source, wire.ContentSource):
        if not isinstance(source.content, str):
            try:
                _content(source.content, frozenset({"text", "image"}), "a document")
            except Fault as fault_:
                raise fault_.within("source") from None
        return Opaque(DIALECT, _verbatim(block, source))
    extra = _extra({"context": block.context, "citations": citations})
    match source:
        case wire.TextSource():
            file: Source = Inline("text/plain", source.data.encode())
        case wire.UrlSource():
            file = Link(source.url, "application/pdf")
        case _:
            file = _source(source)
    return File(file, block.title, mark, extra)


def _verbatim(block: wire.DocumentBlock, source: wire.ContentSource) -> dict[str, Any]:
    body: dict[str, Any] = {"type": "document", "source": {"type": "content", "content": source.content}}
    for name in ("title", "context", "citations", "cache_control"):
        if (value := getattr(block, name)) is not None:
            body[name] = msgspec.to_builtins(value)
    return body


def _source(
    source: wire.Base64Image | wire.Base64Document | wire.UrlSource | wire.FileSource,
) -> Source:
    match source:
        case wire.Base64Image() | wire.Base64Document():
            try:
                return Inline(source.media_type, b64decode(source.data, validate=True))
            except (binascii.Error, ValueError) as error:
                raise Fault("source.data", f"Input is not valid base64 ({error})") from None
        case wire.UrlSource():
            return Link(source.url)
        case wire.FileSource():
            return Uploaded(source.file_id)
        case _:
            assert_never(source)


def cache(mark: wire.CacheControl | None) -> CacheMark | None:
    if mark is None:
        return None
    return CacheMark(mark.ttl or "5m")


def _extra(fields: dict[str, Any]) -> Extra | None:
    told = {name: value for name, value in fields.items() if value is not None}
    return Extra(DIALECT, told) if told else None


def given(body: msgspec.Struct, names: Iterable[str]) -> dict[str, Any]:
    """Those of the fields that are not absent, verbatim."""
    return {name: value for name in names if (value := getattr(body, name)) is not None}
