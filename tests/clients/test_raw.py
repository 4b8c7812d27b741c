"""Bytes on the wire: over TCP and over the Unix socket, right and wrong."""

import gzip
import http.client
import json
import math
import os
import socket
import stat
import struct
import unittest
import zlib

import requests

import field

INFER = "/v2/models/cancer/infer"


class Local(http.client.HTTPConnection):
    """HTTP over the agent's Unix socket."""

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(60)
        self.sock.connect(field.SOCKET)


class Tcp(http.client.HTTPConnection):
    def __init__(self):
        super().__init__(field.HTTP, timeout=60)


def ask(kind, path, body=None, headers=None, method=None):
    """Status, headers and body of an answer."""
    connection = kind("agent") if kind is Local else kind()
    try:
        connection.request(method or ("GET" if body is None else "POST"), path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, dict((name.lower(), value) for name, value in answer.getheaders()), answer.read()
    finally:
        connection.close()


def tensor(**more):
    return {"name": "features", "shape": [1, 30], "datatype": "FP32", **more}


def blob(count=30):
    return struct.pack(f"<{count}f", *[1.0] * count)


def binary(head, tail):
    head = json.dumps(head).encode()
    return head + tail, {"Inference-Header-Content-Length": str(len(head))}


class Raw(field.Case):
    def both(self, path, body=None, headers=None):
        """The same over both roads."""
        tcp, local = (ask(kind, path, body, headers) for kind in (Tcp, Local))
        self.assertEqual(tcp[0], local[0])
        return local

    def refused(self, status, reason, path, body, headers=None):
        found, _, text = self.both(path, body, headers)
        self.assertEqual(found, status, text[:300])
        self.assertRegex(json.loads(text)["error"], reason)

    def test_the_socket_is_for_owner_and_group(self):
        self.assertEqual(stat.S_IMODE(os.stat(field.SOCKET).st_mode), 0o660)

    def test_health_in_the_words_of_each_client(self):
        for path in ("/v2/health/live", "/v2/health/ready"):
            status, _, body = self.both(path)
            self.assertEqual((status, json.loads(body)), (200, {"live": True, "ready": True}))
        self.assertEqual(json.loads(self.both("/v2/models/echo/ready")[2]), {"name": "echo", "ready": True})

    def test_a_raw_body_is_the_one_input(self):
        rows, wanted = field.cancer()
        headers = {"Inference-Header-Content-Length": "0", "Content-Type": "application/octet-stream"}
        status, headers, body = self.both(INFER, rows.tobytes(), headers)
        length = int(headers["inference-header-content-length"])
        head = json.loads(body[:length])
        self.assertEqual((status, head["outputs"][0]["shape"]), (200, list(wanted.shape)))
        found = field.np.frombuffer(body[length:], field.np.float32).reshape(wanted.shape)
        self.close(found, wanted)

    def test_nested_and_flat_and_bare_words(self):
        flat = [0.5] * 30
        answers = [self.both(INFER, json.dumps({"inputs": [tensor(data=data)]})) for data in (flat, [flat])]
        outputs = [json.loads(body)["outputs"] for _, _, body in answers]
        self.assertEqual(outputs[0], outputs[1])
        inputs = [
            {"name": f"in_{kind}", "shape": [2], "datatype": kind, "data": ["a", "b"] if kind == "BYTES" else [1, 0]}
            for kind in field.VALUES
        ]
        by_name = {entry["name"]: entry for entry in inputs}
        for values in ([math.inf, -math.inf], ["Infinity", "-Infinity"]):
            by_name["in_FP64"]["data"] = values
            body = json.dumps({"inputs": inputs, "outputs": [{"name": "out_FP64"}]})
            status, _, answer = self.both("/v2/models/echo/infer", body)
            self.assertEqual((status, json.loads(answer)["outputs"][0]["data"]), (200, ["Infinity", "-Infinity"]))
        # NaN is read as well; that one comes out of a model is an error, and here its input's.
        for values in ([math.nan, 1], ["NaN", 1], [None, 1]):
            by_name["in_FP64"]["data"] = values
            self.refused(400, "NaN, because an input does", "/v2/models/echo/infer", json.dumps({"inputs": inputs}))

    def test_requests_speaks_it_with_compression(self):
        body = gzip.compress(json.dumps({"inputs": [tensor(shape=[99, 30], data=[0.5] * 2970)]}).encode())
        answer = requests.post(f"http://{field.HTTP}{INFER}", data=body, headers={"Content-Encoding": "gzip"}, timeout=60)
        self.assertEqual((answer.status_code, answer.headers["Content-Encoding"]), (200, "gzip"))
        self.assertEqual(answer.json()["outputs"][0]["shape"], [99, 2])

    def test_wrong_names_types_and_shapes(self):
        sound = {"inputs": [tensor(data=[0] * 30)]}
        self.refused(404, "no model `nothing`", "/v2/models/nothing/infer", json.dumps(sound))
        self.refused(404, "version 1.0.0", "/v2/models/cancer/versions/7/infer", json.dumps(sound))
        for change, reason in (
            ({"name": "x"}, "it is missing"),
            ({"datatype": "INT32"}, "has INT32"),
            ({"datatype": "BF16"}, "is not one of"),
            ({"shape": [-1, 30]}, "negative: -1"),
            ({"shape": [2**62, 30]}, "overflows"),
            ({"shape": [2**64, 30]}, "malformed"),
            ({"shape": [2, 30]}, "60 elements, its data 30"),
            ({"shape": [10**9, 30]}, "elements, its data 30"),
            ({"shape": [1, 29]}, "its shape is"),
            ({"data": [0] * 31}, "more than 30 elements"),
            ({"data": ["a"]}, "does not fit"),
        ):
            self.refused(400, reason, INFER, json.dumps({"inputs": [{**tensor(data=[0] * 30), **change}]}))
        self.refused(400, "malformed", INFER, '{"inputs": [')
        self.refused(400, "malformed|recursion", INFER, '{"inputs": ' + "[" * 100_000)

    def test_wrong_binary_bodies(self):
        sized = lambda size: {"inputs": [tensor(parameters={"binary_data_size": size})]}
        self.refused(400, "119 bytes are left", INFER, *binary(sized(120), blob()[:119]))
        self.refused(400, "1 bytes are left behind", INFER, *binary(sized(120), blob() + b"x"))
        self.refused(400, "needs 120 bytes, got 116", INFER, *binary(sized(116), blob(29)))
        self.refused(400, "malformed", INFER, *binary(sized(-1), blob()))
        self.refused(400, "bytes are left", INFER, *binary(sized(2**63), blob()))
        body, _ = binary(sized(120), blob())
        for length, reason in (("9999999999", "the body has"), ("-5", "whole number"), ("x", "whole number"), ("3", "malformed")):
            self.refused(400, reason, INFER, body, {"Inference-Header-Content-Length": length})
        self.refused(400, "the request no", INFER, json.dumps(sized(120)))
        self.refused(400, "one input", "/v2/models/int-io/infer", b"1234", {"Inference-Header-Content-Length": "0"})

    def test_bombs_and_large_bodies_are_refused_and_memory_stays(self):
        bombs = (("gzip", gzip.compress(bytes(256 << 20), 9)), ("deflate", zlib.compress(bytes(256 << 20), 9)))
        # Warm, so that what is measured is not the first use.
        for coding, bomb in bombs:
            self.refused(413, "when unpacked", INFER, bomb, {"Content-Encoding": coding})
        memory = field.rss_mib()
        for _ in range(4):
            for coding, bomb in bombs:
                self.refused(413, "when unpacked", INFER, bomb, {"Content-Encoding": coding})
            for kind in (Tcp, Local):
                connection = kind("agent") if kind is Local else kind()
                connection.putrequest("POST", INFER)
                connection.putheader("Content-Length", str(1 << 30))
                connection.endheaders()
                answer = connection.getresponse()
                self.assertEqual((answer.status, "larger" in answer.read().decode()), (413, True))
                connection.close()
        # What the agent gives to bodies altogether; unpacked, each of these would be four times as large.
        self.assertLess(field.rss_mib() - memory, 64)
        self.refused(400, "cannot be unpacked", INFER, b"plain", {"Content-Encoding": "gzip"})
        self.refused(415, "gzip, deflate", INFER, b"plain", {"Content-Encoding": "br"})

    def test_an_answer_does_not_grow_with_the_request(self):
        twice = [{"name": "probabilities"}] * 2
        self.refused(400, "asked for twice", INFER, json.dumps({"inputs": [tensor(data=[0] * 30)], "outputs": twice}))


if __name__ == "__main__":
    unittest.main()
