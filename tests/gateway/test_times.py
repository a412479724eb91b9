"""The limits of time of a call, on a clock that moves only when everybody waits."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import AssayError, DeadlineExceeded, ProviderTimeout
from assay.gateway import Route, Target
from assay.gateway.attempt import attempt
from assay.gateway.route import Healths
from assay.gateway.tries import Failed, tries
from assay.prices import free
from assay.providers.scripted import Scripted, tape
from assay.types import (
    Assembly,
    Context,
    Event,
    Handler,
    Request,
    Started,
    TextDelta,
    WireData,
    closing,
    user,
)

sys.path.insert(0, str(Path(__file__).parent))

from virtual import run_virtually

ASK = Request("m", (user("Hi"),), stream=True)
STARTED, ONE, TWO, FINISHED, ENDED = tape("one two")


def after(seconds: float) -> Callable[[], Any]:
    return partial(asyncio.sleep, seconds)


def target(name: str, *script: Any, **limits: float | None) -> Target:
    return Target(name, Scripted(name, [list(script)]), "m", free("test"), **limits)


def played(
    handler: Handler, request: Request = ASK, busy_s: float = 0.0
) -> tuple[str, AssayError | None, float]:
    """The text that came, how it failed, and the seconds that it took; the caller is busy between events."""

    async def run() -> tuple[str, AssayError | None, float]:
        loop = asyncio.get_running_loop()
        start, assembly, failure = loop.time(), Assembly(), None
        try:
            async with closing(handler(request)) as events:
                async for event in events:
                    assembly.add(event)
                    if busy_s:
                        await asyncio.sleep(busy_s)
        except AssayError as error:
            failure = error
        text = "".join(message.message.text for message in assembly.response().choices)
        return text, failure, loop.time() - start

    found: tuple[str, AssayError | None, float] = run_virtually(run())
    return found


def test_a_stream_that_does_not_begin_in_time_is_a_timeout_of_its_provider() -> None:
    slow = target("slow", after(9), *tape("late"), first_token_s=2.0, between_tokens_s=1.0)
    text, failure, took_s = played(attempt(slow))
    assert (text, took_s) == ("", pytest.approx(2.0))
    assert isinstance(failure, ProviderTimeout)
    assert failure.retryable
    assert failure.provider == "slow"
    assert "first_token_s" in failure.message


def test_that_it_has_begun_is_no_first_token_nor_is_a_heartbeat() -> None:
    slow = target("slow", STARTED, after(1), WireData(b": ping\n\n"), after(5), ONE, first_token_s=2.0)
    _, failure, took_s = played(attempt(slow))
    assert isinstance(failure, ProviderTimeout)
    assert took_s == pytest.approx(2.0)


def test_a_stream_that_falls_silent_is_a_timeout_counted_from_its_last_event() -> None:
    stalls = target("stalls", STARTED, ONE, after(2.9), TWO, after(99), FINISHED, ENDED, between_tokens_s=3.0)
    text, failure, took_s = played(attempt(stalls))
    assert text == "one two"
    assert isinstance(failure, ProviderTimeout)
    assert took_s == pytest.approx(5.9)
    assert "between_tokens_s" in failure.message


def test_a_slow_stream_that_never_stalls_is_left_alone() -> None:
    words: list[Any] = [step for _ in range(50) for step in (after(2.9), TextDelta("x"))]
    steady = target("steady", STARTED, *words, FINISHED, ENDED, first_token_s=3.0, between_tokens_s=3.0)
    text, failure, took_s = played(attempt(steady))
    assert (text, failure) == ("x" * 50, None)
    assert took_s == pytest.approx(145.0)


def test_a_caller_who_is_busy_is_not_the_providers_silence() -> None:
    quick = target("quick", *tape("one two three"), between_tokens_s=1.0)
    assert played(attempt(quick), busy_s=5.0)[:2] == ("one two three", None)


def test_a_whole_reply_has_no_first_token() -> None:
    whole = target("whole", after(9), *tape("all of it"), first_token_s=1.0, between_tokens_s=1.0)
    text, failure, _ = played(attempt(whole), Request("m", (user("Hi"),)))
    assert (text, failure) == ("all of it", None)


def test_the_calls_own_time_goes_before_all() -> None:
    slow = target("slow", after(99), first_token_s=50.0, deadline_s=4.0)
    _, failure, took_s = played(attempt(slow))
    assert isinstance(failure, DeadlineExceeded)
    assert took_s == pytest.approx(4.0)


# --- in a route -------------------------------------------------------------------------------------


def route(*targets: Target, **settings: Any) -> tuple[Handler, list[Failed]]:
    noted: list[Failed] = []
    healths = Healths(lambda: asyncio.get_running_loop().time())
    return tries(Route("fast", targets, **settings), healths, note=noted.append, clock_ns=lambda: 0), noted


def test_another_takes_over_from_one_that_does_not_begin() -> None:
    handler, noted = route(
        target("slow", STARTED, after(99), first_token_s=2.0), target("other", *tape("quick"))
    )
    assert played(handler) == ("quick", None, pytest.approx(2.0))
    assert [type(failed.error) for failed in noted] == [ProviderTimeout]


def test_nobody_takes_over_from_one_that_stalls() -> None:
    handler, noted = route(
        target("stalls", STARTED, ONE, after(99), between_tokens_s=2.0), target("other", *tape("quick"))
    )
    text, failure, _ = played(handler)
    assert text == "one "
    assert isinstance(failure, ProviderTimeout)
    assert noted == []


@pytest.mark.parametrize("stream", [True, False])
def test_in_a_route_a_models_deadline_bounds_a_try(stream: bool) -> None:
    handler, noted = route(
        target("slow", after(99), deadline_s=2.0), target("other", *tape("quick")), deadline_s=60.0
    )
    request = Request("fast", (user("Hi"),), stream=stream)
    assert played(handler, request) == ("quick", None, pytest.approx(2.0))
    assert isinstance(noted[0].error, ProviderTimeout)


def test_a_routes_deadline_is_the_calls() -> None:
    handler, _ = route(target("slow", after(99), deadline_s=50.0), target("other", "x"), deadline_s=3.0)
    _, failure, took_s = played(handler)
    assert isinstance(failure, DeadlineExceeded)
    assert took_s == pytest.approx(3.0)


def test_the_beginning_of_a_reply_that_came_to_nothing_is_not_shown() -> None:
    overloaded = target("overloaded", STARTED, WireData(b"", (STARTED,)), ProviderTimeout("later"))
    handler, _ = route(overloaded, target("other", *tape("quick")))

    async def run() -> list[Event]:
        async with closing(handler(ASK)) as events:
            return [event async for event in events]

    shown = run_virtually(run())
    assert [event.provider for event in shown if isinstance(event, Started)] == ["other"]
    assert [event.text for event in shown if isinstance(event, TextDelta)] == ["quick"]


# No two of them end at the same time.
GAPS = st.lists(st.integers(1, 20).map(float), min_size=1, max_size=8)
LIMIT = st.none() | st.integers(0, 25).map(lambda seconds: seconds + 0.5)


@given(GAPS, LIMIT, LIMIT, st.integers(0, 90).map(lambda seconds: seconds + 0.25))
@settings(max_examples=200, deadline=None)
def test_the_first_time_that_is_over_ends_the_call(
    gaps: list[float], first_s: float | None, between_s: float | None, call_s: float
) -> None:
    """The same verdict, at the same time, as from the gaps themselves."""
    script: list[Any] = [STARTED]
    for gap in gaps:
        script += [after(gap), TextDelta("x")]
    limited = target("t", *script, FINISHED, ENDED, first_token_s=first_s, between_tokens_s=between_s)
    text, failure, took_s = played(
        attempt(limited), Request("m", ASK.messages, stream=True, context=Context(deadline_s=call_s))
    )
    now, wanted, said = 0.0, None, 0
    for number, gap in enumerate(gaps):
        limit_s = first_s if number == 0 else between_s
        if limit_s is not None and gap > limit_s and now + limit_s < call_s:
            now, wanted = now + limit_s, ProviderTimeout
            break
        if now + gap > call_s:
            now, wanted = call_s, DeadlineExceeded
            break
        now, said = now + gap, said + 1
    assert (text, type(failure)) == ("x" * said, wanted or type(None))
    assert took_s == pytest.approx(now)
