"""Whether a request is one that the official SDK could have sent: checked against its own types, strictly.

The SDKs of OpenAI and Anthropic declare requests as TypedDicts, which nothing checks at run time, so they are
walked here; Google's are pydantic models that forbid unknown fields. Nothing here knows Assay.
"""

from __future__ import annotations

import collections.abc
import functools
import types
import typing
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

import typing_extensions
from anthropic.types.message_count_tokens_params import MessageCountTokensParams
from anthropic.types.message_create_params import (
    MessageCreateParamsNonStreaming,
    MessageCreateParamsStreaming,
)
from google.genai import types as google
from openai.types import EmbeddingCreateParams
from openai.types.chat import completion_create_params as chat
from openai.types.responses import response_create_params as responses
from openai.types.responses.input_token_count_params import InputTokenCountParams
from pydantic import BaseModel, ValidationError

_WRAPPERS = {
    typing_extensions.Required,
    typing_extensions.NotRequired,
    typing_extensions.ReadOnly,
    typing.Annotated,
}
_ARRAYS = (list, tuple, collections.abc.Iterable, collections.abc.Sequence)


def chat_problems(body: dict[str, Any]) -> list[str]:
    wanted = (
        chat.CompletionCreateParamsStreaming
        if body.get("stream")
        else chat.CompletionCreateParamsNonStreaming
    )
    return [problem for problem in problems(body, wanted) if not problem.endswith(_TOLERATED)]


_TOLERATED = ("].annotations: unknown field",)
"""What OpenAI takes without declaring it: callers send back the messages that they got."""


def compatible_problems(body: dict[str, Any]) -> list[str]:
    return [problem for problem in chat_problems(body) if not problem.endswith(_EXTENSIONS)]


_EXTENSIONS = ("].reasoning_content: unknown field", "].name: unknown field")
"""What servers of this kind take beyond OpenAI itself."""


def responses_problems(body: dict[str, Any]) -> list[str]:
    stream = body.get("stream")
    wanted = responses.ResponseCreateParamsStreaming if stream else responses.ResponseCreateParamsNonStreaming
    return problems(body, wanted)


def responses_count_problems(body: dict[str, Any]) -> list[str]:
    return problems(body, InputTokenCountParams)


def anthropic_problems(body: dict[str, Any]) -> list[str]:
    return problems(
        body, MessageCreateParamsStreaming if body.get("stream") else MessageCreateParamsNonStreaming
    )


def anthropic_count_problems(body: dict[str, Any]) -> list[str]:
    return problems(body, MessageCountTokensParams)


def embedding_problems(body: dict[str, Any]) -> list[str]:
    return problems(body, EmbeddingCreateParams)


class _GeminiBody(BaseModel, extra="forbid"):
    """generateContent, whose body the SDK has no type for: its parts are typed."""

    contents: list[google.Content]
    systemInstruction: google.Content | None = None
    tools: list[google.Tool] | None = None
    toolConfig: google.ToolConfig | None = None
    generationConfig: google.GenerationConfig | None = None
    safetySettings: list[google.SafetySetting] | None = None
    cachedContent: str | None = None
    serviceTier: str | None = None
    labels: dict[str, str] | None = None


class _GeminiEmbedding(BaseModel, extra="forbid"):
    model: str
    content: google.Content
    taskType: str | None = None
    title: str | None = None
    outputDimensionality: int | None = None


class _GeminiEmbeddings(BaseModel, extra="forbid"):
    requests: list[_GeminiEmbedding]


class _GeminiCounted(_GeminiBody):
    model: str


class _GeminiCount(BaseModel, extra="forbid"):
    contents: list[google.Content] | None = None
    generateContentRequest: _GeminiCounted | None = None


def gemini_problems(body: dict[str, Any]) -> list[str]:
    return _pydantic(_GeminiBody, body)


def gemini_count_problems(body: dict[str, Any]) -> list[str]:
    return _pydantic(_GeminiCount, body)


def gemini_embedding_problems(body: dict[str, Any]) -> list[str]:
    return _pydantic(_GeminiEmbeddings if "requests" in body else _GeminiEmbedding, body)


def _pydantic(model: type[BaseModel], body: dict[str, Any]) -> list[str]:
    try:
        model.model_validate(body)
    except ValidationError as error:
        return [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
    return []


# --- TypedDicts ----------------------------------------------------------------------------------


def problems(value: Any, wanted: Any, path: str = "body") -> list[str]:
    """What keeps this JSON value from being of that type; [] when nothing does."""
    wanted = _bare(wanted)
    origin = get_origin(wanted)
    if origin is Union or origin is types.UnionType:
        found = [problems(value, one, path) for one in get_args(wanted)]
        # The member that the value comes nearest to tells most.
        return min(found, key=lambda one: (bool(one), any("is not one of" in text for text in one), len(one)))
    if wanted in (Any, object):
        return []
    if origin is Literal:
        allowed = get_args(wanted)
        return [] if value in allowed else [f"{path}: {value!r} is not one of {allowed}"]
    if typing_extensions.is_typeddict(wanted):
        return _object(value, wanted, path)
    if origin in (dict, collections.abc.Mapping):
        if not isinstance(value, dict):
            return [f"{path}: not an object"]
        return [
            p for name, item in value.items() for p in problems(item, get_args(wanted)[1], f"{path}.{name}")
        ]
    if _is_array(origin):
        if not isinstance(value, list):
            return [f"{path}: not an array"]
        return [
            p for n, item in enumerate(value) for p in problems(item, get_args(wanted)[0], f"{path}[{n}]")
        ]
    return _scalar(value, wanted, path)


def _scalar(value: Any, wanted: Any, path: str) -> list[str]:
    if wanted is None or wanted is type(None):
        return [] if value is None else [f"{path}: not null"]
    if wanted is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
    elif wanted is int:
        fits = isinstance(value, int) and not isinstance(value, bool)
    else:
        fits = wanted in (str, bool) and isinstance(value, wanted)
    return [] if fits else [f"{path}: {value!r} is not of type {wanted}"]


def _object(value: Any, wanted: Any, path: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{path}: not an object"]
    fields = _fields(wanted)
    found = [f"{path}.{name}: unknown field" for name in value if name not in fields]
    found += [f"{path}.{name}: missing" for name, one in fields.items() if one.required and name not in value]
    for name, item in value.items():
        if name in fields:
            found += problems(item, fields[name].wanted, f"{path}.{name}")
    return found


class _Field(NamedTuple):
    wanted: Any
    required: bool


@functools.cache
def _fields(wanted: Any) -> dict[str, _Field]:
    """By their names on the wire."""
    found = {}
    for name, hint in typing_extensions.get_type_hints(wanted, include_extras=True).items():
        alias, required = name, name in wanted.__required_keys__
        while get_origin(hint) in _WRAPPERS:
            if get_origin(hint) in (typing_extensions.Required, typing_extensions.NotRequired):
                required = get_origin(hint) is typing_extensions.Required
            for note in getattr(hint, "__metadata__", ()):
                alias = getattr(note, "alias", None) or alias
            hint = get_args(hint)[0]
        found[alias] = _Field(hint, required)
    return found


def _bare(wanted: Any) -> Any:
    while get_origin(wanted) in _WRAPPERS:
        wanted = get_args(wanted)[0]
    return wanted


def _is_array(origin: Any) -> bool:
    # `SequenceNotStr`, the SDKs' own protocol, is an array too.
    return origin in _ARRAYS or getattr(origin, "__name__", "") == "SequenceNotStr"
