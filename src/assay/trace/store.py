"""Reading traces back: lists, trees and the messages of a span."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from assay.errors import NotFound, RequestError
from assay.storage import Store
from assay.trace.rows import decode_message, dollars, row_span
from assay.trace.span import Span
from assay.trace.tables import messages, spans
from assay.types import Message, Value

_FORGOTTEN = "forgotten "
"""What stands before the id of a reply that shall not be found by it any more."""


class TraceSummary(Value):
    """One trace in a list: `cost_usd` sums what is known, `unpriced` counts the calls of unknown cost.

    `active_ns` is when the newest span that was asked for began: what lists are ordered and paged by.
    """

    trace_id: str
    name: str
    start_ns: int
    end_ns: int
    spans: int
    errors: int
    calls: int
    models: tuple[str, ...]
    tokens_in: int
    tokens_out: int
    cost_usd: Decimal
    unpriced: int
    estimated: int
    active_ns: int

    @property
    def duration_s(self) -> float:
        return (self.end_ns - self.start_ns) / 1e9


class SpanNode(Value):
    """A span and the spans below it, oldest first."""

    span: Span
    children: tuple[SpanNode, ...] = ()


class TraceStore:
    """Reads what SpanWriter wrote. Raises NotFound for what is not there, StorageError if it cannot read."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def latest(
        self,
        limit: int = 50,
        *,
        before_ns: int | None = None,
        model: str | None = None,
        purpose: str | None = None,
        status: str | None = None,
        prompt: str | None = None,
        key_id: str | None = None,
    ) -> list[TraceSummary]:
        """The traces with the newest activity first; a filter keeps traces with at least one such span.

        `before_ns`, the `active_ns` of a page's last trace, goes on from there.
        """
        asked = [
            column == value
            for column, value in (
                (spans.c.model, model),
                (spans.c.purpose, purpose),
                (spans.c.status, status),
                (spans.c.key_id, key_id),
            )
            if value is not None
        ]
        if prompt is not None:
            asked.append(_of_prompt(prompt))
        wanted = sa.select(spans.c.trace_id, spans.c.start_ns).where(*asked).order_by(spans.c.start_ns.desc())
        if before_ns is not None:
            shown = sa.select(spans.c.trace_id).where(*asked, spans.c.start_ns >= before_ns)
            wanted = wanted.where(spans.c.start_ns < before_ns, spans.c.trace_id.not_in(shown))
        active: dict[str, int] = {}
        with self._store.read() as connection:
            rows = connection.execution_options(yield_per=500).execute(wanted)
            for row in rows:
                active.setdefault(row.trace_id, row.start_ns)
                if len(active) >= limit:
                    break
            rows.close()
            return self._summaries(connection, active)

    def _summaries(self, connection: sa.Connection, active: Mapping[str, int]) -> list[TraceSummary]:
        by_trace: dict[str, list[sa.Row[tuple[object, ...]]]] = {trace_id: [] for trace_id in active}
        columns = [
            column for column in spans.c if column.name not in {"attributes", "output_ids", "input_id"}
        ]
        query = sa.select(*columns).where(spans.c.trace_id.in_(active)).order_by(spans.c.start_ns)
        for row in connection.execute(query):
            by_trace[row.trace_id].append(row)
        return [_summary(trace_id, rows, active[trace_id]) for trace_id, rows in by_trace.items() if rows]

    def trace(self, trace_id: str) -> list[SpanNode]:
        """The roots of a trace's tree, by its id or the beginning of it (4 or more characters).

        A span whose parent is not stored (a caller's own span, or one still running) is a root.
        """
        whole = self._resolve(spans.c.trace_id, trace_id, "trace")
        with self._store.read() as connection:
            query = sa.select(spans).where(spans.c.trace_id == whole).order_by(spans.c.start_ns)
            found = [row_span(row) for row in connection.execute(query).mappings()]
        return _tree(found)

    def span(self, span_id: str) -> Span:
        """One span with its messages, by its id or the beginning of it."""
        whole = self._resolve(spans.c.span_id, span_id, "span")
        with self._store.read() as connection:
            row = connection.execute(sa.select(spans).where(spans.c.span_id == whole)).mappings().one()
            return _with_messages(connection, row)

    def response(self, response_id: str, *, key_id: str | None = None) -> Span | None:
        """The call whose reply has this id and ended well, with its messages; None when there is none.

        With `key_id`, one that was made with that key. Where an upstream uses an id again, the newest call.
        """
        query = _answered(sa.select(spans), response_id, key_id).order_by(spans.c.start_ns.desc()).limit(1)
        with self._store.read() as connection:
            row = connection.execute(query).mappings().one_or_none()
            return None if row is None else _with_messages(connection, row)

    def conversation(self, response_id: str, *, key_id: str | None = None) -> tuple[Message, ...] | None:
        """What was said until that reply, and the reply; None when there is no such reply.

        Raises NotFound when there is, but nobody kept what was said.
        """
        span = self.response(response_id, key_id=key_id)
        return None if span is None else conversation_of(span)

    def forget_response(self, response_id: str, *, key_id: str | None = None) -> bool:
        """The reply is not found by this id any more; the span stays. Whether there was one to be found."""
        known = _answered(sa.select(spans.c.span_id), response_id, key_id)
        forget = (
            sa.update(spans).where(spans.c.span_id.in_(known)).values(response_id=_FORGOTTEN + response_id)
        )
        with self._store.write() as connection:
            return connection.execute(forget).rowcount > 0

    def forgotten_response(self, response_id: str, *, key_id: str | None = None) -> bool:
        """Whether there was a reply with this id that was forgotten."""
        query = _answered(sa.select(spans.c.span_id), _FORGOTTEN + response_id, key_id).limit(1)
        with self._store.read() as connection:
            return connection.scalar(query) is not None

    def calls(
        self, limit: int = 100, *, prompt: str | None = None, model: str | None = None, purpose: str = "call"
    ) -> list[Span]:
        """The newest answered model calls, with their messages, newest first."""
        query = sa.select(spans.c.span_id).order_by(spans.c.start_ns.desc()).limit(limit)
        query = query.where(spans.c.operation == "chat", spans.c.status == "ok", spans.c.purpose == purpose)
        if model is not None:
            query = query.where(spans.c.model == model)
        if prompt is not None:
            query = query.where(_of_prompt(prompt))
        with self._store.read() as connection:
            found = connection.scalars(query).all()
        return [self.span(span_id) for span_id in found]

    def _resolve(self, column: sa.Column[str], prefix: str, noun: str) -> str:
        if len(prefix) < 4 or not all(letter in "0123456789abcdef" for letter in prefix):
            raise RequestError(f"{prefix!r} is not a {noun} id: give 4 or more of its hexadecimal digits")
        # A range, not LIKE: it walks the index.
        query = sa.select(column).where(column >= prefix, column < prefix + "g").distinct().limit(2)
        with self._store.read() as connection:
            found = connection.scalars(query).all()
        if not found:
            raise NotFound(f"There is no {noun} {prefix}; 'assay trace list' shows the newest")
        if len(found) > 1:
            raise RequestError(f"More than one {noun} begins with {prefix}; give more digits")
        return found[0]

    def count(self) -> int:
        """How many spans are stored."""
        with self._store.read() as connection:
            return connection.scalar(sa.select(sa.func.count()).select_from(spans)) or 0


def _of_prompt(prompt: str) -> sa.ColumnElement[bool]:
    """Spans of `name@version`, or of any version of `name`."""
    return sa.or_(spans.c.prompt == prompt, spans.c.prompt.startswith(f"{prompt}@", autoescape=True))


def _summary(trace_id: str, rows: Sequence[sa.Row[tuple[object, ...]]], active_ns: int) -> TraceSummary:
    ids = {row.span_id for row in rows}
    root = next((row for row in rows if row.parent_id not in ids), rows[0])
    calls = [row for row in rows if row.cost_kind is not None]
    return TraceSummary(
        trace_id=trace_id,
        name=root.name,
        start_ns=min(row.start_ns for row in rows),
        end_ns=max(row.end_ns for row in rows),
        spans=len(rows),
        errors=sum(row.status == "error" for row in rows),
        calls=len(calls),
        models=tuple(sorted({row.model for row in rows if row.model})),
        tokens_in=sum(row.tokens_in or 0 for row in rows),
        tokens_out=sum(row.tokens_out or 0 for row in rows),
        cost_usd=dollars(sum(row.cost_pico or 0 for row in rows)),
        unpriced=sum(row.cost_kind == "unknown" for row in calls),
        estimated=sum(row.cost_kind == "estimated" for row in calls),
        active_ns=active_ns,
    )


def _tree(found: Iterable[Span]) -> list[SpanNode]:
    children: dict[str | None, list[Span]] = {}
    ids = set()
    for span in found:
        children.setdefault(span.parent_id, []).append(span)
        ids.add(span.span_id)

    def node(span: Span) -> SpanNode:
        return SpanNode(span, tuple(node(child) for child in children.get(span.span_id, ())))

    roots = [span for parent, below in children.items() if parent not in ids for span in below]
    return [node(span) for span in sorted(roots, key=lambda span: span.start_ns)]


def conversation_of(span: Span) -> tuple[Message, ...]:
    """What was said to the model and what it said. Raises NotFound when nobody recorded it."""
    if not span.input and not span.output:
        raise NotFound(
            f"The response {span.response_id} is known, but what was said was not recorded; "
            "set capture_content = true under [trace] in assay.toml, or send the whole conversation",
            code="content_not_captured",
        )
    return (*span.input, *span.output)


def _answered(query: sa.Select[Any], response_id: str, key_id: str | None) -> sa.Select[Any]:
    query = query.where(spans.c.response_id == response_id, spans.c.status == "ok")
    return query if key_id is None else query.where(spans.c.key_id == key_id)


def _with_messages(connection: sa.Connection, row: sa.RowMapping) -> Span:
    said = _conversation(connection, row["input_id"])
    answered = _messages(connection, (row["output_ids"] or "").split())
    return row_span(row, said, answered)


def _conversation(connection: sa.Connection, last_id: str | None) -> tuple[Message, ...]:
    if last_id is None:
        return ()
    start = sa.select(messages.c.parent_id, messages.c.body, sa.literal(0).label("depth"))
    chain = start.where(messages.c.id == last_id).cte("chain", recursive=True)
    step = sa.select(messages.c.parent_id, messages.c.body, chain.c.depth + 1)
    chain = chain.union_all(step.join(chain, messages.c.id == chain.c.parent_id))
    bodies = connection.scalars(sa.select(chain.c.body).order_by(chain.c.depth.desc()))
    return tuple(decode_message(body) for body in bodies)


def _messages(connection: sa.Connection, ids: Sequence[str]) -> tuple[Message, ...]:
    query = sa.select(messages.c.id, messages.c.body).where(messages.c.id.in_(ids))
    bodies = {row.id: row.body for row in connection.execute(query)}
    return tuple(decode_message(bodies[message_id]) for message_id in ids)
