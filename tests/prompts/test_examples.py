"""The examples in the docstrings run."""

from __future__ import annotations

import doctest
from types import ModuleType

import pytest

from assay.prompts import dotprompt, media, picoschema, source, template


@pytest.mark.parametrize("module", [dotprompt, media, picoschema, source, template], ids=lambda m: m.__name__)
def test_docstring_examples(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
