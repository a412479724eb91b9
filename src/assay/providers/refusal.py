"""What every upstream's refusal has in common: its words, when to come again, whose fault it is. No dialect.

An API's own error types, and how it says that a prompt is too long, live with its wire format.
"""

from __future__ import annotations

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
_EXCERPT_CHARS = 200


class Complaint(Value):
    """What an error body says, in whatever shape."""

    message: str
    type: str | None = None
    code: str | None = None
    param: str | None = None


def words(body: bytes) -> str:
    """The beginning of a body, as text."""
    return body[: 4 * MAX_BODY_CHARS].decode("utf-8", "replace")[:MAX_BODY_CHARS]


def lowered(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def complaint(body: bytes) -> Complaint:
    """What a body complains of; one that is no JSON speaks for itself."""
    try:
        detail = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        detail = None
    found = read(detail)
    if found is not None:
        return found
    return Complaint(" ".join(words(body).split())[:MAX_MESSAGE_CHARS] or "its reply was empty")


def read(detail: Any) -> Complaint | None:
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


# --- whose fault it is ---------------------------------------------------------------------------


def refusal(
    status: int,
    said: Complaint,
    text: str,
    retry_after_s: float | None,
    of_caller: Callable[[int, Complaint], RequestError],
    *,
    spent: bool = False,
) -> AssayError:
    """The typed error for an HTTP status that is not 200. `of_caller` makes it where the request is to blame.

    `text` is the body's beginning; `spent` says that the upstream's account has nothing left to pay with.
    """

    def failed(kind: type[ProviderError], message: str, *, retryable: bool | None = None) -> ProviderError:
        return kind(
            message, upstream_status=status, retryable=retryable, retry_after_s=retry_after_s, body=text
        )

    if spent or status == 402:
        message = f"The account at the upstream has no credit left ({status}): {said.message}"
        return failed(RateLimited if status == 429 else ProviderError, message, retryable=False)
    if status in {401, 403}:
        refused = failed(
            ProviderError,
            f"The upstream refused our credentials ({status}): {said.message}; check the provider's api_key",
            retryable=False,
        )
        refused.code = "provider_auth"
        return refused
    if status == 429:
        return failed(RateLimited, f"The upstream's rate limit is reached: {said.message}")
    if status in {408, 504}:
        return failed(ProviderTimeout, f"The upstream timed out ({status}): {said.message}")
    if status >= 500 or status in {409, 425}:
        return failed(ProviderUnavailable, f"The upstream failed ({status}): {said.message}")
    if status >= 400:
        return of_caller(status, said)
    hint = "; it redirects: set base_url to where it leads" if 300 <= status < 400 else ""
    return failed(
        BadResponse, f"The upstream answered with status {status} instead of a reply{hint}", retryable=False
    )


def blamed(
    status: int, message: str, *, param: str | None = None, code: str | None = None, too_long: bool = False
) -> RequestError:
    """The upstream blames the request: its own words go to the caller."""
    if too_long:
        return ContextExceeded(message, param=param)
    if status == 404:
        return NotFound(message, param=param, code=code)
    error = RequestError(message, param=param, code=code)
    if status in {413, 415, 422}:
        error.status = status
    return error


def inside_reply(error: AssayError) -> AssayError:
    """An error that came inside a reply whose status was 200."""
    if isinstance(error, ProviderError):
        error.upstream_status = 200
    return error


def excerpt(detail: Any) -> str:
    """The beginning of an error object, as text."""
    text = detail if isinstance(detail, str) else msgspec.json.encode(detail).decode()
    return text[:MAX_BODY_CHARS]


def heed(error: AssayError, headers: Mapping[str, str]) -> AssayError:
    """An upstream that says itself whether to come again (`x-should-retry`) knows best."""
    if isinstance(error, ProviderError) and headers.get("x-should-retry") in {"true", "false"}:
        error.retryable = headers["x-should-retry"] == "true"
    return error


def bad_response(what: str, body: bytes | str, error: BaseException | None = None) -> BadResponse:
    """Names the fault in a reply whose status was 200, and shows the beginning of what came."""
    text = body if isinstance(body, str) else body[: 4 * _EXCERPT_CHARS].decode("utf-8", "replace")
    excerpt = text[:_EXCERPT_CHARS] + ("..." if len(text) > _EXCERPT_CHARS else "")
    reason = f" ({error})" if error is not None else ""
    shown = f"; it begins with: {excerpt}" if excerpt.strip() else "; it is empty"
    return BadResponse(f"The upstream sent {what}{reason}{shown}", upstream_status=200, body=excerpt)


# --- when to come again --------------------------------------------------------------------------


def retry_after_s(headers: Mapping[str, str], clock: Callable[[], float]) -> float | None:
    """Seconds, from `retry-after-ms`, else `retry-after` as seconds or a date by the upstream's clock.

    Header names are in lower case; `clock` gives seconds since 1970, for where the upstream tells no time.
    """
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
