"""The one writer of spans: a bounded queue and a thread, so that no call waits for the disk.

What is promised: a span that `flush` or `close` returned for can be read back; a kill -9 loses at most what
was recorded in the last `flush_interval_s`. While the disk refuses, spans wait in the queue and the
writer tries again; when the queue is full, new spans are dropped and counted in `state.dropped`.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from operator import itemgetter
from typing import Any

import msgspec
import sqlalchemy as sa

from assay.errors import StorageError
from assay.storage import Store
from assay.trace.rows import MessageRow, redacted, span_rows
from assay.trace.span import Span
from assay.trace.tables import messages, spans

log = logging.getLogger("assay.trace")

_BATCH = 500
_RETRY_S = 2.0
_KNOWN = 100_000


class WriterState(msgspec.Struct, frozen=True):
    """`waiting` spans are recorded and not yet stored; `error` is why the last write failed, if it did."""

    written: int
    waiting: int
    dropped: int
    error: str | None


class SpanWriter:
    """Thread-safe. `record` never blocks; `flush` and `close` do.

    `redact` takes secrets out of each text before it is stored; another one may be put in its place.
    """

    def __init__(
        self,
        store: Store,
        *,
        flush_interval_s: float = 0.2,
        queue_spans: int = 10_000,
        redact: Callable[[str], str] | None = None,
    ) -> None:
        self._store = store
        self.redact = redact
        self._interval_s = flush_interval_s
        self._bound = queue_spans
        self._queue: deque[Span] = deque()
        self._work = threading.Event()
        self._hurry = threading.Event()
        self._flushed = threading.Condition()
        self._recorded = 0
        self._written = 0
        self._settled = 0
        self._dropped = 0
        self._rounds = 0
        self._error: str | None = None
        self._closing = False
        self._known: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="assay-spans", daemon=True)
        self._thread.start()

    def record(self, span: Span) -> None:
        """Takes a span for storing, or counts it as dropped when the queue is full."""
        if len(self._queue) >= self._bound or self._closing:
            self._dropped += 1
            if self._dropped == 1:
                full = f"the queue of {self._bound} is full ({self._error})"
                log.error("spans are being dropped: %s", "the writer is closed" if self._closing else full)
            return
        self._queue.append(span)
        self._recorded += 1
        if not self._work.is_set():
            self._work.set()

    @property
    def alive(self) -> bool:
        """Whether somebody is there who stores."""
        return self._thread.is_alive()

    @property
    def state(self) -> WriterState:
        return WriterState(self._written, len(self._queue), self._dropped, self._error)

    def flush(self) -> None:
        """Returns when everything recorded so far is stored, or dropped and counted as nothing can store it.

        Raises StorageError when trying that fails.
        """
        with self._flushed:
            target, tries = self._recorded, self._rounds
            self._hurry.set()
            self._work.set()
            self._flushed.wait_for(lambda: self._settled >= target or (self._error and self._rounds > tries))
            if self._settled < target:
                raise StorageError(self._error or "the span writer has stopped")

    def close(self) -> None:
        """Stores what waits and stops. Raises StorageError saying how many spans were lost, if any were."""
        if self._closing:
            return
        self._closing = True
        self._hurry.set()
        self._work.set()
        self._thread.join()
        self._drain()
        if self._queue:
            raise StorageError(f"{len(self._queue)} spans could not be stored: {self._error}")

    def _run(self) -> None:
        while True:
            self._work.wait()
            # Let a batch gather, unless somebody waits for it.
            self._hurry.wait(self._interval_s)
            self._hurry.clear()
            self._work.clear()
            try:
                self._drain()
            except Exception as error:
                # A defect must not end the only thread that stores: it is told, and tried again.
                log.exception("the span writer failed in a way that nobody foresaw")
                self._settle(0, 0, f"{type(error).__name__}: {error}")
            if self._closing:
                return
            if self._error is not None:
                self._hurry.wait(_RETRY_S)
                self._work.set()

    def _drain(self) -> None:
        while self._queue:
            batch = [self._queue[index] for index in range(min(_BATCH, len(self._queue)))]
            try:
                written = self._write(batch)
            except StorageError as error:
                if self._error is None:
                    log.warning("%d spans wait: %s", len(self._queue), error)
                self._settle(0, 0, str(error))
                return
            for _ in batch:
                self._queue.popleft()
            self._settle(len(batch), written, None)

    def _settle(self, settled: int, written: int, error: str | None) -> None:
        with self._flushed:
            self._settled += settled
            self._written += written
            self._error = error
            self._rounds += 1
            self._flushed.notify_all()

    def _write(self, batch: list[Span]) -> int:
        """Stores a batch, or all of it but the spans that nothing can store. Gives how many."""
        # The second try offers every message again: one that was stored once may have been deleted since.
        for last in (False, True):
            try:
                self._insert(batch)
            except (StorageError, *_UNSTORABLE) as error:
                if not _is_the_spans_fault(error):
                    raise
                problem = error
            else:
                return len(batch)
            if last and len(batch) > 1:
                return sum(self._write([span]) for span in batch)
        self._dropped += 1
        log.error("span %s cannot be stored and is dropped: %s", batch[0].span_id, problem)
        return 0

    def _insert(self, batch: list[Span]) -> None:
        nodes: dict[str, MessageRow] = {}
        rows = []
        redact = self.redact
        for span in batch:
            row, needed = span_rows(span, redact)
            rows.append(row)
            # Replies are always offered: nothing but this transaction holds them against being pruned, while
            # a missing message of a conversation is refused by its foreign key, and offered again.
            replies = row["output_ids"] or ""
            for node in needed:
                if node.id not in nodes and (node.id not in self._known or node.id in replies):
                    nodes[node.id] = node if redact is None else redacted(node, redact)
        try:
            with self._store.write() as connection:
                if nodes:
                    _insert(connection, messages, [msgspec.structs.asdict(node) for node in nodes.values()])
                if rows:
                    _insert(connection, spans, rows)
        except StorageError:
            self._known.clear()
            raise
        if len(self._known) > _KNOWN:
            self._known.clear()
        self._known.update(nodes)


def _insert(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    """Rows as the driver takes them: SQLAlchemy's handling of each value takes a quarter of a span's time."""
    statement, values = _statement(connection.dialect, table)
    connection.exec_driver_sql(statement, [values(row) for row in rows])


@lru_cache(maxsize=16)
def _statement(dialect: sa.Dialect, table: sa.Table) -> tuple[str, Callable[[dict[str, Any]], Any]]:
    """The statement, and what it takes of a row. The columns' types must have nothing to convert."""
    # A batch that was stored in part before an error is offered again: what is there already stays as it is.
    compiled = sa.insert(table).prefix_with("OR IGNORE", dialect="sqlite").compile(dialect=dialect)
    return str(compiled), itemgetter(*compiled.positiontup) if compiled.positiontup else dict


# What encoding and the database driver raise for values that they cannot carry.
_UNSTORABLE = (TypeError, ValueError, OverflowError)


def _is_the_spans_fault(error: Exception) -> bool:
    cause = error.__cause__ if isinstance(error, StorageError) else error
    return isinstance(cause, (sa.exc.IntegrityError, sa.exc.DataError, *_UNSTORABLE))
