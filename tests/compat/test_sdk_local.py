"""The model in the process itself, for every SDK: what it can do, and what it says that it cannot."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from assay.providers import weights

from .bed import Callers, Run
from .drivers.base import Ask, Capital
from .test_sdk_matrix import CLIENTS, png

pytestmark = [pytest.mark.local_model, pytest.mark.usefixtures("pulled")]

clients = pytest.mark.parametrize("client", CLIENTS)
modes = pytest.mark.parametrize("mode", ["whole", "stream"])


@pytest.fixture(scope="session")
def pulled() -> Path:
    """The real model's file, in the user's own cache; pulled when it is not there yet."""
    base = os.environ.get("XDG_CACHE_HOME")
    return weights.pull("local", cache_dir=(Path(base) if base else Path.home() / ".cache") / "assay")


@clients
@modes
def test_text(client: str, mode: str, callers: Callers, run: Run) -> None:
    driver = callers.driver(client, mode, "sync")
    reply = run(driver.ask(Ask("local", text="Say hello.", system="Be brief.", max_tokens=12, temperature=0)))
    assert reply.text.strip()
    assert reply.finish in {"stop", "length"}
    if (client, mode, reply.finish) == ("openai", "stream", "length"):
        return  # the SDK's helper gives up at the finish reason, before the chunk with the usage
    assert reply.usage is not None
    tokens_in, cached, tokens_out, reasoned = reply.usage
    assert tokens_in > 5
    assert 0 <= cached <= tokens_in
    assert 0 < tokens_out <= 12
    assert not reasoned
    if mode == "stream":
        assert reply.pieces > 1


@clients
@modes
def test_structured_output(client: str, mode: str, callers: Callers, run: Run) -> None:
    driver = callers.driver(client, mode, "sync")
    ask = Ask(
        "local", text="The capital of Switzerland, as JSON.", schema=Capital, max_tokens=120, temperature=0
    )
    reply = run(driver.ask(ask))
    assert isinstance(reply.parsed, Capital)


@clients
@modes
def test_a_tool_that_must_be_called_and_its_result(
    client: str, mode: str, callers: Callers, run: Run
) -> None:
    driver = callers.driver(client, mode, "sync")
    ask = Ask("local", text="Weather in Paris?", tools=True, forced=True, max_tokens=60, temperature=0)
    first = run(driver.ask(ask))
    assert [call.name for call in first.calls] == ["get_weather"]
    assert isinstance(first.calls[0].arguments["city"], str)
    after = Ask("local", text=ask.text, tools=True, max_tokens=80, temperature=0)
    second = run(driver.answer(after, first, ["18 degrees, sunny"]))
    assert second.text.strip() or second.calls


@clients
@modes
def test_an_image_is_refused(client: str, mode: str, callers: Callers, run: Run) -> None:
    driver = callers.driver(client, mode, "sync")
    with pytest.raises(driver.errors) as raised:
        run(driver.ask(Ask("local", image=png())))
    failure = driver.failure(raised.value)
    assert failure.status == 400
    assert "image" in failure.message.lower()
