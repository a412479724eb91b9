"""The anthropic SDK: create, parse and the stream helper, which checks the order of events."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import anthropic

from .base import WEATHER_SCHEMA, Ask, Call, Failure, Reply, each, opened, settle

_FINISHES = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tools",
    "refusal": "refusal",
}


class AnthropicDriver:
    name = "anthropic"
    errors = (anthropic.AnthropicError,)

    def __init__(self, client: anthropic.Anthropic | anthropic.AsyncAnthropic, stream: bool) -> None:
        self._messages = client.messages
        self._stream = stream

    async def ask(self, ask: Ask) -> Reply:
        return await self._send(ask, _messages(ask))

    async def answer(self, ask: Ask, reply: Reply, results: list[str]) -> Reply:
        blocks = [
            {"type": "tool_result", "tool_use_id": call.id, "content": result}
            for call, result in zip(reply.calls, results, strict=True)
        ]
        turn = [{"role": "assistant", "content": reply.native}, {"role": "user", "content": blocks}]
        return await self._send(ask, [*_messages(ask), *turn])

    async def first_piece(self, ask: Ask) -> Callable[[], Any]:
        stream = await settle(
            self._messages.create(model=ask.model, messages=_messages(ask), max_tokens=99, stream=True)
        )
        async for event in each(stream):
            if event.type == "content_block_delta":
                break
        return stream.close

    def failure(self, error: Exception) -> Failure:
        assert isinstance(error, anthropic.APIError)
        status = getattr(error, "status_code", None)
        said = getattr(error, "api_message", None) or error.message
        return Failure(type(error).__name__, status, getattr(error, "type", None), said)

    async def _send(self, ask: Ask, messages: list[Any]) -> Reply:
        options = _options(ask)
        schema = {"output_format": ask.schema} if ask.schema else {}
        if not self._stream:
            method = self._messages.parse if ask.schema else self._messages.create
            return _reply(await settle(method(model=ask.model, messages=messages, **options, **schema)), 0)
        pieces = 0
        async with opened(
            self._messages.stream(model=ask.model, messages=messages, **options, **schema)
        ) as stream:
            async for event in each(stream):
                pieces += event.type == "content_block_delta"
            return _reply(await settle(stream.get_final_message()), pieces)


def _messages(ask: Ask) -> list[Any]:
    if ask.image is None:
        return [{"role": "user", "content": ask.text}]
    source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(ask.image).decode()}
    parts = [{"type": "text", "text": ask.text}, {"type": "image", "source": source}]
    return [{"role": "user", "content": parts}]


def _options(ask: Ask) -> dict[str, Any]:
    options: dict[str, Any] = {"max_tokens": ask.max_tokens or 4000}
    if ask.system:
        options["system"] = ask.system
    if ask.temperature is not None:
        # No parameter of the SDK any more.
        options["extra_body"] = {"temperature": ask.temperature}
    if ask.thinking:
        options["thinking"] = {"type": "enabled", "budget_tokens": 2048}
    if ask.tools:
        described = {"name": "get_weather", "description": "The weather of a city now."}
        options["tools"] = [{**described, "input_schema": WEATHER_SCHEMA}]
    if ask.forced:
        options["tool_choice"] = {"type": "tool", "name": "get_weather"}
    return options | ask.extra


def _reply(message: Any, pieces: int) -> Reply:
    usage = message.usage
    cached = usage.cache_read_input_tokens or 0
    written = usage.cache_creation_input_tokens or 0
    details = usage.output_tokens_details
    reply = Reply(pieces=pieces, id=message.id, model=message.model)
    reply.usage = (
        usage.input_tokens + cached + written,
        cached,
        usage.output_tokens,
        details.thinking_tokens if details else None,
    )
    for block in message.content:
        if block.type == "text":
            reply.text += block.text
            reply.parsed = getattr(block, "parsed_output", None) or reply.parsed
        elif block.type == "thinking":
            reply.thoughts += block.thinking
        elif block.type == "tool_use":
            reply.calls.append(Call(block.id, block.name, block.input))
    reply.finish = _FINISHES[message.stop_reason]
    reply.native = [
        block.model_dump(exclude_none=True, by_alias=True, warnings=False, exclude={"parsed_output"})
        for block in message.content
    ]
    return reply
