"""Every operator of ONNX through the agent, held against what the standard and ONNX Runtime say.

    python3 -m venv .venv && .venv/bin/pip install -r tests/zoo/requirements.txt
    .venv/bin/python tests/zoo/operators.py --bin target/release

Golden outputs are made by the code that is checked with them, so an operator that answers wrongly is found by nobody on the way:
here it is. Each graph is packed with `fieldpost bundle pack`, served with `fieldpost-agent try --serve`, and asked once.

- `standard`: the `onnx` package's own node tests, of the newest opset, whose answers are part of the standard. As they are, and with
  every input but the first as a weight, which is what exporters write.
- `older`: opsets 7 to 21 and attributes that those tests leave out (`variants.py`), against ONNX Runtime.

A graph may be refused; a wrong answer ends it with 1, unless `KNOWN_WRONG` says why.
"""

import argparse
import collections
import json
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from variants import variants
from zoo import NAMES, Agent, pack, session

# Answers that differ, by the case's name as a regular expression, and why that is left so.
KNOWN_WRONG = {
    "bitshift_(left|right)_int(8|32)_(shift_ge_width|negative_shift)": "shifts by more than the width, by negative numbers and of signed integers, new in opset 28",
    "resize_downsample_scales_(linear|cubic)_align_corners": "that answer goes by 2.4 places; ONNX Runtime and PyTorch by the whole 2",
    "reduce_max_empty_set": "the largest of nothing is the least finite number, not minus infinity",
    "reduce_min_empty_set": "as the one above",
}


def standard(baked):
    """Name, model, feeds, answers and tolerances of the `onnx` package's tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases
        cases = collect_testcases(None)
    for case in cases:
        inputs, outputs = case.data_sets[0]
        names = [value.name for value in case.model.graph.input]
        plain = lambda array: isinstance(array, (np.ndarray, np.generic)) and np.asarray(array).dtype.name in NAMES
        other_domain = any(node.domain == "ai.onnx.ml" for node in case.model.graph.node)
        # Sequences, optionals, texts and types of 8 or 4 bits are no tensors of a request; ai.onnx.ml has tests of its own.
        if other_domain or not inputs or len(names) != len(inputs) or not all(map(plain, [*inputs, *outputs])):
            continue
        feed = dict(zip(names, map(np.asarray, inputs)))
        model = case.model
        if baked:
            if len(feed) < 2:
                continue
            model = onnx.ModelProto.FromString(model.SerializeToString())
            model.graph.initializer.extend(numpy_helper.from_array(feed.pop(name), name) for name in names[1:])
            del model.graph.input[1:]
        answers = {value.name: np.asarray(array) for value, array in zip(model.graph.output, outputs)}
        half = any(array.dtype == np.float16 for array in [*feed.values(), *answers.values()])
        name = case.name.removeprefix("test_") + (" (weights)" if baked else "")
        yield name, model, feed, answers, (1e-2, 1e-2) if half else (max(case.rtol, 1e-3), max(case.atol, 1e-5))


def older():
    """The same of our own graphs, answered by ONNX Runtime; what that does not run is left out."""
    for name, model, feed in variants():
        try:
            answers = session(model.SerializeToString()).run(None, feed)
        except Exception as error:  # its exceptions have no type of their own
            print(f"{name}: ONNX Runtime does not run it: {str(error).splitlines()[0][:120]}")
            continue
        yield name, model, feed, dict(zip([value.name for value in model.graph.output], answers)), (1e-3, 1e-5)


def difference(found, expected, tolerances):
    relative, absolute = tolerances
    for name, want in expected.items():
        got = found[name]
        if got.dtype != want.dtype or got.shape != want.shape:
            return f"{name} is {got.dtype} {got.shape}, expected {want.dtype} {want.shape}"
        real = want.dtype.kind == "f"
        same = np.allclose(got.astype(float), want.astype(float), relative, absolute, equal_nan=True) if real else np.array_equal(got, want)
        if not same:
            return f"{name} is {got.reshape(-1)[:5].tolist()}, expected {want.reshape(-1)[:5].tolist()}"
    return None


def tried(binaries, key, model, feed, answers, tolerances):
    """`right`, or `refused` or `wrong` and the reason."""
    with tempfile.TemporaryDirectory() as folder:
        bundle, refusal = pack(binaries, key, Path(folder), "op", model.SerializeToString(), feed)
        if refusal:
            return "refused", refusal
        try:
            with Agent(binaries, bundle) as agent:
                wrong = difference(agent.infer(feed), answers, tolerances)
        except Exception as error:  # what was packed is served: whatever it is, it is wrong
            wrong = f"packed, and not served: {error!r}"
        return ("wrong", wrong) if wrong else ("right", "")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", type=Path, required=True, help="folder with fieldpost and fieldpost-agent")
    parser.add_argument("--only", default="", help="a regular expression on the cases' names")
    parser.add_argument("--refused", action="store_true", help="say what is refused, too")
    arguments = parser.parse_args()
    binaries = arguments.bin.absolute()
    counts, bad = collections.Counter(), []
    with tempfile.TemporaryDirectory() as folder:
        key = Path(folder) / "publisher.key"
        subprocess.run([binaries / "fieldpost", "key", "publisher", "--out", key], check=True, capture_output=True)
        groups = [("standard", standard(False)), ("weights", standard(True)), ("older", older())]
        for group, cases in groups:
            for name, model, feed, answers, tolerances in cases:
                if not re.search(arguments.only, name):
                    continue
                verdict, why = tried(binaries, key, model, feed, answers, tolerances)
                known = next((reason for case, reason in KNOWN_WRONG.items() if re.fullmatch(case + r"( \(weights\))?", name)), None)
                counts[group, verdict] += 1
                if verdict == "wrong":
                    print(f"{name}: {'known to be wrong' if known else 'WRONG'}: {known or why}", flush=True)
                    bad += [] if known else [name]
                elif verdict == "refused" and arguments.refused:
                    print(f"{name}: refused: {json.dumps(why)}", flush=True)
    for group, _ in groups:
        print(f"{group}: " + ", ".join(f"{counts[group, verdict]} {verdict}" for verdict in ["right", "refused", "wrong"]))
    return 1 if bad or not counts else 0


if __name__ == "__main__":
    sys.exit(main())
