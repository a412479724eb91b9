"""The cache: what is equal, what is kept, how it is given again, and what it costs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import AssayError, DeadlineExceeded, ProviderUnavailable, StorageError
from assay.gateway import Target, replies
from assay.gateway.attempt import attempt
from assay.gateway.cache import Cache, CacheRules, cached, key_of
from assay.gateway.replies import Entry, Replies, Shelf
from assay.prices import Pricing
from assay.providers.scripted import Scripted, tape
from assay.storage import Store
from assay.types import (
    Assembly,
    Cached,
    Choice,
    Completed,
    Context,
    Cost,
    Ended,
    Event,
    Finish,
    FunctionTool,
    Handler,
    JsonOutput,
    Request,
    Response,
    Sampling,
    Started,
    Thinking,
    Usage,
    WireCall,
    WireData,
    assistant,
    closing,
    replace,
    stream_of,
    system,
    user,
)

pytestmark = pytest.mark.anyio

ASK = Request("fast", (user("What is the capital of Switzerland?"),))
STREAM = replace(ASK, stream=True)
CENT = Cost("exact", Decimal("0.01"), "test")


def a_cent() -> Pricing:
    return lambda model, usage: CENT


class Verbatim(Scripted):
    """A model that takes its callers' own bytes."""

    @property
    def dialects(self) -> frozenset[str]:
        return frozenset({"openai"})


class World:
    """A cache before a scripted model, and a clock that only tests move."""

    def __init__(self, script: Any = ("Bern", "Basel", "Zug"), *, shelf: Shelf | None = None) -> None:
        self.now = 1_000_000.0
        self.model = script if isinstance(script, Scripted) else Scripted("p", script)
        self.replies = Replies(shelf, clock=lambda: self.now, gather_s=0.0)
        self.cache = Cache(self.replies)
        self.rules = CacheRules(ttl_s=60.0)

    @property
    def handler(self) -> Handler:
        end = attempt(Target("fast", self.model, "m", a_cent()))
        return cached("fast", self.rules, self.cache)(end)

    @property
    def asked(self) -> int:
        return len(self.model.requests)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(f"sqlite:///{tmp_path / 'assay.db'}")
    yield opened
    opened.close()


async def events_of(handler: Handler, request: Request = ASK) -> list[Event]:
    async with closing(handler(request)) as events:
        return [event async for event in events]


async def answer(handler: Handler, request: Request = ASK) -> Response:
    assembly = Assembly()
    for event in await events_of(handler, request):
        assembly.add(event)
    assert assembly.complete
    return assembly.response()


def key(request: Request) -> str | None:
    return key_of(request, "fast", "")


def with_context(request: Request = ASK, **settings: Any) -> Request:
    return replace(request, context=Context(**settings))


# --- what is equal ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        replace(ASK, messages=(user("What is the capital of Sweden?"),)),
        replace(ASK, messages=(system("Be brief."), *ASK.messages)),
        replace(ASK, sampling=Sampling(temperature=0.0)),
        replace(ASK, sampling=Sampling(seed=1)),
        replace(ASK, tools=(FunctionTool("f"),)),
        replace(ASK, output=JsonOutput()),
        replace(ASK, thinking=Thinking(effort="low")),
        replace(ASK, choices=2),
        replace(ASK, operation="embeddings"),
        replace(ASK, parallel_tool_calls=False),
        with_context(repeat=1),
        replace(ASK, wire=WireCall("anthropic", b"{}", (("anthropic-beta", "x"),))),
    ],
)
def test_what_shapes_the_answer_is_in_the_key(other: Request) -> None:
    assert key(other) != key(ASK)


@pytest.mark.parametrize(
    "other",
    [
        replace(ASK, stream=True),
        replace(ASK, user="u", metadata={"a": "b"}, service_tier="flex"),
        with_context(trace_id="t", deadline_s=3.0, tags={"a": "b"}, sticky="s", purpose="eval"),
        replace(ASK, wire=WireCall("anthropic", b"{}", (("anthropic-version", "2023-06-01"),))),
    ],
)
def test_what_does_not_is_not(other: Request) -> None:
    assert key(other) == key(ASK)


def test_names_and_tenants_have_their_own() -> None:
    assert len({key_of(ASK, name, tenant) for name in ("a", "b") for tenant in ("", "a", "b")}) == 6


def test_every_field_of_a_request_is_in_the_key_or_named_as_aside() -> None:
    """A field that somebody adds is in the key until somebody says otherwise."""
    aside = {"model", "stream", "context", "wire", "metadata", "user", "service_tier"}
    from assay.gateway import cache

    assert set(cache._SAID) == set(Request.__struct_fields__) - aside


def test_a_call_that_nobody_understands_is_its_bytes() -> None:
    def odd(body: bytes) -> Request:
        whole = replace(ASK, messages=(user("the same"),))
        return replace(whole, wire=WireCall("openai", body, (), whole, ValueError("?")))

    assert key(odd(b"a")) == key(odd(b"a"))
    assert key(odd(b"a")) != key(odd(b"b"))
    changed = replace(odd(b"a"), messages=(user("redacted"),))
    assert key(changed) is None, "what has been changed is not what its bytes say"


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_any_content_has_a_key_or_none(value: Any) -> None:
    request = replace(ASK, tools=(FunctionTool("f", parameters={"x": value}),))
    assert key(request) == key(request)


# --- what is given again ----------------------------------------------------------------------------


@pytest.mark.parametrize("first", [ASK, STREAM])
@pytest.mark.parametrize("then", [ASK, STREAM])
async def test_a_reply_is_given_again_in_the_form_that_is_wanted(first: Request, then: Request) -> None:
    world = World()
    made = await answer(world.handler, first)
    assert made.cached == Cached("miss")
    assert made.cost == CENT
    world.now += 5
    seen = await events_of(world.handler, then)
    assert type(seen[0]) is (Started if then.stream else Completed)
    again = await answer(world.handler, then)
    assert again.cached == Cached("hit", 5.0)
    assert again.cost == Cost("exact", Decimal(0), "cache")
    assert replace(again, cached=None, cost=None) == replace(made, cached=None, cost=None)
    assert world.asked == 1


async def test_the_callers_own_bytes_come_again_and_others_get_the_meaning() -> None:
    reply = Response("r1", "m", (Choice(assistant("Bern"), Finish("stop")),), Usage(input=1, output=1))
    first, *rest = stream_of(reply)
    steps = [WireData(b"data: 1\n\n", (first,)), WireData(b"data: 2\n\n", tuple(rest)), WireData(b"[DONE]")]
    world = World(Verbatim("p", [steps]))
    body = replace(STREAM, wire=WireCall("openai", b'{"a":1}', (), STREAM))
    live = await events_of(world.handler, body)
    assert [event.data for event in live if isinstance(event, WireData)] == [
        b"data: 1\n\n",
        b"data: 2\n\n",
        b"[DONE]",
    ]
    (again,) = await events_of(world.handler, body)
    assert isinstance(again, WireData)
    assert again.data == b"data: 1\n\ndata: 2\n\n[DONE]"
    other = replace(STREAM, wire=WireCall("openai", b'{"a":1 }', (), STREAM))
    for request in (other, STREAM, ASK, replace(ASK, wire=WireCall("anthropic", b"{}", (), ASK))):
        seen = await events_of(world.handler, request)
        assert WireData not in map(type, seen)
        assert (await answer(world.handler, request)).text == "Bern"
    assert world.asked == 1


async def test_a_call_that_nobody_understands_comes_again_in_its_bytes_alone() -> None:
    whole = replace(ASK, messages=(user("?"),))
    odd = replace(whole, wire=WireCall("openai", b"{}", (), whole, ValueError("?")))
    reply = Response("r1", "m", (Choice(assistant("Bern"), Finish("stop")),))
    world = World(Verbatim("p", [[WireData(b"{...}", (Completed(reply),))]]))
    for _ in range(2):
        (event,) = await events_of(world.handler, odd)
        assert isinstance(event, WireData)
        assert event.data == b"{...}"
    assert world.asked == 1


async def test_it_grows_old() -> None:
    world = World()
    await answer(world.handler)
    world.now += 59.9
    assert (await answer(world.handler)).text == "Bern"
    world.now += 0.2
    assert (await answer(world.handler)).text == "Basel"
    assert len(world.replies) == 1


async def test_who_wants_none_gets_none_and_who_wants_it_fresh_renews_it() -> None:
    world = World()
    assert (await answer(world.handler)).text == "Bern"
    off = await answer(world.handler, with_context(cache="off"))
    assert (off.text, off.cached, off.cost) == ("Basel", Cached("off"), CENT)
    assert (await answer(world.handler)).text == "Bern"
    fresh = await answer(world.handler, with_context(cache="refresh"))
    assert (fresh.text, fresh.cached) == ("Zug", Cached("miss"))
    assert (await answer(world.handler)).text == "Zug"


async def test_tenants_never_share() -> None:
    world = World()
    for number, key_id in enumerate(("a", "b", None)):
        assert (await answer(world.handler, with_context(key_id=key_id))).cached == Cached("miss")
        assert world.asked == number + 1
    assert (await answer(world.handler, with_context(key_id="a"))).text == "Bern"


async def test_a_repeat_is_not_a_repeat_from_a_cache() -> None:
    world = World()
    texts = [(await answer(world.handler, with_context(repeat=number))).text for number in (0, 1, 0)]
    assert texts == ["Bern", "Basel", "Bern"]


@pytest.mark.parametrize(
    "reason", ["length", "content_filter", "refusal", "pause", "context_exceeded", "other"]
)
async def test_what_was_cut_short_is_not_kept(reason: Any) -> None:
    world = World([Response("r", "m", (Choice(assistant("Be"), Finish(reason)),)), "Bern"])
    for request in (STREAM, ASK):
        assert (await answer(world.handler, request)).cached == Cached("miss")
    assert world.asked == 2


async def test_what_failed_is_not_kept() -> None:
    world = World([ProviderUnavailable("away"), [*tape("one two")[:2], ProviderUnavailable("gone")], "Bern"])
    for _ in range(2):
        with pytest.raises(ProviderUnavailable):
            await answer(world.handler, STREAM)
    assert (await answer(world.handler)).text == "Bern"
    assert world.cache.flights == 0


async def test_a_stream_that_ends_too_early_is_not_kept() -> None:
    world = World([tape("one two")[:3], "Bern"])
    with pytest.raises(AssayError):
        await answer(world.handler, STREAM)
    assert (await answer(world.handler)).text == "Bern"


async def test_what_fails_behind_its_end_is_not_kept() -> None:
    world = World([[*tape("Bern"), ProviderUnavailable("gone")], "Basel"])
    with pytest.raises(ProviderUnavailable):
        await answer(world.handler, STREAM)
    assert (await answer(world.handler)).text == "Basel"


async def test_counts_of_tokens_go_past() -> None:
    world = World()
    count = replace(ASK, operation="count_tokens")
    assert (await answer(world.handler, count)).cached is None
    assert len(world.replies) == 0


async def test_vectors_are_kept_where_there_is_one_for_each_text() -> None:
    asked: list[Request] = []

    async def embed(request: Request) -> Any:
        asked.append(request)
        many = 1 if request.messages[0].text == "odd" else len(request.messages)
        yield Completed(Response("", "m", (), Usage(input=2), vectors=((0.25, 0.5),) * many))

    world = World()
    handler = cached("fast", world.rules, world.cache)(embed)
    whole = Request("fast", (user("a"), user("b")), operation="embeddings")
    for _ in range(2):
        assert (await answer(handler, whole)).vectors == ((0.25, 0.5), (0.25, 0.5))
    assert len(asked) == 1
    for _ in range(2):
        await answer(handler, replace(whole, messages=(user("odd"), user("b"))))
    assert len(asked) == 3


# --- one call for many ------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", [ASK, STREAM])
async def test_a_hundred_equal_calls_at_once_are_one(request_: Request) -> None:
    gate = asyncio.Event()
    world = World(
        [[gate, *(tape("Bern is it") if request_.stream else [Completed(await answer(World().handler))])]]
    )
    handler = world.handler
    tasks = [asyncio.create_task(answer(handler, request_)) for _ in range(100)]
    await asyncio.sleep(0)
    assert world.cache.flights == 1
    gate.set()
    got = await asyncio.gather(*tasks)
    assert world.asked == 1
    assert len({response.text for response in got}) == 1
    assert [response.cached.state for response in got if response.cached] == ["miss", *["hit"] * 99]
    assert sum(response.cost == CENT for response in got) == 1, "it is paid for once"
    assert world.cache.flights == 0


async def test_who_wants_the_whole_follows_a_stream_and_who_streams_does_not_wait_for_a_whole() -> None:
    gate = asyncio.Event()

    def script(request: Request) -> Any:
        return [
            gate,
            *(
                tape("Bern")
                if request.stream
                else [Completed(Response("", "m", (Choice(assistant("Bern"), Finish("stop")),)))]
            ),
        ]

    world = World(script)
    handler = world.handler
    tasks = [asyncio.create_task(answer(handler, one)) for one in (STREAM, ASK, STREAM, ASK)]
    await asyncio.sleep(0)
    gate.set()
    assert [reply.text for reply in await asyncio.gather(*tasks)] == ["Bern"] * 4
    assert world.asked == 1
    gate.clear()
    other = replace(ASK, choices=1, sampling=Sampling(seed=3))
    tasks = [asyncio.create_task(answer(handler, one)) for one in (other, replace(other, stream=True))]
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*tasks)
    assert world.asked == 3


async def test_followers_go_on_when_who_began_it_leaves_and_one_of_them_pays() -> None:
    gate = asyncio.Event()
    whole = tape("Bern is it")
    world = World([[*whole[:2], gate, *whole[2:]]])
    handler = world.handler
    leader = asyncio.create_task(answer(handler, STREAM))
    await asyncio.sleep(0)
    followers = [asyncio.create_task(answer(handler, STREAM)) for _ in range(2)]
    for _ in range(5):
        await asyncio.sleep(0)
    leader.cancel()
    await asyncio.gather(leader, return_exceptions=True)
    assert world.model.running == 1
    gate.set()
    first, second = await asyncio.gather(*followers)
    assert (first.cost, second.cost) == (CENT, Cost("exact", Decimal(0), "cache"))
    assert (await answer(handler)).text == "Bern is it"
    assert world.asked == 1


async def test_when_everybody_leaves_it_ends_and_the_next_one_begins_anew() -> None:
    gate = asyncio.Event()
    world = World([[gate, *tape("never")], "Bern"])
    handler = world.handler
    tasks = [asyncio.create_task(answer(handler, STREAM)) for _ in range(3)]
    while not world.model.running:
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert world.model.running == 0
    assert world.cache.flights == 0
    assert (await answer(handler)).text == "Bern"


async def test_a_deadline_is_its_callers_alone() -> None:
    gate = asyncio.Event()
    world = World([[gate, *tape("Bern")]])
    handler = world.handler
    hurried = asyncio.create_task(answer(handler, with_context(STREAM, deadline_s=1e-9)))
    patient = asyncio.create_task(answer(handler, STREAM))
    with pytest.raises(DeadlineExceeded):
        await hurried
    gate.set()
    assert (await patient).text == "Bern"
    assert world.model.requests[0].context.deadline_s is None


# --- what is held -----------------------------------------------------------------------------------


def entry(text: str, made_s: float = 1_000_000.0) -> Entry:
    return Entry("fast", Response("r", "m", (Choice(assistant(text), Finish("stop")),)), made_s)


@given(
    st.lists(
        st.tuples(st.sampled_from(["keep", "near"]), st.integers(0, 9), st.integers(0, 400)), max_size=60
    )
)
def test_memory_is_bounded_and_lets_go_of_what_was_used_least_of_late(
    steps: list[tuple[str, int, int]],
) -> None:
    held = Replies(max_bytes=1000, clock=lambda: 1_000_000.0)
    order: list[str] = []
    for step, number, length in steps:
        name = str(number)
        if step == "keep":
            held.keep(name, entry("x" * length), 60.0)
            order = [one for one in order if one != name] + [name]
        elif held.near(name, 60.0) is not None:
            order = [one for one in order if one != name] + [name]
        order = [one for one in order if one in held._memory]
        assert list(held._memory) == order
        assert held.size_bytes == sum(map(len, held._memory.values())) <= 1000
    held.close()


async def test_a_restart_and_another_worker_find_it(store: Store) -> None:
    first, second = World(shelf=Shelf(store)), World(["another"], shelf=Shelf(store))
    await answer(first.handler)
    first.replies.close()
    found = await answer(second.handler)
    assert found.text == "Bern"
    assert found.cached == Cached("hit", 0.0)
    assert second.asked == 0
    assert len(second.replies) == 1
    second.replies.close()


async def test_what_another_process_clears_is_gone(store: Store) -> None:
    shelf = Shelf(store)
    world = World(shelf=shelf)
    await answer(world.handler)
    world.replies.close()
    world.replies = Replies(shelf, clock=lambda: world.now)
    world.cache = Cache(world.replies)
    assert (await answer(world.handler)).text == "Bern"
    assert [(one.model, one.replies) for one in shelf.kept()] == [("fast", 1)]
    assert shelf.clear("other", int((world.now + 1) * 1e9)) == 0
    assert shelf.clear(None, int((world.now + 1) * 1e9)) == 1
    world.now += 2
    known = key(ASK) or ""
    assert len(world.replies) == 1
    world.replies.near(known, 60.0)
    world.replies.close()
    assert world.replies.near(known, 60.0) is None, "it was looked up whether there was a clearing"


async def test_the_shelf_is_bounded_and_pruned(store: Store) -> None:
    shelf = Shelf(store, max_bytes=1000)

    def row(number: int, expires_ns: int = 100) -> dict[str, Any]:
        body = {"key": str(number), "model": "m", "made_ns": number, "expires_ns": expires_ns, "size": 300}
        return {**body, "body": b"x", "partition": None, "vector": None}

    shelf.put([row(number) for number in range(6)] + [row(9, expires_ns=5)])
    assert shelf.get("9", 5) is None
    assert shelf.prune(5) == 4
    assert [number for number in range(10) if shelf.get(str(number), 5)] == [3, 4, 5]


async def test_a_store_that_is_away_costs_hits_and_no_calls(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    shelf = Shelf(store)

    def broken(*_: Any) -> Any:
        raise StorageError("the disk is on holiday")

    for name in ("get", "put", "cleared"):
        setattr(shelf, name, broken)
    world = World(shelf=shelf)
    for text in ("Bern", "Bern"):
        assert (await answer(world.handler)).text == text
    assert (await answer(world.handler, with_context(repeat=1))).text == "Basel"
    world.replies.close()
    assert caplog.text.count("on holiday") == 1


async def test_what_another_version_wrote_is_a_miss(store: Store) -> None:
    shelf = Shelf(store)
    now = int(1_000_000 * 1e9)
    row = {
        "key": key(ASK),
        "model": "fast",
        "made_ns": now,
        "expires_ns": now * 2,
        "size": 3,
        "body": b"\x93old",
    }
    shelf.put([{**row, "partition": None, "vector": None}])
    world = World(shelf=shelf)
    assert (await answer(world.handler)).cached == Cached("miss")
    world.replies.close()


async def test_a_reply_that_is_too_large_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replies, "MAX_ENTRY_BYTES", 100)
    world = World(["word " * 100])
    for _ in range(2):
        assert (await answer(world.handler)).cached == Cached("miss")


async def test_the_end_of_a_reply_is_enough_to_keep_it() -> None:
    world = World()
    async with closing(world.handler(STREAM)) as events:
        async for event in events:
            if isinstance(event, Ended):
                break
    assert (await answer(world.handler)).text == "Bern"
    assert world.asked == 1
