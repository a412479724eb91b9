"""The encoder itself, through onnxruntime and tokenizers; calls and turns are the business of .model.

Texts are encoded one by one. The int8 model rounds its activations by the largest in the batch, so a text
among others would get another vector than alone (cosines down to .976 were measured); and batches of long
texts are no faster.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from assay.errors import ProviderError, ProviderUnavailable

MODEL: Final = "model.int8.onnx"
TOKENIZER: Final = "tokenizer.json"

_PULL: Final = "run 'assay models pull local-embeddings'"
_NO_WEIGHTS: Final = f"The embedding model's weights are not there; {_PULL}"


class Encoder(Protocol):
    """A loaded model. Its calls block."""

    width: int
    """How many numbers a vector has."""

    def tokens(self, text: str) -> list[int]:
        """With the two that mark beginning and end. Raises ValueError for what is not Unicode text."""
        ...

    def vector(self, tokens: Sequence[int]) -> list[float]:
        """Of length 1. Raises ProviderError."""
        ...


def missing(folder: Path | None) -> ProviderUnavailable | None:
    """What `open_encoder` would lack at once: a library, or a file."""
    lacking = [name for name in ("onnxruntime", "tokenizers") if importlib.util.find_spec(name) is None]
    if lacking:
        return _unavailable(
            f"The embedding model needs {' and '.join(lacking)}; run: pip install 'assay[local]'"
        )
    if folder is None:
        return _unavailable(_NO_WEIGHTS)
    for name in (MODEL, TOKENIZER):
        if not (folder / name).is_file():
            return _unavailable(f"There is no file {folder / name}; {_PULL}")
    return None


def open_encoder(folder: Path | None, threads: int) -> Encoder:
    """Loads the model in `folder` (MODEL and TOKENIZER). Blocking, 0.2 s for 23 MB.

    Raises ProviderUnavailable, not retryable, saying what to do.
    """
    if problem := missing(folder):
        raise problem
    assert folder is not None
    return _Onnx(folder, threads)


class _Onnx:
    def __init__(self, folder: Path, threads: int) -> None:
        import onnxruntime  # type: ignore[import-untyped]
        import tokenizers

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        # Waiting threads that spin would take the cores from everything else in this process.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(folder / TOKENIZER))
            self._session: Any = onnxruntime.InferenceSession(
                str(folder / MODEL), options, providers=["CPUExecutionProvider"]
            )
            self.width = int(self._session.get_outputs()[0].shape[1])
        except Exception as error:  # these libraries' errors have no type of their own in common
            raise _unavailable(
                f"The embedding model in {folder} cannot be loaded: it is damaged, or of another kind; run "
                f"'assay models pull local-embeddings --verify' ({error})"
            ) from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def tokens(self, text: str) -> list[int]:
        text.encode()  # half of a surrogate pair is no text
        return list(self._tokenizer.encode(text).ids)

    def vector(self, tokens: Sequence[int]) -> list[float]:
        import numpy as np  # only now, as the rest of the program starts without it

        ids = np.array([tokens], np.int64)
        asked = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        try:
            (vectors,) = self._session.run(["vectors"], asked)
        except Exception as error:  # as above
            raise ProviderError(f"onnxruntime failed: {error}", retryable=False) from error
        return [float(number) for number in vectors[0].tolist()]


def _unavailable(message: str) -> ProviderUnavailable:
    return ProviderUnavailable(message, retryable=False)
