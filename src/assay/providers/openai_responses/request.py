"""A canonical Request as the body of a call to the Responses API. Its messages are .items' concern. No I/O.

What is absent is left out, never sent as null. What the API has no place for raises UnsupportedFeature, or is
left out and named where the answer does not depend on it.
"""

from __future__ import annotations

from typing import Any, TypeAlias, assert_never

import msgspec

from assay.errors import RequestError, UnsupportedFeature
from assay.providers.openai_responses.items import API, encode_items
from assay.providers.openai_responses.vocabulary import DIALECT, MADE_UP_REASONING
from assay.providers.translation import Drops, effort, to_json, with_model
from assay.types import (
    CustomTool,
    Extra,
    FunctionTool,
    HostedTool,
    JsonOutput,
    Output,
    Reasoning,
    Request,
    Sampling,
    SchemaOutput,
    TextOutput,
    ToolChoice,
    ToolSpec,
)

Body: TypeAlias = dict[str, Any]

ENCRYPTED = "reasoning.encrypted_content"
LOGPROBS = "message.output_text.logprobs"

_ENCODE = msgspec.json.Encoder().encode
_COUNTED = frozenset({"model", "input", "tools", "tool_choice", "parallel_tool_calls", "reasoning", "text"})


def encode_request(request: Request, *, extensions: bool) -> tuple[bytes, tuple[str, ...]]:
    """The body, and what is left out of it.

    Raises UnsupportedFeature for what the API cannot carry, RequestError for what is not JSON.
    """
    drops = Drops(DIALECT, API)
    body: Body = {"model": request.model}
    body["input"] = encode_items(request.messages, drops, extensions=extensions)
    if request.tools:
        strict = None if _spoken_here(request) else False
        body["tools"] = [_tool(tool, number, strict, drops) for number, tool in enumerate(request.tools)]
    if request.tool_choice is not None:
        body["tool_choice"] = _tool_choice(request.tool_choice, request.tools, drops)
    if request.parallel_tool_calls is not None:
        body["parallel_tool_calls"] = request.parallel_tool_calls
    _add_sampling(body, request.sampling, drops, extensions)
    _add_output(body, request)
    _add_thinking(body, request, drops)
    for name in ("service_tier", "user", "metadata"):
        if (value := getattr(request, name)) is not None:
            body[name] = value
    _add_extra(body, request.extra, drops)
    _add_include(body, request)
    body["store"] = False
    if request.stream:
        body["stream"] = True
    if request.operation == "count_tokens":
        body = {name: value for name, value in body.items() if name in _COUNTED}
    return to_json(body), drops.paths


def _spoken_here(request: Request) -> bool:
    """Whether the caller speaks this dialect, and means its defaults by what is absent."""
    return request.wire is not None and request.wire.dialect == DIALECT


def forwarded(body: bytes, model: str) -> bytes:
    """The caller's body with another model, without reasoning that no upstream of this dialect has made."""
    body = with_model(body, model)
    if MADE_UP_REASONING.encode() not in body:
        return body
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    try:
        items = msgspec.json.decode(fields["input"], type=list[msgspec.Raw])
    except (KeyError, msgspec.MsgspecError):
        return body
    kept = [item for item in items if not _made_up(item)]
    return _ENCODE({**fields, "input": kept})


class _Head(msgspec.Struct):
    type: Any = None
    id: Any = None


def _made_up(item: msgspec.Raw) -> bool:
    try:
        head = msgspec.json.decode(item, type=_Head)
    except msgspec.MsgspecError:
        return False
    return head.type == "reasoning" and str(head.id).startswith(MADE_UP_REASONING)


# --- tools ---------------------------------------------------------------------------------------


def _tool(tool: ToolSpec, number: int, strict: bool | None, drops: Drops) -> Body:
    """`strict` is what stands for a function's own, where it has none: this API's default is true, that of
    every other is false."""
    match tool:
        case FunctionTool():
            body: Body = {"type": "function", "name": tool.name}
            if tool.description is not None:
                body["description"] = tool.description
            body["parameters"] = tool.parameters  # required, and may be null
            if (held := strict if tool.strict is None else tool.strict) is not None:
                body["strict"] = held
            if tool.cache is not None:
                drops.add(f"tools[{number}].cache")
            drops.take(body, tool.extra, f"tools[{number}]")
            return body
        case CustomTool():
            body = {"type": "custom", "name": tool.name}
            if tool.description is not None:
                body["description"] = tool.description
            if tool.format is not None:
                body["format"] = _format(tool.format)
            return body
        case HostedTool(dialect="openai-responses", body=dict() as fields):
            return fields
        case HostedTool():
            raise UnsupportedFeature(
                f"A tool that {tool.dialect} runs cannot be used with the Responses API; leave it out, or "
                f"call a model that speaks {tool.dialect}",
                param="tools",
            )
        case _:
            assert_never(tool)


def _format(given: Any) -> Any:
    """Chat completions put the grammar one level deeper."""
    inner = given.get("grammar") if isinstance(given, dict) else None
    return {"type": "grammar", **inner} if isinstance(inner, dict) else given


def _tool_choice(choice: ToolChoice, tools: tuple[ToolSpec, ...], drops: Drops) -> Any:
    if choice.extra is not None and choice.extra.dialect == DIALECT and "tool_choice" in choice.extra.fields:
        return choice.extra.fields["tool_choice"]
    drops.take({}, choice.extra, "tool_choice")
    if not choice.names:
        if choice.mode == "named":
            raise RequestError("tool_choice is 'named' but names no tool", param="tool_choice")
        return choice.mode
    custom = {tool.name for tool in tools if isinstance(tool, CustomTool)}
    named = [{"type": "custom" if name in custom else "function", "name": name} for name in choice.names]
    if choice.mode == "named" and len(named) == 1:
        return named[0]
    mode = "auto" if choice.mode == "auto" else "required"
    return {"type": "allowed_tools", "mode": mode, "tools": named}


# --- parameters ----------------------------------------------------------------------------------


def _add_sampling(body: Body, sampling: Sampling, drops: Drops, extensions: bool) -> None:
    if sampling.max_tokens is not None:
        body["max_output_tokens"] = sampling.max_tokens
    for name in ("temperature", "top_p"):
        if (value := getattr(sampling, name)) is not None:
            body[name] = value
    if sampling.top_logprobs:
        body["top_logprobs"] = sampling.top_logprobs
    if sampling.seed is not None:
        drops.add("seed")
    if sampling.top_k is not None:
        if not extensions:
            raise UnsupportedFeature("OpenAI's models take no top_k; leave it out", param="top_k")
        body["top_k"] = sampling.top_k
    for name in ("stop", "frequency_penalty", "presence_penalty", "logit_bias"):
        if getattr(sampling, name):
            raise UnsupportedFeature(
                f"{API} has no '{name}'; leave it out, or give the model a provider of dialect openai",
                param=name,
            )


def _add_output(body: Body, request: Request) -> None:
    if request.choices != 1:
        raise UnsupportedFeature(
            f"{API} gives one choice a call; ask {request.choices} times", param="choices"
        )
    if request.audio is not None or set(request.modalities) - {"text"}:
        raise UnsupportedFeature(f"{API} answers in text; leave the other modalities out", param="modalities")
    if not isinstance(request.output, TextOutput):
        body["text"] = {"format": _output(request.output)}


def _output(output: Output) -> Body:
    match output:
        case TextOutput():
            return {"type": "text"}
        case JsonOutput():
            return {"type": "json_object"}
        case SchemaOutput():
            schema: Body = {"type": "json_schema", "name": output.name, "schema": output.schema}
            if output.description is not None:
                schema["description"] = output.description
            if output.strict is not None:
                schema["strict"] = output.strict
            return schema
        case _:
            assert_never(output)


def _add_thinking(body: Body, request: Request, drops: Drops) -> None:
    thinking = request.thinking
    if thinking is None:
        return
    reasoning: Body = {}
    word, _ = effort(thinking)
    if word is not None:
        reasoning["effort"] = word
    if thinking.summary is not None:
        reasoning["summary"] = thinking.summary
    elif thinking.include_text and thinking.enabled is not False:
        # The text itself stays at OpenAI: a summary is what there is to see.
        reasoning["summary"] = "auto"
    if reasoning:
        body["reasoning"] = reasoning
    if thinking.budget_tokens is not None and thinking.enabled is not False:
        drops.add("thinking")


_SHARED = frozenset(
    {
        "verbosity",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "moderation",
    }
)
"""Fields of chat completions that mean the same here."""


def _add_extra(body: Body, extra: Extra | None, drops: Drops) -> None:
    if extra is None:
        return
    own, other = extra.fields, {}
    if extra.dialect == "openai":
        own = {name: value for name, value in extra.fields.items() if name in _SHARED}
        other = {name: value for name, value in extra.fields.items() if name not in _SHARED}
        # How a prediction helps is to answer sooner.
        if other.pop("prediction", None) is not None:
            drops.add("prediction")
    elif extra.dialect != DIALECT:
        own, other = {}, extra.fields
    drops.take({}, Extra(extra.dialect, other) if other else None, "")
    own = dict(own)
    if (verbosity := own.pop("verbosity", None)) is not None:
        body["text"] = {**body.get("text", {}), "verbosity": verbosity}
    for name in ("text", "reasoning"):
        if isinstance(inner := own.pop(name, None), dict):
            body[name] = {**inner, **body.get(name, {})}
    for name, value in own.items():
        body.setdefault(name, value)


def _add_include(body: Body, request: Request) -> None:
    """What the reply shall hold beyond what it always does, each once."""
    asked: list[str] = []
    if request.sampling.top_logprobs is not None:
        asked.append(LOGPROBS)
    if _reasons(request):
        asked.append(ENCRYPTED)
    asked.extend(str(one) for one in body.pop("include", ()))
    if asked:
        body["include"] = list(dict.fromkeys(asked))


def _reasons(request: Request) -> bool:
    """Whether reasoning is involved: models that cannot reason refuse to encrypt it."""
    if request.thinking is not None:
        return request.thinking.enabled is not False and request.thinking.effort != "none"
    return any(
        isinstance(part, Reasoning) and part.id is not None and part.encrypted is not None
        for turn in request.messages
        for part in turn.parts
    )
