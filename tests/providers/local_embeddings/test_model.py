"""Turns, limits, cancelling and failing, with an encoder that the test plays itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from assay.errors import (
    AssayError,
    ContextExceeded,
    ProviderError,
    ProviderUnavailable,
    RequestError,
    UnsupportedFeature,
)
from assay.providers.local_embeddings import LocalEmbeddings
from assay.providers.local_embeddings import encoder as encoder_module
from assay.providers.local_embeddings.encoder import open_encoder
from assay.providers.local_embeddings.model import MAX_INPUTS, MAX_TOKENS, TURN_TOKENS
from assay.types import (
    CacheMark,
    Completed,
    Extra,
    Image,
    Link,
    Message,
    Request,
    Response,
    Text,
    Usage,
    closing,
    replace,
    user,
)

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60, method="thread")]


class Played:
    """A token a word; a vector of three: how many tokens, and the first and the last letter."""

    width = 3

    def __init__(self) -> None:
        self.encoded: list[int] = []
        self.before: Callable[[], object] = lambda: None

    def tokens(self, text: str) -> list[int]:
        text.encode()
        return [ord(word[0]) for word in text.split()]

    def vector(self, tokens: Sequence[int]) -> list[float]:
        self.before()
        self.encoded.append(len(tokens))
        return [float(len(tokens)), float(tokens[0]), float(tokens[-1])]


def asked(*texts: str, **more: Any) -> Request:
    return Request("embed", tuple(map(user, texts)), operation="embeddings", **more)


async def answer(model: LocalEmbeddings, request: Request) -> Response:
    async with closing(model(request)) as events:
        (completed,) = [event async for event in events]
    assert isinstance(completed, Completed)
    return completed.response


def model(encoder: Played) -> LocalEmbeddings:
    return LocalEmbeddings("here", None, opener=lambda *_: encoder)


async def test_a_vector_for_each_input_in_its_place() -> None:
    local = model(Played())
    response = await answer(local, asked("a b c", "d", "e f"))
    assert response.vectors == ((3.0, 97.0, 99.0), (1.0, 100.0, 100.0), (2.0, 101.0, 102.0))
    assert (response.model, response.provider, response.choices) == ("embed", "here", ())
    assert response.usage == Usage(input=6)
    assert response.id != (await answer(local, asked("a"))).id
    assert local.dialects == frozenset()
    await local.aclose()


async def test_parts_of_an_input_are_one_text_and_what_does_not_matter_is_named() -> None:
    local = model(Played())
    parts = (Text("a "), Text("b", cache=CacheMark(), extra=Extra("openai", {"cache_control": 1})))
    request = replace(
        asked("x", user="u", metadata={"a": "b"}, service_tier="flex", extra=Extra("gemini", {"title": "t"})),
        messages=(Message("user", parts),),
        dimensions=3,
    )
    response = await answer(local, request)
    assert response.vectors == ((2.0, 97.0, 98.0),)
    assert response.dropped == (
        "messages[0].parts[1].cache",
        "messages[0].parts[1].cache_control",
        "user",
        "metadata",
        "service_tier",
        "title",
    )
    await local.aclose()


async def test_tokens_are_counted_whatever_their_number() -> None:
    encoder = Played()
    local = model(encoder)
    request = replace(asked("a " * 700, "b"), operation="count_tokens")
    assert await answer(local, request) == Response("", "embed", (), Usage(input=701), provider="here")
    assert encoder.encoded == []
    await local.aclose()


@pytest.mark.parametrize(
    ("request_", "kind", "said", "param"),
    [
        (
            asked("fits", "a " * (MAX_TOKENS + 1)),
            ContextExceeded,
            f"Input 1 has 513 tokens and the model 'embed' takes {MAX_TOKENS}",
            "messages[1]",
        ),
        (asked(), RequestError, "There are 0 inputs", "messages"),
        (asked(*["a"] * (MAX_INPUTS + 1)), RequestError, "There are 2049 inputs", "messages"),
        (asked("a", "\ud800"), RequestError, "Input 1 is not Unicode text", "messages[1]"),
        (asked("a", dimensions=2), UnsupportedFeature, "vectors of 3 dimensions.* cut to 2", "dimensions"),
        (replace(asked("a"), operation="chat"), UnsupportedFeature, "writes no text", "model"),
        (
            replace(asked(), messages=(Message("user", (Text("a"), Image(Link("x")))),)),
            UnsupportedFeature,
            "not a part of type Image",
            "messages[0].parts[1]",
        ),
        (asked("a", extra=Extra("gemini", {"taskType": "x"})), UnsupportedFeature, "taskType", "taskType"),
    ],
)
async def test_what_is_refused(request_: Request, kind: type[RequestError], said: str, param: str) -> None:
    encoder = Played()
    local = model(encoder)
    with pytest.raises(kind, match=said) as caught:
        await answer(local, request_)
    assert caught.value.param == param
    assert encoder.encoded == []
    await local.aclose()


# --- turns ---------------------------------------------------------------------------------------


class Gate:
    """Lets the encoder's texts through one by one."""

    def __init__(self, encoder: Played) -> None:
        self.reached = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        encoder.before = self.wait

    def wait(self) -> None:
        self.reached.release()
        self.go.acquire()

    async def arrive(self) -> None:
        await asyncio.to_thread(self.reached.acquire)

    def open(self) -> None:
        for _ in range(1_000):
            self.go.release()


HALF_A_TURN = "a " * (TURN_TOKENS // 2)


async def queued(local: LocalEmbeddings, jobs: int) -> None:
    """Returns when so many turns wait."""
    while local._worker._work_queue.qsize() < jobs:
        await asyncio.sleep(0)


async def test_a_question_waits_for_a_turn_and_not_for_all_documents() -> None:
    encoder = Played()
    gate = Gate(encoder)
    local = model(encoder)
    documents = asyncio.ensure_future(answer(local, asked(*[HALF_A_TURN] * 8)))
    await gate.arrive()
    question = asyncio.ensure_future(answer(local, asked("why")))
    await queued(local, 1)
    gate.open()
    await question
    await documents
    assert encoder.encoded.index(1) < 8
    assert len(encoder.encoded) == 9
    await local.aclose()


async def test_a_cancelled_call_ends_with_its_turn() -> None:
    encoder = Played()
    gate = Gate(encoder)
    local = model(encoder)
    call = asyncio.ensure_future(answer(local, asked(*[HALF_A_TURN] * 8)))
    await gate.arrive()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    gate.open()
    await answer(local, asked("next"))
    assert encoder.encoded == [TURN_TOKENS // 2] * 2 + [1]
    await local.aclose()


# --- opening and closing -------------------------------------------------------------------------


async def test_it_is_opened_once_at_the_first_call() -> None:
    opened: list[tuple[Path | None, int]] = []

    def opener(folder: Path | None, threads: int) -> Played:
        opened.append((folder, threads))
        return Played()

    local = LocalEmbeddings("here", Path("x"), threads=3, opener=opener)
    assert opened == []
    await asyncio.gather(*(answer(local, asked("a")) for _ in range(5)))
    assert opened == [(Path("x"), 3)]
    await local.aclose()


async def test_what_failed_to_open_is_tried_again() -> None:
    outcomes: list[Played | AssayError] = [ProviderUnavailable("not yet"), Played()]

    def opener(*_: Any) -> Played:
        outcome = outcomes.pop(0)
        if isinstance(outcome, AssayError):
            raise outcome
        return outcome

    local = LocalEmbeddings("here", None, opener=opener)
    with pytest.raises(ProviderUnavailable, match="not yet") as caught:
        await answer(local, asked("a"))
    assert caught.value.provider == "here"
    assert (await answer(local, asked("a"))).vectors
    await local.aclose()


async def test_the_librarys_failure_names_the_provider() -> None:
    encoder = Played()

    def fail() -> None:
        raise ProviderError("ouch", retryable=False)

    encoder.before = fail
    local = model(encoder)
    with pytest.raises(ProviderError, match="ouch") as caught:
        await answer(local, asked("a"))
    assert caught.value.provider == "here"
    await local.aclose()


async def test_closing_ends_running_and_waiting_calls() -> None:
    encoder = Played()
    gate = Gate(encoder)
    local = model(encoder)
    running = asyncio.ensure_future(answer(local, asked(*[HALF_A_TURN] * 8)))
    await gate.arrive()
    waiting = asyncio.ensure_future(answer(local, asked("a")))
    await queued(local, 1)
    closed = asyncio.ensure_future(local.aclose())
    while not local._closed.is_set():
        await asyncio.sleep(0)
    gate.open()
    await closed
    for call in (running, waiting, answer(local, asked("late"))):
        with pytest.raises(ProviderUnavailable, match="has been closed") as caught:
            await call
        assert (caught.value.provider, caught.value.retryable) == ("here", False)
    await local.aclose()


# --- what is missing -----------------------------------------------------------------------------


@pytest.mark.parametrize("files", [None, [], ["model.int8.onnx"], ["tokenizer.json"]])
async def test_weights_that_are_not_there(tmp_path: Path, files: list[str] | None) -> None:
    for name in files or ():
        (tmp_path / name).write_bytes(b"x")
    local = LocalEmbeddings("here", None if files is None else tmp_path)
    assert local.problem is not None
    assert "run 'assay models pull local-embeddings'" in local.problem.message
    with pytest.raises(ProviderUnavailable, match="run 'assay models pull local-embeddings'") as caught:
        await answer(local, asked("a"))
    assert not caught.value.retryable
    await local.aclose()


async def test_files_that_are_damaged(tmp_path: Path) -> None:
    for name in ("model.int8.onnx", "tokenizer.json"):
        (tmp_path / name).write_bytes(b"x")
    local = LocalEmbeddings("here", tmp_path)
    assert local.problem is None
    with pytest.raises(ProviderUnavailable, match="local-embeddings --verify'") as caught:
        await answer(local, asked("a"))
    assert not caught.value.retryable
    await local.aclose()


def test_without_the_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_module.importlib.util, "find_spec", lambda name: None)
    local = LocalEmbeddings("here", tmp_path)
    assert local.problem is not None
    said = r"needs onnxruntime and tokenizers; run: pip install 'assay\[local\]'"
    with pytest.raises(ProviderUnavailable, match=said):
        open_encoder(tmp_path, 1)
