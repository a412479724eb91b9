"""A canonical Request as the bodies of generateContent and countTokens. Messages live in .content. No I/O.

What is absent is left out, never sent as null. What the API has no place for is reported where the answer
does not depend on it, and refused where it does.
"""

from __future__ import annotations

import re
from typing import Any, assert_never

from assay.errors import RequestError, UnsupportedFeature
from assay.providers.gemini.content import Body, conversation, excuse, take
from assay.providers.gemini.schema import json_schema
from assay.providers.gemini.vocabulary import API, DIALECT, resource
from assay.providers.translation import Drops, budget, to_json
from assay.types import (
    CustomTool,
    FunctionTool,
    HostedTool,
    JsonOutput,
    Request,
    Sampling,
    SchemaOutput,
    TextOutput,
    Thinking,
    ToolChoice,
    ToolSpec,
)

_TIERS = {"flex": "flex", "priority": "priority", "standard": "standard", "default": "standard"}
_SAMPLING = {
    "max_tokens": "maxOutputTokens",
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}

_CONFIG = (
    "responseMimeType", "responseSchema", "responseJsonSchema", "responseFormat", "speechConfig",
    "imageConfig", "mediaResolution", "audioTimestamp", "audioTranscriptionConfig", "translationConfig",
    "enableAffectiveDialog", "enableEnhancedCivicAnswers", "routingConfig", "modelSelectionConfig",
)  # fmt: skip
_HOMES = dict.fromkeys(_CONFIG, "generationConfig") | {
    "retrievalConfig": "toolConfig",
    "includeServerSideToolInvocations": "toolConfig",
}
"""Fields of the request's Extra that are not the body's own, and which object has them."""


def encode_request(request: Request) -> tuple[bytes, tuple[str, ...]]:
    """The body of generateContent, and what is left out.

    Raises UnsupportedFeature for what the API cannot carry, RequestError for what makes no sense.
    """
    body, drops = _generate(request)
    return to_json(body), drops.paths


def encode_count(request: Request) -> tuple[bytes, tuple[str, ...]]:
    """The body of countTokens: of the messages alone, or of the whole call where more than they count."""
    body, drops = _generate(request)
    if set(body) == {"contents"}:
        return to_json(body), drops.paths
    return to_json({"generateContentRequest": {"model": resource(request.model), **body}}), drops.paths


def _generate(request: Request) -> tuple[Body, Drops]:
    drops = Drops(DIALECT, API)
    instruction, contents = conversation(request.messages, drops)
    if not contents:
        raise RequestError(
            f"{API} answers to a user's message, and this call has none; add one", param="messages"
        )
    if _SIGNING.search(request.model):
        excuse(contents)
    body: Body = {}
    if instruction is not None:
        body["systemInstruction"] = instruction
    body["contents"] = contents
    if request.tools:
        body["tools"] = _tools(request.tools, drops)
    if request.tool_choice is not None:
        _add_tool_choice(body, request.tool_choice, request.tools, drops)
    _add_parallel(request, drops)
    config = _generation_config(request, drops)
    if config:
        body["generationConfig"] = config
    _add_options(body, request, drops)
    if request.extra is not None and request.extra.dialect == DIALECT:
        _add_own(body, request.extra.fields)
    else:
        drops.take(body, request.extra, "")
    return body, drops


def _add_own(body: Body, fields: Body) -> None:
    """The API's own fields, each to the object that has it; what the request says in other words stays."""
    for name, value in fields.items():
        home = _HOMES.get(name)
        if home is not None:
            body.setdefault(home, {}).setdefault(name, value)
        elif name in {"generationConfig", "toolConfig"} and isinstance(value, dict):
            body[name] = {**value, **body.get(name, {})}
        else:
            body.setdefault(name, value)


# --- tools ---------------------------------------------------------------------------------------


def _tools(tools: tuple[ToolSpec, ...], drops: Drops) -> list[Body]:
    """All functions in one entry, where the first of them stood: the API wants no second list of them."""
    declarations: list[Body] = []
    found: list[Body] = []
    for number, tool in enumerate(tools):
        match tool:
            case FunctionTool():
                if not declarations:
                    found.append({"functionDeclarations": declarations})
                declarations.append(_declaration(tool, f"tools[{number}]", drops))
            case HostedTool(dialect="gemini", body=dict() as fields):
                found.append(fields)
            case HostedTool():
                raise UnsupportedFeature(
                    f"A tool that {tool.dialect} runs cannot be used with {API}; leave it out or "
                    "choose another model",
                    param=f"tools[{number}]",
                )
            case CustomTool():
                raise UnsupportedFeature(
                    f"{API} has no tools with free text; declare '{tool.name}' as a function with one string",
                    param=f"tools[{number}]",
                )
            case _:
                assert_never(tool)
    return found


def _declaration(tool: FunctionTool, where: str, drops: Drops) -> Body:
    body: Body = {"name": tool.name}
    if tool.description is not None:
        body["description"] = tool.description
    if tool.parameters is not None:
        at = f"{where}.parameters"
        parameters = tool.parameters
        if not {"type", "$ref", "anyOf", "oneOf", "allOf"} & parameters.keys():
            # What other APIs take for granted.
            parameters = {"type": "object", **parameters}
        body["parametersJsonSchema"] = json_schema(parameters, at, drops.add)
    if tool.strict is not None:
        drops.add(f"{where}.strict")
    if tool.cache is not None:
        drops.add(f"{where}.cache")
    take(body, tool.extra, where, drops)
    return body


def _add_tool_choice(body: Body, choice: ToolChoice, tools: tuple[ToolSpec, ...], drops: Drops) -> None:
    if choice.mode == "named" and not choice.names:
        raise RequestError("tool_choice is 'named' but names no tool", param="tool_choice")
    functions = any(isinstance(tool, FunctionTool) for tool in tools)
    if not functions and choice.mode in {"auto", "none"} and choice.extra is None:
        # The API refuses to be told how to choose among no functions.
        return
    if choice.mode == "none":
        config: Body = {"mode": "NONE"}
    elif choice.mode == "auto":
        # Names may stand only where a call is held to them: this mode answers or calls one of these.
        config = {"mode": "VALIDATED" if choice.names else "AUTO"}
    else:
        config = {"mode": "ANY"}
    if choice.names and choice.mode != "none":
        config["allowedFunctionNames"] = list(choice.names)
    if choice.extra is not None and choice.extra.dialect == DIALECT:
        config.update(choice.extra.fields)
    else:
        drops.take(config, choice.extra, "tool_choice")
    body["toolConfig"] = {"functionCallingConfig": config}


def _add_parallel(request: Request, drops: Drops) -> None:
    if request.parallel_tool_calls is None:
        return
    if request.parallel_tool_calls is False and request.tools:
        raise UnsupportedFeature(
            f"{API} cannot be held to one function call at a time; leave parallel_tool_calls out, or choose "
            "another model",
            param="parallel_tool_calls",
        )
    drops.add("parallel_tool_calls")


# --- generationConfig ----------------------------------------------------------------------------


def _generation_config(request: Request, drops: Drops) -> Body:
    config: Body = {}
    _add_sampling(config, request.sampling)
    if request.choices != 1:
        config["candidateCount"] = request.choices
    match request.output:
        case TextOutput():
            pass
        case JsonOutput():
            config["responseMimeType"] = "application/json"
        case SchemaOutput() as output:
            config["responseMimeType"] = "application/json"
            schema = output.schema
            if output.description is not None and "description" not in schema:
                schema = {**schema, "description": output.description}
            config["responseJsonSchema"] = json_schema(schema, "output.schema", drops.add)
        case _:
            assert_never(request.output)
    if request.modalities:
        config["responseModalities"] = [name.upper() for name in request.modalities]
    if request.audio is not None:
        config["speechConfig"] = _speech(request.audio)
    if request.thinking is not None and (thinking := _thinking(request.thinking, request.model, drops)):
        config["thinkingConfig"] = thinking
    return config


def _add_sampling(config: Body, sampling: Sampling) -> None:
    for name, wire in _SAMPLING.items():
        if (value := getattr(sampling, name)) is not None:
            config[wire] = value
    if sampling.stop:
        config["stopSequences"] = list(sampling.stop)
    if sampling.top_logprobs is not None:
        config["responseLogprobs"] = True
        if sampling.top_logprobs:
            config["logprobs"] = sampling.top_logprobs
    if sampling.logit_bias:
        raise UnsupportedFeature(
            f"{API} takes no logit_bias; leave it out or choose another model", param="logit_bias"
        )


def _speech(audio: dict[str, Any]) -> Body:
    """OpenAI's `audio`: of its formats, Gemini's models speak one."""
    voice, form = audio.get("voice"), audio.get("format")
    if form not in {None, "pcm16"} or not isinstance(voice, str):
        raise UnsupportedFeature(
            f"{API} speaks raw samples in one of its own voices; ask for format 'pcm16' and name one "
            "of them, such as 'Kore'",
            param="audio",
        )
    return {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": voice}}}


def _add_options(body: Body, request: Request, drops: Drops) -> None:
    if request.service_tier is not None:
        if (tier := _TIERS.get(request.service_tier.lower())) is not None:
            body["serviceTier"] = tier
        else:
            drops.add("service_tier")
    if request.user is not None:
        drops.add("user")
    if request.metadata is not None:
        drops.add("metadata")


# --- thinking ------------------------------------------------------------------------------------

_SIGNING = re.compile(r"gemini-(?:[3-9]|\d\d)")
_BUDGETED = re.compile(r"gemini-[12]\.")
"""Models that take a number of tokens. Later ones take a level, and the number for old callers' sake."""

_LEVELS = {
    "minimal": "MINIMAL",
    "low": "LOW",
    "medium": "MEDIUM",
    "high": "HIGH",
    "xhigh": "XHIGH",
    "max": "HIGH",
}
_MOST = 24_576
_MOST_OF_PRO = 32_768
_LEAST_OF_PRO = 128


def _thinking(thinking: Thinking, model: str, drops: Drops) -> Body:
    """A level or a budget, never both: the API refuses a call with two.

    Reported is what was only come near to: a model that cannot stop thinking thinks as little as it can.
    """
    config: Body = {}
    if _BUDGETED.search(model):
        tokens = _budget(thinking, model, drops)
        if tokens is not None:
            config["thinkingBudget"] = tokens
    elif thinking.budget_tokens is not None and thinking.enabled is not False:
        config["thinkingBudget"] = thinking.budget_tokens
        if thinking.effort is not None:
            drops.add("thinking")
    elif thinking.enabled is False or thinking.effort == "none":
        config["thinkingLevel"] = "LOW" if "pro" in model else "MINIMAL"
        drops.add("thinking")
    elif thinking.effort is not None:
        if (level := _LEVELS.get(thinking.effort)) is not None:
            config["thinkingLevel"] = level
        if level is None or thinking.effort == "max":
            drops.add("thinking")
    shown = thinking.include_text
    if shown is None and thinking.summary is not None:
        shown = thinking.summary != "none"
    if shown is not None:
        config["includeThoughts"] = shown
    return config


def _budget(thinking: Thinking, model: str, drops: Drops) -> int | None:
    tokens = budget(thinking)
    if tokens is None:
        if thinking.effort is not None:
            drops.add("thinking")
        return -1 if thinking.enabled else None
    if thinking.budget_tokens is not None and thinking.enabled is not False:
        if thinking.effort is not None:
            drops.add("thinking")
        return tokens
    pro = "pro" in model
    held = max(min(tokens, _MOST_OF_PRO if pro else _MOST), _LEAST_OF_PRO if pro else 0)
    if held != tokens:
        drops.add("thinking")
    return held
