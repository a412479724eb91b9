"""Details in which the dialects differ and that callers rely on: usage in streams, blocked prompts, stop
sequences, failed tools, system messages in the middle.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import anthropic
import httpx2
import pytest
from google.genai import types

from .bed import Callers, Run
from .drivers.base import QUESTION, WEATHER_SCHEMA, Ask
from .test_sdk_matrix import CLIENTS, TEXT, UPSTREAMS, png
from .upstreams.app import Upstreams

upstream_s = pytest.mark.parametrize("upstream", UPSTREAMS)


@upstream_s
def test_usage_is_streamed_to_who_asked_for_it(upstream: str, callers: Callers, upstreams: Upstreams) -> None:
    upstreams.clear()
    ask: Any = {"model": f"{upstream}.text", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    chunks = list(callers.openai.chat.completions.create(**ask))
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    body = upstreams.one().body
    if upstream in {"openai", "compatible"}:
        # What a call costs is known all the same.
        assert body["stream_options"] == {"include_usage": True}
    *told, last = callers.openai.chat.completions.create(**ask, stream_options={"include_usage": True})
    assert all(chunk.usage is None for chunk in told)
    assert last.choices == []
    assert last.usage.total_tokens == 1224


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("mode", ["whole", "stream"])
def test_a_blocked_prompt_is_no_ordinary_end(
    client: str, mode: str, callers: Callers, upstreams: Upstreams, run: Run
) -> None:
    """Gemini answers it with no candidate at all."""
    upstreams.clear()
    reply = run(callers.driver(client, mode, "sync").ask(Ask("gemini.blocked")))
    upstreams.one()
    assert reply.text == ""
    assert reply.calls == []
    assert reply.finish in {"refusal", "filter"} or client == "gemini"
    assert reply.usage is not None
    assert reply.usage[0] == 25


STOPS: dict[str, dict[str, Any]] = {
    "openai": {"stop": ["END", "»"]},
    "anthropic": {"stop_sequences": ["END", "»"]},
    "gemini": {"stop_sequences": ["END", "»"]},
}


@pytest.mark.parametrize("client", STOPS)
@pytest.mark.parametrize("upstream", ["openai", "compatible", "anthropic", "gemini"])
def test_stop_sequences_arrive(
    client: str, upstream: str, callers: Callers, upstreams: Upstreams, run: Run
) -> None:
    upstreams.clear()
    run(callers.driver(client, "whole", "sync").ask(Ask(f"{upstream}.text", extra=STOPS[client])))
    body = upstreams.one().body
    told = body.get("stop") or body.get("stop_sequences") or body["generationConfig"]["stopSequences"]
    assert told == ["END", "»"]


CHOICES = {
    "openai": ("auto", "none", "required"),
    "openai-responses": ("auto", "none", "required"),
    "compatible": ("auto", "none", "required"),
    "anthropic": ("auto", "none", "any"),
    "gemini": ("AUTO", "NONE", "ANY"),
}


@upstream_s
@pytest.mark.parametrize("number", range(3), ids=["auto", "none", "required"])
def test_who_chooses_the_tool(upstream: str, number: int, callers: Callers, upstreams: Upstreams) -> None:
    """The same three words in each dialect's spelling, and back."""
    said: dict[str, Any] = {"messages": [{"role": "user", "content": QUESTION}], "model": f"{upstream}.text"}
    function = {"name": "get_weather", "parameters": WEATHER_SCHEMA}
    upstreams.clear()
    callers.openai.chat.completions.create(
        **said,
        tools=[{"type": "function", "function": function}],
        tool_choice=CHOICES["openai"][number],  # type: ignore[call-overload]
    )
    assert upstreams.one().seen.choice == CHOICES[upstream][number]
    callers.anthropic.messages.create(
        **said,
        max_tokens=99,
        tools=[{"name": "get_weather", "input_schema": WEATHER_SCHEMA}],
        tool_choice={"type": CHOICES["anthropic"][number]},
    )
    assert upstreams.one().seen.choice == CHOICES[upstream][number]
    callers.google.models.generate_content(
        model=said["model"],
        contents=QUESTION,
        config=types.GenerateContentConfig(
            tools=[types.Tool(function_declarations=[types.FunctionDeclaration(name="get_weather")])],
            tool_config=types.ToolConfig(
                function_calling_config=types.FunctionCallingConfig(mode=CHOICES["gemini"][number])
            ),
        ),
    )
    assert upstreams.one().seen.choice == CHOICES[upstream][number]


@upstream_s
def test_one_call_at_a_time_is_told(upstream: str, callers: Callers, upstreams: Upstreams) -> None:
    messages: Any = [{"role": "user", "content": QUESTION}]
    tools: Any = [{"name": "get_weather", "input_schema": WEATHER_SCHEMA}]
    upstreams.clear()
    ask: Any = {"model": f"{upstream}.text", "max_tokens": 99, "messages": messages, "tools": tools}
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    if upstream == "gemini":
        with pytest.raises(anthropic.BadRequestError, match="parallel"):
            callers.anthropic.messages.create(**ask, tool_choice=choice)
        return
    callers.anthropic.messages.create(**ask, tool_choice=choice)
    body = upstreams.one().body
    if upstream == "anthropic":
        assert body["tool_choice"] == choice
    else:
        assert body["parallel_tool_calls"] is False


@pytest.mark.parametrize("upstream", ["openai-responses", "anthropic", "gemini"])
def test_an_image_among_a_tools_results(upstream: str, callers: Callers, upstreams: Upstreams) -> None:
    upstreams.clear()
    picture = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(png()).decode()}
    result = [{"type": "text", "text": "see"}, {"type": "image", "source": picture}]
    messages: Any = [
        {"role": "user", "content": QUESTION},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": result}]},
    ]
    tools: Any = [{"name": "look", "input_schema": {"type": "object", "properties": {}}}]
    callers.anthropic.messages.create(model=f"{upstream}.text", max_tokens=99, messages=messages, tools=tools)
    assert base64.b64encode(png()).decode() in json.dumps(upstreams.one().body)


@upstream_s
def test_the_result_of_a_failed_tool_with_words_after_it(
    upstream: str, callers: Callers, upstreams: Upstreams
) -> None:
    upstreams.clear()
    call = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Paris"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "no such city", "is_error": True}
    messages: Any = [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": [{"type": "text", "text": "Let me see."}, call]},
        {"role": "user", "content": [result, {"type": "text", "text": "Try again."}]},
    ]
    tools: Any = [{"name": "get_weather", "input_schema": WEATHER_SCHEMA}]
    reply = callers.anthropic.messages.create(
        model=f"{upstream}.text", max_tokens=99, messages=messages, tools=tools
    )
    assert reply.content[0].text == TEXT
    seen = upstreams.one().seen
    assert [text for _, text in seen.said] == [QUESTION, "Let me see.", "Try again."]
    assert [name for _, name, _ in seen.calls] == ["get_weather"]
    assert "no such city" in seen.results[0][1]
    assert seen.results[0][0] == seen.calls[0][0]


@upstream_s
def test_a_system_message_in_the_middle_does_not_go_to_the_top(
    upstream: str, callers: Callers, upstreams: Upstreams
) -> None:
    upstreams.clear()
    messages: Any = [
        {"role": "system", "content": "First."},
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": "Two"},
        {"role": "system", "content": "Later."},
        {"role": "user", "content": "Three"},
    ]
    callers.openai.chat.completions.create(model=f"{upstream}.text", messages=messages)
    exchange = upstreams.one()
    wire = json.dumps(exchange.body)
    assert wire.index("Two") < wire.index("Later.") < wire.index("Three")
    assert exchange.seen.system[0] == "First."


@upstream_s
def test_geminis_stream_as_an_array_of_json(upstream: str, gateway: str, upstreams: Upstreams) -> None:
    upstreams.clear()
    url = f"{gateway}/v1beta/models/{upstream}.text:streamGenerateContent"
    body = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}
    with httpx2.Client() as client:
        chunks = client.post(url, json=body).json()
    said = [
        part["text"]
        for chunk in chunks
        for candidate in chunk.get("candidates", ())
        for part in candidate.get("content", {}).get("parts", ())
    ]
    assert "".join(said) == TEXT
    assert upstreams.one().stream
