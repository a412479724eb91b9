"""The policy of budgets around a gateway: tries, callers that leave, what is free, and what has no price."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from assay.errors import AssayError, BudgetExceeded, ProviderTimeout, ProviderUnavailable
from assay.evals.calling import ask
from assay.gateway import Route, Target, gateway
from assay.gateway.ceiling import Ceiling, Counting, read_tokens
from assay.gateway.spending import Ledger, Purses
from assay.gateway.spending.terms import PICO, Sums
from assay.keys import Keyring, KeyStore
from assay.prices import Pricing, assumed, free, unpriced
from assay.storage import Store
from assay.trace import Span, Tracer
from assay.types import (
    Choice,
    Completed,
    Context,
    Event,
    Finish,
    Handler,
    Image,
    Link,
    Message,
    Request,
    Response,
    Sampling,
    Started,
    Text,
    TextDelta,
    Usage,
    assistant,
    closing,
    replace,
    user,
)

pytestmark = pytest.mark.anyio
ONE_EACH = assumed(unpriced("none is known"), Decimal(0), Decimal(1_000_000))
"""A dollar for each token that is written."""


class Upstream:
    """Raises what it is given, or answers with 3 tokens; `hold` keeps callers waiting."""

    def __init__(self, name: str, *errors: AssayError, hold: bool = False) -> None:
        self.name = name
        self.problem = None
        self.dialects: frozenset[str] = frozenset()
        self.errors = list(errors)
        self.hold = hold
        self.asked = 0

    async def __call__(self, request: Request) -> AsyncIterator[Event]:
        self.asked += 1
        if self.errors:
            raise self.errors.pop(0)
        if self.hold:
            await asyncio.Event().wait()
        answer = Choice(assistant("a"), Finish("stop"))
        yield Completed(Response("r", "m", (answer,), Usage(input=9, output=3)))

    async def aclose(self) -> None: ...


class Bed:
    def __init__(self, root: Path) -> None:
        self.store = Store.open(f"sqlite:///{root}/assay.db")
        self.keys = KeyStore(self.store)
        self.key = self.keys.create("ci", team="red").key
        self.ledger = Ledger(self.store)
        self.purses = Purses(self.ledger, threaded=False)
        self.keyring = Keyring(self.keys)
        self.keyring.refresh()
        self.spans: list[Span] = []

    def gateway(self, *upstreams: Upstream, pricing: Pricing = ONE_EACH) -> Handler:
        def record(span: Span) -> None:
            self.purses.note(span)
            self.spans.append(span)

        targets = tuple(Target(one.name, one, "m", pricing) for one in upstreams)
        routes = {"m": Route("m", targets)}
        return gateway(routes, Tracer(record), keyring=self.keyring, purses=self.purses)

    def request(self, max_tokens: int = 5) -> Request:
        context = Context(key_id=self.key.id)
        return Request("m", (user("hello"),), sampling=Sampling(max_tokens=max_tokens), context=context)

    def limit(self, usd: int) -> None:
        self.ledger.set("key", self.key.id, "total", usd * PICO)

    @property
    def sums(self) -> Sums:
        self.purses.store()
        return next(iter(self.ledger.spent().values()), Sums())

    @property
    def left(self) -> int:
        self.purses.store()
        self.purses.store()
        return self.ledger.standings()[0].left_pico // PICO


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    made = Bed(tmp_path)
    yield made
    made.purses.close()
    made.keyring.close()
    made.store.close()


async def test_what_a_call_cost_takes_the_place_of_what_was_reserved(bed: Bed) -> None:
    bed.limit(10)
    handler = bed.gateway(Upstream("a"))
    for _ in range(2):
        await ask(handler, bed.request())
    assert bed.sums == Sums(settled=6 * PICO, calls=2)
    assert bed.left == 4
    with pytest.raises(BudgetExceeded, match=r"\$4\.00 is left \(\$6\.00 spent\)"):
        await ask(handler, bed.request())
    assert bed.spans[-1].cost is None
    await ask(handler, bed.request(max_tokens=4))
    assert bed.left == 1


async def test_a_try_that_may_have_been_billed_is_uncertain_and_the_next_reserves_anew(bed: Bed) -> None:
    bed.limit(12)
    handler = bed.gateway(Upstream("a", ProviderTimeout("late"), ProviderTimeout("late")), Upstream("b"))
    await ask(handler, bed.request())
    assert bed.sums == Sums(settled=3 * PICO, uncertain=5 * PICO, calls=2, unknown=1)
    assert bed.left == 4
    # For a first try there is enough, for a second one not.
    with pytest.raises(BudgetExceeded):
        await ask(handler, bed.request(max_tokens=3))
    assert bed.sums.uncertain == 8 * PICO
    assert bed.left == 1
    assert bed.purses.under_way == 0


async def test_an_error_status_of_the_provider_costs_nothing(bed: Bed) -> None:
    bed.limit(5)
    refusing = Upstream("a", ProviderUnavailable("overloaded", upstream_status=503))
    await ask(bed.gateway(refusing, Upstream("b")), bed.request())
    assert bed.sums == Sums(settled=3 * PICO, calls=1)


async def test_who_leaves_while_it_is_answered_leaves_what_was_reserved_uncertain(bed: Bed) -> None:
    bed.limit(10)
    upstream = Upstream("a", hold=True)
    asking = asyncio.create_task(ask(bed.gateway(upstream), bed.request()))
    while not upstream.asked:
        await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert bed.sums == Sums(uncertain=5 * PICO, calls=1, unknown=1)
    assert bed.purses.under_way == 0


async def test_who_leaves_amid_a_stream_pays_the_least_that_is_known_and_leaves_the_rest_uncertain(
    bed: Bed,
) -> None:
    bed.limit(10)

    class Streaming(Upstream):
        async def __call__(self, request: Request) -> AsyncIterator[Event]:
            yield Started("r", "m", usage=Usage(input=9, output=1))
            yield TextDelta("a")
            raise AssertionError("nobody asks for more")

    handler = bed.gateway(Streaming("a"))
    async with closing(handler(replace(bed.request(), stream=True))) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                break
    assert bed.spans[-1].cost is not None
    assert bed.spans[-1].cost.kind == "estimated"
    assert bed.sums == Sums(settled=1 * PICO, uncertain=4 * PICO, calls=1)
    assert bed.left == 5
    assert bed.purses.under_way == 0


async def test_no_price_no_call_unless_it_is_free(bed: Bed) -> None:
    bed.limit(0)
    upstream = Upstream("a")
    with pytest.raises(BudgetExceeded, match="'ci' has a budget, and no price is known") as refused:
        await ask(bed.gateway(upstream, pricing=unpriced("unheard of")), bed.request())
    assert refused.value.code == "price_unknown"
    await ask(bed.gateway(upstream, pricing=free("here")), bed.request())
    counted = replace(bed.request(), operation="count_tokens")
    async with closing(bed.gateway(upstream)(counted)) as events:
        assert [type(event) async for event in events] == [Completed]
    assert bed.sums == Sums()


async def test_without_a_budget_spending_is_written_down_all_the_same(bed: Bed) -> None:
    handler = bed.gateway(Upstream("a"))
    await ask(handler, bed.request())
    assert bed.sums == Sums(settled=3 * PICO, calls=1)
    bed.limit(5)
    bed.purses._read_s = None
    with pytest.raises(BudgetExceeded):
        await ask(handler, bed.request())


def test_the_ceiling_counts_bytes_media_and_the_dearest() -> None:
    request = Request("m", (user("äöü" * 10),), sampling=Sampling(max_tokens=7), choices=2)
    tokens, marks = read_tokens(request)
    assert (tokens, marks) == (60 + 64 + 16, False)
    picture = Message("user", (Text("x"), Image(Link("https://example.com/a.png"))))
    assert read_tokens(replace(request, messages=(picture,)))[0] == 1 + 64 + 16 + 5_000
    cheap = Target("a", Upstream("a"), "m", assumed(unpriced(""), Decimal(1), Decimal(1)))
    dear = Target("b", Upstream("b"), "m", assumed(unpriced(""), Decimal(2), Decimal(3)))
    ceiling = Ceiling(Route("m", (cheap, dear)), Counting(caps={"b": 50}))
    assert ceiling.most(request) == (140 * 2 + 14 * 3) * PICO // 1_000_000
    without = replace(request, sampling=Sampling(), choices=1)
    assert ceiling.most(without) == 140 * PICO // 1_000_000 + 16_384 * PICO // 1_000_000
    assert not ceiling.free
