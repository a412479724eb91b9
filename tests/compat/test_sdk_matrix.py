"""Callers change a base URL and nothing else: each official SDK, sync and async, whole and streamed, through
a real `assay up`, to an upstream of every dialect.

A feature is a function that drives an SDK, looks at what it got, and at what arrived upstream. What
the gateway does not carry is in test_sdk_refusals.py.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from .bed import Callers, Run
from .drivers.base import QUESTION, SYSTEM, Ask, Capital, Driver, Reply
from .upstreams.app import FIXTURES, Exchange, Upstreams

CLIENTS = ("openai", "responses", "anthropic", "gemini")
UPSTREAMS = ("openai", "openai-responses", "compatible", "anthropic", "gemini")
OWN = {
    ("openai", "openai"),
    ("openai", "compatible"),
    ("responses", "openai"),
    ("responses", "openai-responses"),
    ("anthropic", "anthropic"),
    ("gemini", "gemini"),
}
"""Where the caller's dialect is the upstream's, and its bytes go through."""

TEXT = "Grüße aus Köln: 5 °C, leichter Regen 🌧️."
WEATHER = "Paris: 18 °C. Zürich: 11 °C."
THOUGHTS = "The user wants the weather of two cities. I call the tool once for each."
CITIES = [{"city": "Paris"}, {"city": "Zürich"}]
RESULTS = ["18 °C", "11 °C"]


def png() -> bytes:
    """One red pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\x00\xff\x00\x00")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@dataclass(frozen=True)
class Cell:
    """One case: who calls, whom, how; and what it takes to look at both ends."""

    client: str
    upstream: str
    mode: str
    driver: Driver
    upstreams: Upstreams

    def model(self, scenario: str) -> str:
        return f"{self.upstream}.{scenario}"

    def arrived(self) -> Exchange:
        exchange = self.upstreams.one()
        assert exchange.provider == self.upstream
        assert exchange.stream == (self.mode == "stream")
        return exchange

    @property
    def own(self) -> bool:
        return (self.client, self.upstream) in OWN


# --- features ------------------------------------------------------------------------------------


async def text(cell: Cell) -> None:
    reply = await cell.driver.ask(Ask(cell.model("text"), system=SYSTEM, max_tokens=300))
    arrived = cell.arrived().seen
    assert arrived.system == [SYSTEM]
    assert arrived.said == [("user", QUESTION)]
    assert arrived.max_tokens == 300
    assert (reply.text, reply.finish, reply.calls) == (TEXT, "stop", [])
    assert reply.usage is not None
    assert reply.usage[:3] == (1200, 1024, 24)
    assert reply.usage[3] in (0, None)
    if cell.mode == "stream":
        assert reply.pieces >= 3


async def tools(cell: Cell) -> None:
    """Two calls of the same tool at once, then their results."""
    # Some servers give every call the index 0, which the SDK takes amiss: bytes that go through stay so.
    as_sent = cell.upstream == "compatible" and cell.own
    await conversation(cell, "indexed" if as_sent else "tools")


async def reasoning(cell: Cell) -> None:
    """A model that thinks before it calls; what vouches for its thoughts comes back where it must."""
    first = await conversation(cell, "reasoning", thinking=True)
    if (cell.client, cell.upstream) in THOUGHTS_SHOWN:
        assert first.thoughts == THOUGHTS


async def conversation(cell: Cell, scenario: str, thinking: bool = False) -> Reply:
    ask = Ask(cell.model(scenario), tools=True, thinking=thinking)
    first = await cell.driver.ask(ask)
    asked = cell.arrived().seen
    assert asked.tools == ["get_weather"]
    assert [call.arguments for call in first.calls] == CITIES
    assert {call.name for call in first.calls} == {"get_weather"}
    assert first.finish == "tools"
    assert first.usage is not None
    assert first.usage[:3] == ((130, 0, 100) if scenario == "reasoning" else (120, 0, 40))
    if scenario == "reasoning":
        assert first.usage[3] in (64, None)
    ids = [call.id for call in first.calls]
    assert len(set(ids)) == 2 or (cell.client == "gemini" and ids == [None, None])

    second = await cell.driver.answer(ask, first, RESULTS)
    second_turn = cell.arrived()
    arrived = second_turn.seen
    assert [arguments for _, _, arguments in arrived.calls] == CITIES
    assert [call_id for call_id, _, _ in arrived.calls] == [call_id for call_id, _ in arrived.results]
    for known, (call_id, _, _) in zip(
        upstream_ids(second_turn.dialect, scenario), arrived.calls, strict=True
    ):
        assert call_id == known or not known
    for (_, said), result in zip(arrived.results, RESULTS, strict=True):
        assert result in said
    assert arrived.said[0] == ("user", QUESTION)
    carried = scenario == "reasoning" and (cell.client, cell.upstream) in CARRIED
    proofs = PROOFS[second_turn.dialect] if carried else []
    assert arrived.sealed == proofs
    assert (second.text, second.finish) == (WEATHER, "stop")
    return first


async def forced(cell: Cell) -> None:
    reply = await cell.driver.ask(Ask(cell.model("forced"), tools=True, forced=True))
    assert cell.arrived().seen.choice == "get_weather"
    assert [(call.name, call.arguments) for call in reply.calls] == [("get_weather", {"city": "Paris"})]
    # OpenAI says "stop" where the call was forced.
    assert reply.finish in {"tools", "stop"}


async def schema(cell: Cell) -> None:
    """Structured output by the SDK's own helper, from a pydantic model to a value of it."""
    reply = await cell.driver.ask(Ask(cell.model("schema"), schema=Capital))
    asked = cell.arrived().seen.schema
    assert asked is not None
    assert set(asked["properties"]) == {"city", "population"}
    assert set(asked["required"]) == {"city", "population"}
    assert reply.parsed == Capital(city="Bern", population=134794)


async def image(cell: Cell) -> None:
    reply = await cell.driver.ask(Ask(cell.model("text"), image=png()))
    arrived = cell.arrived().seen
    assert arrived.images == [("image/png", png())]
    assert arrived.said == [("user", QUESTION)]
    assert reply.text == TEXT


async def length(cell: Cell) -> None:
    reply = await cell.driver.ask(Ask(cell.model("length"), max_tokens=16))
    assert cell.arrived().seen.max_tokens == 16
    assert (reply.text, reply.finish) == ("Once upon a time there", "length")


async def refusal(cell: Cell) -> None:
    """Declined: whatever the caller's dialect calls it, it is no ordinary end."""
    reply = await cell.driver.ask(Ask(cell.model("refusal")))
    cell.arrived()
    assert reply.text + reply.refusal == "I can't help with that."
    assert reply.finish in {"refusal", "filter"}


Feature = Callable[[Cell], Awaitable[None]]
FEATURES: dict[str, Feature] = {
    "text": text,
    "tools": tools,
    "forced": forced,
    "schema": schema,
    "image": image,
    "reasoning": reasoning,
    "length": length,
    "refusal": refusal,
}

PROOFS = {
    "openai": [],
    "compatible": [THOUGHTS],
    "openai-responses": ["gAAAAABpJA9cH3zVq0wQm1T5Yk8sLdXrB2uJfN7eGpKoIiWx6CvMzZa4RtUyPhSgDlEb-7qXw=="],
    "anthropic": [
        "EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pkiMOYds4pT0Hk9x+Rz/Vw==",
        "EmwKAhgBEgy3va3pzix/LafPsn4aDFIT2Xlxh0L5L8rLVyIwxtE3rAFBa8cr3qpPkNRj2YfWXGmKDxH4mPnZ5sQ7",
    ],
    "gemini": ["CiQB0e2Kb0L3u7m9Zk1xw5c8VtqFJg2hD4sRnYpE6aXoMiUlBvoK"],
}
"""What the upstream wants to see again in the second turn of a conversation in which it thought."""

CARRIED = {
    ("openai", "compatible"),
    ("openai", "gemini"),
    ("anthropic", "compatible"),
    ("anthropic", "anthropic"),
    ("anthropic", "gemini"),
    ("gemini", "compatible"),
    ("gemini", "anthropic"),
    ("gemini", "gemini"),
    ("responses", "openai"),
    ("responses", "openai-responses"),
    ("responses", "compatible"),
    ("responses", "anthropic"),
    ("responses", "gemini"),
}
"""Where the caller's dialect has a place for it; elsewhere it is left out, and the thinking with it."""

THOUGHTS_SHOWN = {
    (client, upstream) for client in CLIENTS for upstream in UPSTREAMS if upstream != "openai"
} - {("openai", "openai-responses")}
"""Where the caller can read what the model thought."""


def upstream_ids(dialect: str, scenario: str) -> list[str]:
    """The ids that the upstream gave its calls; "" where it gave none."""
    reply = json.loads((FIXTURES / dialect / f"{scenario}.json").read_bytes())
    match dialect:
        case "openai" | "compatible":
            return [call["id"] for call in reply["choices"][0]["message"]["tool_calls"]]
        case "openai-responses":
            return [item["call_id"] for item in reply["output"] if item["type"] == "function_call"]
        case "anthropic":
            return [block["id"] for block in reply["content"] if block["type"] == "tool_use"]
        case _:
            parts = reply["candidates"][0]["content"]["parts"]
            return [part["functionCall"].get("id", "") for part in parts if "functionCall" in part]


def cells() -> list[Any]:
    found = []
    for client in CLIENTS:
        for upstream in UPSTREAMS:
            for feature in FEATURES:
                for mode in ("whole", "stream"):
                    for how in ("sync", "async"):
                        name = f"{client}-client-to-{upstream}-{feature}-{mode}-{how}"
                        found.append(pytest.param(client, upstream, feature, mode, how, id=name))
    return found


@pytest.mark.parametrize(("client", "upstream", "feature", "mode", "how"), cells())
def test_matrix(
    client: str,
    upstream: str,
    feature: str,
    mode: str,
    how: str,
    callers: Callers,
    upstreams: Upstreams,
    run: Run,
) -> None:
    driver = callers.driver(client, mode, how)
    cell = Cell(client, upstream, mode, driver, upstreams)
    upstreams.clear()
    run(FEATURES[feature](cell))
