"""Purses: what this worker holds of each budget, and reserves from for its calls, in memory.

A call costs no transaction while its worker holds enough: it takes from the ledger in larger pieces, and
gives back what it does not need soon. Every change is in the worker's journal before anything is sent.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from assay.errors import StorageError
from assay.gateway.spending.journal import MAX_BYTES, Entry, Journal, successor
from assay.gateway.spending.ledger import LEASE_S, Ledger, Lost
from assay.gateway.spending.terms import Account, Exceeded, Kind, Line, Per, Sums, day_of, period_of
from assay.runs.lease import Owner
from assay.trace import Span
from assay.trace.rows import pico_dollars
from assay.types import Cost

log = logging.getLogger("assay.spending")

MAX_AGE_S: Final = 0.5
"""How old what is known of the budgets may be when a call is let in."""
STORE_EVERY_S: Final = 0.25
"""How soon what was spent is in the ledger, and how long what is not needed is held."""
RENEW_S: Final = LEASE_S / 3
IDLE_S: Final = 60.0
"""A worker without calls for so long leaves the ledger until the next one."""

_TRUSTED_S: Final = LEASE_S * 0.8
"""For how long after it was renewed a worker relies on its lease: clocks differ, and threads pause."""


class Purse:
    """One account: `held` of it is this worker's; `reserved` for calls under way; `spent` is to be stored."""

    __slots__ = ("drawn", "held", "reserved", "spent")

    def __init__(self) -> None:
        self.held = self.reserved = self.spent = self.drawn = 0

    @property
    def free(self) -> int:
        return self.held - self.reserved - self.spent


class Hold:
    """What is reserved for one call: `whole` for each of its tries, `pico` for the one under way.

    `lost`: this worker was taken for dead meanwhile, and the ledger has the call as uncertain.
    """

    __slots__ = ("accounts", "line", "lost", "pico", "purses", "whole")

    def __init__(
        self, line: Line, whole: int, accounts: tuple[Account, ...], purses: tuple[Purse, ...]
    ) -> None:
        self.line = line
        self.whole = whole
        self.accounts = accounts
        self.purses = purses
        self.pico = 0
        self.lost = False


class Purses:
    """All purses of one worker. Thread-safe. `prepare`, `top_up`, `store` and `close` block.

    `threaded`: a thread of its own stores what was spent; without it somebody calls `store`.
    """

    def __init__(
        self, ledger: Ledger, *, clock: Callable[[], float] = time.monotonic, threaded: bool = True
    ) -> None:
        self.ledger = ledger
        self._clock = clock
        self._threaded = threaded
        self._limits: dict[tuple[Kind, str], frozenset[Per]] = {}
        self._version = 0
        self._read_s: float | None = None
        self._lock = threading.Lock()
        # Held around transactions; always before the other.
        self._storing = threading.Lock()
        self._worker: Owner | None = None
        self._valid_until_s = 0.0
        self._used_s = clock()
        self._journal: Journal | None = None
        self._outgrown: Journal | None = None
        self._purses: dict[Account, Purse] = {}
        self._holds: dict[str, Hold] = {}
        self._sums: dict[Line, Sums] = {}
        self._teams: dict[str, str] = {}
        self._work = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    # --- asked for each call; nothing here waits

    def ready(self) -> bool:
        """Whether calls can be let in at once: the budgets are known, and the worker is in the ledger."""
        now = self._clock()
        return self._read_s is not None and now - self._read_s <= MAX_AGE_S and now < self._valid_until_s

    def accounts(self, key_id: str, team: str | None, at_ns: int) -> tuple[Account, ...]:
        """The budgets that a key's call is under, each in its period at that time."""
        self._teams[key_id] = team or ""
        of_key = self._limits.get(("key", key_id))
        of_team = None if team is None else self._limits.get(("team", team))
        if not of_key and not of_team:
            return ()
        day = day_of(at_ns)
        found = [Account("key", key_id, period_of(per, day)) for per in of_key or ()]
        found += [Account("team", team or "", period_of(per, day)) for per in of_team or ()]
        return tuple(found)

    def draw(self, call_id: str, key_id: str, accounts: tuple[Account, ...], pico: int, at_ns: int) -> bool:
        """Reserves for a call, if this worker holds enough of every account.

        Raises StorageError where nobody would know of it after a crash.
        """
        with self._lock:
            purses = self._rich(accounts, pico)
            if purses is None:
                return False
            line = Line(key_id, self._teams.get(key_id, ""), day_of(at_ns))
            hold = Hold(line, pico, accounts, purses)
            self._reserve(call_id, hold)
            self._holds[call_id] = hold
        self._wake()
        return True

    def again(self, call_id: str) -> bool:
        """Reserves for a further try, where the one before took what was reserved. False: `top_up` first."""
        with self._lock:
            hold = self._holds.get(call_id)
            if hold is None or hold.pico or hold.lost:
                return True
            purses = self._rich(hold.accounts, hold.whole)
            if purses is None:
                return False
            hold.purses = purses
            self._reserve(call_id, hold)
        return True

    def need(self, call_id: str) -> tuple[tuple[Account, ...], int]:
        """What a further try of a call needs."""
        hold = self._holds.get(call_id)
        return ((), 0) if hold is None else (hold.accounts, hold.whole)

    def note(self, span: Span) -> None:
        """What a call, or a try that failed, has cost: by its span, so that the ledger says the same."""
        key_id, cost = span.key_id, span.cost
        if key_id is None:
            return
        is_try = span.operation == "try"
        call_id = (span.parent_id or "") if is_try else span.span_id
        with self._lock:
            hold = self._holds.get(call_id) if is_try else self._holds.pop(call_id, None)
            if hold is None:
                if cost is None or cost.usd == 0:
                    return
            elif hold.lost or (is_try and cost is None):
                # A try that cost nothing leaves what is reserved to the next one.
                return
            line = Line(key_id, self._teams.get(key_id, ""), day_of(span.start_ns))
            reserved = 0 if hold is None else hold.pico
            self._settle(call_id, hold, line, _sums(cost, reserved, whole=span.status == "ok"))
        self._wake()

    @property
    def under_way(self) -> int:
        """How many calls there are for which something was reserved."""
        return len(self._holds)

    def _rich(self, accounts: tuple[Account, ...], pico: int) -> tuple[Purse, ...] | None:
        if self._clock() >= self._valid_until_s:
            # Another worker may have taken this one for dead.
            return None
        purses = []
        for account in accounts:
            purse = self._purses.get(account)
            if purse is None or purse.free < pico:
                return None
            purses.append(purse)
        return tuple(purses)

    def _reserve(self, call_id: str, hold: Hold) -> None:
        assert self._journal is not None
        try:
            self._journal.write(Entry(call_id, hold.whole, hold.line))
        except OSError as error:
            raise _unwritable(self._journal.path, error) from error
        hold.pico = hold.whole
        for purse in hold.purses:
            purse.reserved += hold.whole
            purse.drawn += hold.whole

    def _settle(self, call_id: str, hold: Hold | None, line: Line, sums: Sums) -> None:
        if hold is not None:
            for purse in hold.purses:
                purse.reserved -= hold.pico
                purse.spent += sums.settled + sums.uncertain
            hold.pico = 0
        if sums.calls:
            self._sums.setdefault(line, Sums()).add(sums)
        if self._journal is None:
            return
        try:
            told = sums.settled, sums.uncertain, sums.calls, sums.unknown
            self._journal.write(Entry(call_id, 0, line, *told))
        except OSError as error:
            # It is in memory, and will be in the ledger; after a crash it would be uncertain, not lost.
            log.error("the journal %s cannot be written: %s", self._journal.path, error)

    def _wake(self) -> None:
        if not self._work.is_set():
            self._work.set()

    # --- with the ledger

    def prepare(self) -> None:
        """Reads what has changed of the budgets, and enters the ledger. Raises StorageError."""
        with self._storing:
            if self.ready():
                return
            started = self._clock()
            changed = self.ledger.since(self._version)
            limits = {name: set(pers) for name, pers in self._limits.items()}
            for budget in changed:
                pers = limits.setdefault((budget.kind, budget.holder), set())
                (pers.discard if budget.limit_pico is None else pers.add)(budget.per)
            self._limits = {name: frozenset(pers) for name, pers in limits.items() if pers}
            self._version = max((budget.version for budget in changed), default=self._version)
            if self._worker is not None and (changed or started >= self._valid_until_s):
                # A limit may be lower than the one by which something was taken.
                self._store(keep=not changed, renew=True)
            if self._worker is None:
                self._enter()
            self._read_s = started

    def top_up(self, accounts: Iterable[Account], pico: int) -> None:
        """Takes from the ledger until so much is free of each account. Raises Exceeded and StorageError."""
        with self._storing:
            if self._worker is not None and self._clock() >= self._valid_until_s:
                self._store(keep=True, renew=True)
            if self._worker is None:
                self._enter()
            try:
                try:
                    self._take(accounts, pico)
                except Exceeded:
                    # What this worker holds and does not need may be what is missing.
                    self._store(keep=False)
                    self._take(accounts, pico)
            except Lost:
                self._lose()
        self._wake()

    def store(self) -> None:
        """What was spent goes to the ledger, and what is not needed soon is given back."""
        with self._storing:
            self._store(keep=True)

    def close(self) -> None:
        """Everything is in the ledger, and nothing is held. What is under way is uncertain from now on."""
        self._closing.set()
        self._work.set()
        if self._thread is not None:
            self._thread.join()
        with self._storing:
            if self._worker is None and not self._sums:
                return
            with self._lock:
                for call_id, hold in self._holds.items():
                    if not hold.lost:
                        self._settle(call_id, hold, hold.line, _sums(Cost("unknown", None), hold.pico))
                        hold.lost = True
            self._store(keep=False)
            if self._worker is not None:
                self._leave()

    def _take(self, accounts: Iterable[Account], pico: int) -> None:
        if self._worker is None:
            return
        with self._lock:
            free = {account: self._purses.setdefault(account, Purse()).free for account in accounts}
        needs = {account: pico - has for account, has in free.items() if has < pico}
        if not needs:
            return
        started = self._clock()
        granted = self.ledger.take(self._worker, needs)
        with self._lock:
            for account, more in granted.items():
                self._purses[account].held += more
            self._valid_until_s = started + _TRUSTED_S

    def _enter(self) -> None:
        """A new worker."""
        started = self._clock()
        self.ledger.bury()
        worker = Owner.here()
        path = self.ledger.folder / f"{worker.pid}-{worker.token}-0.jsonl"
        self.ledger.enter(worker, path.name)
        try:
            journal = Journal(path)
        except OSError as error:
            self.ledger.leave(worker)
            raise _unwritable(path, error) from error
        with self._lock:
            self._worker, self._journal = worker, journal
            self._valid_until_s = started + _TRUSTED_S
            self._used_s = started
        if self._threaded and self._thread is None and not self._closing.is_set():
            self._thread = threading.Thread(target=self._run, name="assay-spending", daemon=True)
            self._thread.start()
        self._wake()

    def _store(self, *, keep: bool, renew: bool = False) -> None:
        if self._worker is None:
            if not self._sums:
                return
            self._enter()
        worker, started = self._worker, self._clock()
        assert worker is not None
        with self._lock:
            moved = self._settled_purses(keep=keep)
            sums, self._sums = self._sums, {}
            self._shorten()
            assert self._journal is not None
            name, position = self._journal.path.name, self._journal.size
        held = {account: purse.held for account, (purse, drop, _) in moved.items() if drop}
        if not (sums or held or renew or self._outgrown or started + RENEW_S >= self._valid_until_s):
            if started - self._used_s >= IDLE_S:
                self._leave()
            return
        try:
            self.ledger.store(worker, sums, held, name, position)
        except Lost:
            self._lose()
            return
        except StorageError:
            with self._lock:
                for purse, drop, spent in moved.values():
                    purse.held += drop
                    purse.spent += spent
                for line, more in sums.items():
                    self._sums.setdefault(line, Sums()).add(more)
            raise
        with self._lock:
            self._valid_until_s = started + _TRUSTED_S
            if sums or held:
                self._used_s = started
            outgrown, self._outgrown = self._outgrown, None
            for account, (purse, _, _) in moved.items():
                if purse.held == purse.reserved == purse.spent == 0:
                    del self._purses[account]
        if outgrown is not None:
            outgrown.close()

    def _settled_purses(self, *, keep: bool) -> dict[Account, tuple[Purse, int, int]]:
        """Each with what it holds less from now on, and what of that was spent.

        It keeps what is reserved, and as much as was reserved since it was asked last: that was dearer than
        anybody could know where it holds more, not less.
        """
        moved = {}
        for account, purse in self._purses.items():
            kept = min(max(0, purse.free), purse.drawn if keep else 0)
            drop = purse.held - purse.reserved - kept
            moved[account] = purse, drop, purse.spent
            purse.held -= drop
            purse.spent = purse.drawn = 0
        return moved

    def _shorten(self) -> None:
        """A journal that has become long is followed by a new one, which begins with what is under way."""
        assert self._journal is not None
        if self._journal.size <= MAX_BYTES or self._outgrown is not None:
            return
        opened = [Entry(call_id, hold.pico, hold.line) for call_id, hold in self._holds.items() if hold.pico]
        try:
            journal = Journal(successor(self._journal.path), opened)
        except OSError as error:
            log.error("the journal %s cannot be followed by a new one: %s", self._journal.path, error)
            return
        self._outgrown, self._journal = self._journal, journal

    def _leave(self) -> None:
        """Out of the ledger, where there is nothing under way and nothing to store."""
        with self._lock:
            if self._sums or any(purse.held or purse.spent for purse in self._purses.values()):
                return
            worker, journal = self._worker, self._journal
            self._worker = self._journal = None
            self._valid_until_s = 0.0
            self._purses.clear()
        assert worker is not None
        assert journal is not None
        self.ledger.leave(worker)
        journal.close()

    def _lose(self) -> None:
        """Another worker has settled what this one left when it was taken for dead."""
        log.warning("this worker was silent for too long: its calls under way are uncertain in the ledger")
        with self._lock:
            for hold in self._holds.values():
                hold.lost, hold.purses, hold.pico = True, (), 0
            journals = (self._outgrown, self._journal)
            self._worker = self._journal = self._outgrown = None
            self._valid_until_s = 0.0
            self._purses.clear()
            self._sums.clear()
        for journal in journals:
            if journal is not None:
                journal.close()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._work.wait(RENEW_S if self._worker is not None else None)
            # Let some more come together.
            self._closing.wait(STORE_EVERY_S)
            self._work.clear()
            try:
                self.store()
            except StorageError as error:
                log.warning("what was spent cannot be stored, which is tried again: %s", error)
                self._closing.wait(1.0)
                self._work.set()


def _sums(cost: Cost | None, reserved: int, *, whole: bool = False) -> Sums:
    """What a call comes to; where nobody knows what it cost, what was reserved for it.

    Of a call that is not `whole` an estimated cost is the least that it cost.
    """
    if cost is None:
        return Sums()
    known = pico_dollars(cost)
    if known is None:
        return Sums(uncertain=reserved, calls=1, unknown=1)
    unsure = 0 if whole or cost.kind == "exact" else max(0, reserved - known)
    return Sums(settled=known, uncertain=unsure, calls=1 if known else 0)


def _unwritable(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"The journal {path} cannot be written ({error.strerror}), so no money can be reserved; "
        "see the disk and try again"
    )
