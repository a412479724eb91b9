"""An embedding model in this process, by onnxruntime. Its weights are pulled by assay.providers.weights."""

from __future__ import annotations

from assay.providers.local_embeddings.model import LocalEmbeddings

__all__ = ["LocalEmbeddings"]
