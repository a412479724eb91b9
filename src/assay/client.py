"""The sync facade: the App for code without an event loop. No other sync twin exists."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from anyio.from_thread import start_blocking_portal

from assay.app import App, open_app
from assay.config import Config
from assay.errors import RequestError
from assay.types import JSON, Event, Message, Output, Request, Response, Sampling, TextOutput, closing

Result = TypeVar("Result")


class Client:
    """Assay in this process, for plain functions and notebooks; safe to use from several threads.

    Use it in a `with` block, or call `close`: that stores the spans which still wait.
    """

    def __init__(self, config: Config | Path | str | None = None) -> None:
        self._closed = False
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
        self._closed = True
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

    def respond(self, request: Request) -> Response:
        """As `App.respond`."""
        return self._call(lambda: self.app.respond(request))

    def stream(self, request: Request) -> Iterator[Event]:
        """The reply as it comes. Leaving the loop early cancels the call."""
        with self._portal.wrap_async_context_manager(closing(self.app.stream(request))) as events:
            while True:
                event = self._portal.call(_next, events)
                if event is None:
                    return
                yield event

    def _call(self, work: Callable[[], Awaitable[Result]]) -> Result:
        if self._closed:
            raise RequestError("This Client is closed; make another, or stay inside its with block")
        return self._portal.call(work)


async def _next(events: object) -> Event | None:
    return await anext(events, None)  # type: ignore[call-overload,no-any-return]
