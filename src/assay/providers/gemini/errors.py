"""Google's error bodies as Assay's errors. What every upstream's refusals share: assay.providers.refusal."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from assay.errors import AssayError, ProviderError, RequestError
from assay.providers.refusal import (
    MAX_BODY_CHARS,
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
from assay.types import Value

_STATUSES = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "ALREADY_EXISTS": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 503,
    "INTERNAL": 500,
    "UNIMPLEMENTED": 400,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
_KEY = re.compile(r"api[ _]key (not valid|not found|expired|is invalid)|pass a valid api key", re.IGNORECASE)
_TOO_LONG = re.compile(
    r"token count.{0,40}(exceeds|but)|maximum number of tokens|context (length|window)|context is too long",
    re.IGNORECASE | re.DOTALL,
)
_MISSING = re.compile(r"cachedcontent not found|to access the file", re.IGNORECASE)
_OURS = re.compile(r"location is not supported|billing|free tier is not available", re.IGNORECASE)
_SPENT = re.compile(r"credits? (are|is) depleted|prepa(id|yment) credits", re.IGNORECASE)


class _Details(Value):
    """What `google.rpc`'s details of an error say."""

    reason: str = ""
    field: str | None = None
    retry_after_s: float | None = None
    daily: bool = False
    """A quota of the day is used up: coming again in a minute is in vain."""


def error_of_reply(
    status: int, headers: Mapping[str, str], body: bytes, *, clock: Callable[[], float] = time.time
) -> AssayError:
    """The typed error for an HTTP status that is not 200."""
    try:
        detail = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        detail = None
    names = lowered(headers)
    error = _classify(status, complaint(body), _details(detail), words(body), retry_after_s(names, clock))
    return heed(error, names)


def error_in_reply(detail: Any) -> AssayError:
    """The typed error for an error object that came inside a reply whose status was 200."""
    said = read(detail) or Complaint("it gave no reason")
    inner = _inner(detail)
    code = inner.get("code")
    status = code if isinstance(code, int) and 400 <= code <= 599 else 0
    status = status or _STATUSES.get(str(inner.get("status")), 500)
    return inside_reply(_classify(status, said, _details(detail), excerpt(detail), None))


def _classify(
    status: int, said: Complaint, details: _Details, text: str, retry_after: float | None
) -> AssayError:
    if status in {400, 404} and (details.reason.startswith("API_KEY_") or _KEY.search(said.message)):
        status = 401
    elif status == 403 and _MISSING.search(said.message):
        status = 404
    elif status == 499:
        # Cancelled, and not by us, who would not hear of it.
        status = 503
    if status == 400 and _OURS.search(said.message):
        return ProviderError(
            f"The upstream does not serve our account ({status}): {said.message}",
            upstream_status=status,
            retryable=False,
            body=text,
        )

    def of_caller(status: int, said: Complaint) -> RequestError:
        too_long = _TOO_LONG.search(said.message) is not None
        return blamed(status, said.message, param=details.field, too_long=too_long)

    seconds = details.retry_after_s if retry_after is None else retry_after
    spent = status == 429 and _SPENT.search(said.message) is not None
    error = refusal(status, said, text, seconds, of_caller, spent=spent)
    if details.daily and isinstance(error, ProviderError):
        error.retryable = False
    return error


# --- reading what it said ------------------------------------------------------------------------


def _inner(detail: Any) -> dict[str, Any]:
    """The error object, alone or in a list of one."""
    if isinstance(detail, list) and detail:
        detail = detail[0]
    if isinstance(detail, dict) and isinstance(detail.get("error"), dict):
        detail = detail["error"]
    return detail if isinstance(detail, dict) else {}


def _details(detail: Any) -> _Details:
    reason, field, seconds, daily = "", None, None, False
    items = _inner(detail).get("details")
    for item in items if isinstance(items, list) else ():
        if not isinstance(item, dict):
            continue
        kind = str(item.get("@type", "")).rpartition(".")[2]
        if kind == "ErrorInfo":
            reason = str(item.get("reason", ""))
        elif kind == "RetryInfo":
            seconds = _duration(item.get("retryDelay"))
        elif kind in {"BadRequest", "QuotaFailure"}:
            for violation in _violations(item):
                if field is None and isinstance(violation.get("field"), str):
                    field = violation["field"][:MAX_BODY_CHARS]
                daily = daily or "perday" in str(violation.get("quotaId", "")).lower()
    return _Details(reason, field, seconds, daily)


def _violations(item: dict[str, Any]) -> list[dict[str, Any]]:
    found = item.get("fieldViolations") or item.get("violations")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _duration(value: Any) -> float | None:
    """Protocol buffers' "34.07s", in seconds."""
    if not isinstance(value, str) or not value.endswith("s"):
        return None
    try:
        seconds = float(value[:-1])
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None
