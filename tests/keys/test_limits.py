"""What a key may ask is stored with it, set from the command line, and held by a server that runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pytest

from assay.errors import NotFound, RequestError
from assay.keys import Keyring, KeyStore
from assay.storage import Store
from assay.types.limits import UNLIMITED, Limits

TOML = '[providers.p]\ndialect = "scripted"\nreplies = ["hello"]\n[models.m]\nprovider = "p"\n'


def test_limits_are_set_and_set_anew(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path}/assay.db")
    keys = KeyStore(store)
    made = keys.create("ci", limits=Limits(requests_per_minute=5, at_once=2)).key
    assert keys.get("ci") == made
    assert made.limits == Limits(requests_per_minute=5, at_once=2)
    keyring = Keyring(keys)
    assert keyring.find(made.id).limits.at_once == 2
    assert keys.limit("ci", Limits(tokens_per_minute=9)).limits == Limits(tokens_per_minute=9)
    keyring.refresh()
    assert keyring.find(made.id).limits == Limits(tokens_per_minute=9)
    assert keys.limit("ci", UNLIMITED).limits == UNLIMITED
    assert keys.create("free").key.limits == UNLIMITED
    with pytest.raises(RequestError, match="at_once must be at least 1"):
        keys.limit("ci", Limits(at_once=0))
    with pytest.raises(NotFound):
        keys.limit("nobody", UNLIMITED)
    keyring.close()
    store.close()


def test_a_server_holds_a_key_to_its_limits(serve: Any, assay: Any, tmp_path: Path) -> None:
    (tmp_path / "assay.toml").write_text(TOML)
    made = json.loads(assay("key", "create", "ci", "--requests-per-minute", "2", "--json").out)
    assert made["key"]["limits"] == {"requests_per_minute": 2}
    url = serve(root=tmp_path).url.rstrip("/")
    with openai.OpenAI(base_url=f"{url}/v1", api_key=made["token"], max_retries=0) as client:

        def ask() -> str | None:
            said: Any = [{"role": "user", "content": "Hi"}]
            return client.chat.completions.create(model="m", messages=said).choices[0].message.content

        assert [ask(), ask()] == ["hello", "hello"]
        with pytest.raises(openai.RateLimitError, match="requests_per_minute") as refused:
            ask()
        assert 1 <= int(refused.value.response.headers["retry-after"]) <= 30
    assert "2 requests a minute" in assay("key", "list").out
    said = assay("key", "limit", "ci", "--tokens-per-minute", "90000").out
    assert said.endswith("may make: 90,000 tokens a minute.\n")
    assert assay("key", "limit", "ci").out.endswith("may make: any calls.\n")
