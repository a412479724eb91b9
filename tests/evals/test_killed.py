"""An experiment in a process of its own that is killed, or interrupted, and started again.

The child notes every call in a file, finishes one call for each byte that it is sent, and prints each outcome
that it has stored. So the test decides how far it comes, and no clock is involved.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import pytest

from assay.evals import load_experiment
from assay.storage import Store

SIZE = 12
CONCURRENCY = 3
CHILD = """
    import asyncio, os, sys

    from assay.evals import Example, Plan, exact, function_task, make_dataset, run_experiment
    from assay.storage import Store

    url, calls, size, concurrency = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    allowed = asyncio.Semaphore(0)

    def admit():
        for _ in os.read(0, 4096):
            allowed.release()

    async def shout(text):
        with open(calls, "a") as file:
            file.write(text + "\\n")
        await allowed.acquire()
        return text.upper()

    def tell(progress):
        print(progress.recorded, flush=True)

    async def main():
        asyncio.get_running_loop().add_reader(0, admit)
        dataset = make_dataset("letters", [Example(f"case {number}") for number in range(size)])
        plan = Plan(function_task(shout, name="shout"), dataset, (exact(),), name="killed")
        await run_experiment(plan, Store.open(url), concurrency=concurrency, progress=tell)

    asyncio.run(main())
"""


class Child:
    """The experiment in a process; `finish` lets calls finish and waits until their outcomes are stored."""

    def __init__(self, folder: Path) -> None:
        self.calls_file = folder / "calls.txt"
        script = folder / "child.py"
        script.write_text(textwrap.dedent(CHILD))
        url = f"sqlite:///{folder}/assay.db"
        self.process = subprocess.Popen(
            [sys.executable, str(script), url, str(self.calls_file), str(SIZE), str(CONCURRENCY)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._stdin, self._stdout = self.process.stdin, self.process.stdout
        self.recorded = self._line()

    def finish(self, count: int) -> None:
        for _ in range(count):
            self._stdin.write("x")
            self._stdin.flush()
            self._line()

    def end(self, sign: signal.Signals | None = None) -> tuple[int, str]:
        """Sends the signal, if any; gives the exit status and what was written to standard error."""
        if sign is not None:
            os.kill(self.process.pid, sign)
        _, said = self.process.communicate()
        return self.process.returncode, said

    def calls(self) -> Counter[str]:
        return Counter(self.calls_file.read_text().split("\n")[:-1])

    def _line(self) -> int:
        return int(self._stdout.readline())


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_an_experiment_that_was_ended_repeats_no_finished_call(tmp_path: Path, sign: signal.Signals) -> None:
    store = Store.open(f"sqlite:///{tmp_path}/assay.db")
    settled: dict[str, int] = {}
    for already, more in ((0, 4), (4, 3)):
        child = Child(tmp_path)
        assert child.recorded == already
        child.finish(more)
        status, said = child.end(sign)
        assert status == -sign, said
        half = load_experiment(store, "killed")
        assert len(half.outcomes) == already + more
        assert not half.complete
        # Ctrl-C gives the lease back; that of a killed process is taken over because the process is gone.
        assert (half.run.lease_owner is None) == (sign == signal.SIGINT)
        for outcome in half.outcomes:
            case = str(outcome.output).lower()
            settled.setdefault(case, child.calls()[case])
    child = Child(tmp_path)
    assert child.recorded == len(settled) == 7
    child.finish(SIZE - 7)
    assert child.end() == (0, "")
    whole = load_experiment(store, "killed")
    store.close()
    assert whole.complete
    assert whole.run.run_id == half.run.run_id
    assert [outcome.output for outcome in whole.outcomes] == [f"CASE {number}" for number in range(SIZE)]
    calls = child.calls()
    assert {case: calls[case] for case in settled} == settled, "a finished call was made again"
    # Calls that were under way at the end of a process are all that is made twice.
    assert SIZE <= calls.total() <= SIZE + 2 * CONCURRENCY
