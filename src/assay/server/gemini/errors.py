"""Errors in Google's words: what is wrong with a body, and any AssayError as status and JSON."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from assay.errors import AssayError, RequestError

_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "RESOURCE_EXHAUSTED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_TYPE = "type.googleapis.com/google.rpc."


def encode_error(error: AssayError) -> tuple[int, bytes]:
    """The HTTP status, and the body {"error": {"code", "message", "status", "details"}}.

    The details are google.rpc's: ErrorInfo with Assay's own code, BadRequest where a field is to blame,
    RetryInfo where it is known when to come again.
    """
    return error.status, msgspec.json.encode(error_body(error))


def error_body(error: AssayError) -> dict[str, Any]:
    status = error.status
    fallback = "INVALID_ARGUMENT" if 400 <= status < 500 else "INTERNAL"
    details: list[dict[str, Any]] = [
        {"@type": _TYPE + "ErrorInfo", "reason": error.code.upper(), "domain": "assay"}
    ]
    if isinstance(error, RequestError) and error.param is not None:
        violation = {"field": error.param, "description": error.message}
        details.append({"@type": _TYPE + "BadRequest", "fieldViolations": [violation]})
    if error.retry_after_s is not None:
        details.append({"@type": _TYPE + "RetryInfo", "retryDelay": _duration(error.retry_after_s)})
    return {
        "error": {
            "code": status,
            "message": error.message,
            "status": _STATUSES.get(status, fallback),
            "details": details,
        }
    }


def _duration(seconds: float) -> str:
    """As protocol buffers write it: "34s", "0.5s"."""
    return f"{max(seconds, 0):.3f}".rstrip("0").rstrip(".") + "s"


# --- what is wrong with a body -------------------------------------------------------------------

_WORDS = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "an array",
    "object": "an object",
    "null": "null",
}
_AT = re.compile(r" - at `(key in )?\$(?P<path>.*)`$")
_WRONG_TYPE = re.compile(r"Expected `(?P<wanted>[^`]+)`(?:, got `(?P<got>[^`]+)`)?$")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*)`$", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<name>.*)`$")


def body_error(error: Exception, known: Sequence[str]) -> RequestError:
    """What is wrong with the body, from msgspec's message about it; `known` are names to suggest."""
    if isinstance(error, RecursionError):
        return RequestError("Invalid JSON payload received. It is nested too deeply; flatten it")
    if not isinstance(error, msgspec.ValidationError):
        return RequestError(f"Invalid JSON payload received. {error}; check quotes, commas and UTF-8")
    message = str(error)
    place = _AT.search(message)
    path = place["path"].lstrip(".") if place else ""
    problem = message[: place.start()] if place else message
    if unknown := _UNKNOWN.match(problem):
        return _unknown_field(path, unknown["name"][:100], known)
    if missing := _MISSING.match(problem):
        name = f"{path}.{missing['name']}" if path else missing["name"]
        return RequestError(f"{name} is not specified", param=name)
    where = f" at '{path}'" if path else ""
    wanted = _wanted(problem) if path else "expected an object"
    return RequestError(f"Invalid value{where}: {wanted}", param=path or None)


def _unknown_field(path: str, name: str, known: Sequence[str]) -> RequestError:
    where = f" at '{path}'" if path else ""
    near = difflib.get_close_matches(name, known, 1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return RequestError(
        f'Invalid JSON payload received. Unknown name "{name}"{where}: Cannot find field.{hint}',
        param=f"{path}.{name}" if path else name,
    )


def _wanted(problem: str) -> str:
    wrong = _WRONG_TYPE.match(problem)
    if wrong is None:
        return problem
    wanted = _either([word for word in wrong["wanted"].split(" | ") if word != "null"])
    got = f", but got {_either([wrong['got']])}" if wrong["got"] else ""
    return f"expected {wanted}{got}"


def _either(words: list[str]) -> str:
    return " or ".join(_WORDS.get(word, word) for word in words)
