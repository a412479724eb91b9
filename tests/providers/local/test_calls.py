"""Loading, slots, waiting, cancelling and failing, with an engine that the test plays itself."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from assay.errors import (
    BadResponse,
    ConfigError,
    ContextExceeded,
    ProviderError,
    ProviderUnavailable,
    RequestError,
    UnsupportedFeature,
)
from assay.providers.local import LocalModel
from assay.providers.local.engine import Engine, default_threads, open_engine
from assay.types import (
    Completed,
    Event,
    Finish,
    Finished,
    FunctionTool,
    Request,
    Response,
    Sampling,
    SchemaOutput,
    Started,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolChoice,
    Usage,
    closing,
    replace,
    user,
)

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60, method="thread")]

HI = Request("local", (user("Hi"),), stream=True)
Callback = Callable[[str], bool]


def chunk(text: str | None = None, finish: str | None = None, **more: Any) -> str:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return msgspec.json.encode({"id": "c1", "choices": [choice], **more}).decode()


def usage(prompt: int, output: int, cached: int = 0) -> str:
    details = {"cached_tokens": cached}
    told = {"prompt_tokens": prompt, "completion_tokens": output, "prompt_tokens_details": details}
    return msgspec.json.encode({"id": "c1", "choices": [], "usage": told}).decode()


WHOLE = [chunk(), chunk("Hel"), chunk("lo"), chunk(finish="stop"), usage(9, 3, cached=4)]


class Played:
    """An engine that does what the test says; `seen` are the texts of its calls in the order they began."""

    def __init__(self, play: Callable[[Callback], None]) -> None:
        self.play = play
        self.seen: list[str] = []

    def handle_chat_completions(self, body: str, callback: Callback) -> None:
        self.seen.append(msgspec.json.decode(body)["messages"][-1]["content"])
        self.play(callback)

    def handle_completions(self, asked: dict[str, Any]) -> Any:
        self.seen.append("a trial")
        return {"choices": [{"text": "<"}]}


def chunks(*texts: str) -> Callable[[Callback], None]:
    def play(callback: Callback) -> None:
        for text in texts:
            if callback(text):
                return

    return play


def model(engine: Engine, *, slots: int = 1) -> LocalModel:
    return LocalModel("here", Path("x.gguf"), slots=slots, opener=lambda *_: engine)


async def read(local: LocalModel, request: Request = HI) -> list[Event]:
    async with closing(local(request)) as events:
        return [event async for event in events]


def texts(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def say(text: str) -> Request:
    return replace(HI, messages=(user(text),))


# --- replies -------------------------------------------------------------------------------------


async def test_streamed_and_whole_replies_are_the_same() -> None:
    local = model(Played(chunks(*WHOLE)))
    streamed = await read(local)
    assert [type(event).__name__ for event in streamed] == [
        "Started",
        "TextDelta",
        "TextDelta",
        "Finished",
        "Ended",
    ]
    assert isinstance(streamed[0], Started)
    assert (streamed[0].model, streamed[0].provider) == ("local", "here")
    (completed,) = await read(local, replace(HI, stream=False))
    assert isinstance(completed, Completed)
    response = completed.response
    assert (response.text, response.choices[0].finish.reason) == ("Hello", "stop")
    assert response.usage is not None
    assert (response.usage.input, response.usage.cache_read, response.usage.output) == (5, 4, 3)
    await local.aclose()


async def test_progress_is_not_an_event() -> None:
    progress = chunk(prompt_progress={"total": 900, "processed": 128})
    local = model(Played(chunks(progress, progress, *WHOLE)))
    assert texts(await read(local)) == "Hello"
    await local.aclose()


TOOL = FunctionTool("search", None, {"properties": {"query": {"type": "string"}}})
CALLED = [
    chunk(),
    chunk('<tool_call>{"name": "sea'),
    chunk('rch", "arguments": {"query"'),
    chunk(': "x"}}</tool'),
    chunk("_call>"),
    chunk(finish="stop"),
    usage(9, 3),
]


@pytest.mark.parametrize("choice", ["auto", "required"])
async def test_a_call_of_a_tool(choice: Literal["auto", "required"]) -> None:
    engine = Played(chunks(*CALLED))
    local = model(engine)
    request = replace(HI, tools=(TOOL,), tool_choice=ToolChoice(choice), user="ann")
    first, *deltas, finished, _ = await read(local, request)
    assert isinstance(first, Started)
    assert first.dropped == ("user",)
    assert deltas == [
        ToolCallDelta(0, id="call_c1", name="search"),
        ToolCallDelta(0, arguments='{"query"'),
        ToolCallDelta(0, arguments=': "x"}'),
    ]
    assert finished == Finished(Finish("tool_calls", "stop"))
    (completed,) = await read(local, replace(request, stream=False))
    assert isinstance(completed, Completed)
    assert completed.response.tool_calls == (ToolCall("call_c1", "search", '{"query": "x"}'),)
    assert completed.response.dropped == ("user",)
    assert engine.seen == ["a trial", "Hi", "Hi"]
    await local.aclose()


async def test_a_tool_or_a_schema() -> None:
    engine = Played(chunks(*CALLED))
    local = model(engine)
    schema = SchemaOutput({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
    request = replace(HI, tools=(TOOL,), output=schema)
    events = await read(local, request)
    assert events[-2] == Finished(Finish("tool_calls", "stop"))
    engine.play = chunks(chunk('{"a": '), chunk("1}"), chunk(finish="stop"), usage(9, 3))
    assert texts(await read(local, request)) == '{"a": 1}'
    engine.play = chunks(chunk('{"b": 1}'), chunk(finish="stop"), usage(9, 3))
    with pytest.raises(UnsupportedFeature, match="does not keep to it"):
        await read(local, request)
    await local.aclose()


async def test_a_tool_that_cannot_be_held_is_refused_before_anything_is_said() -> None:
    engine = Played(chunks(*WHOLE))
    engine.handle_completions = lambda asked: {"choices": [{"text": "-"}]}  # type: ignore[method-assign]
    local = model(engine)
    with pytest.raises(UnsupportedFeature, match="'search'"):
        await read(local, replace(HI, tools=(TOOL,)))
    assert engine.seen == []
    await local.aclose()


async def test_the_stop_sequence_that_was_met_is_named() -> None:
    met = chunk(finish="stop", __verbose={"stop_type": "word", "stopping_word": "END"})
    local = model(Played(chunks(chunk("Hi"), met, usage(9, 3))))
    stopped = await read(local, replace(HI, sampling=Sampling(stop=("END", "STOP"))))
    assert stopped[-2] == Finished(Finish("stop_sequence", "stop", "END"))
    await local.aclose()


# --- other operations ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "first",
    [
        chunk(prompt_progress={"total": 900, "processed": 0}),
        '{"error":{"code":400,"message":"full","type":"exceed_context_size_error","n_prompt_tokens":900}}',
    ],
)
async def test_counting_reads_no_prompt(first: str) -> None:
    endless = Endless(first)
    local = model(Played(endless))
    (completed,) = await read(local, replace(HI, operation="count_tokens", user="ann"))
    assert completed == Completed(
        Response("", "local", (), usage=Usage(input=900), provider="here", dropped=("user",))
    )
    await asyncio.to_thread(endless.stopped.wait)
    await local.aclose()


async def test_a_count_that_is_not_told() -> None:
    local = model(Played(chunks(*WHOLE)))
    with pytest.raises(BadResponse, match="length of the prompt") as caught:
        await read(local, replace(HI, operation="count_tokens"))
    assert caught.value.provider == "here"
    await local.aclose()


async def test_embeddings_are_another_models() -> None:
    engine = Played(chunks(*WHOLE))
    local = model(engine)
    with pytest.raises(UnsupportedFeature, match="'local-embeddings'"):
        await read(local, replace(HI, operation="embeddings"))
    assert (engine.seen, local.dialects) == ([], frozenset())
    await local.aclose()


# --- replies that are none -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("play", "kind", "said"),
    [
        (chunks(), BadResponse, "before any choice came"),
        (chunks(*WHOLE[:3]), BadResponse, "the answer is cut off"),
        (chunks("no json"), BadResponse, "not one of a chat completion"),
        (
            chunks('{"error":{"code":400,"message":"odd","type":"invalid_request_error"}}'),
            RequestError,
            "odd",
        ),
        (
            chunks('{"error":{"code":400,"message":"full","type":"exceed_context_size_error"}}'),
            ContextExceeded,
            "full",
        ),
        (chunks('{"error":{"code":500,"message":"bad","type":"server_error"}}'), ProviderError, "bad"),
    ],
)
async def test_replies_that_are_none(
    play: Callable[[Callback], None], kind: type[Exception], said: str
) -> None:
    local = model(Played(play))
    with pytest.raises(kind, match=said):
        await read(local)
    await local.aclose()


@pytest.mark.parametrize(
    ("error", "kind"), [(ValueError("what?"), RequestError), (RuntimeError("ouch"), ProviderError)]
)
async def test_what_the_library_raises_is_translated(error: Exception, kind: type[Exception]) -> None:
    def play(callback: Callback) -> None:
        raise error

    local = model(Played(play))
    with pytest.raises(kind, match=str(error).rstrip("?")) as caught:
        await read(local)
    assert not getattr(caught.value, "retryable", False)
    await local.aclose()


# --- loading -------------------------------------------------------------------------------------


async def test_it_is_loaded_once_at_the_first_call() -> None:
    opened = []

    def opener(path: Path | None, *size: int) -> Engine:
        opened.append((path, *size))
        return Played(chunks(*WHOLE))

    local = LocalModel("here", Path("x.gguf"), context_tokens=4096, slots=2, threads=3, opener=opener)
    assert opened == []
    await asyncio.gather(*(read(local) for _ in range(5)), local.load())
    assert opened == [(Path("x.gguf"), 4096, 2, 3)]
    await local.aclose()


async def test_a_waiting_caller_who_leaves_does_not_stop_the_load() -> None:
    begun, gate = threading.Event(), threading.Event()
    opened = []

    def opener(*_: Any) -> Engine:
        opened.append(1)
        begun.set()
        gate.wait()
        return Played(chunks(*WHOLE))

    local = LocalModel("here", Path("x.gguf"), opener=opener)
    leaves = asyncio.ensure_future(read(local))
    await asyncio.to_thread(begun.wait)
    stays = asyncio.ensure_future(read(local))
    leaves.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaves
    gate.set()
    assert texts(await stays) == "Hello"
    assert opened == [1]
    await local.aclose()


async def test_a_failed_load_is_told_to_all_and_tried_again() -> None:
    outcomes: list[Engine | Exception] = [ProviderUnavailable("no weights"), Played(chunks(*WHOLE))]

    both_wait = threading.Event()

    def opener(*_: Any) -> Engine:
        both_wait.wait()
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    local = LocalModel("here", Path("x.gguf"), opener=opener)
    loads = [asyncio.ensure_future(local.load()) for _ in range(2)]
    await asyncio.sleep(0)
    both_wait.set()
    first = await asyncio.gather(*loads, return_exceptions=True)
    assert [str(error) for error in first] == ["no weights", "no weights"]
    assert texts(await read(local)) == "Hello"
    await local.aclose()


@pytest.mark.parametrize(
    ("content", "said"), [(None, "There is no model file"), (b"", "is not a GGUF"), (b"PK\3\4", "not a GGUF")]
)
async def test_a_file_that_is_none(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "m.gguf"
    if content is not None:
        path.write_bytes(content)
    local = LocalModel("here", path)
    with pytest.raises(ProviderUnavailable, match=said) as caught:
        await read(local)
    assert "run 'assay models pull local'" in caught.value.message
    assert not caught.value.retryable
    await local.aclose()


async def test_no_weights_at_all() -> None:
    local = LocalModel("here", None)
    with pytest.raises(ProviderUnavailable, match="run 'assay models pull local'") as caught:
        await local.load()
    assert not caught.value.retryable
    await local.aclose()


def test_without_the_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(ProviderUnavailable, match=r"pip install 'assay\[local\]'") as caught:
        open_engine(tmp_path / "m.gguf", 512, 1, 1)
    assert not caught.value.retryable


@pytest.mark.parametrize("size", [{"slots": 0}, {"slots": 4, "context_tokens": 1000}, {"context_tokens": -1}])
def test_sizes_that_make_no_sense(size: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"\[providers.here\]"):
        LocalModel("here", None, **size)  # type: ignore[arg-type]


def test_one_core_is_left_to_others() -> None:
    assert 1 <= default_threads() <= 8


# --- slots ---------------------------------------------------------------------------------------


class Gate:
    """A play that begins, waits for `open`, and then answers; it can tell how many are under way."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.open = threading.Event()
        self.lock = threading.Lock()
        self.running = self.most = 0

    def __call__(self, callback: Callback) -> None:
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        self.begun.release()
        self.open.wait()
        with self.lock:
            self.running -= 1
        chunks(*WHOLE)(callback)

    async def begins(self, calls: int = 1) -> None:
        for _ in range(calls):
            await asyncio.to_thread(self.begun.acquire)


async def waiting(local: LocalModel, calls: int) -> None:
    """Returns when so many calls wait for a slot."""
    while local._workers._work_queue.qsize() < calls:
        await asyncio.sleep(0)


async def test_calls_beyond_the_slots_wait_first_come_first_served() -> None:
    gate = Gate()
    engine = Played(gate)
    local = model(engine, slots=2)
    await local.load()
    calls = []
    for number, name in enumerate("abcdef"):
        calls.append(asyncio.ensure_future(read(local, say(name))))
        await (waiting(local, number - 1) if number >= 2 else gate.begins())
    assert sorted(engine.seen) == ["a", "b"]
    gate.open.set()
    assert [texts(events) for events in await asyncio.gather(*calls)] == ["Hello"] * 6
    assert gate.most == 2
    assert sorted(engine.seen[:2]) + sorted(engine.seen[2:4]) + sorted(engine.seen[4:]) == list("abcdef")
    await local.aclose()


async def test_a_waiting_call_that_is_cancelled_never_begins() -> None:
    gate = Gate()
    engine = Played(gate)
    local = model(engine)
    await local.load()
    first = asyncio.ensure_future(read(local, say("first")))
    await gate.begins()
    second = asyncio.ensure_future(read(local, say("second")))
    await waiting(local, 1)
    last = asyncio.ensure_future(read(local, say("last")))
    await waiting(local, 2)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    gate.open.set()
    await asyncio.gather(first, last)
    assert engine.seen == ["first", "last"]
    await local.aclose()


class Endless:
    """A play that writes until it is told to stop, and then says so."""

    def __init__(self, said: str = "") -> None:
        self.said = said or chunk("la ")
        self.stopped = threading.Event()

    def __call__(self, callback: Callback) -> None:
        while not callback(self.said):
            pass
        self.stopped.set()


@pytest.mark.parametrize("stream", [True, False])
async def test_a_caller_who_is_cancelled_frees_the_slot(stream: bool) -> None:
    endless = Endless()
    engine = Played(endless)
    local = model(engine)
    begun = threading.Event()
    engine.play = lambda callback: (begun.set(), endless(callback))[1]
    call = asyncio.ensure_future(read(local, replace(HI, stream=stream)))
    await asyncio.to_thread(begun.wait)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.to_thread(endless.stopped.wait)
    engine.play = chunks(*WHOLE)
    assert texts(await read(local)) == "Hello"
    await local.aclose()


async def test_closing_the_iterator_frees_the_slot() -> None:
    endless = Endless()
    engine = Played(endless)
    local = model(engine)
    async with closing(local(HI)) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                break
    await asyncio.to_thread(endless.stopped.wait)
    engine.play = chunks(*WHOLE)
    assert texts(await read(local)) == "Hello"
    await local.aclose()


# --- the end -------------------------------------------------------------------------------------


async def test_closing_the_model_ends_running_and_waiting_calls() -> None:
    endless = Endless()
    local = model(Played(endless))
    running = local(HI)
    assert isinstance(await anext(running), Started)
    queued = asyncio.ensure_future(read(local))
    await waiting(local, 1)
    await local.aclose()
    assert endless.stopped.is_set()
    with pytest.raises(ProviderUnavailable, match="has been closed"):
        async for _ in running:
            pass
    with pytest.raises(ProviderUnavailable, match="has been closed"):
        await queued
    with pytest.raises(ProviderUnavailable, match="has been closed") as caught:
        await read(local)
    assert (caught.value.provider, caught.value.retryable) == ("here", False)
    await local.aclose()


async def test_closing_what_was_never_used() -> None:
    await model(Played(chunks())).aclose()
