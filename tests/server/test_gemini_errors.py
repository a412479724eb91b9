"""What else Gemini's callers are told: vectors, counts, models and errors, judged by the official SDK."""

from __future__ import annotations

import json
import math
from typing import Any

import httpx2
import pytest
from google import genai
from google.genai import errors, types

from assay.app import ModelInfo
from assay.errors import (
    AssayError,
    AuthError,
    BadResponse,
    BudgetExceeded,
    NotFound,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    RequestError,
    UnsupportedFeature,
)
from assay.server.gemini import BATCH_EMBED, COUNT_TOKENS, EMBED, GENERATE, model, model_list
from assay.types import Response, Usage


def without_nulls(value: Any) -> None:
    assert value is not None
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        without_nulls(one)


# --- the other calls -----------------------------------------------------------------------------


def test_vectors() -> None:
    response = Response("", "m", (), usage=Usage(input=3), vectors=((0.5, 1.0),))
    body = json.loads(EMBED.write(response, None).body)
    assert body == {"embedding": {"values": [0.5, 1.0]}, "usageMetadata": {"promptTokenCount": 3}}
    many = Response("", "m", (), vectors=((0.5,), (1.0,)))
    body = json.loads(BATCH_EMBED.write(many, None).body)
    assert body == {"embeddings": [{"values": [0.5]}, {"values": [1.0]}]}
    seen = types.EmbedContentResponse.model_validate(body)
    assert seen.embeddings is not None and seen.embeddings[1].values == [1.0]
    with pytest.raises(BadResponse):
        EMBED.write(many, None)


def test_counted_tokens() -> None:
    body = json.loads(
        COUNT_TOKENS.write(Response("", "m", (), usage=Usage(input=3, cache_read=1)), None).body
    )
    assert body == {
        "totalTokens": 4,
        "cachedContentTokenCount": 1,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 4}],
        "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": 1}],
    }
    types.CountTokensResponse.model_validate({"totalTokens": body["totalTokens"]})
    with pytest.raises(BadResponse):
        COUNT_TOKENS.write(Response("", "m", ()), None)


def test_models() -> None:
    infos = [ModelInfo("fast", "google", "gemini", "gemini-2.5-flash")]

    def answer(request: httpx2.Request) -> httpx2.Response:
        data = model_list(infos) if request.url.path.endswith("/models") else model(infos[0])
        return httpx2.Response(200, content=data)

    with httpx2.Client(transport=httpx2.MockTransport(answer)) as http_client:
        options = types.HttpOptions(base_url="http://x.test", httpx_client=http_client)
        client = genai.Client(api_key="k", http_options=options)
        (listed,) = client.models.list()
        one = client.models.get(model="fast")
    for seen in (listed, one):
        assert (seen.name, seen.display_name, seen.version) == ("models/fast", "fast", "gemini-2.5-flash")
        assert seen.supported_actions is not None and "generateContent" in seen.supported_actions


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "word"),
    [
        (RequestError("a"), 400, "INVALID_ARGUMENT"),
        (UnsupportedFeature("a"), 400, "INVALID_ARGUMENT"),
        (AuthError("a"), 401, "UNAUTHENTICATED"),
        (BudgetExceeded("a"), 402, "RESOURCE_EXHAUSTED"),
        (NotFound("a"), 404, "NOT_FOUND"),
        (RateLimited("a"), 429, "RESOURCE_EXHAUSTED"),
        (AssayError("a"), 500, "INTERNAL"),
        (BadResponse("a"), 502, "UNAVAILABLE"),
        (ProviderUnavailable("a"), 503, "UNAVAILABLE"),
        (ProviderTimeout("a"), 504, "DEADLINE_EXCEEDED"),
    ],
)
def test_errors(error: AssayError, status: int, word: str) -> None:
    code, data = GENERATE.error(error)
    body = json.loads(data)
    without_nulls(body)
    assert code == status == body["error"]["code"]
    assert (body["error"]["message"], body["error"]["status"]) == ("a", word)
    with pytest.raises(errors.APIError) as caught:
        errors.APIError.raise_error(code, body, None)
    assert (caught.value.code, caught.value.status, caught.value.message) == (status, word, "a")


def test_details_of_errors() -> None:
    details = json.loads(GENERATE.error(RequestError("a", param="contents"))[1])["error"]["details"]
    assert details[0]["reason"] == "INVALID_REQUEST"
    assert details[1]["fieldViolations"] == [{"field": "contents", "description": "a"}]
    for seconds, word in ((34, "34s"), (0.5, "0.5s"), (1.23456, "1.235s"), (0, "0s"), (100, "100s")):
        (_, retry) = json.loads(GENERATE.error(RateLimited("a", retry_after_s=seconds))[1])["error"][
            "details"
        ]
        assert retry == {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": word}
        assert math.isclose(float(word[:-1]), seconds, abs_tol=0.001)


def test_an_odd_status() -> None:
    class Teapot(RequestError):
        status = 418

    assert json.loads(GENERATE.error(Teapot("a"))[1])["error"]["status"] == "INVALID_ARGUMENT"
