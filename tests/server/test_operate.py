"""Operating a server: workers, signals, reloading, metrics and logs, in real processes."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from assay.storage import Store
from assay.trace import TraceStore

REPLY = {
    "id": "c-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Yes."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}
CALL = {"model": "slow", "messages": [{"role": "user", "content": "Is it?"}]}


class Slow(BaseHTTPRequestHandler):
    """Answers when it is told to: `asked` counts up with each call, `go` lets them all through."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.release()
        self.server.go.wait(60)
        body = json.dumps(REPLY).encode()
        try:
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def slow() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    server.asked = threading.Semaphore(0)
    server.go = threading.Event()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.go.set()
    server.shutdown()
    thread.join()
    server.server_close()


def toml(slow: ThreadingHTTPServer | None = None, reply: str = "Yes.", more: str = "") -> str:
    text = f'{more}[providers.stage]\ndialect = "scripted"\nreplies = ["{reply}"]\n'
    text += '[models.m]\nprovider = "stage"\n'
    if slow is not None:
        text += (
            f'[providers.far]\ndialect = "compatible"\nbase_url = "http://127.0.0.1:{slow.server_port}/v1"\n'
            '[models.slow]\nprovider = "far"\n'
        )
    return text


class Up:
    """A running `assay up` with options."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "assay.main", "up", "--port", "0", *options],
            cwd=folder,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        found = re.search(r"http://(\S+)", self.process.stdout.readline())
        assert found is not None, self.process.communicate()
        self.netloc = found[1]

    def said(self, word: str) -> str:
        """The next line on standard error with this word in it."""
        for line in self.process.stderr:
            if word in line:
                return line
        raise AssertionError(f"{word!r} was never said")

    def ask(self, call: dict[str, object] | None = None, path: str = "/v1/chat/completions"):
        connection = http.client.HTTPConnection(self.netloc, timeout=60)
        try:
            if call is None:
                connection.request("GET", path)
            else:
                connection.request("POST", path, json.dumps(call), {"content-type": "application/json"})
            reply = connection.getresponse()
            return reply.status, reply.read().decode()
        finally:
            connection.close()

    def text(self) -> str:
        status, body = self.ask({**CALL, "model": "m"})
        assert status == 200, body
        return json.loads(body)["choices"][0]["message"]["content"]

    def workers(self) -> list[int]:
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in found.split()]

    def stop(self, how: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        if self.process.poll() is None:
            self.process.send_signal(how)
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, said

    def spans(self) -> list[str]:
        store = Store.open(f"sqlite:///{self.folder}/.assay/assay.db")
        try:
            traces = TraceStore(store)
            return [node.span.status for one in traces.latest(1000) for node in traces.trace(one.trace_id)]
        finally:
            store.close()


Start = Callable[..., Up]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[Up] = []

    def starting(text: str, *options: str) -> Up:
        (tmp_path / "assay.toml").write_text(text)
        running.append(Up(tmp_path, *options))
        return running[-1]

    yield starting
    for one in running:
        if one.process.poll() is None:
            for pid in one.workers():
                os.kill(pid, signal.SIGKILL)
            one.stop(signal.SIGKILL)


linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def in_background(up: Up, results: list[tuple[int, str]]) -> threading.Thread:
    def work() -> None:
        try:
            results.append(up.ask(CALL))
        except (OSError, http.client.HTTPException) as error:
            results.append((0, str(error)))

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def closed(netloc: str) -> bool:
    address = urlsplit(f"//{netloc}")
    try:
        socket.create_connection((address.hostname, address.port), timeout=5).close()
    except OSError:
        return True
    return False


@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["alone", "workers"])
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT], ids=["term", "int"])
def test_calls_in_flight_finish_and_no_connection_is_taken(
    start: Start, slow: ThreadingHTTPServer, options: tuple[str, ...], how: signal.Signals
) -> None:
    up = start(toml(slow, more="[server]\ngrace_s = 60\n"), *options)
    results: list[tuple[int, str]] = []
    threads = [in_background(up, results) for _ in range(4)]
    for _ in threads:
        slow.asked.acquire()
    up.process.send_signal(how)
    while not closed(up.netloc):
        assert up.process.poll() is None
    slow.go.set()
    for thread in threads:
        thread.join()
    assert [status for status, _ in results] == [200] * 4
    status, said = up.stop()
    assert status == 0
    assert "every span is stored" in said
    assert up.spans() == ["ok"] * 4
    assert not list((up.folder / ".assay" / "run").iterdir())


@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["alone", "workers"])
def test_a_second_signal_ends_at_once_and_the_spans_are_stored(
    start: Start, slow: ThreadingHTTPServer, options: tuple[str, ...]
) -> None:
    up = start(toml(slow, more="[server]\ngrace_s = 1000\n"), *options)
    results: list[tuple[int, str]] = []
    thread = in_background(up, results)
    slow.asked.acquire()
    up.process.send_signal(signal.SIGTERM)
    while not closed(up.netloc):
        assert up.process.poll() is None
    status, said = up.stop()
    thread.join()
    assert status == 0
    assert "Traceback" not in said
    assert up.spans() == ["error"]


def test_calls_that_outlast_the_grace_are_cut_off_and_stored(start: Start, slow: ThreadingHTTPServer) -> None:
    up = start(toml(slow, more="[server]\ngrace_s = 0\n"))
    results: list[tuple[int, str]] = []
    thread = in_background(up, results)
    slow.asked.acquire()
    status, said = up.stop()
    thread.join()
    assert status == 0
    assert "Traceback" not in said
    assert results[0][0] != 200
    assert up.spans() == ["error"]


@linux
def test_a_worker_that_dies_is_replaced(start: Start) -> None:
    up = start(toml(), "--workers", "2")
    assert up.text() == "Yes."
    first = set(up.workers())
    assert len(first) == 2
    # Calls are counted over all workers, those of the dead too, once it has told them.
    asked = 1
    while True:
        text = up.ask(path="/metrics")[1]
        if f'status="ok"}} {asked}\n' in text and "assay_spans_waiting 0" in text:
            break
    os.kill(min(first), signal.SIGKILL)
    assert "another one takes its place" in up.said("takes its place")
    # Whoever waits in the queue of the dead is served by the new one.
    for _ in range(20):
        assert up.text() == "Yes."
    assert len(set(up.workers()) - first) == 1
    status, _ = up.stop()
    assert status == 0
    assert up.spans() == ["ok"] * 21


@linux
def test_workers_that_die_again_and_again_end_it(start: Start) -> None:
    up = start(toml(), "--workers", "2")
    killed: set[int] = set()
    while up.process.poll() is None and len(killed) < 6:
        for _ in range(4):
            up.text()
        victim = min(set(up.workers()) - killed)
        os.kill(victim, signal.SIGKILL)
        killed.add(victim)
        if "stopping" in up.said("ended with"):
            break
    assert len(killed) == 6
    assert up.stop()[0] == 3


@linux
def test_workers_do_not_outlive_their_parent(start: Start) -> None:
    up = start(toml(), "--workers", "2")
    assert up.text() == "Yes."
    up.workers()
    up.process.kill()
    # Its pipe is open for as long as a worker lives.
    _, said = up.process.communicate(timeout=60)
    assert said.count("the parent of this worker is gone") == 2
    assert up.spans() == ["ok"]


def test_a_reload_changes_what_is_asked_for_and_disturbs_nobody(
    start: Start, slow: ThreadingHTTPServer, assay
) -> None:
    up = start(toml(slow))
    results: list[tuple[int, str]] = []
    thread = in_background(up, results)
    slow.asked.acquire()
    # The provider of the call under way is gone from the new file, the other one answers otherwise.
    (up.folder / "assay.toml").write_text(toml(reply="No."))
    said = assay("reload", cwd=up.folder)
    assert said.status == 0, said.err
    assert "reloaded" in said.out
    assert up.text() == "No."
    assert up.ask(CALL)[0] == 404
    slow.go.set()
    thread.join()
    assert results[0][0] == 200
    assert up.stop()[0] == 0


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[server]\nprot = 1\n", "did you mean port"),
        ('[storage]\nurl = "sqlite:///other.db"\n', "restart only"),
    ],
)
def test_an_invalid_file_is_refused_whole(start: Start, assay, text: str, problem: str) -> None:
    up = start(toml())
    (up.folder / "assay.toml").write_text(text + toml(reply="No."))
    said = assay("reload", cwd=up.folder)
    assert said.status == 3
    assert problem in said.err
    up.process.send_signal(signal.SIGHUP)
    assert problem in up.said("is not taken")
    assert up.text() == "Yes."
    (up.folder / "assay.toml").write_text(toml(reply="Now."))
    assert assay("reload", cwd=up.folder).status == 0
    assert up.text() == "Now."


def test_workers_reload(start: Start, assay) -> None:
    up = start(toml(), "--workers", "2")
    assert up.text() == "Yes."
    (up.folder / "assay.toml").write_text("broken")
    up.process.send_signal(signal.SIGHUP)
    assert "not valid TOML" in up.said("is not taken")
    (up.folder / "assay.toml").write_text(toml(reply="No."))
    assert assay("reload", cwd=up.folder).status == 0
    assert {up.text() for _ in range(20)} == {"No."}


def test_nobody_to_reload_is_said(tmp_path: Path, assay) -> None:
    said = assay("reload")
    assert said.status == 3
    assert "assay up" in said.err


def test_metrics_count_and_name_nothing_that_callers_made_up(start: Start) -> None:
    up = start(toml())
    up.text()
    assert up.ask({**CALL, "model": "made-up"})[0] == 404
    text = ""
    while "assay_spans_written_total 2" not in text:
        status, text = up.ask(path="/metrics")
        assert status == 200
    assert 'assay_calls_total{model="m",provider="stage",operation="chat",status="ok"} 1' in text
    assert 'model="(not configured)",provider="",operation="chat",status="model_not_found"} 1' in text
    assert "made-up" not in text
    assert (
        'assay_call_duration_seconds_bucket{model="m",provider="stage",operation="chat",le="+Inf"} 1' in text
    )
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    form = r'[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? [0-9.e+-]+'
    assert all(re.fullmatch(form, line) for line in lines)
    for line in lines:
        family = re.sub(r"_(bucket|sum|count)$", "", re.match(r"[a-z_]+", line)[0])
        assert f"# TYPE {family} " in text


def test_json_logs_are_one_object_a_line(start: Start, assay) -> None:
    up = start(toml(), "--log-format", "json")
    up.text()
    status, _ = up.ask({**CALL, "model": "sk-" + "planted0" * 4})
    assert status == 404
    assert assay("reload", cwd=up.folder).status == 0
    _, said = up.stop()
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    calls = [line for line in lines if line["logger"] == "assay.calls"]
    assert [(call["status"], call.get("model")) for call in calls] == [("ok", "m"), ("error", "[redacted]")]
    assert all(re.fullmatch(r"[0-9a-f]{32}", call["trace_id"]) for call in calls)
    assert calls[0]["tokens_out"] > 0
    assert calls[1]["error_type"] == "model_not_found"
    assert any("read again" in line["message"] for line in lines)
    assert "planted" not in said


def test_a_wrong_log_format_is_said(assay) -> None:
    said = assay("up", "--log-format", "xml")
    assert said.status == 3
    assert "json" in said.err
