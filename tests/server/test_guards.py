"""Guards where callers meet them: blocked and redacted, whole and streamed, by the official SDKs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import errors as google_errors

TOML = """
[providers.s]
dialect = "scripted"
replies = ["Write to bob@example.com or pay with 4111 1111 1111 1111 now."]

[models.redacted]
provider = "s"
guards = ["personal"]

[models.blocked]
provider = "s"
guards = ["no-cards"]

[models.shadowed]
provider = "s"
guards = ["personal"]
shadow = { model = "redacted", share = 1.0 }

[routes.route]
try = ["redacted"]

[guards.personal]
rule = "pii"
action = "redact"

[guards.no-cards]
rule = "pii"
kinds = ["card"]
"""
REDACTED = "Write to [email] or pay with [card] now."
BEFORE = "Write to bob@example.com or pay with "
QUESTION: Any = [{"role": "user", "content": "My number is 378282246310005."}]
HARMLESS: Any = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def served(serve_session: Any) -> Any:
    return serve_session(TOML)


def chat(url: str, model: str, messages: Any, stream: bool) -> str:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
        if not stream:
            return (
                client.chat.completions.create(model=model, messages=messages).choices[0].message.content
                or ""
            )
        said = ""
        try:
            for chunk in client.chat.completions.create(model=model, messages=messages, stream=True):
                said += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        except openai.APIError as error:
            error.said = said  # type: ignore[attr-defined]
            raise
        return said


def responses(url: str, model: str, messages: Any, stream: bool) -> str:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
        if not stream:
            return client.responses.create(model=model, input=messages).output_text
        said = ""
        for event in client.responses.create(model=model, input=messages, stream=True):
            if event.type == "response.output_text.delta":
                said += event.delta
            if event.type in ("response.failed", "error"):
                raise openai.APIError(str(event), request=None, body=None)  # type: ignore[arg-type]
        return said


def messages(url: str, model: str, said: Any, stream: bool) -> str:
    with anthropic.Anthropic(base_url=url, api_key="any", max_retries=0) as client:
        if not stream:
            reply = client.messages.create(model=model, max_tokens=99, messages=said)
            return "".join(block.text for block in reply.content if block.type == "text")
        text = ""
        try:
            with client.messages.stream(model=model, max_tokens=99, messages=said) as events:
                for piece in events.text_stream:
                    text += piece
        except anthropic.APIError as error:
            error.said = text  # type: ignore[attr-defined]
            raise
        return text


def gemini(url: str, model: str, said: Any, stream: bool) -> str:
    client = genai.Client(api_key="any", http_options={"base_url": url})
    text = said[0]["content"]
    if not stream:
        return client.models.generate_content(model=model, contents=text).text or ""
    return "".join(
        chunk.text or "" for chunk in client.models.generate_content_stream(model=model, contents=text)
    )


CALLERS = [chat, responses, messages, gemini]
Call = Callable[[str, str, Any, bool], str]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("call", CALLERS)
@pytest.mark.parametrize("model", ["redacted", "route"])
def test_redacted(served: Any, call: Call, stream: bool, model: str) -> None:
    assert call(served.url, model, QUESTION, stream) == REDACTED


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("call", [chat, responses])
def test_a_blocked_request_is_a_content_filters_error_to_openais_sdk(
    served: Any, call: Call, stream: bool
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        call(served.url, "blocked", QUESTION, stream)
    assert caught.value.code == "content_filter"
    assert "3782" not in str(caught.value)


@pytest.mark.parametrize("stream", [False, True])
def test_a_blocked_request_is_a_bad_one_to_the_other_sdks(served: Any, stream: bool) -> None:
    with pytest.raises(anthropic.BadRequestError, match="no-cards"):
        messages(served.url, "blocked", QUESTION, stream)
    with pytest.raises(google_errors.ClientError, match="no-cards") as caught:
        gemini(served.url, "blocked", QUESTION, stream)
    assert caught.value.code == 400


def test_a_blocked_reply_ends_in_an_error_and_what_came_before_it_has_been_said(served: Any) -> None:
    with pytest.raises(openai.BadRequestError):
        chat(served.url, "blocked", HARMLESS, False)
    with pytest.raises(openai.APIError) as of_openai:
        chat(served.url, "blocked", HARMLESS, True)
    assert of_openai.value.said == BEFORE  # type: ignore[attr-defined]
    assert of_openai.value.code == "content_filter"
    with pytest.raises(openai.APIError, match="no-cards"):
        responses(served.url, "blocked", HARMLESS, True)
    with pytest.raises(anthropic.BadRequestError):
        messages(served.url, "blocked", HARMLESS, False)
    with pytest.raises(anthropic.APIError, match="no-cards") as of_anthropic:
        messages(served.url, "blocked", HARMLESS, True)
    assert of_anthropic.value.said == BEFORE  # type: ignore[attr-defined]
    with pytest.raises(google_errors.APIError, match="no-cards"):
        gemini(served.url, "blocked", HARMLESS, True)


def test_nothing_of_it_is_in_the_store(serve: Any) -> None:
    served = serve(TOML)
    for call in CALLERS:
        call(served.url, "redacted", QUESTION, True)
        call(served.url, "shadowed", QUESTION, False)
    for stream in (False, True):
        with pytest.raises(openai.APIError):
            chat(served.url, "blocked", QUESTION, stream)
    assert served.stop()[0] == 0
    stored = b"".join(file.read_bytes() for file in Path(served.root, ".assay").rglob("*") if file.is_file())
    assert b"[card]" in stored
    for secret in (b"378282246310005", b"bob@example.com", b"4111 1111"):
        assert secret not in stored
