"""Lets the faults use the test bed of the SDKs: its upstreams and its callers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from .play import Outcome, play


@pytest.fixture(scope="session")
def outcomes(serve_session: Any) -> list[Outcome]:
    """Every case, played once."""
    return play(serve_session)
