"""A trace as the page shows it: a tree with a bar for each span's time, in pieces of bounded size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from assay.evals.costs import Spend, total
from assay.trace import Span, SpanNode
from assay.types import Value

PAGE_SPANS = 400
"""How many spans one page shows, besides those that they stand below."""
_OPEN_SPANS = 80
_DEEPEST = 12
_NARROWEST = 0.4


class Branch(Value):
    """A span with its bar: `x` and `width` in percent of the trace's time. `below` are its children.

    `open` says whether the children are shown at first; `level` is how far it is indented. Tokens and
    spend are the span's and those of all below it; `errors` counts the failed ones below it.
    """

    span: Span
    x: float
    width: float
    level: int
    open: bool
    tokens_in: int
    tokens_out: int
    spend: Spend
    errors: int
    below: tuple[Branch, ...]


class Totals(Value):
    """A whole trace in numbers."""

    start_ns: int
    duration_s: float
    spans: int
    calls: int
    errors: int
    tokens_in: int
    tokens_out: int
    spend: Spend
    models: tuple[str, ...]


def walk(nodes: Iterable[SpanNode]) -> Iterator[Span]:
    """Every span, a parent before its children."""
    for node in nodes:
        yield node.span
        yield from walk(node.children)


def totals(nodes: Sequence[SpanNode]) -> Totals:
    spans = list(walk(nodes))
    start_ns, end_ns = _extent(spans)
    return Totals(
        start_ns=start_ns,
        duration_s=(end_ns - start_ns) / 1e9,
        spans=len(spans),
        calls=sum(span.cost is not None for span in spans),
        errors=sum(span.status == "error" for span in spans),
        tokens_in=sum(span.usage.tokens_in for span in spans if span.usage),
        tokens_out=sum(span.usage.tokens_out for span in spans if span.usage),
        spend=total(span.cost for span in spans),
        models=tuple(sorted({span.model for span in spans if span.model})),
    )


def branches(nodes: Sequence[SpanNode], first: int, selected: str) -> tuple[Branch, ...]:
    """The tree with the spans numbered `first` to `first` + PAGE_SPANS (parents before children), and the
    spans that these stand below. The way to the span `selected` is open.
    """
    spans = list(walk(nodes))
    start_ns, end_ns = _extent(spans)
    scale = 100 / max(1, end_ns - start_ns)
    wanted = {span.span_id for span in spans[first : first + PAGE_SPANS]}
    everything = len(spans) <= _OPEN_SPANS

    def grow(node: SpanNode, level: int) -> Branch:
        span, usage = node.span, node.span.usage
        below = tuple(grow(child, level + 1) for child in node.children)
        on_the_way = any(branch.span.span_id == selected or branch.open for branch in below)
        width = min(100.0, max(_NARROWEST, (span.end_ns - span.start_ns) * scale))
        return Branch(
            span=span,
            x=round(min((span.start_ns - start_ns) * scale, 100 - width), 3),
            width=round(width, 3),
            level=min(level, _DEEPEST),
            open=everything or on_the_way or level == 0,
            tokens_in=(usage.tokens_in if usage else 0) + sum(branch.tokens_in for branch in below),
            tokens_out=(usage.tokens_out if usage else 0) + sum(branch.tokens_out for branch in below),
            spend=sum((branch.spend for branch in below), total((span.cost,))),
            errors=sum(branch.errors + (branch.span.status == "error") for branch in below),
            below=tuple(branch for branch in below if branch.below or branch.span.span_id in wanted),
        )

    grown = (grow(node, 0) for node in nodes)
    return tuple(branch for branch in grown if branch.below or branch.span.span_id in wanted)


def page_of(nodes: Sequence[SpanNode], span_id: str) -> int:
    """The number of the first span on the page that shows `span_id`."""
    for number, span in enumerate(walk(nodes)):
        if span.span_id == span_id:
            return number - number % PAGE_SPANS
    return 0


def telling(nodes: Sequence[SpanNode]) -> Span:
    """The span to look at first: the deepest failure, else the first call to a model, else the root.

    A try that failed in a call that was answered after it is no failure of the call's.
    """
    spans = list(walk(nodes))
    answered = {span.span_id for span in spans if span.status == "ok"}
    failed = [
        span
        for span in spans
        if span.status == "error" and not (span.operation == "try" and span.parent_id in answered)
    ]
    parents = {span.parent_id for span in failed}
    for span in failed:
        if span.span_id not in parents:
            return span
    return next((span for span in spans if span.operation == "chat"), spans[0])


def _extent(spans: Sequence[Span]) -> tuple[int, int]:
    return min(span.start_ns for span in spans), max(span.end_ns for span in spans)
