"""Writes the layers of `network` as ONNX graphs and the small files beside them, with bytes that do not depend on the clock."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from . import network

OPSET = 17
IR_VERSION = 8


def tensor(name: str, values) -> onnx.TensorProto:
    """A named float32 initializer."""
    return numpy_helper.from_array(np.ascontiguousarray(values, dtype=np.float32), name)


def nodes_of(layers, source: str, target: str):
    """(nodes, initializers) computing `target` from `source`, named layer by layer: `dense_3`, `conv_0`."""
    nodes, weights = [], []
    for index, layer in enumerate(layers):
        out = target if index == len(layers) - 1 else f"hidden_{index}"
        if isinstance(layer, network.Dense):
            name = f"dense_{index}"
            weights += [tensor(f"{name}.weight", layer.params[0]), tensor(f"{name}.bias", layer.params[1])]
            nodes.append(helper.make_node("Gemm", [source, f"{name}.weight", f"{name}.bias"], [out], name))
        elif isinstance(layer, network.Conv3x3):
            name = f"conv_{index}"
            weights += [tensor(f"{name}.weight", layer.params[0]), tensor(f"{name}.bias", layer.params[1])]
            inputs = [source, f"{name}.weight", f"{name}.bias"]
            nodes.append(helper.make_node("Conv", inputs, [out], name, kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
        elif isinstance(layer, network.Relu):
            nodes.append(helper.make_node("Relu", [source], [out], f"relu_{index}"))
        elif isinstance(layer, network.MaxPool2):
            name = f"pool_{index}"
            nodes.append(helper.make_node("MaxPool", [source], [out], name, kernel_shape=[2, 2], strides=[2, 2]))
        elif isinstance(layer, network.Flatten):
            nodes.append(helper.make_node("Flatten", [source], [out], f"flatten_{index}", axis=1))
        else:
            raise TypeError(f"no ONNX form for {type(layer).__name__}")
        source = out
    return nodes, weights


def standardise(mean, std, source: str, target: str):
    """(nodes, initializers) for (x - mean) / std."""
    nodes = [
        helper.make_node("Sub", [source, "mean"], ["centred"], "centre"),
        helper.make_node("Div", ["centred", "std"], [target], "scale"),
    ]
    return nodes, [tensor("mean", mean), tensor("std", std)]


def value(name: str, shape, dtype=TensorProto.FLOAT):
    """A graph input or output; strings in `shape` are symbolic axes."""
    return helper.make_tensor_value_info(name, dtype, shape)


def model(name: str, nodes, weights, inputs, outputs, check: bool = True) -> bytes:
    """The serialised model. `check` is off only for fixtures that are wrong on purpose."""
    graph = helper.make_graph(nodes, name, inputs, outputs, weights)
    private = sorted({node.domain for node in nodes if node.domain})
    opsets = [helper.make_opsetid("", OPSET)] + [helper.make_opsetid(domain, 1) for domain in private]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="fieldpost-tests")
    if check:
        onnx.checker.check_model(proto, full_check=True)
    return proto.SerializeToString(deterministic=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes `content`, making folders as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def write_lines(path: Path, lines) -> None:
    """One item a line, LF, UTF-8."""
    write_bytes(path, "".join(f"{line}\n" for line in lines).encode())


def csv(names, rows, extra=None) -> list[str]:
    """Header and rows; each number is the shortest text that reads back as the same float32."""
    lines = [",".join(names + ([extra[0]] if extra else []))]
    for index, row in enumerate(rows):
        cells = [np.format_float_positional(cell, unique=True, trim="0") for cell in row]
        lines.append(",".join(cells + ([extra[1][index]] if extra else [])))
    return lines


def write_npy(path: Path, array) -> None:
    """A NumPy .npy file, format 1.0, C order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.lib.format.write_array(file, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)


def write_png(path: Path, grey) -> None:
    """8-bit grey PNG, stored uncompressed so that its bytes do not depend on the zlib in use."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grey).save(path, format="PNG", compress_level=0)
