"""Errors in Anthropic's words: what is wrong with a body, and any AssayError as status and JSON.

A fault names its place as Anthropic does, `messages.0.content.1.text: Field required`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection

import msgspec

from assay.errors import AssayError, ContextExceeded, ProviderUnavailable, RequestError
from assay.server.anthropic import body as wire

_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_PLAIN = frozenset(range(500, 600)) - {503, 529}
_OVERLOADED, _BROKEN = 529, 500


def encode_error(error: AssayError) -> tuple[int, bytes]:
    """The HTTP status, and the body {"type": "error", "error": {"type", "message"}, "request_id"}.

    An upstream that cannot be reached or has no room is Anthropic's 529: clients wait and come again, as they
    would there. One that is broken is its 500.
    """
    status = error.status
    if isinstance(error, ProviderUnavailable):
        status = _BROKEN if error.upstream_status in _PLAIN else _OVERLOADED
    return status, msgspec.json.encode(error_body(status, error))


def error_body(status: int, error: AssayError) -> dict[str, object]:
    fallback = "invalid_request_error" if 400 <= status < 500 else "api_error"
    detail = {"type": _TYPES.get(status, fallback), "message": _message(error)}
    return {"type": "error", "error": detail, "request_id": None}


def _message(error: AssayError) -> str:
    """Clients that shorten a conversation and call again know by these first words that they must."""
    words = "prompt is too long"
    if isinstance(error, ContextExceeded) and words not in error.message.lower():
        return f"{words}: {error.message}"
    return error.message


# --- what is wrong with a body -------------------------------------------------------------------


class Fault(Exception):
    """Something wrong at `path`, seen from within an object: the path grows on the way out."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(problem)
        self.path = path
        self.problem = problem

    def within(self, outer: str) -> Fault:
        """The same fault, seen from the object whose field `outer` is the faulty one ("": the same)."""
        self.path = ".".join(name for name in (outer, self.path) if name)
        return self

    def error(self) -> RequestError:
        message = f"{self.path}: {self.problem}" if self.path else self.problem
        return RequestError(message, param=self.path or None)


_KINDS = {
    "str": "a valid string",
    "int": "a valid integer",
    "float": "a valid number",
    "bool": "a valid boolean",
    "array": "a valid list",
    "object": "an object",
}
_NAMES = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "a boolean",
    "array": "a list",
    "object": "an object",
}
_AT = re.compile(r" - at `(key in )?\$(?P<path>.*)`$", re.DOTALL)
_WRONG_TYPE = re.compile(r"Expected `(?P<wanted>[^`]+)`(?:, got `(?P<got>[^`]+)`)?$")
_OUT_OF_RANGE = re.compile(
    r"Expected `(?P<type>[^`]+)` (?P<length>of length )?(?P<sign>[<>]=?) (?P<bound>.+)$"
)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*)`$", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<name>.*)`$")
_VALUE = re.compile(r"Invalid (?P<enum>enum )?value (?P<value>.+)$", re.DOTALL)
_SIGNS = {
    ">=": "greater than or equal to",
    "<=": "less than or equal to",
    ">": "greater than",
    "<": "less than",
}

_ALLOWED = (
    (re.compile(r"(^|\.)role$"), ("user", "assistant", "system")),
    (re.compile(r"cache_control\.type$"), ("ephemeral",)),
    (re.compile(r"cache_control\.ttl$"), ("5m", "1h")),
    (re.compile(r"source\.type$"), ("base64", "url", "file", "text (documents)", "content (documents)")),
    (
        re.compile(r"source\.media_type$"),
        ("image/jpeg", "image/png", "image/gif", "image/webp", "application/pdf (documents)"),
    ),
    (re.compile(r"^tool_choice\.type$"), ("auto", "any", "tool", "none")),
    (re.compile(r"^thinking\.type$"), ("enabled", "adaptive", "between_tools", "disabled")),
    (re.compile(r"^thinking\.display$"), ("summarized", "omitted", "updates")),
    (re.compile(r"^output_config\.effort$"), ("low", "medium", "high", "xhigh", "max")),
    (re.compile(r"^output_config\.format\.type$"), ("json_schema",)),
    (re.compile(r"^service_tier$"), ("auto", "standard_only")),
    (re.compile(r"^speed$"), ("standard", "fast")),
    (re.compile(r"\.clear_at$"), ("next_user_message", "never")),
)
_MOVED = {
    "output_format": "use 'output_config.format' instead",
    "max_tokens_to_sample": "use 'max_tokens' instead",
    "stop": "use 'stop_sequences' instead",
    "user": "use 'metadata.user_id' instead",
    "response_format": "use 'output_config.format' instead",
    "reasoning_effort": "use 'output_config.effort' instead",
    "betas": "send them in the header 'anthropic-beta' instead",
}


def body_error(error: Exception, known: Collection[str]) -> RequestError:
    """What is wrong with the body, from msgspec's message about it. `known` are the body's fields."""
    if isinstance(error, RecursionError):
        return RequestError("The JSON body is nested too deeply; flatten it")
    if not isinstance(error, msgspec.ValidationError):
        return RequestError(
            f"The request body is not valid JSON: {error}; check quotes, commas and its encoding (UTF-8)"
        )
    return fault(error, known).error()


def fault(error: msgspec.ValidationError, known: Collection[str]) -> Fault:
    """The same with its place apart, which is seen from the object that was read."""
    message = str(error)
    place = _AT.search(message)
    path = _dotted(place["path"]) if place else ""
    problem = message[: place.start()] if place else message
    if unknown := _UNKNOWN.match(problem):
        name = unknown["name"][:100]
        return Fault(name, _unknown(name, _KNOWN if path else known)).within(path)
    if missing := _MISSING.match(problem):
        return Fault(missing["name"], "Field required").within(path)
    if value := _VALUE.match(problem):
        return Fault(path, _not_allowed(path, value["value"]))
    return Fault(path, _wrong_type(path, problem))


def _dotted(path: str) -> str:
    """`.messages[0].content` as `messages.0.content`; msgspec does not tell the keys of free objects."""
    return path.replace("[...]", "").replace("[", ".").replace("]", "").strip(".")


def _unknown(name: str, known: Collection[str]) -> str:
    if moved := _MOVED.get(name):
        return f"Extra inputs are not permitted; {moved}"
    return "Extra inputs are not permitted" + nearest(name, known)


def nearest(name: str, known: Collection[str]) -> str:
    """`. Did you mean 'x'?`, or nothing."""
    near = difflib.get_close_matches(name, sorted(set(known) - {name}), 1)
    return f". Did you mean '{near[0]}'?" if near else ""


def _not_allowed(path: str, value: str) -> str:
    for pattern, allowed in _ALLOWED:
        if pattern.search(path):
            hint = nearest(value.strip("'"), allowed)
            return f"Input should be {either([repr(word) for word in allowed])}, but got {value}{hint}"
    return f"Input is not a value that is allowed here: {value}"


def _wrong_type(path: str, problem: str) -> str:
    if not path:
        return "The request body must be a JSON object"
    if wrong := _WRONG_TYPE.match(problem):
        wanted = [_KINDS.get(word, word) for word in wrong["wanted"].split(" | ") if word != "null"]
        got = f", but got {_NAMES.get(wrong['got'], wrong['got'])}" if wrong["got"] else ""
        return f"Input should be {either(wanted)}{got}"
    if bound := _OUT_OF_RANGE.match(problem):
        if bound["length"]:
            return f"at least {bound['bound']} is required"
        return f"Input should be {_SIGNS[bound['sign']]} {bound['bound'].removesuffix('.0')}"
    return problem


def either(words: list[str]) -> str:
    """`a, b or c`."""
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


_KNOWN = sorted(
    set[str]().union(
        *(
            kind.__struct_fields__
            for kind in vars(wire).values()
            if isinstance(kind, type) and issubclass(kind, wire.Strict)
        )
    )
)
"""Every name that an object inside the body may have, for suggestions."""
