"""No fault of an upstream is shown as an answer, repeated, left running, or lost from the records."""

from __future__ import annotations

import pytest

from .cases import FAULTS, FILTER, PAIRS, Fault
from .play import Outcome
from .table import PAGE, page


def test_there_are_sixteen() -> None:
    assert len(FAULTS) == 16


@pytest.mark.parametrize("caller", PAIRS)
@pytest.mark.parametrize("fault", [*FAULTS, FILTER], ids=lambda fault: fault.title)
def test_a_fault_ends_well(fault: Fault, caller: str, outcomes: list[Outcome]) -> None:
    mine = [one for one in outcomes if one.case.fault == fault and one.case.caller == caller]
    assert len(mine) == 8 * len(fault.kinds)
    problems = [f"{one.case.name}: {problem}" for one in mine for problem in one.problems()]
    assert problems == []


def test_the_docs_show_it(outcomes: list[Outcome]) -> None:
    assert PAGE.read_text(encoding="utf-8") == page(outcomes), "run 'make docs'"
