"""Errors in OpenAI's words: what is wrong with a body, and any AssayError as status and JSON."""

from __future__ import annotations

import difflib
import re

import msgspec

from assay.errors import AssayError, RequestError
from assay.server.openai_chat import body as wire

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def encode_error(error: AssayError) -> tuple[int, bytes]:
    """The HTTP status, and the body {"error": {"message", "type", "param", "code"}}."""
    status = error.status
    fallback = "invalid_request_error" if 400 <= status < 500 else "server_error"
    detail = {
        "message": error.message,
        "type": _TYPES.get(status, fallback),
        "param": getattr(error, "param", None),
        "code": error.code,
    }
    return status, msgspec.json.encode({"error": detail})


# --- what is wrong with a body -------------------------------------------------------------------

_WORDS = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "a boolean",
    "array": "an array",
    "object": "an object",
    "null": "null",
}
_AT = re.compile(r" - at `(key in )?\$(?P<path>.*)`$")
_WRONG_TYPE = re.compile(r"Expected `(?P<wanted>[^`]+)`(?:, got `(?P<got>[^`]+)`)?$")
_OUT_OF_RANGE = re.compile(r"Expected `(?P<type>[^`]+)` (?P<range>of length )?(?P<bound>[<>]=? .+)$")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*)`$", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<name>.*)`$")
_VALUE = re.compile(r"Invalid (?:enum )?value (?P<value>.+)$", re.DOTALL)

_ALLOWED = (
    (re.compile(r"messages\[\d+\]\.role$"), ("system", "developer", "user", "assistant", "tool")),
    (re.compile(r"\.content\[\d+\]\.type$"), ("text", "image_url", "input_audio", "file", "refusal")),
    (re.compile(r"\.input_audio\.format$"), ("wav", "mp3")),
    (re.compile(r"\.tool_calls\[\d+\]\.type$"), ("function", "custom")),
    (re.compile(r"^tools\[\d+\]\.type$"), ("function", "custom")),
    (re.compile(r"^tool_choice$"), ("none", "auto", "required")),
    (re.compile(r"^tool_choice\.type$"), ("function", "custom", "allowed_tools")),
    (re.compile(r"^tool_choice\.allowed_tools\.mode$"), ("auto", "required")),
    (re.compile(r"^response_format\.type$"), ("text", "json_object", "json_schema")),
)


def body_error(error: Exception) -> RequestError:
    """What is wrong with the body, from msgspec's message about it."""
    if isinstance(error, RecursionError):
        return RequestError("The JSON body is nested too deeply; flatten it")
    if not isinstance(error, msgspec.ValidationError):
        return RequestError(
            f"The body is not valid JSON ({error}); check quotes, commas and its encoding (UTF-8)"
        )
    message = str(error)
    place = _AT.search(message)
    path = place["path"].lstrip(".") if place else ""
    problem = message[: place.start()] if place else message
    if unknown := _UNKNOWN.match(problem):
        return _unknown_field(path, unknown["name"])
    if missing := _MISSING.match(problem):
        name = f"{path}.{missing['name']}" if path else missing["name"]
        return RequestError(f"Missing required parameter: '{name}'", param=name)
    if value := _VALUE.match(problem):
        return RequestError(_invalid_value(path, value["value"]), param=path)
    return RequestError(_wrong_type(path, problem), param=path or None)


def _unknown_field(path: str, name: str) -> RequestError:
    name = name[:100]
    near = difflib.get_close_matches(name, _KNOWN if path else wire.Body.__struct_fields__, 1)
    hint = f". Did you mean '{near[0]}'?" if near else ""
    if not path:
        return RequestError(f"Unrecognized request argument supplied: {name}{hint}", param=name)
    full = f"{path}.{name}"
    return RequestError(f"Unknown parameter: '{full}'{hint}", param=full, code="unknown_parameter")


def _invalid_value(path: str, value: str) -> str:
    for pattern, allowed in _ALLOWED:
        if pattern.search(path):
            return f"Invalid value for '{path}': {value}; supported values are {', '.join(allowed)}"
    return f"Invalid value for '{path}': {value}"


def _wrong_type(path: str, problem: str) -> str:
    where = f"'{path}'" if path else "the body"
    if wrong := _WRONG_TYPE.match(problem):
        wanted = _either([word for word in wrong["wanted"].split(" | ") if path and word != "null"])
        got = f", but got {_either([wrong['got']])} instead" if wrong["got"] else ""
        return f"Invalid type for {where}: expected {wanted or 'an object'}{got}"
    if bound := _OUT_OF_RANGE.match(problem):
        measure = "length " if bound["range"] else ""
        return f"Invalid value for {where}: expected {_either([bound['type']])} of {measure}{bound['bound']}"
    return f"Invalid value for {where}: {problem}"


def _either(words: list[str]) -> str:
    return " or ".join(_WORDS.get(word, word) for word in words)


def _names(kind: type[msgspec.Struct]) -> set[str]:
    return set(kind.__struct_fields__)


_KNOWN = sorted(
    set[str]().union(
        *(
            _names(kind)
            for kind in vars(wire).values()
            if isinstance(kind, type) and issubclass(kind, wire.Strict)
        )
    )
)
"""Every name that an object inside the body may have, for suggestions."""
