"""A canonical Request as the body of a chat completions call to an upstream. No I/O, no reply.

Two rules hold throughout: what is absent is left out, never sent as null; and what the API has no place for
raises UnsupportedFeature. Left out, and named in `dropped`, is what the answer does not depend on: marks of
where to cache a prefix (OpenAI caches by itself), the `is_error` flag of a tool result (its text tells),
citations in earlier answers, reasoning that only another provider can read, how other APIs keep a call.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias, assert_never

from assay.errors import RequestError, UnsupportedFeature
from assay.providers.openai_chat.vocabulary import DIALECT, INPUT_AUDIO_TYPES
from assay.providers.translation import Drops, effort, to_json
from assay.types import (
    Audio,
    CustomTool,
    File,
    FunctionTool,
    HostedTool,
    Image,
    Inline,
    JsonOutput,
    Link,
    Message,
    Opaque,
    Output,
    Part,
    Reasoning,
    Refusal,
    Request,
    Sampling,
    SchemaOutput,
    Text,
    TextOutput,
    ToolCall,
    ToolChoice,
    ToolResult,
    ToolSpec,
    Uploaded,
    replace,
)

Body: TypeAlias = dict[str, Any]

_AUDIO_FORMATS = {media_type: name for name, media_type in INPUT_AUDIO_TYPES.items()} | {
    "audio/mp3": "mp3",
    "audio/x-wav": "wav",
}


def encode_request(request: Request, *, extensions: bool) -> tuple[bytes, tuple[str, ...]]:
    """The body, and what is left out. `extensions`: the upstream takes what other servers added to the API.

    Raises UnsupportedFeature for what the API cannot carry, RequestError for what is not JSON.
    """
    drops = Drops(DIALECT, "Chat completions")
    body: Body = {"model": request.model}
    messages: list[Body] = []
    for number, turn in enumerate(request.messages):
        drops.enter(f"messages[{number}]")
        messages.extend(_messages(turn, extensions, drops))
    body["messages"] = messages
    drops.enter("")
    if request.tools:
        body["tools"] = [_tool(tool, number, drops) for number, tool in enumerate(request.tools)]
    if request.tool_choice is not None:
        body["tool_choice"] = _tool_choice(request.tool_choice, request.tools, drops)
    _add_sampling(body, request.sampling, extensions)
    _add_options(body, request, drops)
    if request.stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    drops.take(body, request.extra, "")
    return to_json(body), drops.paths


# --- messages ------------------------------------------------------------------------------------


def _messages(turn: Message, extensions: bool, drops: Drops) -> Iterator[Body]:
    """One canonical turn is several messages where it holds several tool results: these come first."""
    if turn.role == "assistant":
        yield _assistant(turn, extensions, drops)
        return
    rest = tuple(enumerate(turn.parts))
    results = [(number, part) for number, part in rest if isinstance(part, ToolResult)]
    if results:
        for number, result in results:
            yield _tool_message(result, number, extensions, drops)
        rest = tuple((number, part) for number, part in rest if not isinstance(part, ToolResult))
        if not rest:
            return
    elif turn.role == "tool":
        raise RequestError("A message of role 'tool' holds no ToolResult; add one", param="messages")
    message: Body = {"role": "user" if turn.role == "tool" else turn.role}
    message["content"] = _content(rest, f"a {turn.role} message", drops)
    _finish_message(message, turn, drops)
    yield message


def _assistant(turn: Message, extensions: bool, drops: Drops) -> Body:
    message: Body = {"role": "assistant"}
    said: list[tuple[int, Part]] = []
    calls: list[Body] = []
    thoughts: list[str] = []
    for number, part in enumerate(turn.parts):
        match part:
            case Text() | Refusal():
                said.append((number, part))
            case ToolCall():
                calls.append(_tool_call(part, number, extensions, drops))
            case Reasoning():
                # The text alone goes on, to servers that want it; what vouches for it is another API's.
                if not extensions or part.signature is not None or part.encrypted is not None:
                    drops.part(number, "reasoning" if not extensions else "signature")
                thoughts.append(part.text or "\n\n".join(part.summary))
            case Audio(id=str() as audio_id):
                message["audio"] = {"id": audio_id}
            case _:
                raise _unsupported(part, "an assistant message")
    if said:
        message["content"] = _content(said, "an assistant message", drops)
    elif not calls and "audio" not in message:
        message["content"] = ""
    if calls:
        message["tool_calls"] = calls
    if extensions and (reasoning := "".join(thoughts)):
        message["reasoning_content"] = reasoning
    _finish_message(message, turn, drops)
    return message


def _finish_message(message: Body, turn: Message, drops: Drops) -> None:
    if turn.name is not None:
        message["name"] = turn.name
    drops.take(message, turn.extra, "")


def _tool_call(call: ToolCall, number: int, extensions: bool, drops: Drops) -> Body:
    if call.kind == "custom":
        body: Body = {
            "id": call.id,
            "type": "custom",
            "custom": {"name": call.name, "input": call.arguments},
        }
    else:
        body = {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
    if call.signature is not None:
        if extensions:
            body["extra_content"] = {"google": {"thought_signature": call.signature}}
        else:
            drops.part(number, "signature")
    if call.cache is not None:
        drops.part(number, "cache")
    drops.take(body, call.extra, f".parts[{number}]")
    return body


def _tool_message(result: ToolResult, number: int, extensions: bool, drops: Drops) -> Body:
    message: Body = {"role": "tool", "tool_call_id": result.call_id}
    for part in result.parts:
        if not isinstance(part, Text):
            raise _unsupported(part, "a tool result")
    if any(part.cache is not None for part in (result, *result.parts) if isinstance(part, ToolResult | Text)):
        drops.part(number, "cache")
    parts = [
        (inner, replace(part, cache=None))
        for inner, part in enumerate(result.parts)
        if isinstance(part, Text)
    ]
    message["content"] = _content(parts, "a tool result", drops)
    if result.name is not None:
        # OpenAI knows the tool by its call; some of the other servers want its name.
        if extensions:
            message["name"] = result.name
        else:
            drops.part(number, "name")
    if result.is_error:
        drops.part(number, "is_error")
    drops.take(message, result.extra, f".parts[{number}]")
    return message


# --- content -------------------------------------------------------------------------------------


def _content(parts: Iterable[tuple[int, Part]], where: str, drops: Drops) -> str | list[Body]:
    """A plain string where one text is all there is, else a list. Each part has its number in the turn."""
    parts = tuple(parts)
    if not parts:
        return ""
    if len(parts) == 1 and type(only := parts[0][1]) is Text and only.extra is None:
        _plain(only, parts[0][0], drops)
        return only.text
    return [_part(part, number, where, drops) for number, part in parts]


def _plain(text: Text, number: int, drops: Drops) -> None:
    """What a text has beyond its words."""
    if text.cache is not None:
        drops.part(number, "cache")
    if text.annotations:
        drops.part(number, "annotations")
    if text.signature is not None:
        drops.part(number, "signature")


def _part(part: Part, number: int, where: str, drops: Drops) -> Body:
    match part:
        case Text():
            _plain(part, number, drops)
            body: Body = {"type": "text", "text": part.text}
        case Refusal():
            return {"type": "refusal", "refusal": part.text}
        case Image():
            body = {"type": "image_url", "image_url": _image(part)}
        case Audio():
            body = {"type": "input_audio", "input_audio": _input_audio(part)}
        case File():
            body = {"type": "file", "file": _file(part)}
        case Opaque(dialect="openai", body=dict() as fields):
            return fields
        case _:
            raise _unsupported(part, where)
    if not isinstance(part, Text) and part.cache is not None:
        drops.part(number, "cache")
    drops.take(body, part.extra, f".parts[{number}]")
    return body


def _image(image: Image) -> Body:
    match image.source:
        case Inline() as source:
            url = _data_url(source)
        case Link(url=link):
            url = link
        case Uploaded():
            raise UnsupportedFeature(
                "Chat completions take pictures as a URL or inline, not as an uploaded file", param="messages"
            )
        case _:
            assert_never(image.source)
    return {"url": url} if image.detail is None else {"url": url, "detail": image.detail}


def _input_audio(audio: Audio) -> Body:
    if not isinstance(audio.source, Inline):
        raise UnsupportedFeature(
            "Chat completions take sound inline only; send its bytes, not a link or an id", param="messages"
        )
    name = _AUDIO_FORMATS.get(audio.source.media_type)
    if name is None:
        raise UnsupportedFeature(
            f"Chat completions take sound as wav or mp3, not {audio.source.media_type}", param="messages"
        )
    return {"data": b64encode(audio.source.data).decode(), "format": name}


def _file(file: File) -> Body:
    body: Body = {}
    match file.source:
        case Inline() as source:
            body["file_data"] = _data_url(source)
        case Uploaded(file_id=file_id):
            body["file_id"] = file_id
        case Link():
            raise UnsupportedFeature(
                "Chat completions take files inline or uploaded, not as a link", param="messages"
            )
        case _:
            assert_never(file.source)
    if file.name is not None:
        body["filename"] = file.name
    return body


def _data_url(source: Inline) -> str:
    return f"data:{source.media_type};base64,{b64encode(source.data).decode()}"


# --- tools ---------------------------------------------------------------------------------------


def _tool(tool: ToolSpec, number: int, drops: Drops) -> Body:
    match tool:
        case FunctionTool():
            function: Body = {"name": tool.name}
            if tool.description is not None:
                function["description"] = tool.description
            if tool.parameters is not None:
                function["parameters"] = tool.parameters
            if tool.strict is not None:
                function["strict"] = tool.strict
            body: Body = {"type": "function", "function": function}
            if tool.cache is not None:
                drops.add(f"tools[{number}].cache")
            drops.take(body, tool.extra, f"tools[{number}]")
            return body
        case CustomTool():
            custom: Body = {"name": tool.name}
            if tool.description is not None:
                custom["description"] = tool.description
            if tool.format is not None:
                custom["format"] = tool.format
            return {"type": "custom", "custom": custom}
        case HostedTool(dialect="openai", body=dict() as fields):
            return fields
        case HostedTool():
            raise UnsupportedFeature(
                f"A tool that {tool.dialect} runs cannot be used with chat completions", param="tools"
            )
        case _:
            assert_never(tool)


def _tool_choice(choice: ToolChoice, tools: tuple[ToolSpec, ...], drops: Drops) -> str | Body:
    drops.take({}, choice.extra, "tool_choice")
    if not choice.names:
        if choice.mode == "named":
            raise RequestError("tool_choice is 'named' but names no tool", param="tool_choice")
        return choice.mode
    custom = {tool.name for tool in tools if isinstance(tool, CustomTool)}
    named: list[Body] = [
        {"type": "custom", "custom": {"name": name}}
        if name in custom
        else {"type": "function", "function": {"name": name}}
        for name in choice.names
    ]
    if choice.mode == "named" and len(named) == 1:
        return named[0]
    mode = "auto" if choice.mode == "auto" else "required"
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": named}}


# --- parameters ----------------------------------------------------------------------------------


def _add_sampling(body: Body, sampling: Sampling, extensions: bool) -> None:
    if sampling == _NO_SAMPLING:
        return
    if sampling.max_tokens is not None:
        body["max_completion_tokens"] = sampling.max_tokens
    for name in ("temperature", "top_p", "seed", "frequency_penalty", "presence_penalty"):
        if (value := getattr(sampling, name)) is not None:
            body[name] = value
    if sampling.top_k is not None:
        if not extensions:
            raise UnsupportedFeature("OpenAI's models take no top_k; leave it out", param="top_k")
        body["top_k"] = sampling.top_k
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.logit_bias is not None:
        body["logit_bias"] = {token: _whole(bias) for token, bias in sampling.logit_bias.items()}
    if sampling.top_logprobs is not None:
        body["logprobs"] = True
        if sampling.top_logprobs:
            body["top_logprobs"] = sampling.top_logprobs


_NO_SAMPLING = Sampling()


def _whole(bias: float) -> float:
    """OpenAI's biases are whole numbers, and some servers insist on how they are written."""
    return int(bias) if bias == int(bias) else bias


def _add_options(body: Body, request: Request, drops: Drops) -> None:
    if request.parallel_tool_calls is not None:
        body["parallel_tool_calls"] = request.parallel_tool_calls
    if not isinstance(request.output, TextOutput):
        body["response_format"] = _response_format(request.output)
    if request.modalities:
        body["modalities"] = list(request.modalities)
    if request.audio is not None:
        body["audio"] = request.audio
    if request.thinking is not None:
        word, exact = effort(request.thinking)
        if word is not None:
            body["reasoning_effort"] = word
        if not exact:
            drops.add("thinking")
    if request.choices != 1:
        body["n"] = request.choices
    if request.service_tier is not None:
        body["service_tier"] = request.service_tier
    if request.user is not None:
        body["user"] = request.user
    if request.metadata is not None:
        body["metadata"] = request.metadata


def _response_format(output: Output) -> Body:
    match output:
        case TextOutput():
            return {"type": "text"}
        case JsonOutput():
            return {"type": "json_object"}
        case SchemaOutput():
            schema: Body = {"name": output.name, "schema": output.schema}
            if output.description is not None:
                schema["description"] = output.description
            if output.strict is not None:
                schema["strict"] = output.strict
            return {"type": "json_schema", "json_schema": schema}
        case _:
            assert_never(output)


def _unsupported(part: Part, where: str) -> UnsupportedFeature:
    kind = f"{part.dialect} part" if isinstance(part, Opaque) else type(part).__name__
    return UnsupportedFeature(
        f"Chat completions cannot carry a {kind} in {where}; leave it out or choose another model",
        param="messages",
    )
