"""Keys as callers and operators meet them: `assay up`, the official SDKs, other processes, and what leaks."""

from __future__ import annotations

import json
import signal
import sqlite3
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai.errors import ClientError

from assay.keys import KeyStore
from assay.storage import Store

TOML = """
[providers.stage]
dialect = "scripted"
replies = ["The answer is forty-two."]

[models.answer]
provider = "stage"

[models.other]
provider = "stage"
"""
SAID = "What is the answer?"
QUESTION: Any = [{"role": "user", "content": SAID}]


class Keys:
    """The keys of a served project, changed by another process than the one that serves: this one."""

    def __init__(self, root: Path) -> None:
        self.store = Store.open(f"sqlite:///{root}/.assay/assay.db")
        self.keys = KeyStore(self.store)


@pytest.fixture(scope="module")
def served(serve_session):
    return serve_session(TOML)


@pytest.fixture(scope="module")
def keys(served) -> Iterator[KeyStore]:
    opened = Keys(served.root)
    opened.keys.create("the first")
    yield opened.keys
    opened.store.close()


def ask(served: Any, token: str | None, path: str = "/v1/models") -> int:
    request = urllib.request.Request(served.url + path)
    if token is not None:
        request.add_header("authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


# --- the official SDKs ---------------------------------------------------------------------------


def of_openai(served: Any, token: str, model: str) -> str:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key=token, max_retries=0) as client:
        completion = client.chat.completions.create(model=model, messages=QUESTION)
        return completion.choices[0].message.content or ""


def of_openai_responses(served: Any, token: str, model: str) -> str:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key=token, max_retries=0) as client:
        return client.responses.create(model=model, input=SAID).output_text


def of_anthropic(served: Any, token: str, model: str) -> str:
    with anthropic.Anthropic(base_url=served.url, api_key=token, max_retries=0) as client:
        message = client.messages.create(model=model, max_tokens=50, messages=QUESTION)
        return message.content[0].text  # type: ignore[union-attr]


def of_anthropic_bearer(served: Any, token: str, model: str) -> str:
    with anthropic.Anthropic(base_url=served.url, auth_token=token, max_retries=0) as client:
        message = client.messages.create(model=model, max_tokens=50, messages=QUESTION)
        return message.content[0].text  # type: ignore[union-attr]


def of_gemini(served: Any, token: str, model: str) -> str:
    with genai.Client(api_key=token, http_options={"base_url": served.url}) as client:
        return client.models.generate_content(model=model, contents=SAID).text or ""


UNKNOWN = (openai.AuthenticationError, anthropic.AuthenticationError, ClientError)
NOT_ALLOWED = (openai.PermissionDeniedError, anthropic.PermissionDeniedError, ClientError)
every_sdk = pytest.mark.parametrize(
    "call", [of_openai, of_openai_responses, of_anthropic, of_anthropic_bearer, of_gemini]
)


@pytest.fixture(autouse=True)
def no_keys_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "OPENAI_API_KEY",
        "GOOGLE_API_KEY",
        "GEMINI_API_KEY",
    ):
        monkeypatch.delenv(name, raising=False)


@every_sdk
def test_every_sdk_sends_its_key_in_its_own_way(served, keys: KeyStore, call: Any) -> None:
    issued = keys.create(f"for {call.__name__}", models=["ans*"])
    assert call(served, issued.token, "answer") == "The answer is forty-two."
    with pytest.raises(NOT_ALLOWED) as refused:
        call(served, issued.token, "other")
    assert "it may use: ans*" in str(refused.value)
    assert status_of(refused.value) == 403
    with pytest.raises(UNKNOWN) as unknown:
        call(served, issued.token[:-1] + ("a" if issued.token[-1] != "a" else "b"), "answer")
    assert status_of(unknown.value) == 401


def status_of(error: Any) -> int:
    return error.code if isinstance(error, ClientError) else error.status_code


def test_lists_by_the_sdks_have_what_the_key_may_use(served, keys: KeyStore) -> None:
    token = keys.create("lists", models=["answer"]).token
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key=token) as client:
        assert [model.id for model in client.models.list()] == ["answer"]
    with anthropic.Anthropic(base_url=served.url, api_key=token) as claude:
        assert [model.id for model in claude.models.list()] == ["answer"]
    with genai.Client(api_key=token, http_options={"base_url": served.url}) as google:
        assert [model.name for model in google.models.list()] == ["models/answer"]


# --- from other processes ------------------------------------------------------------------------


def test_what_another_process_revokes_is_refused_while_calls_go_on(served, keys: KeyStore) -> None:
    token = keys.create("short").token
    assert ask(served, token) == 200
    keys.revoke("short")
    # Bounded by the age of the snapshot, which tests/keys holds to with a clock of its own.
    while ask(served, token) == 200:
        pass
    assert ask(served, token) == 401


def test_the_first_key_ends_the_time_without(serve, assay) -> None:
    served = serve(TOML)
    assert ask(served, None) == 200
    made = assay("key", "create", "ci", "--team", "core", "--json", cwd=served.root)
    token = json.loads(made.out)["token"]
    while ask(served, None) == 200:
        pass
    assert ask(served, None) == 401
    assert ask(served, token) == 200
    assert assay("key", "revoke", "ci", cwd=served.root).status == 0
    while ask(served, token) == 200:
        pass
    assert (ask(served, token), ask(served, None), ask(served, None, "/healthz")) == (401, 401, 200)


def test_keys_and_their_last_use_outlive_the_server(serve) -> None:
    served = serve(TOML)
    opened = Keys(served.root)
    with closing(opened.store):
        token, dead = opened.keys.create("a").token, opened.keys.create("b").token
        opened.keys.revoke("b")
        while ask(served, token) != 200:
            pass
        served.stop(signal.SIGKILL)
        again = serve(root=served.root)
        assert [ask(again, one) for one in (token, dead, None)] == [200, 401, 401]
        again.stop(signal.SIGTERM)
        assert opened.keys.get("a").last_used_ns is not None


# --- what leaks ----------------------------------------------------------------------------------


class Recorder(BaseHTTPRequestHandler):
    """An upstream that keeps all it is sent."""

    seen: bytes = b""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        Recorder.seen += f"{self.path}\n{self.headers}\n".encode() + body
        message = {"role": "assistant", "content": "fine"}
        reply = json.dumps(
            {
                "id": "c",
                "object": "chat.completion",
                "created": 1,
                "model": "m",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }
        ).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def upstream() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def send(url: str, headers: dict[str, str], body: object) -> bytes:
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.read()


def test_keys_are_nowhere_but_with_their_holders(serve, upstream: str) -> None:
    served = serve(
        f'[providers.up]\ndialect = "compatible"\nbase_url = "{upstream}"\napi_key = "env:UPSTREAM_KEY"\n'
        '[models.m]\nprovider = "up"\n[models.n]\nprovider = "up"\n',
        env={"UPSTREAM_KEY": "the-upstreams-own"},
    )
    opened = Keys(served.root)
    with closing(opened.store):
        good = opened.keys.create("good", models=["m"]).token
        while ask(served, None) == 200:
            pass
    planted = {"good": good, "bad": good[:-6] + "aaaaaa", "foreign": "sk-proj-PLANTED0123456789"}
    told = []
    for token in planted.values():
        ways = [({"authorization": f"Bearer {token}"}, ""), ({"x-api-key": token}, ""), ({}, f"?key={token}")]
        ways += [({"x-goog-api-key": token, "x-api-key": good}, "")]
        for headers, query in ways:
            for path, body in (
                ("/v1/chat/completions", {"model": "m", "messages": QUESTION}),
                ("/v1/chat/completions", {"model": "n", "messages": QUESTION}),
                ("/v1/chat/completions", {"model": "m"}),
                ("/v1/messages", {"model": "m", "max_tokens": 5, "messages": QUESTION}),
                ("/v1beta/models/m:generateContent", {"contents": [{"parts": [{"text": SAID}]}]}),
                ("/v1/nothing", {}),
                ("/traces", {}),
            ):
                sending = {"content-type": "application/json", **headers}
                told.append(send(served.url + path + query, sending, body))
    _, said = served.stop(signal.SIGTERM)
    assert served.process.stdout is not None
    with closing(sqlite3.connect(f"{served.root}/.assay/assay.db")) as connection:
        assert connection.execute("SELECT count(*) FROM spans WHERE key_id IS NOT NULL").fetchone()[0] > 5
    kept = b"".join(file.read_bytes() for file in (served.root / ".assay").rglob("*") if file.is_file())
    assert b"the-upstreams-own" in Recorder.seen
    for token in planted.values():
        secret = token.rpartition("-")[2].encode()
        for where in (kept, said.encode(), Recorder.seen, *told):
            assert secret not in where


# --- reachable by others -------------------------------------------------------------------------


def test_others_reach_nothing_before_there_are_keys(assay, tmp_path: Path) -> None:
    (tmp_path / "assay.toml").write_text(TOML)
    said = assay("up", "--host", "0.0.0.0", "--port", "0")
    assert said.status == 3
    assert "no keys" in said.err
    assert "assay key create" in said.err


def test_with_keys_others_are_served(serve_session, tmp_path: Path) -> None:
    (tmp_path / "assay.toml").write_text('[server]\nhost = "0.0.0.0"\n' + TOML)
    (tmp_path / ".assay").mkdir()
    opened = Keys(tmp_path)
    with closing(opened.store):
        token = opened.keys.create("ci").token
    served = serve_session(root=tmp_path)
    assert "0.0.0.0" in served.url
    served.url = served.url.replace("0.0.0.0", "127.0.0.1")
    assert (ask(served, token), ask(served, None)) == (200, 401)


# --- the command line ----------------------------------------------------------------------------


def test_a_key_is_shown_once_and_listed_by_its_id(assay) -> None:
    made = assay("key", "create", "ci", "--team", "core", "-m", "fast", "-m", "gpt-*", "--expires", "90d")
    token = made.out.strip()
    key_id = token.split("-")[1]
    assert made.status == 0
    assert token.startswith("ask-")
    assert "\n" not in token
    assert "shown this once" in made.err
    listed = assay("key", "list")
    assert all(
        word in listed.out for word in (f"ask-{key_id}-", "ci", "core", "fast, gpt-*", "never", "active")
    )
    assert token not in listed.out
    (as_json,) = json.loads(assay("key", "list", "--json").out)
    assert (as_json["id"], as_json["models"], as_json["revoked_ns"]) == (key_id, ["fast", "gpt-*"], None)


def test_rotating_and_revoking(assay) -> None:
    first = assay("key", "create", "ci").out.strip()
    rotated = assay("key", "rotate", "ci", "--grace", "24h", "--json")
    issued = json.loads(rotated.out)
    assert issued["token"] != first
    assert issued["key"]["old_until_ns"] > issued["key"]["rotated_ns"]
    assert "revoked" in assay("key", "revoke", "ci").out
    assert assay("key", "list").out.startswith("No keys.")
    assert "revoked" in assay("key", "list", "--all").out
    assert json.loads(assay("key", "list", "--all", "--json").out)[0]["revoked_ns"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["revoke", "nobody"], "assay key list"),
        (["rotate", "nobody"], "assay key list"),
        (["create", "-m", "", "x"], "printable"),
        (["create", "x", "--expires", "soon"], "90d"),
        (["create", "x", "--expires", "2001-01-01"], "over already"),
        (["create", "x\ny"], "cannot be the name"),
    ],
)
def test_what_cannot_be_is_said(assay, arguments: list[str], says: str) -> None:
    said = assay("key", *arguments)
    assert said.status == 3
    assert says in said.err
    assert "Traceback" not in said.err


def test_traces_by_key(serve, assay) -> None:
    served = serve(TOML)
    opened = Keys(served.root)
    with closing(opened.store):
        one, two = opened.keys.create("one"), opened.keys.create("two")
    while ask(served, None) == 200:
        pass
    assert of_openai(served, one.token, "answer")
    served.stop()
    assert len(json.loads(assay("trace", "list", "--key", "one", "--json", cwd=served.root).out)) == 1
    assert json.loads(assay("trace", "list", "--key", two.key.id, "--json", cwd=served.root).out) == []
