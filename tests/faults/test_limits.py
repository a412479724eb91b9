"""A limit of ours is told in every dialect, with the time to come again, and goes to the next of a route."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from compat.bed import Callers
from compat.drivers.base import Ask

from .cases import PAIRS

MODES = ("whole", "stream")
NAMES = [f"{caller}.{mode}" for caller in PAIRS for mode in MODES]


@pytest.fixture(scope="module")
def callers(serve_session: Any) -> Iterator[Callers]:
    lines = ['[providers.p]\ndialect = "scripted"\nreplies = ["hello"]\n[models.free]\nprovider = "p"']
    for name in NAMES:
        lines.append(f'[models."{name}"]\nprovider = "p"\nlimits = {{ requests_per_minute = 1 }}')
        lines.append(f'[routes."route.{name}"]\ntry = ["{name}", "free"]')
    made = Callers(serve_session("\n".join(lines)).url.rstrip("/"))
    yield made
    asyncio.run(made.aclose())


def test_workers_together_let_in_no_more_than_the_limit(serve_session: Any) -> None:
    toml = '[providers.p]\ndialect = "scripted"\nreplies = ["hello"]\n[models.m]\nprovider = "p"\n'
    limits = "limits = { requests_per_minute = 2 }"
    served = serve_session(toml + limits, options=("--workers", "2"))
    statuses = [_asked(served.url) for _ in range(16)]
    # Each has one Nth; connections may all have met the same worker.
    assert statuses.count(200) in {1, 2}
    assert set(statuses) == {200, 429}


def _asked(url: str) -> int:
    """One call on a connection of its own."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    connection.request("POST", "/v1/chat/completions", json.dumps(body))
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.parametrize("caller", PAIRS)
@pytest.mark.parametrize("mode", MODES)
def test_what_is_too_early_is_a_429_with_its_time(caller: str, mode: str, callers: Callers) -> None:
    driver, name = callers.driver(caller, mode, "sync"), f"{caller}.{mode}"
    assert asyncio.run(driver.ask(Ask(name))).text == "hello"
    with pytest.raises(driver.errors) as raised:
        asyncio.run(driver.ask(Ask(name)))
    failure = driver.failure(raised.value)
    assert failure.status == 429
    assert "at most 1 requests a minute" in failure.message
    response: Any = raised.value
    assert 1 <= int(response.response.headers["retry-after"]) <= 60
    assert asyncio.run(driver.ask(Ask(f"route.{name}"))).text == "hello"
