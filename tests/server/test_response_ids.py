"""Ids of responses: going on from one, the caller gets its own conversation, whatever ids upstreams use."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from assay.app import App, open_app
from assay.config import load
from assay.providers.scripted import Scripted
from assay.server.app import Server
from assay.types import Completed, Event, Request, Started, closing, replace

pytestmark = pytest.mark.anyio

TOML = """
[providers.stage]
dialect = "scripted"
replies = ["one", "two", "three", "four"]

[models.answer]
provider = "stage"
"""
OURS = re.compile(r"resp_[0-9a-f]{48}")


@pytest.fixture
async def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[App]:
    """The upstream gives the same id to every reply."""
    own = Scripted.__call__

    async def alike(upstream: Scripted, request: Request) -> AsyncIterator[Event]:
        async with closing(own(upstream, request)) as events:
            async for event in events:
                match event:
                    case Started():
                        yield replace(event, id="chatcmpl-7")
                    case Completed(response):
                        yield Completed(replace(response, id="chatcmpl-7"))
                    case _:
                        yield event

    monkeypatch.setattr(Scripted, "__call__", alike)
    (tmp_path / "assay.toml").write_text(TOML)
    async with open_app(load(tmp_path / "assay.toml", environment={})) as opened:
        yield opened


async def said(app: App, method: str, path: str, **fields: Any) -> tuple[int, bytes]:
    came: list[Any] = [{"type": "http.request", "body": json.dumps(fields).encode()}]
    sent: list[Any] = []

    async def receive() -> Any:
        return came.pop() if came else {"type": "http.disconnect"} if len(sent) > 1 else await forever()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": []}
    await Server(app)(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


async def forever() -> Any:
    await anyio.sleep_forever()


async def answer(app: App, text: str, **fields: Any) -> Any:
    status, body = await said(app, "POST", "/v1/responses", model="answer", input=text, **fields)
    assert status == 200, body
    if not fields.get("stream"):
        return json.loads(body)
    events = [json.loads(line[6:]) for line in body.splitlines() if line.startswith(b"data: ")]
    assert {event["response"]["id"] for event in events if "response" in event} == {
        events[0]["response"]["id"]
    }
    return events[-1]["response"]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_id_that_the_upstream_uses_again_joins_no_other_conversation(app: App, stream: bool) -> None:
    first = await answer(app, "Alice's secret", stream=stream)
    second = await answer(app, "Bob's", stream=stream)
    assert OURS.fullmatch(first["id"])
    assert OURS.fullmatch(second["id"])
    assert first["id"] != second["id"]
    await answer(app, "and?", previous_response_id=first["id"], stream=stream)
    await answer(app, "and?", previous_response_id=second["id"], stream=stream)
    app.flush()
    newest, before = (span.input for span in app.stores.traces.calls(2))
    assert [turn.text for turn in before] == ["Alice's secret", "one", "and?"]
    assert [turn.text for turn in newest] == ["Bob's", "two", "and?"]


async def test_the_upstreams_own_id_finds_nothing_and_stays_in_the_trace(app: App) -> None:
    await answer(app, "Hi")
    app.flush()
    assert app.stores.traces.calls(1)[0].attributes["gen_ai.response.id"] == "chatcmpl-7"
    for own in ("chatcmpl-7", "resp_chatcmpl-7"):
        fields = {"model": "answer", "input": "x", "previous_response_id": own}
        status, body = await said(app, "POST", "/v1/responses", **fields)
        assert (status, json.loads(body)["error"]["code"]) == (404, "previous_response_not_found")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_response_is_read_again_with_the_ids_that_it_was_given_with(app: App, stream: bool) -> None:
    given = await answer(app, "Hi", stream=stream)
    status, body = await said(app, "GET", f"/v1/responses/{given['id']}")
    again = json.loads(body)
    assert status == 200
    assert (again["id"], again["output"]) == (given["id"], given["output"])
