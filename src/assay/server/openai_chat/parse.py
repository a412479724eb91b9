"""What a chat completions call means: a canonical Request. The shape of its body is in .body."""

from __future__ import annotations

import binascii
import mimetypes
from base64 import b64decode
from collections.abc import Iterator
from typing import Any, Literal, assert_never

import msgspec

from assay.errors import RequestError, UnsupportedFeature
from assay.providers.openai_chat.vocabulary import DIALECT, INPUT_AUDIO_TYPES
from assay.server.openai_chat import body as wire
from assay.server.openai_chat.errors import body_error
from assay.types import (
    Audio,
    CustomTool,
    Extra,
    File,
    FunctionTool,
    Image,
    Inline,
    JsonOutput,
    Link,
    Message,
    Output,
    Part,
    Reasoning,
    Refusal,
    Request,
    Sampling,
    SchemaOutput,
    Text,
    TextOutput,
    Thinking,
    ToolCall,
    ToolChoice,
    ToolResult,
    ToolSpec,
    Uploaded,
    Value,
)


class Options(Value):
    """What the caller asked about the form of the reply; the model never sees it."""

    include_usage: bool = False


_BODY = msgspec.json.Decoder(wire.Body)
_TEXT_OUTPUT = TextOutput()


def parse(body: bytes) -> tuple[Request, Options]:
    """The Request and the form its reply shall have.

    Raises RequestError, with `param` naming the field: for what is not JSON, fields that the API lacks
    (with the nearest that it has), wrong types, values out of range, and what contradicts itself.

    >>> request, _ = parse(b'{"model":"m","messages":[{"role":"user","content":"Hi"}],"temperature":0}')
    >>> request.messages[0].text, request.sampling.temperature
    ('Hi', 0.0)
    """
    try:
        call = _BODY.decode(body)
    except (ValueError, RecursionError) as error:
        raise body_error(error) from error
    if call.functions is not None or call.function_call is not None:
        old, new = ("functions", "tools") if call.functions is not None else ("function_call", "tool_choice")
        raise UnsupportedFeature(f"'{old}' is deprecated and not served; use '{new}' instead", param=old)
    request = Request(
        model=call.model,
        messages=tuple(_messages(call.messages)),
        sampling=_sampling(call),
        tools=tuple(_tool(tool) for tool in call.tools) if call.tools else (),
        tool_choice=_tool_choice(call.tool_choice),
        parallel_tool_calls=call.parallel_tool_calls,
        output=_TEXT_OUTPUT if call.response_format is None else _output(call.response_format),
        modalities=tuple(call.modalities) if call.modalities else (),
        audio=call.audio,
        thinking=_thinking(call.reasoning_effort),
        choices=call.n or 1,
        stream=bool(call.stream),
        service_tier=call.service_tier,
        user=call.user,
        metadata=call.metadata,
        extra=_extra(call),
    )
    return request, _options(call)


def _options(call: wire.Body) -> Options:
    options = call.stream_options
    if options is None:
        return Options()
    if not call.stream:
        raise RequestError("'stream_options' is only allowed when 'stream' is true", param="stream_options")
    if options.include_obfuscation:
        raise UnsupportedFeature(
            "Streams are not padded here; leave out 'stream_options.include_obfuscation'",
            param="stream_options.include_obfuscation",
        )
    return Options(include_usage=bool(options.include_usage))


def _extra(call: wire.Body) -> Extra | None:
    fields = {name: value for name in wire.EXTRA_FIELDS if (value := getattr(call, name)) is not None}
    return Extra(DIALECT, fields) if fields else None


# --- messages ------------------------------------------------------------------------------------


class _Wrong(Exception):
    """A fault in a message, seen from within: `path` grows on the way out."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(problem)
        self.path = path
        self.problem = problem


def _messages(messages: list[wire.AnyMessage]) -> Iterator[Message]:
    for number, message in enumerate(messages):
        try:
            yield _message(message)
        except _Wrong as wrong:
            path = f"messages[{number}].{wrong.path}"
            raise RequestError(f"Invalid '{path}': {wrong.problem}", param=path) from None


def _message(message: wire.AnyMessage) -> Message:
    match message:
        case wire.UserMessage():
            return Message("user", _content(message.content), message.name)
        case wire.SystemMessage():
            return Message("system", _content(message.content), message.name)
        case wire.AssistantMessage():
            return Message("assistant", tuple(_assistant(message)), message.name)
        case wire.ToolMessage():
            result = ToolResult(message.tool_call_id, _content(message.content), message.name)
            return Message("tool", (result,))
        case wire.DeveloperMessage():
            return Message("developer", _content(message.content), message.name)
        case wire.FunctionMessage():
            raise _Wrong("role", "'function' is deprecated and not served; use a 'tool' message instead")
        case _:
            assert_never(message)


def _assistant(message: wire.AssistantMessage) -> Iterator[Part]:
    if message.function_call is not None:
        raise _Wrong("function_call", "it is deprecated and not served; use 'tool_calls' instead")
    if reasoning := message.reasoning_content or message.reasoning:
        yield Reasoning(reasoning)
    if isinstance(message.content, str):
        yield Text(message.content, tuple(message.annotations or ()))
    elif message.content is not None:
        yield from _content(message.content)
    if message.refusal is not None:
        yield Refusal(message.refusal)
    if message.audio is not None:
        yield _said(message.audio)
    for number, call in enumerate(message.tool_calls or ()):
        yield _call(call, number)


def _call(call: wire.SentCall, number: int) -> ToolCall:
    google = call.extra_content.google if call.extra_content is not None else None
    signature = google.thought_signature if google is not None else None
    if call.type == "function" and call.function is not None and call.custom is None:
        name, arguments = call.function.name, call.function.arguments
        return ToolCall(call.id, name, arguments, signature=signature)
    if call.type == "custom" and call.custom is not None and call.function is None:
        return ToolCall(call.id, call.custom.name, call.custom.input, "custom", signature)
    raise _Wrong(
        f"tool_calls[{number}]", f"a call of type '{call.type}' needs '{call.type}', and nothing else"
    )


def _said(audio: wire.SentAudio) -> Audio:
    source = Inline("audio/pcm", _base64(audio.data, "audio.data")) if audio.data else None
    return Audio(source, audio.transcript, audio.id, audio.expires_at)


# --- content -------------------------------------------------------------------------------------


def _content(content: wire.Content) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (Text(content),)
    if not content:
        raise _Wrong("content", "empty array; give a string, or at least one part")
    parts = []
    for number, part in enumerate(content):
        try:
            parts.append(_part(part))
        except _Wrong as wrong:
            wrong.path = f"content[{number}].{wrong.path}"
            raise
    return tuple(parts)


def _part(part: wire.ContentPart) -> Part:
    match part:
        case wire.TextPart():
            return Text(part.text, extra=_breakpoint(part.prompt_cache_breakpoint))
        case wire.ImagePart():
            extra = _breakpoint(part.prompt_cache_breakpoint)
            return Image(_image(part.image_url.url), part.image_url.detail, extra=extra)
        case wire.AudioPart():
            data = _base64(part.input_audio.data, "input_audio.data")
            source = Inline(INPUT_AUDIO_TYPES[part.input_audio.format], data)
            return Audio(source, extra=_breakpoint(part.prompt_cache_breakpoint))
        case wire.FilePart():
            extra = _breakpoint(part.prompt_cache_breakpoint)
            return File(_file(part.file), part.file.filename, extra=extra)
        case wire.RefusalPart():
            return Refusal(part.refusal)
        case _:
            assert_never(part)


def _breakpoint(mark: dict[str, Any] | None) -> Extra | None:
    return None if mark is None else Extra(DIALECT, {"prompt_cache_breakpoint": mark})


def _image(url: str) -> Inline | Link:
    return _inline(url, "image_url.url") if url[:5].lower() == "data:" else Link(url)


def _file(file: wire.FileFields) -> Inline | Uploaded:
    match file.file_data, file.file_id:
        case None, str() as file_id:
            return Uploaded(file_id)
        case str() as data, None if data[:5].lower() == "data:":
            return _inline(data, "file.file_data")
        case str() as data, None:
            media_type, _ = mimetypes.guess_type(file.filename or "")
            return Inline(media_type or "application/octet-stream", _base64(data, "file.file_data"))
        case _:
            raise _Wrong("file", "give either 'file_id' or 'file_data'")


def _inline(url: str, path: str) -> Inline:
    head, comma, data = url.partition(",")
    media_type, base64, _ = head[5:].rpartition(";base64")
    if not comma or not base64 or not media_type:
        raise _Wrong(path, "a data URL has the form data:MEDIA/TYPE;base64,DATA")
    return Inline(media_type, _base64(data, path))


def _base64(data: str, path: str) -> bytes:
    try:
        return b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _Wrong(path, f"not valid base64 ({error})") from None


# --- tools, output, parameters -------------------------------------------------------------------


def _tool(tool: wire.FunctionToolBody | wire.CustomToolBody) -> ToolSpec:
    match tool:
        case wire.FunctionToolBody(function=function):
            return FunctionTool(function.name, function.description, function.parameters, function.strict)
        case wire.CustomToolBody(custom=custom):
            return CustomTool(custom.name, custom.description, custom.format)
        case _:
            assert_never(tool)


def _tool_choice(
    choice: Literal["none", "auto", "required"]
    | wire.FunctionChoice
    | wire.CustomChoice
    | wire.AllowedChoice
    | None,
) -> ToolChoice | None:
    match choice:
        case None:
            return None
        case str():
            return ToolChoice(choice)
        case wire.FunctionChoice() | wire.CustomChoice():
            return ToolChoice("named", (_name(choice),))
        case wire.AllowedChoice(allowed_tools=allowed):
            if not allowed.tools:
                path = "tool_choice.allowed_tools.tools"
                raise RequestError(f"Invalid '{path}': empty array; name at least one tool", param=path)
            mode: Literal["auto", "named"] = "auto" if allowed.mode == "auto" else "named"
            return ToolChoice(mode, tuple(_name(tool) for tool in allowed.tools))
        case _:
            assert_never(choice)


def _name(choice: wire.FunctionChoice | wire.CustomChoice) -> str:
    return choice.function.name if isinstance(choice, wire.FunctionChoice) else choice.custom.name


def _output(format_: wire.TextFormat | wire.JsonFormat | wire.SchemaFormat) -> Output:
    match format_:
        case wire.TextFormat():
            return _TEXT_OUTPUT
        case wire.JsonFormat():
            return JsonOutput()
        case wire.SchemaFormat(json_schema=given):
            return SchemaOutput(given.schema or {}, given.name, given.description, given.strict)
        case _:
            assert_never(format_)


def _thinking(effort: str | None) -> Thinking | None:
    if effort is None:
        return None
    return Thinking(enabled=False) if effort == "none" else Thinking(effort=effort)


def _sampling(call: wire.Body) -> Sampling:
    limit = call.max_completion_tokens
    if limit is None:
        limit = call.max_tokens
    elif call.max_tokens not in (None, limit):
        raise RequestError(
            f"'max_tokens' is {call.max_tokens} and 'max_completion_tokens' is {limit}; give only the latter",
            param="max_tokens",
        )
    top_logprobs = call.top_logprobs
    if call.logprobs:
        top_logprobs = top_logprobs or 0
    elif top_logprobs is not None:
        raise RequestError("'top_logprobs' needs 'logprobs' to be true", param="top_logprobs")
    stop = call.stop
    return Sampling(
        max_tokens=limit,
        temperature=call.temperature,
        top_p=call.top_p,
        top_k=call.top_k,
        stop=() if not stop else (stop,) if isinstance(stop, str) else tuple(stop),
        seed=call.seed,
        frequency_penalty=call.frequency_penalty,
        presence_penalty=call.presence_penalty,
        logit_bias=None if call.logit_bias is None else {**call.logit_bias},
        top_logprobs=top_logprobs,
    )
