"""The real SmolLM2 in this process: replies, sampling, schemas, slots, cancelling, closedness, leaving."""

from __future__ import annotations

import asyncio
import http.client
import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from assay.errors import ContextExceeded, ProviderUnavailable, UnsupportedFeature
from assay.providers.local import LocalModel
from assay.providers.local.engine import Engine, open_engine
from assay.types import (
    Assembly,
    Completed,
    Event,
    Extra,
    Finish,
    JsonOutput,
    Request,
    Response,
    Sampling,
    SchemaOutput,
    TextDelta,
    closing,
    replace,
    system,
    user,
)

pytestmark = [pytest.mark.anyio, pytest.mark.local_model, pytest.mark.timeout(240, method="thread")]

EOS = "2"
"""The token that ends a reply of SmolLM2."""

GREEDY = Sampling(temperature=0, max_tokens=16, seed=1)
"""The seed keeps the prompt from being read in other pieces the second time: see assay.providers.local."""

COLOURS = Request("smol", (user("Name three colours."),), sampling=GREEDY)
ENDLESS = replace(COLOURS, sampling=Sampling(max_tokens=1_900, logit_bias={EOS: -100}), stream=True)


@pytest.fixture(scope="module")
def local(local_weights: Path) -> Iterator[LocalModel]:
    model = LocalModel("here", local_weights)
    yield model
    asyncio.run(model.aclose())


async def events_of(model: LocalModel, request: Request) -> list[Event]:
    async with closing(model(request)) as events:
        return [event async for event in events]


async def answer(model: LocalModel, request: Request) -> Response:
    (completed,) = await events_of(model, replace(request, stream=False))
    assert isinstance(completed, Completed)
    return completed.response


async def said(model: LocalModel, text: str, **sampling: Any) -> str:
    changed = replace(GREEDY, **sampling)
    return (await answer(model, Request("smol", (user(text),), sampling=changed))).text


# --- replies -------------------------------------------------------------------------------------


async def test_streamed_and_whole_replies_say_the_same(local: LocalModel) -> None:
    assembly = Assembly()
    streamed = await events_of(local, replace(COLOURS, stream=True))
    for event in streamed:
        assembly.add(event)
    assert assembly.complete
    assert sum(isinstance(event, TextDelta) for event in streamed) > 3
    response, whole = assembly.response(), await answer(local, COLOURS)
    assert response.text == whole.text != ""
    assert response.choices[0].finish == whole.choices[0].finish
    assert (response.model, response.provider, response.choices[0].finish.reason) == (
        "smol",
        "here",
        "length",
    )
    assert response.usage is not None
    assert whole.usage is not None
    assert response.usage.tokens_in == whole.usage.tokens_in > 10
    assert response.usage.output == whole.usage.output == 16


async def test_a_prefix_that_was_read_before_is_not_read_again(local: LocalModel) -> None:
    unseeded = replace(COLOURS, sampling=Sampling(max_tokens=1))
    usages = [(await answer(local, unseeded)).usage for _ in range(2)]
    assert usages[0] is not None
    assert usages[1] is not None
    assert usages[1].cache_read > 0
    assert usages[0].tokens_in == usages[1].tokens_in
    seeded = (await answer(local, COLOURS)).usage
    assert seeded is not None
    assert (seeded.cache_read, seeded.input) == (0, usages[0].tokens_in)


async def test_the_system_message_counts(local: LocalModel) -> None:
    plain = await answer(local, COLOURS)
    told = await answer(
        local, replace(COLOURS, messages=(system("You only ever say: no."), *COLOURS.messages))
    )
    assert plain.text != told.text


async def test_it_ends_by_itself(local: LocalModel) -> None:
    response = await answer(local, Request("smol", (user("Say hello."),), sampling=Sampling(temperature=0)))
    assert response.choices[0].finish.reason == "stop"


async def test_a_prompt_that_is_too_long_names_both_numbers(local: LocalModel) -> None:
    with pytest.raises(ContextExceeded, match=r"has 30\d\d tokens .* takes 2048 a call") as caught:
        await events_of(local, replace(COLOURS, messages=(user("word " * 3_000),), stream=True))
    assert caught.value.param == "messages"


async def test_a_reply_ends_where_the_context_does(local_weights: Path) -> None:
    model = LocalModel("small", local_weights, context_tokens=256, slots=1)
    response = await answer(model, ENDLESS)
    assert response.choices[0].finish.reason == "length"
    assert response.usage is not None
    assert 200 < response.usage.tokens <= 256
    await model.aclose()


# --- sampling: each setting has an effect ----------------------------------------------------------


async def test_a_seed_gives_the_same_text_again(watched: tuple[LocalModel, Watched]) -> None:
    """With one slot: whatever was asked in between, and however much of it is still in memory."""
    model, _ = watched
    stories = [
        f"Tell me a story of {animal}. {'It was raining. ' * 9}" for animal in ("dogs", "cats", "dogs")
    ]
    asked = list(zip(stories, (1, 2, 3), strict=True))
    first = [await said(model, story, temperature=1.0, seed=seed) for story, seed in asked]
    again = [await said(model, story, temperature=1.0, seed=seed) for story, seed in reversed(asked)]
    assert first == again[::-1]
    assert first[0] != first[2]


async def test_settings_that_make_it_greedy(local: LocalModel) -> None:
    story = "Tell me a story."
    greedy = await said(local, story)
    for narrow in ({"top_k": 1}, {"top_p": 1e-6}):
        assert await said(local, story, temperature=1.5, seed=5, **narrow) == greedy
    assert await said(local, story, temperature=1.5, seed=5) != greedy
    hot = replace(GREEDY, temperature=1.5, seed=5)
    request = Request("smol", (user(story),), sampling=hot, extra=Extra("openai", {"min_p": 1.0}))
    assert (await answer(local, request)).text == greedy


async def test_stop_and_max_tokens(local: LocalModel) -> None:
    text = await said(local, "Name three colours.")
    word = text.split()[2]
    stopped = await answer(local, replace(COLOURS, sampling=replace(GREEDY, stop=("@@", word))))
    assert stopped.text == text[: text.index(word)]
    assert stopped.choices[0].finish == Finish("stop_sequence", "stop", word)
    short = await answer(local, replace(COLOURS, sampling=replace(GREEDY, max_tokens=3)))
    assert short.usage is not None
    assert (short.usage.output, short.choices[0].finish.reason) == (3, "length")


async def test_penalties(local: LocalModel) -> None:
    echo = "Say a a a a a a a a"
    plain = await said(local, echo)
    assert await said(local, echo, frequency_penalty=2.0) != plain
    assert await said(local, echo, presence_penalty=2.0) != plain
    request = Request("smol", (user(echo),), sampling=GREEDY, extra=Extra("openai", {"repeat_penalty": 1.5}))
    assert (await answer(local, request)).text != plain


async def test_logprobs_and_logit_bias(local: LocalModel) -> None:
    response = await answer(local, replace(COLOURS, sampling=replace(GREEDY, top_logprobs=3, max_tokens=5)))
    logprobs = response.choices[0].logprobs
    assert "".join(item.token for item in logprobs) == response.text
    assert b"".join(item.data or b"" for item in logprobs).decode() == response.text
    for item in logprobs:
        assert [len(item.top), item.top[0].token] == [3, item.token]
        assert sum(math.exp(top.logprob) for top in item.top) <= 1
    bare = await answer(local, replace(COLOURS, sampling=replace(GREEDY, top_logprobs=0, max_tokens=5)))
    assert [item.logprob for item in bare.choices[0].logprobs] == pytest.approx(
        [item.logprob for item in logprobs], abs=1e-3
    )
    assert all(item.top == () for item in bare.choices[0].logprobs)
    one = "33"  # the token "1", with which the greedy reply begins
    assert response.text.startswith("1")
    assert not (await said(local, "Name three colours.", logit_bias={one: -100})).startswith("1")


# --- schemas -------------------------------------------------------------------------------------

DOG = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": r"^[A-Z][a-z]{2,7}$"},
        "age": {"type": "integer", "minimum": 1, "maximum": 15},
        "kind": {"enum": ["hound", "terrier"]},
        "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "minItems": 2, "maxItems": 2},
    },
    "required": ["name", "age", "kind", "tags"],
    "additionalProperties": False,
    "$defs": {"tag": {"type": "string", "maxLength": 8}},
}


@pytest.mark.parametrize("seed", range(3))
async def test_a_reply_keeps_to_its_schema_at_any_temperature(local: LocalModel, seed: int) -> None:
    sampling = Sampling(temperature=1.3, seed=seed, max_tokens=120)
    request = Request("smol", (user("Invent a dog."),), sampling=sampling, output=SchemaOutput(DOG))
    response = await answer(local, request)
    dog = json.loads(response.text)
    assert response.choices[0].finish.reason == "stop"
    assert list(dog) == ["name", "age", "kind", "tags"]
    assert dog["name"].isalpha()
    assert dog["name"].istitle()
    assert 1 <= dog["age"] <= 15
    assert dog["kind"] in {"hound", "terrier"}
    assert [len(tag) <= 8 for tag in dog["tags"]] == [True, True]


async def test_json_without_a_schema_is_an_object(local: LocalModel) -> None:
    words = "Describe a dog as a JSON object with a name and an age."
    ask = Request("smol", (user(words),), sampling=replace(GREEDY, max_tokens=60), output=JsonOutput())
    assert "name" in json.loads((await answer(local, ask)).text)


@pytest.mark.parametrize(
    "schema", [{"type": "string", "pattern": "(?=x)y"}, {"type": "integer", "minimum": 5, "maximum": 2}]
)
async def test_a_schema_that_the_grammar_cannot_hold_is_refused_before_the_first_event(
    local: LocalModel, schema: dict[str, Any]
) -> None:
    ask = replace(COLOURS, messages=(user("Say hello."),), output=SchemaOutput(schema), stream=True)
    seen = []
    with pytest.raises(UnsupportedFeature, match="could not be held to this schema"):
        async with closing(local(ask)) as events:
            async for event in events:
                seen.append(event)
    assert seen == []


# --- slots and cancelling ------------------------------------------------------------------------


class Watched:
    """The real engine, with a look at what its calls hand out and when they return."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.first = threading.Event()
        self.returned = threading.Event()
        self.texts = 0
        self.read: list[float] = []
        """The part of the prompt that was read, after each batch."""

    def handle_chat_completions(self, body: str, callback: Callable[[str], bool]) -> None:
        def watched(chunk: str) -> bool:
            told = json.loads(chunk)
            self.texts += bool((told.get("choices") or [{}])[0].get("delta", {}).get("content"))
            if progress := told.get("prompt_progress"):
                self.read.append(progress["processed"] / progress["total"])
            self.first.set()
            return callback(chunk)

        self.engine.handle_chat_completions(body, watched)
        self.returned.set()

    def handle_completions(self, asked: dict[str, Any]) -> Any:
        return self.engine.handle_completions(asked)


@pytest.fixture
def watched(local_weights: Path) -> Iterator[tuple[LocalModel, Watched]]:
    engines: list[Watched] = []

    def opener(path: Path | None, *size: int) -> Engine:
        engines.append(Watched(open_engine(path, *size)))
        return engines[0]

    model = LocalModel("one", local_weights, context_tokens=2048, slots=1, opener=opener)
    asyncio.run(model.load())
    yield model, engines[0]
    asyncio.run(model.aclose())


async def test_closing_a_stream_stops_the_model_at_the_next_token(
    watched: tuple[LocalModel, Watched],
) -> None:
    model, engine = watched
    read = 0
    async with closing(model(ENDLESS)) as events:
        async for event in events:
            read += isinstance(event, TextDelta)
            if read == 5:
                break
    await asyncio.to_thread(engine.returned.wait)
    assert engine.texts < 500  # of the 1,900 it was asked for
    assert await said(model, "Say hello.")


@pytest.mark.parametrize("stream", [True, False])
async def test_a_cancelled_caller_stops_the_model_while_it_reads(
    watched: tuple[LocalModel, Watched], stream: bool
) -> None:
    model, engine = watched
    long = replace(ENDLESS, messages=(user("word " * 1_500),), stream=stream)
    call = asyncio.ensure_future(events_of(model, long))
    await asyncio.to_thread(engine.first.wait)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.to_thread(engine.returned.wait)
    assert engine.texts == 0
    assert max(engine.read) < 1
    assert await said(model, "Say hello.")


async def test_more_calls_than_slots(local: LocalModel) -> None:
    names = ["colours", "fruits", "rivers", "cities", "birds", "tools", "planets", "metals"]
    asked = [said(local, f"Name three {name}.") for name in names]
    answers = await asyncio.gather(*asked)
    assert all(answers)
    assert len(set(answers)) == len(names)


# --- loading, closedness, leaving ----------------------------------------------------------------


@pytest.mark.parametrize("damage", ["cut short", "noise"])
async def test_a_damaged_file_is_an_error_and_nothing_worse(
    local: LocalModel, local_weights: Path, tmp_path: Path, damage: str
) -> None:
    whole = local_weights.read_bytes()
    half = whole[: len(whole) // 2]
    path = tmp_path / "damaged.gguf"
    path.write_bytes(half if damage == "cut short" else whole[:4] + bytes(reversed(half)))
    broken = LocalModel("broken", path)
    with pytest.raises(ProviderUnavailable, match="cannot be loaded") as caught:
        await broken.load()
    assert "run 'assay models pull local --verify'" in caught.value.message
    assert not caught.value.retryable
    await broken.aclose()
    assert await said(local, "Say hello.")


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux's tables of sockets")
def test_nothing_listens(local_weights: Path) -> None:
    before = listening_ports()
    engine: Any = open_engine(local_weights, 512, 1, 1)
    assert listening_ports() == before
    address = engine.listening_address.removeprefix("unix://")
    assert not Path(address).parent.exists()
    with socket.socket(socket.AF_UNIX) as client, pytest.raises(FileNotFoundError):
        client.connect(address)


def listening_ports() -> set[str]:
    """The inodes of this process's own listening TCP sockets."""
    own = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            own.add(str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]"))
        except FileNotFoundError:  # the listing's own descriptor
            continue
    tables = [Path(name).read_text().splitlines()[1:] for name in ("/proc/net/tcp", "/proc/net/tcp6")]
    rows = [line.split() for table in tables for line in table]
    return {row[9] for row in rows if row[3] == "0A" and row[9] in own}


def test_where_there_are_no_such_sockets_a_key_protects(
    local_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(socket, "AF_UNIX")
    engine: Any = open_engine(local_weights, 512, 1, 1)
    port = int(engine.listening_address.rpartition(":")[2])
    for key in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer guess"}):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        headers = {"Content-Type": "application/json", "Origin": "https://example.org", **key}
        connection.request("POST", "/v1/chat/completions", b'{"messages":[]}', headers)
        reply = connection.getresponse()
        assert reply.status == 401
        assert reply.getheader("Access-Control-Allow-Origin") in {None, ""}
        connection.close()


def test_it_says_nothing_on_the_terminal(
    local_weights: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async def work() -> None:
        model = LocalModel("quiet", local_weights)
        assert await said(model, "Say hello.")
        await model.aclose()
        (tmp_path / "noise.gguf").write_bytes(b"GGUF" + os.urandom(10_000))
        with pytest.raises(ProviderUnavailable):
            await LocalModel("noise", tmp_path / "noise.gguf").load()

    asyncio.run(work())
    assert capfd.readouterr() == ("", "")


def test_ctrl_c_is_still_ours(local_weights: Path) -> None:
    caught = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = [signal.signal(number, lambda number, _: caught.append(number)) for number in numbers]
    try:
        engine = open_engine(local_weights, 512, 1, 1)
        for number in numbers:
            signal.raise_signal(number)
        del engine
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, handler)
    assert caught == list(numbers)


LEAVE = """
import asyncio, sys
from pathlib import Path
from assay.providers.local import LocalModel
from assay.types import Request, Sampling, user

async def main():
    request = Request("smol", (user("Tell me a story."),), sampling=Sampling(max_tokens=1900), stream=True)
    stream = model(request)
    async for event in stream:
        print(type(event).__name__, flush=True)
        break

model = LocalModel("left", Path(sys.argv[1]))
asyncio.run(main())
"""


def test_a_program_that_closes_nothing_leaves_cleanly(local_weights: Path) -> None:
    left = subprocess.run(
        [sys.executable, "-c", LEAVE, str(local_weights)], capture_output=True, text=True, timeout=200
    )
    assert (left.returncode, left.stdout, left.stderr) == (0, "Started\n", "")
