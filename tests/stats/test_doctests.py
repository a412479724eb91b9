"""The examples in the docstrings run."""

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import assay.stats

MODULES = [name for _, name, _ in pkgutil.iter_modules(assay.stats.__path__, "assay.stats.")]


@pytest.mark.parametrize("module", MODULES)
def test_docstring_examples(module: str) -> None:
    assert doctest.testmod(importlib.import_module(module)).failed == 0


def test_examples_of_the_explanation() -> None:
    page = Path(__file__).parents[2] / "docs" / "explanation" / "statistics.md"
    results = doctest.testfile(str(page), module_relative=False)
    assert results.attempted > 0
    assert results.failed == 0


def test_public_names_have_docstrings() -> None:
    assert sorted(assay.stats.__all__) == assay.stats.__all__
    bare = [
        name for name in assay.stats.__all__ if name != "Outcome" and not getattr(assay.stats, name).__doc__
    ]
    assert bare == []
