"""What Gemini's contents mean: canonical messages. The rest of a call is .parse's concern.

Three habits of Gemini's callers are met here. Function calls often have no id: ids are made up from the place
of the call, so that call and response pair up, and alike in every turn of a growing conversation. Streamed
replies come back in the pieces that they came in, as many contents of role `model`: these become one message.
And the SDKs write base64 in the alphabet for URLs, whatever they were given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard

import msgspec

from assay.errors import RequestError
from assay.providers.gemini.vocabulary import DIALECT, bytes_of
from assay.providers.proofs import SEAL
from assay.server.gemini.body import Blob, Content, FileData, FunctionCall, FunctionResponse, about
from assay.server.gemini.body import Part as WirePart
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
    Source,
    Text,
    ToolCall,
    ToolResult,
    Uploaded,
    replace,
)

_DATA = WirePart.__struct_fields__[: WirePart.__struct_fields__.index("thought")]
_WIRE_NAMES = dict(zip(WirePart.__struct_fields__, WirePart.__struct_encode_fields__, strict=True))
_ROLES = ("user", "model", "function")
_ENCODE = msgspec.json.Encoder().encode

ENCRYPTED = f"{SEAL}encrypted:"
"""How the encrypted reasoning of another provider begins, where the API knows signatures alone."""


def messages(contents: Sequence[Content] | None, path: str) -> tuple[Message, ...]:
    """The conversation. Raises RequestError that names the part at fault."""
    if not contents:
        raise RequestError(f"{path} is not specified", param=path)
    calls = _Calls()
    found: list[Message] = []
    for number, content in enumerate(contents):
        said = _turn(content, number, f"{path}[{number}]", calls)
        if found and len(said) == 1 and found[-1].role == said[0].role == "assistant":
            found[-1] = Message("assistant", _joined(found[-1].parts, said[0].parts))
        else:
            found.extend(said)
    return tuple(_without_blanks(message) for message in found)


def message(content: Content, path: str) -> Message:
    """A content that is not part of a conversation: an instruction, or an input to be embedded."""
    return Message("user", tuple(_parts(content, path, _Calls(), 0)))


def _turn(content: Content, number: int, path: str, calls: _Calls) -> list[Message]:
    """Results of tools stand before what else is said with them, as every other API wants them."""
    role = content.role or "user"
    if role not in _ROLES:
        raise RequestError(
            f"'{path}.role' is '{role[:100]}'. Please use a valid role: user, model.", param=f"{path}.role"
        )
    parts = _parts(content, path, calls, number)
    results = tuple(part for part in parts if isinstance(part, ToolResult))
    others = tuple(part for part in parts if not isinstance(part, ToolResult))
    if role == "model":
        if results:
            raise RequestError(
                f"'{path}' is of role model and has a functionResponse; send that in a content of role user",
                param=f"{path}.role",
            )
        return [Message("assistant", others)]
    if any(isinstance(part, ToolCall) for part in others):
        raise RequestError(
            f"'{path}' is of role {role} and has a functionCall, which only the model makes",
            param=f"{path}.role",
        )
    said = [Message("tool", results)] if results else []
    return [*said, Message("user", others)] if others else said


def _parts(content: Content, path: str, calls: _Calls, number: int) -> list[Part]:
    if not content.parts:
        raise RequestError(f"{path}.parts: contents.parts must not be empty.", param=f"{path}.parts")
    return [
        _part(part, f"{path}.parts[{index}]", calls, f"call_{number}_{index}")
        for index, part in enumerate(content.parts)
    ]


# --- one part ------------------------------------------------------------------------------------


def _part(part: WirePart, path: str, calls: _Calls, name: str) -> Part:
    """`name` is the id of a call that has none."""
    given = [field for field in _DATA if getattr(part, field) is not None]
    if len(given) > 1:
        first, second = (_WIRE_NAMES[field] for field in given[:2])
        raise RequestError(
            f"Invalid value at '{path}' (oneof): '{first}' is already set. Cannot set '{second}'; "
            "make two parts of it",
            param=path,
        )
    fields = about(part, "thought_signature")
    signature = None
    if part.thought_signature is not None:
        signature = _signature(part.thought_signature, f"{path}.thoughtSignature")
    if not given and signature is None:
        raise RequestError(
            f"{path}.data: required oneof field 'data' must have one initialized field", param=path
        )
    if part.text is not None or not given:
        text = part.text or ""
        if part.thought and signature is not None and signature.startswith(ENCRYPTED):
            return Reasoning(text, encrypted=signature.removeprefix(ENCRYPTED), extra=_extra(fields))
        if part.thought:
            return Reasoning(text, signature=signature, extra=_extra(fields))
        return Text(text, signature=signature, extra=_extra(fields))
    if part.function_call is not None:
        call = _call(part.function_call, path, calls, name)
        return replace(call, signature=signature, extra=_extra(fields))
    if signature is not None:
        fields["thoughtSignature"] = signature
    if part.thought:
        fields["thought"] = True
    if part.inline_data is not None:
        return _inline(part.inline_data, f"{path}.inlineData", fields)
    if part.file_data is not None:
        return _linked(part.file_data, f"{path}.fileData", fields)
    if part.function_response is not None:
        return _result(part.function_response, f"{path}.functionResponse", calls, name, fields)
    field = given[0]
    return Opaque(DIALECT, {_WIRE_NAMES[field]: getattr(part, field), **fields})


def _extra(fields: dict[str, object]) -> Extra | None:
    return Extra(DIALECT, fields) if fields else None


def _inline(blob: Blob, path: str, fields: dict[str, object]) -> Image | Audio | File:
    if not blob.mime_type:
        raise RequestError(f"{path}.mimeType is not specified", param=f"{path}.mimeType")
    data = _base64(blob.data or "", f"{path}.data")
    return _media(Inline(blob.mime_type, data), blob.mime_type, blob.display_name, fields)


def _linked(file: FileData, path: str, fields: dict[str, object]) -> Image | Audio | File:
    if not file.file_uri:
        raise RequestError(f"{path}.fileUri is not specified", param=f"{path}.fileUri")
    return _media(_source(file.file_uri, file.mime_type), file.mime_type, file.display_name, fields)


def _source(uri: str, media_type: str | None) -> Source:
    """What only Google can read was uploaded to it; the rest of the web is open to all."""
    web = uri.startswith(("https://", "http://"))
    if web and not uri.startswith("https://generativelanguage.googleapis.com/"):
        return Link(uri, media_type)
    return Uploaded(uri, media_type)


def _media(
    source: Source, media_type: str | None, name: str | None, fields: dict[str, object]
) -> Image | Audio | File:
    kind = (media_type or "").partition("/")[0].lower()
    if kind not in ("image", "audio"):
        return File(source, name, extra=_extra(fields))
    if name is not None:
        fields["displayName"] = name
    extra = _extra(fields)
    return Image(source, extra=extra) if kind == "image" else Audio(source, extra=extra)


# --- calls and results ---------------------------------------------------------------------------


class _Calls:
    """Which calls wait for their results, in order."""

    __slots__ = ("_ids", "_open")

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._open: list[tuple[str, str, bool]] = []

    def asked(self, id_: str | None, name: str, made_up: str) -> str:
        """The id of a new call: its own, or one that no call before it has."""
        given = bool(id_)
        found = id_ or made_up
        while not given and found in self._ids:
            found += "_"
        self._ids.add(found)
        self._open.append((found, name, given))
        return found

    def answered(self, id_: str | None, name: str | None, made_up: str) -> tuple[str, str | None]:
        """The id and the name of the call that a result answers: by id, else the first open one of its name.

        A result that nothing asked for keeps its own id, or gets one.
        """
        for place, (found, called, given) in enumerate(self._open):
            if found == id_ or (called == name and not (id_ and given)):
                if id_ and found != id_ and any(other == id_ for other, _, _ in self._open):
                    continue  # its own call comes later
                del self._open[place]
                return found, name or called
        return id_ or made_up, name


def _call(call: FunctionCall, path: str, calls: _Calls, made_up: str) -> ToolCall:
    if not call.name:
        raise RequestError(f"{path}.functionCall.name is not specified", param=f"{path}.functionCall.name")
    arguments = _ENCODE(call.args or {}).decode()
    return ToolCall(calls.asked(call.id, call.name, made_up), call.name, arguments)


def _result(
    result: FunctionResponse, path: str, calls: _Calls, made_up: str, fields: dict[str, object]
) -> ToolResult:
    call_id, name = calls.answered(result.id, result.name, made_up)
    text, is_error = _said(result.response)
    parts: list[Part] = [] if text is None else [Text(text)]
    for index, part in enumerate(result.parts or ()):
        place = f"{path}.parts[{index}]"
        about_it = about(part, "file_data")
        if part.inline_data is not None:
            parts.append(_inline(part.inline_data, f"{place}.inlineData", about_it))
        elif part.file_data is not None:
            parts.append(_linked(part.file_data, f"{place}.fileData", about_it))
        else:
            raise RequestError(f"{place} has neither inlineData nor fileData", param=place)
    fields |= about(result, "parts")
    return ToolResult(call_id, tuple(parts), name, is_error, extra=_extra(fields))


def _said(response: dict[str, object] | None) -> tuple[str | None, bool]:
    """The text of a result, and whether it tells of an error.

    By Google's convention `output` is what the function gave (`result`, as its SDKs write) and `error` what
    went wrong; any other object is itself what it gave.
    """
    if response is None:
        return None, False
    if len(response) == 1:
        ((name, value),) = response.items()
        if isinstance(value, str) and name in ("output", "result", "error"):
            return value, name == "error"
        if name in ("output", "error") and value is not None:
            return _ENCODE(value).decode(), name == "error"
    failed = bool(response.get("error")) and not response.keys() & {"output", "result"}
    return _ENCODE(response).decode(), failed


# --- pieces --------------------------------------------------------------------------------------


def _joined(before: tuple[Part, ...], after: tuple[Part, ...]) -> tuple[Part, ...]:
    """Two contents of one reply: where the first stops within a text, the second goes on with it."""
    last, first = before[-1], after[0]
    if isinstance(last, Text) and isinstance(first, Text) and last == Text(last.text):
        if first == Text(first.text):
            return (*before[:-1], Text(last.text + first.text), *after[1:])
    elif isinstance(first, Reasoning) and _open(last):
        return (*before[:-1], replace(first, text=last.text + first.text), *after[1:])
    return (*before, *after)


def _open(part: Part | None) -> TypeGuard[Reasoning]:
    """A thought that no signature has ended."""
    return isinstance(part, Reasoning) and part == Reasoning(part.text)


def _without_blanks(message: Message) -> Message:
    """Less the empty texts that streams end with, and thoughts with the signature that came after them."""
    if message.role != "assistant" or len(message.parts) < 2:
        return message
    parts: list[Part] = []
    for part in message.parts:
        last = parts[-1] if parts else None
        if isinstance(part, Reasoning) and not part.text and _open(last):
            parts[-1] = replace(part, text=last.text)
        elif part != Text(""):
            parts.append(part)
    return Message("assistant", tuple(parts or message.parts[:1]))


# --- base64 --------------------------------------------------------------------------------------


def _base64(data: str, path: str) -> bytes:
    try:
        return bytes_of(data)
    except ValueError as error:
        raise RequestError(f"Invalid value at '{path}': {error}", param=path) from None


def _signature(data: str, path: str) -> str:
    """The same in the standard alphabet, padded: some providers compare the text, not what it stands for.

    Another provider's proof went out in base64 (see .reply): it is what it was before.
    """
    sealed = _base64(data, path)
    if sealed.startswith(SEAL.encode()):
        return sealed.decode("utf-8", "replace")
    plain = data.replace("-", "+").replace("_", "/").rstrip("=")
    return plain + "=" * (-len(plain) % 4)
