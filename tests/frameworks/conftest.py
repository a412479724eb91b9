"""What the tests of the frameworks share: a stand-in upstream, the gateway before it, a way to run code."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from .upstream import MODEL, Upstream, running

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "frameworks"
TOML = """
[providers.stand-in]
dialect = "{dialect}"
base_url = "{url}"
prices = "free"

[models."weather"]
provider = "stand-in"
model = "{model}"
"""


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with running() as upstream:
        yield upstream


@pytest.fixture
def gateway(serve, upstream: Upstream):
    """The real `assay up` in front of the stand-in, which is spoken to in this dialect."""

    @cache
    def start(dialect: str):
        return serve(TOML.format(dialect=dialect, url=upstream.url, model=MODEL))

    return start


@dataclass
class Example:
    """A running program in a framework's own environment."""

    process: subprocess.Popen[str]
    outside: Path

    def read_until(self, text: str) -> str:
        """What it printed up to `text`; what it says on standard error if it ends before."""
        assert self.process.stdout is not None
        read = ""
        while text not in read:
            if not (letter := self.process.stdout.read(1)):
                assert self.process.stderr is not None
                raise AssertionError(f"it ended after {read!r}: {self.process.stderr.read()[-3000:]}")
            read += letter
        return read

    def finish(self) -> str:
        """The rest of what it printed. It must have ended well and have reached for nothing outside."""
        said, errors = self.process.communicate(timeout=120)
        assert self.process.returncode == 0, errors[-3000:]
        assert not self.outside.exists(), f"it wanted to reach {self.outside.read_text()}"
        return said


Run = Callable[..., Example]


@pytest.fixture
def run(gateway, tmp_path: Path) -> Iterator[Run]:
    """Starts Python of .venvs/NAME on these arguments, with only the gateway's address and model to know."""
    started: list[Example] = []

    def start(name: str, *arguments: str, dialect: str = "compatible", api: str = "") -> Example:
        python = ROOT / ".venvs" / name / "bin" / "python"
        if not python.exists():
            pytest.fail(f"{python} is missing; run: make frameworks")
        # Nothing of this machine's settings: what an example needs to send nothing, it must set itself.
        clean = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONUTF8": "1"}
        watched = {"PYTHONPATH": str(Path(__file__).parent / "watch"), "OUTSIDE": str(tmp_path / "outside")}
        told = {"ASSAY_BASE_URL": f"{gateway(dialect).url}/v1", "ASSAY_MODEL": "weather", "ASSAY_API": api}
        process = subprocess.Popen(
            [str(python), *arguments],
            cwd=EXAMPLES,
            env=clean | watched | told,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(Example(process, tmp_path / "outside"))
        return started[-1]

    yield start
    for example in started:
        if example.process.poll() is None:
            example.process.kill()
        example.process.communicate()
