"""Versions of datasets in the store: saved once by content, found by name. Files are assay.evals.jsonl's."""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Sequence

import msgspec
import sqlalchemy as sa

from assay.errors import NotFound, RequestError
from assay.evals.dataset import Dataset, Example
from assay.evals.tables import datasets, examples, members
from assay.storage import Store
from assay.types import Value

_CHUNK = 500
_HEX = frozenset("0123456789abcdef")


class DatasetVersion(Value):
    """One version in a list: how many examples it has, and when it was last saved."""

    name: str
    digest: str
    size: int
    saved_ns: int

    @property
    def ref(self) -> str:
        return f"{self.name}@{self.digest[:12]}"


class DatasetStore:
    """Datasets in and out of the store. Calls block; all raise StorageError when the store fails."""

    def __init__(self, store: Store, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._store = store
        self._clock_ns = clock_ns

    def save(self, dataset: Dataset) -> DatasetVersion:
        """Stores what is not there yet. What was saved last, new or not, is what its name stands for."""
        with self._store.write() as connection:
            same = (datasets.c.digest == dataset.digest, datasets.c.name == dataset.name)
            known = connection.scalar(sa.select(datasets.c.saved_ns).where(*same))
            latest = connection.scalar(
                sa.select(sa.func.max(datasets.c.saved_ns)).where(datasets.c.name == dataset.name)
            )
            if known is not None and known == latest:
                return DatasetVersion(dataset.name, dataset.digest, len(dataset), known)
            version = DatasetVersion(
                dataset.name, dataset.digest, len(dataset), max(self._clock_ns(), (latest or 0) + 1)
            )
            if known is not None:
                connection.execute(sa.update(datasets).where(*same).values(saved_ns=version.saved_ns))
            else:
                _insert(connection, dataset, version)
        return version

    def get(self, reference: str) -> Dataset:
        """`name` is the version saved last; `name@1a2b3c` the one whose digest begins so.

        Raises NotFound with the nearest name, or RequestError when several versions begin so.
        """
        name, at, prefix = reference.partition("@")
        if at and (not prefix or not set(prefix) <= _HEX):
            raise RequestError(f"{reference!r}: after '@' stands the beginning of a version's hex digits")
        versions = [one for one in self.versions(name) if one.digest.startswith(prefix)]
        if not versions:
            raise NotFound(f"There is no dataset {reference!r}{self._hint(name)}")
        if at and len(versions) > 1:
            found = ", ".join(version.ref for version in versions[:5])
            raise RequestError(f"More than one version begins with {reference} ({found}); give more digits")
        return self._load(name, versions[0].digest)

    def list(self) -> tuple[DatasetVersion, ...]:
        """The latest version of every dataset, by name."""
        with self._store.read() as connection:
            rows = connection.execute(sa.select(datasets).order_by(datasets.c.name, datasets.c.saved_ns))
            latest = {row["name"]: DatasetVersion(**row) for row in rows.mappings()}
        return tuple(latest.values())

    def versions(self, name: str) -> tuple[DatasetVersion, ...]:
        """All versions of one dataset, the latest first; empty when there is none."""
        query = sa.select(datasets).where(datasets.c.name == name).order_by(datasets.c.saved_ns.desc())
        with self._store.read() as connection:
            return tuple(DatasetVersion(**row) for row in connection.execute(query).mappings())

    def _load(self, name: str, digest: str) -> Dataset:
        query = (
            sa.select(examples.c.body)
            .join(members, members.c.example_id == examples.c.example_id)
            .where(members.c.digest == digest)
            .order_by(members.c.position)
        )
        with self._store.read() as connection:
            return Dataset(name, tuple(Example(**body) for body in connection.scalars(query)))

    def _hint(self, name: str) -> str:
        versions = self.versions(name)
        if versions:
            return f"; {name} has {', '.join(version.digest[:12] for version in versions[:5])}"
        names = [version.name for version in self.list()]
        near = difflib.get_close_matches(name, names, 1)
        if near:
            return f"; did you mean {near[0]}?"
        return f" (there are: {', '.join(names[:10])})" if names else "; none is stored yet"


def _insert(connection: sa.Connection, dataset: Dataset, version: DatasetVersion) -> None:
    ids = [example.id for example in dataset.examples]
    stored = _known(connection, examples.c.example_id, ids)
    fresh = [
        {"example_id": example.id, "body": example}
        for example in dataset.examples
        if example.id not in stored
    ]
    if fresh:
        connection.execute(sa.insert(examples), fresh)
    if not _known(connection, members.c.digest, [dataset.digest]):
        rows = [
            {"digest": dataset.digest, "position": place, "example_id": example_id}
            for place, example_id in enumerate(ids)
        ]
        connection.execute(sa.insert(members), rows)
    connection.execute(sa.insert(datasets), msgspec.structs.asdict(version))


def _known(connection: sa.Connection, column: sa.Column[str], wanted: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for start in range(0, len(wanted), _CHUNK):
        query = sa.select(column).where(column.in_(wanted[start : start + _CHUNK])).distinct()
        found.update(connection.scalars(query))
    return found
