"""A store, and models that answer by a function."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from assay.providers.scripted import Scripted
from assay.storage import Store


@pytest.fixture
def store(tmp_path: Path):
    opened = Store.open(f"sqlite:///{tmp_path}/assay.db")
    yield opened
    opened.close()


@pytest.fixture
def model() -> Callable[..., Scripted]:
    """A model from a script: texts, errors, or a function of the request."""
    return lambda *script: Scripted("fake", script[0] if callable(script[0]) else script)
