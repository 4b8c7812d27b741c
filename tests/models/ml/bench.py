#!/usr/bin/env python3
"""Writes models for the bench `classical` into a folder, or times ONNX Runtime (one thread) on those in it.

    bench.py make FOLDER
    bench.py time FOLDER ROWS ...
"""

import pathlib
import sys
import time

import numpy as np


def make(folder):
    from skl2onnx import to_onnx
    from sklearn import datasets, ensemble, linear_model, svm
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    import exported  # noqa: F401 - mends converters
    digits, digit = datasets.load_digits(return_X_y=True)
    cells, grade = datasets.load_breast_cancer(return_X_y=True)
    models = {
        "forest": (ensemble.RandomForestClassifier(100, random_state=0, n_jobs=1), digits, digit),
        "boosting": (ensemble.GradientBoostingClassifier(n_estimators=100, random_state=0), cells, grade),
        "histogram": (ensemble.HistGradientBoostingRegressor(max_iter=100, random_state=0), *datasets.make_regression(4000, 20, random_state=0)),
        "logistic": (make_pipeline(StandardScaler(), linear_model.LogisticRegression(max_iter=500)), digits, digit),
        "svc": (svm.SVC(), digits, digit),
    }
    for name, (model, x, y) in models.items():
        model.fit(x, y)
        options = {"zipmap": False} if hasattr(model, "classes_") else {}
        graph = to_onnx(model, x[:1].astype(np.float32), options=options, target_opset={"": 18, "ai.onnx.ml": 3})
        (folder / f"{name}.onnx").write_bytes(graph.SerializeToString())
        np.resize(x, (256, x.shape[1])).astype("<f4").tofile(folder / f"{name}.f32")


def measure(folder, counts):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    for path in sorted(folder.glob("*.onnx")):
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        x = np.fromfile(path.with_suffix(".f32"), "<f4").reshape(256, -1)
        for rows in counts:
            # Bound once, so that Python's part of a call is small.
            binding = session.io_binding()
            binding.bind_cpu_input(session.get_inputs()[0].name, np.ascontiguousarray(x[:rows]))
            for output in session.get_outputs():
                binding.bind_output(output.name)
            best = []
            end = time.perf_counter() + 1.0
            while time.perf_counter() < end or len(best) < 20:
                start = time.perf_counter()
                session.run_with_iobinding(binding)
                best.append(time.perf_counter() - start)
            print(path.stem, rows, f"{np.median(best) * 1e6:.1f}", f"{np.percentile(best, 5) * 1e6:.1f}")


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    if sys.argv[1] == "make":
        make(folder)
    else:
        measure(folder, [int(rows) for rows in sys.argv[3:]])
