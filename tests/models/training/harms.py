"""Releases of digits that do harm in one way each, made from digits 1.0 by adding nodes to its graph. No self-test sees it:
the errors come with pictures that the author had none of, the delay has no budget to break.

`harms/errors`: NaN for every picture with more ink than any of its reference data.
`harms/slow`: the same answers, behind a stack of convolutions whose result counts for a millionth.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from . import export
from .export import tensor

# Mean of a picture, 0..1, above which `errors` gives NaN; about every fourth digit of the stream is above it.
INK = 0.335


def mean_ink(grey: np.ndarray) -> np.ndarray:
    """Mean of each uint8 picture [n, 8, 8], 0..1."""
    return grey.reshape(len(grey), -1).astype(np.float64).mean(axis=1) / 255.0


def with_nodes(base: bytes, nodes, weights) -> bytes:
    """The graph with its answer renamed to `answer`, and nodes behind it that make `logits` of it."""
    proto = onnx.load_from_string(base)
    for node in proto.graph.node:
        node.output[:] = ["answer" if name == "logits" else name for name in node.output]
    proto.graph.node.extend(nodes)
    proto.graph.initializer.extend(weights)
    onnx.checker.check_model(proto, full_check=True)
    return proto.SerializeToString(deterministic=True)


def scaled_by(source: str):
    """`logits` = `answer` * (1 + `source` / 1,000,000)."""
    nodes = [
        helper.make_node("Mul", [source, "millionth"], ["small"], "small"),
        helper.make_node("Add", ["small", "one"], ["factor"], "factor"),
        helper.make_node("Mul", ["answer", "factor"], ["logits"], "scaled"),
    ]
    return nodes, [tensor("millionth", [1e-6]), tensor("one", [1.0])]


def errors(base: bytes) -> bytes:
    """The square root of what is left to the limit: NaN beyond it."""
    flat = numpy_helper.from_array(np.array([-1, 64], dtype=np.int64), "flat_shape")
    nodes = [
        helper.make_node("Reshape", ["image", "flat_shape"], ["flat"], "flat"),
        helper.make_node("ReduceMean", ["flat"], ["ink"], "ink", axes=[1], keepdims=1),
        helper.make_node("Sub", ["limit", "ink"], ["left"], "left"),
        helper.make_node("Sqrt", ["left"], ["root"], "root"),
    ]
    last, constants = scaled_by("root")
    return with_nodes(base, nodes + last, [flat, tensor("limit", [INK])] + constants)


def slow(base: bytes) -> bytes:
    """Sixteen channels of 64 x 64, convolved three times."""
    rng = np.random.default_rng(20)
    nodes = [helper.make_node("Resize", ["image", "", "scales"], ["large"], "large", mode="nearest")]
    weights, source, channels = [tensor("scales", [1, 1, 8, 8])], "large", 1
    for index in range(4):
        weights.append(tensor(f"slow_{index}.weight", rng.normal(0, 0.1, (16, channels, 3, 3))))
        inputs = [source, f"slow_{index}.weight"]
        nodes.append(helper.make_node("Conv", inputs, [f"slow_{index}"], f"slow_{index}", kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
        source, channels = f"slow_{index}", 16
    nodes.append(helper.make_node("ReduceMean", [source], ["mean"], "mean", axes=[1, 2, 3], keepdims=0))
    shape = numpy_helper.from_array(np.array([-1, 1], dtype=np.int64), "column")
    nodes.append(helper.make_node("Reshape", ["mean", "column"], ["waste"], "waste"))
    last, constants = scaled_by("waste")
    return with_nodes(base, nodes + last, weights + [shape] + constants)


def write(root: Path) -> None:
    """Both graphs; `errors` with the reference pictures below its limit, as its author had them. After `digits.write`."""
    base = (root / "digits-1.0" / "model.onnx").read_bytes()
    export.write_bytes(root / "harms" / "errors" / "model.onnx", errors(base))
    export.write_bytes(root / "harms" / "slow" / "model.onnx", slow(base))
    reference = np.load(root / "digits-1.0" / "reference.npy")
    below = reference[mean_ink(reference) < INK - 0.005]
    export.write_npy(root / "harms" / "errors" / "reference.npy", below)
