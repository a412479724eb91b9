"""A stand-in for a model server, over chat completions and Responses: one conversation about the weather.

It reads what it is asked: it wants the two tools offered, calls them, and makes its answer of their results.
Nothing here knows a framework or Assay.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio.to_thread
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

MODEL = "weather-1"
USAGE = (40, 8)
TOOLS = {"get_weather": {"city"}, "calculate": {"left", "sign", "right"}}


@dataclass(frozen=True)
class Call:
    """A tool call that the model makes."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Turn:
    """What the model says next: calls, or the answer in two halves."""

    calls: tuple[Call, ...] = ()
    answer: tuple[str, str] = ("", "")


class Unexpected(Exception):
    """The request is not one of this conversation; answered with status 400."""


def next_turn(offered: Mapping[str, Any], results: Mapping[str, str]) -> Turn:
    """The script: `offered` are the tools' JSON schemas by name, `results` the tool results by call id."""
    for name, arguments in TOOLS.items():
        if set(offered.get(name, {}).get("properties", ())) != arguments:
            raise Unexpected(f"the tool {name} with {sorted(arguments)} is not offered: {dict(offered)}")
    if "call_oslo" not in results or "call_lisbon" not in results:
        cities = [("call_oslo", "Oslo"), ("call_lisbon", "Lisbon")]
        return Turn(tuple(Call(id_, "get_weather", json.dumps({"city": city})) for id_, city in cities))
    oslo, lisbon = (_number(results[id_]) for id_ in ("call_oslo", "call_lisbon"))
    if "call_difference" not in results:
        arguments = json.dumps({"left": lisbon, "sign": "-", "right": oslo})
        return Turn((Call("call_difference", "calculate", arguments),))
    difference = _number(results["call_difference"])
    return Turn(answer=("Lisbon is warmer: ", f"{lisbon} against {oslo}, {difference} degrees more."))


def _number(text: str) -> int:
    found = re.search(r"\d+", text)
    if found is None:
        raise Unexpected(f"no number in the tool result {text!r}")
    return int(found[0])


@dataclass
class Upstream:
    """A running stand-in. A streamed answer halts after its first half until `go_on` is set."""

    url: str = ""
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    go_on: threading.Event = field(default_factory=threading.Event)

    async def chat(self, request: Request) -> Response:
        body = await request.json()
        self.asked.append(("chat", body))
        offered = {tool["function"]["name"]: tool["function"]["parameters"] for tool in body.get("tools", ())}
        said = [message for message in body["messages"] if message["role"] == "tool"]
        turn = next_turn(offered, {message["tool_call_id"]: _text(message["content"]) for message in said})
        if not body.get("stream"):
            return JSONResponse(chat_reply(turn, self._number))
        usage = (body.get("stream_options") or {}).get("include_usage", False)
        return self._stream(chat_chunks(turn, self._number, usage))

    async def responses(self, request: Request) -> Response:
        body = await request.json()
        self.asked.append(("responses", body))
        offered = {tool["name"]: tool["parameters"] for tool in body.get("tools", ())}
        said = [item for item in body["input"] if item.get("type") == "function_call_output"]
        turn = next_turn(offered, {item["call_id"]: _text(item["output"]) for item in said})
        if not body.get("stream"):
            return JSONResponse(response(self._number, "completed", turn))
        return self._stream(response_events(turn, self._number))

    @property
    def _number(self) -> int:
        """Replies have ids of their own: LangGraph takes two of one id for one message."""
        return len(self.asked)

    def _stream(self, pieces: Iterator[bytes | None]) -> Response:
        async def sent() -> AsyncIterator[bytes]:
            for piece in pieces:
                if piece is not None:
                    yield piece
                elif not await anyio.to_thread.run_sync(self.go_on.wait, 60):
                    return  # nobody has read the first half of the answer

        return StreamingResponse(sent(), media_type="text/event-stream")


def _text(content: str | list[dict[str, Any]]) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


# --- chat completions --------------------------------------------------------------------------------


def _chat_usage() -> dict[str, int]:
    return {"prompt_tokens": USAGE[0], "completion_tokens": USAGE[1], "total_tokens": sum(USAGE)}


def _chat_calls(turn: Turn) -> list[dict[str, Any]]:
    return [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in turn.calls
    ]


def chat_reply(turn: Turn, number: int) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "".join(turn.answer) or None, "refusal": None}
    if turn.calls:
        message["tool_calls"] = _chat_calls(turn)
    finish = "tool_calls" if turn.calls else "stop"
    return {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
        "usage": _chat_usage(),
    }


def chat_chunks(turn: Turn, number: int, usage: bool) -> Iterator[bytes | None]:
    """The stream's bytes; None where it halts."""

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _chunk(number, [choice], None)

    yield chunk({"role": "assistant", "content": None if turn.calls else ""})
    for index, call in enumerate(_chat_calls(turn)):
        arguments = call["function"]["arguments"]
        opened = {**call, "function": {**call["function"], "arguments": ""}}
        yield chunk({"tool_calls": [{"index": index, **opened}]})
        for piece in (arguments[:9], arguments[9:]):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    if not turn.calls:
        yield chunk({"content": turn.answer[0]})
        yield None
        yield chunk({"content": turn.answer[1]})
    yield chunk({}, "tool_calls" if turn.calls else "stop")
    if usage:
        yield _chunk(number, [], _chat_usage())
    yield b"data: [DONE]\n\n"


def _chunk(number: int, choices: list[dict[str, Any]], usage: dict[str, int] | None) -> bytes:
    head = {"id": f"chatcmpl-{number}", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    return b"data: " + json.dumps({**head, "choices": choices, "usage": usage}).encode() + b"\n\n"


# --- Responses ----------------------------------------------------------------------------------------


def _items(turn: Turn, number: int) -> list[dict[str, Any]]:
    if not turn.calls:
        part = {"type": "output_text", "text": "".join(turn.answer), "annotations": [], "logprobs": []}
        message = {"id": f"msg_{number}", "type": "message", "role": "assistant", "status": "completed"}
        return [{**message, "content": [part]}]
    return [
        {
            "id": f"fc_{call.id}",
            "type": "function_call",
            "status": "completed",
            "call_id": call.id,
            "name": call.name,
            "arguments": call.arguments,
        }
        for call in turn.calls
    ]


def response(number: int, status: str, turn: Turn | None = None) -> dict[str, Any]:
    usage = {
        "input_tokens": USAGE[0],
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": USAGE[1],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": sum(USAGE),
    }
    return {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": 1,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": MODEL,
        "output": _items(turn, number) if turn else [],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": usage if turn else None,
    }


def response_events(turn: Turn, number: int) -> Iterator[bytes | None]:
    """The stream's bytes; None where it halts."""
    for position, event in enumerate(_response_events(turn, number)):
        if event is None:
            yield None
            continue
        body = json.dumps({**event, "sequence_number": position})
        yield f"event: {event['type']}\ndata: {body}\n\n".encode()


def _response_events(turn: Turn, number: int) -> Iterator[dict[str, Any] | None]:
    yield {"type": "response.created", "response": response(number, "in_progress")}
    yield {"type": "response.in_progress", "response": response(number, "in_progress")}
    for index, item in enumerate(_items(turn, number)):
        at = {"item_id": item["id"], "output_index": index}
        begun = {**item, "status": "in_progress"}
        if item["type"] == "function_call":
            added = {**begun, "arguments": ""}
            yield {"type": "response.output_item.added", "output_index": index, "item": added}
            arguments = item["arguments"]
            for piece in (arguments[:9], arguments[9:]):
                yield {"type": "response.function_call_arguments.delta", **at, "delta": piece}
            done = {"name": item["name"], "arguments": arguments}
            yield {"type": "response.function_call_arguments.done", **at, **done}
        else:
            added = {**begun, "content": []}
            yield {"type": "response.output_item.added", "output_index": index, "item": added}
            yield from _text_events({**at, "content_index": 0}, item["content"][0], turn)
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    yield {"type": "response.completed", "response": response(number, "completed", turn)}


def _text_events(at: dict[str, Any], part: dict[str, Any], turn: Turn) -> Iterator[dict[str, Any] | None]:
    yield {"type": "response.content_part.added", **at, "part": {**part, "text": ""}}
    yield {"type": "response.output_text.delta", **at, "delta": turn.answer[0], "logprobs": []}
    yield None
    yield {"type": "response.output_text.delta", **at, "delta": turn.answer[1], "logprobs": []}
    yield {"type": "response.output_text.done", **at, "text": part["text"], "logprobs": []}
    yield {"type": "response.content_part.done", **at, "part": part}


# --- running it ----------------------------------------------------------------------------------------


async def _refuse(_request: Request, error: Exception) -> Response:
    return JSONResponse({"error": {"message": str(error), "type": "invalid_request_error"}}, 400)


@contextmanager
def running() -> Iterator[Upstream]:
    """The stand-in on a free port, in a thread."""
    upstream = Upstream()
    routes = [
        Route("/v1/chat/completions", upstream.chat, methods=["POST"]),
        Route("/v1/responses", upstream.responses, methods=["POST"]),
    ]
    app = Starlette(routes=routes, exception_handlers={Unexpected: _refuse})
    config = uvicorn.Config(app, port=0, lifespan="off", log_level="error")
    server = uvicorn.Server(config)
    listening = config.bind_socket()
    upstream.url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield upstream
    finally:
        upstream.go_on.set()
        server.should_exit = True
        thread.join()
