"""What the tests of the documentation share: its code blocks, a project to try them in, and a server."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from assay.main import main

ROOT = Path(__file__).parents[2]
ADDRESS = "http://127.0.0.1:8700"
STAGED = """
[providers.stage]
dialect = "scripted"
replies = ["You have 45 days."]

[models.local]
provider = "stage"
"""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page. `line` is where its text begins."""

    page: Path
    line: int
    language: str
    text: str


Blocks = Callable[[Path, str], list[Block]]


@pytest.fixture(scope="session")
def blocks() -> Blocks:
    """The blocks of a page in one language."""

    def find(page: Path, language: str) -> list[Block]:
        text = page.read_text(encoding="utf-8")
        return [
            Block(page, text[: found.start(2)].count("\n") + 1, found[1], found[2])
            for found in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
            if found[1] == language
        ]

    return find


@pytest.fixture(scope="session")
def lines(blocks: Blocks) -> Callable[[Path], list[str]]:
    """The lines of a page's shell blocks, each one whole."""

    def find(page: Path) -> list[str]:
        text = "".join(block.text for block in blocks(page, "sh")).replace("\\\n", " ")
        return [line for line in text.splitlines() if line and not line.startswith("#")]

    return find


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the example, in which the model `local` answers from a script."""
    folder = tmp_path / "project"
    shutil.copytree(ROOT / "examples" / "support", folder, ignore=shutil.ignore_patterns(".assay"))
    (folder / "assay.toml").write_text(STAGED)
    return folder


@pytest.fixture(scope="session")
def address(serve_session) -> str:
    """Where a server with the same scripted model listens."""
    return serve_session(STAGED).url


RunPython = Callable[[str], str]


@pytest.fixture
def run_python(project: Path, address: str) -> RunPython:
    """Runs a script in a process of its own, against the server; gives what it printed."""

    def run(script: str) -> str:
        done = subprocess.run(
            [
                sys.executable,
                "-W",
                "error::DeprecationWarning:__main__",
                "-c",
                script.replace(ADDRESS, address),
            ],
            cwd=project,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


RunCommand = Callable[[str], tuple[int, str]]


@pytest.fixture
def run_command(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> RunCommand:
    """Runs one line `assay ...` in the project, in this process; gives exit status and standard output."""
    monkeypatch.chdir(project)

    def run(line: str) -> tuple[int, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", shlex.split(line, comments=True))
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        status = ended.value.code or 0
        assert isinstance(status, int)
        assert status != 3, f"{line}\n{said.err}"
        return status, said.out

    return run
