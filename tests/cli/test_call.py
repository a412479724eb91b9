"""`assay call` with files, schemas and tools, in its own process, before an upstream that shows what came."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

FIXTURES = Path(__file__).parents[1] / "fixtures" / "openai"
WEATHER = {
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


class Upstream(BaseHTTPRequestHandler):
    """Answers with a fixture: tool calls where tools are given, a text elsewhere."""

    seen: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.seen.append(body)
        name = "tools" if body.get("tools") else "text"
        reply = (FIXTURES / f"stream_{name}.sse").read_bytes()
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def seen(tmp_path: Path) -> Iterator[list[dict[str, Any]]]:
    class Handler(Upstream):
        seen: list[dict[str, Any]] = []  # noqa: RUF012

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    (tmp_path / "assay.toml").write_text(
        f'[providers.far]\ndialect = "compatible"\nbase_url = "http://127.0.0.1:{server.server_port}/v1"\n'
        'prices = "openai"\n[models."gpt-4o-mini"]\nprovider = "far"\n'
    )
    yield Handler.seen
    server.shutdown()
    thread.join()
    server.server_close()


def test_files_go_along_as_what_they_are(seen: list[dict[str, Any]], tmp_path: Path, assay) -> None:
    (tmp_path / "notes.md").write_text("# Notes\nall of it")
    (tmp_path / "dot.png").write_bytes(PNG)
    (tmp_path / "beep.wav").write_bytes(b"RIFF")
    (tmp_path / "paper.pdf").write_bytes(b"%PDF-1.4")
    files = [word for name in ("notes.md", "dot.png", "beep.wav", "paper.pdf") for word in ("--attach", name)]
    said = assay("call", "gpt-4o-mini", "What is this?", *files)
    assert said.status == 0, said.err
    assert said.out.strip() == "Hello, wörld"
    text, image, audio, file, question = seen[0]["messages"][0]["content"]
    assert text == {"type": "text", "text": "notes.md:\n\n# Notes\nall of it\n\n"}
    assert image["image_url"]["url"] == "data:image/png;base64," + base64.b64encode(PNG).decode()
    assert audio["input_audio"]["format"] == "wav"
    assert file["file"]["filename"] == "paper.pdf"
    assert question["text"] == "What is this?"


def test_a_schema_and_parameters(seen: list[dict[str, Any]], tmp_path: Path, assay) -> None:
    schema = {"type": "object", "properties": {"days": {"type": "integer"}}}
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    options = ["--seed", "7", "--stop", "END", "--effort", "low", "--temperature", "0"]
    for given in ("schema.json", json.dumps(schema)):
        assert assay("call", "gpt-4o-mini", "How long?", "--schema", given, *options).status == 0
    for body in seen:
        assert body["response_format"]["json_schema"]["schema"] == schema
        assert (body["seed"], body["stop"], body["reasoning_effort"]) == (7, ["END"], "low")


def test_a_tool_that_the_model_asks_for_is_printed(seen: list[dict[str, Any]], tmp_path: Path, assay) -> None:
    wrapped = json.dumps([{"type": "function", "function": WEATHER}])
    (tmp_path / "tool.json").write_text(json.dumps(WEATHER))
    for given in ("tool.json", wrapped):
        said = assay("call", "gpt-4o-mini", "Weather?", "--tool", given)
        assert said.status == 0, said.err
        first, *_ = said.out.splitlines()
        name, _, arguments = first.partition("(")
        assert name == "get_weather"
        assert json.loads(arguments.removesuffix(")"))
    assert [body["tools"][0]["function"]["name"] for body in seen] == ["get_weather", "get_weather"]


def test_what_a_model_costs_is_listed(seen: list[dict[str, Any]], assay) -> None:
    found = {model["name"]: model for model in json.loads(assay("models", "--json").out)}
    mini = found["gpt-4o-mini"]
    assert (mini["usd_per_mtok_in"], mini["usd_per_mtok_out"]) == ("0.15", "0.6")
    assert mini["context_tokens"] == 128_000
    assert "image" in mini["carries"]
    assert "0.15/0.6" in assay("models").out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--attach", "none.png"], "none.png cannot be read"),
        (["--attach", "thing"], "neither text nor of a kind"),
        (["--schema", "none.json"], "neither JSON nor a file"),
        (["--schema", "[1]"], "takes a JSON object"),
        (["--schema", "{"], "not valid JSON"),
        (["--tool", '{"description": "x"}'], "name"),
    ],
)
def test_bad_options_are_named(
    seen: list[dict[str, Any]], tmp_path: Path, assay, options: list[str], says: str
) -> None:
    (tmp_path / "thing").write_bytes(b"\xff\xfe\x00")
    said = assay("call", "gpt-4o-mini", "x", *options)
    assert said.status == 3
    assert says in said.err
    assert seen == []


def test_a_call_says_where_its_trace_is(seen: list[dict[str, Any]], assay) -> None:
    said = assay("call", "gpt-4o-mini", "Hi")
    (trace,) = json.loads(assay("trace", "list", "--json").out)
    assert f"trace {trace['trace_id'][:12]}" in said.err


def test_the_version(assay) -> None:
    assert assay("--version").out.startswith("assay 0.")
