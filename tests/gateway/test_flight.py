"""Single flight: one upstream call, many followers, whoever leaves, whatever fails, however slow."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import AssayError, BadResponse, DeadlineExceeded, ProviderUnavailable
from assay.gateway import flight as flight_module
from assay.gateway.flight import AHEAD, Flight
from assay.types import Ended, Event, Finish, Finished, Started, TextDelta, WireData

sys.path.insert(0, str(Path(__file__).parent))

from virtual import run_virtually

pytestmark = pytest.mark.anyio


class Source:
    """An upstream that says what it is handed, and knows whether it runs."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Event | BaseException | None] = asyncio.Queue()
        self.calls = self.running = self.read = 0
        self.landed: list[Flight[str]] = []
        self.found: str | None = None
        self.gate: asyncio.Event | None = None

    async def find(self) -> str | None:
        if self.gate is not None:
            await self.gate.wait()
        return self.found

    async def call(self) -> AsyncIterator[Event]:
        self.calls += 1
        self.running += 1
        try:
            while (step := await self.queue.get()) is not None:
                self.read += 1
                if isinstance(step, BaseException):
                    raise step
                yield step
        finally:
            try:
                # Closing a connection takes a turn, too.
                await asyncio.sleep(0)
            finally:
                self.running -= 1

    def say(self, *steps: Event | BaseException | None) -> None:
        for step in steps:
            self.queue.put_nowait(step)

    def flight(self, **settings: Any) -> Flight[str]:
        return Flight(self.find, self.call, self.landed.append, **settings)


def words(count: int) -> list[Event]:
    return [
        Started("r", "m"),
        *(TextDelta(f"{number} ") for number in range(count)),
        Finished(Finish("stop")),
        Ended(),
    ]


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def read(flight: Flight[str], into: list[Event], until: float | None) -> str:
    if flight.landed:
        return "too late"
    follower = flight.join(until=until)
    try:
        while await follower.more():
            into.extend(follower.there())
    finally:
        await flight.leave(follower)
    return "read"


def start(flight: Flight[str], until: float | None = None) -> tuple[asyncio.Task[str], list[Event]]:
    into: list[Event] = []
    return asyncio.create_task(read(flight, into, until)), into


async def test_followers_see_each_event_as_it_comes_and_late_ones_all_that_came() -> None:
    source = Source()
    flight = source.flight()
    first, one = start(flight)
    source.say(*words(3)[:2])
    await turns()
    second, two = start(flight)
    await turns()
    assert one == two == words(3)[:2]
    source.say(*words(3)[2:], None)
    await asyncio.gather(first, second)
    assert one == two == words(3)
    assert source.calls == 1
    assert source.landed == [flight]
    assert flight.complete
    assert flight.ended


async def test_the_call_goes_on_without_who_began_it_and_stops_with_the_last() -> None:
    source = Source()
    flight = source.flight()
    first, _ = start(flight)
    second, two = start(flight)
    source.say(*words(2)[:1])
    await turns()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert source.running == 1
    source.say(*words(2)[1:2])
    await turns()
    assert two == words(2)[:2]
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    assert source.running == 0, "the last one leaves when the upstream has stopped"
    assert source.landed == [flight]


async def test_what_fails_fails_for_all_with_the_same_error() -> None:
    source, gone = Source(), ProviderUnavailable("gone")
    flight = source.flight()
    tasks = [start(flight)[0] for _ in range(3)]
    source.say(*words(1)[:1], gone)
    assert await asyncio.gather(*tasks, return_exceptions=True) == [gone] * 3
    assert flight.broken
    assert source.landed == [flight]


async def test_a_call_that_is_stopped_from_outside_is_a_typed_error() -> None:
    source = Source()
    flight = source.flight()
    task, _ = start(flight)
    await turns()
    assert flight._task is not None
    flight._task.cancel()
    with pytest.raises(ProviderUnavailable):
        await task


async def test_what_was_found_elsewhere_calls_nobody() -> None:
    source = Source()
    source.found = "before"
    flight = source.flight()
    task, seen = start(flight)
    await task
    assert (source.calls, seen, flight.found) == (0, [], "before")


async def test_who_leaves_before_the_call_began_leaves_nothing_behind() -> None:
    source = Source()
    flight = source.flight()
    follower = flight.join()
    await flight.leave(follower)
    assert source.landed == [flight]
    assert source.calls == source.running == 0


async def test_it_reads_no_further_ahead_than_it_may() -> None:
    source = Source()
    flight = source.flight()
    slow, fast = flight.join(), flight.join()
    source.say(*words(1000), None)
    await turns(3000)
    assert source.read == AHEAD
    seen: list[Event] = []
    while await fast.more():
        seen.extend(fast.there())
    assert seen == words(1000), "the slow one stalls nobody"
    assert next(iter(slow.there())) == words(1)[0]
    await flight.leave(slow)
    await flight.leave(fast)


async def test_what_is_kept_is_bounded_and_who_is_too_far_behind_gives_up() -> None:
    source = Source()
    flight = source.flight(max_bytes=20_000)
    slow, fast = flight.join(), flight.join()
    source.say(*words(5000), None)
    seen: list[Event] = []
    while await fast.more():
        for event in fast.there():
            seen.append(event)
            assert flight._bytes <= 20_000 + 200
    assert seen == words(5000)
    assert flight.whole is None
    assert source.landed == [flight], "nobody joins what has lost its beginning"
    assert await slow.more()
    with pytest.raises(BadResponse, match="too slowly"):
        list(slow.there())
    await flight.leave(slow)
    await flight.leave(fast)


async def test_bytes_behind_the_end_of_a_reply_belong_to_it() -> None:
    source = Source()
    flight = source.flight()
    task, seen = start(flight)
    reply = [WireData(b"a", tuple(words(1)[:-1])), WireData(b"b", (Ended(),)), WireData(b"[DONE]")]
    source.say(*reply[:2])
    await turns()
    assert flight.ended
    assert not flight.complete
    source.say(reply[2], None)
    await task
    assert flight.complete
    assert seen == reply


async def test_one_follower_pays_and_it_is_the_first_that_is_left() -> None:
    source = Source()
    flight = source.flight()
    first, second, third = flight.join(), flight.join(), flight.join()
    assert not flight.settle(second)
    await flight.leave(first)
    assert flight.settle(second)
    await flight.leave(second)
    assert not flight.settle(third), "it was paid"
    await flight.leave(third)


def test_each_follower_has_its_own_deadline() -> None:
    async def main() -> None:
        source = Source()
        flight = source.flight()
        now = asyncio.get_running_loop().time()
        hurried, _ = start(flight, until=now + 5)
        patient, seen = start(flight, until=now + 500)
        source.say(*words(1)[:1])
        with pytest.raises(DeadlineExceeded):
            await hurried
        assert asyncio.get_running_loop().time() == now + 5
        source.say(*words(1)[1:], None)
        await patient
        assert seen == words(1)

    run_virtually(main())


STEP = st.one_of(
    st.tuples(st.just("say"), st.integers(1, 3)),
    st.tuples(st.just("join"), st.just(0)),
    st.tuples(st.just("cancel"), st.integers(0, 7)),
    st.tuples(st.just("turns"), st.integers(1, 4)),
    st.tuples(st.sampled_from(["fail", "end"]), st.just(0)),
)


class Play:
    """A flight under a sequence of steps, and what its followers have to see."""

    def __init__(self, *, gated: bool) -> None:
        self.source = Source()
        if gated:
            self.source.gate = asyncio.Event()
        self.flight = self.source.flight()
        self.left = words(6)
        self.said: list[Event] = []
        self.failure: AssayError | None = None
        self.over = False
        self.followers = [start(self.flight)]
        self.cancelled: set[int] = set()

    async def step(self, step: str, number: int) -> None:
        match step:
            case "join":
                self.followers.append(start(self.flight))
            case "turns":
                await turns(number)
            case "cancel" if number < len(self.followers):
                task, _ = self.followers[number]
                if not task.done():
                    self.cancelled.add(number)
                task.cancel()
            case "say" | "fail" | "end" if not self.over:
                self.speak(step, number)

    def speak(self, step: str, number: int) -> None:
        if step == "say":
            said, self.left = self.left[:number], self.left[number:]
            self.said.extend(said)
            self.source.say(*said)
            return
        self.over = True
        if step == "fail":
            self.failure = ProviderUnavailable("gone")
        self.source.say(self.failure)

    async def finish(self) -> None:
        if self.source.gate is not None:
            self.source.gate.set()
        if not self.over:
            self.source.say(None)
        results = await asyncio.gather(*(task for task, _ in self.followers), return_exceptions=True)
        for number, (result, (_, seen)) in enumerate(zip(results, self.followers, strict=True)):
            assert seen == self.said[: len(seen)]
            if result == "too late":
                assert self.source.landed
            elif number in self.cancelled:
                assert isinstance(result, asyncio.CancelledError)
            else:
                assert seen == self.said
                assert result == "read" if self.failure is None else result is self.failure


@settings(max_examples=300, deadline=None)
@given(st.lists(STEP, max_size=40), st.booleans())
def test_whatever_happens_in_whatever_order(steps: list[tuple[str, int]], gated: bool) -> None:
    """Who stays sees all of the reply or its one error; nothing runs when nobody is left; it lands once."""

    async def main() -> None:
        play = Play(gated=gated)
        for step, number in steps:
            await play.step(step, number)
        await play.finish()
        assert play.source.running == 0
        assert play.flight.followers == 0
        assert len(play.source.landed) == (play.flight._task is not None), "once, if it began"
        assert play.source.calls <= 1
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


@pytest.mark.parametrize("after", range(12))
async def test_a_follower_may_be_cancelled_at_any_point(after: int) -> None:
    source = Source()
    flight = source.flight()
    task, _ = start(flight)
    source.say(*words(2), None)
    await turns(after)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert source.running == 0
    assert flight.followers == 0
    assert source.landed == [flight] * (after > 0)


async def test_cancelled_again_while_it_leaves_it_still_stops_the_call() -> None:
    source = Source()
    flight = source.flight()
    task, _ = start(flight)
    await turns()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await turns()
    assert source.running == 0


def test_the_bounds_are_what_the_documentation_says() -> None:
    assert (flight_module.AHEAD, flight_module.MAX_BYTES) == (64, 8 * 1024 * 1024)
