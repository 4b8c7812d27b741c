"""cancer 1.0: a tabular model that takes raw measurements by name and standardises them inside the graph.

Contract: `features` float32 [N, 30], answer `probabilities` float32 [N, 2] (malignant, benign).
"""

from pathlib import Path

import numpy as np
from onnx import helper

from . import data, export, network
from .network import Dense, Relu


def write(root: Path) -> None:
    """The release, and a held-out stream with its labels in the last column."""
    part, names, classes = data.cancer()
    x = part.train_x.astype(np.float64)
    mean, std = x.mean(axis=0, keepdims=True), x.std(axis=0, keepdims=True)
    rng = np.random.default_rng(30)
    layers = [Dense(rng, 30, 16), Relu(), Dense(rng, 16, 2)]
    network.fit(layers, (x - mean) / std, part.train_y, seed=30, epochs=40, rate=3e-3, decay=1e-2)

    first, constants = export.standardise(mean, std, "features", "standardised")
    nodes, weights = export.nodes_of(layers, "standardised", "logits")
    last = helper.make_node("Softmax", ["logits"], ["probabilities"], "softmax", axis=1)
    graph = export.model(
        "cancer",
        first + nodes + [last],
        constants + weights,
        [export.value("features", ["N", 30])],
        [export.value("probabilities", ["N", 2])],
    )
    folder = root / "cancer-1.0"
    export.write_bytes(folder / "model.onnx", graph)
    export.write_lines(folder / "labels.txt", classes)
    export.write_lines(folder / "reference.csv", export.csv(names, part.reference_x))
    labels = [classes[index] for index in part.held_out_y]
    export.write_lines(root / "stream" / "cancer.csv", export.csv(names, part.held_out_x, ("diagnosis", labels)))
