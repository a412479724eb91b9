"""The page on translation: what is left out has the name that it gives, and streams fail as it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from assay.errors import BadResponse
from assay.providers import translation
from assay.providers.anthropic import Anthropic
from assay.providers.base import WireFormat
from assay.providers.gemini import Gemini
from assay.providers.openai_chat import OpenAIChat
from assay.providers.proofs import opened_request
from assay.server import anthropic, gemini, openai_chat, openai_responses
from assay.server.dialect import Dialect
from assay.types import (
    CacheMark,
    Message,
    Reasoning,
    Request,
    Sampling,
    Started,
    Text,
    TextDelta,
    Thinking,
    assistant,
    system,
    user,
)

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "translation.md"
TEXT = PAGE.read_text(encoding="utf-8")
TURNS = (system("A"), user("B"), assistant("C"), system("D"), user("E"))
SIGNED = Message("assistant", (Reasoning("Hm", signature="assay:anthropic:c2ln"), Text("C")))
LEFT_OUT: dict[str, tuple[WireFormat, Request]] = {
    "`seed`": (Anthropic(), Request("m", (user("B"),), sampling=Sampling(seed=7), metadata={"a": "b"})),
    "`cache_control`": (
        OpenAIChat(extensions=False),
        Request("m", (Message("system", (Text("A", cache=CacheMark()),)), user("B"))),
    ),
    "a thinking budget": (
        OpenAIChat(extensions=False),
        Request("m", (user("B"),), thinking=Thinking(enabled=True, budget_tokens=4000)),
    ),
    "a system message": (Gemini(), Request("gemini-2.5-flash", TURNS)),
    "another provider's": (OpenAIChat(), Request("m", (user("B"), SIGNED, user("E")))),
}


def row(begins: str) -> str:
    """The last cell of the row that begins so, without its marks."""
    found = re.search(rf"^\| {re.escape(begins)}.*\| (.+?) \|$", TEXT, re.MULTILINE)
    assert found is not None, begins
    return found[1].strip("`")


@pytest.mark.parametrize("begins", LEFT_OUT)
def test_what_is_left_out_has_the_name_that_the_page_gives(begins: str) -> None:
    wire, request = LEFT_OUT[begins]
    opened, foreign = opened_request(request, wire.dialect)
    assert ", ".join(dict.fromkeys((*foreign, *wire.encode(opened).dropped))) == row(begins)


def test_no_example_of_the_page_is_left_untried() -> None:
    table = TEXT[TEXT.index("| the call | to |") : TEXT.index("**Refused**")]
    assert len(re.findall(r"^\| (?!the call|-)", table, re.MULTILINE)) - 1 <= len(LEFT_OUT)


def test_the_budgets_of_the_page_are_those_that_are_used() -> None:
    named = re.findall(r"(low|medium|high) (\d+,\d+)", " ".join(TEXT.split()))
    assert [(word, int(tokens.replace(",", ""))) for word, tokens in named] == [
        (word, translation.budget(Thinking(effort=word))) for word in ("low", "medium", "high")
    ]


ENDS: dict[str, tuple[Dialect, bytes, str, str]] = {
    "chat completions": (
        openai_chat.CHAT_COMPLETIONS,
        b'{"model":"m","stream":true,"messages":[{"role":"user","content":"Hi"}]}',
        'data: {"error":',
        "[DONE]",
    ),
    "Responses": (
        openai_responses.DIALECT,
        b'{"model":"m","stream":true,"input":"Hi"}',
        "event: response.failed",
        "response.completed",
    ),
    "Anthropic": (
        anthropic.MESSAGES,
        b'{"model":"m","stream":true,"max_tokens":9,"messages":[{"role":"user","content":"Hi"}]}',
        "event: error",
        "message_stop",
    ),
    "Gemini": (
        gemini.STREAM_SSE,
        b'{"contents":[{"role":"user","parts":[{"text":"Hi"}]}]}',
        'data: {"error":',
        "finishReason",
    ),
}


@pytest.mark.parametrize("caller", ENDS)
def test_a_stream_that_fails_ends_as_the_page_says(caller: str) -> None:
    dialect, body, ends, never = ENDS[caller]
    cell = re.search(rf"^\| {caller} \| ([^|]*`[^|]+) \|$", TEXT[TEXT.index("## The truth") :], re.MULTILINE)
    assert cell is not None
    end, *absent = re.findall(r"`([^`]+)`", cell[1])
    assert end.partition(" ...")[0] in ends
    assert absent in ([], [never])
    encoder = dialect.stream(dialect.parse(body, "m").options)
    said = (
        encoder.encode(Started("r1", "m"))
        + encoder.encode(TextDelta("Half"))
        + encoder.error(BadResponse("x"))
    )
    assert ends in said.decode()
    assert never not in said.decode()
