"""Which span of a trace is laid open first."""

from __future__ import annotations

from typing import Literal

import pytest

from assay.console.waterfall import telling
from assay.trace import Span
from assay.trace.store import SpanNode


def span(name: str, operation: str, status: Literal["ok", "error"], parent: str | None = None) -> Span:
    return Span("t", name, name, operation, 0, 1, parent, status)


@pytest.mark.parametrize(("call", "shown"), [("ok", "call"), ("error", "try")])
def test_a_try_that_failed_is_looked_at_first_only_where_the_call_failed_too(
    call: Literal["ok", "error"], shown: str
) -> None:
    tried = SpanNode(span("try", "try", "error", "call"), ())
    root = SpanNode(span("call", "chat", call), (tried,))
    assert telling([root]).name == shown


def test_the_deepest_failure_comes_before_a_call_that_went_well() -> None:
    well = SpanNode(span("well", "chat", "ok", "root"), ())
    broken = SpanNode(span("broken", "chat", "error", "root"), ())
    assert telling([SpanNode(span("root", "eval", "error"), (well, broken))]).name == "broken"
