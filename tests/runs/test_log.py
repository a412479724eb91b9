"""The log of runs: found again by spec, appended to once a key, read back in order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from assay.errors import NotFound, RequestError, StorageError
from assay.runs import RunLog
from assay.storage import Store

SPEC = {"dataset": "d1", "task": {"model": "local", "temperature": 0.5}}


@pytest.fixture
def log(store: Store, clock) -> RunLog:
    return RunLog(store, clock)


def begin(log: RunLog, spec: object = SPEC, **more: object):
    return log.begin("experiment", "support", spec, trace_id="t" * 32, **more)


def test_the_same_spec_finds_its_unfinished_run(log: RunLog) -> None:
    first = begin(log)
    same = {"task": {"temperature": 0.5, "model": "local"}, "dataset": "d1"}
    assert begin(log, same) == first == log.find("experiment", same)


def test_another_spec_or_kind_begins_another_run(log: RunLog) -> None:
    first = begin(log)
    assert begin(log, {**SPEC, "dataset": "d2"}).run_id != first.run_id
    assert log.begin("agent", "support", SPEC, trace_id="t" * 32).run_id != first.run_id


def test_a_finished_run_is_reused_only_where_asked_for(log: RunLog) -> None:
    first = begin(log)
    log.acquire(first.run_id).finish()
    assert begin(log, reuse=("open", "finished")).run_id == first.run_id
    second = begin(log)
    assert second.run_id != first.run_id
    assert begin(log, reuse=()).run_id not in {first.run_id, second.run_id}


def test_the_newest_run_of_a_spec_is_found_though_the_clock_stands_still(log: RunLog) -> None:
    runs = [begin(log, reuse=()) for _ in range(5)]
    assert log.find("experiment", SPEC) == runs[-1]
    assert log.list("experiment") == tuple(reversed(runs))


def test_what_a_run_is_comes_back(log: RunLog, clock) -> None:
    run = begin(log, {"tuple": (1, 2), "text": "ä"})
    assert log.get(run.run_id) == run
    assert run.spec == {"tuple": [1, 2], "text": "ä"}
    assert (run.kind, run.name, run.status, run.created_ns) == ("experiment", "support", "open", clock())
    clock.forward(5)
    log.acquire(run.run_id).finish("failed")
    ended = log.get(run.run_id)
    assert (ended.status, ended.ended_ns, ended.lease_owner) == ("failed", clock(), None)


def test_steps_come_back_in_order_with_their_bodies(log: RunLog, clock) -> None:
    lease = log.acquire(begin(log).run_id)
    assert lease.append("a/0", {"output": "x"})
    clock.forward(1)
    assert lease.append_all([("b/0", [1.5, None]), ("c/0", "z")]) == 2
    steps = log.steps(lease.run_id)
    assert [(step.seq, step.key, step.body) for step in steps] == [
        (1, "a/0", {"output": "x"}),
        (2, "b/0", [1.5, None]),
        (3, "c/0", "z"),
    ]
    assert steps[1].at_ns - steps[0].at_ns == 1_000_000_000
    assert log.steps(lease.run_id, after=2) == steps[2:]


def test_a_key_has_one_outcome_and_the_first_stands(log: RunLog) -> None:
    lease = log.acquire(begin(log).run_id)
    assert lease.append("a", 1) is True
    assert lease.append("a", 2) is False
    assert lease.append_all([("a", 3), ("b", 4)]) == 1
    assert {step.key: step.body for step in log.steps(lease.run_id)} == {"a": 1, "b": 4}


def test_the_keys_of_two_runs_do_not_meet(log: RunLog) -> None:
    one, other = log.acquire(begin(log).run_id), log.acquire(begin(log, {}).run_id)
    assert one.append("a", 1)
    assert other.append("a", 2)
    assert [step.body for step in log.steps(other.run_id)] == [2]


def test_a_batch_is_stored_whole_or_not_at_all(log: RunLog) -> None:
    lease = log.acquire(begin(log).run_id)
    with pytest.raises(StorageError):
        lease.append_all([("good", 1), ("bad", object())])
    assert log.steps(lease.run_id) == ()


def test_fold_gives_the_state_that_the_steps_lead_to(log: RunLog) -> None:
    lease = log.acquire(begin(log).run_id)
    lease.append_all([("a", 1), ("b", 20), ("c", 300)])
    assert log.fold(lease.run_id, 0, lambda state, step: state + step.body) == 321
    assert log.fold(lease.run_id, "", lambda state, step: state + step.key) == "abc"


def test_a_run_is_found_by_the_beginning_of_its_id_or_by_its_newest_name(log: RunLog, clock) -> None:
    first = begin(log)
    clock.forward(1)
    second = begin(log, {})
    assert log.get(first.run_id[:8]) == first
    assert log.get("support") == second
    assert log.get("support", kind="experiment") == second
    with pytest.raises(NotFound, match="There is no agent 'support'"):
        log.get("support", kind="agent")
    with pytest.raises(NotFound, match="beginning of its id .4 digits or more. or its name"):
        log.get(first.run_id[:3])


def test_an_id_that_two_runs_share_is_refused(log: RunLog, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = iter([b"\xab\xcd" + bytes(14), b"\xab\xcd" + bytes(13) + b"\x01"])
    monkeypatch.setattr("assay.runs.log.os.urandom", lambda _: next(ids))
    begin(log)
    begin(log, {})
    with pytest.raises(RequestError, match="More than one run begins with abcd .*give more digits"):
        log.get("abcd")


def test_a_list_goes_on_where_the_page_before_ended(log: RunLog, clock) -> None:
    runs = []
    for number in range(5):
        clock.forward(1)
        runs.append(begin(log, number))
    page = log.list(limit=2)
    assert page == (runs[4], runs[3])
    assert log.list(limit=9, before_ns=page[-1].created_ns) == (runs[2], runs[1], runs[0])
    assert log.list("agent") == ()


APPENDER = """
    import sys
    from assay.runs import RunLog
    from assay.storage import Store

    log = RunLog(Store.open(sys.argv[1]))
    run = log.begin("experiment", "killed", {}, trace_id="0" * 32)
    lease = log.acquire(run.run_id)
    for number in range(1_000_000):
        lease.append(str(number), {"number": number})
        print(number, flush=True)
"""


def test_what_was_appended_survives_a_kill(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/killed.db"
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(APPENDER), url], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    for _ in range(20):
        last = int(child.stdout.readline())
    os.kill(child.pid, signal.SIGKILL)
    reported = [last, *(int(line) for line in child.stdout if line.endswith("\n"))][-1]
    child.wait()
    child.stdout.close()
    log = RunLog(Store.open(url))
    run = log.get("killed")
    kept = [step.body["number"] for step in log.steps(run.run_id)]
    assert kept == list(range(len(kept)))
    assert len(kept) > reported
    # The dead process holds nothing: its successor goes on at once.
    lease = log.acquire(run.run_id)
    assert lease.append("0", "again") is False
    assert lease.append("more", 1) is True
