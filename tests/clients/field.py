"""What every file here needs: the agent under test, its models with what they must answer, and values of each type."""

import json
import os
import unittest
from pathlib import Path

import numpy as np
import onnxruntime

AGENT = json.loads(os.environ["FIELDPOST_AGENT"])
HTTP, GRPC, SOCKET, PID = AGENT["http"], AGENT["grpc"], AGENT["http_socket"], AGENT["pid"]
MODELS = Path(AGENT["models"])

# Two elements of each type, with what is hard about it.
VALUES = {
    "BOOL": np.array([True, False]),
    "UINT8": np.array([0, 255], np.uint8),
    "UINT16": np.array([0, 65535], np.uint16),
    "UINT32": np.array([0, 2**32 - 1], np.uint32),
    "UINT64": np.array([0, 2**64 - 1], np.uint64),
    "INT8": np.array([-128, 127], np.int8),
    "INT16": np.array([-(2**15), 2**15 - 1], np.int16),
    "INT32": np.array([-(2**31), 2**31 - 1], np.int32),
    "INT64": np.array([-(2**63), 2**63 - 1], np.int64),
    "FP16": np.array([-65504, 0.1], np.float16),
    "FP32": np.array([1e-45, -3.4e38], np.float32),
    "FP64": np.array([5e-324, 1.7976931348623157e308], np.float64),
    "BYTES": np.array(["W\u00f6rter \"quoted\"", ""], np.object_),
}


def text(array):
    """Texts as they were sent: clients give some back as bytes."""
    if array.dtype != np.object_ and array.dtype.kind not in "SU":
        return array
    decode = lambda value: value.decode() if isinstance(value, bytes) else str(value)
    return np.array([decode(value) for value in array.reshape(-1)], np.object_).reshape(array.shape)


def digits():
    """A batch of images as `digits` takes them, and ONNX Runtime's answer."""
    images = np.load(MODELS / "stream" / "digits.npy")[:5].astype(np.float32).reshape(5, 1, 8, 8) / np.float32(255)
    return images, expected("digits-1.0", image=images)[0]


def cancer():
    """A batch of measurements, and ONNX Runtime's answer."""
    lines = (MODELS / "stream" / "cancer.csv").read_text().splitlines()[1:8]
    rows = np.array([[float(cell) for cell in line.split(",")[:30]] for line in lines], np.float32)
    return rows, expected("cancer-1.0", features=rows)[0]


def ints():
    """Three inputs of three types, and ONNX Runtime's three answers."""
    inputs = {
        "ids": np.array([[4, 6, 8], [9, 1, -7]], np.int64),
        "mask": np.array([[True, False, True], [False, True, True]]),
        "weights": np.array([[0.5, 9.0, 0.25], [1e300, 2.0, -1.0]], np.float64),
    }
    return inputs, dict(zip(("kept", "large", "total"), expected("bad/int-io", **inputs)))


def expected(folder, **inputs):
    session = onnxruntime.InferenceSession(MODELS / folder / "model.onnx", providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def rss_mib():
    """Resident memory of the agent."""
    for line in Path(f"/proc/{PID}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("the agent is gone")


class Case(unittest.TestCase):
    """Assertions about arrays."""

    def same(self, found, wanted):
        found, wanted = text(np.asarray(found)), text(np.asarray(wanted))
        self.assertEqual((found.shape, found.dtype), (wanted.shape, wanted.dtype))
        np.testing.assert_array_equal(found, wanted)

    def classes(self, found, scores, count, labels):
        """Of each row of `scores` the `count` best as `value:index:label`."""
        self.assertEqual(found.shape, (len(scores), count))
        for texts, row in zip(text(found), scores):
            values, places, named = zip(*(entry.split(":") for entry in texts))
            best = np.argsort(-row, kind="stable")[:count]
            self.assertEqual([int(place) for place in places], best.tolist())
            self.assertEqual(list(named), [labels[place] for place in best])
            np.testing.assert_allclose(np.array(values, np.float32), row[best], rtol=1e-4, atol=1e-5)

    def close(self, found, wanted):
        self.assertEqual((found.shape, found.dtype), (wanted.shape, wanted.dtype))
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
