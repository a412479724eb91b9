"""Fixtures that every folder of tests may use."""

from __future__ import annotations

import hypothesis
import pytest

# No deadline: how fast a shared machine is proves nothing. The same examples on every run.
hypothesis.settings.register_profile("assay", deadline=None, derandomize=True)
hypothesis.settings.load_profile("assay")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
