"""One gateway with a provider for every dialect, and the official SDKs pointed at it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from .bed import Callers, Run, configuration
from .upstreams.app import Upstreams

# Of the google-genai SDK, when its async half first meets aiohttp.
_SDK_WARNING = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")


def pytest_itemcollected(item: pytest.Item) -> None:
    item.add_marker(_SDK_WARNING)


@pytest.fixture(scope="session")
def upstreams() -> Iterator[Upstreams]:
    with Upstreams() as running:
        yield running


@pytest.fixture(scope="session")
def gateway(serve_session: Any, upstreams: Upstreams) -> str:
    """The URL of a running `assay up`."""
    return serve_session(configuration(upstreams), env={"UPSTREAM_KEY": "upstream-key"}).url.rstrip("/")


@pytest.fixture(scope="session")
def run() -> Iterator[Run]:
    """Runs a coroutine on the session's one loop, which the async clients belong to."""
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture(scope="session")
def callers(gateway: str, run: Run) -> Iterator[Callers]:
    made = Callers(gateway)
    yield made
    run(made.aclose())
