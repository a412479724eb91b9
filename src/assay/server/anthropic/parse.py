"""What a Messages call asks: a canonical Request. The shape of its body is in .body, turns in .content."""

from __future__ import annotations

import re
from typing import Any, TypeAlias, assert_never

import msgspec

from assay.providers.anthropic.vocabulary import DIALECT
from assay.server.anthropic import body as wire
from assay.server.anthropic.content import cache, given, messages, read, system
from assay.server.anthropic.errors import Fault, body_error, nearest
from assay.server.dialect import Parsed
from assay.types import (
    Extra,
    FunctionTool,
    HostedTool,
    Message,
    Output,
    Request,
    Sampling,
    SchemaOutput,
    TextOutput,
    Thinking,
    ToolChoice,
    ToolSpec,
)

Fields: TypeAlias = dict[str, Any]

_BODY = msgspec.json.Decoder(wire.Body)
_COUNT_BODY = msgspec.json.Decoder(wire.CountBody)
_TEXT_OUTPUT = TextOutput()
_DATED = re.compile(r"[a-z0-9_]+_20\d{6}")


def parse(body: bytes, _model: str = "") -> Parsed:
    """A call for a message.

    Raises RequestError, with `param` naming the field as Anthropic does (`messages.0.content.1.text`): for
    what is not JSON, fields that the API lacks (with the nearest that it has), wrong types and values out of
    range.

    >>> call = b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"Hi"}],"temperature":0}'
    >>> request, _ = parse(call)
    >>> request.messages[0].text, request.sampling.max_tokens, request.sampling.temperature
    ('Hi', 9, 0.0)
    """
    try:
        call = _BODY.decode(body)
    except (ValueError, RecursionError) as error:
        raise body_error(error, wire.Body.__struct_fields__) from error
    try:
        request = _asked(call)
    except Fault as fault:
        raise fault.error() from fault
    sampling = Sampling(
        max_tokens=call.max_tokens,
        temperature=call.temperature,
        top_p=call.top_p,
        top_k=call.top_k,
        stop=tuple(call.stop_sequences or ()),
    )
    return Parsed(
        msgspec.structs.replace(
            request,
            sampling=sampling,
            stream=bool(call.stream),
            service_tier=call.service_tier,
            user=call.metadata.user_id if call.metadata is not None else None,
        )
    )


def parse_count(body: bytes, _model: str = "") -> Parsed:
    """A call for the number of tokens that a message's input has. Raises as `parse` does."""
    try:
        call = _COUNT_BODY.decode(body)
    except (ValueError, RecursionError) as error:
        raise body_error(error, wire.CountBody.__struct_fields__) from error
    try:
        return Parsed(msgspec.structs.replace(_asked(call), operation="count_tokens"))
    except Fault as fault:
        raise fault.error() from fault


def _asked(call: wire.Asked) -> Request:
    prompt = system(call.system) if call.system is not None else None
    turns: tuple[Message, ...] = tuple(messages(call.messages))
    thinking, of_thinking = _thinking(call)
    output, of_output = _output(call.output_config)
    own = given(call, type(call).extra_fields)
    own |= {
        name: fields for name, fields in (("thinking", of_thinking), ("output_config", of_output)) if fields
    }
    parallel = getattr(call.tool_choice, "disable_parallel_tool_use", None)
    return Request(
        call.model,
        turns if prompt is None else (prompt, *turns),
        tools=tuple(_tools(call.tools or [])),
        tool_choice=_tool_choice(call.tool_choice),
        parallel_tool_calls=None if parallel is None else not parallel,
        output=output,
        thinking=thinking,
        extra=Extra(DIALECT, own) if own else None,
    )


# --- tools ---------------------------------------------------------------------------------------


def _tools(tools: list[Fields]) -> list[ToolSpec]:
    specs = []
    for number, tool in enumerate(tools):
        try:
            specs.append(_tool(tool))
        except Fault as fault:
            raise fault.within(f"tools.{number}") from None
    return specs


def _tool(tool: Fields) -> ToolSpec:
    kind = tool.get("type")
    if kind is None or kind == "custom":
        body = read(tool, wire.ToolBody)
        own = given(body, wire.TOOL_EXTRA_FIELDS)
        return FunctionTool(
            body.name,
            body.description,
            body.input_schema,
            body.strict,
            cache(body.cache_control),
            Extra(DIALECT, own) if own else None,
        )
    if isinstance(kind, str) and (_DATED.fullmatch(kind) or kind in wire.UNDATED_TOOLS):
        return HostedTool(DIALECT, tool)
    hint = nearest(kind, ("custom", *wire.UNDATED_TOOLS)) if isinstance(kind, str) else ""
    told = repr(kind)[:100]
    raise Fault(
        "type",
        f"Input should be 'custom' or a dated tool such as 'web_search_20250305', but got {told}{hint}",
    )


def _tool_choice(
    choice: wire.AutoChoice | wire.AnyChoice | wire.ToolChoiceBody | wire.NoneChoice | None,
) -> ToolChoice | None:
    match choice:
        case None:
            return None
        case wire.AutoChoice():
            return ToolChoice("auto")
        case wire.AnyChoice():
            return ToolChoice("required")
        case wire.ToolChoiceBody():
            return ToolChoice("named", (choice.name,))
        case wire.NoneChoice():
            return ToolChoice("none")
        case _:
            assert_never(choice)


# --- thinking and output -------------------------------------------------------------------------


def _thinking(call: wire.Asked) -> tuple[Thinking | None, Fields]:
    """How much to reason; what of it has no canonical name is Anthropic's own."""
    effort = call.output_config.effort if call.output_config is not None else None
    asked = call.thinking
    match asked:
        case None:
            return (Thinking(effort=effort) if effort is not None else None), {}
        case wire.DisabledThinking():
            return Thinking(enabled=False, effort=effort), {}
        case wire.BetweenToolsThinking():
            return (Thinking(effort=effort) if effort is not None else None), {"type": "between_tools"}
        case wire.EnabledThinking():
            return Thinking(True, effort, asked.budget_tokens, include_text=_shown(asked)), _own(asked)
        case wire.AdaptiveThinking():
            return Thinking(True, effort, include_text=_shown(asked)), _own(asked)
        case _:
            assert_never(asked)


def _shown(asked: wire.EnabledThinking | wire.AdaptiveThinking) -> bool | None:
    return {"summarized": True, "omitted": False}.get(asked.display or "")


def _own(asked: wire.EnabledThinking | wire.AdaptiveThinking) -> Fields:
    own: Fields = {} if asked.block_binding is None else {"block_binding": asked.block_binding}
    return {**own, "display": "updates"} if asked.display == "updates" else own


def _output(config: wire.OutputConfig | None) -> tuple[Output, Fields]:
    """The form of the answer, and what is Anthropic's own about it."""
    if config is None:
        return _TEXT_OUTPUT, {}
    own = {} if config.task_budget is None else {"task_budget": config.task_budget}
    return (_TEXT_OUTPUT if config.format is None else SchemaOutput(config.format.schema)), own
