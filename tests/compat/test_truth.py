"""What goes wrong upstream reaches every caller as an error in its own dialect, never as a success; a caller
who goes away ends the call upstream; and wherever an upstream's bytes are cut, they say the same.

Each client is tried with an upstream of its own dialect, whose bytes go through, and with one of another.
"""

from __future__ import annotations

import asyncio

import pytest

from .bed import PIECES, Callers, Run
from .drivers.base import Ask, settle
from .test_sdk_matrix import CITIES, OWN, TEXT
from .upstreams.app import Upstreams

PAIRS = [
    ("openai", "openai"),
    ("openai", "anthropic"),
    ("responses", "openai-responses"),
    ("responses", "gemini"),
    ("anthropic", "anthropic"),
    ("anthropic", "openai"),
    ("gemini", "gemini"),
    ("gemini", "compatible"),
]
pairs = pytest.mark.parametrize(
    ("client", "upstream"), [pytest.param(*pair, id=f"{pair[0]}-client-to-{pair[1]}") for pair in PAIRS]
)
LIMIT_S = 20
"""How long a test waits for what has to happen; nothing is measured against it."""


@pairs
@pytest.mark.parametrize("how", ["sync", "async"])
def test_a_caller_who_leaves_a_stream_ends_the_call_upstream(
    client: str, upstream: str, how: str, callers: Callers, upstreams: Upstreams, run: Run
) -> None:
    if (client, how) == ("gemini", "async"):
        pytest.skip("closing its async stream leaves the SDK's connection to the garbage collector")
    upstreams.clear()
    driver = callers.driver(client, "stream", how)

    async def leave() -> None:
        close = await driver.first_piece(Ask(f"{upstream}.stall"))
        exchange = upstreams.next()
        assert not exchange.closed.is_set()
        await settle(close())
        assert await asyncio.to_thread(exchange.closed.wait, LIMIT_S)

    run(leave())


@pairs
@pytest.mark.parametrize("mode", ["whole", "stream"])
def test_a_caller_who_gives_up_ends_the_call_upstream(
    client: str, upstream: str, mode: str, callers: Callers, upstreams: Upstreams, run: Run
) -> None:
    upstreams.clear()
    driver = callers.driver(client, mode, "async")

    async def give_up() -> None:
        call = asyncio.create_task(driver.ask(Ask(f"{upstream}.stall")))
        exchange = await asyncio.to_thread(upstreams.next)
        assert await asyncio.to_thread(exchange.reading.wait, LIMIT_S)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await asyncio.to_thread(exchange.closed.wait, LIMIT_S)

    run(give_up())


# Before anything was said there is a status; later, the words of the dialect for an error inside a stream.
STATUS = {
    "truncated": 502,
    "early": 502,
    "garbage": 502,
    "empty": 502,
    "stall": 504,
    "error-first": 503,
    "error-mid": 503,
}
SAID_SOMETHING = {"truncated", "early", "stall", "error-mid"}


@pairs
@pytest.mark.parametrize("mode", ["whole", "stream"])
@pytest.mark.parametrize("fault", STATUS)
def test_a_fault_is_an_error_in_the_callers_words(
    client: str, upstream: str, mode: str, fault: str, callers: Callers, upstreams: Upstreams, run: Run
) -> None:
    upstreams.clear()
    driver = callers.driver(client, mode, "sync")
    model = f"slow.{upstream}" if fault == "stall" else f"{upstream}.{fault}"
    with pytest.raises(driver.errors) as raised:
        run(driver.ask(Ask(model)))
    failure = driver.failure(raised.value)
    assert upstreams.one().stream == (mode == "stream")
    assert failure.message
    if mode == "stream" and fault in SAID_SOMETHING:
        assert failure.kind in IN_STREAM[client]
        assert failure.type
    else:
        status = STATUS[fault]
        if (client, status) == ("anthropic", 503):
            # Where no stream was asked for, this upstream says that it is broken before it says anything.
            status = 500 if (fault, mode) == ("error-mid", "whole") else 529
        assert failure.status == status


IN_STREAM: dict[str, set[str]] = {
    "openai": {"APIError"},
    # An event `error`, which the SDK raises, or the event `response.failed`, which it hands on.
    "responses": {"APIError", "StreamFailed"},
    "anthropic": {"APIStatusError"},
    "gemini": {"ServerError"},
}


@pairs
@pytest.mark.parametrize("pieces", PIECES)
def test_a_stream_says_the_same_wherever_it_is_cut(
    client: str, upstream: str, pieces: str, callers: Callers, upstreams: Upstreams, run: Run
) -> None:
    if pieces == "heartbeats" and upstream == "gemini":
        pytest.skip("Gemini sends no comments, and its SDK cannot read them")
    driver = callers.driver(client, "stream", "sync")
    reply = run(driver.ask(Ask(f"{upstream}.text.{pieces}")))
    assert (reply.text, reply.finish) == (TEXT, "stop")
    assert reply.usage[:3] == (1200, 1024, 24)
    kind = "reasoning" if (client, upstream) in OWN else "tools"
    reply = run(driver.ask(Ask(f"{upstream}.{kind}.{pieces}", tools=True, thinking=kind == "reasoning")))
    assert [call.arguments for call in reply.calls] == CITIES
    assert reply.finish == "tools"
    assert [exchange.problems for exchange in upstreams.taken()[-2:]] == [[], []]
