#!/usr/bin/env python3
"""Writes nan.jsonl, half.jsonl, quantized.jsonl and types.jsonl: small graphs of ONNX's own operators, and what ONNX Runtime answers.

Of a line's form see ../ml/README.md; `agent/operators/src/standard/tests.rs` runs them all.
"""

import pathlib
import sys

import numpy as np
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "ml"))
import fixture  # noqa: E402

fixture.HERE = HERE
RANDOM = np.random.default_rng(11)
NAN, INF = float("nan"), float("inf")


def model(nodes, inputs, weights, outputs, opset=18, domains=()):
    value = lambda name, array: helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
    out = [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), None) for name, kind in outputs.items()]
    weights = [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", [value(*pair) for pair in inputs.items()], out, weights)
    opsets = [helper.make_opsetid("", opset), *[helper.make_opsetid(domain, 1) for domain in domains]]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def one(group, name, operator, inputs, weights=None, /, version=18, out=None, tolerance=None, domain="", **attributes):
    """One node over the inputs and then the weights; a weight of None is an input left out."""
    weights = weights or {}
    reads = [*inputs, *[name if array is not None else "" for name, array in weights.items()]]
    node = helper.make_node(operator, reads, ["y"], name="n", domain=domain, **attributes)
    weights = {name: array for name, array in weights.items() if array is not None}
    first = next(iter(inputs.values()))
    made = model([node], inputs, weights, {"y": out or first.dtype}, version, [domain] if domain else [])
    fixture.record(group, name, made, inputs, tolerance)


def nan():
    """Where one of the numbers is NaN, so is the answer."""
    few = np.array([NAN, -1, 0, 2, INF, -INF], np.float32)
    for kind in (np.float32, np.float64, np.float16):
        # Few numbers and many run by different routines.
        for times in (1, 16):
            x = np.tile(few, times).astype(kind)
            zeros = np.zeros_like(x)
            title = f"{np.dtype(kind)}_{x.size}"
            one("nan", f"relu_{title}", "Relu", {"x": x})
            for operator in ("Max", "Min"):
                one("nan", f"{operator}_{title}", operator, {"x": x, "z": zeros})
                one("nan", f"{operator}_back_{title}", operator, {"z": zeros, "x": x})
                one("nan", f"{operator}_of_one_{title}", operator, {"z": zeros, "x": x[:1]})
                one("nan", f"{operator}_rows_{title}", operator, {"x": np.stack([x, zeros]), "z": zeros})
            one("nan", f"clip_{title}", "Clip", {"x": x}, {"low": np.array(-1, kind), "high": np.array(1, kind)})
        rows = np.full((4, 40), 1, kind)
        rows[0, 0] = rows[1, 21] = rows[2, 39] = NAN
        rows[3] = np.arange(40)
        for operator in ("ReduceMax", "ReduceMin"):
            # ONNX Runtime sees a NaN or passes it over by where it lies; numpy always sees it.
            for axes in ([1], [0], [0, 1]):
                weights = {"axes": np.array(axes)}
                node = helper.make_node(operator, ["x", "axes"], ["y"], keepdims=0)
                answer = getattr(np, operator[6:].lower())(rows, axis=tuple(axes))
                fixture.keep("nan", f"{operator}_{axes}_{np.dtype(kind)}", model([node], {"x": rows}, weights, {"y": kind}), {"x": rows}, [answer])
    # After a product of matrices, with which tract joins it.
    picture = RANDOM.normal(size=(1, 3, 9, 9)).astype(np.float32)
    picture[0, 0, 4, 4] = NAN
    kernel = RANDOM.normal(size=(8, 3, 3, 3)).astype(np.float32)
    for name, last in (("relu", helper.make_node("Relu", ["c"], ["y"])), ("clip", helper.make_node("Clip", ["c", "low", "high"], ["y"]))):
        weights = {"w": kernel, "low": np.float32(0), "high": np.float32(6)}
        nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), last]
        fixture.record("nan", f"conv_{name}", model(nodes, {"x": picture}, weights, {"y": np.float32}), {"x": picture})
        # A chain of operators on each number.
        nodes = [helper.make_node("Mul", ["x", "two"], ["m"]), helper.make_node("Add", ["m", "three"], ["c"]), last]
        weights |= {"two": np.full((3, 1, 1), 2, np.float32), "three": np.full((3, 1, 1), 3, np.float32)}
        fixture.record("nan", f"chain_{name}", model(nodes, {"x": picture}, weights, {"y": np.float32}), {"x": picture})


def half():
    """Sums that float16 does not hold, on the way to answers that it does."""
    half = np.float16
    tolerance = {"abs": 1e-3, "rel": 2e-3}
    picture = np.full((1, 2, 40, 40), 300, half)
    picture[0, 1] = np.linspace(-1, 1, 1600).reshape(40, 40)
    rows = np.full((2, 300), 400, half)
    rows[1] = np.linspace(100, 300, 300)
    small = RANDOM.normal(size=(2, 5000)).astype(half)

    def keep(name, operator, x, weights=None, /, **more):
        one("half", name, operator, {"x": x}, weights, tolerance=tolerance, **more)

    keep("average", "AveragePool", picture, kernel_shape=[30, 30])
    keep("average_padded", "AveragePool", picture, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    keep("global_average", "GlobalAveragePool", picture)
    for name in ("Mean", "Sum", "L1", "L2", "SumSquare", "LogSum", "LogSumExp"):
        for what, x in (("large", rows), ("long", np.abs(small))):
            keep(f"{name}_{what}", f"Reduce{name}", x, {"axes": np.array([1])})
    keep("mean_by_attribute", "ReduceMean", rows, version=13, axes=[1], keepdims=0)
    for p in (1, 2):
        keep(f"lp_{p}", "LpNormalization", rows, axis=1, p=p)
    parts = {"s": np.array([1, 2], half), "b": np.array([0, 0.5], half)}
    keep("instance", "InstanceNormalization", picture, parts)
    keep("group", "GroupNormalization", picture, parts, num_groups=2, version=21)
    keep("local", "LRN", picture, size=3)
    parts = {"s": np.linspace(0, 1, 300).astype(half), "b": np.full(300, 0.5, half)}
    keep("layer", "LayerNormalization", rows, parts)
    keep("root_mean_square", "RMSNormalization", rows, {"s": parts["s"]}, version=23)
    keep("softmax_long", "Softmax", np.zeros((1, 70000), half), axis=-1)
    keep("softmax", "Softmax", small, axis=-1)
    keep("log_softmax", "LogSoftmax", np.zeros((1, 70000), half), axis=-1)
    keep("running", "CumSum", small, {"axis": np.array(1)})
    keep("product", "MatMul", np.full((3, 4096), 8, half), {"w": np.full((4096, 2), 0.01, half)})
    keep("gemm", "Gemm", np.full((3, 4096), 8, half), {"w": np.full((4096, 2), 0.01, half), "b": np.ones(2, half)})
    keep("convolution", "Conv", picture, {"w": np.full((4, 2, 5, 5), 0.1, half), "b": np.ones(4, half)})
    small_kernel = np.full((2, 1, 7, 7), 0.1, half)
    keep("by_channel", "Conv", picture, {"w": small_kernel, "b": np.ones(2, half)}, group=2)


def quantized():
    """What ONNX Runtime's static quantiser writes as `QOperator`; a level may fall to either side."""
    level = {"abs": 1, "rel": 0}
    byte = lambda *shape: RANDOM.integers(0, 255, shape).astype(np.uint8)
    signed = lambda *shape: RANDOM.integers(-127, 127, shape).astype(np.int8)
    scale = lambda value: np.float32(value)
    picture, zero = byte(1, 3, 8, 8), np.uint8(120)
    ms = "com.microsoft"

    def keep(name, operator, x, weights, domain=ms, /, **more):
        one("quantized", name, operator, {"x": x}, weights, tolerance=level, domain=domain, **more)

    for name, scales, zeros in (("whole", scale(0.01), np.int8(0)), ("channels", np.linspace(0.005, 0.02, 4).astype(np.float32), np.zeros(4, np.int8))):
        parts = {"xs": scale(0.02), "xz": zero, "w": signed(4, 3, 3, 3), "ws": scales, "wz": zeros, "ys": scale(0.1), "yz": np.uint8(100)}
        keep(f"conv_{name}", "QLinearConv", picture, parts, "", pads=[1, 1, 1, 1])
        keep(f"conv_bias_{name}", "QLinearConv", picture, parts | {"b": np.array([100, -2000, 3000, 5], np.int32)}, "", strides=[2, 2])
        columns = {"xs": scale(0.02), "xz": zero, "w": signed(6, 4), "ws": scales, "wz": zeros}
        keep(f"matmul_{name}", "QLinearMatMul", byte(5, 6), columns | {"ys": scale(0.05), "yz": np.uint8(128)}, "")
        bias = {"b": np.array([100, -2000, 3000, 5], np.int32)}
        out = {"ys": scale(0.05), "yz": np.uint8(128)}
        keep(f"gemm_{name}", "QGemm", byte(5, 6), columns | bias | out)
        turned = columns | {"w": signed(4, 6)}
        keep(f"gemm_turned_{name}", "QGemm", byte(5, 6), turned | {"b": None} | out, transB=1)
        one("quantized", f"gemm_real_{name}", "QGemm", {"x": byte(5, 6)}, columns | bias, domain=ms, out=np.float32, transB=0)
    for dtype, make, zero in ((np.uint8, byte, np.uint8(120)), (np.int8, signed, np.int8(-3))):
        x, title = make(1, 3, 8, 8), np.dtype(dtype)
        first, out = {"xs": scale(0.02), "xz": zero}, {"ys": scale(0.03), "yz": zero}
        second = {"o": make(1, 3, 8, 8), "os": scale(0.04), "oz": dtype(7)}
        for operator in ("QLinearAdd", "QLinearMul"):
            keep(f"{operator}_{title}", operator, x, first | second | out)
        keep(f"sigmoid_{title}", "QLinearSigmoid", x, first | {"ys": scale(1 / 256), "yz": dtype(0)})
        keep(f"leaky_{title}", "QLinearLeakyRelu", x, first | out, alpha=0.2)
        keep(f"softmax_{title}", "QLinearSoftmax", x, first | {"ys": scale(1 / 256), "yz": dtype(0)}, axis=-1, opset=18)
        keep(f"average_{title}", "QLinearAveragePool", x, first | out, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
        keep(f"global_average_{title}", "QLinearGlobalAveragePool", x, first | out, channels_last=0)
        node = helper.make_node("QLinearConcat", ["ys", "yz", "x", "xs", "xz", "o", "os", "oz"], ["y"], domain=ms, axis=1)
        made = model([node], {"x": x}, first | second | out, {"y": dtype}, domains=[ms])
        fixture.record("quantized", f"concat_{title}", made, {"x": x}, level)


def types():
    """Types that are rare: weights of 4 bits, blocks of them, booleans compared, binary64 asked."""
    few = np.array([1, INF, -INF, NAN])
    one("types", "is_inf", "IsInf", {"x": few}, version=20, out=np.bool_)
    one("types", "is_inf_above", "IsInf", {"x": few}, version=20, out=np.bool_, detect_negative=0)
    one("types", "is_inf_below", "IsInf", {"x": few}, version=20, out=np.bool_, detect_positive=0)
    one("types", "is_nan", "IsNaN", {"x": few}, version=20, out=np.bool_)
    flags = np.array([[True, False, True], [False, False, True]])
    one("types", "equal", "Equal", {"a": flags, "b": ~flags[:1]}, out=np.bool_)
    x = RANDOM.normal(size=(2, 5)).astype(np.float32)
    for kind, least in ((TensorProto.INT4, -8), (TensorProto.UINT4, 0)):
        for name, shape, scales, more in (("channels", [3], [3], {"axis": 1}), ("blocks", [3, 3], [3, 3], {"axis": 0, "block_size": 2}),
                                          ("blocks_behind", [5, 2], [5, 2], {"axis": 1, "block_size": 2})):
            for raw in (False, True):
                draw = lambda shape: RANDOM.integers(least, least + 16, shape)
                four = lambda name, shape: helper.make_tensor(name, kind, shape, draw(shape).reshape(-1))
                weights = [four("w", [5, 3]), numpy_helper.from_array(RANDOM.random(scales).astype(np.float32), "s"), four("z", shape)]
                if raw:
                    for weight in (weights[0], weights[2]):
                        weight.raw_data = bytes(pair & 0xFF for pair in weight.int32_data)
                        weight.ClearField("int32_data")
                nodes = [helper.make_node("DequantizeLinear", ["w", "s", "z"], ["r"], **more), helper.make_node("MatMul", ["x", "r"], ["y"])]
                made = model(nodes, {"x": x}, {}, {"y": np.float32}, 21)
                made.graph.initializer.extend(weights)
                made.ir_version = 10
                # ONNX Runtime may join the two by its own product of 4 bits, which rounds the input: it answers by the spec with that off.
                plain = fixture.ort.SessionOptions()
                plain.graph_optimization_level = fixture.ort.GraphOptimizationLevel.ORT_DISABLE_ALL
                answer = fixture.ort.InferenceSession(made.SerializeToString(), plain, providers=["CPUExecutionProvider"]).run(None, {"x": x})
                title = f"{TensorProto.DataType.Name(kind)}_{name}_{'raw' if raw else 'listed'}"
                fixture.keep("types", title, made, {"x": x}, answer)


if __name__ == "__main__":
    for group in (nan, half, quantized, types):
        group()
    fixture.write()
