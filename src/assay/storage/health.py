"""How a store is, without changing it: its schema, its integrity, its size. Opening one is .engine's."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from assay.errors import StorageError
from assay.types import Value


class Health(Value):
    """`revision` is the schema's, None where there is none; `damage` what SQLite found, if anything."""

    path: str
    bytes: int
    revision: str | None
    damage: tuple[str, ...] = ()


def inspect(file: Path, *, thorough: bool = False) -> Health | None:
    """Looks at the store in `file`; None when there is no file. Writers are not held up meanwhile.

    `thorough` compares the indexes with their tables too, which takes several times as long. Raises
    StorageError when it cannot be read at all.
    """
    if not file.is_file():
        return None
    try:
        connection = sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=10.0)
        try:
            pragma = "integrity_check" if thorough else "quick_check"
            found = [str(row[0]) for row in connection.execute(f"PRAGMA {pragma}(10)")]
            has_schema = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'")
            revision = None
            if has_schema.fetchone():
                row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
                revision = None if row is None else str(row[0])
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise StorageError(
            f"The store {file} cannot be read ({error}); restore a backup, or move it away to start anew"
        ) from error
    size = sum(part.stat().st_size for part in (file, Path(f"{file}-wal")) if part.is_file())
    return Health(str(file), size, revision, () if found == ["ok"] else tuple(found))
