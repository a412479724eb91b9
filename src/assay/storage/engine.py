"""The store: engine, transactions and the translation of its errors. Rooms own their tables and SQL.

A room declares its tables on `metadata` and reads and writes through a `Store`:

    with store.read() as connection: ...
    with store.write() as connection: ...     # BEGIN IMMEDIATE ... COMMIT, or nothing at all

Both raise StorageError, and nothing else, when the database cannot do its part. Calls block: from async
code run them in a thread (`anyio.to_thread.run_sync`).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from assay.errors import StorageError
from assay.storage.migrate import migrate

metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    }
)


class Json(sa.types.TypeDecorator[Any]):
    """JSON in a text column, by msgspec: the same bytes on every database."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:
        return None if value is None else msgspec.json.encode(value).decode()

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> Any:
        return None if value is None else msgspec.json.decode(value)


class Store:
    """One database. Thread-safe; close it when done."""

    def __init__(self, engine: sa.Engine, url: str, *, busy_timeout_s: float = 10.0) -> None:
        self._engine = engine
        self._busy_timeout_s = busy_timeout_s
        self.url = url
        self._file = _identity(engine)

    @classmethod
    def open(cls, url: str, *, busy_timeout_s: float = 10.0) -> Store:
        """Opens, creates where needed, and brings the schema up to date.

        Raises StorageError when the path cannot be used, or was written by a newer Assay.
        """
        parsed = sa.make_url(url)
        where = parsed.database or url
        with _translated(where):
            if parsed.database and not parsed.database.startswith((":memory:", "file:")):
                _make_folder(Path(parsed.database).parent)
                # What is said to models is nobody else's to read. SQLite gives its other files the same mode.
                _touch(Path(parsed.database))
            engine = sa.create_engine(parsed, connect_args={"timeout": busy_timeout_s}, pool_size=8)
            event.listen(engine, "connect", _configure)
            event.listen(engine, "begin", _begin)
            try:
                migrate(engine)
            except BaseException:
                engine.dispose()
                raise
            return cls(engine, url, busy_timeout_s=busy_timeout_s)

    @property
    def path(self) -> str:
        """The file, for messages."""
        return self._engine.url.database or self.url

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A connection that sees one consistent state."""
        with _translated(self.path), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """One transaction, held from its first moment so that two writers queue rather than fail."""
        if self._file != _identity(self._engine):
            raise StorageError(
                f"The store {self.path} was removed or replaced while it was open; put it back, or restart"
            )
        with _translated(self.path), self._engine.connect() as connection:
            connection = connection.execution_options(assay_write=True)
            with connection.begin():
                yield connection

    @contextmanager
    def maintenance(self) -> Iterator[sqlite3.Connection]:
        """A connection of its own for work on the whole store, outside of transactions unless it begins one.

        Foreign keys are not enforced on it: whoever deletes here has looked for what still refers to it.
        """
        with _translated(self.path):
            connection = sqlite3.connect(self.path, timeout=self._busy_timeout_s, isolation_level=None)
            try:
                # What it puts aside may be as large as the store.
                connection.execute("PRAGMA temp_store = FILE")
                yield connection
            finally:
                connection.close()

    def check(self) -> None:
        """Raises StorageError unless the store can be written to right now."""
        with self.write() as connection:
            connection.execute(sa.text("CREATE TABLE IF NOT EXISTS assay_probe (at_ns BIGINT)"))
            connection.execute(sa.text("DELETE FROM assay_probe"))
            connection.execute(sa.text("INSERT INTO assay_probe VALUES (:now)"), {"now": time.time_ns()})

    def close(self) -> None:
        self._engine.dispose()


def _touch(file: Path) -> None:
    try:
        file.touch(mode=0o600)
    except OSError as error:
        raise StorageError(_advice(f"unable to open: {error.strerror}", str(file))) from error


def _identity(engine: sa.Engine) -> tuple[int, int] | None:
    """Which file it is, whatever its name; None when there is none."""
    try:
        found = Path(engine.url.database or "").stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _make_folder(folder: Path) -> None:
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True, mode=0o700)
    except OSError as error:
        raise StorageError(
            f"The folder {folder} for the store cannot be made ({error.strerror}); "
            f"make it, or set [storage] url in assay.toml to a place you can write to"
        ) from error


def _configure(connection: Any, _record: Any) -> None:
    # The driver's own implicit transactions are off: `_begin` says what kind each one is.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "temp_store=MEMORY"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: sa.Connection) -> None:
    write = connection.get_execution_options().get("assay_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


@contextmanager
def _translated(where: str) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        raise StorageError(_advice(str(error.orig), where)) from error
    except sqlite3.Error as error:
        raise StorageError(_advice(str(error), where)) from error
    except SQLAlchemyError as error:
        raise StorageError(f"The store {where} failed: {error}") from error


_ADVICE = {
    "readonly": "is read-only; make the file and its folder writable, or set [storage] url elsewhere",
    "disk is full": "cannot grow: the disk is full; free some space (nothing that was stored is lost)",
    "disk i/o": "cannot be read or written: the disk reports an error; check the disk and its free space",
    "locked": "is held by another process for too long; stop other writers or try again",
    "unable to open": "cannot be opened; check that its folder exists and that you may write there",
    "not a database": "is not an Assay store; move it away, or set [storage] url elsewhere",
    "malformed": "is damaged; restore a backup, or move it away to start anew",
}


def _advice(reason: str, where: str) -> str:
    lowered = reason.lower()
    for sign, advice in _ADVICE.items():
        if sign in lowered:
            return f"The store {where} {advice} ({reason})"
    return f"The store {where} failed: {reason}"
