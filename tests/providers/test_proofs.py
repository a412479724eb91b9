"""Signatures and encrypted thoughts: kept across callers of any dialect, sent to their own upstreams only."""

from __future__ import annotations

import doctest
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.providers import proofs
from assay.providers.proofs import (
    bare,
    given_back,
    opened_body,
    opened_event,
    opened_request,
    opened_response,
    sealed,
    sealed_event,
    sealed_request,
)
from assay.types import (
    Choice,
    Completed,
    Finish,
    Message,
    Reasoning,
    ReasoningDelta,
    Request,
    Response,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    replace,
    user,
)

DIALECTS = ("openai", "openai-responses", "anthropic", "gemini")
dialects = st.sampled_from(DIALECTS)
proof = st.text(min_size=1).filter(lambda text: not text.startswith("assay:"))


def test_examples() -> None:
    assert doctest.testmod(proofs).failed == 0


def conversation(*parts: Reasoning | Text | ToolCall) -> Request:
    return Request("m", (user("Hi"), Message("assistant", parts), user("And?")))


@given(proof, dialects, dialects)
def test_a_proof_is_bare_for_its_own_dialect_and_hidden_from_any_other(
    text: str, maker: str, other: str
) -> None:
    known = sealed(text, maker)
    assert given_back(known, other) == known
    assert bare(known, other) == (text if other == maker else None)


@given(dialects, dialects, proof)
def test_a_turn_goes_out_to_a_caller_and_comes_back(maker: str, caller: str, text: str) -> None:
    """What an upstream signed reaches it again, whatever dialect the conversation passed through."""
    parts = (
        Reasoning("thought", signature=text),
        Reasoning(encrypted=text, id="rs_1"),
        Text("said", signature=text),
        ToolCall("1", "f", "{}", signature=text),
    )
    reply = Response("r", "m", (Choice(Message("assistant", parts), Finish("stop")),))
    kept = sealed_event(Completed(reply), maker)
    assert isinstance(kept, Completed)
    turn = opened_response(kept.response, caller).message
    sent = sealed_request(replace(conversation(), messages=(user("Hi"), turn)), caller)
    own, dropped = opened_request(sent, maker)
    assert own.messages[1].parts == parts
    assert dropped == ()


@pytest.mark.parametrize("other", ["anthropic", "openai", "openai-responses"])
def test_what_another_api_signed_is_left_out_and_named(other: str) -> None:
    sent = sealed_request(
        conversation(Reasoning("thought", signature="s"), Reasoning(encrypted="e", id="rs_1"), Text("said")),
        "gemini",
    )
    opened, dropped = opened_request(sent, other)
    assert opened.messages[1].parts == (Reasoning("thought"), Reasoning(), Text("said"))
    assert dropped == ("messages[1].parts[0].signature", "messages[1].parts[1].signature")


def test_what_has_no_proof_is_the_same_object() -> None:
    request = conversation(Reasoning("thought"), Text("said"), ToolCall("1", "f", "{}"))
    assert sealed_request(request, "anthropic") is request
    assert opened_request(request, "anthropic") == (request, ())
    for event in (TextDelta("x"), ReasoningDelta("x"), ToolCallDelta(0)):
        assert sealed_event(event, "gemini") is event


@pytest.mark.parametrize(
    "event",
    [
        TextDelta("x", signature="s"),
        ReasoningDelta("x", signature="s"),
        ReasoningDelta(encrypted="s"),
        ToolCallDelta(0, id="1", name="f", signature="s"),
    ],
)
def test_events_are_sealed_and_opened_as_replies_are(
    event: TextDelta | ReasoningDelta | ToolCallDelta,
) -> None:
    kept = sealed_event(event, "gemini")
    assert kept != event
    assert opened_event(kept, "gemini") == event
    assert opened_event(kept, "anthropic") == kept


def test_an_upstream_cannot_pass_its_proof_off_as_anothers() -> None:
    lie = sealed_event(ReasoningDelta("x", signature="assay:anthropic:c2ln"), "openai")
    assert isinstance(lie, ReasoningDelta)
    assert bare(lie.signature or "", "anthropic") is None


BODY = {
    "model": "m",
    "brand_new": {"signature": 5, "text": "assay:gemini:not a proof"},
    "messages": [
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "a", "signature": "assay:gemini:c2ln"},
                {"type": "thinking", "thinking": "b", "signature": "assay:anthropic:b3du"},
                {"type": "redacted_thinking", "data": "YXNzYXk6b3BlbmFpLXJlc3BvbnNlczp4"},
                {"type": "tool_use", "id": "1", "name": "f", "input": {"data": "YXNzYQ=="}},
                {"type": ["odd"], "signature": 1},
            ],
        }
    ],
}


def test_a_body_that_nobody_understood_is_sent_on_without_others_proofs() -> None:
    opened = json.loads(opened_body(json.dumps(BODY).encode(), "anthropic"))
    assert opened["brand_new"] == BODY["brand_new"]
    assert opened["messages"][0]["content"] == [
        {"type": "thinking", "thinking": "b", "signature": "b3du"},
        {"type": "tool_use", "id": "1", "name": "f", "input": {"data": "YXNzYQ=="}},
        {"type": ["odd"], "signature": 1},
    ]
