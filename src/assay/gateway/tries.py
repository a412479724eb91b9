"""Retry and fallback: one call over several tries, within one budget of time. A try itself is .attempt.

Before a reply says something it may be tried again, or elsewhere; after that never: what the caller has seen
cannot be taken back. That a reply has begun is held back until then.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, NamedTuple

from assay.errors import (
    AssayError,
    ContextExceeded,
    DeadlineExceeded,
    LimitReached,
    ProviderError,
    ProviderUnavailable,
    UnsupportedFeature,
)
from assay.gateway.attempt import Target, attempt, speaks
from assay.gateway.limits import Meters, of_model
from assay.gateway.route import Health, Healths, Route, ordered
from assay.types import Event, Handler, Request, closing, replace

FIRST_WAIT_S: Final = 0.5
"""The longest wait before the first retry; before each further one it is twice as long, up to MAX_WAIT_S."""
MAX_WAIT_S: Final = 20.0
ROUTED: Final = "assay.route.model"
"""The attribute of a call's span that names the model which answered, or was tried last."""
MAX_HELD: Final = 64
"""How many events that say nothing are held back at most."""

Sleep = Callable[[float], Awaitable[object]]
Again = Callable[[Request], Awaitable[None]]
"""Asked before each further try of a call; what it raises ends the call."""


class Failed(NamedTuple):
    """A try that failed where another may not: what was sent, where to, what came of it, and when it was."""

    request: Request
    target: Target
    error: AssayError
    start_ns: int
    end_ns: int


def tries(
    route: Route,
    healths: Healths,
    *,
    note: Callable[[Failed], None],
    clock_ns: Callable[[], int],
    meters: Meters | None = None,
    again: Again | None = None,
    sleep: Sleep = asyncio.sleep,
    draw: random.Random | None = None,
) -> Handler:
    """The handler of a route. `note` is told of each try that failed where another one might not, and `again`
    is asked before that one.

    Raises what the last try raised; DeadlineExceeded when the time is over before any; ProviderUnavailable
    when every circuit is open.
    """
    chance = draw or random.Random()  # noqa: S311  (spreads load)
    counted = Meters(healths.clock) if meters is None else meters
    handlers = {
        target.name: of_model(target.name, target.limits, counted, attempt(target, one_of_many=True))
        for target in route.targets
    }

    async def tried(request: Request) -> AsyncIterator[Event]:
        until = healths.clock() + (request.context.deadline_s or route.deadline_s)
        last: AssayError | None = None
        for target in ordered(route, request, healths, chance):
            health = healths.of(target)
            for number in range(route.retries + 1):
                if number and not await _waited(last, number, until, healths.clock, sleep, chance):
                    break
                await _allowed(again, request, last)
                if (left_s := until - healths.clock()) <= 0 or not health.breaker.allows():
                    break
                sent = _sent(request, target, left_s)
                start_ns, held = clock_ns(), _Held(health, healths.clock)
                try:
                    async with closing(handlers[target.name](sent)) as events:
                        async for event in events:
                            if held.begun:
                                yield event
                                continue
                            for early in held.let_go(event):
                                yield early
                except AssayError as error:
                    _judge(health, error)
                    if held.begun or not _elsewhere(error):
                        raise
                    note(Failed(sent, target, error, start_ns, clock_ns()))
                    last = _told(last, error)
                    if not error.retryable or isinstance(error, LimitReached):
                        break
                except BaseException:
                    health.breaker.abandoned()
                    raise
                else:
                    health.breaker.succeeded()
                    return
        raise last or _nobody(route, until - healths.clock())

    return tried


async def _allowed(again: Again | None, request: Request, last: AssayError | None) -> None:
    if again is not None and last is not None:
        await again(request)


def _sent(request: Request, target: Target, left_s: float) -> Request:
    """What one try is given: the time that is left. The call's span will name its target."""
    if request.context.notes is not None:
        request.context.notes.attributes[ROUTED] = target.name
    return replace(request, context=replace(request.context, deadline_s=left_s))


class _Held:
    """The beginning of a reply, until it says something."""

    __slots__ = ("_clock", "_events", "_health", "_since", "begun")

    def __init__(self, health: Health, clock: Callable[[], float]) -> None:
        self._health = health
        self._clock = clock
        self._since = clock()
        self._events: list[Event] = []
        self.begun = False

    def let_go(self, event: Event) -> list[Event]:
        """What may be shown now: nothing, or all up to this event."""
        self._events.append(event)
        if not speaks(event) and len(self._events) <= MAX_HELD:
            return []
        self.begun = True
        self._health.began(self._clock() - self._since)
        return self._events


async def _waited(
    last: AssayError | None,
    number: int,
    until: float,
    clock: Callable[[], float],
    sleep: Sleep,
    chance: random.Random,
) -> bool:
    """Waits before a retry; False, at once, where the wait would outlast the call's time."""
    longest_s = min(FIRST_WAIT_S * 2 ** (number - 1), MAX_WAIT_S)
    wait_s = chance.uniform(0, longest_s)
    if last is not None and last.retry_after_s is not None:
        wait_s = max(wait_s, last.retry_after_s)
    if clock() + wait_s >= until:
        return False
    await sleep(wait_s)
    return True


def _judge(health: Health, error: AssayError) -> None:
    """What an error says of its provider: one that blames the request says that the provider is well."""
    if isinstance(error, LimitReached):
        health.breaker.abandoned()
    elif isinstance(error, ProviderError):
        health.breaker.failed(error.retry_after_s)
    elif isinstance(error, DeadlineExceeded):
        health.breaker.failed()
    else:
        health.breaker.succeeded()


def _told(last: AssayError | None, error: AssayError) -> AssayError:
    """The error of the last try; where all were too early, the one that says the soonest time."""
    if isinstance(last, LimitReached) and isinstance(error, LimitReached):
        return min(last, error, key=lambda early: early.retry_after_s or 0.0)
    return error


def _elsewhere(error: AssayError) -> bool:
    """Whether another try may do better: not where the request itself is wrong, whoever gets it."""
    return isinstance(error, ProviderError | UnsupportedFeature | ContextExceeded)


def _nobody(route: Route, left_s: float) -> AssayError:
    if left_s <= 0:
        return DeadlineExceeded(f"There was no time left to call {route.name}; raise deadline_s of the route")
    return ProviderUnavailable(
        f"Every provider of {route.name} failed again and again and is left alone for a while; try later, or "
        "add another model to the route"
    )
