"""Providers as a configuration names them: opened, kept while nothing about them changes, closed when unused.

How each is spoken to is assay.providers's; which names lead to them is assay.app's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple, assert_never

from assay.config import BUILT_IN, Config, ProviderSettings
from assay.errors import AssayError, ConfigError
from assay.providers.anthropic import Anthropic
from assay.providers.base import Upstream, WireFormat
from assay.providers.gemini import Gemini
from assay.providers.http import HttpUpstream
from assay.providers.local import LocalModel
from assay.providers.local_embeddings import LocalEmbeddings
from assay.providers.openai_chat import OpenAIChat
from assay.providers.openai_responses import OpenAIResponses
from assay.providers.scripted import Scripted
from assay.providers.transport import Transport
from assay.providers.weights import find
from assay.types import Event, Request, closing


class Opened(NamedTuple):
    """A provider that is open, and all that it was made of: another `of` is another provider."""

    of: tuple[ProviderSettings, str | None, Path | None]
    upstream: Upstream


class Upstreams:
    """The providers that are open. `of` opens what a configuration adds; `keep` leaves what it has not."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._open: dict[str, Opened] = {}
        self._leaving: dict[asyncio.Task[None], Upstream] = {}

    def of(self, config: Config) -> dict[str, Opened]:
        """Those that the models of a configuration lead to, by name."""
        found: dict[str, Opened] = {}
        for name in dict.fromkeys(model.provider for model in config.models.values()):
            settings = config.providers[name]
            variable = (settings.api_key or "").removeprefix("env:")
            made_of = (settings, config.environment.get(variable), _weights(settings, config))
            known = self._open.get(name)
            if known is not None and known.of == made_of:
                found[name] = known
                continue
            upstream = _upstream(name, settings, config, made_of[2], self._transport)
            found[name] = Opened(made_of, Lent(upstream) if settings.dialect in BUILT_IN else upstream)
        return found

    def keep(self, found: dict[str, Opened]) -> None:
        """From now on these are open; the others are closed as soon as no call uses them."""
        kept = {id(one.upstream) for one in found.values()}
        for one in self._open.values():
            if id(one.upstream) not in kept:
                task = asyncio.create_task(_leave(one.upstream))
                self._leaving[task] = one.upstream
                task.add_done_callback(self._leaving.pop)
        self._open = found

    async def aclose(self) -> None:
        """Closes them all, those too that are still in use."""
        leaving = dict(self._leaving)
        for task in leaving:
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        for upstream in (*leaving.values(), *(one.upstream for one in reversed(self._open.values()))):
            await upstream.aclose()


async def _leave(upstream: Upstream) -> None:
    if isinstance(upstream, Lent):
        await upstream.idle()
    await upstream.aclose()


class Lent:
    """A model in this process: knows when no call uses it any more, so that it can be freed."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.name = upstream.name
        self.dialects = upstream.dialects

    @property
    def problem(self) -> AssayError | None:
        return self._upstream.problem

    async def __call__(self, request: Request) -> AsyncIterator[Event]:
        self._calls += 1
        self._idle.clear()
        try:
            async with closing(self._upstream(request)) as events:
                async for event in events:
                    yield event
        finally:
            self._calls -= 1
            if not self._calls:
                self._idle.set()

    async def idle(self) -> None:
        await self._idle.wait()

    async def aclose(self) -> None:
        await self._upstream.aclose()


class Unusable:
    """An upstream that is configured and cannot be called: says why to whoever calls it."""

    def __init__(self, name: str, problem: AssayError) -> None:
        self.name = name
        self.problem: AssayError = problem
        self.dialects: frozenset[str] = frozenset()

    def __call__(self, request: Request) -> AsyncIterator[Event]:
        # Without the traceback of the call before, which would grow from call to call.
        raise self.problem.with_traceback(None)

    async def aclose(self) -> None:
        """Nothing was opened."""


def _weights(settings: ProviderSettings, config: Config) -> Path | None:
    """Where the model of a provider in this process is; None for others, and where it was not pulled."""
    if settings.dialect not in BUILT_IN:
        return None
    return config.path(settings.path) if settings.path else find(settings.dialect, config.cache_dir)


def _upstream(
    name: str, settings: ProviderSettings, config: Config, weights: Path | None, transport: Transport
) -> Upstream:
    match settings.dialect:
        case "openai" | "openai-responses" | "compatible" | "anthropic" | "gemini":
            try:
                key = config.secret(settings.api_key, where=f"[providers.{name}] api_key")
            except ConfigError as error:
                return Unusable(name, error)
            assert settings.base_url is not None  # checked by assay.config
            return HttpUpstream(name, _wires(settings), settings.base_url, key, transport)
        case "local":
            return LocalModel(
                name,
                weights,
                context_tokens=settings.context_tokens,
                slots=settings.slots,
                threads=settings.threads,
            )
        case "scripted":
            return Scripted(name, settings.replies)
        case "local-embeddings":
            return LocalEmbeddings(name, weights, threads=settings.threads)
        case _:
            assert_never(settings.dialect)


def _wires(settings: ProviderSettings) -> list[WireFormat]:
    """The APIs of a remote provider, the one for callers of another dialect first."""
    match settings.dialect:
        case "openai":
            return [OpenAIChat(extensions=False), OpenAIResponses()]
        case "compatible":
            # These servers take and give more than OpenAI itself, which refuses what it does not know.
            return [OpenAIChat()]
        case "openai-responses":
            return [OpenAIResponses()]
        case "anthropic":
            return [Anthropic() if settings.max_tokens is None else Anthropic(max_tokens=settings.max_tokens)]
        case "gemini":
            return [Gemini()]
        case _:
            raise AssertionError(f"{settings.dialect} is not spoken over HTTP")
