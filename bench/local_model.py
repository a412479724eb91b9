"""The local model: loading, memory, speed alone and four at once, and how soon a slot is free again.

    python bench/local_model.py [--threads N] [--busy N]

`--busy` runs so many other processes that want a core all the time: what a spinning thread pool makes of that
is why the default is half of the cores (docs/decisions/0003-local-model.md). Pull the weights first.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

from assay.config import load
from assay.providers.local import LocalModel
from assay.providers.local.engine import Engine, default_threads, open_engine
from assay.providers.weights import find
from assay.types import Request, Sampling, TextDelta, Usage, closing, user

EOS = "2"
TOKENS = 64


class Timed:
    """The engine, noting when its last call returned."""

    def __init__(self, engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        self.engine = engine
        self.loop = loop
        self.returned = asyncio.Event()

    def handle_chat_completions(self, body: str, callback: Callable[[str], bool]) -> None:
        self.engine.handle_chat_completions(body, callback)
        self.loop.call_soon_threadsafe(self.returned.set)


def ask(text: str, tokens: int) -> Request:
    sampling = Sampling(temperature=0, max_tokens=tokens, logit_bias={EOS: -100})
    return Request("local", (user(text),), sampling=sampling, stream=True)


async def usage_of(model: LocalModel, request: Request) -> Usage:
    async with closing(model(request)) as events:
        last = [event async for event in events][-1]
    assert last.usage is not None  # type: ignore[union-attr]
    return last.usage  # type: ignore[union-attr]


async def seconds(work: Awaitable[object]) -> float:
    begun = time.perf_counter()
    await work
    return time.perf_counter() - begun


async def stall(work: Awaitable[object]) -> float:
    """The longest time for which the event loop stood still meanwhile."""
    task, last, worst = asyncio.ensure_future(work), time.perf_counter(), 0.0
    while not task.done():
        await asyncio.sleep(0.001)
        now = time.perf_counter()
        last, worst = now, max(worst, now - last)
    await task
    return worst


async def cancel(model: LocalModel, engine: Timed, text: str, after: int) -> float:
    """From closing a stream, after so many tokens, until the model works on it no more."""
    engine.returned.clear()
    reader = asyncio.ensure_future(read_some(model, ask(text, 1_000), after))
    if after:
        return await seconds_until(await reader, engine)
    await asyncio.sleep(0.5)
    reader.cancel()
    return await seconds_until(time.perf_counter(), engine)


async def read_some(model: LocalModel, request: Request, count: int) -> float:
    async with closing(model(request)) as events:
        async for event in events:
            count -= isinstance(event, TextDelta)
            if count == 0:
                break
        return time.perf_counter()


async def seconds_until(begun: float, engine: Timed) -> float:
    await engine.returned.wait()
    return time.perf_counter() - begun


def resident_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def measure(threads: int) -> list[tuple[str, str]]:
    path = find("local", load().cache_dir)
    if path is None:
        sys.exit("Pull the weights first: assay models pull local")
    engines: list[Timed] = []
    loop = asyncio.get_running_loop()

    def opener(file: Path | None, *size: int) -> Engine:
        engines.append(Timed(open_engine(file, *size), loop))
        return engines[0]

    model = LocalModel("bench", path, threads=threads, opener=opener)
    before, begun = resident_mb(), time.perf_counter()
    stood = await stall(model.load())
    rows = [
        ("load", f"{time.perf_counter() - begun:.2f} s, of which the event loop stands {stood:.2f} s"),
        ("resident", f"{before:.0f} MB before, {resident_mb():.0f} MB after"),
    ]
    long = "Tell me about the sea. " * 100
    took = await seconds(usage_of(model, ask(long, 1)))
    tokens = (await usage_of(model, ask(long, 1))).tokens_in
    rows.append(("reading a prompt", f"{tokens / took:.0f} tokens/s ({tokens} tokens)"))
    rows.append(("the same again", f"{await seconds(usage_of(model, ask(long, 1))) * 1000:.0f} ms"))
    await usage_of(model, ask("Hi", 1))
    one = await seconds(usage_of(model, ask("Hi", TOKENS)))
    four = await seconds(asyncio.gather(*(usage_of(model, ask(f"Hi {n}", TOKENS)) for n in range(4))))
    rows.append(("writing, alone", f"{TOKENS / one:.0f} tokens/s"))
    rows.append(("writing, four at once", f"{4 * TOKENS / four:.0f} tokens/s together"))
    writing = await cancel(model, engines[0], "Tell me a story.", 20)
    reading = await cancel(model, engines[0], "Tell me of the land. " * 250, 0)
    rows.append(
        ("slot free after closing", f"{writing * 1e3:.0f} ms writing, {reading * 1e3:.0f} ms reading")
    )
    rows.append(("resident at the end", f"{resident_mb():.0f} MB"))
    await model.aclose()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--busy", type=int, default=0)
    options = parser.parse_args()
    with ExitStack() as stack:
        for _ in range(options.busy):
            other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(other.wait)
            stack.callback(other.kill)
        rows = asyncio.run(measure(options.threads))
    load_average = os.getloadavg()[0]
    print(f"{options.threads} threads, {options.busy} busy neighbours, load average {load_average:.1f}")
    for name, value in rows:
        print(f"  {name:26}{value}")


if __name__ == "__main__":
    main()
