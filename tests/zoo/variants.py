"""Small graphs of opsets 7 to 21, for what the newest tests of the `onnx` package leave out: older meanings of an operator, and
attributes in combination. One input `x` of float32 each."""

import itertools

import numpy as np
from onnx import TensorProto, helper, numpy_helper

SEED = 3
RANDOM = np.random.default_rng(SEED)


def noise(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


def floats(*values):
    return np.array(values, np.float32)


def graph(name, opset, nodes, x, weights=None, outputs=("y",)):
    x = noise(*x) if isinstance(x, list) else x
    tensor = helper.make_tensor_value_info
    inner = helper.make_graph(
        nodes, "g", [tensor("x", TensorProto.FLOAT, x.shape)], [tensor(output, TensorProto.FLOAT, None) for output in outputs],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in (weights or {}).items()])
    model = helper.make_model(inner, opset_imports=[helper.make_opsetid("", opset)], ir_version=6 if opset >= 10 else 4)
    return name, model, {"x": x}


def one(operator, opset, shape, weights=None, outputs=("y",), label="", **attributes):
    """One operator whose first input is `x` and whose others are the weights; integers come out as float32."""
    node = helper.make_node(operator, ["x", *(weights or {})], list(outputs), **attributes)
    text = "-".join(str(value) for value in attributes.values())
    return graph("-".join(filter(None, [operator, str(opset), label or text])), opset, [node], shape, weights, outputs)


def as_float(operator, opset, shape, weights=None, outputs=("y", "indices"), **attributes):
    """One operator with an integer among its outputs."""
    inner = [output if output == "y" else "int_" + output for output in outputs]
    nodes = [helper.make_node(operator, ["x", *(weights or {})], inner, **attributes)]
    nodes += [helper.make_node("Cast", ["int_" + output], [output], to=TensorProto.FLOAT) for output in outputs if output != "y"]
    return graph(f"{operator}-{opset}", opset, nodes, shape, weights, outputs)


def activations():
    for opset, operator in itertools.product([7, 9, 11, 12, 13], ["Softmax", "LogSoftmax", "Hardmax"]):
        yield one(operator, opset, [2, 3, 4, 5])
        yield one(operator, opset, [2, 3, 4, 5], axis=2)
    yield one("Softmax", 11, [2, 3, 4], axis=-1)
    for operator, opset, attributes in [
        ("Selu", 9, {"alpha": 1.5, "gamma": 1.1}), ("Elu", 9, {"alpha": 1.5}), ("LeakyRelu", 9, {"alpha": 0.3}),
        ("HardSigmoid", 9, {"alpha": 0.3, "beta": 0.4}), ("Celu", 12, {"alpha": 2.0}), ("ThresholdedRelu", 10, {"alpha": 0.3}),
        ("Shrink", 9, {"lambd": 0.5, "bias": 0.1}), ("Gelu", 20, {"approximate": "tanh"}), ("Mish", 18, {}), ("Erf", 9, {}), ("Sign", 9, {}),
    ]:
        yield one(operator, opset, [2, 6], **attributes)
    yield one("PRelu", 9, [2, 3, 4, 4], {"slope": floats(0.1, 0.2, 0.3).reshape(3, 1, 1)})
    yield one("Round", 11, floats(0.5, 1.5, 2.5, -0.5, -1.5, 0.4, 0.6, -2.5))


def sizes():
    half = {"scales": floats(1, 1, 2.5, 1.5)}
    for scale, mode in itertools.product([2, 3], ["nearest", "linear"]):
        yield one("Upsample", 9, [1, 2, 4, 4], {"scales": floats(1, 1, scale, scale)}, label=f"{mode}-{scale}", mode=mode)
    yield one("Upsample", 9, [1, 2, 4, 4], half, label="nearest-2.5", mode="nearest")
    yield one("Upsample", 7, [1, 2, 3, 3], mode="nearest", scales=[1.0, 1.0, 2.0, 2.0])
    for scale in [2, 3, 4, 1.5, 0.5, 0.6]:
        scales = {"scales": floats(1, 1, scale, scale)}
        for mode in ["nearest", "linear"]:
            yield one("Resize", 10, [1, 2, 10, 10], scales, label=f"{mode}-{scale}", mode=mode)
            yield one("Resize", 10, [1, 2, 10, 10], {"scales": floats(1, 1, 2, scale)}, label=f"{mode}-2-{scale}", mode=mode)
        for place in ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]:
            for rounding in ["round_prefer_floor", "floor", "ceil"]:
                yield one("Resize", 11, [1, 2, 10, 10], {"roi": floats(), **scales}, label=f"nearest-{scale}-{place}-{rounding}",
                          mode="nearest", coordinate_transformation_mode=place, nearest_mode=rounding)
            for mode in ["linear", "cubic"]:
                yield one("Resize", 13, [1, 2, 10, 10], {"roi": floats(), **scales}, label=f"{mode}-{scale}-{place}", mode=mode,
                          coordinate_transformation_mode=place)
    # Sizes that are no multiples: corners are aligned by whole ones.
    for scale, opset in itertools.product([(1.75, 1.3), (0.6, 0.7)], [11, 18]):
        weights = {"roi": floats(), "scales": floats(1, 1, *scale)} if opset == 11 else {"roi": floats(), "scales": floats(*scale)}
        for attributes in [
            {"mode": "nearest"}, {"mode": "nearest", "nearest_mode": "floor"}, {"mode": "nearest", "nearest_mode": "ceil"},
            {"mode": "nearest", "nearest_mode": "round_prefer_ceil"}, {"mode": "linear"}, {"mode": "cubic"},
            {"mode": "cubic", "cubic_coeff_a": -0.5}, {"mode": "cubic", "exclude_outside": 1},
        ]:
            label = "-".join(map(str, ["aligned", *scale, *attributes.values()]))
            yield one("Resize", opset, [1, 2, 10, 7], weights, label=label, coordinate_transformation_mode="align_corners", **attributes,
                      **({} if opset == 11 else {"axes": [2, 3]}))
    for mode in ["constant", "reflect", "edge"]:
        yield one("Pad", 10, [1, 2, 4, 4], mode=mode, pads=[0, 0, 1, 1, 0, 0, 2, 1], value=3.0)
    yield one("GridSample", 16, [1, 2, 4, 5], {"grid": RANDOM.uniform(-1.2, 1.2, (1, 3, 3, 2)).astype(np.float32)},
              mode="bilinear", align_corners=1, padding_mode="border")
    for mode in ["CRD", "DCR"]:
        yield one("DepthToSpace", 11, [1, 8, 2, 3], blocksize=2, mode=mode)
    yield one("SpaceToDepth", 11, [1, 2, 4, 6], blocksize=2)


def windows():
    kernel = {"weight": noise(4, 3, 3, 3)}
    for padding, stride in itertools.product(["SAME_UPPER", "SAME_LOWER", "VALID"], [1, 2, 3]):
        common = {"auto_pad": padding, "strides": [stride, stride]}
        yield one("Conv", 11, [1, 3, 9, 10], kernel, **common)
        yield one("ConvTranspose", 11, [1, 4, 5, 6], kernel, **common)
        for operator in ["MaxPool", "AveragePool"]:
            yield one(operator, 11, [1, 3, 9, 10], kernel_shape=[3, 3], **common)
    for ceil, counted in itertools.product([0, 1], [0, 1]):
        yield one("AveragePool", 11, [1, 3, 8, 9], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=ceil,
                  count_include_pad=counted)
    for ceil in [0, 1]:
        yield one("MaxPool", 11, [1, 3, 9, 10], kernel_shape=[3, 3], strides=[2, 2], dilations=[2, 2], ceil_mode=ceil)
    for stride, more, pads, dilations, group in [
        (2, [1, 1], [1, 1, 1, 1], [1, 1], 1), (2, [0, 0], [0, 0, 0, 0], [2, 2], 1), (3, [2, 1], [1, 0, 1, 0], [1, 1], 2),
        (1, [0, 0], [2, 2, 2, 2], [1, 1], 1),
    ]:
        yield one("ConvTranspose", 11, [1, 4, 5, 6], kernel, strides=[stride, stride], output_padding=more, pads=pads,
                  dilations=dilations, group=group)
    yield one("ConvTranspose", 11, [1, 4, 5, 6], kernel, strides=[2, 2], output_shape=[10, 12])
    yield one("Conv", 11, [1, 4, 9, 10], {"weight": noise(6, 2, 3, 3), "bias": noise(6)}, group=2, dilations=[2, 1], pads=[2, 1, 0, 1])
    yield one("Conv", 11, [1, 4, 9], {"weight": noise(4, 1, 3)}, label="depthwise", group=4, pads=[1, 1])
    yield one("Conv", 11, [1, 2, 5, 6, 7], {"weight": noise(3, 2, 2, 3, 3)}, label="3d", strides=[1, 2, 2])
    for power in [1, 2]:
        yield one("GlobalLpPool", 11, [1, 2, 4, 5], p=power)
    yield one("LpPool", 11, [1, 2, 4, 4], kernel_shape=[2, 2])


def norms():
    statistics = {key: np.abs(noise(3)) for key in ["scale", "bias", "mean", "variance"]}
    yield one("BatchNormalization", 9, [2, 3, 4, 4], statistics, epsilon=1e-3)
    yield one("InstanceNormalization", 9, [2, 3, 4, 4], {"scale": floats(2, 2, 2), "bias": floats(1, 1, 1)})
    yield one("LRN", 9, [2, 6, 4, 4], size=3, alpha=0.1, beta=0.6, bias=1.5)
    for power in [1, 2]:
        yield one("LpNormalization", 9, [2, 6, 4], axis=1, p=power)
    yield one("MeanVarianceNormalization", 9, [2, 3, 4, 4])
    yield one("LayerNormalization", 17, [2, 3, 4], {"scale": noise(3, 4), "bias": noise(3, 4)}, axis=-2)
    yield one("GroupNormalization", 18, [2, 4, 3, 3], {"scale": floats(1, 2), "bias": floats(0.1, 0.2)}, num_groups=2)
    yield one("GroupNormalization", 21, [2, 4, 3, 3], {"scale": noise(4), "bias": noise(4)}, num_groups=2)


def places():
    yield one("Slice", 9, [2, 5, 4], starts=[1, 0], ends=[-1, 1000], axes=[1, 2])
    yield one("Split", 11, [2, 5], outputs=("y", "z"), axis=1, split=[2, 3])
    yield one("Split", 11, [2, 4], outputs=("y", "z"), axis=1)
    yield one("Squeeze", 11, [2, 1, 4], axes=[1])
    yield one("Unsqueeze", 11, [2, 4], axes=[0, 2])
    for axis in [0, 2, -1]:
        yield one("Flatten", 11, [2, 3, 4, 5], axis=axis)
    yield one("Scatter", 9, [2, 5], {"at": np.array([[1, 3]]), "values": floats([9, 8])}, axis=1)
    yield one("ScatterND", 16, [5], {"at": np.array([[1], [3], [1]]), "values": floats(9, 8, 1)}, reduction="add")
    yield one("ScatterElements", 18, [2, 5], {"at": np.array([[1, 3], [0, 0]]), "values": floats([9, -8], [0.1, 3])}, axis=1, reduction="max")
    yield one("GatherND", 12, [2, 3, 4], {"at": np.array([[[1], [0]], [[2], [2]]])}, batch_dims=1)
    yield one("GatherElements", 11, [2, 3], {"at": np.array([[2, 0], [-1, 1]])}, axis=1)
    yield one("Gather", 11, [2, 3], {"at": np.array([[-1, 0]])}, axis=1)
    yield one("CumSum", 11, [2, 5], {"axis": np.array(1)}, exclusive=1, reverse=1)
    yield as_float("TopK", 9, [2, 5], k=2, axis=1)
    yield as_float("TopK", 10, [2, 5], {"k": np.array([2])}, axis=1)
    yield as_float("ArgMax", 9, [2, 5], outputs=("indices",), axis=1, keepdims=0)


def sums():
    for low in [{"min": -0.5, "max": 0.5}, {"min": 0.0}]:
        yield one("Clip", 9, [2, 4], **low)
    yield one("Dropout", 9, [2, 4], ratio=0.5)
    for operator in ["ReduceMean", "ReduceSum", "ReduceMax", "ReduceL2", "ReduceLogSumExp", "ReduceProd"]:
        yield one(operator, 9, [2, 4, 3], axes=[1], keepdims=0)
        yield one(operator, 9, [2, 4, 3], keepdims=1)
    yield one("Gemm", 9, [2, 5], {"b": noise(3, 5), "c": noise(3)}, transB=1, alpha=0.5, beta=2.0)
    yield one("Mod", 10, [2, 5], {"by": floats(0.7)}, fmod=1)
    yield one("Pow", 12, [2, 5], {"to": np.float32(3)}, label="real")
    yield one("Pow", 12, [2, 5], {"to": np.array(2)}, label="whole")
    yield one("Einsum", 12, [2, 3, 4], {"b": noise(2, 4, 5)}, equation="bij,bjk->bik")


def recurrences():
    """Each of the three, in each direction, with each attribute that says how it runs, and with the last state alone."""
    for (kind, gates), direction in itertools.product([("RNN", 1), ("GRU", 3), ("LSTM", 4)], ["forward", "reverse", "bidirectional"]):
        both = 2 if direction == "bidirectional" else 1
        usual = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}[kind]
        own = {"RNN": {"activations": ["Relu"] * both}, "GRU": {"linear_before_reset": 1}, "LSTM": {"input_forget": 1}}[kind]
        others = [{}, own, {"clip": 0.5}, {"activations": usual * both}, {"activations": ["HardSigmoid", *usual[1:]] * both}]
        weights = {"w": noise(both, gates * 3, 4), "r": noise(both, gates * 3, 3), "b": noise(both, gates * 6)}
        for attributes, outputs in itertools.product(others, [("y", "last"), ("", "last")]):
            node = helper.make_node(kind, ["x", *weights], list(outputs), hidden_size=3, direction=direction, **attributes)
            name = f"{kind}-{direction}-{attributes}-{'each' if outputs[0] else 'last'}"
            yield graph(name, 14, [node], [5, 2, 4], weights, tuple(filter(None, outputs)))


def edges():
    """Large numbers, indices from the back, and inputs that count only together with some attributes."""
    far = floats([100, 101, 1000, -1000], [0, -120, 5, 80])
    for opset in [11, 13]:
        yield one("LogSoftmax", opset, far, label="far")
        yield one("LogSoftmax", opset, far, axis=0, label="far-columns")
    yield one("LogSoftmax", 13, floats([-np.inf, 0, 3], [-5, 1, -np.inf]), label="infinite")
    yield one("Softplus", 11, floats(-200, -100, -1, 0, 1, 50, 89, 200))
    for keep in [0, 1]:
        yield one("ReduceLogSumExp", 13, floats([100, 101], [-200, -201]), axes=[1], keepdims=keep)
        yield one("ReduceLogSumExp", 18, floats([100, 101], [-np.inf, -np.inf]), {"axes": np.array([-1])}, keepdims=keep, label=f"axes-{keep}")
        yield one("ReduceLogSumExp", 18, [2, 3, 4], keepdims=keep, label=f"all-{keep}")
    for mode in ["reflect", "edge", "constant"]:
        weights = {"pads": np.array([0, 0, 1, 2, 0, 0, 2, 1]), "value": floats(7).reshape(())}
        yield one("Pad", 13, [1, 2, 4, 5], weights, mode=mode)
        yield one("Pad", 18, [1, 2, 4, 5], {**weights, "pads": np.array([1, 2, 2, 1]), "axes": np.array([2, 3])}, mode=mode)
    yield one("GatherND", 13, [3, 4, 5], {"indices": np.array([[-1, 0], [2, -4]])}, label="back")
    yield one("GatherND", 13, [2, 4, 5], {"indices": np.array([[[-1]], [[0]]])}, batch_dims=1, label="back-batch")
    for opset in [11, 16]:
        yield one("ScatterND", opset, [3, 4], {"indices": np.array([[-1], [0]]), "updates": noise(2, 4)}, label="back")
    for attributes in [{"output_shape": [10, 12]}, {"output_shape": [9, 11]}, {"auto_pad": "SAME_UPPER", "output_padding": [1, 1]}]:
        yield one("ConvTranspose", 11, [1, 4, 5, 6], {"w": noise(4, 3, 3, 3)}, strides=[2, 2], **attributes)
    query = helper.make_node("Reshape", ["x", "heads"], ["q"])
    for width in [8, 6]:
        keys, values, mask = noise(2, 4, 7, 8), noise(2, 4, 7, width), RANDOM.random((5, 7)) < 0.6
        weights = {"heads": np.array([2, 4, 5, 8]), "k": keys, "v": values, "mask": mask}
        attention = helper.make_node("Attention", ["q", "k", "v", "mask"], ["y"])
        yield graph(f"Attention-23-yes-or-no-{width}", 23, [query, attention], [2, 4, 5, 8], weights)
        blind = np.array([[0, 1, 1, 1, 1, 1, 1], [0] * 7, [1, 0, 0, 0, 0, 0, 0], [1] * 7, [0] * 7], bool)
        for causal in [0, 1]:
            attention = helper.make_node("Attention", ["q", "k", "v", "mask"], ["y"], is_causal=causal)
            yield graph(f"Attention-23-blind-{causal}-{width}", 23, [query, attention], [2, 4, 5, 8], {**weights, "mask": blind})


def kinds():
    """Numbers of other types than float32, on the way."""
    def through(name, nodes, x, weights=None, dtype=TensorProto.INT64, opset=17):
        cast = helper.make_node("Cast", ["x"], ["cast"], to=dtype)
        back = helper.make_node("Cast", ["made"], ["y"], to=TensorProto.FLOAT)
        return graph(name, opset, [cast, *nodes, back], x, weights)
    whole = floats([1, 2, 300], [-4, 50, 60])
    yield through("Mul-squares", [helper.make_node("Mul", ["cast", "cast"], ["made"])], whole)
    yield through("Pow-squares", [helper.make_node("Pow", ["cast", "two"], ["made"])], whole, {"two": np.array(2)})
    yield through("Cast-wide", [helper.make_node("Identity", ["cast"], ["made"])], floats(3e9, -5e12, 7.9))
    for dtype in [TensorProto.INT32, TensorProto.INT64]:
        node = helper.make_node("ReduceLogSumExp", ["cast"], ["made"], axes=[1])
        yield through(f"ReduceLogSumExp-{dtype}", [node], whole, dtype=dtype)
    for dtype, factors, turned in itertools.product([TensorProto.FLOAT16, TensorProto.DOUBLE], [{}, {"alpha": 0.5, "beta": 2.0}], [0, 1]):
        others = [helper.make_node("Cast", [f"real_{name}"], [name], to=dtype) for name in "wc"]
        node = helper.make_node("Gemm", ["cast", "w", "c"], ["made"], transB=turned, **factors)
        weights = {"real_w": noise(4, 3) if turned else noise(3, 4), "real_c": noise(4)}
        yield through(f"Gemm-{dtype}-{len(factors)}-{turned}", [*others, node], floats([1, 2, 3], [-4, 5, 6]), weights, dtype)
    for axis in [0, 1, -1]:
        node = helper.make_node("OneHot", ["cast", "depth", "values"], ["made"], axis=axis)
        weights = {"depth": np.array(4), "values": floats(0.5, 3)}
        yield through(f"OneHot-{axis}", [node], floats([0, 3, -4], [9, -5, 2**40]), weights)
    boxes = RANDOM.uniform(0, 1, (1, 6, 4)).astype(np.float32)
    for most in [None, 0, 2, 9]:
        weights = {"boxes": boxes, "overlap": floats(0.3), **({} if most is None else {"most": np.array([most])})}
        node = helper.make_node("NonMaxSuppression", ["boxes", "x", "" if most is None else "most", "overlap"], ["chosen"])
        yield graph(f"NonMaxSuppression-{most}", 11, [node, helper.make_node("Cast", ["chosen"], ["y"], to=TensorProto.FLOAT)],
                    [1, 2, 6], weights)


def contrib():
    """ONNX Runtime's own operators."""
    def domain(case):
        case[1].opset_import.append(helper.make_opsetid("com.microsoft", 1))
        for node in case[1].graph.node:
            node.domain = "com.microsoft"
        return case
    small = noise(2, 3, 8) * 1e-3
    weights = {"skip": noise(2, 3, 8) * 1e-3, "gamma": noise(8), "beta": noise(8)}
    yield domain(one("SkipLayerNormalization", 17, small, weights, label="small"))
    for unidirectional in [0, 1]:
        weights = {"k": noise(2, 5, 8), "v": noise(2, 5, 8)}
        yield domain(one("MultiHeadAttention", 17, [2, 5, 8], weights, num_heads=2, unidirectional=unidirectional))


def variants():
    for group in [activations, sizes, windows, norms, places, sums, recurrences, edges, kinds, contrib]:
        yield from group()
