"""Fixtures that every folder of tests may use."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Served:
    """A running `assay up`."""

    process: subprocess.Popen[str]
    url: str
    root: Path

    def stop(self, how: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Ends it and gives its exit status and what it said on standard error."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, said


def assay_up(folder: Path, toml: str = "", env: dict[str, str] | None = None, *options: str) -> Served:
    """Starts the real `assay up` in a process of its own, on a free port, with this assay.toml."""
    if toml or not (folder / "assay.toml").exists():
        (folder / "assay.toml").write_text(toml)
    process = subprocess.Popen(
        [sys.executable, "-m", "assay.main", "up", "--port", "0", *options],
        cwd=folder,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"http://\S+", line)
    if found is None:
        _, said = process.communicate(timeout=10)
        raise AssertionError(f"assay up said {line!r} and {said!r}")
    return Served(process, found[0], folder)


Serve = Callable[..., Served]


@pytest.fixture(scope="session")
def serve_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Starts the real `assay up` in a process of its own, on a free port, with this assay.toml."""
    running: list[Served] = []

    def start(
        toml: str = "",
        root: Path | None = None,
        env: dict[str, str] | None = None,
        options: tuple[str, ...] = (),
    ) -> Served:
        served = assay_up(root or tmp_path_factory.mktemp("served"), toml, env, *options)
        running.append(served)
        return served

    yield start
    for served in running:
        served.stop(signal.SIGKILL)


@pytest.fixture
def serve(serve_session: Serve) -> Serve:
    return serve_session


@dataclass
class Said:
    """What a command of the command line left behind."""

    status: int
    out: str
    err: str


Command = Callable[..., Said]


@pytest.fixture
def assay(tmp_path: Path) -> Command:
    """Runs `assay ...` in a process of its own, in `tmp_path` unless `cwd` says otherwise."""

    def run(*arguments: str, cwd: Path | None = None, stdin: str = "", **env: str) -> Said:
        done = subprocess.run(
            [sys.executable, "-m", "assay.main", *arguments],
            cwd=cwd or tmp_path,
            env={**os.environ, "COLUMNS": "200", **env},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    return run
