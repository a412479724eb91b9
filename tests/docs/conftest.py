"""What the tests of the documentation share: its code blocks, a project to try them in, and a server."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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


class Elsewhere(BaseHTTPRequestHandler):
    """A server that gives vectors, and below /status/NNN answers every call with that status."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        status, reply = 200, {}
        if failing := re.match(r"/status/(\d+)/", self.path):
            status = int(failing[1])
        elif self.path == "/v1/embeddings":
            texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
            vectors = [{"index": place, "embedding": [0.6, 0.8]} for place, _ in enumerate(texts)]
            reply = {"object": "list", "model": body["model"], "data": vectors}
        data = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nothing: the output is the tests'."""


@pytest.fixture(scope="session")
def elsewhere() -> Iterator[str]:
    """The address of a provider that answers in this process."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def address(serve_session, elsewhere: str) -> str:
    """Where a server with the same scripted model listens; its vectors come from elsewhere."""
    vectors = (
        f'[providers.vectors]\ndialect = "compatible"\nbase_url = "{elsewhere}/v1"\nprices = "free"\n'
        '[models.local-embeddings]\nprovider = "vectors"\n'
    )
    return serve_session(STAGED + vectors).url


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
