"""A BERT encoder's weights as an ONNX model that gives sentence vectors, in float32.

Making it smaller is the business of .build, running it that of .encoder.

The graph is BERT as published (Devlin et al. 2019) with the pooling of Sentence-BERT (Reimers and Gurevych
2019): the mean of the last layer over the tokens that are not padding, scaled to length 1.

    input_ids, attention_mask: int64 [texts, tokens]  ->  vectors: float32 [texts, width]
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

OPSET: Final = 20
IR_VERSION: Final = 10
_TYPES: Final = {"F32": "<f4", "I64": "<i8"}


class Shape(NamedTuple):
    """What the tensors do not tell of the model."""

    heads: int
    epsilon: float = 1e-12


MINILM: Final = Shape(heads=12)


def read_safetensors(path: Path) -> dict[str, Array]:
    """The tensors of a safetensors file by name. Raises ValueError for what is none."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    try:
        header: dict[str, Any] = json.loads(data[8:start])
        header.pop("__metadata__", None)
        return {
            name: np.frombuffer(
                data, _TYPES[said["dtype"]], _count(said["shape"]), start + said["data_offsets"][0]
            ).reshape(said["shape"])
            for name, said in header.items()
        }
    except (KeyError, TypeError, AttributeError, RecursionError, ValueError) as error:
        raise ValueError(f"{path.name} is not a safetensors file of float32 tensors ({error!r})") from error


def _count(shape: list[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def float_model(tensors: Mapping[str, Array], shape: Shape = MINILM) -> Any:
    """The ONNX model, float32. Raises KeyError when a tensor is missing."""
    import onnx

    graph = _Graph(tensors, shape)
    graph.embeddings()
    layer = 0
    while f"encoder.layer.{layer}.output.dense.weight" in tensors:
        graph.layer(f"encoder.layer.{layer}.")
        layer += 1
    graph.pooling()
    kinds = onnx.TensorProto
    inputs = [
        onnx.helper.make_tensor_value_info(name, kinds.INT64, ["texts", "tokens"])
        for name in ("input_ids", "attention_mask")
    ]
    output = onnx.helper.make_tensor_value_info("vectors", kinds.FLOAT, ["texts", graph.width])
    made = onnx.helper.make_graph(graph.nodes, "sentence_vectors", inputs, [output], graph.constants)
    model = onnx.helper.make_model(
        made,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        producer_name="assay",
        ir_version=IR_VERSION,
    )
    # What onnxruntime's quantiser asks for is done: nothing in this graph can be folded.
    onnx.helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})
    onnx.checker.check_model(model)
    return model


class _Graph:
    """The nodes, one after the other; `_here` is the name of what the last one gave."""

    def __init__(self, tensors: Mapping[str, Array], shape: Shape) -> None:
        self._tensors = tensors
        self._shape = shape
        self._here = ""
        self._names: set[str] = set()
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.width = int(tensors["embeddings.word_embeddings.weight"].shape[1])

    def embeddings(self) -> None:
        words = self._constant("words", self._tensors["embeddings.word_embeddings.weight"])
        kinds = self._tensors["embeddings.token_type_embeddings.weight"]  # all tokens are of the first kind
        places = self._constant("places", self._tensors["embeddings.position_embeddings.weight"] + kinds[0])
        length = self._add("Shape", ["input_ids"], start=1, end=2)
        zero, one = (self._constant(f"int_{number}", np.array([number])) for number in (0, 1))
        seen = self._add("Slice", [places, zero, length, zero, one])
        found = self._add("Gather", [words, "input_ids"])
        self._here = self._normed(self._add("Add", [found, seen]), "embeddings.LayerNorm")
        # What is added to the scores: 0 for a token, -10,000 for padding, over [texts, heads, from, to].
        axes = self._constant("head_axes", np.array([1, 2]))
        mask = self._add("Cast", [self._add("Unsqueeze", ["attention_mask", axes])], to=1)
        absent = self._add("Sub", [mask, self._float("float_1", 1.0)])
        self._mask = self._add("Mul", [absent, self._float("far", 10_000.0)])

    def layer(self, name: str) -> None:
        before, attention = self._here, f"{name}attention."
        query, key, value = (
            self._by_head(self._linear(before, f"{attention}self.{what}"), last)
            for what, last in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3]))
        )
        scale = self._float("scale", (self.width / self._shape.heads) ** -0.5)
        scores = self._add("Mul", [self._add("MatMul", [query, key]), scale])
        shares = self._add("Softmax", [self._add("Add", [scores, self._mask])], axis=-1)
        heard = self._add("Transpose", [self._add("MatMul", [shares, value])], perm=[0, 2, 1, 3])
        joined = self._add("Reshape", [heard, self._constant("joined", np.array([0, 0, self.width]))])
        said = self._linear(joined, f"{attention}output.dense")
        middle = self._normed(self._add("Add", [said, before]), f"{attention}output.LayerNorm")
        wide = self._add("Gelu", [self._linear(middle, f"{name}intermediate.dense")])
        narrow = self._linear(wide, f"{name}output.dense")
        self._here = self._normed(self._add("Add", [narrow, middle]), f"{name}output.LayerNorm")

    def pooling(self) -> None:
        last = self._constant("last_axis", np.array([2]))
        mask = self._add("Cast", [self._add("Unsqueeze", ["attention_mask", last])], to=1)
        over = self._constant("token_axis", np.array([1]))
        total = self._add("ReduceSum", [self._add("Mul", [self._here, mask]), over], keepdims=0)
        self._add("LpNormalization", [total], ["vectors"], axis=1, p=2)  # the mean has the same direction

    def _by_head(self, source: str, order: list[int]) -> str:
        heads = self._shape.heads
        split = self._constant("split", np.array([0, 0, heads, self.width // heads]))
        return self._add("Transpose", [self._add("Reshape", [source, split])], perm=order)

    def _linear(self, source: str, name: str) -> str:
        weight = self._constant(f"{name}.weight", np.ascontiguousarray(self._tensors[f"{name}.weight"].T))
        bias = self._constant(f"{name}.bias", self._tensors[f"{name}.bias"])
        return self._add("Add", [self._add("MatMul", [source, weight]), bias])

    def _normed(self, source: str, name: str) -> str:
        weight, bias = (
            self._constant(f"{name}.{what}", self._tensors[f"{name}.{what}"]) for what in ("weight", "bias")
        )
        return self._add("LayerNormalization", [source, weight, bias], axis=-1, epsilon=self._shape.epsilon)

    def _float(self, name: str, value: float) -> str:
        return self._constant(name, np.array(value, np.float32))

    def _constant(self, name: str, value: Array) -> str:
        if name not in self._names:
            import onnx

            self._names.add(name)
            self.constants.append(onnx.numpy_helper.from_array(value, name))
        return name

    def _add(self, kind: str, inputs: list[str], outputs: list[str] | None = None, **attributes: Any) -> str:
        import onnx

        names = outputs or [f"{kind}_{len(self.nodes)}"]
        self.nodes.append(
            onnx.helper.make_node(kind, inputs, names, name=f"n{len(self.nodes)}", **attributes)
        )
        return names[0]
