"""Canonical parts as the content blocks of a request. How they make up turns lives in .turns.

`where` is the path of a part below its message, such as `.parts[2]`.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any, TypeAlias, assert_never

import msgspec

from assay.errors import RequestError, UnsupportedFeature
from assay.providers.anthropic.vocabulary import DIALECT, is_citation, tool_id
from assay.providers.translation import Drops
from assay.types import (
    Audio,
    CacheMark,
    File,
    Image,
    Inline,
    Link,
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

_IMAGE_TYPES = {
    "image/jpeg": "image/jpeg",
    "image/jpg": "image/jpeg",
    "image/png": "image/png",
    "image/gif": "image/gif",
    "image/webp": "image/webp",
}
_PDF = "application/pdf"
_TEXT_TYPES = ("text/", "application/json", "application/xml", "application/yaml")


def content(blocks: list[Body]) -> str | list[Body]:
    """A plain string where one plain text is all there is."""
    if len(blocks) == 1 and blocks[0].get("type") == "text" and len(blocks[0]) == 2:
        return str(blocks[0]["text"])
    return blocks


def mark(body: Body, cache: CacheMark | None, where: str, drops: Drops) -> None:
    """Where the prefix that shall be cached ends."""
    if cache is None:
        return
    if cache.ttl not in {"5m", "1h"}:
        drops.add(f"{where}.cache")
        return
    body["cache_control"] = {"type": "ephemeral"} if cache.ttl == "5m" else {"type": "ephemeral", "ttl": "1h"}


def text_block(part: Text, where: str, drops: Drops, *, cited: bool = False) -> Body | None:
    """None for a text that says nothing: the API refuses one. `cited`: citations may stand beside it."""
    if not part.text.strip():
        if part.text:
            drops.add(where)
        if part.cache is not None:
            drops.add(f"{where}.cache")
        return None
    body: Body = {"type": "text", "text": part.text}
    if part.annotations:
        if cited and all(map(is_citation, part.annotations)):
            body["citations"] = list(part.annotations)
        else:
            drops.add(f"{where}.annotations")
    if part.signature is not None:
        drops.add(f"{where}.signature")
    mark(body, part.cache, where, drops)
    drops.take(body, part.extra, where)
    return body


def user_block(part: Part, where: str, drops: Drops) -> Body | None:
    """One block of a user turn, or of a tool's result; None where there is nothing to say."""
    match part:
        case Text():
            return text_block(part, where, drops)
        case Image():
            body: Body = {"type": "image", "source": _image_source(part)}
            if part.detail is not None:
                drops.add(f"{where}.detail")
        case File():
            body = {"type": "document", "source": _document_source(part)}
            if part.name is not None:
                body["title"] = part.name
        case Opaque(dialect="anthropic", body=dict() as fields):
            return fields
        case _:
            raise unsupported(part, "a user message")
    mark(body, part.cache, where, drops)
    drops.take(body, part.extra, where)
    return body


def assistant_block(part: Part, where: str, drops: Drops) -> Body | None:
    """One block of an assistant turn; None where nothing is said that this API may read."""
    match part:
        case Text():
            return text_block(part, where, drops, cited=True)
        case Refusal(text=text):
            return {"type": "text", "text": text} if text.strip() else None
        case Reasoning():
            return _thinking(part, where, drops)
        case ToolCall():
            return _tool_use(part, where, drops)
        case Opaque(dialect="anthropic", body=dict() as fields):
            return fields
        case _:
            raise unsupported(part, "an assistant message")


def _thinking(part: Reasoning, where: str, drops: Drops) -> Body | None:
    """The API takes back what it signed or encrypted itself, word for word, and nothing else."""
    if part.encrypted:
        return {"type": "redacted_thinking", "data": part.encrypted}
    if part.signature:
        return {"type": "thinking", "thinking": part.text, "signature": part.signature}
    drops.add(f"{where}.reasoning")
    return None


def _tool_use(call: ToolCall, where: str, drops: Drops) -> Body:
    if call.kind == "custom":
        raise UnsupportedFeature(
            f"Anthropic has no tools with free text as input, such as '{call.name}'; give it a JSON schema",
            param="messages",
        )
    body: Body = {
        "type": "tool_use",
        "id": tool_id(call.id),
        "name": call.name,
        "input": _arguments(call),
    }
    if call.signature is not None:
        drops.add(f"{where}.signature")
    mark(body, call.cache, where, drops)
    drops.take(body, call.extra, where)
    return body


def _arguments(call: ToolCall) -> Body | msgspec.Raw:
    """As they were written, to the byte: the cache of the conversation hangs on it."""
    if not call.arguments.strip():
        return {}
    try:
        written = call.arguments.encode()
        if isinstance(msgspec.json.decode(written), dict):
            return msgspec.Raw(written)
        problem = "they are not an object"
    except (ValueError, RecursionError) as error:
        problem = str(error)
    raise RequestError(
        f"The arguments of the call of '{call.name}' are not a JSON object ({problem}), and Anthropic takes "
        "nothing else; mend or leave out that turn",
        param="messages",
    )


def tool_result(result: ToolResult, where: str, drops: Drops) -> Body:
    body: Body = {"type": "tool_result", "tool_use_id": tool_id(result.call_id)}
    blocks = [
        block
        for number, part in enumerate(result.parts)
        if (block := user_block(part, f"{where}.parts[{number}]", drops)) is not None
    ]
    if blocks:
        body["content"] = content(blocks)
    if result.is_error:
        body["is_error"] = True
    mark(body, result.cache, where, drops)
    drops.take(body, result.extra, where)
    return body


# --- sources -------------------------------------------------------------------------------------


def _image_source(image: Image) -> Body:
    match image.source:
        case Inline(media_type=media_type, data=data):
            known = _IMAGE_TYPES.get(media_type.partition(";")[0].strip().lower())
            if known is None:
                raise UnsupportedFeature(
                    f"Anthropic takes pictures as JPEG, PNG, GIF or WebP, not {media_type}", param="messages"
                )
            return {"type": "base64", "media_type": known, "data": b64encode(data).decode()}
        case Link(url=url):
            return {"type": "url", "url": url}
        case Uploaded(file_id=file_id):
            return {"type": "file", "file_id": file_id}
        case _:
            assert_never(image.source)


def _document_source(file: File) -> Body:
    match file.source:
        case Inline(media_type=media_type, data=data):
            kind = media_type.partition(";")[0].strip().lower()
            if kind == _PDF:
                return {"type": "base64", "media_type": _PDF, "data": b64encode(data).decode()}
            return {"type": "text", "media_type": "text/plain", "data": _plain(kind, data)}
        case Link(url=url, media_type=None | "application/pdf"):
            return {"type": "url", "url": url}
        case Link(media_type=media_type):
            raise UnsupportedFeature(
                f"Anthropic follows links to PDF documents only, not to {media_type}; send its bytes",
                param="messages",
            )
        case Uploaded(file_id=file_id):
            return {"type": "file", "file_id": file_id}
        case _:
            assert_never(file.source)


def _plain(media_type: str, data: bytes) -> str:
    if media_type.startswith(_TEXT_TYPES):
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise RequestError(f"A text document is not UTF-8 ({error})", param="messages") from error
    raise UnsupportedFeature(
        f"Anthropic takes documents as PDF or plain text, not {media_type}; convert it",
        param="messages",
    )


def unsupported(part: Part, where: str) -> UnsupportedFeature:
    kind = type(part).__name__
    if isinstance(part, Opaque):
        kind = f"{part.dialect} part" if part.dialect != DIALECT else "part that is no object"
    elif isinstance(part, Audio):
        kind = "sound"
    return UnsupportedFeature(
        f"Anthropic cannot carry a {kind} in {where}; leave it out or choose another model", param="messages"
    )
