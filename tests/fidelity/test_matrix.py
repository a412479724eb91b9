"""No feature of a call or reply is lost in silence between dialects, and the docs show the matrix."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import matrix

VERDICTS = list(matrix.verdicts())


@pytest.mark.parametrize("caller", [side.title for side in matrix.CALLERS])
@pytest.mark.parametrize("upstream", [side.title for side in matrix.UPSTREAMS])
def test_nothing_is_lost_in_silence(caller: str, upstream: str) -> None:
    cells = [cell for cell in VERDICTS if (cell[1].title, cell[2].title) == (caller, upstream)]
    assert len(cells) > 60
    assert [cell[3].name for cell in cells if cell[4] == "lost"] == []


@pytest.mark.parametrize("side", matrix.CALLERS, ids=lambda side: side.title)
def test_a_dialect_carries_to_itself_all_that_it_can_say(side: matrix.Side) -> None:
    own = [cell for cell in VERDICTS if cell[1] is side and cell[2] is side and cell[4] != "none"]
    assert len(own) > 40
    assert [(cell[0], cell[3].name) for cell in own if cell[4] != "carried"] == []


@pytest.mark.parametrize(
    "name", ["text", "parallel tool calls", "system message", "tools", "JSON Schema", "all tokens in and out"]
)
def test_what_everybody_needs_is_carried_everywhere(name: str) -> None:
    assert {cell[4] for cell in VERDICTS if cell[3].name == name} == {"carried"}


def test_the_docs_show_it() -> None:
    assert matrix.PAGE.read_text(encoding="utf-8") == matrix.page(), "run 'make docs'"
