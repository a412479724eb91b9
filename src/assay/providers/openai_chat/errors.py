"""OpenAI's refusals as Assay's errors. What all refusals share: assay.providers.refusal."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

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


def error_of_reply(
    status: int, headers: Mapping[str, str], body: bytes, *, clock: Callable[[], float] = time.time
) -> AssayError:
    """The typed error for an HTTP status that is not 200."""
    told = lowered(headers)
    return heed(_classify(status, complaint(body), words(body), retry_after_s(told, clock)), told)


def error_in_stream(detail: Any) -> AssayError:
    """The typed error for an error object that came inside a reply whose status was 200."""
    said = read(detail) or Complaint("it gave no reason")
    code = said.code or ""
    status = int(code) if code.isdecimal() and 400 <= int(code) <= 599 else 0
    status = status or _STATUS_OF_TYPE.get(said.type or "", 0) or _STATUS_OF_TYPE.get(code, 500)
    return inside_reply(_classify(status, said, excerpt(detail), None))


def _classify(status: int, said: Complaint, text: str, after_s: float | None) -> AssayError:
    spent = "insufficient_quota" in (said.code, said.type)
    return refusal(status, said, text, after_s, _of_caller, spent=spent)


def _of_caller(status: int, said: Complaint) -> RequestError:
    lower = said.message.lower()
    too_long = said.code == "context_length_exceeded" or said.type == "exceed_context_size_error"
    if said.code in {None, "400"}:
        too_long = too_long or any(phrase in lower for phrase in _TOO_LONG)
    code = said.code if said.code and not said.code.isdecimal() else None
    return blamed(status, said.message, param=said.param, code=code, too_long=too_long)
