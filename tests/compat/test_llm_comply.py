"""A suite of others, llm-comply, finds what the table in comply.py says, no more and no less."""

from __future__ import annotations

import dataclasses
import functools
import socket
from collections.abc import Callable, Iterator
from typing import Any

import llm_comply
import pytest
from llm_comply import http as comply_http

from . import comply
from .bed import BASES, REAL_NAMES
from .comply import OWN, REMOTE, Case, Format
from .upstreams.app import Exchange, Upstreams
from .upstreams.seen import Seen

# The suite's own use of jsonschema.
pytestmark = pytest.mark.filterwarnings("ignore:jsonschema.RefResolver:DeprecationWarning")


@pytest.fixture(scope="module")
def nowhere_else() -> Iterator[None]:
    """The suite reaches this machine alone."""
    reached: set[str] = set()
    connect = socket.socket.connect

    def watched(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            assert address[0] in {"127.0.0.1", "::1"}, f"a connection to {address}"
            reached.add(address[0])
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", watched)
        yield
    assert reached == {"127.0.0.1"}


@pytest.fixture(scope="module")
def comply_gateway(serve_session: Any, upstreams: Upstreams, nowhere_else: None) -> str:
    """The URL of an `assay up` with a model of each format's for each upstream: `gpt-5-by-gemini`."""
    lines = []
    for upstream in REMOTE:
        base = upstreams.url(upstream) + BASES[upstream]
        lines.append(f'[providers.{upstream}]\ndialect = "{upstream}"\nbase_url = "{base}"')
        lines.append('api_key = "env:UPSTREAM_KEY"\nprices = "free"')
        for model in _models(upstream):
            lines.append(f'{model}model = "{REAL_NAMES[upstream]}--looking"')
    return serve_session("\n".join(lines), env={"UPSTREAM_KEY": "upstream-key"}).url.rstrip("/")


@pytest.fixture(scope="module")
def local_gateway(serve_session: Any, nowhere_else: None) -> str:
    """The same for the built-in model, whose replies the context keeps short."""
    short = '[providers.local]\ndialect = "local"\ncontext_tokens = 1024\nslots = 1\n'
    return serve_session(short + "\n".join(_models("local"))).url.rstrip("/")


def _models(upstream: str) -> list[str]:
    names = sorted({form.model for form in comply.FORMATS})
    return [f'[models."{name}-by-{upstream}"]\nprovider = "{upstream}"\n' for name in names]


# --- running it ----------------------------------------------------------------------------------


@functools.cache
def _spec(path: str | None) -> llm_comply.SpecLoader:
    return llm_comply.SpecLoader(path)


def found(url: str, form: Format, upstream: str, case: Case) -> llm_comply.TestResult:
    """What the suite finds."""
    config = llm_comply.ComplianceConfig(
        base_url=url + form.base,
        api_key="any",
        model=f"{form.model}-by-{upstream}",
        auth_header=form.key_header,
        use_bearer_prefix=form.bearer,
        verbose=True,
    )
    try:
        return llm_comply.TestRunner(config, [case], _spec(form.spec_path)).run_one(case)
    finally:
        # Its client trips over connections that the server has closed meanwhile.
        comply_http.close_client()


def as_remarked(result: llm_comply.TestResult, remark: comply.Remark | None) -> None:
    """The verdict is the table's."""
    status = result.status.value
    if remark is None:
        assert (status, result.errors, result.warnings) == ("passed", [], [])
    elif remark.kind == "refused":
        assert status == "failed"
        assert result.errors[0] == "HTTP 400 (expected [200])"
        [text] = remark.said
        assert text in result.response["error"]["message"]
    else:
        assert (status, result.errors) == ("passed", [])
        assert len(result.warnings) == len(remark.said)
        for warning, text in zip(result.warnings, remark.said, strict=True):
            assert text in warning


def _ids(cells: list[tuple[Format, str, Case]]) -> list[str]:
    return [f"{form.name}-{upstream}-{case.id}" for form, upstream, case in cells]


_REMOTE = list(comply.cells(REMOTE))
_LOCAL = list(comply.cells(("local",)))


@pytest.mark.parametrize(("form", "upstream", "case"), _REMOTE, ids=_ids(_REMOTE))
def test_a_case_comes_to_what_the_table_says(
    comply_gateway: str, upstreams: Upstreams, form: Format, upstream: str, case: Case
) -> None:
    upstreams.clear()
    result = found(comply_gateway, form, upstream, case)
    as_remarked(result, comply.remark(case.id, upstream))
    arrived = upstreams.taken()
    if case.expected_statuses == [200] and result.status.value == "passed":
        [exchange] = arrived
        carried(exchange, form, upstream, case, result.request or {})
    elif (form.name, upstream) not in OWN or case.id.startswith("compact"):
        assert arrived == []


@pytest.mark.local_model
@pytest.mark.parametrize(("form", "upstream", "case"), _LOCAL, ids=_ids(_LOCAL))
def test_a_case_comes_to_the_same_with_the_built_in_model(
    local_gateway: str, form: Format, upstream: str, case: Case
) -> None:
    as_remarked(found(local_gateway, form, upstream, _greedy(case)), comply.remark(case.id, upstream))


def _greedy(case: Case) -> Case:
    """The case, without the chance in what a real model says."""

    def build(config: llm_comply.ComplianceConfig) -> dict[str, Any]:
        body = case.build_request(config)
        place = body.setdefault("generationConfig", {}) if "contents" in body else body
        place.update({"temperature": 0})
        return body

    return dataclasses.replace(case, build_request=build)


@pytest.mark.parametrize("upstream", REMOTE)
def test_effort_alone_is_understood_in_chat_completions(comply_gateway: str, upstream: str) -> None:
    form = comply.FORMATS[0]
    [case] = [one for one in form.cases if one.id == "chat-reasoning-summary"]

    def without(config: llm_comply.ComplianceConfig) -> dict[str, Any]:
        body = case.build_request(config)
        del body["reasoning"]
        return body

    result = found(comply_gateway, form, upstream, dataclasses.replace(case, build_request=without))
    assert (result.status.value, result.errors, result.warnings) == ("passed", [], [])


# --- what arrives --------------------------------------------------------------------------------


def carried(exchange: Exchange, form: Format, upstream: str, case: Case, sent: dict[str, Any]) -> None:
    """The upstream was asked what the case asks, in a way that its API takes."""
    assert exchange.provider == upstream
    assert exchange.stream == case.streaming
    if (form.name, upstream) in OWN:
        assert {name: exchange.body.get(name) for name in sent if name != "model"} == {
            name: value for name, value in sent.items() if name != "model"
        }
        return
    assert exchange.problems == []
    for ending, holds in _ASKED.items():
        if case.id.endswith(ending):
            assert holds(exchange.seen), exchange.body


_ALICE = [
    ("user", "My name is Alice."),
    ("assistant", "Hello Alice!"),
    ("user", "What is my name? Reply with just the name."),
]
_ASKED: dict[str, Callable[[Seen], bool]] = {
    "basic-response": lambda seen: seen.said == [("user", "Say hello in exactly 3 words.")],
    "system-prompt": lambda seen: (
        seen.system == ["Always respond in exactly one word."] and seen.said == [("user", "Say hello.")]
    ),
    "multi-turn": lambda seen: [("assistant" if r == "model" else r, t) for r, t in seen.said] == _ALICE,
    "tool-calling": lambda seen: (
        seen.tools == ["get_weather"] and str(seen.choice).lower() in {"required", "any"}
    ),
    "image-input": lambda seen: [kind for kind, data in seen.images if len(data) > 1_000] == ["image/jpeg"],
    "reasoning-summary": lambda seen: bool(seen.thinking),
    "thinking-display": lambda seen: bool(seen.thinking),
    "google-thinking": lambda seen: bool(seen.thinking),
}


# --- the page ------------------------------------------------------------------------------------


def test_the_page_is_the_table() -> None:
    assert comply.PAGE.read_text(encoding="utf-8") == comply.page(), "run 'python tests/compat/comply.py'"


def test_every_remark_is_about_something() -> None:
    used = {
        comply.remark(case.id, upstream)
        for form in comply.FORMATS
        for case in form.cases
        for upstream in comply.UPSTREAMS
    }
    assert set(comply.REMARKS) <= used
