"""POST /v1/embeddings towards callers: bodies in, vectors out, judged by the official SDK."""

from __future__ import annotations

import base64
import doctest
import json
import struct
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import OpenAI
from openai.types import CreateEmbeddingResponse

from assay.errors import AssayError, NotFound, RequestError, UnsupportedFeature
from assay.providers.openai_chat import OpenAIChat
from assay.server import openai_embeddings
from assay.server.openai_embeddings import EMBEDDINGS, MAX_INPUTS, Options
from assay.types import Message, Opaque, Request, Response, Usage, replace, user

VECTORS = ((0.5, -1.25, 3.0), (0.0, 0.1, 1e-3))


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "input": "a", **fields}).encode()


def refusal(data: bytes) -> RequestError:
    with pytest.raises(RequestError) as caught:
        EMBEDDINGS.parse(data, "")
    return caught.value


def tokens(*numbers: int) -> Message:
    return Message("user", (Opaque("openai", list(numbers)),))


def test_docstring_examples() -> None:
    assert doctest.testmod(openai_embeddings).failed == 0


def test_the_smallest_body() -> None:
    assert EMBEDDINGS.name == "openai"
    request = Request("m", (user("a"),), operation="embeddings")
    assert EMBEDDINGS.parse(body(), "") == (request, Options())


def test_every_field_finds_its_place() -> None:
    request, options = EMBEDDINGS.parse(body(dimensions=8, encoding_format="base64", user="u"), "")
    assert request == Request("m", (user("a"),), operation="embeddings", dimensions=8, user="u")
    assert options == Options("base64")


@pytest.mark.parametrize(
    ("given_input", "messages"),
    [
        (["a", "b"], (user("a"), user("b"))),
        ([1, 2], (tokens(1, 2),)),
        ([[1, 2], [3]], (tokens(1, 2), tokens(3))),
        ([[1], "a"], (tokens(1), user("a"))),
    ],
)
def test_inputs(given_input: Any, messages: tuple[Message, ...]) -> None:
    assert EMBEDDINGS.parse(body(input=given_input), "").request.messages == messages


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"input": ""}, "input", "string_below_min_length"),
        ({"input": []}, "input", "empty_array"),
        ({"input": ["a", ""]}, "input[1]", "string_below_min_length"),
        ({"input": [[1], []]}, "input[1]", "empty_array"),
        ({"input": ["a"] * (MAX_INPUTS + 1)}, "input", "array_above_max_length"),
        ({"input": ["a", 1]}, "input[1]", "invalid_type"),
        ({"input": [1, "a"]}, "input[1]", "invalid_type"),
        ({"input": [1, -1]}, "input[1]", "invalid_type"),
        ({"input": [True]}, "input[0]", "invalid_type"),
        ({"input": [[1, 1.5]]}, "input[0][1]", "invalid_type"),
        ({"input": [None]}, "input[0]", "invalid_type"),
        ({"input": None}, "input", "invalid_request"),
        ({"input": 1}, "input", "invalid_request"),
        ({"dimensions": 0}, "dimensions", "invalid_request"),
        ({"encoding_format": "int8"}, "encoding_format", "invalid_request"),
        ({"model": None}, "model", "invalid_request"),
    ],
)
def test_faults_name_their_field(fields: dict[str, Any], param: str, code: str) -> None:
    error = refusal(body(**fields))
    assert (error.status, error.param, error.code) == (400, param, code)


def test_the_words_are_openais() -> None:
    assert refusal(body(input=["a"] * 2049)).message == (
        "Invalid 'input': array too long. Expected an array with maximum length 2048, but got an array with "
        "length 2049 instead."
    )
    assert EMBEDDINGS.parse(body(input=["a"] * 2048), "").request.messages[2047] == user("a")
    assert refusal(b'{"model":"m"}').message == "Missing required parameter: 'input'"
    error = refusal(body(dimension=1))
    assert error.message == "Unrecognized request argument supplied: dimension. Did you mean 'dimensions'?"
    assert error.param == "dimension"
    assert "Did you mean" not in refusal(body(frequency_penalti=1)).message


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"null"])
def test_what_is_no_body(data: bytes) -> None:
    assert refusal(data).status == 400


@given(data=st.binary(max_size=60))
@settings(max_examples=100, deadline=None)
def test_bytes_are_understood_or_refused(data: bytes) -> None:
    try:
        EMBEDDINGS.parse(data, "")
    except AssayError as error:
        assert isinstance(error, RequestError)


# --- replies -------------------------------------------------------------------------------------


def test_vectors_as_numbers() -> None:
    response = Response("", "m", (), usage=Usage(input=3, cache_read=1), vectors=VECTORS)
    for options in (None, Options()):
        written = json.loads(EMBEDDINGS.write(response, options).body)
        assert written == {
            "object": "list",
            "data": [
                {"object": "embedding", "index": 0, "embedding": [0.5, -1.25, 3.0]},
                {"object": "embedding", "index": 1, "embedding": [0.0, 0.1, 1e-3]},
            ],
            "model": "m",
            "usage": {"prompt_tokens": 4, "total_tokens": 4},
        }
        assert CreateEmbeddingResponse.model_validate(written).model_extra == {}


def test_vectors_as_base64_are_little_endian() -> None:
    response = Response("", "m", (), vectors=VECTORS)
    written = json.loads(EMBEDDINGS.write(response, Options("base64")).body)
    assert base64.b64decode(written["data"][0]["embedding"]) == struct.pack("<3f", *VECTORS[0])
    assert written["usage"] == {"prompt_tokens": 0, "total_tokens": 0}


@pytest.mark.parametrize("form", [None, "float", "base64"])
def test_the_official_client_is_answered(form: Any) -> None:
    """Which asks for base64 unless told otherwise."""
    asked: list[bytes] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.content)
        call, options = EMBEDDINGS.parse(request.content, "")
        assert len(call.messages) == 2
        return httpx2.Response(
            200, content=EMBEDDINGS.write(Response("", "m", (), vectors=VECTORS), options).body
        )

    http_client = httpx2.Client(transport=httpx2.MockTransport(answer))
    wanted = {} if form is None else {"encoding_format": form}
    with OpenAI(api_key="k", base_url="http://x.test/v1", http_client=http_client) as client:
        reply = client.embeddings.create(model="m", input=["a", "b"], **wanted)
    if form != "base64":
        for item, vector in zip(reply.data, VECTORS, strict=True):
            assert item.embedding == pytest.approx(vector, rel=1e-6)
    assert [item.index for item in reply.data] == [0, 1]


def test_errors_and_streams() -> None:
    status, data = EMBEDDINGS.error(NotFound("no such model"))
    assert status == 404
    assert json.loads(data)["error"]["message"] == "no such model"
    with pytest.raises(UnsupportedFeature):
        EMBEDDINGS.stream(None)


# --- both sides of the dialect -------------------------------------------------------------------

INPUTS = st.text(min_size=1, max_size=8).map(user) | st.lists(
    st.integers(0, 200_000), min_size=1, max_size=4
).map(lambda numbers: tokens(*numbers))


@given(
    messages=st.lists(INPUTS, min_size=1, max_size=5),
    dimensions=st.none() | st.integers(1, 4096),
    user_name=st.none() | st.text(max_size=5),
)
@settings(max_examples=100, deadline=None)
def test_what_the_upstream_side_writes_is_read_back(
    messages: list[Message], dimensions: int | None, user_name: str | None
) -> None:
    request = Request("m", tuple(messages), operation="embeddings", dimensions=dimensions, user=user_name)
    encoded = OpenAIChat().encode(request)
    assert encoded.dropped == ()
    assert EMBEDDINGS.parse(encoded.body, "").request == request


FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(
    vectors=st.integers(1, 4).flatmap(
        lambda size: st.lists(st.tuples(*[FLOATS] * size), min_size=1, max_size=4)
    ),
    form=st.sampled_from(["float", "base64"]),
)
@settings(max_examples=100, deadline=None)
def test_what_is_written_the_upstream_side_reads(vectors: list[tuple[float, ...]], form: Any) -> None:
    response = Response("", "m", (), usage=Usage(input=3), vectors=tuple(vectors))
    request = Request("m", (user("a"),) * len(vectors), operation="embeddings")
    data = EMBEDDINGS.write(response, Options(form)).body
    assert replace(OpenAIChat().decode(request, data), created_s=0) == response
