"""Rate limits: requests and tokens a minute and calls at once, of a model or a key. Nobody waits here.

A minute is a bucket that fills evenly: it holds a minute's worth, and a call is let in while it holds enough.
Tokens are estimated before a call and corrected after it, so that a bucket may be in debt for a while; a call
that is larger than the bucket is let in when the bucket is full. What comes too early is told to the
millisecond when to come again. Money is the budgets' matter.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from typing import Final, Literal

import msgspec

from assay.errors import AssayError, LimitReached
from assay.gateway.attempt import speaks
from assay.types import (
    Completed,
    Ended,
    Event,
    FunctionTool,
    Handler,
    Policy,
    Reasoning,
    Refusal,
    Request,
    Text,
    ToolCall,
    ToolResult,
    Usage,
    Value,
    WireData,
    closing,
)
from assay.types.limits import UNLIMITED, Limits

MAX_KNOWN: Final = 10_000
"""How many models and keys are counted; the one that was not called for longest is forgotten first."""
ASSUMED_OUT: Final = 1_000
"""The tokens that a reply is taken for beforehand where the caller names no limit."""
MEDIA_TOKENS: Final = 1_000
"""What an image, a sound or a file is taken for beforehand."""
AT_ONCE_S: Final = 1.0
"""When to come again where too many calls are under way: nobody knows when the next one ends."""

Kind = Literal["model", "key"]
LimitsOf = Callable[[str], Limits]
"""What a key may ask, by the key's id."""


class Bucket:
    """So much a minute. `clock` gives seconds that only grow.

    >>> now = 0.0
    >>> bucket = Bucket(60, lambda: now)
    >>> bucket.take(60); bucket.wait_s(1), bucket.wait_s(30)
    (1.0, 30.0)
    """

    __slots__ = ("_at", "_clock", "_level", "_size")

    def __init__(self, per_minute: float, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._size = per_minute
        self._level = per_minute
        self._at = clock()

    def wait_s(self, amount: float) -> float:
        """In how many seconds it holds so much, or is full; 0.0 is now."""
        missing = min(amount, self._size) - self._filled()
        return missing * 60.0 / self._size if missing > 1e-9 else 0.0

    def take(self, amount: float) -> None:
        """Below zero it is in debt; a negative amount is given back."""
        self._level = min(self._filled() - amount, self._size)

    def _filled(self) -> float:
        now = self._clock()
        self._level = min(self._size, self._level + (now - self._at) * self._size / 60.0)
        self._at = now
        return self._level


class Meter:
    """What one model or key has used of its limits. `share` is how many processes share them."""

    def __init__(self, limits: Limits, clock: Callable[[], float], *, share: int = 1) -> None:
        def bucket(per_minute: int | None) -> Bucket | None:
            return None if per_minute is None else Bucket(per_minute / share, clock)

        self.limits = limits
        self.running = 0
        self._requests = bucket(limits.requests_per_minute)
        self._tokens = bucket(limits.tokens_per_minute)
        self._at_once = None if limits.at_once is None else max(1, limits.at_once // share)
        self.looks_on = self._tokens is not None or self._at_once is not None
        """Whether it must see how a call ends."""

    def enter(self, request: Request, whose: str) -> int:
        """Lets a call in, with the tokens that it is taken for. Raises LimitReached, having taken nothing."""
        tokens = 0 if self._tokens is None else estimated(request)
        if self._at_once is not None and self.running >= self._at_once:
            raise _reached(whose, f"at most {self.limits.at_once} calls at once", "at_once", AT_ONCE_S)
        if self._requests is not None and (wait_s := self._requests.wait_s(1)):
            many = f"at most {self.limits.requests_per_minute} requests a minute"
            raise _reached(whose, many, "requests_per_minute", wait_s)
        if self._tokens is not None and (wait_s := self._tokens.wait_s(tokens)):
            many = f"at most {self.limits.tokens_per_minute} tokens a minute"
            raise _reached(whose, many, "tokens_per_minute", wait_s)
        if self._requests is not None:
            self._requests.take(1)
        if self._tokens is not None:
            self._tokens.take(tokens)
        self.running += self.looks_on
        return tokens

    def leave(self, taken: int, used: int | None) -> None:
        """The call is over; `used` is what it took in truth, where that is known."""
        self.running -= 1
        if self._tokens is not None and used is not None:
            self._tokens.take(used - taken)


class Meters:
    """The meters of all models and keys of one process. `share` is how many processes share the limits."""

    def __init__(self, clock: Callable[[], float], *, share: int = 1) -> None:
        self._clock = clock
        self.share = share
        self._known: OrderedDict[tuple[Kind, str], Meter] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def of(self, kind: Kind, name: str, limits: Limits) -> Meter:
        """The meter of that name; a new one where its limits are not what they were."""
        found = self._known.get((kind, name))
        if found is None or found.limits != limits:
            found = self._known[kind, name] = Meter(limits, self._clock, share=self.share)
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
        self._known.move_to_end((kind, name))
        return found


def of_model(name: str, limits: Limits, meters: Meters, handler: Handler) -> Handler:
    """The handler of one model, within its limits."""
    if limits == UNLIMITED:
        return handler

    def limited(request: Request) -> AsyncIterator[Event]:
        return metered(meters.of("model", name, limits), f"The model {name} takes", handler, request)

    return limited


def of_keys(limits_of: LimitsOf, meters: Meters) -> Policy:
    """Holds each key to its limits; calls without a key, and keys without limits, pass untouched."""

    def policy(handler: Handler) -> Handler:
        def limited(request: Request) -> AsyncIterator[Event]:
            key_id = request.context.key_id
            if key_id is None or (limits := limits_of(key_id)) == UNLIMITED:
                return handler(request)
            return metered(meters.of("key", key_id, limits), "This key may make", handler, request)

        return limited

    return policy


def metered(meter: Meter, whose: str, handler: Handler, request: Request) -> AsyncIterator[Event]:
    """One call, counted. Raises LimitReached before anything is done."""
    if meter.looks_on:
        return _counted(meter, whose, handler, request)
    meter.enter(request, whose)
    return handler(request)


async def _counted(meter: Meter, whose: str, handler: Handler, request: Request) -> AsyncIterator[Event]:
    taken = meter.enter(request, whose)
    used: int | None = None
    spoke = False
    try:
        async with closing(handler(request)) as events:
            async for event in events:
                if type(event) in _TELLING and (usage := _usage(event)) is not None:
                    used = usage.tokens
                spoke = spoke or speaks(event)
                yield event
    except AssayError as error:
        # What was refused before a word was said has used nothing.
        if not spoke and error.status < 500:
            used = 0
        raise
    finally:
        meter.leave(taken, used)


_TELLING = frozenset({Ended, Completed, WireData})


def _usage(event: Event) -> Usage | None:
    match event:
        case Ended(usage=usage):
            return usage
        case Completed(response):
            return response.usage
        case WireData(events=events):
            return next((usage for inner in events if (usage := _usage(inner)) is not None), None)
        case _:
            return None


def _reached(whose: str, limit: str, name: str, wait_s: float) -> LimitReached:
    return LimitReached(
        f"{whose} {limit}; come again in {wait_s:.3g} s, or raise {name}", retry_after_s=wait_s
    )


# --- before a call, nobody has counted its tokens -----------------------------------------------------


def estimated(request: Request) -> int:
    """What a call is taken for beforehand: a token for four bytes of text, and all that it may write."""
    if request.operation == "count_tokens":
        return 0
    read = sum(_bytes(part) for message in request.messages for part in message.parts)
    read += sum(_bytes(tool) for tool in request.tools)
    if request.operation == "embeddings":
        return read // 4
    limit = request.sampling.max_tokens
    return read // 4 + (ASSUMED_OUT if limit is None else limit) * request.choices


def _bytes(part: Value) -> int:
    match part:
        case Text(text=text) | Refusal(text=text) | Reasoning(text=text):
            return len(text.encode())
        case ToolCall(name=name, arguments=arguments):
            return len(name.encode()) + len(arguments.encode())
        case ToolResult(parts=parts):
            return sum(map(_bytes, parts))
        case FunctionTool(name=name, description=description, parameters=parameters):
            return len(name) + len((description or "").encode()) + len(msgspec.json.encode(parameters))
        case _:
            return 4 * MEDIA_TOKENS
