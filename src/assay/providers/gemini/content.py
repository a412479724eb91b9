"""Messages as Gemini's `contents` and `systemInstruction`. The rest of a request lives in .request.

A conversation has two roles here. What a system says before anybody else is the system instruction; a system
message further on has no place of its own and becomes a user's, where it stands. Parallel calls share one
turn, and so do their results, whatever number of messages they came in: the API counts these against those.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias, assert_never

import msgspec

from assay.errors import RequestError, UnsupportedFeature
from assay.providers.gemini.vocabulary import API, DIALECT, base64_of, is_signature
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
    Source,
    Text,
    ToolCall,
    ToolResult,
    Uploaded,
)

Body: TypeAlias = dict[str, Any]

_SYSTEM = ("system", "developer")
NOT_SIGNED = "skip_thought_signature_validator"
_EXACT = 2**53
"""The API keeps a function's numbers as doubles: a whole number past this would change on its way."""

_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".heic": "image/heic",
    ".heif": "image/heif",
    ".gif": "image/gif",
    ".pdf": "application/pdf",
    ".txt": "text/plain",
    ".mp3": "audio/mp3",
    ".wav": "audio/wav",
    ".mp4": "video/mp4",
}
"""Media types by the end of a URL's path, where the caller gave none; the API wants one."""

_HOMES = {
    "displayName": ("inlineData", "fileData"),
    "scheduling": ("functionResponse",),
    "willContinue": ("functionResponse",),
}
"""Fields that an Extra holds beside a part's own, and what of the part has them."""

_DECODE = msgspec.json.Decoder().decode


def conversation(messages: tuple[Message, ...], drops: Drops) -> tuple[Body | None, list[Body]]:
    """The system instruction, if there is one, and the contents. Reports what is left out."""
    leading = 0
    while leading < len(messages) and messages[leading].role in _SYSTEM:
        leading += 1
    instruction: list[Body] = []
    for number, message in enumerate(messages[:leading]):
        drops.enter(f"messages[{number}]")
        instruction += _system(message, drops)
    contents: list[Body] = []
    names: dict[str, str] = {}
    after_results = False
    for number, message in enumerate(messages[leading:], leading):
        drops.enter(f"messages[{number}]")
        content = _content(message, names, drops)
        if content is None:
            continue
        results = message.role == "tool" and all("functionResponse" in part for part in content["parts"])
        if (after_results and results) or (contents and _goes_on(contents[-1], content)):
            contents[-1]["parts"] += content["parts"]
        else:
            contents.append(content)
        after_results = results
    drops.enter("")
    return ({"parts": instruction} if instruction else None), contents


def excuse(contents: list[Body]) -> None:
    """Marks turns of calls that another model made: Gemini 3 refuses calls that it did not sign itself.

    The mark is the one that Google documents for conversations that were begun elsewhere
    (https://ai.google.dev/gemini-api/docs/thought-signatures).
    """
    for content in contents:
        calls = [part for part in content["parts"] if "functionCall" in part]
        if calls and not any("thoughtSignature" in part for part in calls):
            calls[0]["thoughtSignature"] = NOT_SIGNED


def _goes_on(before: Body, content: Body) -> bool:
    """Whether two messages of the model are one turn, which the API wants in one piece."""
    return before["role"] == content["role"] == "model" and len(before) == len(content) == 2


def _system(message: Message, drops: Drops) -> list[Body]:
    for part in message.parts:
        if not isinstance(part, Text):
            raise _unsupported(part, "a system message")
    content: Body = {"parts": list(_parts(message, {}, drops))}
    _finish(content, message, drops)
    return [part for part in content["parts"] if part != {"text": ""}]


def _content(message: Message, names: dict[str, str], drops: Drops) -> Body | None:
    """None for an answer that said nothing: the API takes no turn without parts."""
    role = "model" if message.role == "assistant" else "user"
    if message.role in _SYSTEM:
        drops.add(".role")
    elif message.role == "tool" and not any(isinstance(part, ToolResult) for part in message.parts):
        raise RequestError("A message of role 'tool' holds no ToolResult; add one", param="messages")
    parts = list(_parts(message, names, drops))
    parts.sort(key=lambda part: "functionResponse" not in part)
    said = [part for part in parts if part != {"text": ""}]
    if role == "model" and not said:
        drops.add("")
        return None
    content: Body = {"role": role, "parts": said or [{"text": ""}]}
    _finish(content, message, drops)
    return content


def input_parts(message: Message, drops: Drops) -> list[Body]:
    """What is to be embedded: the parts of a message, whoever said it."""
    return list(_parts(message, {}, drops))


def _finish(content: Body, message: Message, drops: Drops) -> None:
    if message.name is not None:
        drops.add(".name")
    take(content, message.extra, "", drops)


def _parts(message: Message, names: dict[str, str], drops: Drops) -> Iterator[Body]:
    answering = message.role == "assistant"
    for number, part in enumerate(message.parts):
        match part:
            case ToolCall() if answering:
                names[part.id] = part.name
                body: Body | None = _tool_call(part, number, drops)
            case Reasoning() if answering:
                body = _reasoning(part, number, drops)
            case ToolResult() if not answering:
                body = _tool_result(part, number, names, drops)
            case ToolCall() | Reasoning() | ToolResult():
                raise _unsupported(part, f"a message of role '{message.role}'")
            case _:
                body = _part(part, number, drops)
        if body is not None:
            yield body


def _part(part: Text | Refusal | Image | Audio | File | Opaque, number: int, drops: Drops) -> Body:
    match part:
        case Text():
            body: Body = {"text": part.text}
            _sign(body, part.signature, number, drops)
            if part.annotations:
                drops.part(number, "annotations")
        case Refusal():
            return {"text": part.text}
        case Image():
            body = _media(part.source)
            if part.detail is not None:
                drops.part(number, "detail")
        case Audio():
            body = _audio(part, number, drops)
        case File():
            body = _media(part.source)
            if part.name is not None:
                _at_home(body, {"displayName": part.name})
        case Opaque(dialect="gemini", body=dict() as fields):
            return fields
        case Opaque():
            raise _unsupported(part, "a message")
        case _:
            assert_never(part)
    if part.cache is not None:
        drops.part(number, "cache")
    take(body, part.extra, f".parts[{number}]", drops)
    return body


# --- media ---------------------------------------------------------------------------------------


def _media(source: Source) -> Body:
    match source:
        case Inline():
            return {"inlineData": {"mimeType": source.media_type, "data": base64_of(source.data)}}
        case Link():
            return {"fileData": _file_data(source.url, source.media_type)}
        case Uploaded():
            if "/" not in source.file_id:
                raise UnsupportedFeature(
                    f"{API} knows files by URI, and '{source.file_id}' is none: it was uploaded to another "
                    "provider; send the file itself",
                    param="messages",
                )
            return {"fileData": _file_data(source.file_id, source.media_type)}
        case _:
            assert_never(source)


def _file_data(uri: str, media_type: str | None) -> Body:
    if media_type is None:
        end = uri.partition("?")[0].partition("#")[0].rpartition("/")[2].rpartition(".")[2].lower()
        media_type = _TYPES.get(f".{end}")
    return {"fileUri": uri} if media_type is None else {"mimeType": media_type, "fileUri": uri}


def _audio(audio: Audio, number: int, drops: Drops) -> Body:
    if audio.source is not None:
        return _media(audio.source)
    if audio.transcript:
        drops.part(number, "audio")
        return {"text": audio.transcript}
    raise UnsupportedFeature(
        f"{API} cannot look up the sound '{audio.id}', which another provider keeps; send its bytes",
        param="messages",
    )


# --- thoughts and tools --------------------------------------------------------------------------


def _sign(body: Body, signature: str | None, number: int, drops: Drops) -> None:
    """A signature stays with its part. One that is not bytes is another provider's."""
    if signature is None:
        return
    if is_signature(signature):
        body["thoughtSignature"] = signature
    else:
        drops.part(number, "signature")


def _reasoning(thought: Reasoning, number: int, drops: Drops) -> Body | None:
    """Only what the API signed: it cannot check the rest, and another provider's it cannot read."""
    if thought.signature is None or not is_signature(thought.signature):
        drops.part(number, "reasoning")
        return None
    text = thought.text or "\n\n".join(thought.summary)
    body: Body = {"text": text, "thought": True, "thoughtSignature": thought.signature}
    take(body, thought.extra, f".parts[{number}]", drops)
    return body


def _tool_call(call: ToolCall, number: int, drops: Drops) -> Body:
    if call.kind != "function":
        raise UnsupportedFeature(
            f"{API} has no tools with free text: the call of '{call.name}' cannot be carried",
            param="messages",
        )
    try:
        args = _DECODE(call.arguments) if call.arguments.strip() else {}
    except (ValueError, RecursionError):
        args = None
    if not isinstance(args, dict):
        raise RequestError(
            f"The arguments of the call '{call.id}' of '{call.name}' are no JSON object, as {API} wants",
            param="messages",
        )
    body: Body = {"functionCall": {"id": call.id, "name": call.name, "args": args}}
    if not call.id:
        del body["functionCall"]["id"]
    _sign(body, call.signature, number, drops)
    if call.cache is not None:
        drops.part(number, "cache")
    take(body, call.extra, f".parts[{number}]", drops)
    return body


def _tool_result(result: ToolResult, number: int, names: dict[str, str], drops: Drops) -> Body:
    name = names.get(result.call_id) or result.name
    if not name:
        raise RequestError(
            f"No call '{result.call_id}' comes before its result, and {API} wants the function's name; "
            "send the assistant's message with the call too",
            param="messages",
        )
    response: Body = {"id": result.call_id, "name": name}
    if not result.call_id:
        del response["id"]
    texts = [part.text for part in result.parts if isinstance(part, Text)]
    response["response"] = _response("".join(texts), is_error=result.is_error)
    media = [_result_part(part, number, drops) for part in result.parts if not isinstance(part, Text)]
    if media:
        response["parts"] = media
    marked = (result, *(part for part in result.parts if isinstance(part, Text | Image | Audio | File)))
    if any(part.cache is not None for part in marked):
        drops.part(number, "cache")
    body: Body = {"functionResponse": response}
    take(body, result.extra, f".parts[{number}]", drops)
    return body


def _result_part(part: Part, number: int, drops: Drops) -> Body:
    match part:
        case Image() | File():
            body = _media(part.source)
        case Audio(source=Inline() | Link() | Uploaded() as source):
            body = _media(source)
        case Opaque(dialect="gemini", body=dict() as fields):
            return fields
        case _:
            raise _unsupported(part, "a tool result")
    if isinstance(part, File) and part.name is not None:
        _at_home(body, {"displayName": part.name})
    take(body, part.extra, f".parts[{number}]", drops)
    return body


def _response(text: str, *, is_error: bool) -> Body:
    """A JSON object stays one; all else is the API's `output`, and a failure its `error`."""
    try:
        found = _DECODE(text) if text.lstrip().startswith("{") else None
    except (ValueError, RecursionError):
        found = None
    value: Any = found if isinstance(found, dict) and _keeps(found) else text
    if isinstance(value, dict) and (not is_error or "error" in value):
        return value
    return {"error": value} if is_error else {"output": value}


def _keeps(value: Any) -> bool:
    """Whether every number in it survives as a double."""
    match value:
        case dict():
            return all(_keeps(item) for item in value.values())
        case list():
            return all(_keeps(item) for item in value)
        case int():
            return -_EXACT <= value <= _EXACT
        case _:
            return True


# --- shared --------------------------------------------------------------------------------------


def take(body: Body, extra: Extra | None, where: str, drops: Drops) -> None:
    """Adds Gemini's own fields, each to the object that has it; reports or refuses all others."""
    if extra is None or extra.dialect != DIALECT:
        drops.take(body, extra, where)
    else:
        _at_home(body, extra.fields)


def _at_home(body: Body, fields: Body) -> None:
    for name, value in fields.items():
        homes = _HOMES.get(name, ())
        home = next((body[place] for place in homes if place in body), body)
        home.setdefault(name, value)


def _unsupported(part: Part, where: str) -> UnsupportedFeature:
    kind = f"{part.dialect} part" if isinstance(part, Opaque) else type(part).__name__
    return UnsupportedFeature(
        f"{API} cannot carry a {kind} in {where}; leave it out or choose another model", param="messages"
    )
