"""A canonical Request as the body of a call to Anthropic's Messages. No I/O, no reply.

What is absent is left out, never sent as null. What the API has no place for raises UnsupportedFeature,
unless the answer does not depend on it: then it is left out, and named in `dropped`. Turns live in .turns.
"""

from __future__ import annotations

from typing import Any, assert_never

from assay.errors import RequestError, UnsupportedFeature
from assay.providers.anthropic.blocks import Body, mark
from assay.providers.anthropic.turns import Turns
from assay.providers.anthropic.vocabulary import (
    DIALECT,
    takes_one_of_temperature_and_top_p,
    takes_sampling,
    thinks_by_budget,
    thinks_by_effort,
)
from assay.providers.translation import Drops, budget, effort, to_json
from assay.types import (
    CustomTool,
    Extra,
    FunctionTool,
    HostedTool,
    JsonOutput,
    Output,
    Request,
    Sampling,
    SchemaOutput,
    TextOutput,
    Thinking,
    ToolChoice,
    ToolSpec,
)

MIN_BUDGET = 1_024
"""The smallest budget of thinking tokens that the API takes."""

_NO_SAMPLING = Sampling()
_EFFORTS = frozenset({"low", "medium", "high", "xhigh", "max"})
_TIERS = {
    "auto": "auto",
    "standard_only": "standard_only",
    "standard": "standard_only",
    "default": "standard_only",
}
_MERGED = ("thinking", "output_config", "metadata")
"""Objects of which a part may be canonical and another part the caller's Extra."""


def encode_request(request: Request, max_tokens: int) -> tuple[bytes, tuple[str, ...]]:
    """The body, and what is left out. `max_tokens` is for a caller who gives none: the API needs one.

    Raises UnsupportedFeature for what the API cannot carry, RequestError for what is not JSON.
    """
    drops = Drops(DIALECT, "Anthropic's API")
    counting = request.operation == "count_tokens"
    body: Body = {"model": request.model}
    if not counting:
        body["max_tokens"] = request.sampling.max_tokens
    turns = Turns(request.messages, request.model, drops)
    if turns.system is not None:
        body["system"] = turns.system
    body["messages"] = turns.messages
    if request.tools:
        body["tools"] = [_tool(tool, f"tools[{number}]", drops) for number, tool in enumerate(request.tools)]
    _add_tool_choice(body, request, drops)
    _add_thinking(body, request, max_tokens, turns.unthought, drops)
    if not isinstance(request.output, TextOutput):
        body.setdefault("output_config", {})["format"] = _format(request.output, drops)
    _refuse(request)
    if not counting:
        if body["max_tokens"] is None:
            body["max_tokens"] = max_tokens
        _add_sampling(body, request, drops)
        _add_options(body, request, drops)
    _add_extra(body, request.extra, drops)
    return to_json(body), drops.paths


def _add_extra(body: Body, extra: Extra | None, drops: Drops) -> None:
    if extra is not None and extra.dialect == DIALECT:
        for name in _MERGED:
            mine, theirs = body.get(name), extra.fields.get(name)
            if isinstance(mine, dict) and isinstance(theirs, dict):
                body[name] = {**theirs, **mine}
    drops.take(body, extra, "")


# --- tools ---------------------------------------------------------------------------------------


def _tool(tool: ToolSpec, where: str, drops: Drops) -> Body:
    match tool:
        case FunctionTool():
            body: Body = {"name": tool.name}
            if tool.description is not None:
                body["description"] = tool.description
            body["input_schema"] = _input_schema(tool.parameters)
            if tool.strict is not None:
                body["strict"] = tool.strict
            mark(body, tool.cache, where, drops)
            drops.take(body, tool.extra, where)
            return body
        case CustomTool():
            raise UnsupportedFeature(
                f"Anthropic has no tools that take free text, such as '{tool.name}'; give it a JSON schema",
                param="tools",
            )
        case HostedTool(dialect="anthropic", body=dict() as fields):
            return fields
        case HostedTool():
            raise UnsupportedFeature(
                f"A tool that {tool.dialect} runs cannot be used with Anthropic; leave it out, or choose a "
                f"model of {tool.dialect}",
                param="tools",
            )
        case _:
            assert_never(tool)


def _input_schema(parameters: dict[str, Any] | None) -> dict[str, Any]:
    """The API insists on an object."""
    if parameters is None:
        return {"type": "object", "properties": {}}
    return parameters if "type" in parameters else {"type": "object", **parameters}


def _add_tool_choice(body: Body, request: Request, drops: Drops) -> None:
    choice = request.tool_choice
    one_at_a_time = request.parallel_tool_calls is False and bool(request.tools)
    if choice is None and not one_at_a_time:
        return
    chosen = _tool_choice(choice or ToolChoice("auto"))
    if one_at_a_time and chosen["type"] != "none":
        chosen["disable_parallel_tool_use"] = True
    if choice is not None:
        drops.take(chosen, choice.extra, "tool_choice")
    body["tool_choice"] = chosen


def _tool_choice(choice: ToolChoice) -> Body:
    if choice.mode == "named":
        if not choice.names:
            raise RequestError("tool_choice is 'named' but names no tool", param="tool_choice")
        if len(choice.names) == 1:
            return {"type": "tool", "name": choice.names[0]}
    if choice.names:
        raise UnsupportedFeature(
            "Anthropic's tool_choice names one tool or none; leave the others out of `tools` instead",
            param="tool_choice",
        )
    return {"type": "any" if choice.mode == "required" else choice.mode}


# --- thinking ------------------------------------------------------------------------------------


def _add_thinking(body: Body, request: Request, max_tokens: int, unthought: bool, drops: Drops) -> None:
    """`thinking`, the effort in `output_config`, and room in `max_tokens` where the caller set no limit."""
    thinking = request.thinking
    if thinking is None:
        return
    if request.wire is not None and request.wire.dialect == DIALECT:
        _as_said(body, thinking, drops)
        return
    word, _ = effort(thinking)
    if word == "none":
        body["thinking"] = {"type": "disabled"}
        return
    if word is None and not thinking.include_text:
        if thinking != _NO_THINKING:
            drops.add("thinking")
        return
    by_budget = thinks_by_budget(request.model)
    if by_budget and (thinking.budget_tokens is not None or not thinks_by_effort(request.model)):
        chosen = _by_budget(body, thinking, max_tokens, unthought, drops)
    else:
        chosen = {"type": "adaptive"}
        _add_effort(body, thinking, word, drops)
        _make_room(body, min(budget(thinking) or _DEFAULT_BUDGET, _MAX_ROOM), max_tokens)
    if chosen is not None:
        _add_display(chosen, thinking, drops)
        body["thinking"] = chosen


def _as_said(body: Body, thinking: Thinking, drops: Drops) -> None:
    """For a caller of this dialect, who knows what the model takes."""
    if thinking.effort is not None:
        body["output_config"] = {"effort": thinking.effort}
    if thinking.enabled is False:
        body["thinking"] = {"type": "disabled"}
    elif thinking.enabled or thinking.budget_tokens is not None:
        tokens = thinking.budget_tokens
        body["thinking"] = (
            {"type": "adaptive"} if tokens is None else {"type": "enabled", "budget_tokens": tokens}
        )
        _add_display(body["thinking"], thinking, drops)


_NO_THINKING = Thinking()


def _by_budget(body: Body, thinking: Thinking, max_tokens: int, unthought: bool, drops: Drops) -> Body | None:
    """Thinking counts towards `max_tokens`, and has to leave room below it. None where it cannot be had."""
    asked = budget(thinking)
    tokens = max(asked or _DEFAULT_BUDGET, MIN_BUDGET)
    limit = body.get("max_tokens")
    if unthought or (limit is not None and limit <= MIN_BUDGET):
        drops.add("thinking")
        return None
    if limit is not None and tokens >= limit:
        tokens = max(limit // 2, MIN_BUDGET)
    if thinking.budget_tokens is not None and tokens != thinking.budget_tokens:
        drops.add("thinking")
    _make_room(body, tokens, max_tokens)
    return {"type": "enabled", "budget_tokens": tokens}


_DEFAULT_BUDGET = 8_192
_MAX_ROOM = 24_576


def _make_room(body: Body, tokens: int, max_tokens: int) -> None:
    """For thoughts beside the answer, where the caller set no limit to both."""
    if "max_tokens" in body and body["max_tokens"] is None:
        body["max_tokens"] = tokens + max_tokens


def _add_effort(body: Body, thinking: Thinking, word: str | None, drops: Drops) -> None:
    """The model decides how much to think: a budget is only the effort nearest to it."""
    if thinking.budget_tokens is not None:
        drops.add("thinking")
    elif thinking.effort is None:
        return
    if word == "minimal":
        drops.add("thinking")
        word = "low"
    if word not in _EFFORTS:
        raise UnsupportedFeature(
            f"Anthropic knows no effort '{word}'; give low, medium, high, xhigh or max",
            param="thinking.effort",
        )
    body.setdefault("output_config", {})["effort"] = word


def _add_display(chosen: Body, thinking: Thinking, drops: Drops) -> None:
    """Whether the thoughts are to be read, and in which form."""
    if thinking.include_text is False:
        chosen["display"] = "omitted"
    elif thinking.include_text or thinking.summary is not None:
        chosen["display"] = "summarized"
    if thinking.summary not in {None, "auto", "summarized"}:
        drops.add("thinking.summary")


# --- output and parameters -----------------------------------------------------------------------


def _format(output: Output, drops: Drops) -> Body:
    match output:
        case SchemaOutput():
            if output.name != SchemaOutput({}).name:
                drops.add("output.name")
            if output.description is not None:
                drops.add("output.description")
            return {"type": "json_schema", "schema": output.schema}
        case JsonOutput():
            raise UnsupportedFeature(
                "Anthropic holds JSON to a schema only; give a JSON schema for the output", param="output"
            )
        case TextOutput():
            raise AssertionError("text needs no format")
        case _:
            assert_never(output)


def _refuse(request: Request) -> None:
    """What the API has no place for, and what the answer depends on."""
    sampling = request.sampling
    asked = {
        "choices": request.choices != 1,
        "modalities": any(kind.lower() != "text" for kind in request.modalities),
        "audio": request.audio is not None,
        "frequency_penalty": bool(sampling.frequency_penalty),
        "presence_penalty": bool(sampling.presence_penalty),
        "logit_bias": bool(sampling.logit_bias),
        "top_logprobs": sampling.top_logprobs is not None,
    }
    for name, given in asked.items():
        if given:
            raise UnsupportedFeature(f"Anthropic has no {_NAMES.get(name, name)}; leave it out", param=name)


_NAMES = {
    "choices": "way to answer one call several times ('choices')",
    "modalities": "output but text ('modalities')",
    "audio": "spoken output ('audio')",
    "top_logprobs": "log probabilities ('top_logprobs')",
}


def _add_sampling(body: Body, request: Request, drops: Drops) -> None:
    sampling = request.sampling
    if sampling == _NO_SAMPLING:
        return
    if sampling.stop:
        body["stop_sequences"] = list(sampling.stop)
    if (temperature := sampling.temperature) is not None:
        if not 0 <= temperature <= 1:
            raise UnsupportedFeature(
                f"Anthropic takes a temperature from 0 to 1, not {temperature:g}; lower it or leave it out",
                param="temperature",
            )
        if temperature != 1 or takes_sampling(request.model):
            body["temperature"] = temperature
    if sampling.top_p is not None and not (sampling.top_p == 1 and _top_p_is_amiss(request)):
        body["top_p"] = sampling.top_p
    if sampling.top_k is not None:
        body["top_k"] = sampling.top_k
    if sampling.seed is not None:
        drops.add("seed")


def _top_p_is_amiss(request: Request) -> bool:
    """Whether the model refuses to be told even what it does by itself."""
    if not takes_sampling(request.model):
        return True
    return request.sampling.temperature is not None and takes_one_of_temperature_and_top_p(request.model)


def _add_options(body: Body, request: Request, drops: Drops) -> None:
    if request.user is not None:
        body["metadata"] = {"user_id": request.user}
    if request.metadata:
        drops.add("metadata")
    if request.service_tier is not None:
        if (tier := _TIERS.get(request.service_tier)) is not None:
            body["service_tier"] = tier
        else:
            drops.add("service_tier")
    if request.stream:
        body["stream"] = True
