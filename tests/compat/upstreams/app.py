"""The scripted upstreams as one ASGI app, and the thread that serves it. Replies are files in ../fixtures.

The model's name upstream says what is played: `gpt-5.1--tools` answers with the fixture `tools`, and with
`weather` once the request holds the results of the calls; `gpt-5.1--text.sevens` answers with `text` in
pieces of seven bytes. What follows a `~` is a mark by which a test finds its request again. Every request is
checked against the SDK's own types and kept for the test to look at.
"""

from __future__ import annotations

import asyncio
import json
import queue
import re
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any

import uvicorn

from . import looking
from .apis import Api, found, read
from .seen import Seen

FIXTURES = Path(__file__).parent.parent / "fixtures"
Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]


JUNK = b'data: {"id":"x","choi\xff\xfe\n\ndata: <html>503</html>\n\n\x00\x00'
STATUSES = {"invalid": 400, "too-long": 400, "no-model": 404, "rate": 429, "broken": 500}


@dataclass
class Exchange:
    """One request as it arrived. `closed` is set when its connection closed before the reply was whole."""

    provider: str
    dialect: str
    path: str
    query: str
    headers: dict[str, str]
    body: dict[str, Any]
    scenario: str
    stream: bool
    problems: list[str]
    mark: str = ""
    reading: threading.Event = field(default_factory=threading.Event)
    closed: threading.Event = field(default_factory=threading.Event)

    @property
    def seen(self) -> Seen:
        return read(self.dialect, self.body)


class ScriptedBreak(Exception):
    """Makes the server close the connection in the middle of a reply."""


class Upstreams:
    """Serves on a free port in a thread of its own; `url` of a provider is what its base_url starts with."""

    def __init__(self) -> None:
        self._exchanges: queue.Queue[Exchange] = queue.Queue()
        self._mistakes: list[Exception] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.origin = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(
            self._app,
            interface="asgi3",
            lifespan="off",
            log_config=None,
            log_level="critical",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="upstreams", daemon=True
        )

    def __enter__(self) -> Upstreams:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=20)
        self._socket.close()

    def url(self, provider: str) -> str:
        return f"{self.origin}/{provider}"

    def clear(self) -> None:
        """Forgets what has arrived so far."""
        self.taken()

    def taken(self) -> list[Exchange]:
        """All that has arrived and was not taken yet. Raises what went wrong here, if anything did."""
        if self._mistakes:
            raise self._mistakes.pop()
        found = []
        while True:
            try:
                found.append(self._exchanges.get_nowait())
            except queue.Empty:
                return found

    def one(self) -> Exchange:
        """The one request that arrived, which is one that the SDK could have sent."""
        [exchange] = self.taken()
        assert exchange.problems == [], (exchange.problems, exchange.body)
        return exchange

    def next(self) -> Exchange:
        """The next request, as soon as it has arrived."""
        return self._exchanges.get(timeout=20)

    # --- serving -----------------------------------------------------------------------------------

    async def _app(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        try:
            exchange, api = _understand(scope, body)
            self._exchanges.put(exchange)
            await _Play(exchange, api, receive, send).run()
        except ScriptedBreak:
            raise
        except Exception as mistake:
            self._mistakes.append(mistake)
            raise


def _understand(scope: dict[str, Any], body: bytes) -> tuple[Exchange, Api]:
    _, provider, rest = scope["path"].split("/", 2)
    path = "/" + rest
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    query = scope["query_string"].decode()
    parsed = json.loads(body)
    which = found(provider, path)
    if which is None:
        raise LookupError(f"{provider} has nothing at {path}")
    api, model = which
    stream = path.endswith(":streamGenerateContent") or parsed.get("stream") is True
    scenario, _, mark = (model or parsed["model"]).partition("--")[2].partition("~")
    problems = api.check(parsed)
    name, wanted = api.key
    if headers.get(name) != wanted:
        problems.append(f"{name} is {headers.get(name)!r}")
    if provider == "anthropic" and not re.fullmatch(r"\d{4}-\d\d-\d\d", headers.get("anthropic-version", "")):
        problems.append("no anthropic-version")
    if path.endswith(":streamGenerateContent") and query != "alt=sse":
        problems.append(f"query is {query!r}")
    exchange = Exchange(provider, api.dialect, path, query, headers, parsed, scenario, stream, problems, mark)
    return exchange, api


class _Play:
    """One reply, be it right or wrong."""

    def __init__(self, exchange: Exchange, api: Api, receive: Receive, send: Send) -> None:
        self.exchange, self.api, self.receive, self.send = exchange, api, receive, send

    async def run(self) -> None:
        scenario, _, pieces = self.exchange.scenario.partition(".")
        if self.api.fixture:
            await self._whole(200, self._file(self.api.fixture, "json"))
        elif scenario.startswith("status-"):
            await self._whole(int(scenario.removeprefix("status-")), self._file("error-broken", "json"))
        elif scenario.startswith("error-") and scenario.removeprefix("error-") not in {"first", "mid"}:
            await self._refuse(scenario.removeprefix("error-"))
        elif (fault := getattr(self, "_" + scenario.replace("-", "_"), None)) is not None:
            await fault()
        else:
            if scenario in {"tools", "indexed", "reasoning"} and self.exchange.seen.results:
                scenario = "weather"
            await self._answer(scenario, pieces)

    async def _answer(self, scenario: str, pieces: str) -> None:
        if not self.exchange.stream:
            await self._whole(200, self._file(scenario, "json"))
            return
        data = self._stream(scenario)
        await self._open()
        for piece in _cut(data, pieces):
            await self._piece(piece)
            if pieces:
                # Gives the other side the time to read this piece alone.
                await asyncio.sleep(0)
        await self._close()

    async def _refuse(self, kind: str) -> None:
        known = {**STATUSES, "overloaded": self.api.overloaded, "bad-key": self.api.bad_key}
        extra = [(b"retry-after", b"2")] if kind == "rate" else []
        await self._whole(known[kind], self._file(f"error-{kind}", "json"), extra)

    async def _looking(self) -> None:
        """What the request itself calls for, where it is whole; streamed, a text."""
        exchange = self.exchange
        if (refusal := looking.refusal(exchange.dialect, exchange.problems)) is not None:
            await self._whole(400, refusal)
        elif exchange.stream:
            assert not exchange.seen.tools
            await self._open()
            await self._piece(looking.stream(exchange.dialect, self._stream("text")))
            await self._close()
        else:
            await self._whole(200, looking.reply(exchange.dialect, exchange.body, exchange.seen))

    # --- faults, by the name of the scenario -------------------------------------------------------

    async def _error_first(self) -> None:
        """An error though the status said 200."""
        if not self.exchange.stream:
            await self._whole(200, self._file("error-overloaded", "json"))
            return
        await self._open()
        await self._piece(self._file("error-in-stream", "sse"))
        await self._close()

    async def _error_mid(self) -> None:
        if not self.exchange.stream:
            await self._whole(500, self._file("error-broken", "json"))
            return
        await self._open()
        await self._piece(self._half())
        await self._piece(self._file("error-in-stream", "sse"))
        await self._close()

    async def _truncated(self) -> None:
        """The connection breaks in the middle."""
        if self.exchange.stream:
            await self._open()
            await self._piece(self._half())
        else:
            body = self._file("text", "json")
            await self._head(200, [(b"content-type", b"application/json"), _length(body)])
            await self._piece(body[: len(body) // 2])
        raise ScriptedBreak

    async def _early(self) -> None:
        """A reply that ends as HTTP wants it, and before it should."""
        if self.exchange.stream:
            await self._open()
            await self._piece(self._half())
            await self._close()
        else:
            body = self._file("text", "json")
            await self._whole(200, body[: len(body) // 2])

    async def _stall(self) -> None:
        """Half of a reply (of a whole one: nothing), and silence until the other side goes away."""
        if self.exchange.stream:
            await self._open()
            await self._piece(self._half())
        await self._until_closed()

    async def _silent(self) -> None:
        """The request is taken, and that was all."""
        await self._until_closed()

    async def _slow(self) -> None:
        """A status at once, and then nothing."""
        kind = b"text/event-stream" if self.exchange.stream else b"application/json"
        await self._head(200, [(b"content-type", kind)])
        await self._piece(b"")
        await self._until_closed()

    async def _until_closed(self) -> None:
        self.exchange.reading.set()
        while (await self.receive())["type"] != "http.disconnect":
            pass
        self.exchange.closed.set()

    async def _malformed(self) -> None:
        """Half of a reply, and then what is no event."""
        if self.exchange.stream:
            await self._open()
            await self._piece(self._half() + b'data: {"id":"x","choi\n\n')
            await self._close()
        else:
            body = self._file("text", "json")
            await self._whole(200, body[: len(body) // 2] + JUNK)

    async def _rate_date(self) -> None:
        """Told as a date when to come again: half a minute from now."""
        later = formatdate(time.time() + 30, usegmt=True).encode()
        await self._whole(429, self._file("error-rate", "json"), [(b"retry-after", later)])

    async def _filter(self) -> None:
        """The provider's own filter refuses what was asked."""
        said = "The prompt was filtered because of its content policy."
        kind = {"type": "invalid_request_error"} | (
            {"code": "content_filter"} if "openai" in self.api.dialect else {}
        )
        if self.api.dialect == "gemini":
            kind = {"code": 400, "status": "INVALID_ARGUMENT"}
        detail = json.dumps({"type": "error", "error": {"message": said, **kind}})
        await self._whole(400, detail.encode())

    async def _keyed_401(self) -> None:
        await self._keyed(401)

    async def _keyed_403(self) -> None:
        await self._keyed(403)

    async def _keyed(self, status: int) -> None:
        """The first key is refused, the second is good."""
        name, _ = self.api.key
        if "second-key" in self.exchange.headers.get(name, ""):
            await self._answer("text", "")
        else:
            await self._whole(status, self._file("error-bad-key", "json"))

    async def _garbage(self) -> None:
        if self.exchange.stream:
            await self._open()
            await self._piece(JUNK)
            await self._close()
        else:
            await self._whole(200, JUNK)

    async def _empty(self) -> None:
        if self.exchange.stream:
            await self._open()
            await self._close()
        else:
            await self._whole(200, b"")

    # --- bytes -------------------------------------------------------------------------------------

    def _file(self, name: str, kind: str) -> bytes:
        return (FIXTURES / self.api.dialect / f"{name}.{kind}").read_bytes()

    def _stream(self, scenario: str) -> bytes:
        """The events; those of OpenAI's chat without usage, where nobody asked for it."""
        data = self._file(scenario, "sse")
        if self.api.dialect not in {"openai", "compatible"}:
            return data
        if (self.exchange.body.get("stream_options") or {}).get("include_usage"):
            return data
        events = [
            event for event in data.split(b"\n\n") if not re.search(rb'"choices":\[\].*"usage":\{', event)
        ]
        return b"\n\n".join(events).replace(b',"usage":null', b"")

    def _half(self) -> bytes:
        """The first events of a text: some of it has been said, none of its end."""
        whole = self._stream("text")
        end = b"\r\n\r\n" if b"\r\n\r\n" in whole else b"\n\n"
        events = whole.split(end)
        return end.join(events[: len(events) // 2]) + end

    async def _whole(self, status: int, body: bytes, extra: list[tuple[bytes, bytes]] | None = None) -> None:
        await self._head(status, [(b"content-type", b"application/json"), _length(body), *(extra or [])])
        await self.send({"type": "http.response.body", "body": body})

    async def _open(self) -> None:
        await self._head(200, [(b"content-type", b"text/event-stream; charset=utf-8")])

    async def _head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def _piece(self, data: bytes) -> None:
        await self.send({"type": "http.response.body", "body": data, "more_body": True})

    async def _close(self) -> None:
        await self.send({"type": "http.response.body", "body": b""})


def _length(body: bytes) -> tuple[bytes, bytes]:
    return b"content-length", str(len(body)).encode()


def _cut(data: bytes, how: str) -> list[bytes]:
    """A stream's bytes as they may arrive: `sevens` cuts characters and line ends apart."""
    match how:
        case "":
            return re.findall(rb".*?\r?\n\r?\n", data, re.DOTALL)
        case "bytes":
            return [data[at : at + 1] for at in range(len(data))]
        case "sevens":
            return [data[at : at + 7] for at in range(0, len(data), 7)]
        case "crlf":
            plain = data.replace(b"\r\n", b"\n")
            return [piece for line in plain.splitlines() for piece in (line + b"\r", b"\n")]
        case "heartbeats":
            return [b": keep-alive\n\n" + event for event in _cut(data, "")]
        case "once":
            return [data]
    raise ValueError(how)
