"""A folder in which a team has worked for a while: calls, prompts, experiments, through the public API."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import anyio
import pytest
from anyio.from_thread import start_blocking_portal
from starlette.testclient import TestClient

from assay import prices
from assay.app import App, open_app
from assay.console import console
from assay.errors import ProviderUnavailable
from assay.evals import (
    Dataset,
    Example,
    Experiment,
    Plan,
    PromptTask,
    Score,
    function_scorer,
    includes,
    run_experiment,
)
from assay.gateway import Route, Target, gateway
from assay.providers.scripted import Answer, Scripted
from assay.trace import Span, new_span_id, new_trace_id
from assay.types import (
    Cost,
    File,
    Handler,
    Image,
    Inline,
    Link,
    Message,
    Opaque,
    Reasoning,
    Request,
    Text,
    ToolCall,
    ToolResult,
    Usage,
    assistant,
    system,
    user,
)

XSS = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
TOPICS = ("returns", "delivery", "payment", "warranty", "repairs", "accounts")
_V1 = """---
description: Answers a customer's question.
model: gpt-4o-mini
input:
  schema:
    question: string
    policy?: string
---
{{role "system"}}
You are the help desk of an online shop. Answer the customer's question.

{{role "user"}}
{{question}}
"""
_V2 = _V1.replace(
    "Answer the customer's question.\n", "Answer in one short sentence, from this policy:\n\n{{policy}}\n"
)

Opener = Callable[[Path], AbstractContextManager[App]]


@dataclass(frozen=True)
class Filled:
    """What there is to see, by its ids."""

    root: Path
    baseline: str
    candidate: str
    same: str
    unfinished: str
    agent: str
    long: str
    hostile: str
    parts: str
    failed: str


@contextmanager
def opened(root: Path) -> Iterator[App]:
    """An App for code that is not async."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(open_app(root / "assay.toml")) as app,
    ):
        yield app


@pytest.fixture(scope="session")
def opener() -> Opener:
    """Opens the App of a folder."""
    return opened


@pytest.fixture(scope="session")
def empty_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("empty")
    (root / "assay.toml").write_text("")
    return root


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    root = tmp_path_factory.mktemp("filled")
    (root / "assay.toml").write_text('[providers.script]\ndialect = "scripted"\nreplies = ["42"]\n')
    return fill(root)


def fill(root: Path) -> Filled:
    with start_blocking_portal() as portal:
        return portal.call(_fill, root)


@pytest.fixture(scope="session")
def pages(filled: Filled) -> Iterator[TestClient]:
    with opened(filled.root) as app, TestClient(console(app), follow_redirects=False) as client:
        yield client


@pytest.fixture(scope="session")
def empty_pages(empty_root: Path) -> Iterator[TestClient]:
    with opened(empty_root) as app, TestClient(console(app), follow_redirects=False) as client:
        yield client


# --- what is done in it --------------------------------------------------------------------------


async def _fill(root: Path) -> Filled:
    async with open_app(root / "assay.toml") as app:
        model = _model(app)
        dataset = _dataset()
        _prompt(app, root / "prompts", _V1)
        before = app.prompts.get("help/answer")
        app.prompts.set_label("help/answer", "production", reason="the first that works")
        _prompt(app, root / "prompts", _V2)
        after = app.prompts.get("help/answer")
        scorers = (includes(), function_scorer(_tone, name="tone"))

        async def run(plan: Plan) -> Experiment:
            return await run_experiment(plan, app.store, tracer=app.tracer, concurrency=2)

        baseline = await run(Plan(PromptTask(before, model), dataset, scorers))
        candidate = await run(Plan(PromptTask(after, model), dataset, scorers))
        same = await run(Plan(PromptTask(before, model, model="gpt-4o"), dataset, scorers, 2, f"same {XSS}"))
        unfinished = await _interrupted(app, Plan(PromptTask(after, model, model="gpt-4o"), dataset, scorers))
        agent, long, hostile, parts, failed = _calls(app)
        async for _ in model(Request("gpt-4o-mini", (system("Be brief."), user("What is an assay?")))):
            pass
        app.flush()
        ids = (one.run.run_id for one in (baseline, candidate, same))
        return Filled(root, *ids, unfinished, agent, long, hostile, parts, failed)


def _model(app: App) -> Handler:
    def answer(request: Request) -> Answer:
        asked, told = request.messages[-1].text, request.messages[0].text
        number = int(asked.split()[2]) if asked.startswith("In case") else 0
        if number == 17 and request.model == "gpt-4o-mini" and "policy:" not in told:
            return ProviderUnavailable("The provider is overloaded; try again in a moment", provider="openai")
        luck = number * 7919 % 23
        knows = luck > 6 if "policy:" in told else luck > 14
        return (
            f"It is {number + 7} days."
            if knows
            else "It depends on the item; please see our policy page for all the details. " * 5
        )

    names = ("gpt-4o-mini", "gpt-4o")
    upstream, pricing = Scripted("openai", answer), prices.listed("openai")
    routes = {name: Route(name, (Target(name, upstream, name, pricing),)) for name in names}
    return gateway(routes, app.tracer)


def _dataset() -> Dataset:
    rule = (
        "An item may be returned, repaired or exchanged within the time that the policy gives for its kind. "
    )
    return Dataset(
        "help",
        tuple(
            Example(
                {
                    "question": f"In case {number} about {TOPICS[number % 6]}, how many days do I have?",
                    "policy": rule * (1 + number % 5) + f"In this case it is {number + 7} days.",
                },
                f"{number + 7} days",
                cluster=TOPICS[number % 6],
            )
            for number in range(64)
        ),
    )


def _prompt(app: App, folder: Path, text: str) -> None:
    (folder / "help").mkdir(parents=True, exist_ok=True)
    (folder / "help" / "answer.prompt").write_text(text)
    (folder / "hostile.prompt").write_text(f"---\nmodel: gpt-4o\n---\nSay {XSS} to {{{{name}}}}\n")
    app.prompts.sync(folder)


def _tone(output: str, example: Example) -> Score | float:
    if example.cluster == "payment" and len(output) < 20:
        return Score("tone", None, f"too short to tell {XSS}")
    return 0.9 if len(output) < 40 else 0.35


async def _interrupted(app: App, plan: Plan) -> str:
    with anyio.CancelScope() as scope:
        await run_experiment(
            plan,
            app.store,
            concurrency=1,
            tracer=app.tracer,
            progress=lambda progress: scope.cancel() if progress.done >= 9 else None,
        )
    found = app.runs.find("experiment", plan.spec)
    assert found is not None and found.status == "open"
    return found.run_id


def _calls(app: App) -> tuple[str, str, str, str, str]:
    """Traces with a tree, with many spans, with hostile texts, with every kind of part, with a failure."""
    clock = app.tracer.clock_ns() - 5 * 3600 * 10**9
    traces = [new_trace_id() for _ in range(5)]
    spans = [
        *_agent(traces[0], clock),
        *_long(traces[1], clock - 86_400 * 10**9),
        _chat(
            traces[2],
            clock - 40 * 10**9,
            f"chat {XSS}",
            model=XSS,
            purpose=XSS,
            prompt=f"{XSS}@abcd",
            input=(system(XSS), user(XSS)),
            output=(assistant(XSS),),
            attributes={XSS: XSS},
        ),
        _chat(
            traces[3], clock - 60 * 10**9, "chat gpt-4o", input=_every_part(), output=(assistant("Done."),)
        ),
        _chat(
            traces[4],
            clock - 90 * 10**9,
            "chat gpt-4o",
            status="error",
            error_type="provider_timeout",
            error_message="The provider openai did not answer within 30 s; try again, or raise deadline_s",
            usage=None,
            cost=Cost("unknown", None, "the call did not complete"),
            output=(),
        ),
    ]
    for span in spans:
        app.writer.record(span)
    return (traces[0], traces[1], traces[2], traces[3], traces[4])


def _chat(trace_id: str, start_ns: int, name: str, took_ms: int = 900, **fields: object) -> Span:
    values: dict[str, object] = {
        "model": "gpt-4o",
        "provider": "openai",
        "purpose": "call",
        "usage": Usage(input=1840, cache_read=1024, output=212, reasoning=64),
        "cost": Cost("exact", Decimal("0.00934"), "genai-prices"),
        "input": (user("Where is my parcel?"),),
        "output": (assistant("It arrives tomorrow."),),
        "attributes": {"gen_ai.request.temperature": 0.2, "gen_ai.response.finish_reasons": ["stop"]},
    }
    span_id = str(fields.pop("span_id", new_span_id()))
    return Span(trace_id, span_id, name, "chat", start_ns, start_ns + took_ms * 10**6, **values | fields)  # type: ignore[arg-type]


def _agent(trace_id: str, start_ns: int) -> list[Span]:
    root, step = new_span_id(), new_span_id()
    ms = 10**6
    estimated = Cost("estimated", Decimal("0.0021"), "tokens were counted here")
    return [
        Span(trace_id, root, "agent help desk", "invoke_agent", start_ns, start_ns + 4200 * ms),
        _chat(trace_id, start_ns + 20 * ms, "chat gpt-4o", 1400, parent_id=root),
        Span(
            trace_id,
            step,
            "tool find_order",
            "execute_tool",
            start_ns + 1450 * ms,
            start_ns + 2900 * ms,
            root,
        ),
        _chat(trace_id, start_ns + 1500 * ms, "chat gpt-4o-mini", 700, parent_id=step, cost=estimated),
        Span(
            trace_id,
            new_span_id(),
            "query orders in the warehouse that has a long name of its own",
            "execute_tool",
            start_ns + 2250 * ms,
            start_ns + 2800 * ms,
            step,
        ),
        _chat(
            trace_id,
            start_ns + 2950 * ms,
            "chat self-hosted",
            1200,
            parent_id=root,
            model="self-hosted",
            cost=Cost("unknown", None, "self-hosted is in no price list"),
        ),
    ]


def _long(trace_id: str, start_ns: int) -> list[Span]:
    root, ms = new_span_id(), 10**6
    spans = [Span(trace_id, root, "ingest handbook", "workflow", start_ns, start_ns + 9_500 * ms)]
    for number in range(450):
        begin = start_ns + number * 20 * ms
        step = Span(trace_id, new_span_id(), f"page {number}", "step", begin, begin + 400 * ms, root)
        spans += [step, _chat(trace_id, begin + 10 * ms, "chat gpt-4o-mini", 300, parent_id=step.span_id)]
    return spans


def _every_part() -> tuple[Message, ...]:
    return (
        system("Answer in the customer's language. " * 60),
        Message(
            "user", (Text("What is in the picture, and where is it?"), Image(Inline("image/png", _picture())))
        ),
        Message(
            "assistant",
            (Reasoning("The picture is small."), ToolCall("c1", "locate", '{"what":"pixel","n":[1,2]}')),
        ),
        Message("tool", (ToolResult("c1", (Text('{"place": "shelf 4"}'),), name="locate"),)),
        Message("user", (File(Link("javascript:alert(1)"), name="manual.pdf"), Opaque("gemini", {"x": XSS}))),
        Message("user", (Image(Link("https://example.com/a.png")), Text("Zusammen: größer? שלום"))),
    )


def _picture(side: int = 48) -> bytes:
    """A PNG with a gradient."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(
        b"\0" + b"".join(bytes((63 + 2 * x, 79 + y, 196)) for x in range(side)) for y in range(side)
    )
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data
