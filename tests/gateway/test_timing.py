"""Where the time of a call went: told with the reply, and kept in its span."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from assay.storage import Store
from assay.trace import TraceStore
from assay.types.timing import Timing, begin, ongoing

REPLY = {
    "id": "c-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Yes."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}
CHUNK = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}


class Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if asked.get("stream"):
            delta = {"index": 0, "delta": {"role": "assistant", "content": "Yes."}, "finish_reason": None}
            last = {"index": 0, "delta": {}, "finish_reason": "stop"}
            frames = [json.dumps({**CHUNK, "choices": [one]}) for one in (delta, last)]
            body = "".join(f"data: {frame}\n\n" for frame in [*frames, "[DONE]"]).encode()
            kind = "text/event-stream"
        else:
            body, kind = json.dumps(REPLY).encode(), "application/json"
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def upstream() -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def timed(headers: dict[str, str]) -> dict[str, float]:
    pieces = (piece.split(";dur=") for piece in headers["server-timing"].split(", "))
    return {name: float(milliseconds) for name, milliseconds in pieces}


def test_the_phases_are_told_and_kept(serve, upstream: int, tmp_path: Path) -> None:
    served = serve(
        f'[providers.far]\ndialect = "compatible"\nbase_url = "http://127.0.0.1:{upstream}/v1"\n'
        '[providers.stage]\ndialect = "scripted"\nreplies = ["Yes."]\n'
        '[models.m]\nprovider = "far"\n[models.s]\nprovider = "stage"\n',
        root=tmp_path,
    )
    connection = http.client.HTTPConnection(urlsplit(served.url).netloc, timeout=60)
    told = {}
    for model, stream in (("m", False), ("m", True), ("s", False)):
        call = {"model": model, "stream": stream, "messages": [{"role": "user", "content": "Is it?"}]}
        connection.request("POST", "/v1/chat/completions", json.dumps(call))
        reply = connection.getresponse()
        reply.read()
        told[model, stream] = timed(dict(reply.getheaders()))
    connection.close()
    served.stop()
    assert set(told["m", False]) == {"translation", "policies", "queue", "head", "body"}
    assert {"translation", "policies", "queue", "head"} <= set(told["m", True])
    assert set(told["s", False]) == {"translation", "policies", "body"}
    assert all(milliseconds >= 0 for phases in told.values() for milliseconds in phases.values())
    store = Store.open(f"sqlite:///{tmp_path}/.assay/assay.db")
    spans = [
        one.span for root in TraceStore(store).latest(9) for one in TraceStore(store).trace(root.trace_id)
    ]
    store.close()
    assert len(spans) == 3
    for span in spans:
        kept = {name: s for name, s in span.attributes.items() if name.startswith("assay.time.")}
        assert {"assay.time.translation_s", "assay.time.policies_s", "assay.time.body_s"} <= set(kept)
        assert all(isinstance(seconds, float) and seconds >= 0 for seconds in kept.values())


def test_phases_add_up_to_the_whole() -> None:
    times = Timing()
    times.received, times.understood = 10.0, 10.5
    assert times.phases(11.0) == {"translation": 0.5, "policies": 0.5}
    times.asked, times.sent, times.waited_s, times.head, times.read, times.decoded = 11, 12, 0.5, 14, 17, 18
    phases = times.phases(18.25)
    assert phases == {"translation": 2.5, "policies": 0.75, "queue": 0.5, "head": 1.5, "body": 3}
    assert sum(phases.values()) == 8.25


def test_a_call_that_is_recorded_is_not_the_next_one() -> None:
    first = begin()
    assert ongoing() is first
    first.over = True
    assert ongoing() is not first
