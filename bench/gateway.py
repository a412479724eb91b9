"""Benchmark: what a call through Assay costs in CPU time, trace and cost on, beside a bare proxy and peers.

    python bench/gateway.py
    python bench/gateway.py --rounds 5 --calls 8000
    python bench/gateway.py --keyed
    python bench/gateway.py --rows "OpenAI -> Anthropic" --columns call at-once
    PEERS=1 python bench/gateway.py

Processes on loopback: an upstream that answers in OpenAI's and in Anthropic's dialect from prepared bytes
(upstream.py), the server under measurement, and this one, which sends the load over 32 connections (load.py).
On Linux the server is pinned to core 0, the other two to core 1. CPU time is that of the server process
alone, all its threads, user and system. Servers, in one run: a bare uvicorn + aiohttp proxy that passes bytes
through and records nothing, the real `assay up`, and with PEERS=1 LiteLLM's proxy and Portkey's gateway
(peers.py installs them in .venvs/; Portkey needs node and npm: apt-get install nodejs npm).

--keyed adds `assay up` with a key, which has limits and a budget a day, and whose team has one a month.

Rows are the caller's dialect and the upstream's. Columns are a whole reply; a stream of 57 events sent one at
a time, two milliseconds apart, as models do, so that each is read and written by itself; and the same stream
in one piece. Peers are asked for fewer calls, since they take longer.

Not a test: it has no threshold; the bars are printed beside. Figures are kept in docs/performance.md.
"""

from __future__ import annotations

import argparse
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import peers
from load import COLUMNS, ROWS, Column, Figures, Refused, Row, Running, Target, measure, path, warm_up
from transport import pin, resident_mb, start
from upstream import MODELS, PACES

Start = Callable[[int, Path], AbstractContextManager[Running]]


# --- the servers under measurement ------------------------------------------------------------------------


@contextmanager
def assay(upstream_port: int, folder: Path, *, keyed: bool = False) -> Iterator[Running]:
    """The real command, in a folder of its own, with a provider for each dialect at each pace."""
    toml = ""
    for dialect, name in MODELS.items():
        for pace in PACES:
            provider = dialect.lower()
            toml += (
                f'[providers.{provider}-{pace}]\ndialect = "{provider}"\nprices = "{provider}"\n'
                f'base_url = "http://127.0.0.1:{upstream_port}/{pace}/v1"\n'
                f'[models."{name}-{pace}"]\nprovider = "{provider}-{pace}"\nmodel = "{name}"\n'
            )
    (folder / "assay.toml").write_text(toml)
    command = [sys.executable, "-m", "assay.main", "up", "--port", "0"]
    headers = key_with_budgets(folder) if keyed else {}
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    try:
        pin(process.pid, 0)
        assert process.stdout is not None
        found = re.search(r":(\d+)", process.stdout.readline())
        assert found is not None, "assay up did not start; its error is above"
        yield Running(
            process.pid,
            int(found[1]),
            lambda row, pace: Target(path(row), f"{MODELS[row.upstream]}-{pace}", headers),
        )
    finally:
        process.terminate()
        process.wait()


def key_with_budgets(folder: Path) -> dict[str, str]:
    """Makes a key with limits and budgets; the headers that bring it."""

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "assay.main", "key", *arguments]
        return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout

    limits = ("--requests-per-minute", "100000000", "--tokens-per-minute", "1000000000")
    token = run("create", "bench", "--team", "all", *limits).strip()
    run("budget", "bench", "--usd", "100000", "--per", "day")
    run("budget", "team:all", "--usd", "1000000", "--per", "month")
    return {"authorization": f"Bearer {token}", "x-api-key": token}


@contextmanager
def bare(upstream_port: int, _folder: Path) -> Iterator[Running]:
    """uvicorn + aiohttp, bytes passed through, nothing recorded."""
    process, port = start("--proxy", "aiohttp", "--upstream-port", str(upstream_port), core=0)
    try:
        yield Running(
            process.pid, port, lambda row, pace: Target(f"/{pace}{path(row)}", MODELS[row.upstream])
        )
    finally:
        process.terminate()
        process.wait()


@dataclass(frozen=True)
class Server:
    """A server and how much of the load it gets. `translates`: whether it knows more than one dialect."""

    start: Start
    share: float = 1.0
    translates: bool = True


KEYED: Final = "assay, key and budgets too"
ASSAY, BARE = "assay, trace and cost on", "bare proxy, aiohttp"
SERVERS = {BARE: Server(bare, translates=False), ASSAY: Server(assay)}
PEERS = {
    f"litellm {peers.LITELLM_VERSION}": Server(peers.litellm, 0.05),
    f"portkey {peers.PORTKEY_VERSION}": Server(peers.portkey, 0.25),
}


# --- the table --------------------------------------------------------------------------------------------

Results = dict[tuple[str, str, Column], Figures]


def run(
    name: str, server: Server, upstream_port: int, rows: Sequence[Row], options: argparse.Namespace
) -> Results:
    """One server through all rows; prints a line for each."""
    results: Results = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        server.start(upstream_port, Path(folder)) as running,
    ):
        sent = 0
        for row in rows:
            if row.translated and not server.translates:
                continue
            cells, problem = [], ""
            for column in options.columns:
                calls = int((options.calls if column == "call" else options.streams) * server.share)
                try:
                    figures = measure(running, row, column, calls, options.rounds)
                except Refused as refused:
                    problem = problem or f"{' ' * 27}{column}: {refused}"
                    cells.append("refused")
                    continue
                sent += warm_up(calls) + calls * options.rounds
                results[name, row.name, column] = figures
                cells.append(f"{figures.cpu_us:,.0f} ({figures.worst_us:,.0f})")
            rate = results.get((name, row.name, "call"))
            print(
                f"{name:<26} {row.name:<26}"
                + "".join(f"{cell:>18}" for cell in cells)
                + (f"{rate.calls_per_s:>10,.0f}" if rate else f"{'':>10}")
                + f"{resident_mb(running.pid):>7.0f}",
                flush=True,
            )
            if problem:
                print(problem, flush=True)
        if name in (ASSAY, KEYED):
            check_stored(Path(folder), sent)
    return results


def check_stored(folder: Path, wanted: int) -> None:
    """A benchmark of a server that drops its spans would measure nothing."""
    until = time.monotonic() + 30
    stored, priced = 0, 0
    while stored < wanted and time.monotonic() < until:
        with sqlite3.connect(folder / ".assay" / "assay.db") as store:
            query = "SELECT count(*), sum(cost_kind = 'exact' AND cost_pico > 0) FROM spans"
            stored, priced = store.execute(query).fetchone()
        time.sleep(0.2)
    print(f"{'':<27}spans stored: {stored:,} of {wanted:,}, {priced or 0:,} with an exact cost", flush=True)


def ratios(results: Results, rows: Sequence[Row], columns: Sequence[Column], names: Sequence[str]) -> None:
    """Beside the bars, and against each other server: how many times as much CPU time it took."""
    for row in rows:
        print(f"\n{row.name}")
        for column in columns:
            ours = results.get((ASSAY, row.name, column))
            if ours is None:
                continue
            bar = row.bar_us(column)
            said = (
                f"{ours.cpu_us:,.0f} us, the bar {bar:,} us ({'within' if ours.cpu_us <= bar else 'above'})"
            )
            for name in names:
                theirs = results.get((name, row.name, column))
                if theirs is None or name == ASSAY:
                    continue
                if name == BARE:
                    said += f"; {ours.cpu_us / theirs.cpu_us:.2f}x the bare proxy"
                else:
                    said += f"; {name} takes {theirs.cpu_us / ours.cpu_us:.1f}x"
            print(f"  {column:<9}{said}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=6000, help="whole replies a round")
    parser.add_argument("--streams", type=int, default=640, help="streams a round")
    parser.add_argument("--keyed", action="store_true", help="also with a key, its limits and budgets")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS), metavar="ROW")
    parser.add_argument("--columns", nargs="+", choices=COLUMNS, default=COLUMNS, metavar="COLUMN")
    options = parser.parse_args()
    servers = dict(SERVERS)
    if options.keyed:
        servers[KEYED] = Server(partial(assay, keyed=True))
    if os.environ.get("PEERS", "0") not in ("", "0"):
        peers.install()
        servers |= PEERS
    rows = [ROWS[name] for name in options.rows]
    pin(os.getpid(), 1)
    upstream = subprocess.Popen(
        [sys.executable, str(Path(__file__).parent / "upstream.py")], stdout=subprocess.PIPE, text=True
    )
    pin(upstream.pid, 1)
    assert upstream.stdout is not None
    upstream_port = int(upstream.stdout.readline())
    heads = {"call": "a call", "paced": "stream, paced", "at-once": "stream, at once"}
    print(
        f"{'CPU us, median (worst)':<53}"
        + "".join(f"{heads[column]:>18}" for column in options.columns)
        + f"{'calls/s':>10}{'MB':>7}",
        flush=True,
    )
    results: Results = {}
    try:
        for name, server in servers.items():
            try:
                results |= run(name, server, upstream_port, rows, options)
            except peers.NotStarted as problem:
                print(f"{name:<27}{problem}", flush=True)
    finally:
        upstream.terminate()
        upstream.wait()
    ratios(results, rows, options.columns, list(servers))


if __name__ == "__main__":
    main()
