"""A limit of ours is told in every dialect, with the time to come again, and goes to the next of a route."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

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
