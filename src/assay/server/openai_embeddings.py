"""POST /v1/embeddings in OpenAI's words, towards callers: bodies in, vectors out. Pure translation.

Errors are written as for chat completions. The upstream side: assay.providers.openai_chat.embeddings.
"""

from __future__ import annotations

import difflib
import sys
from array import array
from base64 import b64encode
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from assay.errors import RequestError, UnsupportedFeature
from assay.providers.openai_chat.vocabulary import DIALECT
from assay.server.dialect import Dialect, Parsed, ReplyEncoder, Written
from assay.server.openai_chat.errors import body_error, encode_error
from assay.types import Message, Opaque, Request, Response, Text, Value

MAX_INPUTS = 2048


class Options(Value):
    """How the vectors are written: as numbers, or as base64 of little-endian 32-bit ones."""

    encoding_format: Literal["float", "base64"] = "float"


class Body(msgspec.Struct, forbid_unknown_fields=True):
    model: str
    input: str | list[Any]
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    encoding_format: Literal["float", "base64"] | None = None
    user: str | None = None


_BODY = msgspec.json.Decoder(Body)
_ENCODE = msgspec.json.Encoder().encode

# --- the call ------------------------------------------------------------------------------------


def parse(body: bytes, _model: str = "") -> Parsed:
    """Each input becomes a message; one that is given as tokens is OpenAI's own.

    Raises RequestError, with `param` naming the field.

    >>> request, options = parse(b'{"model":"m","input":["a","b"]}')
    >>> [message.text for message in request.messages], options.encoding_format
    (['a', 'b'], 'float')
    """
    try:
        call = _BODY.decode(body)
    except (ValueError, RecursionError) as error:
        raise _named(body_error(error)) from error
    request = Request(
        model=call.model,
        messages=_inputs(call.input),
        operation="embeddings",
        dimensions=call.dimensions,
        user=call.user,
    )
    return Parsed(request, Options(call.encoding_format or "float"))


def _named(error: RequestError) -> RequestError:
    """What the API lacks is told with the nearest name that this call, not chat completions, has."""
    if error.param is None or not error.message.startswith("Unrecognized request argument"):
        return error
    near = difflib.get_close_matches(error.param, Body.__struct_fields__, 1)
    hint = f". Did you mean '{near[0]}'?" if near else ""
    return RequestError(f"Unrecognized request argument supplied: {error.param}{hint}", param=error.param)


def _inputs(given: str | list[Any]) -> tuple[Message, ...]:
    if isinstance(given, str):
        return (_text(given, "input"),)
    if not given:
        raise _wrong("input", "empty array. Expected an array with minimum length 1", "empty_array")
    if isinstance(given[0], int):
        return (_tokens(given, "input"),)
    if len(given) > MAX_INPUTS:
        raise _wrong(
            "input",
            f"array too long. Expected an array with maximum length {MAX_INPUTS}, but got an array with "
            f"length {len(given)} instead",
            "array_above_max_length",
        )
    return tuple(_input(one, f"input[{number}]") for number, one in enumerate(given))


def _input(given: Any, path: str) -> Message:
    if isinstance(given, str):
        return _text(given, path)
    if isinstance(given, list) and given:
        return _tokens(given, path)
    if isinstance(given, list):
        raise _wrong(path, "empty array. Expected an array with minimum length 1", "empty_array")
    raise RequestError(
        f"Invalid type for '{path}': expected a string or an array of integers",
        param=path,
        code="invalid_type",
    )


def _text(text: str, path: str) -> Message:
    if not text:
        raise _wrong(
            path,
            "empty string. Expected a string with minimum length 1, but got an empty string instead",
            "string_below_min_length",
        )
    return Message("user", (Text(text),))


def _tokens(given: list[Any], path: str) -> Message:
    for number, token in enumerate(given):
        if type(token) is not int or token < 0:
            at = f"{path}[{number}]"
            raise RequestError(
                f"Invalid type for '{at}': expected an integer, a token's number of at least 0",
                param=at,
                code="invalid_type",
            )
    return Message("user", (Opaque(DIALECT, given),))


def _wrong(path: str, problem: str, code: str) -> RequestError:
    return RequestError(f"Invalid '{path}': {problem}.", param=path, code=code)


# --- the reply -----------------------------------------------------------------------------------


def write(response: Response, options: Options | None) -> Written:
    """A CreateEmbeddingResponse. Its usage is 0 where nobody counted: the API has no word for that."""
    as_text = options is not None and options.encoding_format == "base64"
    tokens = 0 if response.usage is None else response.usage.tokens_in
    body = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": number, "embedding": _base64(vector) if as_text else vector}
            for number, vector in enumerate(response.vectors)
        ],
        "model": response.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    return Written(_ENCODE(body))


def _base64(vector: tuple[float, ...]) -> str:
    numbers = array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return b64encode(numbers).decode()


def _no_stream(_options: Any) -> ReplyEncoder:
    raise UnsupportedFeature("Embeddings have no streamed form; leave out 'stream'", param="stream")


EMBEDDINGS = Dialect(DIALECT, parse, write, _no_stream, encode_error, operation="embeddings", streamed=False)
"""POST /v1/embeddings."""
