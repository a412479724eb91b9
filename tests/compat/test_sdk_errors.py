"""What an upstream refuses reaches callers as their own SDK's exception, with a status that helps."""

from __future__ import annotations

from typing import Any

import pytest

from .bed import Callers, Run
from .drivers.base import Ask
from .test_sdk_matrix import CLIENTS, UPSTREAMS
from .upstreams.app import Upstreams

STATUS = {
    "invalid": 400,
    "too-long": 400,
    "no-model": 404,
    "rate": 429,
    # The caller's own key was good: that the gateway's is not, is not for the caller to mend.
    "bad-key": 502,
    "broken": 503,
    "overloaded": 503,
}
KINDS = {
    "openai": {
        400: "BadRequestError",
        404: "NotFoundError",
        429: "RateLimitError",
        502: "InternalServerError",
        503: "InternalServerError",
    },
    "anthropic": {
        400: "BadRequestError",
        404: "NotFoundError",
        429: "RateLimitError",
        500: "InternalServerError",
        502: "InternalServerError",
        529: "OverloadedError",
    },
    "gemini": {
        400: "ClientError",
        404: "ClientError",
        429: "ClientError",
        502: "ServerError",
        503: "ServerError",
    },
}
KINDS["responses"] = KINDS["openai"]
WORDS = {"invalid": "temperature", "rate": "", "no-model": "-9"}
"""What of the upstream's own words the caller reads."""

cases = [
    pytest.param(client, upstream, error, mode, id=f"{client}-client-to-{upstream}-{error}-{mode}")
    for client in CLIENTS
    for upstream in UPSTREAMS
    for error in STATUS
    for mode in ("whole", "stream")
]


@pytest.mark.parametrize(("client", "upstream", "error", "mode"), cases)
def test_a_refusal_is_the_sdks_own_exception(
    client: str, upstream: str, error: str, mode: str, callers: Callers, upstreams: Upstreams, run: Run
) -> None:
    upstreams.clear()
    driver = callers.driver(client, mode, "sync")
    with pytest.raises(driver.errors) as raised:
        run(driver.ask(Ask(f"{upstream}.error-{error}")))
    failure = driver.failure(raised.value)
    assert upstreams.one().stream == (mode == "stream")
    # Anthropic's API has statuses of its own for an upstream that is broken, and one that has no room.
    status = {"broken": 500, "overloaded": 529}.get(error) if client == "anthropic" else None
    status = status or STATUS[error]
    assert (failure.status, failure.kind) == (status, KINDS[client][status])
    assert WORDS.get(error, "") in failure.message
    if error == "rate":
        assert retry_after(raised.value) == "2"


def retry_after(error: Any) -> str | None:
    return error.response.headers.get("retry-after")


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("mode", ["whole", "stream"])
def test_a_model_that_nobody_configured_is_not_found(
    client: str, mode: str, callers: Callers, upstreams: Upstreams, run: Run
) -> None:
    upstreams.clear()
    driver = callers.driver(client, mode, "sync")
    with pytest.raises(driver.errors) as raised:
        run(driver.ask(Ask("nobody-knows-me")))
    failure = driver.failure(raised.value)
    assert (failure.status, failure.kind) == (404, KINDS[client][404])
    assert "nobody-knows-me" in failure.message
    assert upstreams.taken() == []
