"""The sync facade: the App for code without an event loop. No other sync twin exists."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import wait
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar, cast

from anyio.from_thread import start_blocking_portal

from assay.app import App, open_app
from assay.config import Config
from assay.errors import RequestError
from assay.types import JSON, Event, Message, Output, Request, Response, Sampling, TextOutput

Result = TypeVar("Result")
_CLOSED = "This Client is closed; make another, or stay inside its with block"


class Client:
    """Assay in this process, for plain functions and notebooks; safe to use from several threads.

    Use it in a `with` block, or call `close`: that stores the spans which still wait.
    """

    def __init__(self, config: Config | Path | str | None = None) -> None:
        self._closed = False
        self._streams: set[AsyncGenerator[Event, None]] = set()
        with ExitStack() as stack:
            self._portal = stack.enter_context(start_blocking_portal())
            opened = self._portal.wrap_async_context_manager(open_app(config))
            self.app: App = stack.enter_context(opened)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the client; every span is stored when it returns."""
        if self._closed:
            return
        self._closed = True
        for events in tuple(self._streams):
            self._portal.call(events.aclose)
        self._stack.close()

    def call(
        self,
        model: str,
        messages: str | Iterable[Message],
        *,
        sampling: Sampling = Sampling(),
        output: Output = TextOutput(),
    ) -> Response:
        """As `App.call`."""
        return self._call(lambda: self.app.call(model, messages, sampling=sampling, output=output))

    def run_prompt(
        self, ref: str, variables: dict[str, JSON] | None = None, *, model: str | None = None
    ) -> Response:
        """As `App.run_prompt`."""
        return self._call(lambda: self.app.run_prompt(ref, variables, model=model))

    def embed(
        self, model: str, inputs: str | Iterable[str], *, dimensions: int | None = None
    ) -> tuple[tuple[float, ...], ...]:
        """As `App.embed`."""
        return self._call(lambda: self.app.embed(model, inputs, dimensions=dimensions))

    def count_tokens(self, model: str, messages: str | Iterable[Message]) -> int:
        """As `App.count_tokens`."""
        return self._call(lambda: self.app.count_tokens(model, messages))

    def respond(self, request: Request) -> Response:
        """As `App.respond`."""
        return self._call(lambda: self.app.respond(request))

    def stream(self, request: Request) -> Iterator[Event]:
        """The reply as it comes. Leaving the loop early cancels the call, and so does closing the client."""
        events = cast("AsyncGenerator[Event, None]", self.app.stream(request))
        self._streams.add(events)
        try:
            while (event := self._next(events)) is not None:
                yield event
        finally:
            self._streams.discard(events)
            if not self._closed:
                self._portal.call(events.aclose)

    def _next(self, events: AsyncGenerator[Event, None]) -> Event | None:
        async def step() -> Event | None:
            return await anext(events, None)

        # A stream that the end of the client cut off must not look like one that ended.
        if self._closed:
            raise RequestError(_CLOSED)
        waiting = self._portal.start_task_soon(step)
        try:
            return waiting.result()
        except BaseException:
            # Ctrl-C while waiting: nobody may close the reply before this step has let go of it.
            waiting.cancel()
            wait([waiting])
            raise

    def _call(self, work: Callable[[], Awaitable[Result]]) -> Result:
        if self._closed:
            raise RequestError(_CLOSED)
        return self._portal.call(work)
