"""What cannot be carried to an upstream is refused before it is called, as a 400 of the caller's own SDK;
what the answer does not depend on is left out, and named in a header. REFUSED and DROPPED are the lists.
"""

from __future__ import annotations

from typing import Any

import pytest
from google.genai import types

from .bed import Callers, Run
from .drivers.base import QUESTION, Ask
from .test_sdk_errors import KINDS
from .upstreams.app import Upstreams

_WEB_SEARCH = {"tools": [{"type": "web_search"}]}
_CLAUDE_SEARCH = {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}
_GOOGLE_SEARCH = {"tools": [types.Tool(google_search=types.GoogleSearch())]}

_OPENAIS = ("openai", "openai-responses", "compatible")

REFUSED: list[tuple[str, str, dict[str, Any], tuple[str, ...], str]] = [
    # client, what it asks for, how, which upstreams have no such thing, a word of the refusal
    ("openai", "two-choices", {"n": 2}, ("anthropic", "openai-responses"), "choice"),
    ("openai", "logprobs", {"logprobs": True}, ("anthropic",), "log"),
    ("openai", "penalties", {"frequency_penalty": 0.5}, ("anthropic", "openai-responses"), "penalty"),
    ("openai", "bias", {"logit_bias": {"50256": -100}}, ("anthropic", "gemini", "openai-responses"), "bias"),
    ("responses", "web-search", _WEB_SEARCH, ("compatible", "anthropic", "gemini"), "tool"),
    ("anthropic", "top-k", {"extra_body": {"top_k": 5}}, ("openai", "openai-responses"), "top_k"),
    ("anthropic", "web-search", _CLAUDE_SEARCH, (*_OPENAIS, "gemini"), "tool"),
    ("gemini", "two-candidates", {"candidate_count": 2}, ("anthropic", "openai-responses"), "choice"),
    ("gemini", "top-k", {"top_k": 5}, ("openai", "openai-responses"), "top_k"),
    ("gemini", "search", _GOOGLE_SEARCH, (*_OPENAIS, "anthropic"), "tool"),
]
refusals = [
    pytest.param(client, extra, upstream, word, mode, id=f"{client}-client-to-{upstream}-{what}-{mode}")
    for client, what, extra, upstreams, word in REFUSED
    for upstream in upstreams
    for mode in ("whole", "stream")
]


@pytest.mark.parametrize(("client", "extra", "upstream", "word", "mode"), refusals)
def test_what_an_upstream_has_not_is_refused(
    client: str,
    extra: dict[str, Any],
    upstream: str,
    word: str,
    mode: str,
    callers: Callers,
    upstreams: Upstreams,
    run: Run,
) -> None:
    upstreams.clear()
    driver = callers.driver(client, mode, "sync")
    with pytest.raises(driver.errors) as raised:
        run(driver.ask(Ask(f"{upstream}.text", extra=extra)))
    failure = driver.failure(raised.value)
    assert (failure.status, failure.kind) == (400, KINDS[client][400])
    assert word in failure.message
    assert upstreams.taken() == []


DROPPED: list[tuple[dict[str, Any], str, set[str]]] = [
    # what the openai SDK is told, the upstream, and the paths that the header names
    ({"user": "u1", "seed": 7, "metadata": {"a": "b"}}, "anthropic", {"seed", "metadata"}),
    ({"user": "u1", "seed": 7, "service_tier": "flex"}, "gemini", {"user"}),
    ({"seed": 7, "prompt_cache_key": "k"}, "openai-responses", {"seed"}),
]


@pytest.mark.parametrize(("extra", "upstream", "named"), DROPPED)
@pytest.mark.parametrize("stream", [False, True])
def test_what_is_left_out_is_named(
    extra: dict[str, Any], upstream: str, named: set[str], stream: bool, callers: Callers
) -> None:
    messages: Any = [{"role": "user", "content": QUESTION}]
    create: Any = callers.openai.chat.completions.with_raw_response.create
    raw = create(model=f"{upstream}.text", messages=messages, stream=stream, **extra)
    said = raw.headers.get("x-assay-dropped", "")
    raw.http_response.close()
    assert set(said.split(", ")) == named


def test_nothing_is_left_out_where_all_is_carried(callers: Callers) -> None:
    messages: Any = [{"role": "user", "content": QUESTION}]
    create: Any = callers.openai.chat.completions.with_raw_response.create
    for upstream in ("openai", "anthropic", "gemini"):
        raw = create(model=f"{upstream}.text", messages=messages)
        assert "x-assay-dropped" not in raw.headers
