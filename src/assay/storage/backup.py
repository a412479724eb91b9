"""Copies of a store that is in use: consistent, compact and verified. Putting one back is copying a file."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from assay.errors import Conflict, NotFound, StorageError
from assay.storage.health import Health, inspect


def backup(store: Path, target: Path) -> Health:
    """Writes a copy of the store in the file `store`, as it is at this moment, to the new file `target`.

    Writers go on meanwhile; what they write after the start is not in the copy, nor is what was deleted
    before. `target` appears, readable by its owner alone, when it is whole and was checked; one that is
    there already stays as it is. Raises NotFound, Conflict or StorageError.
    """
    if not store.is_file():
        raise NotFound(f"There is no store at {store}; run this where the assay.toml of the store is")
    if target.exists() or target.is_symlink():
        raise Conflict(f"{target} exists and is not overwritten; name another file")
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        # SQLite takes an empty file for a new database: this one is nobody else's to read.
        part.touch(mode=0o600, exist_ok=False)
        _copy(store, part)
        health = inspect(part, thorough=True)
        if health is None or health.damage or health.revision is None:
            found = "; ".join(health.damage) if health is not None else ""
            raise StorageError(f"The copy of {store} is not sound ({found}); run 'assay doctor'")
        _sync(part)
        # A link, not a rename: it fails where somebody else was first.
        os.link(part, target)
        _sync(target.parent)
    except FileExistsError:
        raise Conflict(f"{target} exists and is not overwritten; name another file") from None
    except OSError as error:
        raise StorageError(f"The backup {target} cannot be written ({error.strerror})") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
    return Health(str(target), health.bytes, health.revision)


def _copy(store: Path, part: Path) -> None:
    connection = sqlite3.connect(f"{store.resolve().as_uri()}?mode=ro", uri=True, timeout=10.0)
    try:
        connection.execute("VACUUM INTO ?", (str(part),))
    except sqlite3.Error as error:
        raise StorageError(f"The store {store} cannot be copied ({error}); run 'assay doctor'") from error
    finally:
        connection.close()


def _sync(path: Path) -> None:
    """Until the disk has it."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
