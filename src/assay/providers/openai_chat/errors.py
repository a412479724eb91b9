"""An upstream's refusal as one of Assay's errors, whatever its body looks like. Nothing is retried here."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

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
from assay.types import Value

MAX_BODY_CHARS = 2_000
"""How much of an upstream's words is kept."""
MAX_MESSAGE_CHARS = 500

_STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "requests": 429,
    "tokens": 429,
    "insufficient_quota": 429,
    "timeout": 504,
    "overloaded_error": 503,
    "server_error": 500,
}
_TOO_LONG = ("context length", "context window", "exceeds the available context size")


class Complaint(Value):
    """What an error body says, in whatever shape."""

    message: str
    type: str | None = None
    code: str | None = None
    param: str | None = None


def error_of_reply(
    status: int, headers: Mapping[str, str], body: bytes, *, clock: Callable[[], float] = time.time
) -> AssayError:
    """The typed error for an HTTP status that is not 200."""
    text = body[: 4 * MAX_BODY_CHARS].decode("utf-8", "replace")[:MAX_BODY_CHARS]
    lowered = {name.lower(): value for name, value in headers.items()}
    error = _classify(status, _complaint(body, text), text, _retry_after(lowered, clock))
    if isinstance(error, ProviderError) and lowered.get("x-should-retry") in {"true", "false"}:
        error.retryable = lowered["x-should-retry"] == "true"
    return error


def error_in_stream(detail: Any) -> AssayError:
    """The typed error for an error object that came inside a reply whose status was 200."""
    complaint = _read(detail) or Complaint("it gave no reason")
    text = msgspec.json.encode(detail).decode()[:MAX_BODY_CHARS]
    code = complaint.code or ""
    status = int(code) if code.isdecimal() and 400 <= int(code) <= 599 else 0
    status = status or _STATUS_OF_TYPE.get(complaint.type or "", 0) or _STATUS_OF_TYPE.get(code, 500)
    error = _classify(status, complaint, text, None)
    if isinstance(error, ProviderError):
        error.upstream_status = 200
    return error


def _classify(status: int, complaint: Complaint, text: str, retry_after_s: float | None) -> AssayError:
    said = complaint.message

    def failed(kind: type[ProviderError], message: str, *, retryable: bool | None = None) -> ProviderError:
        return kind(
            message, upstream_status=status, retryable=retryable, retry_after_s=retry_after_s, body=text
        )

    if status in {401, 403}:
        refused = failed(
            ProviderError,
            f"The upstream refused our credentials ({status}): {said}; check the provider's api_key",
            retryable=False,
        )
        refused.code = "provider_auth"
        return refused
    if status == 402 or "insufficient_quota" in (complaint.code, complaint.type):
        message = f"The account at the upstream has no credit left ({status}): {said}"
        return failed(RateLimited if status == 429 else ProviderError, message, retryable=False)
    if status == 429:
        return failed(RateLimited, f"The upstream's rate limit is reached: {said}")
    if status in {408, 504}:
        return failed(ProviderTimeout, f"The upstream timed out ({status}): {said}")
    if status >= 500 or status in {409, 425}:
        return failed(ProviderUnavailable, f"The upstream failed ({status}): {said}")
    if status >= 400:
        return _of_caller(status, complaint)
    hint = "; it redirects: set base_url to where it leads" if 300 <= status < 400 else ""
    return failed(
        BadResponse, f"The upstream answered with status {status} instead of a reply{hint}", retryable=False
    )


def _of_caller(status: int, complaint: Complaint) -> RequestError:
    """The upstream blames the request: its own words go to the caller."""
    said, param = complaint.message, complaint.param
    lowered = said.lower()
    if complaint.code == "context_length_exceeded" or complaint.type == "exceed_context_size_error":
        return ContextExceeded(said, param=param)
    if complaint.code in {None, "400"} and any(words in lowered for words in _TOO_LONG):
        return ContextExceeded(said, param=param)
    code = complaint.code if complaint.code and not complaint.code.isdecimal() else None
    if status == 404:
        return NotFound(said, param=param, code=code)
    error = RequestError(said, param=param, code=code)
    if status in {413, 415, 422}:
        error.status = status
    return error


# --- reading what it said ------------------------------------------------------------------------


def _complaint(body: bytes, text: str) -> Complaint:
    try:
        detail = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        detail = None
    found = _read(detail)
    if found is not None:
        return found
    words = " ".join(text.split())[:MAX_MESSAGE_CHARS]
    return Complaint(words or "its reply was empty")


def _read(detail: Any) -> Complaint | None:
    """{"error": {...}}, {"error": "..."}, {"message": ...}, {"detail": ...}, or a list of one."""
    if isinstance(detail, list) and detail:
        detail = detail[0]
    if isinstance(detail, dict) and detail.get("error"):
        detail = detail["error"]
    if isinstance(detail, str) and detail:
        return Complaint(detail[:MAX_MESSAGE_CHARS])
    if not isinstance(detail, dict):
        return None
    message = detail.get("message") or detail.get("detail")
    if not message:
        return None
    if not isinstance(message, str):
        message = msgspec.json.encode(message).decode()
    return Complaint(
        message[:MAX_MESSAGE_CHARS], _word(detail, "type"), _word(detail, "code"), _word(detail, "param")
    )


def _word(detail: dict[str, Any], name: str) -> str | None:
    value = detail.get(name)
    return str(value)[:100] if isinstance(value, str | int) and value != "" else None


def _retry_after(headers: Mapping[str, str], clock: Callable[[], float]) -> float | None:
    """Seconds, from `retry-after-ms`, else `retry-after` as seconds or a date by the upstream's clock."""
    for name, scale in (("retry-after-ms", 1_000.0), ("retry-after", 1.0)):
        seconds = _number(headers.get(name))
        if seconds is not None:
            return max(seconds / scale, 0.0)
    until = _timestamp(headers.get("retry-after"))
    if until is None:
        return None
    now = _timestamp(headers.get("date"))
    return max(until - (clock() if now is None else now), 0.0)


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None


def _timestamp(value: str | None) -> float | None:
    try:
        return parsedate_to_datetime(value or "").timestamp()
    except (ValueError, OverflowError):
        return None
