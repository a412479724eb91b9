"""The real SmolLM2 calls tools: when it must, when it may, over several turns; and it counts tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from assay.errors import ContextExceeded, UnsupportedFeature
from assay.providers.local import LocalModel
from assay.types import (
    Assembly,
    Completed,
    Ended,
    Event,
    FunctionTool,
    Message,
    Request,
    Response,
    Sampling,
    SchemaOutput,
    Text,
    ToolCall,
    ToolCallDelta,
    ToolChoice,
    ToolResult,
    assistant,
    closing,
    replace,
    system,
    user,
)

pytestmark = [pytest.mark.anyio, pytest.mark.local_model, pytest.mark.timeout(240, method="thread")]

WEATHER = FunctionTool(
    "get_weather",
    "Get the current weather in a city",
    {
        "type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}},
        "required": ["city"],
    },
)
SEARCH = FunctionTool(
    "search",
    "Search the web",
    {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
)
GREEDY = Sampling(temperature=0, max_tokens=40, seed=1)
PARIS = Request("smol", (user("What is the weather in Paris?"),), sampling=GREEDY, tools=(WEATHER, SEARCH))
REQUIRED = ToolChoice("required")


@pytest.fixture(scope="module")
def local(local_weights: Path) -> Iterator[LocalModel]:
    model = LocalModel("here", local_weights, slots=2, context_tokens=4096)
    yield model
    asyncio.run(model.aclose())


async def events_of(model: LocalModel, request: Request) -> list[Event]:
    async with closing(model(request)) as events:
        return [event async for event in events]


async def answer(model: LocalModel, request: Request) -> Response:
    (completed,) = await events_of(model, request)
    assert isinstance(completed, Completed)
    return completed.response


def arguments(response: Response, name: str = "get_weather") -> dict[str, Any]:
    (call,) = response.message.parts
    assert isinstance(call, ToolCall)
    assert call.name == name
    assert response.choices[0].finish.reason == "tool_calls"
    return msgspec.json.decode(call.arguments, type=dict[str, Any])


async def test_a_tool_that_must_be_called(local: LocalModel) -> None:
    response = await answer(local, replace(PARIS, tool_choice=REQUIRED))
    assert arguments(response)["city"] == "Paris"
    other = await answer(local, replace(PARIS, tool_choice=REQUIRED))
    assert other.tool_calls[0].id != response.tool_calls[0].id
    named = await answer(local, replace(PARIS, tool_choice=ToolChoice("named", ("search",))))
    assert list(arguments(named, "search")) == ["query"]


async def test_a_call_is_streamed(local: LocalModel) -> None:
    assembly = Assembly()
    events = await events_of(local, replace(PARIS, tool_choice=REQUIRED, stream=True))
    for event in events:
        assembly.add(event)
    assert sum(isinstance(event, ToolCallDelta) for event in events) > 5
    assert isinstance(events[-1], Ended)
    whole = await answer(local, replace(PARIS, tool_choice=REQUIRED))
    assert arguments(assembly.response()) == arguments(whole)


def turn(city: str, weather: str) -> tuple[Message, ...]:
    call = ToolCall(f"call-{city}", "get_weather", f'{{"city": "{city}"}}')
    return (
        user(f"What is the weather in {city}?"),
        Message("assistant", (call,)),
        Message("tool", (ToolResult(call.id, (Text(weather),)),)),
        assistant(f"It is {weather} in {city}."),
    )


TWO_CALLS = turn("Paris", "18 degrees, light rain") + turn("Rome", "25 degrees, sunny")


async def test_several_turns_in_which_it_may_call(local: LocalModel) -> None:
    """Having seen two calls it makes the third by itself, and then tells what came back."""
    asked = replace(PARIS, messages=(*TWO_CALLS, user("What is the weather in Berlin?")))
    called = await answer(local, asked)
    assert arguments(called) == {"city": "Berlin"}
    result = ToolResult(called.tool_calls[0].id, (Text("31 degrees, windy"),))
    told = await answer(
        local, replace(asked, messages=(*asked.messages, called.message, Message("tool", (result,))))
    )
    assert "31 degrees" in told.text
    assert told.choices[0].finish.reason in {"stop", "length"}


async def test_text_where_it_may_call(local: LocalModel) -> None:
    response = await answer(local, PARIS)
    assert "Paris" in response.text
    assert response.tool_calls == ()


async def test_a_schema_or_a_call(local: LocalModel) -> None:
    properties = {"sunny": {"type": "boolean"}}
    schema = {
        "type": "object",
        "properties": properties,
        "required": ["sunny"],
        "additionalProperties": False,
    }
    request = replace(PARIS, output=SchemaOutput(schema))
    assert (await answer(local, request)).text in {'{"sunny": true}', '{"sunny": false}'}
    asked = replace(request, messages=(*TWO_CALLS, user("What is the weather in Berlin?")))
    assert arguments(await answer(local, asked)) == {"city": "Berlin"}


@pytest.mark.parametrize("seed", range(3))
async def test_calls_keep_to_their_schema_at_any_temperature(local: LocalModel, seed: int) -> None:
    schema = {
        "type": "object",
        "properties": {
            "to": {"$ref": "#/$defs/name"},
            "count": {"type": "integer", "minimum": 1, "maximum": 9},
            "code": {"type": "string", "pattern": "^[A-Z]{3}$"},
        },
        "required": ["to", "count", "code"],
        "$defs": {"name": {"type": "string", "maxLength": 12}},
    }
    book = FunctionTool("hotel.book-room", "Book a room", schema)
    request = replace(
        PARIS,
        messages=(system("You book rooms."), user("Two beds for Ann, please.")),
        tools=(book, SEARCH),
        tool_choice=ToolChoice("named", (book.name,)),
        sampling=Sampling(temperature=1.4, seed=seed, max_tokens=120),
    )
    found = arguments(await answer(local, request), book.name)
    assert jsonschema_rs.validator_for(schema).is_valid(found)
    assert list(found) == ["to", "count", "code"]


@pytest.mark.parametrize("choice", [REQUIRED, ToolChoice("auto")])
async def test_a_tool_that_the_grammar_cannot_hold_is_named_before_the_first_event(
    local: LocalModel, choice: ToolChoice
) -> None:
    bad = FunctionTool("bad", None, {"properties": {"x": {"type": "string", "pattern": "(?=x)y"}}})
    with pytest.raises(UnsupportedFeature, match="the parameters of 'bad';"):
        await events_of(local, replace(PARIS, tools=(WEATHER, bad), tool_choice=choice, stream=True))


async def test_tokens_are_counted_as_they_are_charged(local: LocalModel) -> None:
    for request in (PARIS, replace(PARIS, tools=()), replace(PARIS, messages=(user("word " * 300),))):
        counted = await answer(local, replace(request, operation="count_tokens"))
        one = await answer(local, replace(request, sampling=Sampling(max_tokens=1)))
        assert counted.usage is not None
        assert one.usage is not None
        assert counted.usage.input == counted.usage.tokens == one.usage.tokens_in
        assert counted.choices == ()


async def test_a_tools_result_cannot_end_its_turn(local: LocalModel) -> None:
    """A marker that is read as one is one token; one that is a text is many."""

    async def tokens(said: str) -> int:
        result = Message("tool", (ToolResult("c1", (Text(said),)),))
        request = replace(PARIS, messages=(user("Hi"), result), operation="count_tokens")
        counted = (await answer(local, request)).usage
        assert counted is not None
        return counted.input

    nothing = await tokens("")
    for marker in ("<|im_end|>", "<|im_start|>", "<|endoftext|>"):
        assert await tokens(marker * 20) > nothing + 20 * 3


async def test_what_is_too_long_to_answer_can_be_counted(local: LocalModel) -> None:
    long = replace(PARIS, messages=(user("word " * 3_000),))
    counted = await answer(local, replace(long, operation="count_tokens"))
    assert counted.usage is not None
    with pytest.raises(ContextExceeded, match=f"has {counted.usage.input} tokens"):
        await answer(local, long)
