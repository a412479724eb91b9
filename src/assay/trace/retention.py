"""How long traces are kept: deleting old spans, one trace, and the messages that nobody refers to any more.

A message is found by going up from what spans refer to; nothing points from a message to its spans, because
an index that did would cost every call a third of what storing it costs. So what is left over is found by one
pass over the spans, in SQLite, outside of any write; writers are held up by the short deletes alone.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from typing import Final

import sqlalchemy as sa

from assay.storage import Store
from assay.trace.tables import spans
from assay.types import Value

BATCH: Final = 500
"""How many rows one transaction deletes."""
_DAY_NS: Final = 86_400 * 10**9


class Pruned(Value):
    """What was deleted, or would be: spans, messages, and the bytes of those messages."""

    spans: int
    messages: int
    bytes: int


def days_ago(days: float, clock_ns: Callable[[], int] = time.time_ns) -> int:
    """That moment, in nanoseconds since 1970."""
    return clock_ns() - int(days * _DAY_NS)


def prune(store: Store, before_ns: int, *, dry_run: bool = False) -> Pruned:
    """Deletes the spans that began before `before_ns`, and then the messages that only they referred to.

    Blocks; the file does not shrink, its free pages are used again. Raises StorageError.
    """
    old = spans.c.start_ns < before_ns
    if dry_run:
        return _would(store, before_ns)
    deleted = _delete(store, sa.select(spans.c.span_id).where(old).order_by(spans.c.start_ns))
    return _swept(store, deleted)


def delete_trace(store: Store, trace_id: str) -> Pruned:
    """Deletes the spans of the trace with this whole id, and the messages that only they referred to."""
    return _swept(store, _delete(store, sa.select(spans.c.span_id).where(spans.c.trace_id == trace_id)))


def _delete(store: Store, which: sa.Select[tuple[str]]) -> int:
    total = 0
    while True:
        with store.write() as connection:
            batch = which.limit(BATCH)
            count = connection.execute(sa.delete(spans).where(spans.c.span_id.in_(batch))).rowcount
        total += count
        if count < BATCH:
            return total


_OUTPUTS = """json_each('["' || replace(spans.output_ids, ' ', '","') || '"]')"""
_REFERRED = f"""
    SELECT input_id AS id FROM spans WHERE input_id IS NOT NULL AND {{which}}
    UNION
    SELECT value FROM spans, {_OUTPUTS} WHERE output_ids IS NOT NULL AND {{which}}
"""  # noqa: S608  (`which` is one of the constants below)
_NEEDED = f"""
    WITH RECURSIVE up(id) AS (
        {_REFERRED}
        UNION
        SELECT messages.parent_id FROM up JOIN messages ON messages.id = up.id
        WHERE messages.parent_id IS NOT NULL
    )
    SELECT id FROM up
"""  # noqa: S608
_ALL, _KEPT, _NEW = "1", "start_ns >= :before", "spans.rowid > :mark"


def _would(store: Store, before_ns: int) -> Pruned:
    with store.maintenance() as connection:
        connection.execute("BEGIN")
        at = {"before": before_ns}
        (count,) = connection.execute("SELECT count(*) FROM spans WHERE start_ns < :before", at).fetchone()
        _find(connection, _NEEDED.format(which=_KEPT), at)
        messages, size = connection.execute(
            "SELECT count(*), coalesce(sum(length(CAST(body AS BLOB))), 0) FROM messages JOIN dead USING (id)"
        ).fetchone()
        connection.execute("ROLLBACK")
    return Pruned(count, messages, size)


def _find(connection: sqlite3.Connection, needed: str, parameters: dict[str, int]) -> None:
    """Fills temp.dead with the messages that are not `needed`."""
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS needed (id TEXT PRIMARY KEY) WITHOUT ROWID")
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS dead (number INTEGER PRIMARY KEY, id TEXT UNIQUE)")
    connection.execute("DELETE FROM needed")
    connection.execute("DELETE FROM dead")
    connection.execute(f"INSERT INTO needed {needed}", parameters)
    connection.execute("INSERT INTO dead SELECT rowid, id FROM messages WHERE id NOT IN needed")


def _swept(store: Store, deleted: int) -> Pruned:
    """Deletes messages until a pass over the spans finds none that nobody needs."""
    count = size = 0
    with store.maintenance() as connection:
        whole = False
        while not whole:
            connection.execute("BEGIN")
            newest = _newest(connection)
            _find(connection, _NEEDED.format(which=_ALL), {})
            connection.execute("COMMIT")
            whole, removed, freed = _bury(connection, newest)
            count += removed
            size += freed
    return Pruned(deleted, count, size)


def _newest(connection: sqlite3.Connection) -> tuple[int, str]:
    row = connection.execute("SELECT rowid, span_id FROM spans ORDER BY rowid DESC LIMIT 1").fetchone()
    return (0, "") if row is None else (row[0], row[1])


def _bury(connection: sqlite3.Connection, newest: tuple[int, str]) -> tuple[bool, int, int]:
    """Deletes what is in temp.dead, a batch at a time. False where the search has to be done again."""
    count = size = 0
    while True:
        connection.execute("BEGIN IMMEDIATE")
        try:
            found = _next(connection, newest)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        if found is None:
            return False, count, size
        lengths, newest, over = found
        count += len(lengths)
        size += sum(lengths)
        if over:
            return True, count, size


def _next(
    connection: sqlite3.Connection, newest: tuple[int, str]
) -> tuple[list[int], tuple[int, str], bool] | None:
    """Deletes one batch; what spans that came since refer to is left.

    None where the newest span of the search is gone: its number may be another's by now, and what came since
    cannot be told.
    """
    mark, span_id = newest
    row = connection.execute("SELECT span_id FROM spans WHERE rowid = ?", (mark,)).fetchone()
    if mark and (row is None or row[0] != span_id):
        return None
    since = _NEEDED.format(which=_NEW)
    connection.execute(f"DELETE FROM dead WHERE id IN ({since})", {"mark": mark})  # noqa: S608
    # The newest first: what follows a message in a conversation goes before it.
    batch = connection.execute(
        "SELECT number, id FROM dead ORDER BY number DESC LIMIT ?", (BATCH,)
    ).fetchall()
    lengths = []
    for number, message_id in batch:
        delete = "DELETE FROM messages WHERE id = ? RETURNING length(CAST(body AS BLOB))"
        lengths += [length for (length,) in connection.execute(delete, (message_id,)).fetchall()]
        connection.execute("DELETE FROM dead WHERE number = ?", (number,))
    return lengths, _newest(connection), len(batch) < BATCH
