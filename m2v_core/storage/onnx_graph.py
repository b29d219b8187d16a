"""Builds the ONNX graph of a static model node by node, without torch or tracing.

    input_ids (batch, sequence) -> rows -> last_hidden_state (batch, sequence, dim)
    attention_mask                      -> embeddings, sentence_embedding (batch, dim)
                                           -> layers of the head -> logits, probabilities (batch, n_labels)

Source: the only output of model2vec 0.10's exports is `embeddings`, or `probabilities` for a classifier, so programs
for it use the first output; Sentence Transformers' own ONNX models name the pooled output `sentence_embedding`; the
pipelines of transformers.js use `last_hidden_state` or `logits`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from m2v_core._version import __version__
from m2v_core.errors import InputError, NeedsExtra
from m2v_core.storage.formats import StoredModel

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto

# Old enough for every runtime of recent years; the graph needs nothing newer.
_OPSET = 17
_IR_VERSION = 8
_MAX_BYTES = 2 * 10**9  # limit of one protocol buffer, minus room for the nodes


@dataclass(frozen=True)
class OnnxHead:
    """The head of a classifier or regression, for the graph.

    Attributes:
        layers: (n_outputs, n_inputs) weights and (n_outputs,) biases of each layer, float32, with ReLU between them.
        labels: Labels of the outputs, as text; empty for numbers.
        is_multi_label: Whether the output activation is a sigmoid instead of softmax.
    """

    layers: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]
    labels: tuple[str, ...]
    is_multi_label: bool


def build_onnx(stored: StoredModel, unk_token_id: int | None, head: OnnxHead | None = None) -> ModelProto:
    """Build a graph that computes `StaticModel.encode` from token ids, and `predict_proba` with a head.

    Its inputs are `input_ids` and `attention_mask`, both (batch, sequence) int64; a `sequence` of 0 is allowed. Its
    outputs are float32, whatever the dtype of the table: `embeddings` (batch, dim), the mean over known tokens, of unit
    length if the model normalizes and zeros without known tokens; `sentence_embedding`, the same; and
    `last_hidden_state` (batch, sequence, dim), each token's weighted row, zeros for padding and unknown tokens. With a
    head, `probabilities` and `logits`, both (batch, n_labels), come first, or `predictions` (batch, n_outputs) without
    labels.

    Args:
        stored: The model. Its table, weights and mapping go into the graph unchanged.
        unk_token_id: Token excluded from every mean; None if there is none.
        head: Head of a classifier or regression; None for embeddings only.

    Raises:
        InputError: The table is too large for a graph in one file.
        MissingExtraError: onnx is not installed.
    """
    with NeedsExtra("onnx", "export"):
        from onnx import TensorProto, helper, numpy_helper

    arrays: dict[str, NDArray[Any]] = {"table": stored.token_embeddings}
    if stored.token_mapping is not None:
        arrays["mapping"] = stored.token_mapping.astype(np.int64)
    if stored.weights is not None:
        arrays["weights"] = stored.weights.astype(np.float32)
    n_bytes = sum(array.nbytes for array in arrays.values())
    if n_bytes > _MAX_BYTES:
        raise InputError(
            f"The table has {n_bytes:,} bytes, but an ONNX file can have at most {_MAX_BYTES:,}. Load the model with "
            "quantize_to='int8' or fewer dimensions (dimensionality), save it, and export that."
        )
    arrays |= {
        "none": np.array(-1 if unk_token_id is None else unk_token_id, dtype=np.int64),
        "one": np.array(1, dtype=np.float32),
        "sequence_axis": np.array([1], dtype=np.int64),
        "last_axis": np.array([-1], dtype=np.int64),
    }

    nodes = []

    def node(operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    # Mask of the tokens that count: (batch, sequence, 1) of 0 and 1.
    is_unknown = node("Equal", ["input_ids", "none"], "is_unknown")
    is_known = node("Not", [is_unknown], "is_known")
    is_attended = node("Cast", ["attention_mask"], "is_attended", to=TensorProto.BOOL)
    counts = node("And", [is_known, is_attended], "counts")
    counts_as_float = node("Cast", [counts], "counts_as_float", to=TensorProto.FLOAT)
    factor = known = node("Unsqueeze", [counts_as_float, "last_axis"], "known")
    # Their rows: (batch, sequence, dim).
    rows = "input_ids"
    if stored.token_mapping is not None:
        rows = node("Gather", ["mapping", rows], "row_numbers")
    vectors = node("Gather", ["table", rows], "stored_vectors")
    if stored.token_embeddings.dtype != np.float32:
        vectors = node("Cast", [vectors], "vectors", to=TensorProto.FLOAT)
    if stored.weights is not None:
        token_weights = node("Gather", ["weights", "input_ids"], "token_weights")
        factor = node("Mul", [node("Unsqueeze", [token_weights, "last_axis"], "scale"), factor], "weighted_factor")
    node("Mul", [vectors, factor], "last_hidden_state")
    # Their mean: (batch, dim).
    total = node("ReduceSum", ["last_hidden_state", "sequence_axis"], "total", keepdims=0)
    n_tokens = node("ReduceSum", [known, "sequence_axis"], "n_tokens", keepdims=0)
    divisor = node("Max", [n_tokens, "one"], "divisor")
    pooled = "mean" if stored.normalize else "embeddings"
    node("Div", [total, divisor], pooled)
    if stored.normalize:
        squares = node("ReduceSum", [node("Mul", [pooled, pooled], "squared"), "last_axis"], "squares", keepdims=1)
        length = node("Sqrt", [squares], "length")
        has_length = node("Cast", [length], "has_length", to=TensorProto.BOOL)
        node("Div", [pooled, node("Where", [has_length, length, "one"], "norm")], "embeddings")
    node("Identity", ["embeddings"], "sentence_embedding")

    dim = stored.token_embeddings.shape[1]
    shapes = {
        "embeddings": ["batch", dim],
        "sentence_embedding": ["batch", dim],
        "last_hidden_state": ["batch", "sequence", dim],
    }
    if head is not None:
        n_hidden, outputs, last = len(head.layers) - 1, "embeddings", "logits" if head.labels else "predictions"
        width = len(head.layers[-1][1]) if head.layers else dim
        for number, (weight, bias) in enumerate(head.layers):
            arrays |= {f"weight_{number}": weight, f"bias_{number}": bias}
            inputs = [outputs, f"weight_{number}", f"bias_{number}"]
            outputs = node("Gemm", inputs, f"layer_{number}" if number < n_hidden else last, transB=1)
            if number < n_hidden:
                outputs = node("Relu", [outputs], f"activation_{number}")
        if not head.layers:
            node("Identity", ["embeddings"], last)
        if head.labels:
            node("Sigmoid" if head.is_multi_label else "Softmax", ["logits"], "probabilities")
        of_head = ("probabilities", "logits") if head.labels else ("predictions",)
        shapes = {name: ["batch", width] for name in of_head} | shapes
    graph = helper.make_graph(
        nodes,
        "static_model",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in arrays.items()],
    )
    return helper.make_model(
        graph,
        ir_version=_IR_VERSION,
        opset_imports=[helper.make_opsetid("", _OPSET)],
        producer_name="m2v-studio",
        producer_version=__version__,
    )
