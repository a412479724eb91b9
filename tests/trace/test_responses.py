"""Going on from an earlier reply: found by its id, whole, once deleted never again, and only by its owner."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from assay.errors import NotFound
from assay.storage import Store
from assay.storage import migrate as migrations
from assay.trace import Span, SpanWriter, TraceStore, new_span_id, new_trace_id
from assay.types import Message, assistant, system, user


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(f"sqlite:///{tmp_path}/assay.db")
    yield opened
    opened.close()


@pytest.fixture
def writer(store: Store) -> Iterator[SpanWriter]:
    opened = SpanWriter(store, flush_interval_s=0.01)
    yield opened
    opened.close()


@pytest.fixture
def traces(store: Store) -> TraceStore:
    return TraceStore(store)


def call(response_id: str | None, *said: Message, answer: str = "yes", **fields: object) -> Span:
    values: dict[str, object] = {
        "start_ns": 1,
        "end_ns": 2,
        "input": said,
        "output": (assistant(answer),),
        "response_id": response_id,
        **fields,
    }
    return Span(new_trace_id(), new_span_id(), "chat m", "chat", **values)  # type: ignore[arg-type]


def stored(writer: SpanWriter, *spans: Span) -> None:
    for span in spans:
        writer.record(span)
    writer.flush()


def test_a_conversation_is_what_was_said_and_the_reply(writer: SpanWriter, traces: TraceStore) -> None:
    span = call("resp_1", system("be brief"), user("hello"), answer="hi")
    stored(writer, span)
    assert traces.conversation("resp_1") == (system("be brief"), user("hello"), assistant("hi"))
    assert traces.response("resp_1") == span
    assert traces.span(span.span_id) == span


def test_an_id_that_nobody_knows_is_none(writer: SpanWriter, traces: TraceStore) -> None:
    stored(writer, call(None, user("hello")))
    assert traces.conversation("resp_1") is None
    assert traces.response("resp_1") is None
    assert not traces.forget_response("resp_1")


def test_a_call_that_failed_is_not_gone_on_from(writer: SpanWriter, traces: TraceStore) -> None:
    stored(writer, call("resp_1", user("hello"), status="error"))
    assert traces.conversation("resp_1") is None


def test_a_reply_whose_words_were_not_recorded_says_so(writer: SpanWriter, traces: TraceStore) -> None:
    stored(writer, call("resp_1", output=()))
    with pytest.raises(NotFound, match="was not recorded; set capture_content") as caught:
        traces.conversation("resp_1")
    assert caught.value.code == "content_not_captured"


def test_only_the_key_that_called_finds_it(writer: SpanWriter, traces: TraceStore) -> None:
    stored(writer, call("resp_1", user("secret"), key_id="a"))
    assert traces.conversation("resp_1", key_id="b") is None
    assert not traces.forget_response("resp_1", key_id="b")
    assert traces.conversation("resp_1", key_id="a") is not None


def test_an_id_that_is_used_again_means_the_newest(writer: SpanWriter, traces: TraceStore) -> None:
    stored(writer, call("r", user("new"), start_ns=5), call("r", user("old"), start_ns=3))
    found = traces.conversation("r")
    assert found is not None
    assert found[0] == user("new")


def test_a_forgotten_reply_is_gone_and_its_span_is_not(writer: SpanWriter, traces: TraceStore) -> None:
    span = call("resp_1", user("hello"))
    again = call("resp_1", user("hello"), start_ns=7)
    stored(writer, span, again)
    assert not traces.forgotten_response("resp_1")
    assert traces.forget_response("resp_1")
    assert traces.forgotten_response("resp_1")
    assert traces.conversation("resp_1") is None
    assert traces.span(span.span_id).input == (user("hello"),)
    assert traces.count() == 2
    assert not traces.forget_response("resp_1")


def test_a_store_from_before_gets_the_column_and_keeps_its_spans(tmp_path: Path) -> None:
    new, file = tmp_path / "new.db", tmp_path / "assay.db"
    store = Store.open(f"sqlite:///{new}")
    with closing(SpanWriter(store, flush_interval_s=0.01)) as writer:
        stored(writer, call("resp_1", user("hello")))
    store.close()
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent / "migrations"))
    engine = sa.create_engine(f"sqlite:///{file}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    engine.dispose()
    with closing(sqlite3.connect(file)) as old:
        old.execute("ATTACH ? AS new", (str(new),))
        for table in ("messages", "spans"):
            names = ", ".join(row[1] for row in old.execute(f"PRAGMA main.table_info({table})"))
            old.execute(f"INSERT INTO main.{table} ({names}) SELECT {names} FROM new.{table}")
        old.commit()
    store = Store.open(f"sqlite:///{file}")
    traces = TraceStore(store)
    assert traces.count() == 1
    assert traces.response("resp_1") is None
    store.close()
