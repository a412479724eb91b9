"""The log of durable runs: what was begun and every step's outcome. Who may write to it is assay.runs.lease.

A run resumes by folding its log: a step whose key has an outcome is never executed again. The log only
grows, a row a step, and each row is committed before the next step depends on it; SQLite in WAL mode keeps
what was committed when the process is killed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator
from hashlib import blake2b
from typing import Any, Literal, TypeAlias, TypeVar

import msgspec
import sqlalchemy as sa

from assay.errors import Conflict, NotFound, RequestError
from assay.runs.lease import Lease, Owner
from assay.runs.tables import runs, steps
from assay.storage import Store
from assay.types import JSON, Value

State = TypeVar("State")
Status: TypeAlias = Literal["open", "finished", "failed", "cancelled"]
"""`open` is begun and not ended; whether somebody works on it right now is its lease's to say."""

LEASE_S = 60.0
_UNFINISHED: tuple[Status, ...] = ("open",)
_PREFIX_DIGITS = 4


class Run(Value):
    """One execution. `spec` says all that its steps depend on; `spec_digest` is that in 32 hex digits."""

    run_id: str
    kind: str
    name: str
    spec: JSON
    spec_digest: str
    status: Status
    trace_id: str
    created_ns: int
    ended_ns: int | None = None
    lease_owner: str | None = None
    lease_until_ns: int | None = None


class Step(Value):
    """The outcome of one durable action; `seq` counts from 1 within its run."""

    seq: int
    key: str
    body: JSON
    at_ns: int


class RunLog:
    """Runs in and out of the store. Calls block; all raise StorageError when the store cannot do its part."""

    def __init__(self, store: Store, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._store = store
        self._clock_ns = clock_ns

    # --- beginning and working ---------------------------------------------------------------------

    def begin(
        self, kind: str, name: str, spec: JSON, *, trace_id: str, reuse: Collection[Status] = _UNFINISHED
    ) -> Run:
        """The newest run of this kind and spec if its status is in `reuse`, else a new one.

        So the same command finds the run that it began before. `reuse=()` always begins anew.
        """
        digest = spec_digest(kind, spec)
        spec = msgspec.json.decode(msgspec.json.encode(spec))
        with self._store.write() as connection:
            newest = _newest(connection, digest)
            if newest is not None and newest.status in reuse:
                return newest
            now = self._clock_ns()
            if newest is not None:
                now = max(now, newest.created_ns + 1)
            run = Run(os.urandom(16).hex(), kind, name, spec, digest, "open", trace_id, now)
            connection.execute(sa.insert(runs), msgspec.structs.asdict(run))
        return run

    def rename(self, run_id: str, name: str) -> Run:
        """The run under another name: names are for people, and the last one given counts."""
        with self._store.write() as connection:
            connection.execute(sa.update(runs).where(runs.c.run_id == run_id).values(name=name))
            return _whole(connection, run_id)

    def find(self, kind: str, spec: JSON) -> Run | None:
        """The newest run of this kind and spec, whatever its status."""
        with self._store.read() as connection:
            return _newest(connection, spec_digest(kind, spec))

    def acquire(self, run_id: str, owner: Owner | None = None, *, ttl_s: float = LEASE_S) -> Lease:
        """The right to write to a run, for `ttl_s` seconds from now and from each renewal.

        Raises Conflict while another owner holds it, unless its time is over or its process is gone from
        this host; and when the run has ended.
        """
        owner = owner or Owner.here()
        with self._store.write() as connection:
            run = _whole(connection, run_id)
            if run.status != "open":
                raise Conflict(f"Run {run_id[:8]} is {run.status}; nothing can be added to it")
            held = run.lease_owner is not None and run.lease_owner != str(owner)
            if held and self._clock_ns() < (run.lease_until_ns or 0):
                holder = Owner.parse(run.lease_owner or "")
                if not holder.gone():
                    raise Conflict(_held(run, holder))
            lease = Lease(self._store, self._clock_ns, run_id, owner, ttl_s)
            lease.take(connection)
        return lease

    # --- reading -----------------------------------------------------------------------------------

    def get(self, reference: str, *, kind: str | None = None) -> Run:
        """The run whose id begins with `reference` (4 or more hex digits), else the newest of that name.

        Raises NotFound, or RequestError when several ids begin so.
        """
        found = self._by_prefix(reference, kind)
        if len(found) > 1:
            ids = ", ".join(run.run_id[: len(reference) + 4] for run in found)
            raise RequestError(f"More than one run begins with {reference} ({ids}, ...); give more digits")
        if not found:
            found = self._by_name(reference, kind)
        if not found:
            raise NotFound(
                f"There is no {kind or 'run'} {reference!r}; give the beginning of its id "
                f"({_PREFIX_DIGITS} digits or more) or its name"
            )
        return found[0]

    def list(
        self, kind: str | None = None, *, limit: int = 50, before_ns: int | None = None
    ) -> tuple[Run, ...]:
        """The newest runs first; `before_ns` goes on from the last one of the page before."""
        query = _of_kind(kind).order_by(runs.c.created_ns.desc(), runs.c.run_id).limit(limit)
        if before_ns is not None:
            query = query.where(runs.c.created_ns < before_ns)
        return self._runs(query)

    def steps(self, run_id: str, *, after: int = 0) -> tuple[Step, ...]:
        """The steps of a run in the order in which they were stored, from seq `after` + 1 on."""
        with self._store.read() as connection:
            return tuple(_steps(connection, run_id, after))

    def fold(self, run_id: str, start: State, add: Callable[[State, Step], State]) -> State:
        """The state that a run's steps lead to, one at a time."""
        state = start
        with self._store.read() as connection:
            for step in _steps(connection, run_id, 0):
                state = add(state, step)
        return state

    def _by_prefix(self, prefix: str, kind: str | None) -> tuple[Run, ...]:
        if len(prefix) < _PREFIX_DIGITS or not all(letter in "0123456789abcdef" for letter in prefix):
            return ()
        # A range, not LIKE: it walks the index.
        return self._runs(
            _of_kind(kind).where(runs.c.run_id >= prefix, runs.c.run_id < prefix + "g").limit(2)
        )

    def _by_name(self, name: str, kind: str | None) -> tuple[Run, ...]:
        newest = _of_kind(kind).where(runs.c.name == name).order_by(runs.c.created_ns.desc())
        return self._runs(newest.limit(1))

    def _runs(self, query: sa.Select[Any]) -> tuple[Run, ...]:
        with self._store.read() as connection:
            return tuple(_run(row) for row in connection.execute(query).mappings())


def spec_digest(kind: str, spec: JSON) -> str:
    """32 hex digits that depend on what the spec says, not on the order of its keys."""
    return blake2b(msgspec.json.encode([kind, spec], order="sorted"), digest_size=16).hexdigest()


def _of_kind(kind: str | None) -> sa.Select[Any]:
    query = sa.select(runs)
    return query if kind is None else query.where(runs.c.kind == kind)


def _run(row: sa.RowMapping) -> Run:
    return Run(**row)


def _newest(connection: sa.Connection, digest: str) -> Run | None:
    query = sa.select(runs).where(runs.c.spec_digest == digest).order_by(runs.c.created_ns.desc()).limit(1)
    row = connection.execute(query).mappings().first()
    return None if row is None else _run(row)


def _whole(connection: sa.Connection, run_id: str) -> Run:
    row = connection.execute(sa.select(runs).where(runs.c.run_id == run_id)).mappings().first()
    if row is None:
        raise NotFound(f"There is no run {run_id}")
    return _run(row)


def _steps(connection: sa.Connection, run_id: str, after: int) -> Iterator[Step]:
    query = sa.select(steps.c.seq, steps.c.key, steps.c.body, steps.c.at_ns).order_by(steps.c.seq)
    rows = connection.execute(query.where(steps.c.run_id == run_id, steps.c.seq > after))
    for seq, key, body, at_ns in rows:
        yield Step(seq, key, body, at_ns)


def _held(run: Run, holder: Owner) -> str:
    until = time.strftime("%H:%M:%S", time.localtime((run.lease_until_ns or 0) / 1e9))
    return (
        f"Run {run.run_id[:8]} ({run.name}) is being worked on by process {holder.pid} on {holder.host}, "
        f"whose lease lasts until {until} and is renewed while it works; wait for it, or end that process"
    )
