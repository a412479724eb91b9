"""What a server says on standard error: for people as text, for programs as one JSON object a line.

Secrets are taken out of every line, whoever wrote it. With JSON each call is a line of its own, as it ends.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec

from assay.trace import Span
from assay.types import JSON
from assay.types.timing import timing

Format = Literal["text", "json"]
_LOGGERS: Final = ("assay", "uvicorn")
calls = logging.getLogger("assay.calls")


class _Text(logging.Formatter):
    def __init__(self, redact: Callable[[str], str]) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")
        self.redact = redact

    def format(self, record: logging.LogRecord) -> str:
        return self.redact(super().format(record))


class _Json(logging.Formatter):
    def __init__(self, redact: Callable[[str], str]) -> None:
        super().__init__()
        self.redact = redact

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, JSON] = {
            "time": _told(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        times = timing()
        if times is not None and times.trace_id is not None:
            said["trace_id"] = times.trace_id
        said |= getattr(record, "assay", {})
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return self.redact(msgspec.json.encode(said).decode())


def _told(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def set_up(form: Format, redact: Callable[[str], str]) -> None:
    """From here on everything goes to standard error in this form."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Json(redact) if form == "json" else _Text(redact))
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
    logging.getLogger("assay").setLevel(logging.INFO)
    # For people there are traces, and the console.
    calls.setLevel(logging.INFO if form == "json" else logging.WARNING)


def hide(redact: Callable[[str], str]) -> None:
    """From here on these secrets are taken out instead."""
    for handler in logging.getLogger("assay").handlers:
        if isinstance(handler.formatter, _Text | _Json):
            handler.formatter.redact = redact


def note(span: Span) -> None:
    """One line a call, where calls are logged."""
    if not calls.isEnabledFor(logging.INFO) or (span.cost is None and span.status == "ok"):
        return
    told: dict[str, JSON] = {
        "trace_id": span.trace_id,
        "span_id": span.span_id,
        "operation": span.operation,
        "model": span.model,
        "provider": span.provider,
        "key_id": span.key_id,
        "status": span.status,
        "error_type": span.error_type,
        "duration_s": round(span.duration_s, 6),
        "tokens_in": None if span.usage is None else span.usage.tokens_in,
        "tokens_out": None if span.usage is None else span.usage.tokens_out,
        "cost_usd": None if span.cost is None or span.cost.usd is None else str(span.cost.usd),
    }
    calls.info(span.name, extra={"assay": {name: value for name, value in told.items() if value is not None}})
