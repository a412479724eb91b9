"""Assay in process: the sync client, the async App, and what importing costs."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import assay
from assay.errors import NotFound, PromptError, RequestError, UnsupportedFeature
from assay.types import TextDelta

TOML = """
[providers.stage]
dialect = "scripted"
replies = ["one two three"]

[models.stage]
provider = "stage"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "assay.toml").write_text(TOML)
    return tmp_path / "assay.toml"


def test_the_sync_client_calls_and_leaves_spans(config: Path) -> None:
    with assay.Client(config) as client:
        assert client.call("stage", "hello").text == "one two three"
        client.app.flush()
        (trace,) = client.app.traces.latest()
        assert trace.calls == 1


def test_tokens_are_counted_for_nothing(config: Path) -> None:
    with assay.Client(config) as client:
        assert client.count_tokens("stage", "hello there") == 2
        client.app.flush()
        (trace,) = client.app.traces.latest()
        assert (trace.tokens_in, trace.tokens_out, trace.name) == (0, 0, "count_tokens stage")


def test_a_model_without_vectors_says_which_has_them(config: Path) -> None:
    with assay.Client(config) as client:
        with pytest.raises(UnsupportedFeature, match="local-embeddings"):
            client.embed("stage", ["hello"])
        with pytest.raises(RequestError, match="nothing to embed"):
            client.embed("stage", [])


def test_it_streams_and_may_be_left_early(config: Path) -> None:
    request = assay.Request("stage", (assay.user("hello"),), stream=True)
    with assay.Client(config) as client:
        text = "".join(event.text for event in client.stream(request) if isinstance(event, TextDelta))
        assert text == "one two three"
        for event in client.stream(request):
            if isinstance(event, TextDelta):
                break
        client.app.flush()
        assert {trace.errors for trace in client.app.traces.latest()} == {0, 1}


def test_closing_ends_a_stream_that_is_still_held(config: Path) -> None:
    request = assay.Request("stage", (assay.user("hello"),), stream=True)
    with assay.Client(config) as client:
        held = client.stream(request)
        next(held)
    with pytest.raises(RequestError, match="This Client is closed"):
        next(held)
    with assay.Client(config) as again:
        assert [trace.errors for trace in again.app.traces.latest()] == [1]


def test_several_threads_may_use_one_client(config: Path) -> None:
    with assay.Client(config) as client, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: client.call("stage", f"hello {number}").text, range(40)))
        assert answers == ["one two three"] * 40
        client.app.flush()
        assert client.app.traces.count() == 40


def test_a_label_is_what_the_code_names_and_moves_under_it(config: Path) -> None:
    (config.parent / "prompts").mkdir()
    file = config.parent / "prompts" / "greet.prompt"
    file.write_text("---\nmodel: stage\n---\nHello {{name}}")
    with assay.Client(config) as client:
        client.app.stores.sync_prompts()
        client.app.prompts.set_label("greet", "production")
        assert client.run_prompt("greet@production", {"name": "you"}).text == "one two three"
        file.write_text("---\nmodel: stage\n---\nGood day {{name}}")
        client.app.stores.sync_prompts()
        client.run_prompt("greet@production", {"name": "you"})
        client.app.prompts.set_label("greet", "production")
        client.run_prompt("greet@production", {"name": "you"})
        client.app.flush()
        calls = client.app.traces.calls(prompt="greet")
        assert [call.input[0].text for call in calls] == ["Good day you", "Hello you", "Hello you"]
        assert calls[0].attributes["assay.prompt.variables"] == {"name": "you"}
        with pytest.raises(PromptError, match="name"):
            client.run_prompt("greet@production")
    with pytest.raises(RequestError, match="This Client is closed"):
        client.call("stage", "hello")


def test_errors_are_the_same_as_anywhere(config: Path) -> None:
    with assay.Client(config) as client, pytest.raises(NotFound, match="did you mean 'stage'"):
        client.call("stag", "hello")


def test_closing_stores_every_span(config: Path) -> None:
    client = assay.Client(config)
    client.call("stage", "hello")
    client.close()
    with assay.Client(config) as again:
        assert again.app.traces.count() == 1


@pytest.mark.anyio
async def test_the_async_app(config: Path) -> None:
    async with assay.open(config) as app:
        response = await app.call("stage", [assay.system("be brief"), assay.user("hello")])
        assert response.text == "one two three"
        assert response.cost is not None
        assert response.cost.usd == 0


def test_importing_assay_loads_nothing_heavy() -> None:
    code = "import sys, assay; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    heavy = {
        "sqlalchemy",
        "httptools",
        "numpy",
        "scipy",
        "pydantic",
        "genai_prices",
        "typer",
        "uvicorn",
        "msgspec",
    }
    assert heavy.isdisjoint(loaded)
    assert len(loaded) < 150


def test_what_is_public_is_there() -> None:
    for name in assay.__all__:
        assert getattr(assay, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        assay.nothing  # noqa: B018


@pytest.mark.local_model
def test_the_model_in_this_process_gives_vectors_that_tell_meanings_apart(config: Path) -> None:
    texts = ["A man is eating food.", "A man eats a meal.", "The girl plays the violin."]
    with assay.Client(config) as client:
        food, meal, violin = client.embed("local-embeddings", texts)
        client.app.flush()
        (trace,) = client.app.traces.latest()
    assert len(food) == 384
    assert dot(food, food) == pytest.approx(1, abs=1e-3)
    assert dot(food, meal) > 0.8 > 0.3 > dot(food, violin)
    assert trace.name == "embeddings local-embeddings"
    assert trace.tokens_in > 10


def dot(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))
