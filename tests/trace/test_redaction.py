"""Secrets do not reach the store, nor the logs: wherever they stand, and whoever said them."""

from __future__ import annotations

import base64
import json
import os
import signal
from pathlib import Path

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.trace.redaction import REDACTED, Redactor

KEYS = [
    "sk-" + "Ab1" * 10,
    "sk-ant-api03-" + "x_Y-9" * 10,
    "sk-proj-" + "Q7" * 30,
    "ask-abcdefghij-" + "a2" * 26,
    "AIza" + "Sy-_9" * 7,
    "gsk_" + "aB3" * 16,
    "xai-" + "aB3" * 20,
    "hf_" + "aB" * 17,
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_" + "a1B2" * 9,
    "github_pat_" + "a1_B2" * 9,
    "glpat-" + "a1-B2" * 5,
    "xoxb-1234567890-abcdefghij",
    "sk_live_" + "a1B2" * 6,
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\nabc+/=\n-----END RSA PRIVATE KEY-----",
]


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key[:12])
@pytest.mark.parametrize(
    "said", ["{}", "it is {}.", "a\n{}\nb", '{{"key": "{}"}}', "https://h/v1?key={}&x=1", "X-Key: {}"]
)
def test_what_looks_like_a_key_is_taken_out(key: str, said: str) -> None:
    said = said.format(key)
    for text in (said, json.dumps(said), json.dumps(json.dumps(said))):
        found = Redactor()(text)
        secret = key.splitlines()[0][-12:] if "\n" not in key else "MIIEpAIBAAKCAQEA"
        assert secret not in found
        assert REDACTED in found
        if text is not said:
            json.loads(found)


@pytest.mark.parametrize("word", ["Bearer", "bearer", "BEARER"])
def test_bearer_tokens_are_taken_out(word: str) -> None:
    assert Redactor()(f"authorization: {word} abcdefghijklmnop.qrst==") == f"authorization: {word} [redacted]"


@pytest.mark.parametrize(
    "text",
    [
        "the task-list-of-things-that-are-not-done-yet is long, ask-ing helps",
        "a risk-averse-and-very-careful-person-indeed",
        "the bearer of bad news",
        "sk-learn, AIza, AKIA, eyJ, xox, hf_ and gsk_ are no keys",
    ],
)
def test_words_are_left(text: str) -> None:
    assert Redactor()(text) == text


def test_images_are_left() -> None:
    image = base64.b64encode(os.urandom(2_000_000)).decode()
    assert Redactor()(image) == image


@given(st.text(min_size=8), st.text(), st.text())
def test_a_secret_that_is_known_is_found_in_any_text(secret: str, before: str, after: str) -> None:
    redact = Redactor([secret])
    for text in (
        before + secret + after,
        json.dumps(before + secret + after, ensure_ascii=False),
        json.dumps(json.dumps(before + secret + after, ensure_ascii=False), ensure_ascii=False),
    ):
        assert REDACTED in redact(text)
        assert secret not in redact(text).replace(REDACTED, "")


SECRET = "correct-horse-battery-staple"
TOML = """
[trace]
redact_secrets = {on}

[providers.stage]
dialect = "scripted"
replies = ["Your key is sk-{reply}, your token Bearer {reply}."]

[providers.away]
dialect = "compatible"
base_url = "http://127.0.0.1:9/v1"
api_key = "env:PLANTED_KEY"

[models.m]
provider = "stage"

[models.away]
provider = "away"
"""
REPLY = "R7eply" * 6


@pytest.mark.parametrize("on", [True, False])
def test_planted_secrets_are_neither_stored_nor_logged(serve, tmp_path: Path, on: bool) -> None:
    served = serve(TOML.format(on=str(on).lower(), reply=REPLY), root=tmp_path, env={"PLANTED_KEY": SECRET})
    said = [
        {"role": "system", "content": f"The password is {SECRET}."},
        {"role": "user", "content": "\n".join(KEYS)},
    ]
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key=KEYS[3], max_retries=0) as client:
        for stream in (False, True):
            reply = client.chat.completions.create(
                model="m", messages=said, stream=stream, user=KEYS[1], metadata={"key": KEYS[0]}
            )
            text = (
                "".join(chunk.choices[0].delta.content or "" for chunk in reply if chunk.choices)
                if stream
                else reply.choices[0].message.content
            )
            # The caller gets what was said.
            assert REPLY in text
        with pytest.raises(openai.APIStatusError):
            client.chat.completions.create(model="away", messages=said)
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model=f"model-of {KEYS[0]}", messages=said)
    _, errors = served.stop(signal.SIGTERM)
    kept = b"".join(file.read_bytes() for file in (tmp_path / ".assay").rglob("*") if file.is_file())
    secrets = [SECRET, REPLY, *(key for key in KEYS if "\n" not in key), "MIIEpAIBAAKCAQEA"]
    stored = [secret for secret in secrets if secret.encode() in kept]
    if on:
        assert stored == []
        assert REDACTED.encode() in kept
    else:
        assert set(stored) >= {SECRET, REPLY}
    assert not [secret for secret in secrets if secret in errors]
