"""What a Gemini call means: a canonical Request. Shapes are .body's concern, contents .contents's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from assay.errors import RequestError, UnsupportedFeature
from assay.providers.gemini.vocabulary import DIALECT
from assay.server.dialect import Parsed
from assay.server.gemini import body as wire
from assay.server.gemini.body import about, decode
from assay.server.gemini.contents import message, messages
from assay.server.gemini.schema import json_schema
from assay.types import (
    Extra,
    FunctionTool,
    HostedTool,
    JsonOutput,
    Message,
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
)


class Options(Value):
    """What the caller asked about the form of the reply; the model never sees it."""

    include_thoughts: bool = False


_NO_CONFIG = wire.GenerationConfig()
_TEXT_OUTPUT = TextOutput()


def parse_generate(body: bytes, model: str, *, stream: bool) -> Parsed:
    """A call of generateContent or streamGenerateContent; `model` is the name in the path.

    Raises RequestError, with `param` naming the field: for what is not JSON, fields that the API lacks
    (with the nearest that it has), wrong types, values out of range, and what contradicts itself.

    >>> parsed = parse_generate(b'{"contents":[{"parts":[{"text":"Hi"}]}]}', "m", stream=False)
    >>> parsed.request.model, parsed.request.messages[0].text
    ('m', 'Hi')
    """
    try:
        call = decode(wire.Generate, body)
        request = _generate(call, model, "")
    except RecursionError:
        raise RequestError("Invalid JSON payload received. It is nested too deeply; flatten it") from None
    thinking = request.thinking
    shown = thinking is not None and thinking.include_text is True
    return Parsed(replace(request, stream=True) if stream else request, Options(include_thoughts=shown))


def parse_count(body: bytes, model: str) -> Parsed:
    """A call of countTokens, of contents alone or of a whole call of generateContent."""
    try:
        call = decode(wire.CountTokens, body)
        whole = call.generate_content_request
        if whole is not None and call.contents is not None:
            raise RequestError(
                "Give either 'contents' or 'generateContentRequest', not both", param="generateContentRequest"
            )
        if whole is None:
            request = Request(_model(model), messages(call.contents, "contents"))
        else:
            request = _generate(whole, model, "generateContentRequest.")
    except RecursionError:
        raise RequestError("Invalid JSON payload received. It is nested too deeply; flatten it") from None
    return Parsed(replace(request, operation="count_tokens"))


def parse_embed(body: bytes, model: str) -> Parsed:
    """A call of embedContent: one input."""
    call = decode(wire.Embed, body)
    return Parsed(_embeddings([call], model, [""]))


def parse_batch(body: bytes, model: str) -> Parsed:
    """A call of batchEmbedContents: many inputs, which go on together and so must ask for the same."""
    calls = decode(wire.BatchEmbed, body).requests
    if not calls:
        raise RequestError("requests is not specified; give at least one", param="requests")
    return Parsed(_embeddings(calls, model, [f"requests[{number}]." for number in range(len(calls))]))


# --- a call --------------------------------------------------------------------------------------


def _model(model: str, given: str | None = None, path: str = "model") -> str:
    """The name without Google's prefix. The body may say it again, and nothing else."""
    name = model.removeprefix("models/")
    if given is not None and given.removeprefix("models/") != name:
        raise RequestError(
            f"'{path}' is '{given[:100]}', but the path says '{name}'; leave it out", param=path
        )
    return name


def _generate(call: wire.Generate, model: str, at: str) -> Request:
    """`at` is where the call stands in its body: "", or ends with a dot."""
    config = call.generation_config or _NO_CONFIG
    inner = f"{at}generationConfig."
    instruction: tuple[Message, ...] = ()
    if call.system_instruction is not None:
        said = message(call.system_instruction, f"{at}systemInstruction")
        instruction = (replace(said, role="system"),)
    output, fields = _output(config, inner)
    fields = {**about(call, "service_tier"), **about(config, "thinking_config"), **fields}
    choice: ToolChoice | None = None
    if call.tool_config is not None:
        choice = _tool_choice(call.tool_config.function_calling_config, f"{at}toolConfig.")
        fields |= about(call.tool_config, "function_calling_config")
    return Request(
        model=_model(model, call.model, f"{at}model"),
        messages=(*instruction, *messages(call.contents, f"{at}contents")),
        sampling=_sampling(config, inner),
        tools=tuple(_tools(call.tools or (), f"{at}tools")),
        tool_choice=choice,
        output=output,
        modalities=tuple(one.lower() for one in config.response_modalities or ()),
        thinking=_thinking(config.thinking_config, inner),
        choices=_choices(config.candidate_count, inner),
        service_tier=call.service_tier,
        extra=Extra(DIALECT, fields) if fields else None,
    )


def _choices(count: int | None, at: str) -> int:
    if count is not None and count < 1:
        raise RequestError(f"{at}candidateCount must be at least 1", param=f"{at}candidateCount")
    return 1 if count is None else count


def _sampling(config: wire.GenerationConfig, at: str) -> Sampling:
    if config.logprobs is not None and not config.response_logprobs:
        raise RequestError(f"{at}logprobs needs responseLogprobs to be true", param=f"{at}logprobs")
    for name, value, low, high in (
        ("maxOutputTokens", config.max_output_tokens, 1, None),
        ("temperature", config.temperature, 0, 2),
        ("topP", config.top_p, 0, 1),
        ("topK", config.top_k, 1, None),
        ("presencePenalty", config.presence_penalty, -2, 2),
        ("frequencyPenalty", config.frequency_penalty, -2, 2),
        ("logprobs", config.logprobs, 0, 20),
    ):
        if value is not None and (value < low or (high is not None and value > high)):
            bounds = f"at least {low}" if high is None else f"from {low} to {high}"
            raise RequestError(f"{at}{name} is {value}; it must be {bounds}", param=f"{at}{name}")
    return Sampling(
        max_tokens=config.max_output_tokens,
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=config.top_k,
        stop=tuple(config.stop_sequences or ()),
        seed=config.seed,
        frequency_penalty=config.frequency_penalty,
        presence_penalty=config.presence_penalty,
        top_logprobs=(config.logprobs or 0) if config.response_logprobs else None,
    )


def _thinking(config: wire.ThinkingConfig | None, at: str) -> Thinking | None:
    if config is None or config == wire.ThinkingConfig():
        return None
    path = f"{at}thinkingConfig"
    budget, level = config.thinking_budget, config.thinking_level
    if budget is not None and level is not None:
        raise RequestError(f"{path} has thinkingBudget and thinkingLevel; give one of them", param=path)
    if budget is not None and budget < -1:
        raise RequestError(
            f"{path}.thinkingBudget is {budget}; it must be -1 (as the model likes), 0 (off) or more",
            param=f"{path}.thinkingBudget",
        )
    effort = None if level is None else level.lower()
    return Thinking(
        enabled=None if budget is None else budget != 0,
        effort=None if effort == "thinking_level_unspecified" else effort,
        budget_tokens=budget if budget is not None and budget > 0 else None,
        include_text=config.include_thoughts,
    )


def _output(config: wire.GenerationConfig, at: str) -> tuple[Output, dict[str, Any]]:
    """What shape the answer has; and the fields that say it, where a Request has no word for it."""
    media_type, schema, given = config.response_mime_type, config.response_schema, config.response_json_schema
    if schema is not None and given is not None:
        raise RequestError(
            f"{at}responseSchema and {at}responseJsonSchema exclude each other; give one",
            param=f"{at}responseJsonSchema",
        )
    if config.response_format is not None:
        if media_type is not None or schema is not None or given is not None:
            raise RequestError(
                f"{at}responseFormat takes the place of responseMimeType and the schemas; give it alone",
                param=f"{at}responseFormat",
            )
        return _format(config.response_format)
    wanted = schema if schema is not None else given
    if media_type == "application/json":
        if wanted is None:
            return JsonOutput(), {}
        return SchemaOutput(json_schema(wanted) if schema is not None else wanted), {}
    if media_type in (None, "text/plain"):
        if wanted is None:
            return _TEXT_OUTPUT, {}
        raise RequestError(
            f"A schema for the response needs {at}responseMimeType to be 'application/json'",
            param=f"{at}responseMimeType",
        )
    fields = {"responseMimeType": media_type, "responseSchema": schema, "responseJsonSchema": given}
    return _TEXT_OUTPUT, {name: value for name, value in fields.items() if value is not None}


def _format(formats: list[dict[str, Any]]) -> tuple[Output, dict[str, Any]]:
    """The newer way to ask for a shape: of one text, or of several media."""
    match formats:
        case [{"text": {"mimeType": "application/json", "schema": dict(schema), **rest}, **others}]:
            if not rest and not others:
                return SchemaOutput(schema), {}
        case [{"text": {"mimeType": "application/json", **rest}, **others}]:
            if not rest and not others:
                return JsonOutput(), {}
        case _:
            pass
    return _TEXT_OUTPUT, {"responseFormat": formats}


# --- tools ---------------------------------------------------------------------------------------


def _tools(tools: Sequence[wire.Tool], path: str) -> Iterator[ToolSpec]:
    for number, tool in enumerate(tools):
        place = f"{path}[{number}].functionDeclarations"
        for index, function in enumerate(tool.function_declarations or ()):
            yield _function(function, f"{place}[{index}]")
        if hosted := about(tool, "function_declarations"):
            yield HostedTool(DIALECT, hosted)


def _function(function: wire.FunctionDeclaration, path: str) -> FunctionTool:
    parameters = function.parameters_json_schema
    if function.parameters is not None:
        if parameters is not None:
            raise RequestError(
                f"{path}.parameters and parametersJsonSchema exclude each other; give one",
                param=f"{path}.parametersJsonSchema",
            )
        parameters = json_schema(function.parameters)
    fields = about(function, "parameters_json_schema")
    return FunctionTool(
        function.name,
        function.description,
        parameters,
        extra=Extra(DIALECT, fields) if fields else None,
    )


def _tool_choice(config: wire.FunctionCallingConfig | None, at: str) -> ToolChoice | None:
    if config is None:
        return None
    path = f"{at}functionCallingConfig"
    mode = (config.mode or "AUTO").upper()
    names = tuple(config.allowed_function_names or ())
    if config.stream_function_call_arguments:
        raise UnsupportedFeature(
            "Arguments of calls are not streamed here; leave out 'streamFunctionCallArguments'",
            param=f"{path}.streamFunctionCallArguments",
        )
    if names and mode not in ("ANY", "VALIDATED"):
        raise RequestError(
            f"{path}.allowedFunctionNames should only be set when mode is ANY or VALIDATED",
            param=f"{path}.allowedFunctionNames",
        )
    match mode:
        case "AUTO" | "MODE_UNSPECIFIED":
            return ToolChoice("auto") if config.mode else None
        case "NONE":
            return ToolChoice("none")
        case "ANY":
            return ToolChoice("named", names) if names else ToolChoice("required")
        case "VALIDATED":
            # Held to some tools, and to their schemas: only the latter has no other word.
            return ToolChoice("auto", names, None if names else Extra(DIALECT, {"mode": mode}))
        case _:
            raise RequestError(
                f"Invalid value at '{path}.mode': '{mode[:100]}'; supported values are "
                "AUTO, ANY, NONE, VALIDATED",
                param=f"{path}.mode",
            )


# --- embeddings ----------------------------------------------------------------------------------


def _embeddings(calls: Sequence[wire.Embed], model: str, places: Sequence[str]) -> Request:
    """Each content is one input. What is said of one input alone stands with it, else with the call."""
    name = _model(model)
    inputs: list[Message] = []
    asked: list[dict[str, Any]] = []
    for call, at in zip(calls, places, strict=True):
        _model(model, call.model, f"{at}model")
        if call.content is None:
            raise RequestError(f"{at}content is not specified", param=f"{at}content")
        if call.output_dimensionality != calls[0].output_dimensionality:
            raise UnsupportedFeature(
                f"{at}outputDimensionality differs from that of the first request; send them apart",
                param=f"{at}outputDimensionality",
            )
        inputs.append(message(call.content, f"{at}content"))
        asked.append(about(call, "output_dimensionality"))
    dimensions = calls[0].output_dimensionality
    if dimensions is not None and dimensions < 1:
        path = f"{places[0]}outputDimensionality"
        raise RequestError(f"{path} must be at least 1", param=path)
    extra: Extra | None = None
    if all(fields == asked[0] for fields in asked):
        extra = Extra(DIALECT, asked[0]) if asked[0] else None
    else:
        inputs = [
            replace(said, extra=Extra(DIALECT, fields)) if fields else said
            for said, fields in zip(inputs, asked, strict=True)
        ]
    return Request(name, tuple(inputs), operation="embeddings", dimensions=dimensions, extra=extra)
