"""The examples in the console's docstrings run."""

from __future__ import annotations

import doctest
from importlib import import_module

import pytest


@pytest.mark.parametrize("module", ["figures", "query", "prompts"])
def test_examples(module: str) -> None:
    result = doctest.testmod(import_module(f"assay.console.{module}"))
    assert result.attempted
    assert not result.failed
