"""The cache as callers meet it: `assay up`, the official SDKs, headers, keys and what the trace shows."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

TOML = """
[providers.script]
dialect = "scripted"
replies = ["first", "second", "third", "fourth", "fifth"]

[models.quiz]
provider = "script"
[models.quiz.cache]
ttl_s = 600

[models.plain]
provider = "script"

[routes.fast]
try = ["plain"]
cache = { ttl_s = 60 }
"""


@pytest.fixture(scope="module")
def served(serve_session: Any) -> Any:
    return serve_session(TOML)


class Reply:
    """What a call got."""

    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, json.loads(body)

    @property
    def cache(self) -> str | None:
        found = self.headers["x-assay-cache"]
        return None if found is None else str(found)

    @property
    def text(self) -> str:
        assert self.status == 200, self.body
        return str(self.body["choices"][0]["message"]["content"])


def ask(url: str, text: str, model: str = "quiz", **headers: str) -> Reply:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": text}]}).encode()
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", body, {"content-type": "application/json", **headers}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return Reply(reply.status, reply.headers, reply.read())
    except urllib.error.HTTPError as error:
        with error:
            return Reply(error.code, error.headers, error.read())


def test_headers_say_what_the_cache_did(served: Any) -> None:
    replies = [
        ask(served.url, "headers", **headers)
        for headers in ({}, {}, {"x-assay-cache": "off"}, {"x-assay-cache": "refresh"}, {})
    ]
    assert [reply.cache for reply in replies] == ["miss", "hit", "off", "miss", "hit"]
    texts = [reply.text for reply in replies]
    assert texts[0] == texts[1] != texts[2]
    assert texts[3] == texts[4] not in texts[:3]
    assert replies[1].headers["age"] == "0"
    assert replies[1].headers["x-assay-cost-usd"] == "0"
    wrong = ask(served.url, "headers", **{"x-assay-cache": "maybe"})
    assert wrong.status == 400
    assert "on, off or refresh" in wrong.body["error"]["message"]


def test_a_model_without_a_cache_says_nothing_of_one(served: Any) -> None:
    assert ask(served.url, "plain", model="plain").cache is None
    assert [ask(served.url, "route", model="fast").cache for _ in range(2)] == ["miss", "hit"]


def test_sdks_of_two_dialects_share_a_reply_streamed_and_whole(served: Any) -> None:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as one:
        asked: Any = {"model": "quiz", "messages": [{"role": "user", "content": "shared"}], "max_tokens": 50}
        stream = one.chat.completions.create(**asked, stream=True)
        live = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
        raw = one.chat.completions.with_raw_response.create(**asked, stream=True)
        assert raw.headers["x-assay-cache"] == "hit"
        again = "".join(chunk.choices[0].delta.content or "" for chunk in raw.parse() if chunk.choices)
        whole = one.chat.completions.create(**asked)
        assert whole.usage is not None
        assert whole.usage.completion_tokens == 1
        assert live == again == whole.choices[0].message.content
    with anthropic.Anthropic(base_url=served.url, api_key="none", max_retries=0) as two:
        raw_message = two.messages.with_raw_response.create(**asked)
        assert raw_message.headers["x-assay-cache"] == "hit"
        (block,) = raw_message.parse().content
        assert block.type == "text"
        assert block.text == live
        with two.messages.stream(**asked) as messages:
            assert messages.get_final_text() == live


def test_the_trace_shows_it_and_totals_count_it_once(serve: Any, assay: Any, tmp_path: Path) -> None:
    served = serve(TOML, tmp_path)
    for _ in range(3):
        ask(served.url, "traced")
    served.stop()
    traces = json.loads(assay("trace", "list", "--json").out)
    assert sorted(trace["tokens_out"] for trace in traces) == [0, 0, 1]
    (hit,) = json.loads(assay("trace", "show", traces[0]["trace_id"], "--json").out)
    span = json.loads(assay("trace", "show", hit["span"]["span_id"], "--json").out)
    assert span["attributes"]["assay.cache"] == "hit"
    assert span["attributes"]["assay.cache.usage"]["output"] == 1
    assert "usage" not in span
    assert span["cost"] == {"kind": "exact", "usd": "0", "source": "cache"}


def test_a_restart_finds_what_was_kept(serve: Any, tmp_path: Path) -> None:
    first = serve(TOML, tmp_path)
    text = ask(first.url, "kept").text
    assert ask(first.url, "other").text != text
    first.stop()
    second = serve(TOML, tmp_path)
    again = ask(second.url, "kept")
    assert (again.text, again.cache) == (text, "hit")
    second.stop()


def test_keys_share_within_a_team_and_never_beyond(serve: Any, assay: Any, tmp_path: Path) -> None:
    (tmp_path / "assay.toml").write_text(TOML)
    keys = {}
    for name, *team in (("a", "red"), ("b", "red"), ("c", "blue"), ("d",), ("e",)):
        made = assay("key", "create", name, *(["--team", *team] if team else []))
        keys[name] = next(word for word in made.out.split() if word.startswith("ask-"))
    served = serve(TOML, tmp_path)
    seen = {name: ask(served.url, "whose", authorization=f"Bearer {key}").cache for name, key in keys.items()}
    assert seen == {"a": "miss", "b": "hit", "c": "miss", "d": "miss", "e": "miss"}
    served.stop()
