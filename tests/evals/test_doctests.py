"""The examples in the docstrings run, and public names say what they are."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import assay.evals

MODULES = [name for _, name, _ in pkgutil.iter_modules(assay.evals.__path__, "assay.evals.")]


@pytest.mark.parametrize("module", MODULES)
def test_docstring_examples(module: str) -> None:
    assert doctest.testmod(importlib.import_module(module)).failed == 0


def test_public_names_have_docstrings() -> None:
    values = {"DEFAULT_CONCURRENCY", "SCORERS"}
    assert [
        name for name in assay.evals.__all__ if name not in values and not getattr(assay.evals, name).__doc__
    ] == []
