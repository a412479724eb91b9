"""One try at one provider: its deadline, its price, and whether the reply came whole.

These three look at every event of a stream and change few, so they are one generator: each further layer of
generators costs some 2 us an event, which a stream of many chunks feels (docs/performance.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal

from assay.errors import BadResponse, DeadlineExceeded
from assay.prices import Pricing
from assay.providers.base import Upstream
from assay.types import (
    Completed,
    Cost,
    Ended,
    Event,
    Handler,
    Operation,
    Request,
    Started,
    Usage,
    Value,
    WireData,
    closing,
    replace,
)

DEFAULT_DEADLINE_S = 600.0


class Target(Value):
    """Where a try goes: a model of a provider, by its name here and by the provider's own; what it costs."""

    name: str
    upstream: Upstream
    model: str
    pricing: Pricing
    deadline_s: float | None = None


def attempt(target: Target) -> Handler:
    """Calls the target's provider.

    Raises DeadlineExceeded when the call takes longer than its context's `deadline_s`, else the target's,
    else ten minutes; and BadResponse when the reply stops before its end.
    """
    default_s = target.deadline_s or DEFAULT_DEADLINE_S

    async def attempted(request: Request) -> AsyncIterator[Event]:
        if request.wire is not None:
            request = _understood(request, target.upstream)
        allowed_s = request.context.deadline_s or default_s
        reply = _Reply(target, request.operation)
        alarm = _Alarm()
        timer = asyncio.get_running_loop().call_later(allowed_s, alarm.ring)
        try:
            async with closing(target.upstream(replace(request, model=target.model))) as events:
                while True:
                    alarm.arm()
                    try:
                        event = await anext(events)
                    except StopAsyncIteration:
                        break
                    finally:
                        alarm.disarm()
                    yield event if type(event) not in _MARKED else reply.mark(event)
        except asyncio.CancelledError:
            if alarm.was_it():
                raise _too_late(allowed_s) from None
            raise
        except _Rang:
            raise _too_late(allowed_s) from None
        finally:
            timer.cancel()
        if not reply.complete:
            name = target.upstream.name
            raise BadResponse(f"The provider {name} ended its reply in the middle; try again", provider=name)

    return attempted


_MARKED = frozenset({Started, Ended, Completed, WireData})


def _understood(request: Request, upstream: Upstream) -> Request:
    """The request as this upstream takes it: with its caller's bytes, or in the canonical types alone.

    Raises what is wrong with the bytes when they are not what the upstream will get to judge.
    """
    wire = request.wire
    own = wire is not None and wire.dialect in upstream.dialects
    if wire is None or (own and request.verbatim is not None):
        return request
    if wire.problem is not None:
        raise wire.problem.with_traceback(None)
    return request if own else replace(request, wire=None)


class _Reply:
    """What one reply tells about itself on its first and its last event."""

    __slots__ = ("_answered_as", "_operation", "_target", "complete")

    def __init__(self, target: Target, operation: Operation) -> None:
        self._target = target
        self._operation = operation
        self._answered_as = ""
        self.complete = False

    def mark(self, event: Event) -> Event:
        """The event with the provider's name, or with the cost beside the usage."""
        provider = self._target.upstream.name
        match event:
            case Started():
                self._answered_as = event.model
                return replace(event, provider=provider)
            case Ended():
                self.complete = True
                return replace(event, cost=self._cost(event.usage))
            case Completed(response):
                self.complete = True
                self._answered_as = response.model
                cost = self._cost(response.usage)
                return Completed(replace(response, provider=provider, cost=cost))
            case WireData(data, events):
                if not any(type(inner) in _MARKED for inner in events):
                    return event
                return WireData(data, tuple(map(self.mark, events)))
            case _:
                return event

    def _cost(self, usage: Usage | None) -> Cost:
        if self._operation == "count_tokens":
            return _COUNTING
        # What answered is dated and exact; what was asked for may be an alias that the price list knows.
        asked, answered = self._target.model, self._answered_as or self._target.model
        found = self._target.pricing(answered, usage)
        return self._target.pricing(asked, usage) if found.usd is None and answered != asked else found


_COUNTING = Cost("exact", Decimal(0), "counting tokens is free")


def _too_late(allowed_s: float) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"The call took longer than its deadline of {allowed_s:g} s; "
        f"ask for fewer tokens, or raise deadline_s of the model in assay.toml"
    )


class _Rang(Exception):
    """The time is over."""


class _Alarm:
    """One timer for a whole call, where a timeout around each event costs ten times as much.

    When it rings it cancels the task that waits for the next event. Between events, when the consumer has the
    task, it only takes a note: nobody else's work is cancelled.
    """

    __slots__ = ("_cancelled", "_cancelling", "_rang", "_waiting")

    def __init__(self) -> None:
        self._rang = False
        self._waiting: asyncio.Task[object] | None = None
        self._cancelled: asyncio.Task[object] | None = None
        self._cancelling = 0

    def ring(self) -> None:
        self._rang = True
        # A task that somebody else has cancelled is cleaning up: leave it to that.
        if self._waiting is not None and self._waiting.cancelling() == self._cancelling:
            self._cancelled = self._waiting
            self._waiting.cancel()

    def arm(self) -> None:
        """From here on the current task waits for an event. Raises _Rang when the time is over already."""
        if self._rang:
            raise _Rang
        self._waiting = asyncio.current_task()
        assert self._waiting is not None
        self._cancelling = self._waiting.cancelling()

    def disarm(self) -> None:
        self._waiting = None

    def was_it(self) -> bool:
        """Whether the cancellation that arrived was this alarm's alone. Somebody else's goes before."""
        return self._cancelled is not None and self._cancelled.uncancel() <= self._cancelling
