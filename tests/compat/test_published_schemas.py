"""What llm-comply's cases leave out, by the schemas it brings along: streams of tools, thoughts and refusals,
and errors, whole and streamed, from upstreams of every other dialect.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import llm_comply
import pytest
from llm_comply import http as comply_http
from llm_comply.validators import ValidatorContext, google_error_format

from .bed import ERRORS, FAULTS
from .comply import FORMATS, OWN, REMOTE, Format
from .upstreams.app import Upstreams

pytestmark = pytest.mark.filterwarnings("ignore:jsonschema.RefResolver:DeprecationWarning")

REPLIES = ("text", "tools", "reasoning", "schema", "length", "refusal", "forced", "weather")
BREAKS = (*(f"error-{name}" for name in ERRORS), *(name for name in FAULTS if name != "stall"))
PAIRS = [(form, to) for form in FORMATS for to in REMOTE if (form.name, to) not in OWN]
_IDS = [f"{form.name}-{to}" for form, to in PAIRS]

_PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
_WEATHER = {"name": "get_weather", "parameters": _PARAMETERS}
_SAID = [{"role": "user", "content": "How is the weather in Paris and in Zürich?"}]
BODIES: dict[str, dict[str, Any]] = {
    "openai-chat": {"messages": _SAID, "tools": [{"type": "function", "function": _WEATHER}]},
    "open-responses": {"input": _SAID, "tools": [{"type": "function", **_WEATHER}]},
    "anthropic": {
        "max_tokens": 4096,
        "messages": _SAID,
        "tools": [{"name": "get_weather", "input_schema": _PARAMETERS}],
    },
    "google-genai": {
        "contents": [{"role": "user", "parts": [{"text": _SAID[0]["content"]}]}],
        "tools": [{"functionDeclarations": [_WEATHER]}],
    },
}
PATHS = {"openai-chat": "/chat/completions", "open-responses": "/responses", "anthropic": "/messages"}
# As (a whole reply, an event, an error); Gemini's published description has no schemas.
SCHEMAS = {
    "openai-chat": ("CreateChatCompletionResponse", "CreateChatCompletionStreamResponse", "ErrorResponse"),
    "open-responses": ("ResponseResource", "", "ErrorPayload"),
    "anthropic": ("Message", "MessageStreamEvent", "ErrorResponse"),
}
TOLERATED = (
    # Null in all chunks but the last: the suite forgets that an enum may be nullable.
    "choices.0.finish_reason: None is not one of",
    # OpenAI's names for streamed thoughts. Open Responses says response.reasoning.delta, which no SDK reads.
    "unknown SSE event type: response.reasoning_text.",
)


@functools.cache
def _spec(form: Format) -> llm_comply.SpecLoader:
    return llm_comply.SpecLoader(form.spec_path)


def asked(url: str, form: Format, model: str, stream: bool) -> tuple[int, Any, list[dict[str, Any]]]:
    """The status, the whole reply, and the events."""
    config = llm_comply.ComplianceConfig(
        base_url=url + form.base, api_key="any", auth_header=form.key_header, use_bearer_prefix=form.bearer
    )
    body = dict(BODIES[form.name])
    method = "streamGenerateContent?alt=sse" if stream else "generateContent"
    path = PATHS.get(form.name, f"/v1beta/models/{model}:{method}")
    if form.name in PATHS:
        body["model"] = model
    try:
        status, reply, events = comply_http.make_request(config, path, body, streaming=stream)
    finally:
        comply_http.close_client()
    return status, reply, events or []


def problems(form: Format, status: int, reply: Any, events: list[dict[str, Any]]) -> Iterator[str]:
    """Where a reply is not what the API's description says."""
    whole, event, _ = SCHEMAS.get(form.name, ("", "", ""))
    if status != 200:
        yield from _error(form, reply)
    elif not events and whole:
        yield from _spec(form).validate(reply, whole)
    for one in events:
        data = one["data"]
        if data == "[DONE]" or one["type"] == "ping":
            continue
        if form.name == "open-responses":
            yield from _spec(form).validate_sse_event(one["type"], data)
        elif "error" in data:
            yield from _error(form, data)
        elif event:
            yield from _spec(form).validate(data, event)


def _error(form: Format, reply: Any) -> list[str]:
    if form.name == "google-genai":
        return google_error_format(reply, ValidatorContext())
    # Open Responses describes the error, and not the object around it.
    error = reply["error"] if form.name == "open-responses" else reply
    return _spec(form).validate(error, SCHEMAS[form.name][2])


def untolerated(found: Iterator[str]) -> list[str]:
    return [problem for problem in found if not problem.startswith(TOLERATED)]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("scenario", REPLIES)
@pytest.mark.parametrize(("form", "upstream"), PAIRS, ids=_IDS)
def test_every_reply_is_of_the_published_schema(
    gateway: str, upstreams: Upstreams, form: Format, upstream: str, scenario: str, stream: bool
) -> None:
    status, reply, events = asked(gateway, form, f"{upstream}.{scenario}", stream)
    assert status == 200 or scenario == "refusal", reply
    assert untolerated(problems(form, status, reply, events)) == []
    upstreams.clear()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("scenario", BREAKS)
@pytest.mark.parametrize(("form", "upstream"), PAIRS, ids=_IDS)
def test_every_error_is_of_the_published_schema(
    gateway: str, upstreams: Upstreams, form: Format, upstream: str, scenario: str, stream: bool
) -> None:
    status, reply, events = asked(gateway, form, f"{upstream}.{scenario}", stream)
    assert status != 200 or stream
    assert status != 200 or any("error" in one["data"] or one["type"] == "response.failed" for one in events)
    assert untolerated(problems(form, status, reply, events)) == []
    upstreams.clear()
