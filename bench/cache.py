"""Benchmark: what the cache costs and saves in CPU time, of this process alone, all its threads.

    python bench/cache.py
    python bench/cache.py --calls 5000 --rounds 7

One gateway over a scripted model, without HTTP: trace and cost are on. Rows are how a call is answered,
columns a whole reply and a stream of 57 events. `store` is a hit that memory does not have, as after a
restart or from another worker. A miss is told with all that it does for later: the digest, the call's own
task, and keeping the reply.

Not a test: it has no threshold. Figures are kept in docs/performance.md.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from assay.gateway import Route, Target, gateway
from assay.gateway.cache import Cache, CacheRules
from assay.gateway.replies import Replies, Shelf
from assay.prices import free
from assay.providers.scripted import Scripted
from assay.storage import Store
from assay.trace import Tracer
from assay.types import Context, Handler, Request, closing, replace, system, user

WORDS = 54
ASK = Request(
    "m", (system("You are brief. " * 20), user("Tell me of Bern, and of what one sees there. " * 5))
)


def asked(number: int, *, stream: bool) -> Request:
    return replace(ASK, stream=stream, context=Context(repeat=number))


async def call(handler: Handler, request: Request) -> None:
    async with closing(handler(request)) as events:
        async for _ in events:
            pass


async def cpu_us(
    handler: Handler, requests: Callable[[], list[Request]], rounds: int, after: Callable[[], None]
) -> float:
    """The median over the rounds of the CPU time of a call."""
    found = []
    for _ in range(rounds):
        many = requests()
        start = time.process_time()
        for request in many:
            await call(handler, request)
        after()
        found.append((time.process_time() - start) / len(many) * 1e6)
    return statistics.median(found)


async def measure(calls: int, rounds: int, folder: Path) -> None:
    store = Store.open(f"sqlite:///{folder / 'assay.db'}")
    model = Scripted("p", ["word " * WORDS])
    target = Target("m", model, "m", free("bench"))
    tracer = Tracer(lambda span: None)
    plain = gateway({"m": Route("m", (target,))}, tracer)
    rules = CacheRules(3600.0)

    def cached(replies: Replies) -> Handler:
        return gateway({"m": Route("m", (target,), cache=rules)}, tracer, cache=Cache(replies))

    unique = iter(range(10**9))

    def fresh(stream: bool) -> list[Request]:
        return [asked(next(unique), stream=stream) for _ in range(calls)]

    def nothing() -> None:
        """No work is left over."""

    memory, both = Replies(), Replies(Shelf(store))
    stored = Replies(Shelf(store), max_bytes=0)

    def settled() -> None:
        while both._storing:
            time.sleep(0.001)

    print(f"{'':<34}{'whole reply':>14}{'stream of 57':>14}   us of CPU a call")

    async def row(name: str, cell: Callable[[bool], object]) -> None:
        cells = [await cell(stream) for stream in (False, True)]  # type: ignore[misc]
        print(f"{name:<34}" + "".join(f"{us:>14,.0f}" for us in cells), flush=True)

    same = [asked(-1, stream=False)] * calls, [asked(-1, stream=True)] * calls
    with_memory, with_both, from_store = cached(memory), cached(both), cached(stored)
    for handler in (with_memory, with_both):
        await call(handler, same[0][0])
    settled()
    await row("no cache", lambda stream: cpu_us(plain, lambda: fresh(stream), rounds, nothing))
    await row(
        "miss, memory alone", lambda stream: cpu_us(with_memory, lambda: fresh(stream), rounds, nothing)
    )
    await row(
        "miss, memory and store", lambda stream: cpu_us(with_both, lambda: fresh(stream), rounds, settled)
    )
    await row("hit, memory", lambda stream: cpu_us(with_memory, lambda: same[stream], rounds, nothing))
    await row("hit, store", lambda stream: cpu_us(from_store, lambda: same[stream], rounds, nothing))
    for replies in (memory, both, stored):
        replies.close()
    size = (folder / "assay.db").stat().st_size + (folder / "assay.db-wal").stat().st_size
    kept = sum(one.replies for one in Shelf(store).kept())
    print(f"\nThe store took {size / 1e6:,.0f} MB for {kept:,} replies.")
    store.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(options.calls, options.rounds, Path(folder)))


if __name__ == "__main__":
    main()
