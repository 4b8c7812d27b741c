#!/usr/bin/env python3
"""Writes ../iris-1.0: a forest with texts as labels, exported as users do, for `pack` and the agent."""

import csv
import pathlib

import numpy as np
from skl2onnx import to_onnx
from sklearn import datasets
from sklearn.ensemble import RandomForestClassifier

FOLDER = pathlib.Path(__file__).parent.parent / "iris-1.0"
FEATURES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]

x, y = datasets.load_iris(return_X_y=True)
forest = RandomForestClassifier(n_estimators=20, max_depth=6, random_state=0)
forest.fit(x[::2], np.array(["setosa", "versicolor", "virginica"])[y[::2]])
graph = to_onnx(forest, x[:1].astype(np.float32), options={"zipmap": False}, target_opset={"": 18, "ai.onnx.ml": 3})
FOLDER.mkdir(exist_ok=True)
(FOLDER / "model.onnx").write_bytes(graph.SerializeToString())
with open(FOLDER / "reference.csv", "w", newline="") as file:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(FEATURES)
    writer.writerows(x[1::2])
print("held-out accuracy", forest.score(x[1::2], np.array(["setosa", "versicolor", "virginica"])[y[1::2]]))
