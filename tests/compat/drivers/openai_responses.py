"""The openai SDK by the Responses API: create, parse and the stream helper, with encrypted reasoning."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import openai

from .base import WEATHER_SCHEMA, Ask, Call, Failure, Reply, each, opened, settle
from .openai_chat import openai_failure, without


class StreamFailed(Exception):
    """The stream told an error in an event of its own, which the SDK hands on instead of raising."""

    def __init__(self, event: Any) -> None:
        failed = event.type == "response.failed"
        self.code = event.response.error.code if failed else event.code
        self.message = event.response.error.message if failed else event.message
        super().__init__(self.message)


class OpenAIResponsesDriver:
    name = "responses"
    errors = (openai.OpenAIError, StreamFailed)

    def __init__(self, client: openai.OpenAI | openai.AsyncOpenAI, stream: bool) -> None:
        self._responses = client.responses
        self._stream = stream

    async def ask(self, ask: Ask) -> Reply:
        return await self._send(ask, _input(ask))

    async def answer(self, ask: Ask, reply: Reply, results: list[str]) -> Reply:
        outputs = [
            {"type": "function_call_output", "call_id": call.id, "output": result}
            for call, result in zip(reply.calls, results, strict=True)
        ]
        return await self._send(ask, [*_input(ask), *reply.native, *outputs])

    async def first_piece(self, ask: Ask) -> Callable[[], Any]:
        stream = await settle(
            self._responses.create(model=ask.model, input=_input(ask), stream=True, store=False)
        )
        async for event in each(stream):
            if event.type == "response.output_text.delta":
                break
        return stream.close

    def failure(self, error: Exception) -> Failure:
        if isinstance(error, StreamFailed):
            return Failure("StreamFailed", None, error.code, error.message)
        return openai_failure(error)

    async def _send(self, ask: Ask, items: list[Any]) -> Reply:
        options = _options(ask)
        schema = {"text_format": ask.schema} if ask.schema else {}
        if not self._stream:
            method = self._responses.parse if ask.schema else self._responses.create
            return _reply(await settle(method(model=ask.model, input=items, **options, **schema)), 0)
        pieces = 0
        last = None
        async with opened(
            self._responses.stream(model=ask.model, input=items, **options, **schema)
        ) as stream:
            async for event in each(stream):
                pieces += event.type.endswith(".delta")
                if event.type in {"error", "response.failed"}:
                    raise StreamFailed(event)
                if event.type in {"response.completed", "response.incomplete"}:
                    last = event.response
            if last is None:
                # Raises RuntimeError, as a caller of the helper gets it.
                await settle(stream.get_final_response())
        return _reply(last, pieces)


def _input(ask: Ask) -> list[Any]:
    content: list[Any] = [{"type": "input_text", "text": ask.text}]
    if ask.image is not None:
        url = f"data:image/png;base64,{base64.b64encode(ask.image).decode()}"
        content.append({"type": "input_image", "image_url": url, "detail": "auto"})
    return [{"role": "user", "content": content}]


def _options(ask: Ask) -> dict[str, Any]:
    options: dict[str, Any] = {"store": False}
    if ask.system:
        options["instructions"] = ask.system
    if ask.max_tokens:
        options["max_output_tokens"] = ask.max_tokens
    if ask.temperature is not None:
        options["temperature"] = ask.temperature
    if ask.thinking:
        options["reasoning"] = {"effort": "medium", "summary": "auto"}
        options["include"] = ["reasoning.encrypted_content"]
    if ask.tools:
        function = {"name": "get_weather", "description": "The weather of a city now.", "strict": True}
        options["tools"] = [{"type": "function", **function, "parameters": WEATHER_SCHEMA}]
    if ask.forced:
        options["tool_choice"] = {"type": "function", "name": "get_weather"}
    return options | ask.extra


def _reply(response: Any, pieces: int) -> Reply:
    reply = Reply(pieces=pieces, id=response.id, model=response.model)
    for item in response.output:
        if item.type == "message":
            reply.refusal += "".join(part.refusal for part in item.content if part.type == "refusal")
            for part in item.content:
                reply.parsed = getattr(part, "parsed", None) or reply.parsed
        elif item.type == "function_call":
            reply.calls.append(Call(item.call_id, item.name, json.loads(item.arguments)))
        elif item.type == "reasoning":
            reply.thoughts += "".join(part.text for part in item.summary)
            reply.thoughts += "".join(part.text for part in item.content or ())
    reply.text = response.output_text
    reply.finish = _finish(response, reply)
    usage = response.usage
    cached, reasoning = usage.input_tokens_details.cached_tokens, usage.output_tokens_details.reasoning_tokens
    reply.usage = (usage.input_tokens, cached, usage.output_tokens, reasoning)
    hidden = {"parsed", "parsed_arguments"}
    reply.native = [
        without(item.model_dump(exclude_none=True, by_alias=True, warnings=False), hidden)
        for item in response.output
    ]
    return reply


def _finish(response: Any, reply: Reply) -> str:
    if response.status == "incomplete":
        return {"max_output_tokens": "length", "content_filter": "filter"}[response.incomplete_details.reason]
    assert response.status == "completed", response.status
    if reply.refusal:
        return "refusal"
    return "tools" if reply.calls else "stop"
