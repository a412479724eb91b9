"""The upstream of the gateway benchmark: prepared bytes, in OpenAI's and in Anthropic's dialect.

A request that asks for a stream gets 57 events: below /paced/ one at a time, two milliseconds apart, as
models send them; below /at-once/ in one piece, as a static file server would. What loads it lives in load.py.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from typing import Any, Final, Literal, TypeAlias

import httptools
from transport import CHUNK_INTERVAL_S, CHUNKS

Dialect: TypeAlias = Literal["OpenAI", "Anthropic"]

PACES: Final = ("paced", "at-once")
MODELS: Final[dict[Dialect, str]] = {"OpenAI": "gpt-4o-mini", "Anthropic": "claude-haiku-4-5"}
PATHS: Final[dict[Dialect, str]] = {"OpenAI": "/v1/chat/completions", "Anthropic": "/v1/messages"}
ANSWER: Final = "The text is about nothing in particular. " * 14
TOKENS_IN, TOKENS_OUT = 420, 120


# --- OpenAI ----------------------------------------------------------------------------------------------


def completion() -> bytes:
    usage = {
        "prompt_tokens": TOKENS_IN,
        "completion_tokens": TOKENS_OUT,
        "total_tokens": TOKENS_IN + TOKENS_OUT,
    }
    choice = {"index": 0, "message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": MODELS["OpenAI"]}
    return json.dumps({**head, "choices": [choice], "usage": usage}).encode()


def chunk(choices: list[dict[str, Any]], usage: dict[str, int] | None = None) -> bytes:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODELS["OpenAI"]}
    return b"data: " + json.dumps({**head, "choices": choices, "usage": usage}).encode() + b"\n\n"


def delta(content: dict[str, str], finish: str | None = None) -> bytes:
    return chunk([{"index": 0, "delta": content, "logprobs": None, "finish_reason": finish}])


def openai_stream() -> list[bytes]:
    words = [delta({"content": " token"}) for _ in range(CHUNKS - 3)]
    usage = {
        "prompt_tokens": TOKENS_IN,
        "completion_tokens": len(words),
        "total_tokens": TOKENS_IN + len(words),
    }
    last = chunk([], usage) + b"data: [DONE]\n\n"
    return [delta({"role": "assistant", "content": ""}), *words, delta({}, "stop"), last]


# --- Anthropic -------------------------------------------------------------------------------------------


def message(content: list[dict[str, str]], stop: str | None, tokens_out: int) -> dict[str, Any]:
    usage = {
        "input_tokens": TOKENS_IN,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": tokens_out,
    }
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": MODELS["Anthropic"]}
    return {**head, "content": content, "stop_reason": stop, "stop_sequence": None, "usage": usage}


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def anthropic_stream() -> list[bytes]:
    word = {"type": "text_delta", "text": " token"}
    words = [event("content_block_delta", index=0, delta=word) for _ in range(CHUNKS - 5)]
    stop = {"stop_reason": "end_turn", "stop_sequence": None}
    return [
        event("message_start", message=message([], None, 1)),
        event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        *words,
        event("content_block_stop", index=0),
        event("message_delta", delta=stop, usage={"output_tokens": len(words)}),
        event("message_stop"),
    ]


# --- serving ---------------------------------------------------------------------------------------------

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: "
STREAM_HEAD = HEAD + b"text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def whole(body: bytes) -> bytes:
    return HEAD + b"application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body


def chunked(pieces: list[bytes]) -> list[bytes]:
    return [b"%x\r\n" % len(piece) + piece + b"\r\n" for piece in pieces] + [b"0\r\n\r\n"]


REPLIES: Final[dict[Dialect, bytes]] = {
    "OpenAI": whole(completion()),
    "Anthropic": whole(
        json.dumps(message([{"type": "text", "text": ANSWER}], "end_turn", TOKENS_OUT)).encode()
    ),
}
STREAMS: Final[dict[Dialect, list[bytes]]] = {
    "OpenAI": chunked(openai_stream()),
    "Anthropic": chunked(anthropic_stream()),
}


class Upstream(asyncio.Protocol):
    """One connection: the path says the dialect and the pace, the body whether a stream is wanted."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.loop = asyncio.get_running_loop()
        self.parser = httptools.HttpRequestParser(self)
        self.url = b""
        self.body: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.url = b""
        self.body.clear()

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_message_complete(self) -> None:
        path = self.url.partition(b"?")[0]
        dialect: Dialect = "Anthropic" if path.endswith(b"/messages") else "OpenAI"
        if re.search(rb'"stream":\s*true', b"".join(self.body)) is None:
            self.transport.write(REPLIES[dialect])
        elif path.startswith(b"/at-once/"):
            self.transport.write(STREAM_HEAD + b"".join(STREAMS[dialect]))
        else:
            self.transport.write(STREAM_HEAD)
            self.loop.call_later(CHUNK_INTERVAL_S, self.send, STREAMS[dialect], 0)

    def send(self, pieces: list[bytes], index: int) -> None:
        if self.transport.is_closing():
            return
        self.transport.write(pieces[index])
        if index + 1 < len(pieces):
            self.loop.call_later(CHUNK_INTERVAL_S, self.send, pieces, index + 1)


async def run() -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(run())
