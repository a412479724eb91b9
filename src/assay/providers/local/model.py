"""The Upstream of a model in this process: loaded once, at the first call; a bounded number of calls at once.

    Request -> form_of, encode -> worker thread: Engine -> Bridge -> Reply -> events

A call holds one of `slots` from its first to its last token; calls beyond them wait, first come, first
served. Closing the iterator gives the slot back at the next token, or within BATCH_TOKENS of the prompt.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Final, ParamSpec, TypeAlias, TypeVar, assert_never

from assay.errors import (
    AssayError,
    BadResponse,
    ConfigError,
    ProviderError,
    ProviderUnavailable,
    UnsupportedFeature,
)
from assay.providers.local.bridge import Bridge
from assay.providers.local.engine import Engine, default_threads, missing, open_engine, translate
from assay.providers.local.form import form_of
from assay.providers.local.proof import Proof
from assay.providers.local.reply import Reply, prompt_tokens
from assay.providers.local.request import encode
from assay.providers.local.tools import Calling
from assay.providers.translation import Drops
from assay.types import Assembly, Completed, Event, Request, Response, Usage

CONTEXT_TOKENS: Final = 8192
SLOTS: Final = 4

P = ParamSpec("P")
T = TypeVar("T")

Opener: TypeAlias = Callable[[Path | None, int, int, int], Engine]


class LocalModel:
    """The GGUF file at `path`, run by llama.cpp. `path` None says that no weights were found.

    `context_tokens` is the total, divided among the `slots`: with the defaults a call has 2048 tokens for
    prompt and reply together. `threads` is by default half of the cores. Nothing is opened before the first
    call or `load`; the library and the file may be absent until then.

    The same request with a seed gives the same text again when it has the model to itself (`slots` 1): beside
    other calls the last bits of a number may differ, and now and then a token.
    """

    def __init__(
        self,
        name: str,
        path: Path | None,
        *,
        context_tokens: int | None = None,
        slots: int | None = None,
        threads: int | None = None,
        opener: Opener = open_engine,
    ) -> None:
        total = CONTEXT_TOKENS if context_tokens is None else context_tokens
        at_once = SLOTS if slots is None else slots
        if at_once < 1 or total < 256 * at_once:
            raise ConfigError(
                f"[providers.{name}] slots = {at_once}, context_tokens = {total}: there must be at least one "
                "slot, and 256 tokens of context for each"
            )
        self.name = name
        self._path = path
        self._size = (total, at_once, default_threads() if threads is None else threads)
        self._opener = opener
        self._workers = ThreadPoolExecutor(at_once, thread_name_prefix=f"assay-{name}")
        self._lock = threading.Lock()
        self._loading: Future[Engine] | None = None
        self._bridges: set[Bridge] = set()
        self._closed = False
        self._proof = Proof()
        self.dialects: frozenset[str] = frozenset()

    @property
    def problem(self) -> ProviderUnavailable | None:
        """That weights or the library are missing; nothing is loaded to find out."""
        return missing(self._path)

    async def load(self) -> None:
        """Loads the model now, so that the first call need not. A load that failed is tried again.

        Raises ProviderUnavailable, not retryable, when there are no weights, no library, or no end to it.
        """
        await self._engine()

    async def __call__(self, request: Request) -> AsyncIterator[Event]:
        """Raises as every Upstream does; RequestError and UnsupportedFeature before the first event."""
        try:
            async with aclosing(self._answer(request)) as events:
                async for event in events:
                    yield event
        except ProviderError as error:
            error.provider = error.provider or self.name
            raise

    async def aclose(self) -> None:
        """Cancels the calls under way, waits for their threads and frees the model."""
        self._closed = True
        for bridge in tuple(self._bridges):
            bridge.cancel()
        await asyncio.to_thread(self._workers.shutdown, wait=True, cancel_futures=True)
        self._loading = None

    async def _answer(self, request: Request) -> AsyncGenerator[Event, None]:
        match request.operation:
            case "chat":
                pass
            case "count_tokens":
                yield Completed(await self._count(request))
                return
            case "embeddings":
                raise UnsupportedFeature(
                    f"The model '{request.model}' writes text and makes no embeddings; call the model "
                    "'local-embeddings'",
                    param="model",
                )
            case _:
                assert_never(request.operation)
        assembly = None if request.stream else Assembly()
        async with aclosing(self._stream(request)) as events:
            async for event in events:
                if assembly is None:
                    yield event
                else:
                    assembly.add(event)
        if assembly is not None:
            yield Completed(assembly.response())

    async def _stream(self, request: Request) -> AsyncGenerator[Event, None]:
        drops = Drops("llama.cpp", "The local model")
        form = form_of(request, drops)
        body = encode(request, form, drops)
        reply = Reply(self.name, request, form, drops.paths)
        async with aclosing(self._chunks(body, form.calling)) as chunks:
            async for chunk in chunks:
                for event in reply.feed(chunk):
                    yield event
        for event in reply.end():
            yield event

    async def _count(self, request: Request) -> Response:
        """llama.cpp tells the length of a prompt before it reads any of it; then the call is cancelled."""
        drops = Drops("llama.cpp", "The local model")
        form = form_of(request, drops)
        async with aclosing(self._chunks(encode(request, form, drops), None)) as chunks:
            async for chunk in chunks:
                if (tokens := prompt_tokens(chunk)) is not None:
                    usage = Usage(input=tokens)
                    return Response("", request.model, (), usage, provider=self.name, dropped=drops.paths)
        raise BadResponse(
            "llama.cpp did not tell the length of the prompt", provider=self.name, retryable=False
        )

    async def _chunks(self, body: str, calling: Calling | None) -> AsyncGenerator[str, None]:
        """What one call of the engine says. Closing the iterator cancels it."""
        engine = await self._engine()
        bridge = Bridge()
        work = self._submit(self._generate, engine, body, calling, bridge)
        work.add_done_callback(lambda _: bridge.end())
        self._bridges.add(bridge)
        try:
            while (chunk := await bridge.get()) is not None:
                yield chunk
            self._raise_outcome(work, bridge)
        finally:
            bridge.cancel()
            self._bridges.discard(bridge)

    def _generate(self, engine: Engine, body: str, calling: Calling | None, bridge: Bridge) -> None:
        """In a worker's thread."""
        if bridge.cancelled:
            return
        if calling is not None:
            self._proof.check(engine, calling)
        engine.handle_chat_completions(body, bridge.put)

    async def _engine(self) -> Engine:
        """The one engine: whoever comes first loads it, the others wait for the same load."""
        with self._lock:
            if self._loading is None or _failed(self._loading):
                self._loading = self._submit(self._opener, self._path, *self._size)
            loading = self._loading
        return await asyncio.shield(asyncio.wrap_future(loading))

    def _submit(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        if self._closed:
            raise self._gone()
        return self._workers.submit(work, *args, **kwargs)

    def _raise_outcome(self, work: Future[None], bridge: Bridge) -> None:
        """Raises what the worker's call came to, if that was not a reply."""
        if bridge.cancelled or work.cancelled():
            raise self._gone()
        error = work.exception()
        if isinstance(error, AssayError):
            raise error
        if isinstance(error, Exception):
            raise translate(error, self.name) from error

    def _gone(self) -> ProviderUnavailable:
        return ProviderUnavailable(
            f"The model of provider '{self.name}' has been closed; open it again to call it",
            provider=self.name,
            retryable=False,
        )


def _failed(loading: Future[Engine]) -> bool:
    return loading.done() and (loading.cancelled() or loading.exception() is not None)
