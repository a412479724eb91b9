"""Responses that were given before: gone on from, read again, listed and deleted; and never another's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import openai
import pytest
from openai.types.responses import Response as OfficialResponse
from openai.types.responses import ResponseItem
from pydantic import TypeAdapter

from assay.errors import NotFound, RequestError
from assay.server.dialect import Deleted
from assay.server.openai_responses import DIALECT, Options, stored
from assay.storage import Store
from assay.trace import Span, SpanWriter, TraceStore, new_span_id, new_trace_id
from assay.types import (
    Image,
    Link,
    Message,
    Opaque,
    Reasoning,
    Request,
    Text,
    ToolCall,
    ToolResult,
    Usage,
    assistant,
    replace,
    system,
    user,
)

pytestmark = pytest.mark.anyio
OFFICIAL_ITEM: TypeAdapter[Any] = TypeAdapter(ResponseItem)
OWN = "openai-responses"


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Any]:
    store = Store.open(f"sqlite:///{tmp_path}/assay.db")
    writer = SpanWriter(store, flush_interval_s=0.01)
    yield SimpleNamespace(
        stores=SimpleNamespace(traces=TraceStore(store)), flush=writer.flush, record=writer.record
    )
    writer.close()
    store.close()


def parsed(**fields: Any) -> Any:
    return DIALECT.parse(json.dumps({"model": "m", **fields}).encode(), "")


def answered(app: Any, call: Any, *parts: Any, response_id: str = "resp_1", **fields: Any) -> None:
    """Records the call as the gateway does, answered with these parts."""
    request: Request = call.request
    how: Options = call.options
    attributes = {
        "gen_ai.response.model": "gpt-5",
        "gen_ai.response.finish_reasons": [fields.pop("finish", "stop")],
        stored.ECHO: how.kept,
    }
    app.record(
        Span(
            new_trace_id(),
            new_span_id(),
            "chat m",
            "chat",
            1_700_000_000_000_000_000,
            1_700_000_001_000_000_000,
            model="m",
            usage=Usage(input=3, output=4),
            input=request.messages,
            output=(Message("assistant", parts),),
            attributes={name: value for name, value in attributes.items() if value is not None},
            response_id=response_id if how.kept is not None else None,
            **fields,
        )
    )


# --- going on ------------------------------------------------------------------------------------


async def test_a_call_that_goes_on_from_nothing_is_the_same_call(app: Any) -> None:
    call = parsed(input="Hi")
    assert await stored.continue_(app, call) is call.request


async def test_what_was_said_before_stands_before_the_new_input(app: Any) -> None:
    answered(app, parsed(input="one", instructions="Be brief"), Text("1"))
    call = parsed(input="two", previous_response_id="resp_1", instructions="Be long")
    request = await stored.continue_(app, call)
    assert request.messages == (system("Be long"), user("one"), assistant("1"), user("two"))
    assert replace(request, messages=call.request.messages) == call.request


async def test_instructions_are_not_carried_over_and_system_messages_are(app: Any) -> None:
    said = [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "one"}]
    answered(app, parsed(input=said, instructions="Be brief"), Text("1"))
    request = await stored.continue_(app, parsed(input="two", previous_response_id="resp_1"))
    assert request.messages == (system("Be brief"), user("one"), assistant("1"), user("two"))


async def test_a_chain_holds_every_turn_once(app: Any) -> None:
    answered(app, parsed(input="one", instructions="a"), Text("1"))
    for number in (1, 2, 3):
        call = parsed(input=f"more {number}", instructions="b", previous_response_id=f"resp_{number}")
        whole = call._replace(request=await stored.continue_(app, call))
        answered(app, whole, Text("ok"), response_id=f"resp_{number + 1}")
    request = await stored.continue_(app, parsed(input="end", previous_response_id="resp_4"))
    assert [turn.text for turn in request.messages] == [
        "one", "1", "more 1", "ok", "more 2", "ok", "more 3", "ok", "end",
    ]  # fmt: skip


async def test_reasoning_and_calls_are_there_for_the_results(app: Any) -> None:
    thought = Reasoning("", encrypted="assay:openai-responses:E", id="rs_1")
    call = ToolCall("c1", "f", "{}")
    answered(app, parsed(input="one"), thought, call)
    result = {"type": "function_call_output", "call_id": "c1", "output": "x"}
    request = await stored.continue_(app, parsed(input=[result], previous_response_id="resp_1"))
    assert request.messages[1].parts == (thought, call)
    assert request.messages[2] == Message("tool", (ToolResult("c1", (Text("x"),)),))


async def test_only_the_very_id_is_found(app: Any) -> None:
    answered(app, parsed(input="one"), Text("1"), response_id="chatcmpl-7")
    request = await stored.continue_(app, parsed(input="two", previous_response_id="chatcmpl-7"))
    assert request.messages[0] == user("one")
    with pytest.raises(NotFound):
        await stored.continue_(app, parsed(input="two", previous_response_id="resp_chatcmpl-7"))


async def test_what_must_not_be_kept_is_not_found(app: Any) -> None:
    answered(app, parsed(input="one", store=False), Text("1"))
    with pytest.raises(NotFound, match="'resp_1' not found") as caught:
        await stored.continue_(app, parsed(input="two", previous_response_id="resp_1"))
    assert caught.value.code == "previous_response_not_found"
    assert caught.value.param == "previous_response_id"
    with pytest.raises(NotFound):
        await stored.retrieve(app, "resp_1")


async def test_another_keys_response_is_not_found(app: Any) -> None:
    answered(app, parsed(input="one"), Text("1"), key_id="a")
    call = parsed(input="two", previous_response_id="resp_1")
    other = replace(call.request, context=replace(call.request.context, key_id="b"))
    with pytest.raises(NotFound):
        await stored.continue_(app, call._replace(request=other))
    for ask in (stored.retrieve, stored.delete, stored.input_items):
        with pytest.raises(NotFound):
            await ask(app, "resp_1", key_id="b")
    assert await stored.retrieve(app, "resp_1", key_id="a")


async def test_content_that_was_not_captured_says_so(app: Any) -> None:
    call = parsed(input="one")
    app.record(Span(new_trace_id(), new_span_id(), "chat m", "chat", 1, 2, response_id="resp_1"))
    for ask in (
        stored.continue_(app, parsed(input="two", previous_response_id="resp_1")),
        stored.retrieve(app, "resp_1"),
    ):
        with pytest.raises(NotFound, match="was not recorded"):
            await ask
    assert call.options.kept is not None


# --- reading again -------------------------------------------------------------------------------


async def test_a_response_is_read_again_as_it_was_given(app: Any) -> None:
    call = parsed(
        input="one",
        instructions="Be brief",
        temperature=0.5,
        tools=[{"type": "function", "name": "f"}],
        metadata={"k": "v"},
    )
    parts = (Reasoning("", ("s",), encrypted="assay:openai-responses:E", id="rs_1"), Text("1"))
    answered(app, call, *parts, finish="length")
    body = json.loads(await stored.retrieve(app, "resp_1"))
    whole = OfficialResponse.model_validate(body, strict=True)
    assert whole.id == "resp_1"
    assert whole.created_at == 1_700_000_000
    assert (whole.model, whole.output_text, whole.status) == ("gpt-5", "1", "incomplete")
    assert (whole.temperature, whole.instructions, whole.metadata) == (0.5, "Be brief", {"k": "v"})
    assert whole.usage is not None
    assert whole.usage.total_tokens == 7
    assert body["output"][0]["encrypted_content"] == "E"
    given = DIALECT.write(stored.response_of(app.stores.traces.response("resp_1")), call.options).body
    assert json.loads(given)["output"][1] == body["output"][1]


async def test_a_deleted_response_is_gone_and_its_trace_is_not(app: Any) -> None:
    answered(app, parsed(input="one"), Text("1"), response_id="chatcmpl-7")
    told = json.loads(await stored.delete(app, "chatcmpl-7"))
    assert told == {"id": "chatcmpl-7", "object": "response", "deleted": True}
    for ask in (stored.retrieve, stored.delete, stored.input_items):
        with pytest.raises(NotFound):
            await ask(app, "chatcmpl-7")
    assert app.stores.traces.count() == 1


async def test_going_on_from_a_deleted_response_is_not_left_to_an_upstream(app: Any) -> None:
    answered(app, parsed(input="one"), Text("1"), key_id="a")
    await stored.delete(app, "resp_1", key_id="a")
    call = parsed(input="two", previous_response_id="resp_1")
    with pytest.raises(Deleted, match="'resp_1' not found") as caught:
        await stored.continue_(app, call)
    assert (caught.value.code, caught.value.status) == ("previous_response_not_found", 404)
    for key_id, expected in (("a", Deleted), ("b", NotFound)):
        own = replace(call.request, context=replace(call.request.context, key_id=key_id))
        with pytest.raises(NotFound) as caught:
            await stored.continue_(app, call._replace(request=own))
        assert type(caught.value) is expected


# --- what it was given ---------------------------------------------------------------------------


GIVEN = (
    user("one"),
    Message("user", (Text("see"), Image(Link("https://x/y.png")))),
    Message(
        "assistant",
        (
            Reasoning("t", signature="assay:anthropic:S"),
            Text("Hm"),
            ToolCall("c1", "f", "{}"),
            ToolCall("c2", "g", "x", "custom"),
            Opaque(OWN, {"type": "web_search_call", "id": "ws_1", "status": "completed",
                         "action": {"type": "search", "query": "q"}}),
        ),
    ),
    Message("tool", (ToolResult("c1", (Text("a"), Image(Link("u")))),)),
    Message("tool", (ToolResult("c2", (Text("b"),)),)),
)  # fmt: skip


async def page(app: Any, **how: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await stored.input_items(app, "resp_1", **how))
    return found


@pytest.fixture
def given(app: Any) -> Any:
    call = parsed(input="x", instructions="not an item")
    messages = (call.request.messages[0], *GIVEN)
    answered(app, call._replace(request=replace(call.request, messages=messages)), Text("1"))
    return app


async def test_input_items_are_of_the_official_types(given: Any) -> None:
    found = await page(given, order="asc")
    assert [item["type"] for item in found["data"]] == [
        "message",
        "message",
        "reasoning",
        "message",
        "function_call",
        "custom_tool_call",
        "web_search_call",
        "function_call_output",
        "custom_tool_call_output",
    ]
    for item in found["data"]:
        OFFICIAL_ITEM.validate_python(item, strict=True)
    assert found["data"][0]["content"] == [{"type": "input_text", "text": "one"}]
    assert len({item["id"] for item in found["data"]}) == 9
    assert found["has_more"] is False


async def test_input_items_come_in_pages(given: Any) -> None:
    newest = (await page(given))["data"]
    oldest = (await page(given, order="asc"))["data"]
    assert newest == oldest[::-1]
    seen: list[Any] = []
    more: dict[str, Any] = {"has_more": True, "last_id": None}
    while more["has_more"]:
        more = await page(given, order="asc", limit=4, after=more["last_id"])
        assert more["first_id"] == more["data"][0]["id"]
        seen.extend(more["data"])
    assert seen == oldest


@pytest.mark.parametrize("how", [{"order": "up"}, {"limit": 0}, {"limit": 101}, {"after": "nobody"}])
async def test_a_page_that_is_none_is_the_callers_fault(given: Any, how: Any) -> None:
    with pytest.raises(RequestError) as caught:
        await page(given, **how)
    assert caught.value.param == next(iter(how))


# --- the server, seen by the official SDK --------------------------------------------------------

TOML = """
[providers.stage]
dialect = "scripted"
replies = ["Forty-two.", "Because."]

[models.answer]
provider = "stage"
"""


@pytest.fixture(scope="module")
def client(serve_session: Any) -> Iterator[openai.OpenAI]:
    served = serve_session(TOML)
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0) as opened:
        yield opened


def test_the_sdk_goes_on_reads_again_and_deletes(client: openai.OpenAI) -> None:
    first = client.responses.create(model="answer", input="What is it?", instructions="Be brief")
    again = client.responses.retrieve(first.id)
    assert again.output == first.output
    assert again.instructions == "Be brief"
    with client.responses.stream(model="answer", input="Why?", previous_response_id=first.id) as stream:
        second = stream.get_final_response()
    assert second.previous_response_id == first.id
    items = list(client.responses.input_items.list(second.id, order="asc", limit=2))
    texts = [item.content[0].text for item in items if item.type == "message"]
    assert texts == ["What is it?", first.output_text, "Why?"]
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)
    with pytest.raises(openai.APIStatusError, match="not found"):
        client.responses.create(model="answer", input="And?", previous_response_id=first.id)
    third = client.responses.create(model="answer", input="And?", previous_response_id=second.id)
    assert third.status == "completed"


def test_the_sdk_keeps_nothing_where_it_says_so(client: openai.OpenAI) -> None:
    once = client.responses.create(model="answer", input="What is it?", store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(once.id)
