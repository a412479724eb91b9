"""The settings of the cache: what is refused, and where the message points."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.app import open_app
from assay.config import load
from assay.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "[models.m]\nprovider='local'\n[models.m.cache]\nttl_s = 0",
            "4: models.m.cache.ttl_s: must be above 0",
        ),
        (
            "[models.m]\nprovider='local'\n[models.m.cache]\nttl = 5",
            "4: models.m.cache.ttl: unknown key; did you mean",
        ),
        ("[routes.r]\ntry=['local']\ncache = 5", "3: routes.r.cache: expected a table"),
        (
            "[routes.r]\ntry=['local']\n[routes.r.cache]\nttl_s = inf",
            "4: routes.r.cache.ttl_s: must be above 0",
        ),
        (
            "[routes.r]\ntry=['local']\n[routes.r.cache.semantic]\n",
            "3: routes.r.cache.semantic: the key threshold",
        ),
        (
            "[routes.r]\ntry=['local']\n[routes.r.cache.semantic]\nthreshold = 1.5",
            "threshold: must be above 0 and at",
        ),
        (
            "[routes.r]\ntry=['local']\n[routes.r.cache.semantic]\nthreshold = 0.9\nmodel = 'x'",
            "5: routes.r.cache.semantic.model: there is no model 'x'",
        ),
        ("[cache]\nmemory_bytes = -1", "2: cache.memory_bytes: must be at least 0"),
        (
            "[cache]\nstore_bytes = 0\n[routes.r]\ntry=['local']\n[routes.r.cache.semantic]\nthreshold = 0.9",
            "needs the store",
        ),
        (
            "[trace]\ncapture_content = false\n[routes.r]\ntry=['local']\n"
            "[routes.r.cache.semantic]\nthreshold = 0.9",
            "which [trace] capture_content forbids",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "assay.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "assay.toml", environment={})
    assert problem in caught.value.message


def test_an_empty_table_is_a_cache_with_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "assay.toml").write_text(
        "[models.m]\nprovider='local'\n[models.m.cache]\n[routes.r]\ntry=['m']"
    )
    config = load(tmp_path / "assay.toml", environment={})
    assert config.models["m"].cache is not None
    assert config.models["m"].cache.ttl_s == 3600.0
    assert config.routes["r"].cache is None


@pytest.mark.anyio
@pytest.mark.parametrize("captured", [True, False])
async def test_replies_are_not_on_disk_where_nothing_said_shall_be(tmp_path: Path, captured: bool) -> None:
    (tmp_path / "assay.toml").write_text(
        f"[trace]\ncapture_content = {str(captured).lower()}\n"
        "[providers.s]\ndialect = 'scripted'\nreplies = ['the planted answer', 'another']\n"
        "[models.m]\nprovider = 's'\n[models.m.cache]\n"
    )
    async with open_app(load(tmp_path / "assay.toml", environment={})) as app:
        for _ in range(2):
            assert (await app.call("m", "Hi")).text == "the planted answer"
    kept = b"".join(file.read_bytes() for file in (tmp_path / ".assay").rglob("assay.db*"))
    assert (b"the planted answer" in kept) is captured
