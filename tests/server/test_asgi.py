"""The server below HTTP: callers who go away, and what nobody foresaw."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from assay.app import App, open_app
from assay.config import load
from assay.server.app import Server
from assay.types import Event, Request, Started, TextDelta

pytestmark = pytest.mark.anyio

BODY = {"model": "stage", "messages": [{"role": "user", "content": "x"}]}
TOML = '[providers.stage]\ndialect = "scripted"\nreplies = ["a b c"]\n[models.stage]\nprovider = "stage"\n'


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    (tmp_path / "assay.toml").write_text(TOML)
    async with open_app(load(tmp_path / "assay.toml", environment={})) as opened:
        yield opened


class Caller:
    """One ASGI exchange; `leave` is the client closing its connection."""

    def __init__(self, body: bytes) -> None:
        self.sent: list[dict] = []
        self.left = asyncio.Event()
        self.body = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive(self) -> dict:
        if self.body:
            return self.body.pop()
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict) -> None:
        self.sent.append(message)

    async def call(self, server: Server, path: str = "/v1/chat/completions") -> None:
        scope = {"type": "http", "method": "POST", "path": path, "headers": []}
        await server(scope, self.receive, self.send)

    @property
    def status(self) -> int:
        return self.sent[0]["status"]

    @property
    def answer(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


def caller(stream: bool) -> Caller:
    return Caller(json.dumps({**BODY, "stream": stream}).encode())


@pytest.mark.parametrize("stream", [False, True])
async def test_what_nobody_foresaw_is_a_500_in_shape_and_a_line_in_the_log(
    app: App, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(request: Request) -> AsyncIterator[Event]:
        raise ZeroDivisionError("the secret of the house")
        yield

    app.handler = broken
    one = caller(stream)
    with caplog.at_level(logging.ERROR):
        await one.call(Server(app))
    assert one.status == 500
    error = json.loads(one.answer)["error"]
    assert "defect of Assay" in error["message"]
    assert "secret" not in error["message"]
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("stream", [False, True])
async def test_a_caller_who_goes_away_ends_the_call(app: App, stream: bool) -> None:
    asked, ended = asyncio.Event(), asyncio.Event()

    async def slow(request: Request) -> AsyncIterator[Event]:
        try:
            yield Started("i", "m")
            yield TextDelta("a")
            asked.set()
            await asyncio.Event().wait()
        finally:
            ended.set()

    app.handler = slow
    one = caller(stream)
    task = asyncio.create_task(one.call(Server(app)))
    await asked.wait()
    one.left.set()
    await task
    assert ended.is_set()
    assert task.cancelling() == 0
    assert len(one.sent) == (2 if stream else 0)


async def test_a_body_that_breaks_off_is_no_call(app: App) -> None:
    one = Caller(b"")
    one.body = [{"type": "http.disconnect"}, {"type": "http.request", "body": b"{", "more_body": True}]
    await one.call(Server(app))
    assert one.sent == []


async def test_a_cancelled_server_task_stays_cancelled(app: App) -> None:
    asked = asyncio.Event()

    async def slow(request: Request) -> AsyncIterator[Event]:
        asked.set()
        await asyncio.Event().wait()
        yield Started("i", "m")

    app.handler = slow
    task = asyncio.create_task(caller(False).call(Server(app)))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
