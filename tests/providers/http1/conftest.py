"""Fixtures of the HTTP/1.1 client's tests: both event loops, an upstream to play, a transport."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from assay.providers.transport import Transport

from ..far_end import Upstream


@pytest.fixture(scope="package", params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    upstream = await Upstream().listen()
    yield upstream
    upstream.close()


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    async with Transport() as transport:
        yield transport
