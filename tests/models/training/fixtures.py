"""Tiny graphs for `bad/`: each folder is named by the defect that `pack` has to name, and two uncommon but correct ones."""

import json
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from . import export
from .export import tensor, value


def unsupported_operator() -> bytes:
    """`stft_7`: valid ONNX that tract 0.23 cannot run (STFT of a rank-2 signal)."""
    int64 = lambda name, number: numpy_helper.from_array(np.array(number, dtype=np.int64), name)
    nodes = [
        helper.make_node("Mul", ["signal", "gain"], ["amplified"], "gain_6"),
        helper.make_node("STFT", ["amplified", "step", "", "length"], ["spectrum"], "stft_7", onesided=1),
        helper.make_node("ReduceSum", ["spectrum", "axes"], ["energy"], "sum_8", keepdims=0),
    ]
    weights = [tensor("gain", [2.0]), int64("step", 8), int64("length", 16), int64("axes", [1, 2, 3])]
    return export.model("spectrum", nodes, weights, [value("signal", ["N", 64])], [value("energy", ["N"])])


def unknown_operator() -> bytes:
    """`fuse_1`: an operator of a private domain that no runtime knows."""
    nodes = [
        helper.make_node("Relu", ["x"], ["active"], "relu_0"),
        helper.make_node("Fuse", ["active"], ["y"], "fuse_1", domain="com.example"),
    ]
    return export.model("private", nodes, [], [value("x", ["N", 4])], [value("y", ["N", 4])], check=False)


def nan_output() -> bytes:
    """`log_1`: the logarithm of a negative number, whatever the input."""
    nodes = [
        helper.make_node("Abs", ["x"], ["size"], "abs_0"),
        helper.make_node("Sub", ["minus_one", "size"], ["negative"], "negate_0"),
        helper.make_node("Log", ["negative"], ["score"], "log_1"),
    ]
    return export.model("nan", nodes, [tensor("minus_one", [-1.0])], [value("x", ["N", 4])], [value("score", ["N", 4])])


def identity_dense(inputs: int, outputs: int, name: str) -> bytes:
    """`scores` = the first `outputs` of `features`, [N, inputs] -> [N, outputs]."""
    nodes = [helper.make_node("Gemm", ["features", "weight", "bias"], ["scores"], "dense_0")]
    weights = [tensor("weight", np.eye(inputs, outputs)), tensor("bias", np.zeros(outputs))]
    return export.model(name, nodes, weights, [value("features", ["N", inputs])], [value("scores", ["N", outputs])])


def int_io() -> bytes:
    """Correct: int64, bool and float64 in, the same three kinds out.

    kept = where(mask, ids, -1); large = ids > 5; total = sum over the row of weights where mask.
    """
    int64, double, boolean = TensorProto.INT64, TensorProto.DOUBLE, TensorProto.BOOL
    constant = lambda name, number, kind: numpy_helper.from_array(np.array(number, dtype=kind), name)
    nodes = [
        helper.make_node("Where", ["mask", "ids", "missing"], ["kept"], "where_0"),
        helper.make_node("Greater", ["ids", "limit"], ["large"], "greater_1"),
        helper.make_node("Cast", ["mask"], ["chosen"], "cast_2", to=double),
        helper.make_node("Mul", ["weights", "chosen"], ["weighted"], "mul_3"),
        helper.make_node("ReduceSum", ["weighted", "axes"], ["total"], "sum_4", keepdims=0),
    ]
    constants = [
        constant("missing", [-1], np.int64),
        constant("limit", [5], np.int64),
        constant("axes", [1], np.int64),
    ]
    inputs = [value("ids", ["N", 3], int64), value("mask", ["N", 3], boolean), value("weights", ["N", 3], double)]
    outputs = [value("kept", ["N", 3], int64), value("large", ["N", 3], boolean), value("total", ["N"], double)]
    return export.model("int-io", nodes, constants, inputs, outputs)


def two_heads() -> bytes:
    """Correct: one trunk, a class head `logits` [N, 3] and a regression head `size` [N, 1]."""
    rng = np.random.default_rng(2)
    nodes = [
        helper.make_node("Gemm", ["features", "trunk.weight", "trunk.bias"], ["trunk"], "dense_0"),
        helper.make_node("Relu", ["trunk"], ["active"], "relu_1"),
        helper.make_node("Gemm", ["active", "class.weight", "class.bias"], ["logits"], "class_2"),
        helper.make_node("Gemm", ["active", "size.weight", "size.bias"], ["size"], "size_3"),
    ]
    weights = [
        tensor("trunk.weight", rng.normal(size=(4, 6))),
        tensor("trunk.bias", rng.normal(size=6)),
        tensor("class.weight", rng.normal(size=(6, 3))),
        tensor("class.bias", rng.normal(size=3)),
        tensor("size.weight", rng.normal(size=(6, 1))),
        tensor("size.bias", rng.normal(size=1)),
    ]
    outputs = [value("logits", ["N", 3]), value("size", ["N", 1])]
    return export.model("two-heads", nodes, weights, [value("features", ["N", 4])], outputs)


# Every element type of the Open Inference Protocol, with ONNX's word for it.
TYPES = (
    ("BOOL", TensorProto.BOOL),
    ("UINT8", TensorProto.UINT8),
    ("UINT16", TensorProto.UINT16),
    ("UINT32", TensorProto.UINT32),
    ("UINT64", TensorProto.UINT64),
    ("INT8", TensorProto.INT8),
    ("INT16", TensorProto.INT16),
    ("INT32", TensorProto.INT32),
    ("INT64", TensorProto.INT64),
    ("FP16", TensorProto.FLOAT16),
    ("FP32", TensorProto.FLOAT),
    ("FP64", TensorProto.DOUBLE),
    ("BYTES", TensorProto.STRING),
)


def echo() -> bytes:
    """Correct: one input and one output of each type, `in_X` and `out_X`, which is the same."""
    nodes = [helper.make_node("Identity", [f"in_{name}"], [f"out_{name}"], f"echo_{name}") for name, _ in TYPES]
    inputs = [value(f"in_{name}", ["N"], kind) for name, kind in TYPES]
    outputs = [value(f"out_{name}", ["N"], kind) for name, kind in TYPES]
    return export.model("echo", nodes, [], inputs, outputs)


def echo_request() -> dict:
    """A golden sample of `echo`: two elements of each type."""
    data = {"BOOL": [True, False], "BYTES": ["one", ""]}
    inputs = [{"name": f"in_{name}", "shape": [2], "datatype": name, "data": data.get(name, [1, 0])} for name, _ in TYPES]
    return {"inputs": inputs}


def infer_request(name: str, ids, mask, weights) -> tuple[str, dict]:
    """A golden sample of `int-io`: file name and an Open Inference Protocol v2 request of one row."""
    columns = (("ids", "INT64", ids), ("mask", "BOOL", mask), ("weights", "FP64", weights))
    inputs = [{"name": key, "shape": [1, 3], "datatype": kind, "data": data} for key, kind, data in columns]
    return name, {"inputs": inputs}


def write(root: Path) -> None:
    """One folder for each fixture, with the data that packing asks for. `wrong-shape` is a sound graph: its
    bundle.toml names five features where it takes four."""
    bad, rng = root / "bad", np.random.default_rng(4)
    whole = identity_dense(30, 8, "truncated")
    for name, content in (
        ("unsupported-operator", unsupported_operator()),
        ("unknown-operator", unknown_operator()),
        ("nan-output", nan_output()),
        ("wrong-shape", identity_dense(4, 3, "wrong-shape")),
        ("truncated", whole[: len(whole) // 2]),
        ("int-io", int_io()),
        ("stateless-two-heads", two_heads()),
        ("echo", echo()),
    ):
        export.write_bytes(bad / name / "model.onnx", content)
    rows = lambda *shape: rng.integers(-8, 9, shape).astype(np.float32) / 4
    export.write_npy(bad / "unsupported-operator" / "reference.npy", rows(8, 64))
    export.write_npy(bad / "unknown-operator" / "reference.npy", rows(8, 4))
    export.write_npy(bad / "nan-output" / "reference.npy", rows(8, 4))
    export.write_npy(bad / "truncated" / "reference.npy", rows(8, 30))
    for folder, names in (("wrong-shape", "abcde"), ("stateless-two-heads", "abcd")):
        export.write_lines(bad / folder / "reference.csv", export.csv(list(names), rows(40, len(names))))
    export.write_lines(bad / "echo" / "samples" / "one.json", [json.dumps(echo_request())])
    for name, request in (
        infer_request("one.json", [4, 6, 8], [True, False, True], [0.5, 9.0, 0.25]),
        infer_request("extremes.json", [-(2**53), 0, 2**53], [False, False, False], [1e300, -1e-300, 0.0]),
    ):
        export.write_lines(bad / "int-io" / "samples" / name, [json.dumps(request)])
