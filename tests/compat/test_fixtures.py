"""The golden replies are what the real APIs send: each one is of the official SDK's own type, strictly.

Those of `compatible` are the exception: they deviate as vLLM, Ollama and llama.cpp do, and a test says how.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic.types
import pytest
from anthropic.types.shared import ErrorResponse
from google.genai import types as google
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from openai.types.responses.input_token_count_response import InputTokenCountResponse
from pydantic import BaseModel, TypeAdapter, ValidationError

from .upstreams import shape
from .upstreams.app import FIXTURES

Model = Any

EVENTS: dict[str, Model] = {
    "openai": ChatCompletionChunk,
    "compatible": ChatCompletionChunk,
    "openai-responses": ResponseStreamEvent,
    "anthropic": anthropic.types.RawMessageStreamEvent,
    "gemini": google.GenerateContentResponse,
}
WHOLE: dict[str, Model] = {
    "openai": ChatCompletion,
    "openai-responses": Response,
    "anthropic": anthropic.types.Message,
    "gemini": google.GenerateContentResponse,
    "openai/embeddings": CreateEmbeddingResponse,
    "compatible/embeddings": CreateEmbeddingResponse,
    "openai-responses/count": InputTokenCountResponse,
    "anthropic/count": anthropic.types.MessageTokensCount,
    "gemini/count": google.CountTokensResponse,
    "gemini/embeddings": google.EmbedContentResponse,
    "gemini/embedding": google.ContentEmbedding,
}
NOT_IN_THE_TYPES = {
    # Sent by the real APIs, and not declared by the SDKs of today.
    "openai-responses": {"store", "obfuscation"},
    "gemini": {"promptTokensDetails"},
}
SCENARIOS = {"text", "tools", "weather", "forced", "schema", "reasoning", "length", "refusal"}
ERRORS = {"invalid", "too-long", "bad-key", "no-model", "rate", "broken", "overloaded"}


def files(kind: str, *dialects: str) -> list[Any]:
    found = [path for dialect in dialects for path in sorted((FIXTURES / dialect).glob(f"*.{kind}"))]
    return [pytest.param(path, id=f"{path.parent.name}-{path.stem}") for path in found]


adapter = functools.cache(TypeAdapter)


def strictly(model: Model, value: Any) -> Any:
    """The value as the SDK's type. Raises when anything is missing, of another type or unknown."""
    parsed = adapter(model).validate_json(json.dumps(value), strict=True)
    assert unknown(parsed) == set()
    return parsed


def unknown(parsed: Any) -> set[str]:
    """The fields, however deep, that the SDK's types do not declare."""
    if isinstance(parsed, BaseModel):
        found = set(parsed.model_extra or {})
        return found.union(*(unknown(getattr(parsed, name)) for name in type(parsed).model_fields))
    if isinstance(parsed, list):
        return set[str]().union(*map(unknown, parsed))
    return set()


def without(value: Any, names: set[str]) -> Any:
    if isinstance(value, dict):
        return {name: without(item, names) for name, item in value.items() if name not in names}
    return [without(item, names) for item in value] if isinstance(value, list) else value


def sse(path: Path) -> Iterator[tuple[str, str]]:
    for event in re.split(r"\r?\n\r?\n", path.read_bytes().decode()):
        fields = dict(line.split(": ", 1) for line in re.split(r"\r?\n", event) if line)
        if fields:
            assert set(fields) <= {"event", "data"}
            yield fields.get("event", ""), fields["data"]


@pytest.mark.parametrize("dialect", EVENTS)
def test_every_dialect_plays_every_scenario(dialect: str) -> None:
    names = {path.name for path in (FIXTURES / dialect).iterdir()}
    wanted = {f"{name}.{kind}" for name in SCENARIOS for kind in ("json", "sse")}
    wanted |= {f"error-{name}.json" for name in ERRORS} | {"error-in-stream.sse"}
    assert wanted <= names


@pytest.mark.parametrize("path", files("json", "openai", "openai-responses", "anthropic", "gemini"))
def test_a_whole_reply_is_what_the_sdk_declares(path: Path) -> None:
    dialect, name = path.parent.name, path.stem
    value = json.loads(path.read_bytes())
    if name.startswith("error-"):
        error(dialect, value)
        return
    left_out = NOT_IN_THE_TYPES.get(dialect, set()) if dialect != "gemini" or name == "count" else set()
    if name == "embedding":
        value = value["embedding"]
    strictly(WHOLE.get(f"{dialect}/{name}", WHOLE[dialect]), without(value, left_out))


def error(dialect: str, value: dict[str, Any]) -> None:
    match dialect:
        case "anthropic":
            strictly(ErrorResponse, value)
        case "gemini":
            detail = value["error"]
            assert set(detail) <= {"code", "message", "status", "details"}
            assert isinstance(detail["code"], int)
            assert isinstance(detail["status"], str)
        case _:
            assert set(value["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("path", files("sse", "openai", "openai-responses", "anthropic", "gemini"))
def test_a_stream_is_what_the_sdk_declares(path: Path) -> None:
    dialect = path.parent.name
    left_out = NOT_IN_THE_TYPES.get(dialect, set()) if dialect != "gemini" else set()
    events = list(sse(path))
    if dialect == "openai" and path.stem != "error-in-stream":
        assert events.pop() == ("", "[DONE]")
    for number, (kind, data) in enumerate(events):
        value = json.loads(data)
        if kind == "ping" or "error" in value or kind == "error":
            continue
        if kind:
            assert value["type"] == kind
        if dialect == "openai-responses" and path.stem != "error-in-stream":
            assert value["sequence_number"] == number
        strictly(EVENTS[dialect], without(value, left_out))


@pytest.mark.parametrize("path", files("sse", "anthropic", "openai-responses"))
def test_the_last_event_is_the_end(path: Path) -> None:
    if path.stem != "error-in-stream":
        kind, _ = list(sse(path))[-1]
        assert kind in {"message_stop", "response.completed", "response.incomplete"}


DEVIATIONS = {
    # In which field of which file a strict reader stumbles; None: it only meets unknown fields.
    "text": None,
    "length": None,
    "refusal": "object",
    "weather": None,
    "tools": None,
    "indexed": None,
    "forced": "id",
    "schema": None,
    "reasoning": None,
}


@pytest.mark.parametrize("name", sorted(DEVIATIONS))
def test_compatible_streams_deviate_as_such_servers_do(name: str) -> None:
    stumbled = set[str]()
    others = set[str]()
    ended = False
    finished = 0
    for _, data in sse(FIXTURES / "compatible" / f"{name}.sse"):
        if data == "[DONE]":
            ended = True
            continue
        try:
            chunk = ChatCompletionChunk.model_validate_json(data, strict=True)
        except ValidationError as problem:
            stumbled |= {str(item["loc"][-1]) for item in problem.errors()}
            finished += '"finish_reason":"' in data
        else:
            others |= unknown(chunk)
            finished += any(choice.finish_reason for choice in chunk.choices)
    assert stumbled == ({DEVIATIONS[name]} if DEVIATIONS[name] else set())
    assert finished == 1
    assert ended == (name != "weather")
    if name not in {"weather", "tools", "indexed"}:
        assert others or stumbled


def test_the_checker_of_requests_finds_what_is_wrong() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    assert shape.chat_problems(body) == []
    assert shape.chat_problems({**body, "top_k": 3}) == ["body.top_k: unknown field"]
    assert shape.chat_problems({"model": "m"}) == ["body.messages: missing"]
    assert shape.anthropic_problems(body) == ["body.max_tokens: missing"]
    wrong = {
        **body,
        "max_tokens": 9,
        "messages": [{"role": "user", "content": [{"type": "text", "txt": "Hi"}]}],
    }
    assert shape.anthropic_problems(wrong) != []
    assert shape.responses_problems({"model": "m", "input": "Hi", "stream": True}) == []
    assert shape.responses_problems({"model": "m", "input": 3}) != []
    assert shape.gemini_problems({"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}) == []
    assert shape.gemini_problems({"contents": [{"parts": [{"txt": "Hi"}]}]}) != []
    tool = {"functionDeclarations": [{"name": "f", "parameters": {"type": "OBJECT", "$schema": "x"}}]}
    assert shape.gemini_problems({"contents": [{"parts": [{"text": "Hi"}]}], "tools": [tool]}) != []
