"""Spans: one timed operation each, and the Tracer that opens and closes them. Storing is assay.trace.writer.

Names and attributes follow OpenTelemetry's semantic conventions for generative AI
(https://opentelemetry.io/docs/specs/semconv/gen-ai/); what those do not name starts with `assay.`.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

from assay.errors import AssayError
from assay.types import JSON, Cost, Message, Usage, Value

Status = Literal["ok", "error"]


class Span(Value):
    """A finished operation. Times are nanoseconds since 1970; `usage` and `cost` are a model call's own.

    `response_id` is set where the caller may come back to the reply: see TraceStore.response.
    """

    trace_id: str
    span_id: str
    name: str
    operation: str
    start_ns: int
    end_ns: int
    parent_id: str | None = None
    status: Status = "ok"
    error_type: str | None = None
    error_message: str | None = None
    provider: str | None = None
    model: str | None = None
    purpose: str | None = None
    prompt: str | None = None
    key_id: str | None = None
    usage: Usage | None = None
    cost: Cost | None = None
    input: tuple[Message, ...] = ()
    output: tuple[Message, ...] = ()
    attributes: dict[str, JSON] = {}  # noqa: RUF012
    response_id: str | None = None

    @property
    def duration_s(self) -> float:
        return (self.end_ns - self.start_ns) / 1e9

    def otel_attributes(self) -> dict[str, JSON]:
        """Everything about the span under its OpenTelemetry name, for exporters and for people."""
        named = {
            "gen_ai.operation.name": self.operation,
            "gen_ai.provider.name": self.provider,
            "gen_ai.request.model": self.model,
            "error.type": self.error_type,
            "assay.purpose": self.purpose,
            "assay.prompt": self.prompt,
            "assay.key.id": self.key_id,
        }
        if self.usage is not None:
            named |= usage_attributes(self.usage)
        if self.cost is not None:
            named["assay.cost.kind"] = self.cost.kind
            named["assay.cost.usd"] = None if self.cost.usd is None else str(self.cost.usd)
        return {**{name: value for name, value in named.items() if value is not None}, **self.attributes}


def usage_attributes(usage: Usage) -> dict[str, JSON]:
    """The token counts by their OpenTelemetry names; `input_tokens` there includes the cached ones."""
    counts = {
        "gen_ai.usage.input_tokens": usage.tokens_in,
        "gen_ai.usage.output_tokens": usage.tokens_out,
    }
    details = {
        "gen_ai.usage.cache_read.input_tokens": usage.cache_read + usage.cache_read_audio,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_write + usage.cache_write_1h,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning,
    }
    return counts | {name: count for name, count in details.items() if count}


# Ids must differ, not be secret: the system's own source costs a call into the kernel each.
_random = random.Random()  # noqa: S311
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)


def new_trace_id() -> str:
    return f"{_random.getrandbits(128) or 1:032x}"


def new_span_id() -> str:
    return f"{_random.getrandbits(64) or 1:016x}"


_current: ContextVar[tuple[str, str] | None] = ContextVar("assay_span", default=None)


def current_span() -> tuple[str, str] | None:
    """(trace id, span id) of the operation that this task is inside of."""
    return _current.get()


class OpenSpan:
    """A span under way: add attributes while it lasts."""

    __slots__ = ("attributes", "span_id", "trace_id")

    def __init__(self, trace_id: str, span_id: str, attributes: dict[str, JSON]) -> None:
        self.trace_id = trace_id
        self.span_id = span_id
        self.attributes = attributes


class Tracer:
    """Makes spans and hands each finished one to `sink`, which must not block."""

    def __init__(self, sink: Callable[[Span], object], clock_ns: Callable[[], int] = time.time_ns) -> None:
        self.record = sink
        self.clock_ns = clock_ns

    @contextmanager
    def span(
        self,
        name: str,
        operation: str,
        *,
        trace_id: str | None = None,
        parent_id: str | None = None,
        **attributes: JSON,
    ) -> Iterator[OpenSpan]:
        """Times the block as a child of the current span, unless a trace and parent are given.

        An exception marks the span as failed and goes on its way.
        """
        inherited = _current.get()
        if trace_id is None and inherited is not None:
            trace_id, parent_id = inherited
        opened = OpenSpan(trace_id or new_trace_id(), new_span_id(), dict(attributes))
        start_ns = self.clock_ns()
        token = _current.set((opened.trace_id, opened.span_id))
        failure: BaseException | None = None
        try:
            yield opened
        except BaseException as error:
            failure = error
            raise
        finally:
            _current.reset(token)
            self.record(
                Span(
                    opened.trace_id,
                    opened.span_id,
                    name,
                    operation,
                    start_ns,
                    self.clock_ns(),
                    parent_id,
                    status="ok" if failure is None else "error",
                    error_type=None if failure is None else error_type(failure),
                    error_message=None if failure is None else str(failure)[:2000],
                    attributes=opened.attributes,
                )
            )


def error_type(error: BaseException) -> str:
    """The stable word for an error: Assay's own code, else the exception's name."""
    return error.code if isinstance(error, AssayError) else type(error).__name__
