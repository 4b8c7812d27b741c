"""How cases are kept: GROUP.jsonl, a line each with the model, inputs, and the outputs that were expected of them."""

import base64
import json
import pathlib

import numpy as np
import onnx
import onnxruntime as ort

HERE = pathlib.Path(__file__).parent
CASES = {}


def number(value):
    """JSON has no NaN and no infinity."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value


def tensor(name, array):
    array = np.asarray(array)
    text = array.dtype.kind in "OUS"
    # Binary32 in as few digits as name it.
    flat = [str(v) for v in array.ravel()] if text else [
        number(float(str(v)) if array.dtype == np.float32 else v.item()) for v in array.ravel()
    ]
    return {"name": name, "type": "string" if text else str(array.dtype), "shape": list(array.shape), "data": flat}


def columns(output):
    """Maps from ZipMap become one row per map, one column per class."""
    if isinstance(output, list):
        return np.array([list(row.values()) for row in output], dtype=np.float32)
    return output


def keep(group, name, model, inputs, outputs, tolerance=None):
    model.doc_string = ""
    names = [output.name for output in model.graph.output]
    case = {
        "name": name,
        "inputs": [tensor(name, array) for name, array in inputs.items()],
        "outputs": [tensor(name, columns(output)) for name, output in zip(names, outputs, strict=True)],
        # A number may be off by abs + rel * |expected|.
        "tolerance": tolerance or {"abs": 1e-5, "rel": 1e-5},
        "model": base64.b64encode(model.SerializeToString()).decode(),
    }
    CASES.setdefault(group, []).append(json.dumps(case, separators=(",", ":")))


def write():
    for group, lines in CASES.items():
        (HERE / f"{group}.jsonl").write_text("\n".join(lines) + "\n")
        print(f"{group}: {len(lines)} cases")


def session(model):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def record(group, name, model, inputs, tolerance=None, fed=None, run=None):
    """Runs the model (or `run`) in ONNX Runtime and keeps what it answers. `fed` is what it is given if not `inputs`."""
    try:
        outputs = session(run or model).run(None, fed or inputs)
    except Exception as error:
        raise SystemExit(f"{group}/{name}: {str(error)[:600]}") from None
    keep(group, name, model, inputs, outputs, tolerance)
    return outputs
