"""The ledger under anything that may happen: never overspent, never below zero, exact after every crash."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from assay.gateway.spending import Exceeded, Ledger, Purses
from assay.gateway.spending.ledger import LEASE_S
from assay.gateway.spending.terms import PICO, Line, Sums
from assay.storage import Store
from assay.trace import Span
from assay.trace.rows import dollars
from assay.types import Cost

KEYS = {"k1": "red", "k2": "red", "k3": None}
LIMITS = [
    ("key", "k1", "day", 40),
    ("key", "k1", "total", 90),
    ("team", "red", "month", 100),
    ("key", "k3", "month", 30),
]
WORKERS = st.integers(0, 2)


class Clock:
    """Both of its kinds."""

    def __init__(self) -> None:
        self.s = 1_795_000_000.0

    def __call__(self) -> float:
        return self.s

    def ns(self) -> int:
        return int(self.s * 1e9)


class Machine(RuleBasedStateMachine):
    """Three workers on one file, beside a model that knows what each call has cost in truth."""

    @initialize()
    def opened(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.store = Store.open(f"sqlite:///{self.folder}/assay.db")
        self.clock = Clock()
        self.ledger = Ledger(self.store, clock_ns=self.clock.ns)
        for kind, holder, per, limit in LIMITS:
            self.ledger.set(kind, holder, per, limit * PICO)  # type: ignore[arg-type]
        self.workers = [self.made() for _ in range(3)]
        self.calls: dict[str, tuple[int, str, int, int]] = {}
        self.expected: dict[Line, Sums] = {}
        self.number = 0

    def made(self) -> Purses:
        return Purses(self.ledger, clock=self.clock, threaded=False)

    def came(self, line_key: str, at_ns: int, sums: Sums) -> None:
        from assay.gateway.spending.terms import day_of

        line = Line(line_key, KEYS[line_key] or "", day_of(at_ns))
        self.expected.setdefault(line, Sums()).add(sums)

    @rule(worker=WORKERS, key=st.sampled_from(sorted(KEYS)), usd=st.integers(1, 12))
    def reserves(self, worker: int, key: str, usd: int) -> None:
        purses, pico = self.workers[worker], usd * PICO
        if not purses.ready():
            purses.prepare()
        self.number += 1
        call_id = f"c{self.number}"
        accounts = purses.accounts(key, KEYS[key], self.clock.ns())
        assert accounts
        while not purses.draw(call_id, key, accounts, pico, self.clock.ns()):
            try:
                purses.top_up(accounts, pico)
            except Exceeded as refused:
                assert refused.standing.left_pico < pico
                return
        self.calls[call_id] = worker, key, pico, self.clock.ns()

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), known=st.booleans(), share=st.integers(0, 100))
    def ends(self, data: st.DataObject, known: bool, share: int) -> None:
        call_id = data.draw(st.sampled_from(sorted(self.calls)))
        worker, key, pico, at_ns = self.calls.pop(call_id)
        cost = pico * share // 100
        told = Cost("exact", dollars(cost)) if known else Cost("unknown", None)
        self.workers[worker].note(span(call_id, key, at_ns, told))
        if known:
            self.came(key, at_ns, Sums(settled=cost, calls=1 if cost else 0))
        else:
            self.came(key, at_ns, Sums(uncertain=pico, calls=1, unknown=1))

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def a_try_fails_and_another_follows(self, data: st.DataObject) -> None:
        call_id = data.draw(st.sampled_from(sorted(self.calls)))
        worker, key, pico, at_ns = self.calls[call_id]
        purses = self.workers[worker]
        purses.note(span("t", key, at_ns, Cost("unknown", None), operation="try", parent_id=call_id))
        self.came(key, at_ns, Sums(uncertain=pico, calls=1, unknown=1))
        while not purses.again(call_id):
            try:
                purses.top_up(*purses.need(call_id))
            except Exceeded:
                purses.note(span(call_id, key, at_ns, None))
                del self.calls[call_id]
                return

    @rule(worker=WORKERS)
    def stores(self, worker: int) -> None:
        self.workers[worker].store()

    @rule(seconds=st.sampled_from([0.3, 5.0, 3_600.0]))
    def time_passes(self, seconds: float) -> None:
        while seconds > 0:
            step = min(seconds, LEASE_S / 3) if seconds < 60 else seconds
            self.clock.s += step
            seconds -= step
            if step < LEASE_S:
                for purses in self.workers:
                    purses.store()
            else:
                self.all_are_renewed()

    def all_are_renewed(self) -> None:
        # Nobody else looks at the ledger before they do.
        for purses in self.workers:
            with purses._storing:
                purses._store(keep=True, renew=True) if purses._worker else None

    @rule(worker=WORKERS)
    def is_killed(self, worker: int) -> None:
        self.gone(worker)
        self.workers[worker] = self.made()

    @rule(worker=WORKERS)
    def is_stopped_and_wakes_up_too_late(self, worker: int) -> None:
        self.gone(worker)

    def gone(self, worker: int) -> None:
        """Silent for longer than its lease, and buried by another one: what was under way is uncertain."""
        for step in (LEASE_S * 0.7, LEASE_S * 0.4):
            self.clock.s += step
            for number, purses in enumerate(self.workers):
                if number != worker:
                    purses.store()
        self.ledger.bury()
        for call_id, (whose, key, pico, at_ns) in list(self.calls.items()):
            if whose == worker:
                self.came(key, at_ns, Sums(uncertain=pico, calls=1, unknown=1))
                del self.calls[call_id]

    @invariant()
    def nothing_is_overspent(self) -> None:
        for standing in self.ledger.standings():
            assert standing.left_pico >= 0
            assert standing.reserved_pico >= 0
            assert 0 <= standing.uncertain_pico <= standing.spent_pico
        for purses in self.workers:
            for purse in purses._purses.values():
                assert purse.free >= 0
                assert purse.reserved >= 0

    def teardown(self) -> None:
        if not hasattr(self, "store"):
            return
        for purses in self.workers:
            # What was not settled is uncertain when its worker goes.
            purses.close()
        for _worker, key, pico, at_ns in self.calls.values():
            self.came(key, at_ns, Sums(uncertain=pico, calls=1, unknown=1))
        wanted = {line: sums for line, sums in self.expected.items() if sums.calls}
        assert self.ledger.spent() == wanted
        assert all(standing.reserved_pico == 0 for standing in self.ledger.standings())
        assert list(self.ledger.folder.glob("*")) == []
        self.store.close()
        shutil.rmtree(self.folder)


def span(
    span_id: str,
    key: str,
    at_ns: int,
    cost: Cost | None,
    *,
    operation: str = "chat",
    parent_id: str | None = None,
) -> Span:
    return Span(
        "0" * 32, span_id, operation, operation, at_ns, at_ns, parent_id, key_id=key, cost=cost, status="ok"
    )


Machine.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestLedger = Machine.TestCase
