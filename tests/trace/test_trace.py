"""The trace store: what was recorded comes back, once, in order, exactly; and trouble is counted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import NotFound, RequestError, StorageError
from assay.storage import Store
from assay.trace import Span, SpanWriter, Tracer, TraceStore, new_span_id, new_trace_id
from assay.trace.rows import dollars, message_rows, pico_dollars
from assay.trace.tables import messages
from assay.types import Cost, Message, Text, Usage, assistant, system, user


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


def call(trace_id: str, *said: Message, answer: str = "yes", **fields: object) -> Span:
    values = {"start_ns": 1, "end_ns": 2, "cost": Cost("exact", Decimal("0.0000021"), "prices 1"), **fields}
    return Span(
        trace_id,
        new_span_id(),
        "chat m",
        "chat",
        model="m",
        provider="p",
        usage=Usage(input=3, cache_read=2, output=4),
        input=said,
        output=(assistant(answer),),
        attributes={"gen_ai.request.temperature": 0.5},
        **values,  # type: ignore[arg-type]
    )


def test_a_span_comes_back_as_it_was(store: Store, writer: SpanWriter) -> None:
    span = call(
        new_trace_id(), system("be brief"), user("hello"), prompt="greet@1", purpose="eval", key_id="k"
    )
    writer.record(span)
    writer.flush()
    assert TraceStore(store).span(span.span_id) == span


def test_otel_names(writer: SpanWriter) -> None:
    names = call(new_trace_id(), user("hi")).otel_attributes()
    assert names["gen_ai.operation.name"] == "chat"
    assert names["gen_ai.usage.input_tokens"] == 5
    assert names["gen_ai.usage.cache_read.input_tokens"] == 2
    assert names["gen_ai.request.temperature"] == 0.5
    assert names["assay.cost.usd"] == "0.0000021"


def test_a_long_conversation_is_stored_once(store: Store, writer: SpanWriter) -> None:
    trace_id, said = new_trace_id(), [system("policy " * 100)]
    for turn in range(50):
        said.append(user(f"question {turn}"))
        writer.record(call(trace_id, *said, answer=f"answer {turn}"))
        said.append(assistant(f"answer {turn}"))
    writer.flush()
    with store.read() as connection:
        stored = connection.scalar(sa.select(sa.func.count()).select_from(messages))
    assert stored == len(said)
    last = TraceStore(store).trace(trace_id)[-1].span
    assert TraceStore(store).span(last.span_id).input == tuple(said[:-1])


def test_messages_deleted_behind_the_writers_back_are_stored_again(store: Store, writer: SpanWriter) -> None:
    first = call(new_trace_id(), user("hi"))
    writer.record(first)
    writer.flush()
    with store.write() as connection:
        connection.execute(sa.text("DELETE FROM spans"))
        connection.execute(sa.text("DELETE FROM messages WHERE parent_id IS NOT NULL"))
        connection.execute(sa.text("DELETE FROM messages"))
    second = call(new_trace_id(), user("hi"), user("more"))
    writer.record(second)
    writer.flush()
    assert TraceStore(store).span(second.span_id) == second


def test_the_tree_and_the_summary(store: Store, writer: SpanWriter) -> None:
    ticks = iter(range(100))
    tracer = Tracer(writer.record, lambda: next(ticks))
    with tracer.span("experiment", "experiment") as root:
        with tracer.span("example 1", "example"):
            writer.record(call(root.trace_id, user("a"), parent_id=root.span_id, start_ns=3))
        with pytest.raises(NotFound), tracer.span("example 2", "example"):
            raise NotFound("no such model")
    writer.flush()
    traces = TraceStore(store)
    (tree,) = traces.trace(root.trace_id[:8])
    assert tree.span.name == "experiment"
    assert [child.span.name for child in tree.children] == ["example 1", "chat m", "example 2"]
    assert tree.children[2].span.error_type == "not_found"
    (summary,) = traces.latest()
    assert (summary.name, summary.spans, summary.errors, summary.calls) == ("experiment", 4, 1, 1)
    assert (summary.tokens_in, summary.tokens_out, summary.cost_usd) == (5, 4, Decimal("0.0000021"))


def test_unknown_costs_are_counted_not_added(store: Store, writer: SpanWriter) -> None:
    trace_id = new_trace_id()
    writer.record(call(trace_id, cost=Cost("unknown", None, "no price for m")))
    writer.record(call(trace_id))
    writer.flush()
    (summary,) = TraceStore(store).latest()
    assert (summary.cost_usd, summary.unpriced) == (Decimal("0.0000021"), 1)


def test_the_newest_come_first_and_pages_do_not_overlap(store: Store, writer: SpanWriter) -> None:
    ids = [new_trace_id() for _ in range(7)]
    for second, trace_id in enumerate(ids):
        writer.record(call(trace_id, start_ns=second, end_ns=second))
    writer.flush()
    traces = TraceStore(store)
    page = traces.latest(4)
    assert [row.trace_id for row in page] == ids[:2:-1]
    assert [row.trace_id for row in traces.latest(4, before_ns=page[-1].active_ns)] == ids[2::-1]
    assert traces.latest(model="other") == []


def test_a_trace_that_lasts_over_others_is_on_one_page_and_hides_none(
    store: Store, writer: SpanWriter
) -> None:
    long, *short = (new_trace_id() for _ in range(5))
    for second in (0, 10):
        writer.record(call(long, start_ns=second, end_ns=second))
    for second, trace_id in enumerate(short, 1):
        writer.record(call(trace_id, start_ns=second, end_ns=second))
    writer.flush()
    traces, seen, before_ns = TraceStore(store), [], None
    while page := traces.latest(2, before_ns=before_ns, model="m"):
        seen += [row.trace_id for row in page]
        before_ns = page[-1].active_ns
    assert seen == [long, *reversed(short)]


def test_ids_that_cannot_be_found_say_what_to_do(store: Store, writer: SpanWriter) -> None:
    traces = TraceStore(store)
    with pytest.raises(NotFound, match="assay trace list"):
        traces.trace("abcd")
    with pytest.raises(RequestError, match="4 or more"):
        traces.span("zz'; DROP TABLE spans")
    for tail in "12":
        writer.record(call("abcd" + tail * 28))
    writer.flush()
    with pytest.raises(RequestError, match="more digits"):
        traces.trace("abcd")


def test_a_span_that_json_cannot_carry_does_not_stop_the_others(store: Store, writer: SpanWriter) -> None:
    broken = Span(new_trace_id(), new_span_id(), "x", "x", 1, 2, attributes={"bad": object()})
    fine = call(new_trace_id(), user("a"))
    surrogate = call(new_trace_id(), Message("user", (Text("\ud800"),)))
    for span in (broken, surrogate, fine):
        writer.record(span)
    writer.flush()
    assert TraceStore(store).count() == 1
    assert writer.state.dropped == 2


def test_a_span_that_the_database_refuses_does_not_stop_the_others(store: Store, writer: SpanWriter) -> None:
    too_many = call(new_trace_id(), user("a"))
    too_many = Span(
        too_many.trace_id, too_many.span_id, "x", "x", 1, 2, usage=Usage(input=10**20), input=(user("b"),)
    )
    surrogate = Span(new_trace_id(), new_span_id(), "x", "x", 1, 2, model="\udcff")
    fine = [call(new_trace_id(), user(f"c {number}")) for number in range(3)]
    for span in (fine[0], too_many, surrogate, *fine[1:], fine[2]):
        writer.record(span)
    writer.flush()
    assert writer.alive
    assert TraceStore(store).count() == 3
    assert writer.state.dropped == 2


def test_a_full_queue_drops_and_counts(store: Store) -> None:
    writer = SpanWriter(store, flush_interval_s=60, queue_spans=3)
    for _ in range(5):
        writer.record(call(new_trace_id()))
    assert (writer.state.waiting, writer.state.dropped) == (3, 2)
    writer.close()
    assert TraceStore(store).count() == 3


def test_spans_wait_while_the_disk_refuses_and_are_stored_after(store: Store) -> None:
    writer = SpanWriter(store, flush_interval_s=0.01)
    with store.write() as connection:
        connection.execute(sa.text("ALTER TABLE spans RENAME TO gone"))
    span = call(new_trace_id(), user("a"))
    writer.record(span)
    with pytest.raises(StorageError):
        writer.flush()
    assert writer.state.waiting == 1
    assert "no such table" in (writer.state.error or "")
    with store.write() as connection:
        connection.execute(sa.text("ALTER TABLE gone RENAME TO spans"))
    writer.flush()
    assert writer.state.error is None
    assert TraceStore(store).span(span.span_id) == span
    writer.close()


def test_a_store_that_was_removed_is_not_taken_for_stored(store: Store) -> None:
    writer = SpanWriter(store, flush_interval_s=0.01)
    writer.record(call(new_trace_id()))
    writer.flush()
    Path(store.path).unlink()
    writer.record(call(new_trace_id()))
    with pytest.raises(StorageError, match="was removed or replaced while it was open"):
        writer.flush()
    with pytest.raises(StorageError, match="removed or replaced"):
        store.check()
    with pytest.raises(StorageError, match="1 spans could not be stored"):
        writer.close()


def test_closing_on_a_dead_disk_says_how_much_was_lost(store: Store) -> None:
    writer = SpanWriter(store, flush_interval_s=0.01)
    with store.write() as connection:
        connection.execute(sa.text("DROP TABLE spans"))
    writer.record(call(new_trace_id()))
    with pytest.raises(StorageError, match="1 spans could not be stored"):
        writer.close()


CHILD = """
    import sys
    from assay.storage import Store
    from assay.trace import Span, SpanWriter, new_span_id, new_trace_id

    writer = SpanWriter(Store.open(sys.argv[1]), flush_interval_s=0.05)
    while True:
        for _ in range(100):
            writer.record(Span(new_trace_id(), new_span_id(), "x", "x", 1, 2))
        writer.flush()
        print(writer.state.written, flush=True)
"""


def test_kill_9_loses_nothing_that_was_acknowledged(store: Store) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), store.url], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    acknowledged = 0
    for line in child.stdout:
        acknowledged = int(line)
        if acknowledged >= 2000:
            break
    os.kill(child.pid, signal.SIGKILL)
    rest = child.stdout.read().split()
    child.wait()
    child.stdout.close()
    acknowledged = int(rest[-1]) if rest else acknowledged
    assert TraceStore(store).count() >= acknowledged
    store.check()


@given(st.lists(st.text(max_size=5), max_size=6), st.lists(st.text(max_size=5), max_size=6))
def test_conversations_share_exactly_their_common_prefix(ours: list[str], theirs: list[str]) -> None:
    common = 0
    while common < min(len(ours), len(theirs)) and ours[common] == theirs[common]:
        common += 1
    first = {row.id for row in message_rows([user(text) for text in ours])}
    second = {row.id for row in message_rows([user(text) for text in theirs])}
    assert len(first & second) == common


@given(st.decimals(min_value=0, max_value=1_000_000, places=12))
def test_money_survives_storage_exactly(usd: Decimal) -> None:
    pico = pico_dollars(Cost("exact", usd))
    assert pico is not None
    assert dollars(pico) == usd
