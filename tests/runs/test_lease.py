"""Leases: one worker at a time, and nobody waits long for a dead one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading

import pytest

from assay.errors import Conflict, NotFound
from assay.runs import Owner, RunLog
from assay.storage import Store


@pytest.fixture
def log(store: Store, clock) -> RunLog:
    return RunLog(store, clock)


@pytest.fixture
def run_id(log: RunLog) -> str:
    return log.begin("experiment", "support", {}, trace_id="t" * 32).run_id


def elsewhere(pid: int = 1) -> Owner:
    return Owner("another-host", pid, "ab12")


def test_a_second_worker_is_told_who_holds_the_run_and_until_when(log: RunLog, run_id: str) -> None:
    log.acquire(run_id)
    with pytest.raises(Conflict) as caught:
        log.acquire(run_id)
    message = caught.value.message
    assert f"process {os.getpid()} on {socket.gethostname()}" in message
    assert "lease lasts until " in message
    assert caught.value.status == 409


def test_the_same_owner_may_acquire_again(log: RunLog, run_id: str) -> None:
    owner = Owner.here()
    log.acquire(run_id, owner)
    assert log.acquire(run_id, owner).append("a", 1)


def test_a_lease_of_another_host_holds_until_its_time_is_over(log: RunLog, run_id: str, clock) -> None:
    log.acquire(run_id, elsewhere(), ttl_s=30)
    clock.forward(29)
    with pytest.raises(Conflict, match="on another-host"):
        log.acquire(run_id)
    clock.forward(1)
    assert log.acquire(run_id).append("a", 1)


def test_appending_and_renewing_extend_the_lease(log: RunLog, run_id: str, clock) -> None:
    lease = log.acquire(run_id, elsewhere(), ttl_s=30)
    clock.forward(20)
    lease.append("a", 1)
    clock.forward(20)
    lease.renew()
    clock.forward(20)
    with pytest.raises(Conflict):
        log.acquire(run_id)


def test_the_lease_of_a_process_that_is_gone_is_taken_over_at_once(log: RunLog, run_id: str) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    log.acquire(run_id, Owner(Owner.here().host, child.pid, "dead"))
    assert log.acquire(run_id).append("a", 1)


def test_a_process_that_is_alive_is_not_gone() -> None:
    assert not Owner.here().gone()
    assert not elsewhere(pid=999_999_999).gone()


def test_an_owner_survives_being_written_down() -> None:
    owner = Owner("host:with/colons", 12, "ab")
    assert Owner.parse(str(owner)) == owner


def test_who_lost_the_lease_can_no_longer_write(log: RunLog, run_id: str, clock) -> None:
    slow = log.acquire(run_id, elsewhere(), ttl_s=30)
    clock.forward(31)
    successor = log.acquire(run_id)
    for write in (lambda: slow.append("a", 1), slow.renew, slow.finish):
        with pytest.raises(Conflict, match="no longer held by this process"):
            write()
    assert log.steps(run_id) == ()
    slow.release()
    assert successor.append("a", 2)
    assert log.get(run_id).lease_owner == str(successor.owner)


def test_an_expired_lease_that_nobody_took_is_still_good(log: RunLog, run_id: str, clock) -> None:
    lease = log.acquire(run_id, ttl_s=1)
    clock.forward(100)
    assert lease.append("a", 1)


def test_a_released_run_is_free_and_still_open(log: RunLog, run_id: str) -> None:
    lease = log.acquire(run_id, elsewhere())
    lease.release()
    assert log.get(run_id).status == "open"
    assert log.acquire(run_id).append("a", 1)
    with pytest.raises(Conflict):
        lease.append("b", 2)


def test_nothing_is_added_to_a_run_that_has_ended(log: RunLog, run_id: str) -> None:
    lease = log.acquire(run_id)
    lease.finish()
    with pytest.raises(Conflict):
        lease.append("a", 1)
    with pytest.raises(Conflict, match="is finished; nothing can be added"):
        log.acquire(run_id)


def test_a_run_that_is_not_there_cannot_be_acquired(log: RunLog) -> None:
    with pytest.raises(NotFound):
        log.acquire("0" * 32)


def test_threads_that_append_at_once_lose_nothing(log: RunLog, run_id: str) -> None:
    lease = log.acquire(run_id)
    ready = threading.Barrier(4)

    def work(number: int) -> None:
        ready.wait()
        for step in range(25):
            assert lease.append(f"{number}/{step}", step)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [step.seq for step in log.steps(run_id)] == list(range(1, 101))


def test_of_two_workers_that_come_at_once_one_gets_the_run(log: RunLog, run_id: str) -> None:
    ready = threading.Barrier(4)
    results: list[str] = []

    def work() -> None:
        ready.wait()
        try:
            log.acquire(run_id)
            results.append("held")
        except Conflict:
            results.append("refused")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["held", "refused", "refused", "refused"]
