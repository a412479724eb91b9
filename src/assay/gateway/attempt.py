"""One try at one provider: its limits of time, its price, and whether the reply came whole.

These three look at every event of a stream and change few, so they are one generator: each further layer of
generators costs some 2 us an event, which a stream of many chunks feels (docs/performance.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal

from assay.errors import AssayError, BadResponse, DeadlineExceeded, ProviderTimeout
from assay.gateway.tiers import priced, tier_of
from assay.prices import Pricing
from assay.providers.base import Upstream
from assay.types import (
    Completed,
    Cost,
    Ended,
    Event,
    Extra,
    Handler,
    Request,
    Started,
    Usage,
    Value,
    WireData,
    closing,
    replace,
)
from assay.types.limits import Limits
from assay.types.timing import timing

DEFAULT_DEADLINE_S = 600.0


class Target(Value):
    """Where a try goes: a model of a provider, by its name here and by the provider's own; what it costs.

    `first_token_s` and `between_tokens_s` bound a stream's silence, before it says something and after.
    """

    name: str
    upstream: Upstream
    model: str
    pricing: Pricing
    deadline_s: float | None = None
    first_token_s: float | None = None
    between_tokens_s: float | None = None
    limits: Limits = Limits()


def attempt(target: Target, *, one_of_many: bool = False) -> Handler:
    """Calls the target's provider. `one_of_many`: it is a try of a route, whose call may go elsewhere.

    Raises DeadlineExceeded when the call takes longer than its context's `deadline_s`, else the target's,
    else ten minutes; ProviderTimeout when a stream is silent for too long, or when a try of a route takes
    longer than the target's `deadline_s`; and BadResponse when the reply stops before its end.
    """

    async def attempted(request: Request) -> AsyncIterator[Event]:
        if request.wire is not None:
            request = _understood(request, target.upstream)
        reply = _Reply(target, request)
        alarm = _Alarm(target, request, one_of_many=one_of_many)
        quiet = alarm.listens
        try:
            if (times := timing()) is not None:
                times.ask()
            async with closing(target.upstream(replace(request, model=target.model))) as events:
                while True:
                    alarm.arm()
                    try:
                        event = await anext(events)
                    except StopAsyncIteration:
                        break
                    finally:
                        alarm.disarm()
                    if quiet and speaks(event):
                        quiet = False
                        alarm.begun()
                    yield event if type(event) not in _MARKED else reply.mark(event)
        except asyncio.CancelledError:
            if alarm.was_it():
                raise alarm.error() from None
            raise
        except _Rang:
            raise alarm.error() from None
        finally:
            alarm.stop()
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

    __slots__ = ("_request", "_started", "_target", "complete")

    def __init__(self, target: Target, request: Request) -> None:
        self._target = target
        self._request = request
        self._started = Started("", "")
        self.complete = False

    def mark(self, event: Event) -> Event:
        """The event with the provider's name, or with the cost beside the usage."""
        provider = self._target.upstream.name
        match event:
            case Started():
                self._started = event
                return replace(event, provider=provider, cost=self._least(event.usage))
            case Ended():
                self.complete = True
                return replace(event, cost=self._cost(event.usage, event.extra))
            case Completed(response):
                self.complete = True
                self._started = Started("", response.model, dropped=response.dropped)
                cost = self._cost(response.usage, response.extra)
                return Completed(replace(response, provider=provider, cost=cost))
            case WireData(data, events):
                if not any(type(inner) in _MARKED for inner in events):
                    return event
                return WireData(data, tuple(map(self.mark, events)))
            case _:
                return event

    def _cost(self, usage: Usage | None, extra: Extra | None) -> Cost:
        if self._request.operation == "count_tokens":
            return _COUNTING
        tier = tier_of(self._request, self._started.dropped, extra or self._started.extra)
        # What answered is dated and exact; what was asked for may be an alias that the price list knows.
        asked, answered = self._target.model, self._started.model or self._target.model
        found = priced(self._target.pricing, answered, usage, tier)
        if found.usd is None and answered != asked:
            return priced(self._target.pricing, asked, usage, tier)
        return found

    def _least(self, usage: Usage | None) -> Cost | None:
        """What the call costs if nothing more comes."""
        cost = None if usage is None else self._cost(usage, None)
        if cost is None or not cost.usd:
            return None
        return replace(cost, kind="estimated", source=f"{cost.source}; at least, as the reply did not end")


_COUNTING = Cost("exact", Decimal(0), "counting tokens is free")


def speaks(event: Event) -> bool:
    """Whether the event says something of the reply itself: that it has begun is nothing yet."""
    if type(event) is WireData:
        return any(map(speaks, event.events))
    return type(event) is not Started


_GRAIN_S = 1e-6


class _Rang(Exception):
    """The time is over."""


class _Alarm:
    """One timer for a whole call, where a timeout around each event costs ten times as much.

    When it rings it looks at the clock: either a time is over, or it is set again to the next that may be.
    Then it cancels the task that waits for the next event. Between events, when the consumer has the task, it
    only takes a note: nobody else's work is cancelled, and the consumer's time is not the upstream's silence.
    """

    __slots__ = (
        "_between_s",
        "_call_s",
        "_cancelled",
        "_cancelling",
        "_first_s",
        "_loop",
        "_over",
        "_since",
        "_start",
        "_target",
        "_timer",
        "_try_s",
        "_waiting",
        "listens",
    )

    def __init__(self, target: Target, request: Request, *, one_of_many: bool) -> None:
        own_s = target.deadline_s
        self._target = target
        self._call_s = request.context.deadline_s or own_s or DEFAULT_DEADLINE_S
        self._try_s = own_s if one_of_many and own_s is not None and own_s < self._call_s else None
        self._first_s = target.first_token_s if request.stream else None
        self._between_s = target.between_tokens_s if request.stream else None
        self.listens = self._first_s is not None or self._between_s is not None
        self._over: AssayError | None = None
        self._waiting: asyncio.Task[object] | None = None
        self._cancelled: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._loop = asyncio.get_running_loop()
        self._start = self._since = self._loop.time()
        soonest_s = min(self._try_s or self._call_s, self._first_s or self._call_s)
        self._timer = self._loop.call_at(self._start + soonest_s, self._ring)

    def arm(self) -> None:
        """From here on the current task waits for an event. Raises _Rang when the time is over already."""
        if self._over is not None:
            raise _Rang
        if self._between_s is not None:
            self._since = self._loop.time()
        self._waiting = asyncio.current_task()
        assert self._waiting is not None
        self._cancelling = self._waiting.cancelling()

    def disarm(self) -> None:
        self._waiting = None

    def begun(self) -> None:
        """The reply says something: from here on, silences count."""
        self.listens = False
        self._first_s = None
        if self._between_s is not None and self._over is None:
            self._since = self._loop.time()
            self._set(self._since)

    def stop(self) -> None:
        self._timer.cancel()

    def was_it(self) -> bool:
        """Whether the cancellation that arrived was this alarm's alone. Somebody else's goes before."""
        return self._cancelled is not None and self._cancelled.uncancel() <= self._cancelling

    def error(self) -> AssayError:
        """What is to be told, once it has rung."""
        assert self._over is not None
        return self._over

    def _ring(self) -> None:
        # A loop rings by its clock's resolution too early.
        now = self._loop.time() + _GRAIN_S
        self._over = self._passed(now)
        if self._over is None:
            self._set(now)
        # A task that somebody else has cancelled is cleaning up: leave it to that.
        elif self._waiting is not None and self._waiting.cancelling() == self._cancelling:
            self._cancelled = self._waiting
            self._waiting.cancel()

    def _set(self, now: float) -> None:
        """To the next time that may be over."""
        due = self._start + (self._try_s or self._call_s)
        if self._first_s is not None:
            due = min(due, self._start + self._first_s)
        elif self._between_s is not None and not self.listens:
            due = min(due, (self._since if self._waiting is not None else now) + self._between_s)
        self._timer.cancel()
        self._timer = self._loop.call_at(due, self._ring)

    def _passed(self, now: float) -> AssayError | None:
        """Which time is over."""
        name, passed_s = self._target.upstream.name, now - self._start
        if passed_s >= self._call_s:
            return DeadlineExceeded(
                f"The call took longer than its deadline of {self._call_s:g} s; "
                f"ask for fewer tokens, or raise deadline_s of the model in assay.toml"
            )
        if self._try_s is not None and passed_s >= self._try_s:
            return ProviderTimeout(
                f"The provider {name} took longer than the {self._try_s:g} s of a try; "
                f"try again, or raise deadline_s of the model {self._target.name} in assay.toml",
                provider=name,
            )
        if self._first_s is not None and passed_s >= self._first_s:
            return ProviderTimeout(
                f"The provider {name} said nothing within {self._first_s:g} s; "
                f"try again, or raise first_token_s in assay.toml",
                provider=name,
            )
        if self._between_s is None or self.listens or self._waiting is None:
            return None
        if now - self._since < self._between_s:
            return None
        return ProviderTimeout(
            f"The provider {name} fell silent for {self._between_s:g} s in the middle of its reply; "
            f"try again, or raise between_tokens_s in assay.toml",
            provider=name,
        )
