"""The server as its callers see it: the official SDK with only the base URL changed, and plain HTTP."""

from __future__ import annotations

import http.client
import json
import signal
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import openai
import pytest

from assay.storage import Store
from assay.trace import TraceStore

TOML = """
[server]
max_body_bytes = 4000

[providers.stage]
dialect = "scripted"
replies = ["The answer is forty-two."]

[providers.away]
dialect = "openai"
base_url = "http://127.0.0.1:9/v1"

[providers.keyed]
dialect = "openai"
base_url = "http://127.0.0.1:9/v1"
api_key = "env:KEY_THAT_IS_NOT_SET"

[models.answer]
provider = "stage"

[models.away]
provider = "away"

[models.keyed]
provider = "keyed"
"""
QUESTION = [{"role": "user", "content": "What is the answer?"}]
CALL = json.dumps({"model": "answer", "messages": QUESTION}).encode()


@pytest.fixture(scope="module")
def served(serve_session):
    return serve_session(TOML)


@pytest.fixture(scope="module")
def client(served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0) as opened:
        yield opened


def ask(served, method: str, path: str, body: bytes | None = None, **headers: str):
    connection = http.client.HTTPConnection(urlsplit(served.url).netloc, timeout=60)
    try:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, {"content-type": "application/json", **names})
        reply = connection.getresponse()
        return reply.status, dict(reply.getheaders()), reply.read()
    finally:
        connection.close()


def stored_traces(served) -> int:
    store = Store.open(f"sqlite:///{served.root}/.assay/assay.db")
    try:
        found = TraceStore(store).latest(100)
        assert all(trace.calls == 1 and trace.tokens_out > 0 for trace in found)
        return len(found)
    finally:
        store.close()


def test_the_sdk_gets_an_answer(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(model="answer", messages=QUESTION)
    assert completion.choices[0].message.content == "The answer is forty-two."
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.total_tokens > 0


def test_the_sdk_gets_a_stream(client: openai.OpenAI) -> None:
    with client.chat.completions.create(
        model="answer", messages=QUESTION, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "The answer is forty-two."
    assert chunks[-1].usage is not None
    assert len(chunks) > 3


@pytest.mark.anyio
async def test_the_async_sdk(served) -> None:
    async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="any") as client:
        completion = await client.chat.completions.create(model="answer", messages=QUESTION)
        assert completion.choices[0].message.content == "The answer is forty-two."
        stream = await client.chat.completions.create(model="answer", messages=QUESTION, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
        assert text == "The answer is forty-two."


def test_the_models_are_listed(client: openai.OpenAI) -> None:
    assert {model.id for model in client.models.list()} == {
        "local",
        "local-embeddings",
        "answer",
        "away",
        "keyed",
    }
    assert client.models.retrieve("answer").owned_by == "stage"


def test_an_unknown_model_is_a_404_that_names_the_nearest(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="did you mean 'answer'") as caught:
        client.chat.completions.create(model="anwser", messages=QUESTION)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("anwser")


@pytest.mark.parametrize("stream", [False, True])
def test_an_upstream_that_is_away_is_a_typed_error(client: openai.OpenAI, stream: bool) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="away", messages=QUESTION, stream=stream)
    assert caught.value.status_code == 503
    assert caught.value.code == "provider_unavailable"


def test_a_key_that_is_not_set_is_named_by_its_variable(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError, match="KEY_THAT_IS_NOT_SET"):
        client.chat.completions.create(model="keyed", messages=QUESTION)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{not json", "JSON"),
        (b"[]", "object"),
        (b'{"model": "answer"}', "messages"),
        (b'{"model": 7, "messages": []}', "model"),
        (b'{"model": "answer", "messages": [{"role": "user", "content": 7}]}', "content"),
        (b'{"model": "answer", "messages": [{"role": "usr", "content": "x"}]}', "role"),
        (
            b'{"model": "answer", "messages": [{"role": "user", "content": "x"}], "tempature": 1}',
            "temperature",
        ),
        (b'{"model": "answer", "messages": [{"role": "user", "content": "\xff"}]}', "UTF-8"),
        (b"", "JSON"),
    ],
)
def test_bad_requests_are_400_in_openais_shape(served, body: bytes, says: str) -> None:
    status, headers, answer = ask(served, "POST", "/v1/chat/completions", body)
    error = json.loads(answer)["error"]
    assert status == 400
    assert headers["content-type"] == "application/json"
    assert set(error) == {"message", "type", "param", "code"}
    assert says.lower() in error["message"].lower()
    assert "Traceback" not in error["message"]


def test_a_huge_body_is_refused_with_the_limit(served) -> None:
    status, _, answer = ask(served, "POST", "/v1/chat/completions", b" " * 5000)
    assert status == 413
    assert "4000 bytes" in json.loads(answer)["error"]["message"]


def test_a_huge_body_in_chunks_is_refused_too(served) -> None:
    host, port = urlsplit(served.url).netloc.split(":")
    chunk = b"800\r\n" + b" " * 0x800 + b"\r\n"
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(head + chunk * 2)
        assert b" 413 " in connection.recv(65536).split(b"\r\n")[0]


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/v1/nothing", 404), ("GET", "/v1/chat/completions", 405)]
)
def test_wrong_paths_and_methods_answer_in_openais_shape(served, method: str, path: str, status: int) -> None:
    got, _, answer = ask(served, method, path)
    assert got == status
    assert json.loads(answer)["error"]["message"]


def test_web_pages_of_other_sites_are_refused(served) -> None:
    path = "/v1/chat/completions"
    assert ask(served, "POST", path, CALL, origin="https://evil.example")[0] == 403
    assert ask(served, "POST", path, CALL, host="evil.example")[0] == 403
    assert ask(served, "POST", path, CALL, host="[")[0] == 403
    assert ask(served, "POST", path, CALL, sec_fetch_site="cross-site")[0] == 403
    assert ask(served, "POST", path, CALL, origin=served.url)[0] == 200


def test_health_and_readiness(served) -> None:
    assert ask(served, "GET", "/healthz")[0] == 200
    status, _, answer = ask(served, "GET", "/readyz")
    ready = json.loads(answer)
    assert status == 200
    assert ready["spans"]["dropped"] == 0
    assert "KEY_THAT_IS_NOT_SET" in ready["models"]["keyed"]


def test_a_call_joins_the_callers_trace_and_names_it(served) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    parent = f"00-{trace_id}-b7ad6b7169203331-01"
    _, headers, _ = ask(served, "POST", "/v1/chat/completions", CALL, traceparent=parent)
    assert headers["x-assay-trace-id"] == trace_id
    assert headers["x-assay-cost-usd"] == "0"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_stopping_stores_every_span(serve, how: signal.Signals) -> None:
    served = serve(f"[trace]\nflush_interval_s = 60\n{TOML}")
    for _ in range(20):
        assert ask(served, "POST", "/v1/chat/completions", CALL)[0] == 200
    status, said = served.stop(how)
    assert status == 0
    assert "Traceback" not in said
    assert stored_traces(served) == 20


def test_kill_9_loses_at_most_the_last_flush_interval(serve) -> None:
    served = serve(TOML)
    for _ in range(20):
        assert ask(served, "POST", "/v1/chat/completions", CALL)[0] == 200
    # Readiness says how many are written: those, all of them, survive.
    written = 0
    while written < 20:
        written = json.loads(ask(served, "GET", "/readyz")[2])["spans"]["written"]
    served.stop(signal.SIGKILL)
    assert stored_traces(served) == 20


def test_a_port_that_is_taken_is_said(served, assay) -> None:
    said = assay("up", "--port", served.url.rsplit(":", 1)[1])
    assert said.status == 3
    assert "--port" in said.err
    assert "Traceback" not in said.err


def test_an_address_that_others_can_reach_is_refused(assay) -> None:
    said = assay("up", "--host", "0.0.0.0")
    assert said.status == 3
    assert "no keys" in said.err
