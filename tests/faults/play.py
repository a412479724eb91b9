"""Plays the cases against a real `assay up`, with the official SDKs as callers, and gathers what comes of it.

Nothing here sleeps: an upstream that stalls waits for the other side to close, and calls run side by side.
"""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from compat.bed import Callers
from compat.drivers.base import Ask, Failure
from compat.test_sdk_matrix import TEXT
from compat.test_truth import IN_STREAM
from compat.upstreams.app import Exchange, Upstreams

from .cases import LEFT, Case, cases, configuration

PATIENCE_S = 60
"""How long what has to happen may take; nothing is measured against it."""
AT_ONCE = 12


@dataclass
class Outcome:
    """What a call came to: what its caller got, what arrived upstream, and the spans that it left."""

    case: Case
    text: str = ""
    failure: Failure | None = None
    retry_after: str | None = None
    exchanges: list[Exchange] = field(default_factory=list)
    call: dict[str, Any] = field(default_factory=dict)
    tries: list[dict[str, Any]] = field(default_factory=list)

    @property
    def cell(self) -> str:
        """The end, in the words of the table."""
        if self.case.end == "left":
            return "ended"
        if self.failure is None:
            return "fallback"
        return "error event" if self.case.mid_stream else str(self.failure.status)

    def problems(self) -> Iterator[str]:
        """All that must never be."""
        yield from self._told()
        yield from self._asked()
        yield from self._recorded()

    def _told(self) -> Iterator[str]:
        end, failure, caller = self.case.end, self.failure, self.case.caller
        if end == "left":
            return
        if end == "answer":
            if failure is not None or self.text != TEXT:
                yield f"no answer from the fallback: {failure or self.text!r}"
            return
        if failure is None:
            yield f"a failure shown as the answer {self.text!r}"
            return
        if not failure.message:
            yield "an error that says nothing"
        if end == "in stream":
            if failure.kind not in IN_STREAM[caller] or not failure.type:
                yield f"an error in a stream that is not the dialect's: {failure}"
            return
        status = self.case.fault.status
        wanted = status
        if (caller, status) == ("anthropic", 503):
            wanted = 500 if self.case.broken else 529
        if failure.status != wanted:
            yield f"status {failure.status} instead of {wanted}: {failure}"
        if self.case.kind == "error-rate" and self.retry_after != "2":
            yield f"retry-after is {self.retry_after}, not 2"
        # Both sides round to seconds.
        if self.case.kind == "rate-date" and self.retry_after not in {"29", "30", "31"}:
            yield f"retry-after is {self.retry_after}, not 30"

    def _asked(self) -> Iterator[str]:
        """Who was asked, how often, and that nobody is still at work."""
        case = self.case
        expected = [] if case.kind in {"refused", "hang"} else [case.kind]
        if case.end == "answer":
            expected.append(case.kind if case.second.endswith("-second") else "text")
        arrived = [exchange.scenario for exchange in self.exchanges]
        if arrived != expected:
            yield f"asked {arrived} instead of {expected}"
        for exchange in self.exchanges:
            waits = case.fault.waits and exchange.scenario == case.kind
            if waits and not exchange.closed.wait(PATIENCE_S):
                yield "a call left running upstream"
            if exchange.problems and not case.kind.startswith("keyed"):
                yield f"the upstream got what it cannot read: {exchange.problems}"

    def _recorded(self) -> Iterator[str]:
        call, end = self.call, self.case.end
        if not call:
            yield "no span"
            return
        failed = [call, *self.tries] if end != "answer" else self.tries
        if call["status"] != ("ok" if end == "answer" else "error"):
            yield f"the span says {call['status']}"
        if end == "left" and call["error_type"] != "cancelled":
            yield f"the span of who left says {call['error_type']}"
        if len(self.tries) != (end == "answer"):
            yield f"{len(self.tries)} spans of failed tries"
        for span in failed:
            if span["status"] != "error" or not span["error_type"]:
                yield f"a failure that its span does not tell: {span}"
            # An upstream that answers with an error's status bills nothing; of all else nobody knows.
            if span["cost_pico"] is not None or (span["cost_kind"] != "unknown" and not self.case.refused):
                yield f"a failure that costs {span['cost_pico']} ({span['cost_kind']})"
        if end == "answer" and (call["cost_kind"], call["cost_pico"]) != ("exact", 0):
            yield f"the answer of a free fallback costs {call['cost_pico']} ({call['cost_kind']})"
        if end == "answer" and call["provider"] != self.case.second:
            yield f"the span names {call['provider']}, not {self.case.second}"


def play(start: Callable[..., Any]) -> list[Outcome]:
    """All cases, in their order. `start` starts `assay up` with an assay.toml and an environment."""
    outcomes = [Outcome(case) for case in cases()]
    with Upstreams() as upstreams, _nobody_there() as refused, _nobody_accepts() as hangs:
        toml = configuration([outcome.case for outcome in outcomes], upstreams, refused, hangs)
        served = start(toml, env={"UPSTREAM_KEY": "upstream-key", "SECOND_KEY": "second-key"})
        callers = Callers(served.url.rstrip("/"))
        stay = [outcome for outcome in outcomes if outcome.case.fault is not LEFT]
        with ThreadPoolExecutor(AT_ONCE) as threads:
            for _ in threads.map(lambda outcome: _call(outcome, callers), stay):
                pass
        arrived = upstreams.taken()
        with asyncio.Runner() as runner, warnings.catch_warnings():
            # Of the google-genai SDK, when its async half first meets aiohttp.
            warnings.filterwarnings("ignore", "Inheritance class AiohttpClientSession", DeprecationWarning)
            for outcome in outcomes:
                if outcome.case.fault is LEFT:
                    runner.run(_leave(outcome, callers, upstreams))
            runner.run(callers.aclose())
        exchanges = defaultdict(list)
        for exchange in arrived:
            exchanges[exchange.mark].append(exchange)
        for outcome in stay:
            outcome.exchanges = exchanges[outcome.case.name]
        status, said = served.stop()
        assert status == 0, said
        assert "Traceback" not in said, said
    _read_spans(outcomes, served.root / ".assay" / "assay.db")
    return outcomes


def _call(outcome: Outcome, callers: Callers) -> None:
    driver = callers.driver(outcome.case.caller, outcome.case.mode, "sync")
    try:
        outcome.text = asyncio.run(driver.ask(Ask(outcome.case.name))).text
    except driver.errors as error:
        outcome.failure = driver.failure(error)
        response = getattr(error, "response", None)
        outcome.retry_after = None if response is None else response.headers.get("retry-after")


async def _leave(outcome: Outcome, callers: Callers, upstreams: Upstreams) -> None:
    """Calls, and goes away as soon as the upstream has begun to be silent."""
    driver = callers.driver(outcome.case.caller, outcome.case.mode, "async")
    call = asyncio.create_task(driver.ask(Ask(outcome.case.name)))
    exchange = await asyncio.to_thread(upstreams.next)
    assert await asyncio.to_thread(exchange.reading.wait, PATIENCE_S)
    call.cancel()
    await asyncio.wait((call,))
    assert await asyncio.to_thread(exchange.closed.wait, PATIENCE_S)
    outcome.exchanges = [exchange, *upstreams.taken()]


def _read_spans(outcomes: list[Outcome], file: Any) -> None:
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    rows = [dict(row) for row in connection.execute("SELECT * FROM spans")]
    connection.close()
    calls = {row["model"]: row for row in rows if row["operation"] != "try"}
    below = defaultdict(list)
    for row in rows:
        if row["operation"] == "try":
            below[row["parent_id"]].append(row)
    for outcome in outcomes:
        outcome.call = calls.get(outcome.case.name, {})
        outcome.tries = below[outcome.call.get("span_id")]


@contextmanager
def _nobody_there() -> Iterator[int]:
    """A port that refuses connections, and that nobody else can take meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@contextmanager
def _nobody_accepts() -> Iterator[int]:
    """A port whose queue is full: who connects waits."""
    with socket.socket() as listening, socket.socket() as first, socket.socket() as second:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]
