"""Schema versions: which the code wants, which the store has, and the way between (Alembic)."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from assay.errors import StorageError

HEAD = "0006"
"""The newest revision in migrations/versions; a test holds the two together."""


def migrate(engine: sa.Engine) -> None:
    """Brings the schema to HEAD. Does nothing, quickly, when it is there already.

    Raises StorageError when the store was written by a newer Assay.
    """
    if current(engine) == HEAD:
        return
    # Alembic is slow to import and is needed once in the life of a store.
    from alembic import command
    from alembic.config import Config
    from alembic.util.exc import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.connect().execution_options(assay_write=True) as connection, connection.begin():
        # Another process may have come first while this one waited for the write lock.
        if current(connection) == HEAD:
            return
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise StorageError(
                f"The store {engine.url.database} has schema {current(connection)}, which this "
                f"version of Assay (schema {HEAD}) does not know; install the newer Assay that wrote it"
            ) from error


def current(bind: sa.Engine | sa.Connection) -> str | None:
    """The store's revision; None for an empty store."""
    if not sa.inspect(bind).has_table("alembic_version"):
        return None
    query = sa.select(sa.column("version_num", sa.String)).select_from(sa.table("alembic_version"))
    if isinstance(bind, sa.Engine):
        with bind.connect() as connection:
            return connection.scalar(query)
    return bind.scalar(query)
