"""Leases: the right to write to a run, held by one process at a time. What is in the log is assay.runs.log's.

Every write checks, in its own transaction, that the lease is still held, so that a process that was stopped
for too long cannot write into a run that another one has taken over.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

import sqlalchemy as sa

from assay.errors import Conflict
from assay.runs.tables import runs, steps
from assay.storage import Store
from assay.types import JSON, Value


class Owner(Value):
    """A worker: its host, its process, and a word of its own so that one process can hold several leases."""

    host: str
    pid: int
    token: str

    @classmethod
    def here(cls) -> Owner:
        """A new owner in this process."""
        return cls(_host(), os.getpid(), os.urandom(4).hex())

    @classmethod
    def parse(cls, text: str) -> Owner:
        host, pid, token = text.rsplit(":", 2)
        return cls(host, int(pid), token)

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}:{self.token}"

    def gone(self) -> bool:
        """Whether the process is certain to be gone: only its own host can say so."""
        if self.host != _host() or os.name != "posix":
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False


def _host() -> str:
    """The host's name, and on Linux the process namespace too: containers share names, not processes."""
    namespace = Path("/proc/self/ns/pid")
    try:
        return f"{socket.gethostname()}/{namespace.stat().st_ino}"
    except OSError:
        return socket.gethostname()


class Lease:
    """Made by RunLog.acquire. Thread-safe, as each call is one transaction.

    Every method raises Conflict once the lease has gone to somebody else, and StorageError when the store
    cannot be written to; in both cases nothing of the call was stored.
    """

    def __init__(
        self, store: Store, clock_ns: Callable[[], int], run_id: str, owner: Owner, ttl_s: float
    ) -> None:
        self._store = store
        self._clock_ns = clock_ns
        self.run_id = run_id
        self.owner = owner
        self.ttl_s = ttl_s

    def append(self, key: str, body: JSON) -> bool:
        """Stores the outcome of a step and renews the lease. False when `key` has one: that one stands."""
        return self.append_all([(key, body)]) == 1

    def append_all(self, outcomes: Iterable[tuple[str, JSON]]) -> int:
        """Several outcomes in one transaction: all or none. Returns how many keys had none before."""
        with self._store.write() as connection:
            self._extend(connection)
            new = self._new(connection, dict(outcomes))
            if new:
                last = sa.select(sa.func.max(steps.c.seq)).where(steps.c.run_id == self.run_id)
                seq = connection.scalar(last) or 0
                now = self._clock_ns()
                rows = [
                    {"run_id": self.run_id, "seq": seq + place, "key": key, "body": body, "at_ns": now}
                    for place, (key, body) in enumerate(new.items(), 1)
                ]
                connection.execute(sa.insert(steps), rows)
        return len(new)

    def renew(self) -> None:
        """Holds the run for another `ttl_s` seconds; appending does so too."""
        with self._store.write() as connection:
            self._extend(connection)

    def finish(self, status: Literal["finished", "failed", "cancelled"] = "finished") -> None:
        """Ends the run and the lease."""
        with self._store.write() as connection:
            self._set(connection, status=status, ended_ns=self._clock_ns(), **_FREE)

    def release(self) -> None:
        """Gives the run back unfinished, for whoever goes on with it. Does nothing when it is not held."""
        with self._store.write() as connection:
            connection.execute(self._mine().values(**_FREE))

    def take(self, connection: sa.Connection) -> None:
        """RunLog.acquire's last act, in its transaction."""
        row = sa.update(runs).where(runs.c.run_id == self.run_id)
        connection.execute(row.values(lease_owner=str(self.owner), lease_until_ns=self._until_ns()))

    def _until_ns(self) -> int:
        return self._clock_ns() + int(self.ttl_s * 1e9)

    def _extend(self, connection: sa.Connection) -> None:
        self._set(connection, lease_until_ns=self._until_ns())

    def _mine(self) -> sa.Update:
        ours = (runs.c.run_id == self.run_id, runs.c.lease_owner == str(self.owner), runs.c.status == "open")
        return sa.update(runs).where(*ours)

    def _set(self, connection: sa.Connection, **values: str | int | None) -> None:
        if connection.execute(self._mine().values(**values)).rowcount != 1:
            raise Conflict(
                f"Run {self.run_id[:8]} is no longer held by this process (it has ended, or was taken over "
                f"after {self.ttl_s:g} s without a sign of life); what was stored is kept: start it again"
            )

    def _new(self, connection: sa.Connection, outcomes: dict[str, JSON]) -> dict[str, JSON]:
        known = sa.select(steps.c.key).where(steps.c.run_id == self.run_id, steps.c.key.in_(outcomes))
        taken = set(connection.scalars(known))
        return {key: body for key, body in outcomes.items() if key not in taken}


_FREE: dict[str, None] = {"lease_owner": None, "lease_until_ns": None}
