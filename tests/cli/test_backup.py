"""`assay backup`: a copy that holds what was stored, whoever writes meanwhile."""

from __future__ import annotations

import json
import stat
import urllib.request
from pathlib import Path

import openai

from assay.storage import Store
from assay.trace import TraceStore

TOML = '[providers.stage]\ndialect = "scripted"\nreplies = ["Yes."]\n[models.m]\nprovider = "stage"\n'


def count(file: Path) -> int:
    store = Store.open(f"sqlite:///{file}")
    try:
        return TraceStore(store).count()
    finally:
        store.close()


def test_a_live_store_is_copied_and_can_be_put_back(serve, assay) -> None:
    served = serve(TOML)
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="any") as client:
        call = {"model": "m", "messages": [{"role": "user", "content": "Is it?"}]}
        for _ in range(5):
            client.chat.completions.create(**call)
        written = 0
        while written < 5:
            with urllib.request.urlopen(f"{served.url}/readyz") as reply:
                written = json.loads(reply.read())["spans"]["written"]
        said = assay("backup", "copy.db", "--json", cwd=served.root)
        assert said.status == 0, said.err
        client.chat.completions.create(**call)
    copy = served.root / "copy.db"
    assert json.loads(said.out)["bytes"] == copy.stat().st_size
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    # One file, and nothing beside it.
    assert [path.name for path in served.root.glob("*copy.db*")] == ["copy.db"]
    again = assay("backup", "copy.db", cwd=served.root)
    assert again.status == 3
    assert "not overwritten" in again.err
    served.stop()
    live = served.root / ".assay" / "assay.db"
    assert count(live) == 6
    # Restoring is copying the file into the place of the old one.
    for old in live.parent.glob("assay.db*"):
        old.unlink()
    live.write_bytes(copy.read_bytes())
    assert count(live) == 5
    assert assay("doctor", "--offline", cwd=served.root).status == 0


def test_what_cannot_be_copied_is_said(tmp_path: Path, assay) -> None:
    said = assay("backup", "copy.db")
    assert said.status == 3
    assert "no store" in said.err
    Store.open(f"sqlite:///{tmp_path}/.assay/assay.db").close()
    said = assay("backup", "nowhere/copy.db")
    assert said.status == 3
    assert "Traceback" not in said.err
    damaged = tmp_path / ".assay" / "assay.db"
    damaged.write_bytes(damaged.read_bytes()[:4096] + b"\xff" * 8192)
    said = assay("backup", "copy.db")
    assert said.status == 3
    assert not list(tmp_path.glob("*copy.db*"))
