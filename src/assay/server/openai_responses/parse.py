"""What a Responses call means: a canonical Request, and what its reply repeats of it. Items are in .items."""

from __future__ import annotations

from typing import Any, Literal, assert_never

import msgspec

from assay.errors import RequestError, UnsupportedFeature
from assay.providers.openai_responses.request import ENCRYPTED, LOGPROBS
from assay.providers.openai_responses.vocabulary import DIALECT
from assay.server.dialect import Parsed
from assay.server.openai_responses import body as wire
from assay.server.openai_responses.errors import body_error
from assay.server.openai_responses.items import decode, messages_of
from assay.types import (
    JSON,
    CustomTool,
    Extra,
    FunctionTool,
    HostedTool,
    JsonOutput,
    Message,
    Operation,
    Output,
    Request,
    Sampling,
    SchemaOutput,
    TextOutput,
    Thinking,
    ToolChoice,
    ToolSpec,
    Value,
    replace,
    system,
    user,
)


class Options(Value):
    """What the reply repeats of the call (`echo`, as the wire has it), and whether it may be kept."""

    echo: dict[str, JSON] = {}  # noqa: RUF012  (msgspec copies it for each value)
    store: bool = True
    previous_response_id: str | None = None

    @property
    def kept(self) -> dict[str, JSON] | None:
        """What has to be stored with the call for its reply to be given again; None: it must not be."""
        return self.echo if self.store else None


_BODY = msgspec.json.Decoder(wire.Body)
_TEXT_OUTPUT = TextOutput()


def parse(body: bytes, model: str = "") -> Parsed:
    """The Request and the form its reply shall have.

    Raises RequestError, with `param` naming the field: for what is not JSON, fields that the API lacks
    (with the nearest that it has), wrong types, values out of range, and what is not served here.

    >>> request, options = parse(b'{"model":"m","input":"Hi","temperature":0}')
    >>> request.messages[0].text, request.sampling.temperature, options.store
    ('Hi', 0.0, True)
    """
    return _parsed(body, model, "chat")


def parse_count(body: bytes, model: str = "") -> Parsed:
    """The same call, of which only the tokens are counted."""
    request, options = _parsed(body, model, "count_tokens")
    return Parsed(replace(request, stream=False), options)


def _parsed(body: bytes, model: str, operation: Operation) -> Parsed:
    try:
        call = _BODY.decode(body)
    except (ValueError, RecursionError) as error:
        raise body_error(error) from error
    _refuse(call)
    tools = tuple(_tool(raw, number) for number, raw in enumerate(call.tools or ()))
    request = Request(
        model=model or call.model,
        messages=_messages(call),
        operation=operation,
        sampling=_sampling(call),
        tools=tools,
        tool_choice=_tool_choice(call.tool_choice),
        parallel_tool_calls=call.parallel_tool_calls,
        output=_output(call.text.format if call.text is not None else None),
        thinking=_thinking(call.reasoning),
        stream=bool(call.stream),
        service_tier=call.service_tier,
        user=call.user,
        metadata=None if call.metadata is None else {**call.metadata},
        extra=_extra(call, tools),
    )
    return Parsed(request, Options(_echo(call), call.store is not False, call.previous_response_id))


def _refuse(call: wire.Body) -> None:
    """What would need a server that keeps conversations, or works on when the caller is gone."""
    if call.conversation is not None:
        raise UnsupportedFeature(
            "Conversations are not kept here; leave out 'conversation' and go on with "
            "'previous_response_id', or send the whole conversation as 'input'",
            param="conversation",
        )
    if call.background or call.background_options is not None:
        raise UnsupportedFeature(
            "Responses are not made in the background here; leave out 'background' and wait for the reply, "
            "or read it as a stream",
            param="background",
        )
    options = call.stream_options
    if options is not None and not call.stream:
        raise RequestError("'stream_options' is only allowed when 'stream' is true", param="stream_options")
    if options is not None and options.include_obfuscation:
        raise UnsupportedFeature(
            "Streams are not padded here; leave out 'stream_options.include_obfuscation'",
            param="stream_options.include_obfuscation",
        )


def _messages(call: wire.Body) -> tuple[Message, ...]:
    said: tuple[Message, ...] = ()
    match call.input:
        case str() as text:
            said = (user(text),)
        case [_, *_] as items:
            said = messages_of(items)
        case _ if call.previous_response_id is None and call.prompt is None:
            raise RequestError(
                "Missing required parameter: 'input'; give a string, or at least one item", param="input"
            )
        case _:
            pass
    return said if call.instructions is None else (system(call.instructions), *said)


# --- parameters ----------------------------------------------------------------------------------


def _sampling(call: wire.Body) -> Sampling:
    top = call.top_logprobs
    told = LOGPROBS in (call.include or ())
    return Sampling(
        max_tokens=call.max_output_tokens,
        temperature=call.temperature,
        top_p=call.top_p,
        top_logprobs=(top or 0) if told else (top or None),
    )


def _thinking(given: wire.ReasoningConfig | None) -> Thinking | None:
    if given is None:
        return None
    summary = given.summary if given.summary is not None else given.generate_summary
    if given.effort == "none":
        return Thinking(enabled=False)
    if given.effort is None and summary is None:
        return None
    return Thinking(effort=given.effort, summary=summary)


def _output(
    given: wire.TextFormat | wire.JsonFormat | wire.SchemaFormat | None,
) -> Output:
    match given:
        case None | wire.TextFormat():
            return _TEXT_OUTPUT
        case wire.JsonFormat():
            return JsonOutput()
        case wire.SchemaFormat():
            return SchemaOutput(given.schema, given.name, given.description, given.strict)
        case _:
            assert_never(given)


def _extra(call: wire.Body, tools: tuple[ToolSpec, ...]) -> Extra | None:
    """Fields without a canonical name. Those about hosted tools say nothing where there are none."""
    fields: dict[str, JSON] = {
        name: value for name in wire.EXTRA_FIELDS if (value := getattr(call, name)) is not None
    }
    if call.truncation == "auto":
        fields["truncation"] = "auto"
    if call.text is not None and call.text.verbosity is not None:
        fields["verbosity"] = call.text.verbosity
    if call.reasoning is not None:
        more = {"context": call.reasoning.context, "mode": call.reasoning.mode}
        if found := {name: value for name, value in more.items() if value is not None}:
            fields["reasoning"] = found
    hosted = any(isinstance(tool, HostedTool) for tool in tools)
    if hosted and call.max_tool_calls is not None:
        fields["max_tool_calls"] = call.max_tool_calls
    if include := [one for one in call.include or () if one == ENCRYPTED or (hosted and one != LOGPROBS)]:
        fields["include"] = include
    return Extra(DIALECT, fields) if fields else None


# --- tools ---------------------------------------------------------------------------------------


def _tool(raw: msgspec.Raw, number: int) -> ToolSpec:
    path = f"tools[{number}]"
    head = decode(raw, wire.Head, path)
    match head.type:
        case "function":
            function = decode(raw, wire.Function, path)
            own = ("allowed_callers", "defer_loading", "output_schema", "is_async")
            found = {
                name.removeprefix("is_"): value
                for name in own
                if (value := getattr(function, name)) is not None
            }
            extra = Extra(DIALECT, found) if found else None
            return FunctionTool(
                function.name, function.description, function.parameters, function.strict, extra=extra
            )
        case "custom":
            custom = decode(raw, wire.Custom, path)
            if custom.allowed_callers or custom.is_async or custom.defer_loading:
                return HostedTool(DIALECT, msgspec.json.decode(raw))
            return CustomTool(custom.name, custom.description, custom.format)
        case None:
            raise RequestError(f"Missing required parameter: '{path}.type'", param=f"{path}.type")
        case _:
            return HostedTool(DIALECT, msgspec.json.decode(raw))


def _tool_choice(given: str | dict[str, Any] | None) -> ToolChoice | None:
    match given:
        case None:
            return None
        case "none" | "auto" | "required":
            return ToolChoice(given)
        case {"type": "function" | "custom", "name": str() as name}:
            return ToolChoice("named", (name,))
        case {"type": "allowed_tools", "mode": "auto" | "required" as mode, "tools": [_, *_] as tools}:
            names = [tool["name"] for tool in tools if _is_named(tool)]
            how: Literal["auto", "named"] = "auto" if mode == "auto" else "named"
            if len(names) == len(tools):
                return ToolChoice(how, tuple(names))
            return ToolChoice("required" if mode == "required" else "auto", extra=_as_given(given))
        case {"type": "function" | "custom"}:
            raise RequestError("Missing required parameter: 'tool_choice.name'", param="tool_choice.name")
        case {"type": "allowed_tools"}:
            raise RequestError(
                "Invalid 'tool_choice': allowed_tools needs 'mode' (auto or required) and at least one "
                "entry in 'tools'",
                param="tool_choice",
            )
        case {"type": str()}:
            return ToolChoice("required", extra=_as_given(given))
        case _:
            raise RequestError(
                f"Invalid value for 'tool_choice': {str(given)[:100]!r}; supported values are none, auto, "
                "required, and an object with a 'type'",
                param="tool_choice",
            )


def _is_named(tool: Any) -> bool:
    match tool:
        case {"type": "function" | "custom", "name": str()}:
            return True
        case _:
            return False


def _as_given(choice: Any) -> Extra:
    return Extra(DIALECT, {"tool_choice": choice})


# --- what the reply repeats ----------------------------------------------------------------------


def _echo(call: wire.Body) -> dict[str, JSON]:
    """The fields of a response that say how it was asked for, with OpenAI's defaults for what was not."""
    given = {**NOTHING_ASKED}
    for name in _REPEATED:
        if (value := getattr(call, name)) is not None:
            given[name] = value
    given["reasoning"] = {"effort": None, "summary": None, **_present(call.reasoning)}
    given["text"] = {"format": {"type": "text"}, **_present(call.text)}
    given["tools"] = [_echoed(msgspec.json.decode(raw)) for raw in call.tools or ()]
    return given


_REPEATED = (
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "parallel_tool_calls",
    "previous_response_id",
    "prompt",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "store",
    "temperature",
    "tool_choice",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
)

NOTHING_ASKED: dict[str, JSON] = {
    "frequency_penalty": 0.0,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "presence_penalty": 0.0,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
"""What is said of a call that asked for nothing in particular."""


def _present(given: msgspec.Struct | None) -> dict[str, JSON]:
    if given is None:
        return {}
    fields: dict[str, JSON] = msgspec.to_builtins(given)
    return {name: value for name, value in fields.items() if value is not None}


def _echoed(tool: dict[str, JSON]) -> dict[str, JSON]:
    """A function's fields that a response must have, null where the caller gave none."""
    if tool.get("type") != "function":
        return tool
    return {"description": None, "parameters": None, "strict": None, **tool}
