"""Another configuration in the middle of everything: what stays, what goes, and when."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from assay.app import open_app
from assay.config import load
from assay.errors import ConfigError, ProviderUnavailable
from assay.gateway.upstreams import Lent
from assay.types import Completed, Request, closing, user

pytestmark = pytest.mark.anyio

FAR = """
[providers.far]
dialect = "compatible"
base_url = "http://127.0.0.1:9/v1"
[models.far]
provider = "far"
"""
STAGE = '[providers.stage]\ndialect = "scripted"\nreplies = ["{}"]\n[models.m]\nprovider = "stage"\n'
ROUTE = '[routes.r]\ntry = ["far", "m"]\nretries = {}\n'


def config(folder: Path, text: str):
    (folder / "assay.toml").write_text(text)
    return load(folder / "assay.toml", environment={})


def upstream_of(app, model: str):
    return app.routes[model].targets[0].upstream


async def test_what_did_not_change_stays_open(tmp_path: Path) -> None:
    async with open_app(config(tmp_path, FAR + STAGE.format("one"))) as app:
        before = {name: upstream_of(app, name) for name in ("far", "m", "local")}
        app.reload(config(tmp_path, FAR + STAGE.format("two")))
        assert upstream_of(app, "far") is before["far"]
        assert upstream_of(app, "local") is before["local"]
        assert upstream_of(app, "m") is not before["m"]
        assert (await app.call("m", "Is it?")).text == "two"
        assert app.config.providers["stage"].replies == ("two",)


async def test_circuits_keep_what_they_know(tmp_path: Path) -> None:
    text = FAR + STAGE.format("one")
    async with open_app(config(tmp_path, text + ROUTE.format(0))) as app:
        health = app.healths.of(app.routes["far"].targets[0])
        for _ in range(5):
            assert (await app.call("r", "Is it?")).text == "one"
        assert health.breaker.state == "open"
        app.reload(config(tmp_path, text + ROUTE.format(1)))
        assert app.routes["r"].retries == 1
        assert app.healths.of(app.routes["far"].targets[0]).breaker.state == "open"
        (circuit,) = [health for name, health in app.healths.known() if name == "far"]
        assert circuit is health


async def test_what_needs_a_restart_changes_nothing(tmp_path: Path) -> None:
    async with open_app(config(tmp_path, STAGE.format("one"))) as app:
        before = (app.config, app.handler, app.models, app.routes)
        with pytest.raises(ConfigError, match=r"trace.queue_spans changes with a restart only"):
            app.reload(config(tmp_path, "[trace]\nqueue_spans = 7\n" + STAGE.format("two")))
        assert (app.config, app.handler, app.models, app.routes) == before
        assert (await app.call("m", "Is it?")).text == "one"


async def test_a_call_under_way_ends_on_the_old_one(tmp_path: Path) -> None:
    async with open_app(config(tmp_path, STAGE.format("one two three"))) as app:
        request = Request("m", (user("Is it?"),), stream=True)
        text = ""
        async with closing(app.stream(request)) as events:
            await anext(events)
            app.reload(config(tmp_path, STAGE.format("four")))
            async for event in events:
                text += getattr(event, "text", "")
        assert text.strip() == "one two three"
        assert (await app.call("m", "Is it?")).text == "four"


async def test_new_secrets_are_redacted_and_removed_models_are_gone(tmp_path: Path) -> None:
    async with open_app(config(tmp_path, STAGE.format("one"))) as app:
        keyed = FAR.replace("/v1", '/v1"\napi_key = "env:KEY', 1)
        (tmp_path / "assay.toml").write_text(keyed)
        app.reload(load(tmp_path / "assay.toml", environment={"KEY": "correct-horse-battery"}))
        assert app.writer.redact is not None
        assert app.writer.redact("correct-horse-battery") == "[redacted]"
        assert "m" not in app.routes
        with pytest.raises(ProviderUnavailable):
            await app.call("far", "Is it?")


async def test_a_model_in_the_process_is_freed_when_its_last_call_ends() -> None:
    class Held:
        name, dialects, problem = "held", frozenset(), None

        async def __call__(self, request: Request):
            yield Completed(None)  # type: ignore[arg-type]

        async def aclose(self) -> None:
            closed.append(True)

    closed: list[bool] = []
    lent = Lent(Held())  # type: ignore[arg-type]
    async with closing(lent(Request("m", ()))) as events:
        await anext(events)
        waiting = asyncio.create_task(lent.idle())
        await asyncio.sleep(0)
        assert not waiting.done()
    await waiting
    await lent.aclose()
    assert closed == [True]
