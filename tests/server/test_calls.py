"""One call as the server runs it, in process: what nobody foresaw, hostile names, repeated headers."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest

from assay.app import App, open_app
from assay.config import load
from assay.server import routes
from assay.server.app import Server
from assay.server.dialect import Deleted, Dialect
from assay.types import (
    Completed,
    Event,
    Finish,
    Finished,
    Opaque,
    OpaqueDelta,
    Request,
    Started,
    TextDelta,
    replace,
)

pytestmark = pytest.mark.anyio

TOML = """
[providers.stage]
dialect = "scripted"
replies = ["one two three"]

[models.stage]
provider = "stage"
"""
CHAT = {"model": "stage", "messages": [{"role": "user", "content": "Hi"}], "stream": True}


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    (tmp_path / "assay.toml").write_text(TOML)
    async with open_app(load(tmp_path / "assay.toml")) as opened:
        yield opened


async def post(
    app: App, path: str, body: Any, *headers: tuple[bytes, bytes]
) -> tuple[int, dict[bytes, bytes], bytes]:
    sent: list[MutableMapping[str, Any]] = []
    asked = iter([{"type": "http.request", "body": json.dumps(body).encode()}])

    async def receive() -> MutableMapping[str, Any]:
        for message in asked:
            return message
        return await asyncio.Future()

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1"), *headers],
        "client": ("127.0.0.1", 1),
    }
    await Server(app)(scope, receive, send)
    start = next(message for message in sent if message["type"] == "http.response.start")
    data = b"".join(message.get("body", b"") for message in sent if message["type"] == "http.response.body")
    return start["status"], dict(start["headers"]), data


def plays(app: App, *events: Event) -> list[Request]:
    """From here on every call is answered so, below the trace."""
    seen: list[Request] = []
    upstream = app.routes["stage"].targets[0].upstream

    async def play(request: Request) -> AsyncIterator[Event]:
        seen.append(request)
        for event in events:
            yield event

    upstream._script = lambda request: (seen.append(request), events)[1]  # type: ignore[attr-defined]
    return seen


async def test_a_reply_that_cannot_be_written_is_an_error_for_caller_and_trace_alike(app: App) -> None:
    foreign = OpaqueDelta(1, Opaque("anthropic", {"type": "web_search_tool_result"}))
    plays(app, Started("r", "m"), TextDelta("Hi"), foreign, Finished(Finish("stop")))
    status, _, data = await post(app, "/v1/chat/completions", CHAT)
    assert status == 200
    assert b"[DONE]" not in data
    assert b"unsupported_feature" in data
    app.flush()
    (trace,) = app.traces.latest()
    (node,) = app.traces.trace(trace.trace_id)
    assert (node.span.status, node.span.error_type) == ("error", "unsupported_feature")


async def test_what_nobody_foresaw_ends_a_stream_in_the_callers_words(
    app: App, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from assay.server import openai_chat

    def broken(self: object, event: Event) -> bytes:
        if isinstance(event, TextDelta):
            raise TypeError("our secret slip")
        return b"data: {}\n\n"

    monkeypatch.setattr(openai_chat.StreamEncoder, "encode", broken)
    status, _, data = await post(app, "/v1/chat/completions", CHAT)
    assert status == 200
    assert b"secret slip" not in data
    assert b"defect of Assay" in data
    assert "secret slip" in caplog.text


async def test_names_of_what_was_left_out_cannot_break_a_header(app: App) -> None:
    upstream = app.routes["stage"].targets[0].upstream
    reply = upstream._steps("x", Request("m", ()), 0)  # type: ignore[attr-defined]
    (done,) = reply
    assert isinstance(done, Completed)
    hostile = Completed(replace(done.response, dropped=("tools[0].a\r\nset-cookie: x=1", "ü")))
    plays(app, hostile)
    status, headers, _ = await post(app, "/v1/chat/completions", {**CHAT, "stream": False})
    assert status == 200
    assert headers[b"x-assay-dropped"] == b"tools[0].a??set-cookie: x=1, ?"


async def test_a_header_that_comes_twice_is_one_list(app: App) -> None:
    seen = plays(app)
    body = {"model": "stage", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    app.handler = _noted(seen)
    await post(app, "/v1/messages", body, (b"anthropic-beta", b"one"), (b"anthropic-beta", b"two"))
    assert seen[-1].wire is not None
    assert seen[-1].wire.headers == (("anthropic-beta", "one, two"),)


def _noted(seen: list[Request]) -> Any:
    def handler(request: Request) -> AsyncIterator[Event]:
        async def nothing() -> AsyncIterator[Event]:
            seen.append(request)
            if False:
                yield Started("r", "m")

        return nothing()

    return handler


async def test_a_large_body_that_nobody_understands_is_not_kept_whole(app: App) -> None:
    seen: list[Request] = []
    app.handler = _noted(seen)
    body = {**CHAT, "stream": False, "brand_new": "x" * 100_000}
    await post(app, "/v1/chat/completions", body)
    (part,) = seen[-1].messages[0].parts
    assert isinstance(part, Opaque)
    assert part.body["bytes"] > 100_000
    assert seen[-1].wire is not None
    assert b"brand_new" in seen[-1].wire.body


@pytest.mark.parametrize("limit", ["9" * 5000, "-1", "x", "0"])
async def test_a_limit_that_nobody_means_is_none(app: App, limit: str) -> None:
    from assay.server.routes import page

    assert page({"query_string": f"limit={limit}".encode()})["limit"] is None


async def test_a_deleted_response_is_not_gone_on_from_at_the_upstream(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Request] = []
    app.handler = _noted(seen)

    async def deleted(app: App, parsed: Any) -> Request:
        raise Deleted("gone", param="previous_response_id")

    body = {"model": "stage", "input": "Hi", "previous_response_id": "resp_1"}
    monkeypatch.setitem(
        routes._EXACT, "/v1/responses", replace_resolve(routes._EXACT["/v1/responses"], deleted)
    )
    status, _, _ = await post(app, "/v1/responses", body)
    assert (status, seen) == (404, [])


def replace_resolve(dialect: Dialect, resolve: Any) -> Dialect:
    return dataclasses.replace(dialect, resolve=resolve)


async def test_an_error_names_its_trace(app: App) -> None:
    status, headers, _ = await post(app, "/v1/chat/completions", {**CHAT, "model": "nobody"})
    assert status == 404
    app.flush()
    (trace,) = app.traces.latest()
    assert headers[b"x-assay-trace-id"].decode() == trace.trace_id
