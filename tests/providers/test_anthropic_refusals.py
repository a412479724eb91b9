"""How Anthropic refuses, and what all upstreams' refusals share: against the official types."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from anthropic.types.shared import ErrorResponse

from assay.errors import (
    AssayError,
    BadResponse,
    ContextExceeded,
    NotFound,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    RequestError,
)
from assay.providers.anthropic import Anthropic
from assay.types import Request, user

FIXTURES = Path(__file__).parents[1] / "fixtures" / "anthropic"
WIRE = Anthropic(clock=lambda: 1_000_000_000.0)
ASK = Request("claude-opus-5", (user("Hi"),))


def fixture(name: str) -> bytes:
    return (FIXTURES / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "status", "kind", "code", "retryable"),
    [
        ("error_400_context", 400, ContextExceeded, "context_length_exceeded", False),
        ("error_400_value", 400, RequestError, "invalid_request", False),
        ("error_401", 401, ProviderError, "provider_auth", False),
        ("error_404", 404, NotFound, "not_found", False),
        ("error_413", 413, RequestError, "request_too_large", False),
        ("error_429", 429, RateLimited, "rate_limit_exceeded", True),
        ("error_429_spend", 429, RateLimited, "rate_limit_exceeded", False),
        ("error_529", 529, ProviderUnavailable, "provider_unavailable", True),
    ],
)
def test_refusals(name: str, status: int, kind: type[AssayError], code: str, retryable: bool) -> None:
    body = fixture(f"{name}.json")
    if status != 413:  # the SDK has no type for this one
        ErrorResponse.model_validate_json(body)
    error = WIRE.error(status, {}, body)
    assert type(error) is kind
    assert (error.code, error.retryable) == (code, retryable)
    assert json.loads(body)["error"]["message"] in error.message
    if status == 413:
        assert error.status == 413


def test_the_field_that_is_to_blame_is_named() -> None:
    error = WIRE.error(400, {}, fixture("error_400_value.json"))
    assert isinstance(error, RequestError)
    assert error.param == "messages.1.content.0.tool_use.id"


@pytest.mark.parametrize(
    "words",
    [
        "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000",
        "prompt is too long: 210000 tokens > 200000 maximum",
    ],
)
def test_a_prompt_that_is_too_long(words: str) -> None:
    body = json.dumps({"type": "error", "error": {"type": "invalid_request_error", "message": words}})
    assert isinstance(WIRE.error(400, {}, body.encode()), ContextExceeded)
    with pytest.raises(ContextExceeded):
        WIRE.events(ASK).feed("error", body)


def test_an_account_without_credit_is_not_the_callers_fault() -> None:
    words = "Your credit balance is too low to access the Anthropic API."
    body = json.dumps({"type": "error", "error": {"type": "invalid_request_error", "message": words}})
    error = WIRE.error(400, {}, body.encode())
    assert type(error) is ProviderError
    assert not error.retryable


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        (
            {"retry-after": "Sun, 09 Sep 2001 01:46:50 GMT", "date": "Sun, 09 Sep 2001 01:46:45 GMT"},
            5.0,
        ),
        ({"retry-after": "Sun, 09 Sep 2001 01:46:50 GMT"}, 10.0),
        ({"retry-after": "Sun, 09 Sep 2001 01:46:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "inf"}, None),
        ({}, None),
    ],
)
def test_when_to_come_again(headers: dict[str, str], expected: float | None) -> None:
    assert WIRE.error(529, headers, b"").retry_after_s == expected


def test_an_upstream_that_knows_whether_to_come_again_is_believed() -> None:
    assert WIRE.error(529, {"X-Should-Retry": "false"}, b"").retryable is False
    assert WIRE.error(403, {"x-should-retry": "true"}, b"").retryable is True


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, BadResponse),
        (402, ProviderError),
        (403, ProviderError),
        (408, ProviderTimeout),
        (409, ProviderUnavailable),
        (422, RequestError),
        (500, ProviderUnavailable),
        (504, ProviderTimeout),
    ],
)
def test_every_status_is_an_error(status: int, kind: type[AssayError]) -> None:
    for body in (b"", b"<html>", b"null", b'{"error": {"message": {"a": 1}}}', b"\xff"):
        assert type(WIRE.error(status, {}, body)) is kind
