"""A store and a clock that goes on only when told."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.storage import Store


class Clock:
    """Nanoseconds that stand still until `forward`."""

    def __init__(self, now_s: float = 1_700_000_000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> int:
        return int(self.now_s * 1e9)

    def forward(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path):
    opened = Store.open(f"sqlite:///{tmp_path}/assay.db")
    yield opened
    opened.close()
