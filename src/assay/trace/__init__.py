"""Traces: spans in (bounded, off the hot path) and out (lists, trees, messages)."""

from __future__ import annotations

from assay.trace.metrics import Metrics, Sample
from assay.trace.redaction import Redactor
from assay.trace.retention import Pruned, days_ago, delete_trace, prune
from assay.trace.rows import dollars
from assay.trace.span import OpenSpan, Span, Tracer, current_span, error_type, new_span_id, new_trace_id
from assay.trace.store import SpanNode, TraceStore, TraceSummary, conversation_of
from assay.trace.writer import SpanWriter, WriterState

__all__ = [
    "Metrics",
    "OpenSpan",
    "Pruned",
    "Redactor",
    "Sample",
    "Span",
    "SpanNode",
    "SpanWriter",
    "TraceStore",
    "TraceSummary",
    "Tracer",
    "WriterState",
    "conversation_of",
    "current_span",
    "days_ago",
    "delete_trace",
    "dollars",
    "error_type",
    "new_span_id",
    "new_trace_id",
    "prune",
]
