"""The ONNX graph against BERT written down a second time, on small random weights; safetensors; int8."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from assay.errors import BadResponse, ConfigError
from assay.providers.local_embeddings import build
from assay.providers.local_embeddings.build import build_int8
from assay.providers.local_embeddings.graph import Array, Shape, float_model, read_safetensors

WIDTH, HEADS, WIDE, WORDS, PLACES = 24, 12, 48, 9000, 32


@pytest.fixture(scope="module")
def tensors() -> dict[str, Array]:
    random = np.random.default_rng(7)

    def drawn(*shape: int) -> Array:
        return random.normal(0, 0.3, shape).astype(np.float32)

    found = {
        "embeddings.word_embeddings.weight": drawn(WORDS, WIDTH),
        "embeddings.position_embeddings.weight": drawn(PLACES, WIDTH),
        "embeddings.token_type_embeddings.weight": drawn(2, WIDTH),
        "embeddings.position_ids": np.arange(PLACES)[None],
    }
    norms = ["embeddings.LayerNorm"]
    for layer in ("encoder.layer.0.", "encoder.layer.1."):
        norms += [f"{layer}attention.output.LayerNorm", f"{layer}output.LayerNorm"]
        sizes = {f"attention.self.{what}": (WIDTH, WIDTH) for what in ("query", "key", "value")}
        sizes["attention.output.dense"] = (WIDTH, WIDTH)
        sizes["intermediate.dense"] = (WIDE, WIDTH)
        sizes["output.dense"] = (WIDTH, WIDE)
        for name, size in sizes.items():
            found[f"{layer}{name}.weight"], found[f"{layer}{name}.bias"] = drawn(*size), drawn(size[0])
    for name in norms:
        found[f"{name}.weight"], found[f"{name}.bias"] = 1 + drawn(WIDTH), drawn(WIDTH)
    return found


def written_twice(tensors: dict[str, Array], ids: list[int]) -> Array:
    """One sentence's vector, as the papers say it, in float64."""
    at = {name: value.astype(np.float64) for name, value in tensors.items()}

    def linear(x: Array, name: str) -> Array:
        return x @ at[f"{name}.weight"].T + at[f"{name}.bias"]

    def norm(x: Array, name: str) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        return scaled * at[f"{name}.weight"] + at[f"{name}.bias"]

    x = at["embeddings.word_embeddings.weight"][ids] + at["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(x + at["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    size = WIDTH // HEADS
    for layer in ("encoder.layer.0.", "encoder.layer.1."):
        query, key, value = (linear(x, f"{layer}attention.self.{what}") for what in ("query", "key", "value"))
        heads = []
        for head in range(HEADS):
            part = slice(head * size, (head + 1) * size)
            scores = np.exp(query[:, part] @ key[:, part].T / math.sqrt(size))
            heads.append(scores / scores.sum(-1, keepdims=True) @ value[:, part])
        said = linear(np.concatenate(heads, -1), f"{layer}attention.output.dense")
        x = norm(said + x, f"{layer}attention.output.LayerNorm")
        wide = linear(x, f"{layer}intermediate.dense")
        gelu = wide * 0.5 * (1 + np.vectorize(math.erf)(wide / math.sqrt(2)))
        x = norm(linear(gelu, f"{layer}output.dense") + x, f"{layer}output.LayerNorm")
    mean = x.mean(0)
    return np.asarray(mean / np.linalg.norm(mean))


def run(model: bytes | str, texts: list[list[int]]) -> Array:
    session: Any = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    longest = max(map(len, texts))
    ids = np.array([text + [0] * (longest - len(text)) for text in texts])
    mask = np.array([[1] * len(text) + [0] * (longest - len(text)) for text in texts])
    return np.asarray(session.run(["vectors"], {"input_ids": ids, "attention_mask": mask})[0])


TEXTS = [[101, 5, 8999, 102], [101, 102], [101, 7, 7, 3, 20, 102, 88, 9, 102]]


def test_the_graph_is_bert(tensors: dict[str, Array]) -> None:
    """Also for texts beside longer ones: padding has no say."""
    vectors = run(float_model(tensors, Shape(HEADS)).SerializeToString(), TEXTS)
    expected = np.stack([written_twice(tensors, text) for text in TEXTS])
    assert vectors == pytest.approx(expected, abs=1e-5)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(3), abs=1e-6)


def saved(path: Path, tensors: dict[str, Array], **changed: Any) -> Path:
    """As a safetensors file."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, value in tensors.items():
        kind = {"float32": "F32", "int64": "I64"}[str(value.dtype)]
        offsets = [len(data), len(data) + value.nbytes]
        header[name] = {"dtype": kind, "shape": list(value.shape), "data_offsets": offsets, **changed}
        data += value.tobytes()
    encoded = json.dumps(header).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + data)
    return path


def test_safetensors_are_read(tensors: dict[str, Array], tmp_path: Path) -> None:
    read = read_safetensors(saved(tmp_path / "m.safetensors", tensors))
    assert read.keys() == tensors.keys()
    assert all((read[name] == value).all() for name, value in tensors.items())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"12345678",
        b"\x02" + bytes(7) + b"[]",
        b"\x09" + bytes(7) + b'{"a": {}}',
        (1 << 60).to_bytes(8, "little") + b"{",
    ],
)
def test_what_is_no_safetensors_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(ValueError, match="not a safetensors file"):
        read_safetensors(tmp_path / "m")


@pytest.mark.parametrize("changed", [{"dtype": "BF16"}, {"shape": [1 << 40]}, {"data_offsets": [1 << 40, 0]}])
def test_tensors_that_are_not_there(
    tensors: dict[str, Array], tmp_path: Path, changed: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="not a safetensors file"):
        read_safetensors(saved(tmp_path / "m", tensors, **changed))


def test_int8_is_a_quarter_the_size_alike_and_the_same_each_time(
    tensors: dict[str, Array], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = saved(tmp_path / "m", tensors)
    made = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    for target in made:
        build_int8(source, target)
    assert made[0].read_bytes() == made[1].read_bytes()
    assert made[0].stat().st_size < source.stat().st_size / 3
    both = run(str(made[0]), TEXTS), run(float_model(tensors).SerializeToString(), TEXTS)
    assert (both[0] * both[1]).sum(1).min() > 0.97
    assert caplog.messages == []


def test_int8_that_is_not_alike_is_refused(
    tensors: dict[str, Array], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "MIN_COSINE", 1.0)
    with pytest.raises(BadResponse, match="not like the original"):
        build_int8(saved(tmp_path / "m", tensors), tmp_path / "a.onnx")


def test_weights_of_another_kind_are_refused(tensors: dict[str, Array], tmp_path: Path) -> None:
    del tensors["embeddings.LayerNorm.bias"]
    with pytest.raises(BadResponse, match=r"LayerNorm\.bias"):
        build_int8(saved(tmp_path / "m", tensors), tmp_path / "a.onnx")


def test_without_the_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "LIBRARIES", ("onnx", "no_such"))
    with pytest.raises(ConfigError, match="needs no_such"):
        build_int8(tmp_path / "m", tmp_path / "a.onnx")
    assert "torch" not in sys.modules
