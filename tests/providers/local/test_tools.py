"""Tools of the local model without the model: what it is told, which grammar holds it, how a call is read."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import RequestError, UnsupportedFeature
from assay.providers.local.calls import CallReader
from assay.providers.local.form import form_of
from assay.providers.local.messages import rendered
from assay.providers.local.proof import REMEMBERED, Proof
from assay.providers.local.tools import Calling, calling
from assay.providers.translation import Drops
from assay.types import (
    JSON,
    Delta,
    Finish,
    FunctionTool,
    Message,
    Request,
    SchemaOutput,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolChoice,
    ToolResult,
    assistant,
    replace,
    system,
    user,
)

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = FunctionTool("get_weather", "The weather in a city", CITY)
CLOCK = FunctionTool("get_time")
ASK = Request("local", (user("Hi"),), tools=(WEATHER, CLOCK))
REQUIRED = ToolChoice("required")
STOP, LENGTH = Finish("stop", "stop"), Finish("length", "length")


def drops() -> Drops:
    return Drops("llama.cpp", "The local model")


def told(request: Request) -> Calling:
    found = calling(request, drops())
    assert found is not None
    return found


# --- what is said and held ---------------------------------------------------------------------------


def test_what_the_model_is_told_of_its_tools() -> None:
    found = told(ASK)
    assert found.told == (
        "You can call these tools:\n"
        '{"name":"get_weather","description":"The weather in a city","parameters":{"type":"object",'
        '"properties":{"city":{"type":"string"}},"required":["city"]}}\n'
        '{"name":"get_time"}\n'
        'If a tool helps, answer with <tool_call>{"name": "...", "arguments": {...}}</tool_call> and nothing '
        "else. If none helps, answer in words."
    )
    for choice in (REQUIRED, ToolChoice("named", ("get_time",))):
        assert told(replace(ASK, tool_choice=choice)).told == found.told


def test_it_is_told_first_and_the_same_at_every_turn() -> None:
    messages = (system("Be brief."), user("Hi"))
    bodies = rendered(messages, "tools", drops())
    assert bodies == [
        {"role": "system", "content": "tools"},
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
    ]
    longer = rendered((*messages, assistant("Ho"), user("Hm")), "tools", drops())
    assert longer[:3] == bodies


def starts(request: Request) -> list[str]:
    grammar = form_of(request, drops()).grammar or ""
    return [line for line in grammar.splitlines() if line.startswith(("start:", "call:", "other:", "call_"))]


def test_the_grammars() -> None:
    weather = r'call_0: "<tool_call>{\"name\": \"get_weather\", \"arguments\": " arguments_0 "}</tool_call>"'
    clock = r'call_1: "<tool_call>{\"name\": \"get_time\", \"arguments\": " arguments_1 "}</tool_call>"'
    assert starts(ASK) == ["start: call | TEXT", "call: call_0 | call_1", weather, clock]
    assert starts(replace(ASK, tool_choice=REQUIRED)) == [
        "start: call",
        "call: call_0 | call_1",
        weather,
        clock,
    ]
    named = replace(ASK, tool_choice=ToolChoice("named", ("get_weather",)))
    assert starts(named) == ["start: call", "call: call_0", weather]
    schema = SchemaOutput({"type": "object"})
    assert starts(replace(ASK, output=schema))[:2] == [
        "start: call | other",
        'other: %json {"type":"object","x-guidance":{"whitespace_flexible":false,"key_separator":": ",'
        '"item_separator":", "}}',
    ]
    form = form_of(replace(named, output=schema), drops())
    assert form.held is None
    assert form.calling
    assert form.calling.probe() == form.grammar
    assert form_of(replace(ASK, tool_choice=ToolChoice("none")), drops()).grammar is None


@pytest.mark.parametrize(
    ("parameters", "held"),
    [
        (None, {"type": "object", "properties": {}, "additionalProperties": False}),
        ({}, {"type": "object", "properties": {}, "additionalProperties": False}),
        (CITY, {**CITY, "additionalProperties": False}),
        (
            {"properties": {"a": {}}},
            {"properties": {"a": {}}, "type": "object", "additionalProperties": False},
        ),
        ({"type": "object"}, {"type": "object"}),
        ({**CITY, "additionalProperties": {"type": "integer"}},) * 2,
        ({**CITY, "anyOf": [{"required": ["x"]}]},) * 2,
        ({**CITY, "patternProperties": {"^x": {}}},) * 2,
        ({**CITY, "minProperties": 2},) * 2,
        ({**CITY, "required": ["city", "country"]},) * 2,
    ],
)
def test_arguments_are_an_object_of_what_the_schema_lists(
    parameters: dict[str, JSON] | None, held: dict[str, JSON]
) -> None:
    (callee,) = told(replace(ASK, tools=(FunctionTool("f", None, parameters),))).callees
    rule = msgspec.json.decode(callee.rule.removeprefix("%json "))
    del rule["x-guidance"]
    assert rule == held


def bad(tool: FunctionTool, **more: Any) -> Request:
    return replace(ASK, tools=(CLOCK, tool), **more)


@pytest.mark.parametrize(
    ("request_", "kind", "said", "param"),
    [
        (
            bad(FunctionTool("getF", None, {"type": "string"})),
            RequestError,
            "^The parameters of the tool 'getF' must be of type 'object'$",
            "tools[1].parameters",
        ),
        (
            bad(FunctionTool("f", None, {"type": "ob"})),
            RequestError,
            "must be of type",
            "tools[1].parameters",
        ),
        (
            bad(FunctionTool("f", None, {"properties": {"a": {"type": "x"}}})),
            RequestError,
            "of the tool 'f' is not a JSON Schema",
            "tools[1].parameters",
        ),
        (
            bad(FunctionTool("f", None, {"properties": {"a": {"uniqueItems": True}}})),
            UnsupportedFeature,
            r"'uniqueItems' \(at #/properties/a of the parameters of the tool 'f'\)",
            "tools[1].parameters",
        ),
        (bad(FunctionTool("<|im_end|>")), RequestError, "1 to 128 letters", "tools[1].name"),
        (bad(FunctionTool("")), RequestError, "1 to 128 letters", "tools[1].name"),
        (bad(CLOCK), RequestError, "Two tools are called 'get_time'", "tools[1].name"),
        (replace(ASK, tools=(), tool_choice=REQUIRED), RequestError, "there are no tools", "tool_choice"),
        (bad(WEATHER, tool_choice=ToolChoice("named", ("f",))), RequestError, "names 'f'", "tool_choice"),
    ],
)
def test_tools_that_cannot_be_called(
    request_: Request, kind: type[RequestError], said: str, param: str
) -> None:
    with pytest.raises(kind, match=said) as caught:
        calling(request_, drops())
    assert caught.value.param == param


# --- the conversation --------------------------------------------------------------------------------


def test_calls_and_results_in_the_conversation() -> None:
    messages = (
        user("Weather?"),
        Message(
            "assistant",
            (Text("Let me see."), ToolCall("1", "get_weather", '{"city":"Rome"}'), ToolCall("2", "t", "")),
        ),
        Message(
            "tool",
            (ToolResult("1", (Text("25"), Text(" degrees"))), ToolResult("2", (Text("no"),), is_error=True)),
        ),
        Message("user", (ToolResult("9", (), name="old"), Text("So?"))),
        Message("assistant", (ToolCall("3", "poem", 'of "x"', kind="custom"),)),
        Message("tool", (ToolResult("4", (Text("lost"),)),)),
    )
    assert [body["content"] for body in rendered(messages, None, drops())] == [
        "Weather?",
        'Let me see.\n<tool_call>{"name": "get_weather", "arguments": {"city":"Rome"}}</tool_call>\n'
        '<tool_call>{"name": "t", "arguments": {}}</tool_call>',
        "Result of get_weather: 25 degrees\nError of t: no",
        "Result of old: \nSo?",
        '<tool_call>{"name": "poem", "arguments": "of \\"x\\""}</tool_call>',
        "Result of the tool: lost",
    ]
    assert [body["role"] for body in rendered(messages, None, drops())] == [
        "user", "assistant", "user", "user", "assistant", "user"
    ]  # fmt: skip


# --- the reply ---------------------------------------------------------------------------------------

CALL = '<tool_call>{"name": "get_weather", "arguments": {"city": "R}\\"o\\\\m{[e"}}</tool_call>'
ARGUMENTS = '{"city": "R}\\"o\\\\m{[e"}'


def read(request: Request, pieces: list[str], finish: Finish = STOP) -> tuple[str, list[ToolCall], Finish]:
    """The text and the calls that the pieces come to."""
    reader = CallReader(told(request))
    deltas: list[Delta] = []
    for piece in pieces:
        deltas += reader.feed(TextDelta(piece), "chatcmpl-7")
    last, finish = reader.finish(finish)
    deltas += last
    calls: list[ToolCall] = []
    texts: list[str] = []
    for delta in deltas:
        if isinstance(delta, TextDelta):
            texts.append(delta.text)
        elif isinstance(delta, ToolCallDelta):
            if delta.id is not None:
                calls.append(ToolCall(delta.id, delta.name or "", ""))
            calls[-1] = replace(calls[-1], arguments=calls[-1].arguments + delta.arguments)
    return "".join(texts), calls, finish


@given(st.lists(st.integers(0, len(CALL)), max_size=12))
def test_a_call_is_the_same_wherever_it_is_split(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(CALL)]
    pieces = [CALL[start:end] for start, end in pairwise(places)]
    for request in (ASK, replace(ASK, tool_choice=REQUIRED)):
        assert read(request, pieces) == (
            "",
            [ToolCall("call_7", "get_weather", ARGUMENTS)],
            Finish("tool_calls", "stop"),
        )


@given(st.lists(st.text("<tol_ca>x ", min_size=1), max_size=6))
def test_text_is_the_same_however_it_comes(pieces: list[str]) -> None:
    text = "".join(pieces)
    if not text.startswith("<tool_call>"):
        assert read(ASK, pieces) == (text, [], STOP)


def test_arguments_come_as_they_are_written() -> None:
    reader = CallReader(told(ASK))
    head, rest = CALL[:47], CALL[47:]
    assert reader.feed(TextDelta(head), "r") == []
    assert reader.feed(TextDelta(rest[:4]), "r") == [
        ToolCallDelta(0, id="call_r", name="get_weather"),
        ToolCallDelta(0, arguments='{"c'),
    ]
    assert reader.feed(TextDelta("ity"), "r") == [ToolCallDelta(0, arguments="ity")]


@pytest.mark.parametrize(
    ("text", "finish", "reason"),
    [
        (CALL, LENGTH, "tool_calls"),
        (CALL[:-3], LENGTH, "tool_calls"),
        (CALL[:60], LENGTH, "length"),
        (CALL[:60], STOP, "malformed_tool_call"),
        (CALL[:60], Finish("stop_sequence", "stop", "R"), "malformed_tool_call"),
        (CALL.replace("city", "town"), STOP, "malformed_tool_call"),
        (CALL.replace('"city": ', ""), STOP, "malformed_tool_call"),
    ],
)
def test_how_a_call_ends(text: str, finish: Finish, reason: str) -> None:
    _, calls, ended = read(ASK, [text], finish)
    assert [call.name for call in calls] == ["get_weather"]
    assert (ended.reason, ended.raw) == (reason, finish.raw)


@pytest.mark.parametrize("length", [1, 5, 11, 20])
def test_the_beginning_of_a_call_is_no_text(length: int) -> None:
    reader = CallReader(told(ASK))
    assert reader.feed(TextDelta(CALL[:length]), "r") == []
    assert reader.finish(LENGTH) == ([], LENGTH)


def test_a_beginning_that_came_to_nothing_is_text() -> None:
    assert read(ASK, ["<", "tool"]) == ("<tool", [], STOP)
    assert read(ASK, []) == ("", [], STOP)


@pytest.mark.parametrize("text", ["Paris is", "<tool_calls>", '<tool_call>{"name": "other"', CALL + "!"])
def test_a_reply_that_was_not_held_is_an_error(text: str) -> None:
    with pytest.raises(UnsupportedFeature, match="the parameters of 'get_weather', 'get_time'"):
        read(replace(ASK, tool_choice=REQUIRED), [text])


# --- whether the grammar is in force -----------------------------------------------------------------


class Prober:
    """An engine that leaves out grammars with this word in them, as llama.cpp does."""

    def __init__(self, refused: str = "nothing") -> None:
        self.refused = refused
        self.asked: list[str] = []

    def handle_chat_completions(self, body: str, callback: Any) -> None:
        raise AssertionError(body)

    def handle_completions(self, asked: dict[str, Any]) -> Any:
        self.asked.append(asked["grammar"])
        return {"choices": [{"text": "-" if self.refused in asked["grammar"] else "<tool"}]}


def test_tools_are_tried_once() -> None:
    engine, proof = Prober(), Proof()
    for _ in range(3):
        proof.check(engine, told(ASK))
    assert len(engine.asked) == 1
    for number in range(REMEMBERED):
        proof.check(engine, told(replace(ASK, tools=(FunctionTool(f"t{number}"),))))
    proof.check(engine, told(ASK))
    assert len(engine.asked) == REMEMBERED + 2


def test_the_tool_that_cannot_be_held_is_named() -> None:
    engine, proof = Prober(refused="get_time"), Proof()
    for _ in range(2):
        with pytest.raises(UnsupportedFeature, match="the parameters of 'get_time'; simplify"):
            proof.check(engine, told(ASK))
