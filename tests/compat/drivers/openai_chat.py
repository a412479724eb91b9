"""The openai SDK by chat completions: create, parse and the stream helper, which checks the chunks."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import openai

from .base import WEATHER_SCHEMA, Ask, Call, Failure, Reply, each, opened, settle

_FINISHES = {"stop": "stop", "length": "length", "tool_calls": "tools", "content_filter": "filter"}

_PIECES = {"content.delta", "refusal.delta", "tool_calls.function.arguments.delta"}


class OpenAIChatDriver:
    name = "openai"
    errors = (openai.OpenAIError,)

    def __init__(self, client: openai.OpenAI | openai.AsyncOpenAI, stream: bool) -> None:
        self._completions = client.chat.completions
        self._stream = stream

    async def ask(self, ask: Ask) -> Reply:
        return await self._send(ask, _messages(ask))

    async def answer(self, ask: Ask, reply: Reply, results: list[str]) -> Reply:
        tools = [
            {"role": "tool", "tool_call_id": call.id, "content": result}
            for call, result in zip(reply.calls, results, strict=True)
        ]
        return await self._send(ask, [*_messages(ask), reply.native, *tools])

    async def first_piece(self, ask: Ask) -> Callable[[], Any]:
        stream = await settle(self._completions.create(model=ask.model, messages=_messages(ask), stream=True))
        async for chunk in each(stream):
            if chunk.choices and chunk.choices[0].delta.content:
                break
        return stream.close

    def failure(self, error: Exception) -> Failure:
        return openai_failure(error)

    async def _send(self, ask: Ask, messages: list[Any]) -> Reply:
        options = _options(ask)
        schema = {"response_format": ask.schema} if ask.schema else {}
        if not self._stream:
            method = self._completions.parse if ask.schema else self._completions.create
            return _reply(await settle(method(model=ask.model, messages=messages, **options, **schema)), 0)
        usage = {"stream_options": {"include_usage": True}}
        pieces = 0
        manager = self._completions.stream(model=ask.model, messages=messages, **options, **schema, **usage)
        try:
            async with opened(manager) as stream:
                async for event in each(stream):
                    pieces += event.type in _PIECES
                return _reply(await settle(stream.get_final_completion()), pieces)
        except (openai.LengthFinishReasonError, openai.ContentFilterFinishReasonError) as error:
            # The helper tells these two ends of a reply in this way.
            return _reply(error.completion, pieces)


def _messages(ask: Ask) -> list[Any]:
    messages: list[Any] = [{"role": "system", "content": ask.system}] if ask.system else []
    if ask.image is None:
        return [*messages, {"role": "user", "content": ask.text}]
    url = f"data:image/png;base64,{base64.b64encode(ask.image).decode()}"
    parts = [{"type": "text", "text": ask.text}, {"type": "image_url", "image_url": {"url": url}}]
    return [*messages, {"role": "user", "content": parts}]


def _options(ask: Ask) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if ask.max_tokens:
        options["max_completion_tokens"] = ask.max_tokens
    if ask.temperature is not None:
        options["temperature"] = ask.temperature
    if ask.thinking:
        options["reasoning_effort"] = "medium"
    if ask.tools:
        function = {"name": "get_weather", "description": "The weather of a city now.", "strict": True}
        options["tools"] = [{"type": "function", "function": {**function, "parameters": WEATHER_SCHEMA}}]
    if ask.forced:
        options["tool_choice"] = {"type": "function", "function": {"name": "get_weather"}}
    return options | ask.extra


def _reply(completion: Any, pieces: int) -> Reply:
    [choice] = completion.choices
    message = choice.message
    said = message.model_dump(exclude_none=True, warnings=False)
    return Reply(
        text=message.content or "",
        refusal=message.refusal or "",
        thoughts=getattr(message, "reasoning_content", None) or "",
        calls=[
            Call(call.id, call.function.name, json.loads(call.function.arguments))
            for call in message.tool_calls or ()
        ],
        finish="refusal" if message.refusal else _FINISHES[choice.finish_reason],
        usage=_usage(completion.usage),
        parsed=getattr(message, "parsed", None),
        pieces=pieces,
        native={**without(said, {"parsed", "parsed_arguments", "index"}), "role": "assistant"},
        id=completion.id,
        model=completion.model,
    )


def _usage(usage: Any) -> tuple[int, int, int, int] | None:
    if usage is None:
        # The helper gives up at the chunk with the finish reason, before the one with the usage.
        return None
    cached = usage.prompt_tokens_details and usage.prompt_tokens_details.cached_tokens
    reasoning = usage.completion_tokens_details and usage.completion_tokens_details.reasoning_tokens
    return usage.prompt_tokens, cached or 0, usage.completion_tokens, reasoning or 0


def without(value: Any, names: set[str]) -> Any:
    if isinstance(value, dict):
        return {name: without(item, names) for name, item in value.items() if name not in names}
    return [without(item, names) for item in value] if isinstance(value, list) else value


def openai_failure(error: Exception) -> Failure:
    assert isinstance(error, openai.APIError)
    return Failure(type(error).__name__, getattr(error, "status_code", None), error.type, error.message)
