"""What no exporter writes: every mode, aggregation and transform of the operators, at random, answered by ONNX Runtime."""

import copy
import itertools

import numpy as np
from onnx import TensorProto, helper

from fixture import record

GROUP = "synthetic"
RANDOM = np.random.default_rng(7)
TRANSFORMS = ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"]
MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]


def graph(op, inputs, outputs, version=3, **attributes):
    node = helper.make_node(op, [i.name for i in inputs], [o.name for o in outputs], name=f"the_{op}",
                            domain="ai.onnx.ml", **attributes)
    return helper.make_model(
        helper.make_graph([node], "g", inputs, outputs),
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", version)], ir_version=9)


def value(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, shape)


def grid(rows, columns, holes=False):
    """Numbers that meet thresholds exactly often."""
    x = RANDOM.integers(-3, 4, (rows, columns)).astype(np.float32) / 2
    if holes:
        x[RANDOM.random(x.shape) < 0.15] = np.nan
    return x


def tree(number, depth, columns, modes, targets, weight, tracks):
    """Nodes of one random tree, as the lists of version 3, and its weights."""
    nodes, weights = [], []

    def grow(depth):
        at = len(nodes)
        nodes.append(None)
        if depth == 0 or RANDOM.random() < 0.2:
            nodes[at] = ("LEAF", 0, 0.0, 0, 0, 0)
            ids = [RANDOM.integers(0, targets)] if weight == "one" else range(targets) if weight == "all" else [0]
            if weight == "some":
                ids = [i for i in range(targets) if RANDOM.random() < 0.5]
            for i in ids:
                scale = RANDOM.random() / 4 if weight in ("all", "positive") else RANDOM.normal()
                weights.append((number, at, int(i), float(np.float32(scale))))
            return at
        yes, no = grow(depth - 1), grow(depth - 1)
        nodes[at] = (str(RANDOM.choice(modes)), int(RANDOM.integers(0, columns)),
                     float(RANDOM.integers(-3, 4) / 2), yes, no, int(tracks and RANDOM.random() < 0.5))
        return at

    grow(depth)
    return nodes, weights


def ensemble(prefix, trees, depth, columns, modes, targets, weight, tracks, double=False):
    lists = {f"nodes_{k}": [] for k in
             ["treeids", "nodeids", "modes", "featureids", "values", "truenodeids", "falsenodeids",
              "missing_value_tracks_true"]}
    found = []
    for number in range(trees):
        nodes, weights = tree(number, depth, columns, modes, targets, weight, tracks)
        found += weights
        for at, (mode, feature, split, yes, no, missing) in enumerate(nodes):
            for key, item in zip(lists, [number, at, mode, feature, split, yes, no, missing]):
                lists[key].append(item)
    for key, column in zip(["treeids", "nodeids", "ids", "weights"], zip(*found)):
        lists[f"{prefix}_{key}"] = list(column)
    if double:
        for key in ["nodes_values", f"{prefix}_weights"]:
            items = lists.pop(key)
            lists[f"{key}_as_tensor"] = helper.make_tensor(key, TensorProto.DOUBLE, [len(items)], items)
    return lists


def regressors():
    for at, (transform, aggregate) in enumerate(itertools.product(TRANSFORMS, ["SUM", "AVERAGE", "MIN", "MAX"])):
        for targets in (1, 3):
            holes = at % 2 == 0
            weight = "one" if targets == 1 else ["some", "all"][at % 2]
            lists = ensemble("target", 5, 4, 4, MODES if holes else MODES[:2], targets, weight, holes)
            base = [] if at % 3 == 0 else [0.25] * targets
            model = graph("TreeEnsembleRegressor", [value("x", TensorProto.FLOAT, ["N", 4])],
                          [value("y", TensorProto.FLOAT, ["N", targets])], n_targets=targets,
                          aggregate_function=aggregate, post_transform=transform,
                          **({"base_values": base} if base else {}), **lists)
            record(GROUP, f"regressor_{transform}_{aggregate}_{targets}".lower(), model, {"x": grid(19, 4, holes)})
    lists = ensemble("target", 5, 4, 4, MODES, 1, "one", True, double=True)
    model = graph("TreeEnsembleRegressor", [value("x", TensorProto.DOUBLE, ["N", 4])],
                  [value("y", TensorProto.FLOAT, ["N", 1])], n_targets=1, **lists)
    record(GROUP, "regressor_double", model, {"x": grid(19, 4, True).astype(np.float64)})
    for mode in MODES:
        lists = ensemble("target", 3, 4, 4, [mode], 1, "one", True)
        model = graph("TreeEnsembleRegressor", [value("x", TensorProto.FLOAT, ["N", 4])],
                      [value("y", TensorProto.FLOAT, ["N", 1])], n_targets=1, **lists)
        record(GROUP, f"regressor_{mode}".lower(), model, {"x": grid(19, 4, True)})


def classifiers():
    for transform, classes, weight in itertools.product(TRANSFORMS, (2, 3), ("all", "one", "some", "first", "positive")):
        if classes == 2 and weight in ("all", "one", "some") or transform == "PROBIT":
            # ONNX Runtime's labels are not the model's where two classes have weights; of PROBIT it writes one score of two.
            continue
        bases = [None, classes] if transform == "NONE" else [None]
        for base in bases + ([1] if classes == 2 and transform in ("NONE", "LOGISTIC") else []):
            lists = ensemble("class", 4, 3, 4, MODES, classes, weight, True)
            model = graph("TreeEnsembleClassifier", [value("x", TensorProto.FLOAT, ["N", 4])],
                          [value("label", TensorProto.INT64, ["N"]), value("scores", TensorProto.FLOAT, ["N", classes])],
                          classlabels_int64s=[7, 3, 5][:classes], post_transform=transform,
                          **({"base_values": [0.1, -0.2, 0.3][:base]} if base else {}), **lists)
            suffix = f"_base{base}" if base else ""
            record(GROUP, f"classifier_{transform}_{classes}_{weight}{suffix}".lower(), model, {"x": grid(13, 4, True)})


    for kind, dtype in [(TensorProto.INT64, np.int64), (TensorProto.INT32, np.int32), (TensorProto.DOUBLE, np.float64)]:
        lists = ensemble("class", 4, 3, 4, MODES, 3, "all", False)
        model = graph("TreeEnsembleClassifier", [value("x", kind, ["N", 4])],
                      [value("label", TensorProto.STRING, ["N"]), value("scores", TensorProto.FLOAT, ["N", 3])],
                      classlabels_strings=["a", "b", "c"], **lists)
        record(GROUP, f"classifier_{np.dtype(dtype)}", model, {"x": RANDOM.integers(-2, 3, (19, 4)).astype(dtype)})


def linear():
    x = {"x": grid(9, 4)}
    for transform, classes in itertools.product(TRANSFORMS, (1, 2, 3)):
        weights = RANDOM.normal(size=classes * 4).tolist()
        labels = ["b", "a", "c"][: max(2, classes)]
        model = graph("LinearClassifier", [value("x", TensorProto.FLOAT, ["N", 4])],
                      [value("label", TensorProto.STRING, ["N"]), value("scores", TensorProto.FLOAT, ["N", len(labels)])],
                      coefficients=weights, intercepts=RANDOM.normal(size=classes).tolist(), classlabels_strings=labels,
                      post_transform=transform)
        # ONNX Runtime writes one score of two.
        if (transform, classes) != ("PROBIT", 1):
            record(GROUP, f"linear_classifier_{transform}_{classes}".lower(), model, x)
        model = graph("LinearRegressor", [value("x", TensorProto.FLOAT, ["N", 4])],
                      [value("y", TensorProto.FLOAT, ["N", classes])], coefficients=weights, targets=classes,
                      post_transform=transform, **({} if classes == 3 else {"intercepts": [0.3] * classes}))
        record(GROUP, f"linear_regressor_{transform}_{classes}".lower(), model, x)


def machines():
    x = {"x": grid(9, 4)}
    near = {"abs": 1e-4, "rel": 1e-4}
    kinds = ["LINEAR", "POLY", "RBF", "SIGMOID"]
    for at, (kind, classes) in enumerate(itertools.product(kinds, (2, 3, 4))):
        for transform in ["NONE", *(TRANSFORMS[1:] if kind == "RBF" else [])]:
            for probability in (False, True):
                if (transform, classes, probability) == ("PROBIT", 2, False):
                    continue
                counts = RANDOM.integers(1, 4, classes)
                total, pairs = int(counts.sum()), classes * (classes - 1) // 2
                more = {"prob_a": (-RANDOM.random(pairs) - 0.5).tolist(), "prob_b": RANDOM.normal(size=pairs).tolist()}
                model = graph("SVMClassifier", [value("x", TensorProto.FLOAT, ["N", 4])],
                              [value("label", TensorProto.INT64, ["N"]), value("scores", TensorProto.FLOAT, ["N", None])],
                              kernel_type=kind, kernel_params=[0.3, 0.2, 2.0], classlabels_ints=[4, 2, 9, 1][:classes],
                              vectors_per_class=counts.tolist(), support_vectors=RANDOM.normal(size=total * 4).tolist(),
                              coefficients=RANDOM.normal(size=(classes - 1) * total).tolist(),
                              rho=RANDOM.normal(size=pairs).tolist(), post_transform=transform, **(more if probability else {}))
                name = f"svm_{kind}_{classes}_{transform}{'_probability' if probability else ''}".lower()
                record(GROUP, name, model, x, near)
        for one_class in (0, 1):
            model = graph("SVMRegressor", [value("x", TensorProto.FLOAT, ["N", 4])], [value("y", TensorProto.FLOAT, ["N", 1])],
                          kernel_type=kind, kernel_params=[0.3, 0.2, 3.0], n_supports=5, one_class=one_class,
                          support_vectors=RANDOM.normal(size=20).tolist(), coefficients=RANDOM.normal(size=5).tolist(),
                          rho=[0.1])
            record(GROUP, f"svr_{kind}_{one_class}".lower(), model, x, near)
    for classes in (2, 3):
        model = graph("SVMClassifier", [value("x", TensorProto.FLOAT, ["N", 4])],
                      [value("label", TensorProto.INT64, ["N"]), value("scores", TensorProto.FLOAT, ["N", classes])],
                      kernel_type="LINEAR", kernel_params=[0.0, 0.0, 0.0], classlabels_ints=[4, 2, 9][:classes], coefficients=RANDOM.normal(size=classes * 4).tolist(), rho=[0.2])
        record(GROUP, f"svm_without_vectors_{classes}", model, x, near)
    model = graph("SVMRegressor", [value("x", TensorProto.FLOAT, ["N", 4])], [value("y", TensorProto.FLOAT, ["N", 1])],
                  kernel_type="LINEAR", kernel_params=[0.0, 0.0, 0.0], coefficients=RANDOM.normal(size=4).tolist(), rho=[0.2], n_supports=0)
    record(GROUP, "svr_without_vectors", model, x, near)


def small():
    x = grid(7, 3)
    both = [value("x", TensorProto.FLOAT, ["N", 3])], [value("y", TensorProto.FLOAT, ["N", 3])]
    record(GROUP, "scaler", graph("Scaler", *both, offset=[1.0, 2.0, 0.5], scale=[2.0, 0.1, -1.0]), {"x": x})
    record(GROUP, "scaler_one", graph("Scaler", *both, offset=[1.0], scale=[2.0]), {"x": x})
    ints = [value("x", TensorProto.INT64, ["N", 3])], [value("y", TensorProto.FLOAT, ["N", 3])]
    record(GROUP, "scaler_int64", graph("Scaler", *ints, offset=[1.0], scale=[2.0]), {"x": RANDOM.integers(-9, 9, (7, 3))})
    for norm in ["MAX", "L1", "L2"]:
        rows = np.concatenate([x, np.zeros((1, 3), np.float32), -np.ones((1, 3), np.float32)])
        record(GROUP, f"normalizer_{norm}".lower(), graph("Normalizer", *both, norm=norm), {"x": rows})
    record(GROUP, "binarizer", graph("Binarizer", *both, threshold=0.5), {"x": x})
    holes = grid(7, 3, True)
    record(GROUP, "imputer_nan", graph("Imputer", *both, imputed_value_floats=[1.0, 2.0, 3.0],
                                       replaced_value_float=float("nan")), {"x": holes})
    record(GROUP, "imputer_one", graph("Imputer", *both, imputed_value_floats=[9.0], replaced_value_float=0.5), {"x": x})
    same = [value("x", TensorProto.INT64, ["N", 3])], [value("y", TensorProto.INT64, ["N", 3])]
    record(GROUP, "imputer_int64", graph("Imputer", *same, imputed_value_int64s=[9, 8, 7], replaced_value_int64=2),
           {"x": RANDOM.integers(0, 4, (7, 3))})
    hot = [value("x", TensorProto.INT64, ["N", 2])], [value("y", TensorProto.FLOAT, ["N", 2, 3])]
    record(GROUP, "one_hot_int64", graph("OneHotEncoder", *hot, cats_int64s=[4, 1, 2]), {"x": RANDOM.integers(0, 5, (6, 2))})
    hot = [value("x", TensorProto.FLOAT, ["N"])], [value("y", TensorProto.FLOAT, ["N", 3])]
    record(GROUP, "one_hot_float", graph("OneHotEncoder", *hot, cats_int64s=[4, 1, 2]), {"x": np.array([1.9, 4, 2.5, -1.5], np.float32)})
    words = np.array([["red"], ["blue"], ["pink"], ["red"]], dtype=object)
    hot = [value("x", TensorProto.STRING, ["N", 1])], [value("y", TensorProto.FLOAT, ["N", 1, 2])]
    record(GROUP, "one_hot_string", graph("OneHotEncoder", *hot, cats_strings=["blue", "red"]), {"x": words})
    one = [value("x", TensorProto.STRING, ["N", 1])], [value("y", TensorProto.INT64, ["N", 1])]
    record(GROUP, "category_mapper", graph("CategoryMapper", *one, cats_strings=["blue", "red"], cats_int64s=[5, 6],
                                           default_int64=-7), {"x": words})
    back = [value("x", TensorProto.INT64, ["N"])], [value("y", TensorProto.STRING, ["N"])]
    record(GROUP, "category_mapper_back", graph("CategoryMapper", *back, cats_strings=["blue", "red"], cats_int64s=[5, 6]),
           {"x": np.array([6, 5, 4])})
    two = [value("a", TensorProto.FLOAT, ["N", 2]), value("b", TensorProto.FLOAT, ["N", 3])]
    record(GROUP, "feature_vectorizer", graph("FeatureVectorizer", two, [value("y", TensorProto.FLOAT, ["N", 5])],
                                              inputdimensions=[2, 3]), {"a": grid(4, 2), "b": grid(4, 3)})
    pick = [value("x", TensorProto.FLOAT, ["N", 3]), value("at", TensorProto.INT64, [2])]
    record(GROUP, "array_feature_extractor", graph("ArrayFeatureExtractor", pick, [value("y", TensorProto.FLOAT, ["N", 2])]),
           {"x": x, "at": np.array([2, 0])})
    flat = [value("x", TensorProto.INT64, [3]), value("at", TensorProto.INT64, [2])]
    record(GROUP, "array_feature_extractor_flat", graph("ArrayFeatureExtractor", flat, [value("y", TensorProto.INT64, [1, 2])]),
           {"x": np.array([5, 6, 7]), "at": np.array([2, 0])})


def encoders():
    samples = {"strings": (TensorProto.STRING, ["a", "b", "a ", "c"], object, "x"),
               "int64s": (TensorProto.INT64, [1, 2, -3, 4], np.int64, 9),
               "floats": (TensorProto.FLOAT, [0.0, 1.5, -2.5, 4.0], np.float32, 9.5)}
    for (k, keys), (v, values) in itertools.product(samples.items(), samples.items()):
        if k == v == "int64s":
            pass
        data = np.array(keys[1] + [keys[3]], dtype=keys[2])
        ends = [value("x", keys[0], ["N"])], [value("y", values[0], ["N"])]
        model = graph("LabelEncoder", *ends, version=4, **{f"keys_{k}": keys[1], f"values_{v}": list(reversed(values[1]))})
        record(GROUP, f"label_encoder_{k}_{v}", model, {"x": data})
    # Doubles and narrow integers come as tensors.
    keys = helper.make_tensor("k", TensorProto.DOUBLE, [3], [1.0, float("nan"), 2.5])
    ends = [value("x", TensorProto.DOUBLE, ["N"])], [value("y", TensorProto.DOUBLE, ["N"])]
    model = graph("LabelEncoder", *ends, version=4, keys_tensor=keys,
                  values_tensor=helper.make_tensor("v", TensorProto.DOUBLE, [3], [7.0, 8.0, 9.0]),
                  default_tensor=helper.make_tensor("d", TensorProto.DOUBLE, [1], [-1.0]))
    record(GROUP, "label_encoder_tensor_double", model, {"x": np.array([2.5, np.nan, 0.0, 1.0])})
    ends = [value("x", TensorProto.STRING, ["N"])], [value("y", TensorProto.INT64, ["N"])]
    model = graph("LabelEncoder", *ends, version=1, classes_strings=["p", "q"], default_int64=42)
    record(GROUP, "label_encoder_classes", model, {"x": np.array(["q", "p", "r"], dtype=object)})


def version5():
    """Branches and leaves in tables of their own; also sets of members."""
    for at, (transform, aggregate) in enumerate(itertools.product(range(5), range(4))):
        targets = 1 + at % 3
        double = at % 2 == 1
        kind, dtype = (TensorProto.DOUBLE, np.float64) if double else (TensorProto.FLOAT, np.float32)
        rows, sets, leaves, roots = [], [], [], []

        def grow(depth):
            if depth == 0 or depth < 3 and RANDOM.random() < 0.25:
                leaves.append((int(RANDOM.integers(0, targets)), float(RANDOM.normal())))
                return len(leaves) - 1, 1
            place = len(rows)
            rows.append(None)
            # ONNX Runtime takes sets of integers alone.
            mode = int(RANDOM.integers(0, 7))
            if mode == 6:
                sets.append((place, sorted(set(RANDOM.integers(-1, 3, 3).astype(float).tolist()))))
            yes, no = grow(depth - 1), grow(depth - 1)
            rows[place] = (int(RANDOM.integers(0, 4)), mode, float(RANDOM.integers(-3, 4) / 2), yes, no)
            return place, 0

        for _ in range(4):
            roots.append(grow(3)[0])
        members = [v for _, values in sorted(sets) for v in [*values, float("nan")]]
        vector = lambda name, items, kind=kind: helper.make_tensor(name, kind, [len(items)], items)  # noqa: E731
        features, modes, splits, yes, no = zip(*rows)
        more = {"membership_values": vector("m", members)} if members else {}
        model = graph("TreeEnsemble", [value("x", kind, ["N", 4])], [value("y", kind, ["N", targets])], version=5,
                      n_targets=targets, aggregate_function=aggregate, post_transform=transform, tree_roots=roots,
                      nodes_featureids=features, nodes_modes=vector("modes", modes, TensorProto.UINT8),
                      nodes_splits=vector("splits", splits), nodes_truenodeids=[c[0] for c in yes],
                      nodes_trueleafs=[c[1] for c in yes], nodes_falsenodeids=[c[0] for c in no],
                      nodes_falseleafs=[c[1] for c in no], leaf_targetids=[l[0] for l in leaves],
                      leaf_weights=vector("weights", [l[1] for l in leaves]), **more)
        # ONNX Runtime 1.32 takes 1 for LOGISTIC and 2 for SOFTMAX; the standard has it the other way round.
        run = copy.deepcopy(model)
        next(a for a in run.graph.node[0].attribute if a.name == "post_transform").i = {1: 2, 2: 1}.get(transform, transform)
        record(GROUP, f"version5_{transform}_{aggregate}", model, {"x": grid(17, 4).round().astype(dtype)}, run=run)


def main():
    for part in (regressors, classifiers, linear, machines, small, encoders, version5):
        part()
