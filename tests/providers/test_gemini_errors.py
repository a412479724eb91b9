"""What Gemini's API counts, and how it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from assay.providers.gemini import Gemini
from assay.providers.gemini.vocabulary import ModalityCount, WireUsage, usage_from
from assay.types import Usage

FIXTURES = Path(__file__).parents[1] / "fixtures" / "gemini"
WIRE = Gemini()


def fixture(name: str) -> bytes:
    return (FIXTURES / name).read_bytes()


# --- usage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        (
            WireUsage(10, candidates_token_count=5, thoughts_token_count=20, total_token_count=35),
            Usage(10, output=5, reasoning=20),
        ),
        pytest.param(
            WireUsage(10, candidates_token_count=25, thoughts_token_count=20, total_token_count=35),
            Usage(10, output=5, reasoning=20),
            id="thoughts inside the candidates",
        ),
        pytest.param(
            WireUsage(10, candidates_token_count=5, total_token_count=35),
            Usage(10, output=5, reasoning=20),
            id="thoughts in the total alone",
        ),
        pytest.param(
            WireUsage(10, candidates_token_count=5, tool_use_prompt_token_count=100, total_token_count=115),
            Usage(110, output=5),
            id="results of tools beside the prompt",
        ),
        pytest.param(
            WireUsage(110, candidates_token_count=5, tool_use_prompt_token_count=100, total_token_count=115),
            Usage(110, output=5),
            id="results of tools inside the prompt",
        ),
        pytest.param(
            WireUsage(10, tool_use_prompt_token_count=100, candidates_token_count=5),
            Usage(110, output=5),
            id="without a total",
        ),
        (WireUsage(), None),
        (WireUsage(total_token_count=3), Usage(reasoning=3)),
    ],
)
def test_usage(wire: WireUsage, expected: Usage | None) -> None:
    assert usage_from(wire) == expected


COUNTS = st.none() | st.integers(-5, 60)
DETAILS = st.none() | st.lists(
    st.builds(ModalityCount, st.sampled_from(["TEXT", "AUDIO", "IMAGE", None]), COUNTS), max_size=3
)


@given(st.builds(WireUsage, *[COUNTS] * 6, *[DETAILS] * 4))
def test_usage_classes_are_disjoint_and_never_negative(wire: WireUsage) -> None:
    usage = usage_from(wire)
    if usage is None:
        return
    for name in Usage.__struct_fields__:
        assert getattr(usage, name) >= 0
    told = {name: max(getattr(wire, name) or 0, 0) for name in WireUsage.__struct_fields__[:6]}
    given_ = {told["prompt_token_count"], told["prompt_token_count"] + told["tool_use_prompt_token_count"]}
    assert usage.tokens_in in given_
    if wire.total_token_count is not None:
        assert usage.tokens >= wire.total_token_count


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "kind", "retryable"),
    [
        (429, "error_429_minute.json", RateLimited, True),
        (429, "error_429_day.json", RateLimited, False),
        (400, "error_400_key.json", ProviderError, False),
        (400, "error_400_location.json", ProviderError, False),
        (401, "error_403.json", ProviderError, False),
        (403, "error_403.json", ProviderError, False),
        (403, "error_403_cache.json", NotFound, False),
        (400, "error_400_context.json", ContextExceeded, False),
        (400, "error_400_field.json", RequestError, False),
        (413, "error_400_field.json", RequestError, False),
        (404, "error_404.json", NotFound, False),
        (404, "error_400_key.json", ProviderError, False),
        (499, "error_503.json", ProviderUnavailable, True),
        (500, "error_500.json", ProviderUnavailable, True),
        (503, "error_503.json", ProviderUnavailable, True),
        (504, "error_503.json", ProviderTimeout, True),
        (302, "error_500.json", BadResponse, False),
    ],
)
def test_status_and_body_become_a_typed_error(
    status: int, body: str, kind: type[AssayError], retryable: bool
) -> None:
    error = WIRE.error(status, {}, fixture(body))
    assert type(error) is kind
    assert error.retryable is retryable
    if isinstance(error, ProviderError):
        assert error.body is not None


def test_a_refused_key_is_ours_not_the_callers() -> None:
    for status, body in ((400, "error_400_key.json"), (403, "error_403.json")):
        error = WIRE.error(status, {}, fixture(body))
        assert (error.status, error.code) == (502, "provider_auth")
        assert "check the provider's api_key" in error.message


def test_the_upstreams_words_and_field_reach_the_caller() -> None:
    error = WIRE.error(400, {}, fixture("error_400_field.json"))
    assert isinstance(error, RequestError)
    assert error.message.startswith("Invalid value at 'generation_config.temperature'")
    assert error.param == "generation_config.temperature"
    assert WIRE.error(413, {}, fixture("error_400_field.json")).status == 413


def retrying(delay: Any) -> bytes:
    detail = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}
    return json.dumps({"error": {"code": 429, "message": "slow", "details": [detail]}}).encode()


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({}, fixture("error_429_minute.json"), 34.074824224),
        ({}, retrying("5s"), 5.0),
        ({"Retry-After": "7"}, retrying("5s"), 7.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:10 GMT"}, b"", 9.0),
        *(({}, retrying(odd), None) for odd in ("5", "s", "xs", "-1s", "infs", "nans", 5, None, {})),
    ],
)
def test_when_to_come_again(headers: dict[str, str], body: bytes, seconds: float | None) -> None:
    wire = Gemini(clock=lambda: 1792567681.0)
    assert wire.error(429, headers, body).retry_after_s == seconds


@pytest.mark.parametrize(
    "words",
    [
        "The input token count (1234567) exceeds the maximum number of tokens allowed (1048576).",
        "The input token count is 40000 but model only supports up to 32768.",
        "Unable to submit request because the input token count is 9 but the model supports up to 8",
        "Your input context is too long.",
    ],
)
def test_words_for_too_long(words: str) -> None:
    body = json.dumps({"error": {"code": 400, "message": words, "status": "INVALID_ARGUMENT"}}).encode()
    assert isinstance(WIRE.error(400, {}, body), ContextExceeded)


@pytest.mark.parametrize("words", ["max_output_tokens must be positive", "the token count is fine"])
def test_other_words_about_tokens(words: str) -> None:
    body = json.dumps({"error": {"code": 400, "message": words}}).encode()
    assert type(WIRE.error(400, {}, body)) is RequestError


def test_an_account_without_credit_is_not_tried_again() -> None:
    body = json.dumps({"error": {"code": 429, "message": "Your prepayment credits are depleted."}}).encode()
    error = WIRE.error(429, {}, body)
    assert isinstance(error, RateLimited)
    assert not error.retryable
