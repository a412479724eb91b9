"""One upstream call that several callers follow, each at its own pace. Which calls are equal is .cache's.

The call runs in a task of its own: it goes on while anybody follows, whoever began it, and is cancelled when
the last one leaves. It reads at most AHEAD events before the fastest of them, so that a slow caller who is
alone slows the upstream down, as without all this, and among others slows nobody. What was read is kept for
those who come later, up to MAX_BYTES; beyond that nobody can join
any more, and who is further behind gives up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Final, Generic, TypeVar

from assay.errors import AssayError, BadResponse, DeadlineExceeded, ProviderUnavailable
from assay.types import (
    AudioDelta,
    Completed,
    Ended,
    Event,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    WireData,
    closing,
)

AHEAD: Final = 64
"""How many events the call may be ahead of its fastest follower."""
MAX_BYTES: Final = 8 * 1024 * 1024
"""How much of a reply is kept for its followers, by a rough count of its text and bytes."""

Found = TypeVar("Found")
_ENDS = frozenset({Ended, Completed})


class Flight(Generic[Found]):
    """Begins with the first `join`. `landed` is called once, when no further follower may come.

    `find` looks elsewhere first: what it gives stands in `found`, and nothing is called. `twin` tells which
    callers may have the upstream's own bytes.
    """

    def __init__(
        self,
        find: Callable[[], Awaitable[Found | None]],
        call: Callable[[], AsyncIterator[Event]],
        landed: Callable[[Flight[Found]], None],
        *,
        twin: bytes = b"",
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.twin = twin
        self.found: Found | None = None
        self.done = False
        self.ended = False
        """Whether the reply has come to its end."""
        self.complete = False
        """Whether the upstream has, too: there may be bytes after the reply's end."""
        self.broken = False
        self._find = find
        self._call = call
        self.landed = False
        """Whether nobody can join any more."""
        self._on_landing = landed
        self._max_bytes = max_bytes
        self._log: list[Event] = []
        self._first = 0
        self._bytes = 0
        self._fastest = 0
        self._paid = False
        self._failure: BaseException | None = None
        self._followers: dict[Follower[Found], None] = {}
        self._waiting: dict[Follower[Found], asyncio.Future[None]] = {}
        self._full: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def followers(self) -> int:
        return len(self._followers)

    @property
    def whole(self) -> list[Event] | None:
        """All events so far, or None where the first of them are gone."""
        return None if self._first else self._log

    def join(self, *, until: float | None = None) -> Follower[Found]:
        """One more follower, from the first event on; `until` is when it gives up, by the loop's clock.

        Whoever joins leaves again.
        """
        assert not self.landed
        follower = Follower(self, until)
        self._followers[follower] = None
        if self._task is None:
            self._task = asyncio.create_task(self._run())
            self._task.add_done_callback(self._over)
        return follower

    async def leave(self, follower: Follower[Found]) -> None:
        """The last to leave waits until the upstream has stopped."""
        del self._followers[follower]
        self._waiting.pop(follower, None)
        task = self._task
        if self._followers or task is None or task.done():
            return
        self._land()
        task.cancel()
        await asyncio.wait((task,))

    def settle(self, follower: Follower[Found]) -> bool:
        """Whether this follower bears the cost of the call: one of them does, and that is who came first."""
        if self._paid or next(iter(self._followers)) is not follower:
            return False
        self._paid = True
        return True

    async def _run(self) -> None:
        try:
            self.found = await self._find()
            if self.found is not None:
                return
            async with closing(self._call()) as events:
                async for event in events:
                    self._add(event)
                    while self._first + len(self._log) - self._fastest >= AHEAD:
                        self._full = asyncio.get_running_loop().create_future()
                        await self._full
            self.complete = True
        except BaseException:
            self.broken = True
            raise
        finally:
            self._land()

    def _add(self, event: Event) -> None:
        self._log.append(event)
        self._bytes += _size(event)
        if _ends(event):
            self.ended = True
        if self._bytes > self._max_bytes:
            self._forget()
        if self._waiting:
            self._wake()

    def _forget(self) -> None:
        """Half of what is kept, the first of it; never what the fastest follower has yet to read."""
        log, number = self._log, 0
        while self._bytes > self._max_bytes // 2 and number < len(log) - AHEAD - 1:
            self._bytes -= _size(log[number])
            number += 1
        if number:
            self._land()
            self._first += number
            del log[:number]

    def _land(self) -> None:
        if not self.landed:
            self.landed = True
            self._on_landing(self)

    def _over(self, task: asyncio.Task[None]) -> None:
        self.done = True
        if task.cancelled():
            self._failure = ProviderUnavailable(
                "The call was stopped before its reply was complete; try again"
            )
        else:
            self._failure = task.exception()
        self._wake()

    def _wake(self) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_result(None)
        self._waiting.clear()


class Follower(Generic[Found]):
    """One caller's place in a flight."""

    __slots__ = ("_at", "_flight", "_until")

    def __init__(self, flight: Flight[Found], until: float | None) -> None:
        self._flight = flight
        self._until = until
        self._at = 0

    def there(self) -> Iterator[Event]:
        """The events that have come and that it has not read. Raises BadResponse when too far behind."""
        flight = self._flight
        while (place := self._at - flight._first) < len(flight._log):
            if place < 0:
                raise BadResponse("The reply was read too slowly to be followed; read faster, or try again")
            event = flight._log[place]
            self._at += 1
            if self._at > flight._fastest:
                flight._fastest = self._at
                full = flight._full
                if full is not None:
                    flight._full = None
                    if not full.done():
                        full.set_result(None)
            yield event

    async def more(self) -> bool:
        """Waits until there is more to read; False when all has been. Raises what the call raised."""
        flight = self._flight
        if self._at < flight._first + len(flight._log):
            return True
        if flight.done:
            failure = flight._failure
            if failure is None:
                return False
            # Many raise the same one: each without the way that it took through the others.
            raise failure.with_traceback(None)
        news = flight._waiting[self] = asyncio.get_running_loop().create_future()
        if self._until is None:
            await news
            return True
        try:
            async with asyncio.timeout_at(self._until):
                await news
        except TimeoutError:
            raise _late() from None
        return True


def _late() -> AssayError:
    return DeadlineExceeded(
        "The call took longer than its deadline; ask for fewer tokens, or allow more time"
    )


def _ends(event: Event) -> bool:
    if type(event) is WireData:
        return any(map(_ends, event.events))
    return type(event) in _ENDS


def _size(event: Event) -> int:
    match event:
        case TextDelta() | RefusalDelta() | ReasoningDelta():
            return 100 + len(event.text)
        case WireData():
            return 100 + 2 * len(event.data)
        case ToolCallDelta():
            return 100 + len(event.arguments)
        case AudioDelta():
            return 100 + len(event.data)
        case _:
            return 100
