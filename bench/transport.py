"""Benchmark: the CPU time that each upstream HTTP client costs a bare pass-through proxy.

    python bench/transport.py                     # every client that is installed
    python bench/transport.py --rounds 5 --only assay aiohttp

Three processes on loopback: an upstream that answers from prepared bytes, a uvicorn proxy around one client,
and this one, which sends the load. The proxy is pinned to core 0, the other two to core 1. CPU time is
that of the proxy alone, all its threads, user and system. `assay` is `assay.providers.transport`; the others
are bare clients; `no client` answers without an upstream, so it is the share of uvicorn.

Clients to compare with are no dependencies of Assay: pip install aiohttp pyreqwest httpx2.
Not a test: it has no threshold. Linux alone: CPU time is read from /proc.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

CONNECTIONS = 32
REQUEST_BODY = b'{"model":"m","messages":[{"role":"user","content":"' + b"x" * 1_995 + b'"}]}'
REPLY_BODY = b'{"choices":[{"message":{"role":"assistant","content":"' + b"y" * 842 + b'"}}]}'
CHUNKS = 57
CHUNK_INTERVAL_S = 0.002
SSE_CHUNK = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":" token"}}],"object":"chunk"}\n\n'
HEADERS = (("content-type", "application/json"), ("authorization", "Bearer sk-bench"))

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Relay = Callable[[str, bytes, Send], Awaitable[None]]


# --- the upstream -------------------------------------------------------------------------------------------

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: "
STATIC_REPLY = HEAD + b"application/json\r\ncontent-length: %d\r\n\r\n" % len(REPLY_BODY) + REPLY_BODY
STREAM_HEAD = HEAD + b"text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
STREAM_CHUNK = b"%x\r\n" % len(SSE_CHUNK) + SSE_CHUNK + b"\r\n"


class Upstream(asyncio.Protocol):
    """Answers `POST /reply` at once and `POST /stream` with one chunk every two milliseconds."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.loop = asyncio.get_running_loop()
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0 or len(self.buffer) < end + 4 + len(REQUEST_BODY):
            return
        streamed = self.buffer.startswith(b"POST /stream")
        self.buffer = b""
        if streamed:
            self.transport.write(STREAM_HEAD)
            self.loop.call_later(CHUNK_INTERVAL_S, self.chunk, CHUNKS)
        else:
            self.transport.write(STATIC_REPLY)

    def chunk(self, left: int) -> None:
        if self.transport.is_closing():
            return
        self.transport.write(STREAM_CHUNK if left else b"0\r\n\r\n")
        if left:
            self.loop.call_later(CHUNK_INTERVAL_S, self.chunk, left - 1)


async def run_upstream() -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0)
    announce(server.sockets[0].getsockname()[1])
    await server.serve_forever()


# --- the clients under measurement --------------------------------------------------------------------------


async def start_reply(send: Send, status: int) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"x/y")]})


async def relay_chunk(send: Send, body: Any, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


@asynccontextmanager
async def assay_client() -> AsyncIterator[Relay]:
    from assay.providers.transport import HttpCall, Transport

    async with Transport() as transport:

        async def relay(url: str, body: bytes, send: Send) -> None:
            async with transport.send(HttpCall("POST", url, HEADERS, body, timeout_s=60.0)) as reply:
                await start_reply(send, reply.status)
                async for chunk in reply.chunks:
                    await relay_chunk(send, chunk)
            await relay_chunk(send, b"", more=False)

        yield relay


@asynccontextmanager
async def aiohttp_client() -> AsyncIterator[Relay]:
    import aiohttp

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:

        async def relay(url: str, body: bytes, send: Send) -> None:
            async with session.post(url, data=body, headers=HEADERS, allow_redirects=False) as reply:
                await start_reply(send, reply.status)
                async for chunk in reply.content.iter_any():
                    await relay_chunk(send, chunk)
            await relay_chunk(send, b"", more=False)

        yield relay


@asynccontextmanager
async def pyreqwest_client() -> AsyncIterator[Relay]:
    from pyreqwest.client import ClientBuilder

    async with ClientBuilder().follow_redirects(False).no_proxy().build() as client:

        async def relay(url: str, body: bytes, send: Send) -> None:
            call = client.post(url).headers(HEADERS).body_bytes(body).streamed_read_buffer_limit(0)
            async with call.build_streamed() as reply:
                await start_reply(send, reply.status)
                while (chunk := await reply.body_reader.read_chunk()) is not None:
                    await relay_chunk(send, chunk.to_bytes())
            await relay_chunk(send, b"", more=False)

        yield relay


@asynccontextmanager
async def httpx_client() -> AsyncIterator[Relay]:
    import httpx2

    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx2.AsyncClient(limits=limits, trust_env=False) as client:

        async def relay(url: str, body: bytes, send: Send) -> None:
            async with client.stream("POST", url, headers=dict(HEADERS), content=body) as reply:
                await start_reply(send, reply.status_code)
                async for chunk in reply.aiter_raw():
                    await relay_chunk(send, chunk)
            await relay_chunk(send, b"", more=False)

        yield relay


@asynccontextmanager
async def no_client() -> AsyncIterator[Relay]:
    async def relay(url: str, body: bytes, send: Send) -> None:
        await start_reply(send, 200)
        if url.endswith("/stream"):
            for _ in range(CHUNKS):
                await asyncio.sleep(CHUNK_INTERVAL_S)
                await relay_chunk(send, SSE_CHUNK)
            await relay_chunk(send, b"", more=False)
        else:
            await relay_chunk(send, REPLY_BODY, more=False)

    yield relay


@dataclass(frozen=True)
class Client:
    open: Callable[[], AbstractAsyncContextManager[Relay]]
    distribution: str


CLIENTS = {
    "no client": Client(no_client, "uvicorn"),
    "assay": Client(assay_client, "assay"),
    "aiohttp": Client(aiohttp_client, "aiohttp"),
    "pyreqwest": Client(pyreqwest_client, "pyreqwest"),
    "httpx2": Client(httpx_client, "httpx2"),
}


async def run_proxy(client: str, upstream_port: int) -> None:
    try:
        importlib.metadata.version(CLIENTS[client].distribution)
    except importlib.metadata.PackageNotFoundError:
        raise SystemExit(f"{client} is not installed: pip install {CLIENTS[client].distribution}") from None
    async with CLIENTS[client].open() as relay:

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            body, more = b"", True
            while more:
                message = await receive()
                body += message.get("body", b"")
                more = message.get("more_body", False)
            await relay(f"http://127.0.0.1:{upstream_port}{scope['path']}", body, send)

        config = uvicorn.Config(
            app, port=0, loop="uvloop", http="httptools", lifespan="off", access_log=False, log_level="error"
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110 (uvicorn has no event to wait for)
            await asyncio.sleep(0.01)
        announce(server.servers[0].sockets[0].getsockname()[1])
        await serving


# --- the load -----------------------------------------------------------------------------------------------


class Load(asyncio.Protocol):
    """One connection: sends a request, waits for the end of its chunked reply, sends the next."""

    def __init__(self, path: str, remaining: list[int], done: asyncio.Future[None]) -> None:
        head = f"POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-length: {len(REQUEST_BODY)}\r\n\r\n"
        self.request = head.encode() + REQUEST_BODY
        self.remaining, self.done = remaining, done
        self.size = CHUNKS * len(SSE_CHUNK) if path == "/stream" else len(REPLY_BODY)
        self.tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.next()

    def next(self) -> None:
        if self.remaining[0] <= 0:
            self.transport.close()
            return
        self.remaining[0] -= 1
        self.tail = b""
        self.seen = 0
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        if not self.seen and not data.startswith(b"HTTP/1.1 200"):
            self.done.set_exception(RuntimeError(f"the proxy answered {data[:80]!r}"))
        self.seen += len(data)
        self.tail = (self.tail + data)[-7:]
        if self.seen > self.size and self.tail.endswith(b"\r\n0\r\n\r\n"):
            self.next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def load(port: int, path: str, calls: int) -> None:
    loop = asyncio.get_running_loop()
    remaining = [calls]
    ends: list[asyncio.Future[None]] = [loop.create_future() for _ in range(CONNECTIONS)]
    for end in ends:
        await loop.create_connection(lambda end=end: Load(path, remaining, end), "127.0.0.1", port)  # type: ignore[misc]
    await asyncio.gather(*ends)


# --- measuring ----------------------------------------------------------------------------------------------


def announce(port: int) -> None:
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()


def pin(pid: int, core: int) -> None:
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(pid, {core})


def start(*arguments: str, core: int) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__)), *arguments], stdout=subprocess.PIPE, text=True
    )
    pin(process.pid, core)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"{arguments} did not start; its error is above")
    return process, int(line)


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@dataclass(frozen=True)
class Round:
    cpu_us: float
    calls_per_s: float


def measure(pid: int, port: int, path: str, calls: int) -> Round:
    cpu, wall = cpu_s(pid), time.perf_counter()
    uvloop.run(load(port, path, calls))
    return Round((cpu_s(pid) - cpu) / calls * 1e6, calls / (time.perf_counter() - wall))


def bench(client: str, upstream_port: int, options: argparse.Namespace) -> str:
    proxy, port = start("--proxy", client, "--upstream-port", str(upstream_port), core=0)
    try:
        measure(proxy.pid, port, "/reply", 1_000)
        measure(proxy.pid, port, "/stream", CONNECTIONS)
        replies = [measure(proxy.pid, port, "/reply", options.calls) for _ in range(options.rounds)]
        streams = [measure(proxy.pid, port, "/stream", options.streams) for _ in range(options.rounds)]
        memory = resident_mb(proxy.pid)
    finally:
        proxy.terminate()
        proxy.wait()
    rate = statistics.median(r.calls_per_s for r in replies)
    return f"| {cpu(replies)} | {rate:,.0f} | {cpu(streams)} | {memory:.0f} |"


def cpu(rounds: list[Round]) -> str:
    values = sorted(r.cpu_us for r in rounds)
    return f"{statistics.median(values):,.0f} ({values[0]:,.0f}-{values[-1]:,.0f})"


def run(options: argparse.Namespace) -> None:
    pin(0, 1)
    upstream, upstream_port = start("--upstream", core=1)
    print(f"{CONNECTIONS} connections, {len(REQUEST_BODY):,} B request, {len(REPLY_BODY)} B reply;", end=" ")
    print(f"stream: {CHUNKS} chunks, {CHUNK_INTERVAL_S * 1e3:.0f} ms apart; {os.cpu_count()} cores.")
    print("CPU time in microseconds: the median of the rounds (least-most)\n")
    print("| client | CPU per call | calls/s | CPU per stream | resident MB |\n|---|---|---|---|---|")
    try:
        for name in options.only or CLIENTS:
            try:
                version = importlib.metadata.version(CLIENTS[name].distribution)
            except importlib.metadata.PackageNotFoundError:
                print(f"| {name} | not installed: pip install {CLIENTS[name].distribution} | | | |")
                continue
            print(f"| {name} ({CLIENTS[name].distribution} {version}) {bench(name, upstream_port, options)}")
            sys.stdout.flush()
    finally:
        upstream.terminate()
        upstream.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=list(CLIENTS), help="measure these clients alone")
    parser.add_argument("--rounds", type=int, default=3, help="rounds per client; the median is printed")
    parser.add_argument("--calls", type=int, default=20_000, help="calls a round")
    parser.add_argument("--streams", type=int, default=1_000, help="streams a round")
    parser.add_argument("--upstream", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--proxy", help=argparse.SUPPRESS)
    parser.add_argument("--upstream-port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.upstream:
        uvloop.run(run_upstream())
    elif options.proxy:
        uvloop.run(run_proxy(options.proxy, options.upstream_port))
    else:
        run(options)


if __name__ == "__main__":
    main()
