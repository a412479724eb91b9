"""What Anthropic is told about reasoning: which thoughts it gets back, and how much it shall think."""

from __future__ import annotations

import json
from typing import Any

import pytest

from assay.errors import UnsupportedFeature
from assay.providers.anthropic import Anthropic
from assay.types import (
    Message,
    Reasoning,
    Request,
    Sampling,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    WireCall,
    assistant,
    replace,
    user,
)

WIRE = Anthropic()
NEW, OLD = "claude-opus-5", "claude-sonnet-4-5"
ASK = Request(NEW, (user("Hi"),))
CALL = ToolCall("toolu_1", "look", '{"at": 1.0}')
RESULT = Message("tool", (ToolResult("toolu_1", (Text("found"),)),))


def sent(request: Request) -> tuple[Any, tuple[str, ...]]:
    encoded = WIRE.encode(request)
    return json.loads(encoded.body), encoded.dropped


@pytest.mark.parametrize(
    "foreign",
    [
        Reasoning("Hm."),
        Reasoning(),
        Reasoning("Hm.", signature=""),
    ],
)
def test_reasoning_that_the_api_cannot_read_is_left_out(foreign: Reasoning) -> None:
    request = Request(NEW, (user("1"), Message("assistant", (foreign, Text("2")))))
    body, left_out = sent(request)
    assert body["messages"][1]["content"] == "2"
    assert left_out == ("messages[1].parts[0].reasoning",)


def test_its_own_reasoning_is_sent_back_in_its_order() -> None:
    thought, hidden = Reasoning("Hm.", signature="c2ln"), Reasoning(encrypted="ZW5j")
    turn = Message("assistant", (Text("a"), thought, CALL, hidden))
    said = sent(Request(NEW, (user("1"), turn, RESULT)))[0]["messages"]
    assert said[1]["content"][:3] == [
        {"type": "redacted_thinking", "data": "ZW5j"},
        {"type": "text", "text": "a"},
        {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
    ]
    assert said[1]["content"][3]["type"] == "tool_use"


def thinking_of(model: str, thinking: Thinking, **fields: Any) -> Any:
    body, left_out = sent(replace(ASK, model=model, thinking=thinking, **fields))
    return body.get("thinking"), body.get("output_config"), body["max_tokens"], left_out


ADAPTIVE = {"type": "adaptive"}


@pytest.mark.parametrize(
    ("model", "thinking", "expected"),
    [
        (NEW, Thinking(enabled=True), (ADAPTIVE, None, 12_288, ())),
        (NEW, Thinking(effort="max"), (ADAPTIVE, {"effort": "max"}, 28_672, ())),
        (NEW, Thinking(effort="minimal"), (ADAPTIVE, {"effort": "low"}, 4608, ("thinking",))),
        (NEW, Thinking(effort="none"), ({"type": "disabled"}, None, 4096, ())),
        (NEW, Thinking(enabled=False), ({"type": "disabled"}, None, 4096, ())),
        (NEW, Thinking(budget_tokens=0), ({"type": "disabled"}, None, 4096, ())),
        (NEW, Thinking(budget_tokens=2000), (ADAPTIVE, {"effort": "medium"}, 6096, ("thinking",))),
        (NEW, Thinking(summary="auto"), (None, None, 4096, ("thinking",))),
        (
            NEW,
            Thinking(effort="low", summary="detailed"),
            ({**ADAPTIVE, "display": "summarized"}, {"effort": "low"}, 5120, ("thinking.summary",)),
        ),
        (
            NEW,
            Thinking(enabled=True, include_text=False),
            ({**ADAPTIVE, "display": "omitted"}, None, 12_288, ()),
        ),
        (NEW, Thinking(include_text=True), ({**ADAPTIVE, "display": "summarized"}, None, 12_288, ())),
        (NEW, Thinking(), (None, None, 4096, ())),
        ("claude-opus-4-6", Thinking(effort="high"), (ADAPTIVE, {"effort": "high"}, 28_672, ())),
        (
            "claude-opus-4-6",
            Thinking(budget_tokens=2000),
            ({"type": "enabled", "budget_tokens": 2000}, None, 6096, ()),
        ),
        (OLD, Thinking(effort="low"), ({"type": "enabled", "budget_tokens": 1024}, None, 5120, ())),
        (OLD, Thinking(enabled=True), ({"type": "enabled", "budget_tokens": 8192}, None, 12288, ())),
        (
            OLD,
            Thinking(budget_tokens=100),
            ({"type": "enabled", "budget_tokens": 1024}, None, 5120, ("thinking",)),
        ),
    ],
)
def test_how_much_to_think(model: str, thinking: Thinking, expected: Any) -> None:
    assert thinking_of(model, thinking) == expected


def test_a_budget_leaves_room_below_the_callers_limit() -> None:
    small, tiny = Sampling(max_tokens=3000), Sampling(max_tokens=1000)
    enabled = {"type": "enabled", "budget_tokens": 1500}
    assert thinking_of(OLD, Thinking(effort="high"), sampling=small) == (enabled, None, 3000, ())
    assert thinking_of(OLD, Thinking(effort="high"), sampling=tiny) == (None, None, 1000, ("thinking",))


def test_an_unknown_effort_is_refused() -> None:
    with pytest.raises(UnsupportedFeature, match="no effort 'utmost'") as caught:
        WIRE.encode(replace(ASK, thinking=Thinking(effort="utmost")))
    assert caught.value.param == "thinking.effort"


def test_amid_tool_calls_without_a_thought_that_it_may_read_an_old_model_does_not_think() -> None:
    """It would refuse the call: a turn of tool calls has to begin with its thought."""
    thought = Reasoning("Hm.", signature="c2ln")
    loop = (user("Go"), Message("assistant", (replace(thought, signature=None), CALL)), RESULT)
    request = Request(OLD, loop, thinking=Thinking(effort="low"))
    body, left_out = sent(request)
    assert "thinking" not in body
    assert left_out == ("messages[1].parts[0].reasoning", "thinking")
    thoughtful = (
        user("Go"),
        Message("assistant", (thought, CALL)),
        RESULT,
        Message("assistant", (CALL,)),
        RESULT,
    )
    assert "thinking" in sent(replace(request, messages=thoughtful))[0]
    over = (*loop, assistant("Done"), user("Thanks"))
    assert "thinking" in sent(replace(request, messages=over))[0]
    assert "thinking" in sent(replace(request, model=NEW))[0]


@pytest.mark.parametrize(
    ("thinking", "expected"),
    [
        (Thinking(effort="low"), (None, {"effort": "low"})),
        (Thinking(False, "low"), ({"type": "disabled"}, {"effort": "low"})),
        (Thinking(True, "low", 2048), ({"type": "enabled", "budget_tokens": 2048}, {"effort": "low"})),
        (Thinking(True, include_text=True), ({"type": "adaptive", "display": "summarized"}, None)),
    ],
)
def test_a_caller_of_this_dialect_is_taken_at_its_word(thinking: Thinking, expected: Any) -> None:
    call = WireCall("anthropic", b"{}")
    assert thinking_of(OLD, thinking, wire=call)[:2] == expected
