"""GET /metrics: the figures of a server in Prometheus' text format (0.0.4), of all its workers together.

What the calls were is counted in assay.trace.metrics; here stands what each metric means, and how it is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import metadata
from typing import Final

from assay.app import App
from assay.trace import Sample

CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"

ABOUT: Final[dict[str, tuple[str, str]]] = {
    "assay_calls_total": ("counter", "Calls that ended, by model, provider, operation and status."),
    "assay_tokens_total": ("counter", "Tokens of those calls, cached and reasoning ones included."),
    "assay_cost_usd_total": ("counter", "US dollars of the calls whose cost is known."),
    "assay_calls_unpriced_total": ("counter", "Calls of unknown cost."),
    "assay_failed_tries_total": ("counter", "Tries that failed where another one followed or might have."),
    "assay_call_duration_seconds": ("histogram", "From the request understood to the reply's end."),
    "assay_time_to_first_token_seconds": ("histogram", "Until a stream said something."),
    "assay_requests_in_flight": ("gauge", "Requests under way, that for these figures included."),
    "assay_spans_written_total": ("counter", "Spans that are stored."),
    "assay_spans_waiting": ("gauge", "Spans that are recorded and not yet stored."),
    "assay_spans_dropped_total": ("counter", "Spans that were lost, as the store took none for too long."),
    "assay_circuits": ("gauge", "Circuits of models in each state, over the workers."),
    "assay_build_info": ("gauge", "Workers, by the version of Assay that they run."),
}
"""Each metric's type and meaning, in the order in which they are told."""


def own(app: App, requests: int) -> Iterator[Sample]:
    """The figures of this process."""
    yield from app.metrics.samples()
    yield Sample("assay_requests_in_flight", (), requests)
    state = app.writer.state
    yield Sample("assay_spans_written_total", (), state.written)
    yield Sample("assay_spans_waiting", (), state.waiting)
    yield Sample("assay_spans_dropped_total", (), state.dropped)
    for name, health in app.healths.known():
        yield Sample("assay_circuits", (("model", name), ("state", health.breaker.state)), 1)
    yield Sample("assay_build_info", (("version", metadata.version("assay")),), 1)


def exposition(samples: Iterable[Sample]) -> bytes:
    """The samples in Prometheus' text format; those of one name and labels are added."""
    sums: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for name, labels, value in samples:
        sums[name, labels] = sums.get((name, labels), 0) + value
    families: dict[str, list[str]] = {name: [] for name in ABOUT}
    for (name, labels), value in sums.items():
        families[_family(name)].append(f"{name}{_labels(labels)} {_number(value)}")
    lines: list[str] = []
    for family, told in families.items():
        if told:
            kind, about = ABOUT[family]
            lines += [f"# HELP {family} {about}", f"# TYPE {family} {kind}", *told]
    return ("\n".join(lines) + "\n").encode()


def is_gauge(name: str) -> bool:
    """Whether it is of now: a worker that is gone has none."""
    return ABOUT[_family(name)][0] == "gauge"


def _family(name: str) -> str:
    if name in ABOUT:
        return name
    return name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")


def _labels(labels: tuple[tuple[str, str], ...]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
