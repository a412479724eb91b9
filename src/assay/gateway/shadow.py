"""Shadow traffic: a share of a route's calls goes to another model, too, once the caller has its whole reply.

Nobody waits for a shadow and nobody hears of its failure: it is a span of the same trace with the purpose
`shadow`, below the call that it follows. What a guard has hidden is hidden from it, too.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Final, Literal

from assay.errors import AssayError
from assay.types import (
    Completed,
    Context,
    Ended,
    Event,
    Handler,
    Policy,
    Request,
    Value,
    WireData,
    closing,
    replace,
)

AT_ONCE: Final = 8
"""How many shadows run at once in a process; further ones are dropped."""


class ShadowOf(Value):
    """Where the calls of a route are sent, too, and which share of them, above 0 to 1."""

    model: str
    share: float


class Shadows:
    """The shadows of a process under way. `counts` says how many were sent, dropped, and failed."""

    def __init__(self, *, at_once: int = AT_ONCE, draw: random.Random | None = None) -> None:
        self._at_once = at_once
        self._draw = draw or random.Random()  # noqa: S311  (spreads load)
        self._running: set[asyncio.Task[None]] = set()
        self._closed = False
        self.counts: Counter[Literal["sent", "dropped", "failed"]] = Counter()

    def drawn(self, share: float) -> bool:
        """Whether a call is one of the share."""
        return share >= 1 or self._draw.random() < share

    def send(self, call: Handler, request: Request) -> None:
        """Returns at once."""
        if self._closed or len(self._running) >= self._at_once:
            self.counts["dropped"] += 1
            return
        self.counts["sent"] += 1
        task = asyncio.get_running_loop().create_task(self._run(call, request), name="assay shadow")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def aclose(self) -> None:
        """Cancels what is under way."""
        self._closed = True
        running = tuple(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _run(self, call: Handler, request: Request) -> None:
        try:
            async with closing(call(request)) as events:
                async for _ in events:
                    pass
        except AssayError:
            self.counts["failed"] += 1


def shadow(of: ShadowOf, route: str, shadows: Shadows, call: Handler) -> Policy:
    """Sends a share of the chats, once they are answered, to `of.model` through `call`.

    Calls that are not drawn have no further layer. Only calls of callers are followed: no experiments, no
    judges, no shadows.
    """

    def policy(handler: Handler) -> Handler:
        async def followed(request: Request) -> AsyncIterator[Event]:
            whole = False
            async with closing(handler(request)) as events:
                async for event in events:
                    whole = whole or _ends(event)
                    yield event
            if whole:
                shadows.send(call, _shadowed(request, of.model, route))

        def maybe(request: Request) -> AsyncIterator[Event]:
            if request.operation != "chat" or request.context.purpose != "call":
                return handler(request)
            return followed(request) if shadows.drawn(of.share) else handler(request)

        return maybe

    return policy


def _ends(event: Event) -> bool:
    if type(event) is WireData:
        return any(map(_ends, event.events))
    return type(event) is Ended or type(event) is Completed


def _shadowed(request: Request, model: str, route: str) -> Request:
    """The same question, for a span of its own, in the canonical types alone."""
    outer = request.context
    context = Context(outer.trace_id, outer.parent_span_id, purpose="shadow", tags={"shadow_of": route})
    return replace(request, model=model, stream=False, wire=None, context=context)
