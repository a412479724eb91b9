"""Benchmark: what a call through Assay costs in CPU time, with trace and cost on, beside a bare proxy.

    python bench/gateway.py
    python bench/gateway.py --rounds 5 --calls 8000
    python bench/gateway.py --at-once

Three processes on loopback: an upstream that answers chat completions from prepared bytes, the server under
measurement (the real `assay up`, or a bare uvicorn + aiohttp proxy that passes bytes through), and this one,
which sends the load over 32 connections. On Linux the server is pinned to core 0, the other two to core 1.
CPU time is that of the server process alone, all its threads, user and system. The upstream sends a stream's
57 chunks one at a time, two milliseconds apart, as models do, so that each is read and written by itself;
with --at-once it sends them in one piece, as a static file server would.

Not a test: it has no threshold and no exit status of its own. Figures are kept in docs/performance.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httptools
import uvloop
from transport import CHUNK_INTERVAL_S, CHUNKS, CONNECTIONS, cpu_s, pin, resident_mb, start

PATH = "/v1/chat/completions"
QUESTION = "Please summarise this text. " + "lorem ipsum " * 150
ANSWER = "The text is about nothing in particular. " * 14


def completion() -> bytes:
    usage = {"prompt_tokens": 420, "completion_tokens": 120, "total_tokens": 540}
    choice = {"index": 0, "message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"}
    reply = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini-2024-07-18"}
    return json.dumps({**reply, "choices": [choice], "usage": usage}).encode()


def chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
    head = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt-4o-mini-2024-07-18",
    }
    choices = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
    return b"data: " + json.dumps({**head, "choices": choices, "usage": None}).encode() + b"\n\n"


def stream() -> list[bytes]:
    usage = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt-4o-mini-2024-07-18",
    }
    totals = {"prompt_tokens": 420, "completion_tokens": 54, "total_tokens": 474}
    last = json.dumps({**usage, "choices": [], "usage": totals}).encode()
    words = [chunk({"content": " token"}) for _ in range(CHUNKS - 3)]
    first = chunk({"role": "assistant", "content": ""})
    return [first, *words, chunk({}, "stop"), b"data: " + last + b"\n\ndata: [DONE]\n\n"]


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: "
BODY = completion()
REPLY = HEAD + b"application/json\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY
STREAM_HEAD = HEAD + b"text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
STREAM = [b"%x\r\n" % len(piece) + piece + b"\r\n" for piece in stream()] + [b"0\r\n\r\n"]


class Upstream(asyncio.Protocol):
    """Answers a request that asks for a stream with one chunk every two milliseconds, any other at once."""

    at_once = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.loop = asyncio.get_running_loop()
        self.parser = httptools.HttpRequestParser(self)
        self.body: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_message_complete(self) -> None:
        streamed = re.search(rb'"stream":\s*true', b"".join(self.body)) is not None
        self.body.clear()
        if streamed and self.at_once:
            self.transport.write(STREAM_HEAD + b"".join(STREAM))
        elif streamed:
            self.transport.write(STREAM_HEAD)
            self.loop.call_later(CHUNK_INTERVAL_S, self.send, 0)
        else:
            self.transport.write(REPLY)

    def send(self, index: int) -> None:
        if self.transport.is_closing():
            return
        self.transport.write(STREAM[index])
        if index + 1 < len(STREAM):
            self.loop.call_later(CHUNK_INTERVAL_S, self.send, index + 1)


async def run_upstream() -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


# --- the load ------------------------------------------------------------------------------------------


class Load(asyncio.Protocol):
    """One keep-alive connection: sends a request, waits for the end of the reply, sends the next."""

    def __init__(self, body: bytes, expect: bytes, remaining: list[int], done: asyncio.Future[None]) -> None:
        head = f"POST {PATH} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        self.request = f"{head}authorization: Bearer x\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
        self.expect, self.remaining, self.done = expect, remaining, done

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.next()

    def next(self) -> None:
        if self.remaining[0] <= 0:
            self.transport.close()
            return
        self.remaining[0] -= 1
        self.parser = httptools.HttpResponseParser(self)
        self.body: list[bytes] = []
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_message_complete(self) -> None:
        whole = b"".join(self.body)
        if self.parser.get_status_code() != 200 or self.expect not in whole:
            self.done.set_exception(RuntimeError(f"the server answered {whole[-300:]!r}"))
            self.transport.abort()
            return
        asyncio.get_running_loop().call_soon(self.next)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def load(port: int, streamed: bool, calls: int) -> None:
    loop = asyncio.get_running_loop()
    asked = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": QUESTION}], "stream": streamed}
    body, expect = json.dumps(asked).encode(), b"[DONE]" if streamed else b"nothing in particular"
    remaining = [calls]
    ends: list[asyncio.Future[None]] = [loop.create_future() for _ in range(CONNECTIONS)]
    for end in ends:
        await loop.create_connection(partial(Load, body, expect, remaining, end), "127.0.0.1", port)
    await asyncio.gather(*ends)


# --- the servers under measurement ------------------------------------------------------------------------


@contextmanager
def assay(upstream_port: int, folder: Path) -> Iterator[tuple[int, int]]:
    """The real command, in a folder of its own: (process id, port)."""
    (folder / "assay.toml").write_text(
        f'[providers.bench]\ndialect = "openai"\nbase_url = "http://127.0.0.1:{upstream_port}/v1"\n'
        f'prices = "openai"\n[models."gpt-4o-mini"]\nprovider = "bench"\n'
    )
    command = [sys.executable, "-m", "assay.main", "up", "--port", "0"]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    try:
        pin(process.pid, 0)
        assert process.stdout is not None
        found = re.search(r":(\d+)", process.stdout.readline())
        assert found is not None, "assay up did not start; its error is above"
        yield process.pid, int(found[1])
    finally:
        process.terminate()
        process.wait()


@contextmanager
def bare(upstream_port: int, _folder: Path) -> Iterator[tuple[int, int]]:
    """uvicorn + aiohttp, bytes passed through, nothing recorded."""
    process, port = start("--proxy", "aiohttp", "--upstream-port", str(upstream_port), core=0)
    try:
        yield process.pid, port
    finally:
        process.terminate()
        process.wait()


@dataclass(frozen=True)
class Figures:
    cpu_us: float
    worst_us: float
    calls_per_s: float


def measure(pid: int, port: int, streamed: bool, calls: int, rounds: int) -> Figures:
    uvloop.run(load(port, streamed, max(CONNECTIONS, calls // 4)))
    costs, rates = [], []
    for _ in range(rounds):
        cpu, wall = cpu_s(pid), time.perf_counter()
        uvloop.run(load(port, streamed, calls))
        rates.append(calls / (time.perf_counter() - wall))
        costs.append((cpu_s(pid) - cpu) / calls * 1e6)
    return Figures(statistics.median(costs), max(costs), statistics.median(rates))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=6000, help="whole replies a round")
    parser.add_argument("--streams", type=int, default=640, help="streams a round")
    parser.add_argument("--at-once", action="store_true", help="an upstream that sends a stream in one piece")
    parser.add_argument("--upstream", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.upstream:
        Upstream.at_once = options.at_once
        uvloop.run(run_upstream())
        return
    pin(os.getpid(), 1)
    command = [sys.executable, __file__, "--upstream", *(["--at-once"] if options.at_once else [])]
    upstream = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    pin(upstream.pid, 1)
    assert upstream.stdout is not None
    upstream_port = int(upstream.stdout.readline())
    print(f"{'server':<28}{'call: CPU us (worst)':>24}{'calls/s':>10}{'stream: CPU us (worst)':>26}{'MB':>8}")
    rows: dict[str, tuple[Figures, Figures]] = {}
    try:
        for name, server in (("bare proxy, aiohttp", bare), ("assay, trace and cost on", assay)):
            with tempfile.TemporaryDirectory() as folder, server(upstream_port, Path(folder)) as (pid, port):
                call = measure(pid, port, False, options.calls, options.rounds)
                streamed = measure(pid, port, True, options.streams, options.rounds)
                rows[name] = (call, streamed)
                print(
                    f"{name:<28}{f'{call.cpu_us:,.0f} ({call.worst_us:,.0f})':>24}{call.calls_per_s:>10,.0f}"
                    f"{f'{streamed.cpu_us:,.0f} ({streamed.worst_us:,.0f})':>26}{resident_mb(pid):>8.0f}"
                )
                if server is assay:
                    check_stored(Path(folder), options)
    finally:
        upstream.terminate()
        upstream.wait()
    (bare_call, bare_stream), (our_call, our_stream) = rows.values()
    print(
        f"assay over the bare proxy: call {our_call.cpu_us / bare_call.cpu_us:.2f}x, "
        f"stream {our_stream.cpu_us / bare_stream.cpu_us:.2f}x"
    )


def check_stored(folder: Path, options: argparse.Namespace) -> None:
    """A benchmark of a server that drops its spans would measure nothing."""
    wanted = sum(
        max(CONNECTIONS, calls // 4) + options.rounds * calls for calls in (options.calls, options.streams)
    )
    until = time.monotonic() + 30
    stored, priced = 0, 0
    while stored < wanted and time.monotonic() < until:
        with sqlite3.connect(folder / ".assay" / "assay.db") as store:
            query = "SELECT count(*), sum(cost_kind = 'exact' AND cost_pico > 0) FROM spans"
            stored, priced = store.execute(query).fetchone()
        time.sleep(0.2)
    print(f"{'':<28}spans stored: {stored:,} of {wanted:,}, {priced or 0:,} with an exact cost")


if __name__ == "__main__":
    main()
