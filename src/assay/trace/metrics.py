"""Figures of a process about its calls, counted as each span ends. How they are told: assay.server.metrics.

All are sums, so that those of several processes can be added. Names of models come from callers: those that
are not configured are counted together, so that nobody can fill the memory.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator
from decimal import Decimal
from typing import Final, NamedTuple

from assay.trace.span import Span

DURATION_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Upper ends of the histograms' buckets, in seconds."""
OTHER: Final = "(not configured)"
_CALLS: Final = frozenset({"chat", "embeddings", "count_tokens"})

Labels = tuple[tuple[str, str], ...]


class Sample(NamedTuple):
    """One line of an exposition: a metric's name, its labels, its value."""

    name: str
    labels: Labels
    value: float


class _Histogram:
    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(DURATION_S) + 1)
        self.sum_s = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(DURATION_S, seconds)] += 1
        self.sum_s += seconds

    def samples(self, name: str, labels: Labels) -> Iterator[Sample]:
        total = 0
        for bound, count in zip((*DURATION_S, float("inf")), self.counts, strict=True):
            total += count
            told = "+Inf" if bound == float("inf") else f"{bound:g}"
            yield Sample(f"{name}_bucket", (*labels, ("le", told)), total)
        yield Sample(f"{name}_sum", labels, self.sum_s)
        yield Sample(f"{name}_count", labels, total)


class _Series:
    """What is known of the calls to one model at one provider."""

    __slots__ = ("cost_usd", "duration", "ends", "first", "tokens_in", "tokens_out", "unpriced")

    def __init__(self) -> None:
        self.ends: dict[str, int] = {}
        self.tokens_in = self.tokens_out = self.unpriced = 0
        self.cost_usd = Decimal(0)
        self.duration = _Histogram()
        self.first = _Histogram()


class Metrics:
    """`models` are the names that are told apart; another set of them may be put in its place."""

    def __init__(self, models: Collection[str] = ()) -> None:
        self.models = models
        self._series: dict[tuple[str, str, str], _Series] = {}
        self._tries: dict[tuple[str, str, str], int] = {}

    def observe(self, span: Span) -> None:
        """Counts the call that a span is of, if it is of one."""
        end = "ok" if span.status == "ok" else span.error_type or "error"
        if span.operation == "try":
            tried = (span.model or "", span.provider or "", end)
            self._tries[tried] = self._tries.get(tried, 0) + 1
            return
        if span.operation not in _CALLS:
            return
        model = span.model if span.model in self.models else OTHER
        key = (model or OTHER, span.provider or "", span.operation)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = _Series()
        series.ends[end] = series.ends.get(end, 0) + 1
        series.duration.add((span.end_ns - span.start_ns) / 1e9)
        if span.usage is not None:
            series.tokens_in += span.usage.tokens_in
            series.tokens_out += span.usage.tokens_out
        if span.cost is not None:
            if span.cost.usd is None:
                series.unpriced += 1
            else:
                series.cost_usd += span.cost.usd
        first_s = span.attributes.get("assay.time_to_first_token_s")
        if isinstance(first_s, float):
            series.first.add(first_s)

    def samples(self) -> Iterator[Sample]:
        """Everything that was counted so far."""
        for (model, provider, operation), series in list(self._series.items()):
            labels: Labels = (("model", model), ("provider", provider), ("operation", operation))
            for end, count in list(series.ends.items()):
                yield Sample("assay_calls_total", (*labels, ("status", end)), count)
            yield Sample("assay_tokens_total", (*labels, ("direction", "input")), series.tokens_in)
            yield Sample("assay_tokens_total", (*labels, ("direction", "output")), series.tokens_out)
            yield Sample("assay_cost_usd_total", labels, float(series.cost_usd))
            yield Sample("assay_calls_unpriced_total", labels, series.unpriced)
            yield from series.duration.samples("assay_call_duration_seconds", labels)
            yield from series.first.samples("assay_time_to_first_token_seconds", labels)
        for (model, provider, end), count in list(self._tries.items()):
            tried: Labels = (("model", model), ("provider", provider), ("status", end))
            yield Sample("assay_failed_tries_total", tried, count)
