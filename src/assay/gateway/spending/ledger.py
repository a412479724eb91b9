"""The ledger: budgets, spending and workers' allowances in the store. What a worker does is .purses'.

Every method is one short write transaction or one read. At any moment, for each account,

    spent + what all workers hold <= limit

unless a call turned out dearer than anybody could know before it, or a limit was lowered. A worker spends
from what it holds, in memory; what it has spent goes from its allowance to the spending in one transaction.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from assay.gateway.spending.journal import Left, read, successor
from assay.gateway.spending.tables import allowances, budgets, spenders, spending
from assay.gateway.spending.terms import (
    Account,
    Budget,
    Exceeded,
    Kind,
    Line,
    Per,
    Standing,
    Sums,
    day_of,
    days_of,
    end_ns,
    period_of,
)
from assay.runs.lease import Owner
from assay.storage import Store

LEASE_S: Final = 30.0
"""How long a worker that says nothing is taken for alive; one whose process is gone is known at once."""
_AHEAD: Final = 512
_SHARE: Final = 16
"""A worker takes what a call needs and as much as further 512 would, but of what is left only a 16th."""


class Lost(Exception):
    """The worker was taken for dead, and what it held was released."""


class Ledger:
    """Raises StorageError if the store cannot do its part."""

    def __init__(self, store: Store, *, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._store = store
        self.clock_ns = clock_ns
        self.folder = Path(f"{store.path}-spending")
        """Where the journals of the workers are."""

    # --- budgets

    def set(self, kind: Kind, holder: str, per: Per, limit_pico: int | None) -> None:
        """Sets a budget, or with None takes it away. What was spent in its period counts at once."""
        with self._store.write() as connection:
            newest = connection.scalar(sa.select(sa.func.max(budgets.c.version))) or 0
            row = {"limit_pico": limit_pico, "version": newest + 1}
            put = insert(budgets).values(kind=kind, holder=holder, per=per, **row)
            connection.execute(put.on_conflict_do_update(index_elements=["kind", "holder", "per"], set_=row))

    def since(self, version: int) -> list[Budget]:
        """The budgets that were set or taken away after that version of the table."""
        with self._store.read() as connection:
            rows = connection.execute(sa.select(budgets).where(budgets.c.version > version)).mappings()
            return [Budget(**row) for row in rows]

    def standings(self) -> list[Standing]:
        """How every budget stands now."""
        day = day_of(self.clock_ns())
        query = sa.select(budgets).where(budgets.c.limit_pico.is_not(None))
        with self._store.read() as connection:
            rows = connection.execute(query.order_by(budgets.c.kind, budgets.c.holder, budgets.c.per)).all()
            return [
                _standing(connection, Account(row.kind, row.holder, period_of(row.per, day)), row.limit_pico)
                for row in rows
            ]

    def spent(self) -> dict[Line, Sums]:
        """Everything that was written down."""
        with self._store.read() as connection:
            return {
                Line(row.key_id, row.team, row.day): Sums(
                    row.settled_pico, row.uncertain_pico, row.calls, row.unknown
                )
                for row in connection.execute(sa.select(spending))
            }

    # --- a worker

    def enter(self, worker: Owner, journal: str) -> None:
        """The worker is there from now on; its journal has nothing that matters yet."""
        with self._store.write() as connection:
            row = {"worker": str(worker), "until_ns": self._until_ns(), "journal": journal, "position": 0}
            connection.execute(sa.insert(spenders), row)

    def take(self, worker: Owner, needs: Mapping[Account, int]) -> dict[Account, int]:
        """What the worker holds more from now on, at least as much as it needs of each account.

        Raises Exceeded, with nothing taken, where so much is not left even without workers that are dead;
        and Lost.
        """
        try:
            return self._take(worker, needs)
        except Exceeded:
            if not self.bury():
                raise
        return self._take(worker, needs)

    def _take(self, worker: Owner, needs: Mapping[Account, int]) -> dict[Account, int]:
        granted = {}
        with self._store.write() as connection:
            self._renew(connection, worker)
            for account, need in needs.items():
                limit = _limit(connection, account)
                if limit is None:
                    granted[account] = need
                else:
                    standing = _standing(connection, account, limit)
                    if standing.left_pico < need:
                        raise Exceeded(standing, need)
                    granted[account] = need + min((standing.left_pico - need) // _SHARE, _AHEAD * need)
                put = insert(allowances).values(
                    worker=str(worker), **account._asdict(), held_pico=granted[account]
                )
                more = {"held_pico": allowances.c.held_pico + put.excluded.held_pico}
                connection.execute(put.on_conflict_do_update(index_elements=_ALLOWANCE, set_=more))
        return granted

    def store(
        self,
        worker: Owner,
        sums: Mapping[Line, Sums],
        held: Mapping[Account, int],
        journal: str,
        position: int,
    ) -> None:
        """Adds to the spending, and sets what the worker holds from now on. Raises Lost."""
        with self._store.write() as connection:
            self._renew(connection, worker, journal=journal, position=position)
            _add(connection, sums)
            for account, pico in held.items():
                mine = _mine(worker, account)
                if pico == 0:
                    connection.execute(sa.delete(allowances).where(*mine))
                else:
                    put = insert(allowances).values(worker=str(worker), **account._asdict(), held_pico=pico)
                    row = {"held_pico": pico}
                    connection.execute(put.on_conflict_do_update(index_elements=_ALLOWANCE, set_=row))

    def leave(self, worker: Owner) -> None:
        """The worker holds nothing any more."""
        with self._store.write() as connection:
            connection.execute(sa.delete(allowances).where(allowances.c.worker == str(worker)))
            connection.execute(sa.delete(spenders).where(spenders.c.worker == str(worker)))

    # --- the dead

    def bury(self) -> int:
        """Settles what dead workers left: calls that were under way become uncertain. Gives how many workers.

        What a worker had settled is in its journal, exactly. Without a journal all that it held is uncertain.
        """
        with self._store.read() as connection:
            known = connection.execute(sa.select(spenders.c.worker, spenders.c.until_ns)).all()
        now = self.clock_ns()
        dead = [row.worker for row in known if row.until_ns <= now or Owner.parse(row.worker).gone()]
        return sum(map(self._bury, dead))

    def _bury(self, worker: str) -> bool:
        with self._store.write() as connection:
            query = sa.select(spenders).where(spenders.c.worker == worker)
            row = connection.execute(query).one_or_none()
            if row is None or (row.until_ns > self.clock_ns() and not Owner.parse(worker).gone()):
                return False
            journal = self.folder / row.journal
            left = read(journal, row.position)
            if left is None:
                left = _all_of_it(connection, worker, day_of(self.clock_ns()))
            sums = left.sums
            for line, pico in left.opened:
                sums.setdefault(line, Sums()).add(Sums(uncertain=pico, calls=1, unknown=1))
            _add(connection, sums)
            connection.execute(sa.delete(allowances).where(allowances.c.worker == worker))
            connection.execute(sa.delete(spenders).where(spenders.c.worker == worker))
        for file in (journal, successor(journal)):
            file.unlink(missing_ok=True)
        return True

    def _renew(self, connection: sa.Connection, worker: Owner, **values: Any) -> None:
        mine = sa.update(spenders).where(spenders.c.worker == str(worker))
        if connection.execute(mine.values(until_ns=self._until_ns(), **values)).rowcount != 1:
            raise Lost

    def _until_ns(self) -> int:
        return self.clock_ns() + int(LEASE_S * 1e9)


_ALLOWANCE: Final = ["worker", "kind", "holder", "period"]


def _mine(worker: Owner, account: Account) -> tuple[sa.ColumnElement[bool], ...]:
    return (allowances.c.worker == str(worker), *_of(account))


def _of(account: Account) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        allowances.c.kind == account.kind,
        allowances.c.holder == account.holder,
        allowances.c.period == account.period,
    )


def _limit(connection: sa.Connection, account: Account) -> int | None:
    named = (budgets.c.kind == account.kind, budgets.c.holder == account.holder, budgets.c.per == account.per)
    limit: int | None = connection.scalar(sa.select(budgets.c.limit_pico).where(*named))
    return limit


def _standing(connection: sa.Connection, account: Account, limit_pico: int) -> Standing:
    first, last = days_of(account.period)
    whose = spending.c.key_id if account.kind == "key" else spending.c.team
    both = (sa.func.coalesce(sa.func.sum(column), 0) for column in _SPENT)
    lines = (whose == account.holder, spending.c.day >= first, spending.c.day <= last)
    settled, uncertain = connection.execute(sa.select(*both).where(*lines)).one()
    held = sa.select(sa.func.coalesce(sa.func.sum(allowances.c.held_pico), 0)).where(*_of(account))
    return Standing(
        account.kind,
        account.holder,
        account.per,
        account.period,
        limit_pico,
        settled + uncertain,
        uncertain,
        connection.scalar(held) or 0,
        end_ns(account.period),
    )


_SPENT: Final = (spending.c.settled_pico, spending.c.uncertain_pico)


def _add(connection: sa.Connection, sums: Mapping[Line, Sums]) -> None:
    for line, sum_ in sums.items():
        row = {
            "settled_pico": sum_.settled,
            "uncertain_pico": sum_.uncertain,
            "calls": sum_.calls,
            "unknown": sum_.unknown,
        }
        put = insert(spending).values(**line._asdict(), **row)
        more = {name: spending.c[name] + put.excluded[name] for name in row}
        connection.execute(put.on_conflict_do_update(index_elements=["key_id", "team", "day"], set_=more))


def _all_of_it(connection: sa.Connection, worker: str, today: str) -> Left:
    """What the worker held, as reserved for one call a holder: the most of its periods."""
    held: dict[tuple[str, str], tuple[str, int]] = {}
    for row in connection.execute(sa.select(allowances).where(allowances.c.worker == worker)):
        day = row.period if len(row.period) == 10 else today
        known = held.get((row.kind, row.holder))
        if known is None or known[1] < row.held_pico:
            held[row.kind, row.holder] = day, row.held_pico
    lines = []
    for (kind, holder), (day, pico) in held.items():
        # Whose team a key is of is not the ledger's to know: what is under both is written under both.
        lines.append((Line(holder, "", day) if kind == "key" else Line("", holder, day), pico))
    return Left(lines, {})
