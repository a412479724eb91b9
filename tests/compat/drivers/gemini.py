"""The google-genai SDK: generate_content and its stream, with Google's own typed schema."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google import genai
from google.genai import errors, types

from .base import WEATHER_SCHEMA, Ask, Call, Failure, Reply, each, settle

_FINISHES = {"STOP": "stop", "MAX_TOKENS": "length", "SAFETY": "filter", "PROHIBITED_CONTENT": "filter"}


class GeminiDriver:
    name = "gemini"
    errors = (errors.APIError, errors.UnknownApiResponseError)

    def __init__(self, client: Any, stream: bool) -> None:
        """`client` is a genai.Client, or its `aio`."""
        self._models = client.models
        self._stream = stream

    async def ask(self, ask: Ask) -> Reply:
        return await self._send(ask, _contents(ask))

    async def answer(self, ask: Ask, reply: Reply, results: list[str]) -> Reply:
        parts = [
            types.Part(
                function_response=types.FunctionResponse(
                    id=call.id, name=call.name, response={"output": result}
                )
            )
            for call, result in zip(reply.calls, results, strict=True)
        ]
        return await self._send(ask, [*_contents(ask), reply.native, types.Content(role="user", parts=parts)])

    async def first_piece(self, ask: Ask) -> Callable[[], Any]:
        stream = await settle(self._models.generate_content_stream(model=ask.model, contents=_contents(ask)))
        await anext(stream) if hasattr(stream, "__anext__") else next(stream)
        return stream.aclose if hasattr(stream, "aclose") else stream.close

    def failure(self, error: Exception) -> Failure:
        if isinstance(error, errors.UnknownApiResponseError):
            return Failure(type(error).__name__, None, None, str(error))
        assert isinstance(error, errors.APIError)
        return Failure(type(error).__name__, error.code, error.status, error.message or "")

    async def _send(self, ask: Ask, contents: list[types.Content]) -> Reply:
        call = {"model": ask.model, "contents": contents, "config": _config(ask)}
        if not self._stream:
            response = await settle(self._models.generate_content(**call))
            return _reply([response], response.parsed)
        chunks = [chunk async for chunk in each(await settle(self._models.generate_content_stream(**call)))]
        reply = _reply(chunks, None)
        if ask.schema is not None:
            reply.parsed = ask.schema.model_validate_json(reply.text)
        return reply


def _contents(ask: Ask) -> list[types.Content]:
    parts = [types.Part(text=ask.text)]
    if ask.image is not None:
        parts.append(types.Part.from_bytes(data=ask.image, mime_type="image/png"))
    return [types.Content(role="user", parts=parts)]


def _config(ask: Ask) -> types.GenerateContentConfig:
    config = types.GenerateContentConfig(
        system_instruction=ask.system,
        max_output_tokens=ask.max_tokens,
        temperature=ask.temperature,
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
    )
    if ask.thinking:
        config.thinking_config = types.ThinkingConfig(thinking_budget=2048, include_thoughts=True)
    if ask.tools:
        declared = types.FunctionDeclaration(
            name="get_weather",
            description="The weather of a city now.",
            parameters_json_schema=WEATHER_SCHEMA,
        )
        config.tools = [types.Tool(function_declarations=[declared])]
    if ask.forced:
        calling = types.FunctionCallingConfig(
            mode=types.FunctionCallingConfigMode.ANY, allowed_function_names=["get_weather"]
        )
        config.tool_config = types.ToolConfig(function_calling_config=calling)
    if ask.schema is not None:
        config.response_mime_type = "application/json"
        config.response_schema = ask.schema
    return config.model_copy(update=ask.extra)


def _reply(chunks: list[types.GenerateContentResponse], parsed: Any) -> Reply:
    reply = Reply(parsed=parsed)
    parts: list[types.Part] = []
    for chunk in chunks:
        reply.id, reply.model = chunk.response_id or reply.id, chunk.model_version or reply.model
        for candidate in chunk.candidates or ():
            found = (candidate.content and candidate.content.parts) or []
            parts += found
            reply.pieces += bool(found)
            if candidate.finish_reason is not None:
                reply.finish = _FINISHES[candidate.finish_reason.value]
        if chunk.usage_metadata is not None:
            usage = chunk.usage_metadata
            thoughts = usage.thoughts_token_count or 0
            reply.usage = (
                usage.prompt_token_count or 0,
                usage.cached_content_token_count or 0,
                (usage.candidates_token_count or 0) + thoughts,
                thoughts,
            )
    for part in parts:
        if part.function_call is not None:
            call = part.function_call
            reply.calls.append(Call(call.id, call.name or "", call.args or {}))
        elif part.thought:
            reply.thoughts += part.text or ""
        else:
            reply.text += part.text or ""
    if reply.finish == "stop" and reply.calls:
        reply.finish = "tools"
    reply.native = types.Content(role="model", parts=parts)
    return reply


def clients(url: str) -> genai.Client:
    return genai.Client(api_key="any", http_options=types.HttpOptions(base_url=url))
