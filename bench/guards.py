"""Benchmark: how fast guards read, and what they add to a call.

    python bench/guards.py

First each rule and each guard over text of a few kinds, in MB/s of UTF-8, on one core: prose, which has
nothing to find; logs, which are full of digits, dots and addresses; and a text that was made to be slow. Then
a call of four turns and a stream of 57 pieces through the gateway's policies with a model that answers at
once, with guards and without: CPU time a call. A conversation that was seen before is not searched again, so
calls are shown with texts that are new each time, and with texts that are not.

Not a test: it has no threshold.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import Callable, Sequence

from assay.gateway import Route, Target, gateway
from assay.gateway.guards import deny, injection, patterns
from assay.gateway.guards.guard import Guard, Injection, Patterns, Posted
from assay.gateway.guards.window import Rule, Wanted, Window
from assay.prices import free
from assay.providers.scripted import Scripted
from assay.trace import Tracer
from assay.types import Handler, Request, assistant, closing, user

TEXT = "the order was sent on time and we will look at what else there is to do about the late delivery"
WORDS = TEXT.split()
MB = 1_000_000


def prose(draw: random.Random, size: int) -> str:
    pieces: list[str] = []
    while size > 0:
        word = draw.choice(WORDS) + draw.choice((" ", " ", " ", ", ", ". ", "\n"))
        pieces.append(word)
        size -= len(word)
    return "".join(pieces)


def logs(draw: random.Random, size: int) -> str:
    lines: list[str] = []
    while size > 0:
        line = (
            f"2026-01-{draw.randint(10, 28)}T12:{draw.randint(10, 59)}:07.{draw.randint(100, 999)}Z "
            f"10.0.{draw.randint(0, 9)}.{draw.randint(0, 99)} GET /v1/items/{draw.randint(10**8, 10**10)} "
            f"user{draw.randint(1, 99)}@host 200 {draw.randint(1, 9999)} +{draw.randint(1, 99)}ms sk-12\n"
        )
        lines.append(line)
        size -= len(line)
    return "".join(lines)


def hostile(_draw: random.Random, size: int) -> str:
    return ("4 4-4 DE12 a.b+c@d.e.f eyJ" * (size // 26 + 1))[:size]


def seconds(work: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def speed(rules: Sequence[Rule], text: str, piece: int | None = None) -> float:
    wanted = [Wanted(rule, "g", hides=True, keeps=True) for rule in rules]

    def work() -> None:
        window = Window(wanted)
        if piece is None:
            window.feed(text, final=True)
            return
        for start in range(0, len(text), piece):
            window.feed(text[start : start + piece])
        window.feed("", final=True)

    return len(text) / MB / seconds(work)


async def cost_us(handler: Handler, texts: Callable[[int], str], calls: int, *, stream: bool) -> float:
    start = time.process_time()
    for number in range(calls):
        text = texts(number)
        said = (user(text), assistant("I see."), user("And?"), user(text[:200]))
        async with closing(handler(Request("m", said, stream=stream))) as events:
            async for _ in events:
                pass
    return (time.process_time() - start) / calls * 1e6


def handler(*guards: tuple[Guard, str]) -> Handler:
    model = Scripted("up", [" ".join(["word"] * 57)])
    posted = tuple(
        Posted(f"g{n}", guard, frozenset({"input", "output"}), action)
        for n, (guard, action) in enumerate(guards)
    )  # type: ignore[arg-type]
    route = Route("m", (Target("m", model, "m", free("bench")),))
    return gateway(
        {"m": route}, Tracer(lambda span: None), posts=lambda call: {"m": posted} if posted else {}
    )


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--mb", type=float, default=1.0, help="how much text of each kind")
    options.add_argument("--calls", type=int, default=1_000)
    asked = options.parse_args()
    draw = random.Random(7)
    size = int(asked.mb * MB)
    texts = {"prose": prose(draw, size), "logs": logs(draw, size), "hostile": hostile(draw, size)}

    print(f"{'MB/s, whole text':28}" + "".join(f"{name:>10}" for name in texts))
    rows: dict[str, Sequence[Rule]] = {"secrets": patterns.secrets(), "pii": patterns.personal()}
    rows["secrets + pii"] = (*patterns.secrets(), *patterns.personal())
    rows |= {
        f"  {kind}": [one for one in patterns.SECRETS if one.kind == kind] for kind in patterns.SECRET_KINDS
    }
    rows |= {
        f"  {kind}": [one for one in (*patterns.PERSONAL, *patterns.ADDRESSES) if one.kind == kind]
        for kind in patterns.PERSONAL_KINDS
    }
    rows["deny, 20 words"] = deny.words(f"forbidden{number}" for number in range(20))
    rows["deny, a pattern"] = deny.patterns([r"[A-Z]{2,4}-\d{1,6}"])
    for name, rules in rows.items():
        print(f"{name:28}" + "".join(f"{speed(rules, text):10.1f}" for text in texts.values()), flush=True)
    signs = {
        name: len(text) / MB / seconds(lambda text=text: injection.score(text))
        for name, text in texts.items()
    }  # type: ignore[misc]
    print(f"{'injection':28}" + "".join(f"{one:10.1f}" for one in signs.values()))

    print(f"\n{'us a piece of 5 characters':28}" + "".join(f"{name:>10}" for name in texts))
    for name in ("secrets", "pii", "secrets + pii"):
        cells = [5 / speed(rows[name], text[:200_000], piece=5) for text in texts.values()]
        print(f"{name:28}" + "".join(f"{cell:10.2f}" for cell in cells), flush=True)

    print(f"\n{'CPU us a call':28}{'whole':>10}{'+':>8}{'seen':>10}{'+':>8}{'57 pieces':>12}{'+':>8}")
    fresh = [prose(draw, 4_000) for _ in range(asked.calls)]
    guarded = {
        "no guard": (),
        "secrets": ((Patterns(patterns.secrets()), "redact"),),
        "pii": ((Patterns(patterns.personal()), "redact"),),
        "secrets + pii": ((Patterns(rows["secrets + pii"]), "redact"),),  # type: ignore[arg-type]
        "injection": ((Injection(), "block"),),
    }
    base: list[float] = []
    for name, guards in guarded.items():
        asks = handler(*guards)
        cells = [
            asyncio.run(cost_us(asks, lambda number: fresh[number], asked.calls, stream=False)),
            asyncio.run(cost_us(asks, lambda _: fresh[0], asked.calls, stream=False)),
            asyncio.run(cost_us(asks, lambda _: fresh[0], asked.calls, stream=True)),
        ]
        base = base or cells
        added = [cell - first for cell, first in zip(cells, base, strict=True)]
        print(
            f"{name:28}{cells[0]:10.0f}{added[0]:8.0f}{cells[1]:10.0f}{added[1]:8.0f}{cells[2]:12.0f}{added[2]:8.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
