"""Old spans go, and messages that nobody refers to; what is left is whole, whoever writes meanwhile."""

from __future__ import annotations

import json
import sqlite3
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import NotFound
from assay.storage import Store
from assay.trace import (
    Pruned,
    Span,
    SpanWriter,
    TraceStore,
    days_ago,
    delete_trace,
    new_span_id,
    new_trace_id,
    prune,
    retention,
)
from assay.trace.tables import messages
from assay.types import Message, assistant, system, user


@pytest.fixture
def store(tmp_path: Path):
    opened = Store.open(f"sqlite:///{tmp_path}/assay.db")
    yield opened
    opened.close()


@pytest.fixture
def writer(store: Store):
    opened = SpanWriter(store, flush_interval_s=0.01)
    yield opened
    opened.close()


def call(start_ns: int, *said: Message, answer: str = "yes", trace_id: str = "") -> Span:
    made = trace_id or new_trace_id()
    output = (assistant(answer),)
    return Span(made, new_span_id(), "chat m", "chat", start_ns, start_ns + 1, input=said, output=output)


def bodies(store: Store) -> int:
    with store.read() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(messages)) or 0


def test_old_spans_go_with_the_messages_that_only_they_referred_to(store: Store, writer: SpanWriter) -> None:
    shared = system("be brief")
    old = call(10, shared, user("old"), answer="gone")
    new = call(20, shared, user("new"), answer="stays")
    writer.record(old)
    writer.record(new)
    writer.flush()
    assert bodies(store) == 5
    foreseen = prune(store, 20, dry_run=True)
    assert (foreseen.spans, foreseen.messages) == (1, 2)
    assert bodies(store) == 5
    assert prune(store, 20) == foreseen
    traces = TraceStore(store)
    assert traces.span(new.span_id).input == new.input
    assert traces.span(new.span_id).output == new.output
    with pytest.raises(NotFound):
        traces.span(old.span_id)
    assert bodies(store) == 3
    assert prune(store, 20) == Pruned(0, 0, 0)


def test_one_trace_is_deleted(store: Store, writer: SpanWriter) -> None:
    first = call(10, user("question"), answer="one")
    second = call(10, user("question"), answer="two")
    for span in (first, second):
        writer.record(span)
    writer.flush()
    gone = delete_trace(store, first.trace_id)
    assert (gone.spans, gone.messages) == (1, 1)
    assert TraceStore(store).span(second.span_id).output == second.output
    assert delete_trace(store, second.trace_id).messages == 2
    assert bodies(store) == 0


def test_what_was_pruned_is_stored_again_when_it_is_said_again(store: Store, writer: SpanWriter) -> None:
    for at in (10, 30):
        span = call(at, system("be brief"), user("again"), answer="the same")
        writer.record(span)
        writer.flush()
        found = TraceStore(store).span(span.span_id)
        assert (found.input, found.output) == (span.input, span.output)
        assert prune(store, 20).spans == (at == 10)


def test_a_reply_alone_that_was_pruned_is_stored_again(store: Store, writer: SpanWriter) -> None:
    kept, old = call(30, user("again"), answer="kept"), call(10, user("again"), answer="pruned")
    for span in (kept, old):
        writer.record(span)
    writer.flush()
    prune(store, 20)
    # The question is there still; the writer knows its answer, which is not.
    again = call(40, user("again"), answer="pruned")
    writer.record(again)
    writer.flush()
    assert TraceStore(store).span(again.span_id).output == again.output


def test_what_is_said_while_messages_are_deleted_stays_whole(
    store: Store, writer: SpanWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between any two batches of a sweep another process goes on with the conversation being deleted."""
    monkeypatch.setattr(retention, "BATCH", 1)
    conversation = [user(f"turn {number}") for number in range(6)]
    writer.record(call(10, *conversation))
    writer.flush()
    later: list[Span] = []

    class Watched:
        def __init__(self, connection: sqlite3.Connection) -> None:
            self._connection = connection

        def __getattr__(self, name: str) -> object:
            return getattr(self._connection, name)

        def execute(self, statement: str, *values: object) -> sqlite3.Cursor:
            if statement == "BEGIN IMMEDIATE" and len(later) < 8:
                # As far as it is still there, and further.
                span = call(30, *conversation[: len(later) % 4 + 1], user(f"and {len(later)}"))
                later.append(span)
                writer.record(span)
                writer.flush()
            return self._connection.execute(statement, *values)

    maintenance = Store.maintenance

    @contextmanager
    def watched(self: Store):
        with maintenance(self) as connection:
            yield Watched(connection)

    monkeypatch.setattr(Store, "maintenance", watched)
    prune(store, 20)
    assert len(later) > 2
    for span in later:
        found = TraceStore(store).span(span.span_id)
        assert (found.input, found.output) == (span.input, span.output)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.lists(st.integers(0, 2), max_size=4), st.integers(0, 2)), max_size=12
    ),
    st.integers(0, 10),
)
def test_any_history_keeps_what_is_young_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, history: list[tuple[int, list[int], int]], before: int
) -> None:
    store = Store.open(f"sqlite:///{tmp_path_factory.mktemp('p')}/assay.db")
    writer = SpanWriter(store, flush_interval_s=0.001)
    recorded = [
        call(at, *(user(str(word)) for word in words), answer=str(answer)) for at, words, answer in history
    ]
    for span in recorded:
        writer.record(span)
    writer.flush()
    foreseen = prune(store, before, dry_run=True)
    assert prune(store, before) == foreseen
    young = [span for span in recorded if span.start_ns >= before]
    traces = TraceStore(store)
    assert traces.count() == len(young)
    needed = set()
    for span in young:
        found = traces.span(span.span_id)
        assert (found.input, found.output) == (span.input, span.output)
        path = tuple(message.text for message in span.input)
        needed |= {("in", path[: end + 1]) for end in range(len(path))}
        needed.add(("in", (*path, span.output[0].text, "assistant")))
    assert bodies(store) == len(needed)
    writer.close()
    store.close()


def test_ages_are_told_from_now() -> None:
    assert days_ago(1, lambda: 86_400 * 10**9 + 5) == 5


def test_the_command_line_prunes_and_deletes(tmp_path: Path, assay) -> None:
    store = Store.open(f"sqlite:///{tmp_path}/.assay/assay.db")
    writer = SpanWriter(store)
    now = days_ago(0)
    old, new = call(days_ago(40), user("old")), call(now, user("new"))
    for span in (old, new):
        writer.record(span)
    writer.close()
    said = assay("trace", "prune", "--older-than", "30d", "--dry-run")
    assert "Would delete 1 spans and 2 messages" in said.out, said.err
    assert TraceStore(store).count() == 2
    said = assay("trace", "prune", "--older-than", "30d", "--json")
    assert json.loads(said.out)["spans"] == 1
    said = assay("trace", "delete", new.trace_id[:8])
    assert "Deleted 1 spans and 2 messages" in said.out
    assert TraceStore(store).count() == 0
    assert assay("trace", "delete", new.trace_id[:8]).status == 3
    said = assay("trace", "prune", "--older-than", "soon")
    assert said.status == 3
    assert "30d" in said.err
    store.close()


def test_what_keep_days_has_expired_goes_by_itself(serve, tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path}/.assay/assay.db")
    writer = SpanWriter(store)
    old, new = call(days_ago(40), user("old")), call(days_ago(20), user("new"))
    for span in (old, new):
        writer.record(span)
    writer.close()
    store.close()
    served = serve("[trace]\nkeep_days = 30\n", root=tmp_path)
    store = Store.open(f"sqlite:///{tmp_path}/.assay/assay.db")
    while TraceStore(store).count() > 1:
        assert served.process.poll() is None
    assert TraceStore(store).span(new.span_id).start_ns == new.start_ns
    store.close()
