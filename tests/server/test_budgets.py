"""Budgets where users meet them: official SDKs, several workers, callers that leave, and a kill -9."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from assay.app import Stores
from assay.config import load
from assay.gateway.spending.terms import PICO, Standing, Sums

pytestmark = pytest.mark.anyio

PRICE = Decimal("0.001")
"""Of a reply of the upstream: 100 tokens at 10 dollars a million; reading is free here."""
TOKENS = 100


class Counting:
    """Runs in a thread of its own. Each reply has 10 tokens read and 100 written.

    What is asked decides: `hang` is never answered, `part` streams a piece and then nothing more, `fail` is a
    503. `came` counts the requests, `whole` the replies that were written to their end.
    """

    def __init__(self) -> None:
        self.came = self.whole = self.waiting = 0
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self.port = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._started.wait(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        )
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
                body = json.loads(await reader.readexactly(length))
                await self._answer(body, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except asyncio.CancelledError:
            # A cancelled connection is logged by asyncio.
            pass
        finally:
            writer.close()

    async def _answer(
        self, body: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.came += 1
        said = body["messages"][-1]["content"]
        if said == "fail":
            _send(writer, 503, b'{"error": {"message": "overloaded"}}', "application/json")
            return
        if said in ("hang", "part"):
            self.waiting += 1
            if said == "part":
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
                writer.write(_chunk({"role": "assistant", "content": "a"}))
                await writer.drain()
            # Until the caller goes away.
            await reader.read()
            raise ConnectionResetError
        usage = {"prompt_tokens": 10, "completion_tokens": TOKENS, "total_tokens": 10 + TOKENS}
        if body.get("stream"):
            pieces = [_chunk({"role": "assistant", "content": "a"}), _chunk({}, finish="stop")]
            pieces += [_chunk(None, usage=usage), b"data: [DONE]\n\n"]
            _send(writer, 200, b"".join(pieces), "text/event-stream")
        else:
            message = {"role": "assistant", "content": "a"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            reply = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "usage": usage}
            _send(writer, 200, json.dumps({**reply, "choices": [choice]}).encode(), "application/json")
        await writer.drain()
        self.whole += 1


def _send(writer: asyncio.StreamWriter, status: int, body: bytes, kind: str) -> None:
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)


def _chunk(delta: dict[str, Any] | None, *, finish: str | None = None, usage: Any = None) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    event = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices}
    return b"data: " + json.dumps({**event, "usage": usage}).encode() + b"\n\n"


# --- around it -----------------------------------------------------------------------------------------


@pytest.fixture
def upstream() -> Iterator[Counting]:
    running = Counting()
    yield running
    running.close()


def settings(upstream: Counting, more: str = "") -> str:
    return f"""
[providers.up]
dialect = "compatible"
base_url = "{upstream.url}"
[models.m]
provider = "up"
assumed_price = [0.0, 10.0]
[models.again]
provider = "up"
assumed_price = [0.0, 10.0]
[models.unpriced]
provider = "up"
[routes.both]
try = ["m", "again"]
retries = 0
{more}
"""


class Bed:
    """A folder with an assay.toml, keys and budgets."""

    def __init__(self, root: Path, toml: str) -> None:
        root.mkdir(exist_ok=True)
        self.root = root
        (root / "assay.toml").write_text(toml)
        self.stores = Stores(load(root / "assay.toml", environment={}))
        self.issued = self.stores.keys.create("ci", team="red")

    def limit(self, usd: str, per: str = "day", *, team: bool = False) -> None:
        kind, holder = ("team", "red") if team else ("key", self.issued.key.id)
        self.stores.ledger.set(kind, holder, per, int(Decimal(usd) * PICO))  # type: ignore[arg-type]

    @property
    def standing(self) -> Standing:
        return self.stores.ledger.standings()[0]

    @property
    def sums(self) -> Sums:
        whole = Sums()
        for sums in self.stores.ledger.spent().values():
            whole.add(sums)
        return whole

    def spans(self) -> list[dict[str, Any]]:
        import sqlalchemy as sa

        with self.stores.store.read() as connection:
            return [dict(row) for row in connection.execute(sa.text("SELECT * FROM spans")).mappings()]


@pytest.fixture
def bed(tmp_path: Path, upstream: Counting) -> Iterator[Bed]:
    made = Bed(tmp_path / "bed", settings(upstream))
    yield made
    made.stores.close()


def client(url: str, bed: Bed) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=bed.issued.token, max_retries=0, timeout=60)


async def until(true: Any, seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.01)


def said(text: str) -> Any:
    return [{"role": "user", "content": text}]


# --- what callers see ----------------------------------------------------------------------------------


async def test_the_sdks_are_refused_with_402_and_told_what_is_left(serve: Any, bed: Bed) -> None:
    bed.limit("0.0025")
    served = serve(root=bed.root)
    async with client(served.url, bed) as ours:
        for _ in range(2):
            await ours.chat.completions.create(model="m", messages=said("a"), max_tokens=100)
        with pytest.raises(openai.APIStatusError) as refused:
            await ours.chat.completions.create(model="m", messages=said("a"), max_tokens=100)
        assert refused.value.status_code == 402
        assert refused.value.code == "budget_exceeded"
        message = refused.value.message
        assert "'ci' may spend $0.002500 a day, of which $0.000500 is left ($0.002000 spent)" in message
        assert "this call may cost up to $0.001000" in message
        assert "It begins anew at 20" in message
        # Half as much may still be written.
        await ours.chat.completions.create(model="m", messages=said("a"), max_tokens=50)
    other = anthropic.AsyncAnthropic(base_url=served.url, api_key=bed.issued.token, max_retries=0)
    async with other:
        with pytest.raises(anthropic.APIStatusError) as billing:
            await other.messages.create(model="m", messages=said("a"), max_tokens=100)
        assert billing.value.status_code == 402
        assert billing.value.body["error"]["type"] == "billing_error"
        with pytest.raises(anthropic.APIStatusError):
            async with other.messages.stream(model="m", messages=said("a"), max_tokens=100) as stream:
                await stream.until_done()
    assert served.stop()[0] == 0
    # The reply of the third call was longer than its max_tokens: what it cost counts.
    assert bed.standing.spent_pico == 3 * PICO // 1000
    assert bed.sums == Sums(settled=3 * PICO // 1000, calls=3)


async def test_a_model_without_a_price_is_refused_under_a_budget(
    serve: Any, bed: Bed, upstream: Counting
) -> None:
    bed.limit("5", "month", team=True)
    served = serve(root=bed.root)
    async with client(served.url, bed) as ours:
        with pytest.raises(
            openai.APIStatusError, match="The team 'red' has a budget, and no price is known"
        ) as no:
            await ours.chat.completions.create(model="unpriced", messages=said("a"))
        assert (no.value.status_code, no.value.code) == (402, "price_unknown")
        assert upstream.came == 0
    (bed.root / "assay.toml").write_text(
        settings(upstream, "[budget]\nunknown_usd_per_mtok_in = 1\nunknown_usd_per_mtok_out = 20")
    )
    served.stop()
    served = serve(root=bed.root)
    async with client(served.url, bed) as ours:
        await ours.chat.completions.create(model="unpriced", messages=said("a"))
    served.stop()
    assert bed.sums.settled == 2 * PICO // 1000 + 10 * PICO // 1_000_000
    assert [span["cost_kind"] for span in bed.spans() if span["status"] == "ok"] == ["estimated"]


async def test_a_budget_that_is_raised_or_removed_is_so_within_a_second(serve: Any, bed: Bed) -> None:
    bed.limit("0")
    served = serve(root=bed.root)
    async with client(served.url, bed) as ours:
        with pytest.raises(openai.APIStatusError):
            await ours.chat.completions.create(model="m", messages=said("a"), max_tokens=100)
        bed.limit("1")
        async with asyncio.timeout(20):
            while True:
                try:
                    await ours.chat.completions.create(model="m", messages=said("a"), max_tokens=100)
                except openai.APIStatusError:
                    await asyncio.sleep(0.05)
                else:
                    break


async def test_a_try_that_failed_is_counted_and_the_fallback_reserves_anew(
    serve: Any, bed: Bed, upstream: Counting
) -> None:
    # A provider that answers with an error bills nothing: two tries, and nothing is spent.
    bed.limit("1")
    served = serve(root=bed.root)
    async with client(served.url, bed) as ours:
        with pytest.raises(openai.APIStatusError):
            await ours.chat.completions.create(model="both", messages=said("fail"), max_tokens=100)
    served.stop()
    assert upstream.came == 2
    assert bed.sums == Sums()
    assert bed.standing.left_pico == PICO


# --- many at once ----------------------------------------------------------------------------------------


async def test_200_calls_at_once_over_two_workers_never_spend_more_than_there_is_for_100(
    serve: Any, bed: Bed, upstream: Counting, assay: Any
) -> None:
    bed.limit("0.1")
    bed.limit("0.1", "total", team=True)
    workers = [serve(root=bed.root) for _ in range(2)]
    ended: Counter[str] = Counter()

    async def call(number: int) -> None:
        kind = ("whole", "stream", "hang", "part")[number % 4]
        options: dict[str, Any] = {"model": "m", "max_tokens": 100}
        try:
            async with asyncio.timeout(60):
                if kind == "whole":
                    await ours[number % 8 // 4].chat.completions.create(messages=said("a"), **options)
                elif kind == "stream":
                    stream = await ours[number % 8 // 4].chat.completions.create(
                        messages=said("a"), stream=True, **options
                    )
                    async for _ in stream:
                        pass
                else:
                    await leave(number, kind, options)
            ended[kind] += 1
        except openai.APIStatusError as refused:
            assert refused.status_code == 402
            ended["refused"] += 1

    async def leave(number: int, kind: str, options: dict[str, Any]) -> None:
        """Goes away while the upstream is at it."""
        stream = kind == "part"
        asking = asyncio.create_task(
            ours[number % 8 // 4].chat.completions.create(messages=said(kind), stream=stream, **options)
        )
        before = upstream.waiting
        while not asking.done() and upstream.waiting == before:
            await asyncio.sleep(0.01)
        if kind == "part":
            stream = await asking
            await anext(aiter(stream))
            await stream.close()
        elif asking.done():
            asking.result()
        else:
            asking.cancel()

    ours = [client(worker.url, bed) for worker in workers]
    await asyncio.gather(*(call(number) for number in range(200)))
    for one in ours:
        await one.close()
    for worker in workers:
        assert worker.stop()[0] == 0
    sums = bed.sums
    limit, price = PICO // 10, PICO // 1000
    assert sums.settled + sums.uncertain <= limit
    for standing in bed.stores.ledger.standings():
        assert (standing.spent_pico, standing.reserved_pico) == (sums.settled + sums.uncertain, 0)
    # Whoever was answered is settled, whoever went away uncertain, and each at what it may have cost.
    assert sums.settled == price * (ended["whole"] + ended["stream"])
    assert sums.uncertain == price * sums.unknown
    # Nothing came upstream that was not counted; a caller may have left before his call was sent.
    assert upstream.came <= sums.calls <= 100
    # A worker holds at most a sixteenth of what is left beyond its calls: most of the money is spent.
    assert sums.calls >= 80
    spans = bed.spans()
    assert sum(span["cost_pico"] or 0 for span in spans) == sums.settled
    assert sum(span["cost_kind"] == "unknown" for span in spans) == sums.unknown
    looked = assay("doctor", "--ledger", "--offline", "--json", cwd=bed.root)
    assert looked.status == 0, looked.out
    ledger = [found for found in json.loads(looked.out)["findings"] if found["name"] == "ledger"]
    assert [found["status"] for found in ledger] == ["ok"]


async def test_after_a_kill_9_the_ledger_says_what_the_upstream_counted(
    serve: Any, bed: Bed, upstream: Counting, assay: Any
) -> None:
    bed.limit("5")
    served = serve(root=bed.root)
    stop = asyncio.Event()
    answered = 0

    async def load_it(ours: openai.AsyncOpenAI) -> None:
        nonlocal answered
        while not stop.is_set():
            try:
                await ours.chat.completions.create(model="m", messages=said("a"), max_tokens=100)
                answered += 1
            except openai.APIConnectionError:
                return

    async def hang(ours: openai.AsyncOpenAI) -> None:
        with pytest.raises(openai.APIConnectionError):
            await ours.chat.completions.create(model="m", messages=said("hang"), max_tokens=100)

    async with client(served.url, bed) as ours:
        tasks = [asyncio.create_task(hang(ours)) for _ in range(7)]
        await until(lambda: upstream.waiting == 7)
        tasks += [asyncio.create_task(load_it(ours)) for _ in range(16)]
        await until(lambda: answered >= 200)
        served.process.send_signal(signal.SIGKILL)
        served.process.wait()
        stop.set()
        await asyncio.gather(*tasks)
    # Its allowance is held until somebody looks, and no call can spend it.
    assert bed.standing.reserved_pico > 0

    served = serve(root=bed.root)
    async with client(served.url, bed) as ours:
        await ours.chat.completions.create(model="m", messages=said("a"), max_tokens=100)
    assert served.stop()[0] == 0
    sums, price = bed.sums, PICO // 1000
    # What the upstream was asked for is settled, or it was under way and is uncertain.
    assert 7 <= sums.unknown <= 7 + 16
    assert sums.uncertain == price * sums.unknown
    assert sums.settled == price * (sums.calls - sums.unknown)
    assert answered + 1 <= sums.calls - sums.unknown <= upstream.whole
    # Those that were reserved and not yet sent when it was killed are counted, too.
    assert upstream.came <= sums.calls <= upstream.came + 16
    assert bed.standing.reserved_pico == 0
    looked = assay("doctor", "--ledger", "--offline", "--json", cwd=bed.root)
    found = [one for one in json.loads(looked.out)["findings"] if one["name"].startswith("ledger")]
    assert [one["status"] for one in found] == ["warning"]
    assert "a crash took them" in found[0]["detail"]
