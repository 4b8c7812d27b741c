"""The `onnx` package's own backend node tests for the domain `ai.onnx.ml`, with the outputs that they demand."""

from onnx.backend.test.case.node import collect_testcases

from fixture import keep

GROUP = "standard"


def main():
    for case in collect_testcases(None):
        domains = {node.domain for node in case.model.graph.node}
        if "ai.onnx.ml" not in domains or case.data_sets is None:
            continue
        for inputs, outputs in case.data_sets:
            names = [i.name for i in case.model.graph.input]
            keep(GROUP, case.name.removeprefix("test_ai_onnx_ml_"), case.model, dict(zip(names, inputs)), outputs,
                  {"abs": case.atol, "rel": case.rtol})
