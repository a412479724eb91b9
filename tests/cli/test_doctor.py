"""`assay doctor`, in real processes: sound and broken configurations, stores and providers on loopback."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from assay.storage import Store


class Quiet(BaseHTTPRequestHandler):
    """Answers HEAD with the date that the server says it is, and remembers what it was asked."""

    date = "Tue, 24 Nov 2020 10:00:00 GMT"

    def do_HEAD(self) -> None:
        self.server.asked.append((self.path, dict(self.headers)))
        self.send_response_only(401)
        self.send_header("Date", self.date)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def upstream() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), Quiet)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def toml(port: int) -> str:
    return (
        f'[providers.far]\ndialect = "compatible"\nbase_url = "http://127.0.0.1:{port}/v1"\n'
        'api_key = "env:FAR_KEY"\n[models.m]\nprovider = "far"\n'
    )


def found(said) -> dict[str, tuple[str, str]]:
    return {one["name"]: (one["status"], one["detail"]) for one in json.loads(said.out)["findings"]}


def test_all_is_well_but_the_clock(tmp_path: Path, assay, upstream: HTTPServer) -> None:
    (tmp_path / "assay.toml").write_text(toml(upstream.server_port))
    Store.open(f"sqlite:///{tmp_path}/.assay/assay.db").close()
    said = assay("doctor", "--json", FAR_KEY="sk-planted-secret-0123456789")
    findings = found(said)
    assert said.status == 0, said.out
    assert json.loads(said.out)["ok"] is True
    assert findings["provider far"][0] == "ok"
    assert findings["clock by far"][0] == "warning"
    assert "ahead of" in findings["clock by far"][1]
    assert findings["store"][0] == findings["schema"][0] == findings["disk"][0] == "ok"
    assert findings["key of far"] == ("ok", "FAR_KEY is set")
    # One request without a key, and nothing that is paid for.
    ((path, headers),) = upstream.asked
    assert path == "/v1"
    assert not {name.lower() for name in headers} & {"authorization", "x-api-key", "x-goog-api-key"}
    assert "planted" not in said.out + said.err


def test_what_fails_is_said_and_ends_with_3(tmp_path: Path, assay) -> None:
    (tmp_path / "assay.toml").write_text(toml(9))
    (tmp_path / ".assay").mkdir()
    (tmp_path / ".assay" / "assay.db").write_bytes(b"no database at all" * 100)
    said = assay("doctor", "--json")
    assert said.status == 3
    failed = {name for name, (status, _) in found(said).items() if status == "failed"}
    assert failed == {"key of far", "provider far", "store"}
    assert "export FAR_KEY" in found(said)["key of far"][1]
    # For people, too; and offline nobody is called.
    said = assay("doctor", "--offline")
    assert said.status == 3
    assert "provider far" not in said.out
    assert "failed" in said.out


def test_an_invalid_configuration_is_a_finding(tmp_path: Path, assay) -> None:
    (tmp_path / "assay.toml").write_text("[server]\nprot = 1\n")
    said = assay("doctor", "--json")
    assert said.status == 3
    status, detail = found(said)["config"]
    assert status == "failed"
    assert "did you mean port" in detail


def test_a_store_is_looked_at_and_not_changed(tmp_path: Path, assay) -> None:
    file = tmp_path / ".assay" / "assay.db"
    said = assay("doctor", "--json", "--offline")
    assert said.status == 0
    assert "first call makes it" in found(said)["store"][1]
    assert not file.exists()
    Store.open(f"sqlite:///{file}").close()
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    said = assay("doctor", "--json", "--offline")
    assert said.status == 3
    assert found(said)["schema"][0] == "failed"
    assert "install the newer Assay" in found(said)["schema"][1]


def test_a_damaged_store_is_found(tmp_path: Path, assay) -> None:
    file = tmp_path / ".assay" / "assay.db"
    Store.open(f"sqlite:///{file}").close()
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    damaged = bytearray(file.read_bytes())
    damaged[4096:8192] = b"\xff" * 4096
    file.write_bytes(damaged)
    said = assay("doctor", "--json", "--offline")
    assert said.status == 3
    assert found(said)["store"][0] == "failed"
