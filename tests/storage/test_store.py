"""The store: made where needed, versioned, and clear about what is wrong with it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import assay.evals.tables
import assay.gateway.replies
import assay.gateway.spending.tables
import assay.keys.tables
import assay.prompts.tables
import assay.runs.tables
import assay.trace.tables  # each room declares its tables on import
from assay.errors import StorageError
from assay.storage import Store, metadata
from assay.storage.migrate import HEAD


@pytest.fixture
def store(tmp_path: Path):
    opened = Store.open(f"sqlite:///{tmp_path}/deep/down/assay.db")
    yield opened
    opened.close()


def test_the_migrations_make_the_tables_that_the_rooms_declare(store: Store) -> None:
    with store.read() as connection:
        difference = compare_metadata(MigrationContext.configure(connection), metadata)
    assert difference == []


def test_head_is_the_newest_migration() -> None:
    folder = Path(assay.trace.tables.__file__).parents[1] / "storage" / "migrations"
    assert ScriptDirectory(str(folder)).get_current_head() == HEAD


def test_sqlite_runs_in_wal_mode_with_foreign_keys(store: Store) -> None:
    with store.read() as connection:
        assert connection.scalar(sa.text("PRAGMA journal_mode")) == "wal"
        assert connection.scalar(sa.text("PRAGMA foreign_keys")) == 1


def test_a_write_that_fails_leaves_nothing(store: Store) -> None:
    insert = sa.insert(assay.evals.tables.examples)
    with pytest.raises(RuntimeError), store.write() as connection:
        connection.execute(insert, {"example_id": "a", "body": {"x": 1}})
        raise RuntimeError
    with store.read() as connection:
        assert connection.execute(sa.select(assay.evals.tables.examples)).all() == []


def test_a_read_does_not_wait_for_a_writer(store: Store) -> None:
    with store.write() as writer:
        writer.execute(sa.insert(assay.evals.tables.examples), {"example_id": "a", "body": {}})
        with store.read() as reader:
            assert reader.execute(sa.select(assay.evals.tables.examples)).all() == []


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    file = tmp_path / "assay.db"
    file.write_text("these are my notes, not a database; " * 100)
    with pytest.raises(StorageError, match=r"assay\.db is not an Assay store; move it away"):
        Store.open(f"sqlite:///{file}")
    assert file.read_text().startswith("these are my notes")


def test_a_store_of_a_newer_assay_is_refused_and_kept(store: Store) -> None:
    with store.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StorageError, match=r"schema 9999.*install the newer Assay"):
        Store.open(store.url)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot be made .*\[storage\] url"):
        Store.open(f"sqlite:///{tmp_path}/file/assay.db")


def test_a_read_only_store_says_what_to_do(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/assay.db"
    Store.open(url).close()
    # Root may write to files without the permission, so the database itself is told to refuse.
    store = Store.open(f"sqlite:///file:{tmp_path}/assay.db?mode=ro&uri=true")
    with pytest.raises(StorageError, match="is read-only; make the file and its folder writable"):
        store.check()
    store.close()


def test_a_full_disk_says_what_to_do_and_keeps_what_was_stored(store: Store) -> None:
    insert = sa.insert(assay.evals.tables.examples)
    with store.write() as connection:
        connection.execute(insert, {"example_id": "kept", "body": {}})
    with pytest.raises(StorageError, match="disk is full"), store.write() as connection:
        pages = connection.scalar(sa.text("PRAGMA page_count"))
        connection.execute(sa.text(f"PRAGMA max_page_count = {pages}"))
        connection.execute(insert, {"example_id": "big", "body": {"x": "y" * 1_000_000}})
    with store.read() as connection:
        assert connection.scalars(sa.select(assay.evals.tables.examples.c.example_id)).all() == ["kept"]


def test_the_store_is_not_readable_by_others(store: Store) -> None:
    assert Path(store.path).parent.stat().st_mode & 0o077 == 0
    assert Path(store.path).stat().st_mode & 0o077 == 0


def test_the_driver_is_new_enough_for_what_we_use() -> None:
    assert sqlite3.sqlite_version_info >= (3, 35)
