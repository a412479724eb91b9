"""Anthropic's refusals as Assay's errors. What all refusals share: assay.providers.refusal."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from assay.errors import AssayError, RequestError
from assay.providers.refusal import (
    Complaint,
    blamed,
    complaint,
    excerpt,
    heed,
    inside_reply,
    lowered,
    read,
    refusal,
    retry_after_s,
    words,
)
from assay.types import replace

_STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
# The API says so in words alone.
_TOO_LONG = ("prompt is too long", "exceed context limit", "context window", "context length")
_NO_CREDIT = ("credit balance is too low",)
_FIELD = re.compile(r"([a-z_]+(?:\.[\w-]+)*): ")


def error_of_reply(
    status: int, headers: Mapping[str, str], body: bytes, *, clock: Callable[[], float] = time.time
) -> AssayError:
    """The typed error for an HTTP status that is not 200."""
    told = lowered(headers)
    said = _coded(complaint(body), _decoded(body))
    return heed(_classify(status, said, words(body), retry_after_s(told, clock)), told)


def error_in_stream(detail: Any) -> AssayError:
    """The typed error for an error object that came inside a reply whose status was 200."""
    said = _coded(read(detail) or Complaint("it gave no reason"), detail)
    status = _STATUS_OF_TYPE.get(said.type or "", 500)
    return inside_reply(_classify(status, said, excerpt(detail), None))


def _classify(status: int, said: Complaint, text: str, after_s: float | None) -> AssayError:
    lower = said.message.lower()
    spent = "spend_limit_reached" in (said.code or "") or any(phrase in lower for phrase in _NO_CREDIT)
    return refusal(status, said, text, after_s, _of_caller, spent=spent)


def _of_caller(status: int, said: Complaint) -> RequestError:
    lower = said.message.lower()
    field = _FIELD.match(said.message)
    param = said.param or (field.group(1) if field else None)
    code = said.code or ("request_too_large" if status == 413 else None)
    too_long = any(phrase in lower for phrase in _TOO_LONG)
    return blamed(status, said.message, param=param, code=code, too_long=too_long)


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return None


def _coded(said: Complaint, detail: Any) -> Complaint:
    """With the stable word for the cause, which stands apart: `error.details.error_code`."""
    error = detail.get("error") if isinstance(detail, dict) else None
    details = error.get("details") if isinstance(error, dict) else None
    code = details.get("error_code") if isinstance(details, dict) else None
    return replace(said, code=code[:100]) if isinstance(code, str) and code else said
