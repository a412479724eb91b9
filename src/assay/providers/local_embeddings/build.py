"""Making the int8 model out of the published float32 weights, once, when they are pulled.

Weights are rounded to 7 bits, each column of a matrix by its own scale, so that also processors without VNNI,
whose 8-bit sums overflow, give these vectors; activations are rounded as they come. The graph: .graph.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Final

import numpy as np

from assay.errors import BadResponse, ConfigError
from assay.providers.local_embeddings.graph import float_model, read_safetensors

LIBRARIES: Final = ("onnx", "onnxruntime", "tokenizers")

MIN_COSINE: Final = 0.97
"""The least that an int8 vector may have in common with the float32 one; .98 to .995 were measured."""

_TRIED: Final = (
    (101, 2023, 2003, 2019, 2742, 6251, 102),
    (101, 1996, 4633, 2003, 8403, 2651, 1012, 102),
    (101, 2002, 5225, 2000, 1996, 3346, 1012, 102),
    (101, 2129, 2079, 1045, 2131, 2026, 2769, 2067, 2043, 2026, 2344, 2001, 7718, 1029, 102),
)
"""Sentences, as numbers of MiniLM's tokens."""


def check_libraries() -> None:
    """Raises ConfigError, saying what to install, when something is missing that `build_int8` needs."""
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"Making the embedding model needs {', '.join(missing)}; run: pip install 'assay[local]'"
        )


def build_int8(source: Path, target: Path) -> None:
    """Writes the int8 ONNX model of the safetensors file `source` to `target`: the same bytes each time.

    Blocking, some 3 s and 500 MB of memory. Raises ConfigError without the libraries, BadResponse when the
    file is no such model, or when the int8 model does not say what the float32 one does.
    """
    check_libraries()
    from onnxruntime.quantization import QuantType, quantize_dynamic  # type: ignore[import-untyped]

    try:
        model = float_model(read_safetensors(source))
    except (ValueError, KeyError) as error:
        raise _wrong(f"{source.name} is not the model that it should be ({error!r}); report it") from error
    quantize_dynamic(model, target, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8)
    least = _least_cosine(model.SerializeToString(), target)
    if not least >= MIN_COSINE:
        raise _wrong(
            f"The int8 model that was made is not like the original (a cosine of {least:.3f}, expected is "
            f"{MIN_COSINE}); try another version of onnxruntime"
        )


def _least_cosine(original: bytes, made: Path) -> float:
    from onnxruntime import InferenceSession  # type: ignore[import-untyped]

    cosines = []
    sessions = [
        InferenceSession(model, providers=["CPUExecutionProvider"]) for model in (original, str(made))
    ]
    for numbers in _TRIED:
        ids = np.array([numbers], np.int64)
        asked = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        one, other = (np.asarray(session.run(["vectors"], asked)[0])[0] for session in sessions)
        cosines.append(float(one @ other))
    return min(cosines)


def _wrong(message: str) -> BadResponse:
    return BadResponse(message, provider="local-embeddings", retryable=False)
