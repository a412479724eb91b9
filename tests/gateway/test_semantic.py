"""The semantic cache: what is compared, what must be the same, and who never shares."""

from __future__ import annotations

import doctest
import math
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import ContextExceeded, ProviderUnavailable
from assay.gateway import Target, semantic
from assay.gateway.attempt import attempt
from assay.gateway.cache import Cache, CacheRules, SemanticRules, cached
from assay.gateway.replies import Replies, Shelf
from assay.gateway.semantic import Semantic, partition_of, question_of
from assay.prices import free
from assay.providers.scripted import Scripted
from assay.storage import Store
from assay.types import (
    Assembly,
    Completed,
    Context,
    Event,
    FunctionTool,
    Image,
    Link,
    Message,
    Request,
    Response,
    Sampling,
    Text,
    assistant,
    closing,
    replace,
    system,
    user,
)

pytestmark = pytest.mark.anyio

ASK = Request("fast", (system("Be brief."), user("How do I reset my password?")))
ANGLES = {
    "How do I reset my password?": 0.0,
    "How can I reset my password?": 10.0,
    "Where is my invoice?": 80.0,
    "Reset password for account 17?": 5.0,
    "Reset password for account 18?": 5.0,
}


class World:
    """A semantic cache over a scripted model; texts lie where ANGLES says."""

    def __init__(self, store: Store, threshold: float = 0.95) -> None:
        self.now = 1_000_000.0
        self.model = Scripted("p", ["one", "two", "three", "four"])
        self.replies = Replies(Shelf(store), clock=lambda: self.now, gather_s=0.0)
        self.embedded: list[Request] = []
        self.failure: BaseException | None = None
        rules = CacheRules(60.0, SemanticRules(threshold))
        alike = Semantic("fast", rules.semantic or SemanticRules(1.0), self.replies, self.embed)
        end = attempt(Target("fast", self.model, "m", free("test")))
        self.handler = cached("fast", rules, Cache(self.replies), alike)(end)

    async def embed(self, request: Request) -> AsyncIterator[Event]:
        self.embedded.append(request)
        if self.failure is not None:
            raise self.failure
        angles = [math.radians(ANGLES[message.text]) for message in request.messages]
        vectors = tuple((3 * math.cos(angle), 3 * math.sin(angle)) for angle in angles)
        yield Completed(Response("", "m", (), vectors=vectors))

    async def ask(self, request: Request) -> Response:
        assembly = Assembly()
        async with closing(self.handler(request)) as events:
            async for event in events:
                assembly.add(event)
        self.stored()
        return assembly.response()

    def stored(self) -> None:
        """Waits until what is to be stored is."""
        self.replies._threads.submit(lambda: None).result()
        while self.replies._storing:
            pass


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(f"sqlite:///{tmp_path / 'assay.db'}")
    yield opened
    opened.close()


def asking(text: str, base: Request = ASK) -> Request:
    return replace(base, messages=(*base.messages[:-1], user(text)))


def test_examples() -> None:
    assert doctest.testmod(semantic).failed == 0


async def test_a_question_that_is_alike_gets_the_reply_and_is_told_how_alike(store: Store) -> None:
    world = World(store)
    assert (await world.ask(ASK)).text == "one"
    world.now += 7
    found = await world.ask(asking("How can I reset my password?"))
    assert found.text == "one"
    assert found.cached is not None
    assert (found.cached.state, found.cached.age_s, found.cached.similarity) == ("hit", 7.0, 0.9848)
    assert (await world.ask(asking("Where is my invoice?"))).text == "two"
    assert len(world.model.requests) == 2
    assert [request.context.purpose for request in world.embedded] == ["cache"] * 3


async def test_an_equal_question_asks_for_no_embedding(store: Store) -> None:
    world = World(store)
    await world.ask(ASK)
    await world.ask(ASK)
    assert len(world.embedded) == 1


async def test_a_higher_threshold_wants_more(store: Store) -> None:
    world = World(store, threshold=0.99)
    await world.ask(ASK)
    assert (await world.ask(asking("How can I reset my password?"))).text == "two"


@pytest.mark.parametrize(
    "other",
    [
        replace(ASK, context=Context(key_id="another")),
        replace(ASK, context=Context(repeat=1)),
        replace(ASK, sampling=Sampling(temperature=1.0)),
        replace(ASK, sampling=Sampling(max_tokens=5)),
        replace(ASK, messages=(system("Be rude."), ASK.messages[1])),
        replace(ASK, messages=(ASK.messages[0], user("Hi"), assistant("Yes?"), ASK.messages[1])),
        replace(ASK, messages=ASK.messages[1:]),
    ],
)
async def test_all_else_must_be_the_same_and_tenants_never_share(store: Store, other: Request) -> None:
    world = World(store)
    await world.ask(ASK)
    assert (await world.ask(asking("How can I reset my password?", other))).text == "two"


async def test_tenants_never_share_even_the_very_same_question(store: Store) -> None:
    world = World(store)
    texts = [(await world.ask(replace(ASK, context=Context(key_id=key)))).text for key in ("a", "b", None)]
    assert texts == ["one", "two", "three"]


async def test_other_numbers_are_other_questions(store: Store) -> None:
    world = World(store)
    assert (await world.ask(asking("Reset password for account 17?"))).text == "one"
    assert (await world.ask(asking("Reset password for account 18?"))).text == "two"


async def test_what_is_old_or_cleared_is_not_found(store: Store) -> None:
    world = World(store)
    await world.ask(ASK)
    world.now += 61
    assert (await world.ask(asking("How can I reset my password?"))).text == "two"
    Shelf(store).clear("fast", int((world.now + 1) * 1e9))
    world.now += 2
    assert (await world.ask(ASK)).text == "three"


@pytest.mark.parametrize("failure", [ContextExceeded("long"), ProviderUnavailable("away")])
async def test_without_embeddings_calls_are_made(store: Store, failure: BaseException) -> None:
    world = World(store)
    world.failure = failure
    for text in ("one", "two"):
        request = asking("How do I reset my password?" if text == "one" else "How can I reset my password?")
        assert (await world.ask(request)).text == text
    assert (await world.ask(ASK)).text == "one", "what is equal is found all the same"


async def test_a_fresh_reply_is_found_by_those_that_are_alike(store: Store) -> None:
    world = World(store)
    await world.ask(ASK)
    await world.ask(replace(ASK, context=Context(cache="refresh")))
    assert (await world.ask(asking("How can I reset my password?"))).text == "two"


@pytest.mark.parametrize(
    "request_",
    [
        replace(ASK, tools=(FunctionTool("f"),)),
        replace(ASK, choices=2),
        replace(ASK, operation="embeddings"),
        replace(ASK, messages=(*ASK.messages, assistant("So"))),
        replace(ASK, messages=(Message("user", (Text("What is it?"), Image(Link("https://x/y")))),)),
        replace(ASK, messages=(user("   "),)),
        replace(ASK, messages=()),
    ],
)
def test_what_is_not_a_plain_question_is_not_compared(request_: Request) -> None:
    assert question_of(request_) is None
    assert partition_of(request_, "fast", "", "e") is None


@given(st.text(), st.text(), st.text(max_size=5), st.text(max_size=5))
def test_partitions_of_two_tenants_never_meet(one: str, two: str, a: str, b: str) -> None:
    first, second = (partition_of(asking(text), "fast", who, "e") for text, who in ((one, a), (two, b)))
    assert a == b or first is None or first != second
