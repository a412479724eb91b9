"""What is wrong with a Responses body. Errors in OpenAI's words belong to assay.server.openai_chat.errors."""

from __future__ import annotations

import difflib
import re

import msgspec

from assay.errors import RequestError
from assay.server.openai_chat.errors import body_error as chat_body_error
from assay.server.openai_responses import body as wire

_AT = re.compile(r" - at `(?P<key>key in )?\$(?P<path>.*)`$")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*)`$", re.DOTALL)
_VALUE = re.compile(r"Invalid (?:enum )?value (?P<value>.+)$", re.DOTALL)

_ALLOWED = (
    (re.compile(r"^input\[\d+\]\.role$"), ("user", "assistant", "system", "developer")),
    (
        re.compile(r"\.content\[\d+\]\.type$"),
        ("input_text", "input_image", "input_file", "input_audio", "output_text", "refusal"),
    ),
    (re.compile(r"\.output\[\d+\]\.type$"), ("input_text", "input_image", "input_file")),
    (re.compile(r"\.input_audio\.format$"), ("wav", "mp3")),
    (re.compile(r"^text\.format\.type$"), ("text", "json_object", "json_schema")),
    (re.compile(r"^truncation$"), ("auto", "disabled")),
)

_OF_CHAT = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "verbosity": "text.verbosity",
    "functions": "tools",
    "logprobs": "include",
}
"""What chat completions call differently."""


def body_error(error: Exception, path: str = "") -> RequestError:
    """What is wrong with the body, or with the object at `path`, from msgspec's message about it."""
    if not isinstance(error, msgspec.ValidationError):
        return chat_body_error(error)
    message = str(error)
    place = _AT.search(message)
    problem = message[: place.start()] if place else message
    inner = place["path"] if place else ""
    full = (path + inner).lstrip(".")
    if unknown := _UNKNOWN.match(problem):
        return _unknown_field(full, unknown["name"])
    if value := _VALUE.match(problem):
        return RequestError(_invalid_value(full, value["value"]), param=full)
    key = (place["key"] or "") if place else ""
    at = f" - at `{key}${'.' if full else ''}{full}`" if full else ""
    return chat_body_error(msgspec.ValidationError(problem + at))


def _unknown_field(path: str, name: str) -> RequestError:
    name = name[:100]
    known = _NAMES if path else wire.Body.__struct_fields__
    near = difflib.get_close_matches(name, known, 1)
    instead = None if path else _OF_CHAT.get(name)
    hint = f". Did you mean '{near[0]}'?" if near else ""
    if instead is not None:
        hint = f". The Responses API calls it '{instead}'"
    if not path:
        return RequestError(f"Unrecognized request argument supplied: {name}{hint}", param=name)
    full = f"{path}.{name}"
    return RequestError(f"Unknown parameter: '{full}'{hint}", param=full, code="unknown_parameter")


def _invalid_value(path: str, value: str) -> str:
    for pattern, allowed in _ALLOWED:
        if pattern.search(path):
            return f"Invalid value for '{path}': {value}; supported values are {', '.join(allowed)}"
    return f"Invalid value for '{path}': {value}"


_NAMES = sorted(
    {
        name
        for kind in vars(wire).values()
        if isinstance(kind, type) and issubclass(kind, wire.Strict)
        for name in kind.__struct_fields__
    }
)
"""Every name that an object inside the body may have, for suggestions."""
