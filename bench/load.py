"""The load of the gateway benchmark: what is asked of a server, over 32 connections, and what it costs it."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Literal, TypeAlias

import httptools
import uvloop
from transport import CONNECTIONS, cpu_s
from upstream import PATHS, Dialect

QUESTION = "Please summarise this text. " + "lorem ipsum " * 150
EXPECTED_STREAM: Final[dict[Dialect, bytes]] = {"OpenAI": b"[DONE]", "Anthropic": b"message_stop"}
EXPECTED_WHOLE: Final = b"nothing in particular"

Column: TypeAlias = Literal["call", "paced", "at-once"]
COLUMNS: Final[tuple[Column, ...]] = ("call", "paced", "at-once")


@dataclass(frozen=True)
class Row:
    """Who asks in which dialect for a model that speaks which; and what of CPU time it may cost, in us."""

    name: str
    caller: Dialect
    upstream: Dialect
    call_bar_us: int
    stream_bar_us: int

    @property
    def translated(self) -> bool:
        return self.caller != self.upstream

    def bar_us(self, column: Column) -> int:
        return self.call_bar_us if column == "call" else self.stream_bar_us


ROWS: Final = {
    row.name: row
    for row in (
        Row("same dialect (OpenAI)", "OpenAI", "OpenAI", 250, 1_000),
        Row("same dialect (Anthropic)", "Anthropic", "Anthropic", 250, 1_000),
        Row("OpenAI -> Anthropic", "OpenAI", "Anthropic", 400, 2_500),
        Row("Anthropic -> OpenAI", "Anthropic", "OpenAI", 400, 2_500),
    )
}


@dataclass(frozen=True)
class Target:
    """Where a row is asked of a server, by which model name, with which headers beside the usual ones."""

    path: str
    model: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Running:
    """A started server. `target` tells how to reach a dialect upstream at a pace."""

    pid: int
    port: int
    target: Callable[[Row, str], Target]


@dataclass(frozen=True)
class Figures:
    """CPU time of one call, the median of the rounds and the worst; and how many came a second."""

    cpu_us: float
    worst_us: float
    calls_per_s: float


class Refused(Exception):
    """The server did not answer as it should."""


class Load(asyncio.Protocol):
    """One keep-alive connection: sends a request, waits for the end of the reply, sends the next."""

    def __init__(
        self, request: bytes, expect: bytes, remaining: list[int], done: asyncio.Future[None]
    ) -> None:
        self.request, self.expect, self.remaining, self.done = request, expect, remaining, done

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
        whole, status = b"".join(self.body), self.parser.get_status_code()
        if status != 200 or self.expect not in whole:
            self.remaining[0] = 0
            if not self.done.done():
                self.done.set_exception(Refused(f"status {status}: {whole[-300:].decode(errors='replace')}"))
            self.transport.abort()
            return
        asyncio.get_running_loop().call_soon(self.next)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.done.done():
            return
        if self.remaining[0] > 0:
            self.done.set_exception(Refused(f"the server closed the connection ({exc})"))
        else:
            self.done.set_result(None)


def request(row: Row, target: Target, streamed: bool) -> bytes:
    """The bytes of one HTTP request."""
    asked: dict[str, Any] = {
        "model": target.model,
        "messages": [{"role": "user", "content": QUESTION}],
        "stream": streamed,
    }
    headers = {"host": "127.0.0.1", "content-type": "application/json", "authorization": "Bearer x"}
    if row.caller == "Anthropic":
        asked["max_tokens"] = 1_024
        headers |= {"x-api-key": "x", "anthropic-version": "2023-06-01"}
    body = json.dumps(asked).encode()
    headers |= {**target.headers, "content-length": str(len(body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {target.path} HTTP/1.1\r\n{lines}\r\n".encode() + body


async def load(port: int, asked: bytes, expect: bytes, calls: int) -> None:
    loop = asyncio.get_running_loop()
    remaining = [calls]
    ends: list[asyncio.Future[None]] = [loop.create_future() for _ in range(CONNECTIONS)]
    for end in ends:
        await loop.create_connection(partial(Load, asked, expect, remaining, end), "127.0.0.1", port)
    outcomes = await asyncio.gather(*ends, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, Refused):
            raise outcome


def warm_up(calls: int) -> int:
    """How many calls go before those that are counted."""
    return max(CONNECTIONS, calls // 4)


def measure(server: Running, row: Row, column: Column, calls: int, rounds: int) -> Figures:
    """Raises Refused when the server does not answer as it should."""
    target = server.target(row, "at-once" if column == "at-once" else "paced")
    asked = request(row, target, column != "call")
    expect = EXPECTED_WHOLE if column == "call" else EXPECTED_STREAM[row.caller]
    uvloop.run(load(server.port, asked, expect, warm_up(calls)))
    costs, rates = [], []
    for _ in range(rounds):
        cpu, wall = cpu_s(server.pid), time.perf_counter()
        uvloop.run(load(server.port, asked, expect, calls))
        rates.append(calls / (time.perf_counter() - wall))
        costs.append((cpu_s(server.pid) - cpu) / calls * 1e6)
    return Figures(statistics.median(costs), max(costs), statistics.median(rates))


def path(row: Row) -> str:
    """Where the caller's own SDK would ask."""
    return PATHS[row.caller]
