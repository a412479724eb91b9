"""Replies, errors and model lists in Anthropic's words, judged by the official SDK's types, strictly."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from anthropic import Anthropic as Client
from anthropic import APIStatusError
from anthropic.types import ErrorResponse, Message, MessageTokensCount, ModelInfo, Usage
from anthropic.types.beta import BetaMessage
from pydantic import BaseModel

from assay import types
from assay.errors import (
    AssayError,
    AuthError,
    BadResponse,
    BudgetExceeded,
    Conflict,
    ContextExceeded,
    DeadlineExceeded,
    GuardRejected,
    NotFound,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    RequestError,
    StorageError,
    UnsupportedFeature,
)
from assay.server.anthropic import COUNT_TOKENS, MESSAGES, model, model_list
from assay.types import (
    Audio,
    Choice,
    Extra,
    File,
    Finish,
    FinishReason,
    Image,
    Link,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Response,
    Text,
    TokenLogprob,
    ToolCall,
)

SEARCH = {
    "type": "server_tool_use",
    "id": "srvtoolu_1",
    "name": "web_search",
    "input": {"query": "x"},
    "caller": {"type": "direct"},
}
CITATION = {
    "type": "char_location",
    "cited_text": "in",
    "document_index": 0,
    "document_title": None,
    "start_char_index": 0,
    "end_char_index": 2,
    "file_id": None,
}


def response(*parts: Part, finish: Finish = Finish("stop"), **fields: Any) -> Response:  # noqa: B008
    return Response("msg_1", "m", (Choice(types.Message("assistant", parts), finish),), **fields)


def written(reply: Response) -> dict[str, Any]:
    """The body, once the official types have taken it whole."""
    data = MESSAGES.write(reply, None).body
    official = Message.model_validate_json(data, strict=True)
    BetaMessage.model_validate_json(data, strict=True)
    assert_complete(official)
    body: dict[str, Any] = json.loads(data)
    return body


def assert_complete(message: Message) -> None:
    """Every field that the API has is there, and no other."""
    for value in (message, message.usage):
        assert value.model_fields_set == set(type(value).model_fields)
    assert_official(message)


def assert_official(value: Any) -> None:
    """Nothing in it, at any depth, that the official type does not name."""
    if isinstance(value, BaseModel):
        assert not value.model_extra, f"{type(value).__name__}: {value.model_extra}"
        for name in type(value).model_fields:
            assert_official(getattr(value, name))
    elif isinstance(value, list):
        for item in value:
            assert_official(item)


def test_a_whole_reply() -> None:
    usage = types.Usage(
        input=5, cache_read=7, cache_write=11, cache_write_1h=13, output=17, reasoning=19, input_image=1
    )
    body = written(
        response(
            Reasoning("hm", signature="c2ln"),
            Reasoning(encrypted="ZW5j"),
            Opaque("anthropic", SEARCH),
            Text("Hi", (CITATION,)),
            ToolCall("toolu_1", "look", '{"at": 1}'),
            finish=Finish("tool_calls", "tool_use"),
            usage=usage,
            extra=Extra("anthropic", {"usage": {"service_tier": "priority"}}),
        )
    )
    assert body == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
            {"type": "redacted_thinking", "data": "ZW5j"},
            SEARCH,
            {"type": "text", "text": "Hi", "citations": [CITATION]},
            {
                "type": "tool_use",
                "id": "toolu_1",
                "name": "look",
                "input": {"at": 1},
                "caller": {"type": "direct"},
            },
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "stop_details": None,
        "container": None,
        "diagnostics": None,
        "usage": {
            "input_tokens": 6,
            "cache_creation_input_tokens": 24,
            "cache_read_input_tokens": 7,
            "cache_creation": {"ephemeral_5m_input_tokens": 11, "ephemeral_1h_input_tokens": 13},
            "output_tokens": 36,
            "output_tokens_details": {"thinking_tokens": 19},
            "server_tool_use": None,
            "service_tier": "priority",
            "inference_geo": None,
            "speed": None,
        },
    }


def test_the_arguments_keep_their_bytes() -> None:
    text = '{"b": 1.0, "a":  123456789012345678901234567890}'
    assert f'"input":{text},'.encode() in MESSAGES.write(response(ToolCall("a", "f", text)), None).body


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ("", {}),
        (" \n", {}),
        ("{}", {}),
        ('{"a', {"INVALID_JSON": '{"a'}),
        ("[1]", {"INVALID_JSON": "[1]"}),
        ("[" * 100_000, {"INVALID_JSON": "[" * 100_000}),
    ],
)
def test_arguments_that_are_no_object_are_shown_as_such(arguments: str, shown: dict[str, Any]) -> None:
    (block,) = written(response(ToolCall("a", "f", arguments)))["content"]
    assert block["input"] == shown


@pytest.mark.parametrize(
    ("parts", "blocks"),
    [
        ((), []),
        ((Text(""),), []),
        ((Text("", ({"type": "url_citation"},)),), []),
        ((Reasoning(),), []),
        ((Reasoning("hm"),), [{"type": "thinking", "thinking": "hm", "signature": ""}]),
        ((Reasoning(summary=("a", "b")),), [{"type": "thinking", "thinking": "ab", "signature": ""}]),
        ((Reasoning(signature="s"),), [{"type": "thinking", "thinking": "", "signature": "s"}]),
        (
            (Reasoning(summary=("a",), encrypted="openai-responses:e"),),
            [
                {"type": "thinking", "thinking": "a", "signature": ""},
                {"type": "redacted_thinking", "data": "openai-responses:e"},
            ],
        ),
    ],
)
def test_what_says_nothing_is_no_block(parts: tuple[Part, ...], blocks: list[Any]) -> None:
    assert written(response(*parts))["content"] == blocks


def test_a_refusal_is_a_text_and_a_reason() -> None:
    body = written(response(Text("Well, "), Refusal("no.")))
    assert [block["text"] for block in body["content"]] == ["Well, ", "no."]
    assert body["stop_reason"] == "refusal"
    assert body["stop_details"] == {"type": "refusal", "category": None, "explanation": None}


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        (Finish("stop", "stop"), "end_turn"),
        (Finish("length"), "max_tokens"),
        (Finish("tool_calls"), "tool_use"),
        (Finish("stop_sequence", stop_sequence="END"), "stop_sequence"),
        (Finish("content_filter"), "refusal"),
        (Finish("refusal", "refusal"), "refusal"),
        (Finish("pause"), "pause_turn"),
        (Finish("context_exceeded"), "model_context_window_exceeded"),
        (Finish("malformed_tool_call"), "max_tokens"),
        (Finish("other", "incomplete"), "max_tokens"),
        (Finish("other", "end_of_days"), "max_tokens"),
    ],
)
def test_why_the_model_stopped(finish: Finish, reason: str) -> None:
    body = written(response(Text("Hi"), finish=finish))
    assert body["stop_reason"] == reason
    assert body["stop_sequence"] == finish.stop_sequence
    assert (body["stop_details"] is not None) == (reason == "refusal")


def test_every_reason_has_a_word_and_only_an_end_is_a_success() -> None:
    reasons: tuple[FinishReason, ...] = FinishReason.__args__  # type: ignore[attr-defined]
    ends = [
        reason for reason in reasons if written(response(finish=Finish(reason)))["stop_reason"] == "end_turn"
    ]
    assert ends == ["stop"]


def test_anthropics_own_word_is_kept() -> None:
    data = MESSAGES.write(response(Text("so far"), finish=Finish("pause", "compaction")), None).body
    assert BetaMessage.model_validate_json(data, strict=True).stop_reason == "compaction"


def test_who_calls_a_tool_waits_for_it() -> None:
    """OpenAI says `stop` when a call was forced."""
    assert written(response(ToolCall("a", "f", "{}")))["stop_reason"] == "tool_use"


def test_what_anthropic_alone_said_is_said_again() -> None:
    container = {"id": "c", "expires_at": "2030-01-01T00:00:00Z", "skills": None}
    details = {"type": "refusal", "category": "cyber", "explanation": "no"}
    own = {
        "container": container,
        "stop_details": details,
        "usage": {"server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 0}},
    }
    body = written(response(Text("x"), finish=Finish("refusal"), extra=Extra("anthropic", own)))
    assert (body["container"], body["stop_details"]) == (container, details)
    assert body["usage"]["server_tool_use"] == own["usage"]["server_tool_use"]
    foreign = Extra("openai", {"system_fingerprint": "fp", "usage": {"x": 1}})
    assert written(response(Text("x"), extra=foreign)) == written(response(Text("x")))


def test_what_has_no_place_is_reported() -> None:
    reply = Response(
        "r",
        "m",
        (
            Choice(
                types.Message("assistant", (Text("a", ({"type": "url_citation"},), "sig"), Text("b"))),
                Finish("stop"),
                (TokenLogprob("a", -0.5),),
            ),
        ),
    )
    where = "choices[0].message.parts[0]"
    told = MESSAGES.write(reply, None).dropped
    assert told == ("choices[0].logprobs", f"{where}.annotations", f"{where}.signature")


@pytest.mark.parametrize("note", [{"type": ["x"]}, {"type": {}}, {"type": None}, {}, "x", None, [1]])
def test_an_annotation_of_any_shape_is_left_out(note: Any) -> None:
    reply = response(Text("Hi", (note, CITATION)))
    written = MESSAGES.write(reply, None)
    assert json.loads(written.body)["content"][0]["citations"] == [CITATION]
    assert written.dropped == ("choices[0].message.parts[0].annotations",)


def test_geminis_signature_travels_with_the_call() -> None:
    data = MESSAGES.write(response(ToolCall("a", "f", "{}", signature="s")), None).body
    block = Message.model_validate_json(data, strict=True).content[0].to_dict()
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": [block]}]
    call = json.dumps({"model": "m", "max_tokens": 1, "messages": turns}).encode()
    assert MESSAGES.parse(call, "").request.messages[1].parts == (ToolCall("a", "f", "{}", signature="s"),)


@pytest.mark.parametrize(
    "part",
    [
        Audio(id="a"),
        Image(Link("https://x.test")),
        File(Link("https://x.test")),
        Opaque("openai-responses", {"type": "web_search_call"}),
        ToolCall("a", "sql", "select 1", "custom"),
    ],
)
def test_what_cannot_be_said_is_refused(part: Part) -> None:
    with pytest.raises(UnsupportedFeature):
        MESSAGES.write(response(part), None)


def test_one_reply_is_all_there_is() -> None:
    one = response(Text("x")).choices
    with pytest.raises(UnsupportedFeature, match="one reply"):
        MESSAGES.write(Response("r", "m", one * 2), None)
    with pytest.raises(BadResponse):
        MESSAGES.write(Response("r", "m", ()), None)


def test_a_reply_of_the_official_client_can_be_sent_back() -> None:
    reply = response(
        Reasoning("hm", signature="s"),
        Reasoning(encrypted="e"),
        Opaque("anthropic", SEARCH),
        Text("Hi", (CITATION,)),
        ToolCall("toolu_1", "look", '{"at":1}'),
    )
    sent: list[bytes] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append(request.read())
        headers = {"content-type": "application/json"}
        return httpx2.Response(200, headers=headers, content=MESSAGES.write(reply, None).body)

    http_client = httpx2.Client(transport=httpx2.MockTransport(answer))
    with Client(api_key="k", base_url="http://x.test", http_client=http_client) as client:
        hi = {"role": "user", "content": "Hi"}
        first = client.messages.create(model="m", max_tokens=9, messages=[hi])  # type: ignore[list-item]
        back = {"role": "assistant", "content": first.content}
        client.messages.create(model="m", max_tokens=9, messages=[hi, back])  # type: ignore[list-item]
    assert MESSAGES.parse(sent[1], "").request.messages[1] == reply.message


# --- counts and models ---------------------------------------------------------------------------


def test_a_count() -> None:
    counted = Response("", "m", (), usage=types.Usage(input=3, cache_read=4))
    data = COUNT_TOKENS.write(counted, None).body
    assert MessageTokensCount.model_validate_json(data, strict=True).input_tokens == 7
    with pytest.raises(BadResponse):
        COUNT_TOKENS.write(Response("", "m", ()), None)


@dataclass(frozen=True)
class Info:
    name: str


MODELS = [Info("a"), Info("b"), Info("c")]


def test_models() -> None:
    one = ModelInfo.model_validate_json(model(MODELS[0]), strict=True)
    assert one.model_fields_set == set(ModelInfo.model_fields)
    assert (one.id, one.display_name, one.lifecycle) == ("a", "a", "active")
    assert_official(one)
    page = json.loads(model_list(MODELS))
    assert page.pop("data")[0] == json.loads(model(MODELS[0]))
    assert page == {"has_more": False, "first_id": "a", "last_id": "c"}
    assert json.loads(model_list([])) == {"data": [], "has_more": False, "first_id": None, "last_id": None}


@pytest.mark.parametrize(
    ("asked", "names", "more"),
    [
        ({"limit": 2}, "ab", True),
        ({"limit": 3}, "abc", False),
        ({"limit": 2, "after_id": "b"}, "c", False),
        ({"limit": 1, "after_id": "a"}, "b", True),
        ({"limit": 1, "before_id": "c"}, "b", True),
        ({"before_id": "c"}, "ab", False),
        ({"after_id": "c"}, "", False),
        ({"after_id": "nobody"}, "abc", False),
    ],
)
def test_pages_of_models(asked: dict[str, Any], names: str, more: bool) -> None:
    page = json.loads(model_list(MODELS, **asked))
    assert [info["id"] for info in page["data"]] == list(names)
    assert page["has_more"] is more


def test_the_official_client_turns_the_pages() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        page = model_list(MODELS, limit=2, after_id=request.url.params.get("after_id"))
        return httpx2.Response(200, headers={"content-type": "application/json"}, content=page)

    http_client = httpx2.Client(transport=httpx2.MockTransport(answer))
    with Client(api_key="k", base_url="http://x.test", http_client=http_client) as client:
        assert [info.id for info in client.models.list()] == ["a", "b", "c"]


# --- errors --------------------------------------------------------------------------------------


class TooLarge(RequestError):
    status = 413


class Forbidden(RequestError):
    status = 403


ERRORS: list[tuple[AssayError, int, str]] = [
    (RequestError("x", param="model"), 400, "invalid_request_error"),
    (UnsupportedFeature("x"), 400, "invalid_request_error"),
    (GuardRejected("x"), 400, "invalid_request_error"),
    (AuthError("x"), 401, "authentication_error"),
    (BudgetExceeded("x"), 402, "billing_error"),
    (Forbidden("x"), 403, "permission_error"),
    (NotFound("x"), 404, "not_found_error"),
    (Conflict("x"), 409, "invalid_request_error"),
    (TooLarge("x"), 413, "request_too_large"),
    (RateLimited("x"), 429, "rate_limit_error"),
    (AssayError("x"), 500, "api_error"),
    (ProviderError("x"), 502, "api_error"),
    (BadResponse("x"), 502, "api_error"),
    (StorageError("x"), 503, "api_error"),
    (ProviderTimeout("x"), 504, "timeout_error"),
    (DeadlineExceeded("x"), 504, "timeout_error"),
    (ProviderUnavailable("x"), 529, "overloaded_error"),
    (ProviderUnavailable("x", upstream_status=503), 529, "overloaded_error"),
    (ProviderUnavailable("x", upstream_status=529), 529, "overloaded_error"),
    (ProviderUnavailable("x", upstream_status=500), 500, "api_error"),
    (ProviderUnavailable("x", upstream_status=502), 500, "api_error"),
]


@pytest.mark.parametrize(("error", "status", "kind"), ERRORS, ids=[type(case[0]).__name__ for case in ERRORS])
def test_errors(error: AssayError, status: int, kind: str) -> None:
    told, data = MESSAGES.error(error)
    assert told == status
    assert json.loads(data) == {
        "type": "error",
        "error": {"type": kind, "message": "x"},
        "request_id": None,
    }
    if kind != "request_too_large":  # which the API documents and the SDK does not list
        assert ErrorResponse.model_validate_json(data, strict=True).error.type == kind

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, headers={"content-type": "application/json"}, content=data)

    http_client = httpx2.Client(transport=httpx2.MockTransport(answer))
    with (
        Client(api_key="k", base_url="http://x.test", http_client=http_client, max_retries=0) as client,
        pytest.raises(APIStatusError) as caught,
    ):
        client.models.list()
    assert caught.value.status_code == status
    assert caught.value.type == kind


def test_a_prompt_that_is_too_long_is_called_so() -> None:
    """Clients that compact a conversation look for these words."""
    _, data = MESSAGES.error(ContextExceeded("9 tokens do not fit into 8"))
    assert json.loads(data)["error"]["message"] == "prompt is too long: 9 tokens do not fit into 8"
    _, data = MESSAGES.error(ContextExceeded("Prompt is too long: 9 > 8"))
    assert json.loads(data)["error"]["message"] == "Prompt is too long: 9 > 8"


def test_unknown_usage_is_zero_where_the_api_has_no_word_for_it() -> None:
    usage = Usage.model_validate(written(response(Text("x")))["usage"])
    assert (usage.input_tokens, usage.output_tokens) == (0, 0)
