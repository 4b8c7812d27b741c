"""The agent beside FastAPI with uvicorn, Python's http.server and MLServer, all around ONNX Runtime, under load.

    python3 -m venv .venv && .venv/bin/pip install -r tests/benches/serving/requirements.txt
    python3 -m venv .mlserver && .mlserver/bin/pip install -r tests/benches/serving/requirements-mlserver.txt
    .venv/bin/python tests/benches/serving/serving.py --bin target/release --mlserver .mlserver/bin/mlserver

Needs `wrk`, which keeps its connections open. Every server is one process with one thread for each inference. Clients send
float32 as bytes (the agent: Open Inference Protocol, binary tensors), MLServer's clients JSON: it takes nothing else. The servers
of one model take turns, so that other work on the machine meets all of them. Resident is after the load of all connections. Without `--mlserver` that one is
left out: it wants an older FastAPI, so an environment of its own. Ends with 1 on an answer other than 200.
"""

import argparse
import json
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

HERE = Path(__file__).resolve().parent
TESTS = HERE.parents[1]


def forest(path):
    """100 trees on the handwritten digits, 64 features."""
    from skl2onnx import to_onnx
    from sklearn.datasets import load_digits
    from sklearn.ensemble import RandomForestClassifier

    data = load_digits()
    model = RandomForestClassifier(100, random_state=0, n_jobs=1).fit(data.data, data.target)
    exported = to_onnx(model, data.data[:1].astype(np.float32), options={"zipmap": False}, target_opset={"": 17, "ai.onnx.ml": 3})
    onnx.save(exported, path)


def recurrent(path):
    """An LSTM of 32 cells over 50 steps of 16 values, and a linear layer on its last state; random weights."""
    steps, width, cells = 50, 16, 32
    random = np.random.default_rng(3)
    weight = lambda name, *shape: numpy_helper.from_array(random.normal(0, 0.2, shape).astype(np.float32), name)
    weights = [weight("w", 1, 4 * cells, width), weight("r", 1, 4 * cells, cells), weight("b", 1, 8 * cells),
               weight("out", cells, 4), numpy_helper.from_array(np.array([0]), "first")]
    nodes = [helper.make_node("LSTM", ["x", "w", "r", "b"], ["", "last"], hidden_size=cells),
             helper.make_node("Squeeze", ["last", "first"], ["state"]),
             helper.make_node("MatMul", ["state", "out"], ["y"])]
    value = lambda name, *shape: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "lstm", [value("x", steps, 1, width)], [value("y", 1, 4)], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


MODELS = [
    ("digits", TESTS / "models/digits-1.0/model.onnx", (1, 1, 8, 8)),
    ("forest", forest, (1, 64)),
    ("lstm", recurrent, (50, 1, 16)),
    ("squeezenet", Path(onnx.__file__).parent / "backend/test/data/light/light_squeezenet.onnx", (1, 3, 224, 224)),
]


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def resident_mib(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def bundle(binaries, folder, name, model, feed, key):
    source = folder / name
    (source / "samples").mkdir(parents=True)
    (source / "model.onnx").write_bytes(model.read_bytes())
    inputs = [{"name": feed[0], "shape": list(feed[1].shape), "datatype": "FP32", "data": feed[1].ravel().tolist()}]
    (source / "samples/one.json").write_text(json.dumps({"inputs": inputs}))
    (source / "bundle.toml").write_text(
        f'name = "{name}"\nversion = "1.0.0"\nmodel = "model.onnx"\n[golden]\nsamples = "samples"\n')
    out = folder / f"{name}.fieldpost"
    subprocess.run([binaries / "fieldpost", "bundle", "pack", source, "--key", key, "--out", out], check=True,
                   stdout=subprocess.DEVNULL)
    return out


def agent(binaries, packed, name, feed):
    """Started, and a row for tract alone: what the agent's own self-test measured in process, on one thread."""
    command = [binaries / "fieldpost-agent", "try", packed, "--serve", "--http", "127.0.0.1:0", "--output", "json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    said = json.loads(process.stdout.readline())
    bare = said["self_test"]["p50_ms"]
    print(f"| {name} | | tract, in process | {1e3 / bare:,.0f} | {bare:.3f} ms | | | |", flush=True)
    data = feed[1].tobytes()
    entry = {"name": feed[0], "shape": list(feed[1].shape), "datatype": "FP32", "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [entry], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return process, f"http://{said['http']}/v2/models/{name}/infer", head + data, headers


def peer(kind, model, feed):
    port = free_port()
    shape = "x".join(map(str, feed[1].shape))
    process = subprocess.Popen([sys.executable, HERE / "peer.py", kind, model, shape, str(port)])
    return process, f"http://127.0.0.1:{port}/", feed[1].tobytes(), {"Content-Type": "application/octet-stream"}


def mlserver(program, folder, name, model, feed):
    home, ports = folder / f"mlserver-{name}", [free_port() for _ in range(3)]
    home.mkdir()
    (home / "peer_mlserver.py").write_bytes((HERE / "peer_mlserver.py").read_bytes())
    (home / "model-settings.json").write_text(json.dumps(
        {"name": name, "implementation": "peer_mlserver.Model", "parameters": {"uri": str(model)}}))
    (home / "settings.json").write_text(json.dumps(
        {"host": "127.0.0.1", "http_port": ports[0], "grpc_port": ports[1], "metrics_port": ports[2], "parallel_workers": 0,
         "debug": False}))
    process = subprocess.Popen([program, "start", "."], cwd=home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    # Over HTTP it takes JSON alone.
    entry = {"name": feed[0], "shape": list(feed[1].shape), "datatype": "FP32", "data": feed[1].ravel().tolist()}
    body = json.dumps({"inputs": [entry]}).encode()
    return process, f"http://127.0.0.1:{ports[0]}/v2/models/{name}/infer", body, {"Content-Type": "application/json"}


def wait_ready(url, body, headers):
    for _ in range(600):
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30) as response:
                return len(response.read())
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"{url} does not answer")


def load(folder, url, body, headers, connections, seconds, pid):
    (folder / "body").write_bytes(body)
    lines = "".join(f'wrk.headers["{key}"] = "{value}"\n' for key, value in headers.items())
    script = folder / "load.lua"
    script.write_text(
        f'wrk.method = "POST"\nlocal file = io.open("{folder}/body", "rb")\nwrk.body = file:read("*a")\nfile:close()\n{lines}'
        'done = function(summary, latency)\n  local e = summary.errors\n'
        '  print(string.format("FIGURES %d %d %d %d %d", summary.requests, summary.duration, latency:percentile(50), '
        'latency:percentile(99), e.connect + e.read + e.write + e.status + e.timeout))\nend\n')
    before = cpu_seconds(pid)
    done = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", script, url],
                          check=True, capture_output=True, text=True)
    used = cpu_seconds(pid) - before
    requests, micros, p50, p99, errors = map(int, re.search(r"FIGURES (.*)", done.stdout)[1].split())
    return {"rate": requests / micros * 1e6, "p50": p50 / 1e3, "p99": p99 / 1e3, "cpu": used / max(requests, 1) * 1e6,
            "errors": errors, "resident": resident_mib(pid)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", type=Path, required=True, help="folder with fieldpost and fieldpost-agent")
    parser.add_argument("--mlserver", type=Path, help="the program `mlserver`, of an environment of its own")
    parser.add_argument("--models", default=",".join(name for name, *_ in MODELS), help="which, by name, separated by commas")
    parser.add_argument("--seconds", type=int, default=4, help="of load for each figure")
    arguments = parser.parse_args()
    binaries, bad = arguments.bin.absolute(), 0
    print("| model | connections | server | requests/s | p50 | p99 | processor time of one | resident |\n"
          "|---|---:|---|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        key = folder / "publisher.key"
        subprocess.run([binaries / "fieldpost", "key", "publisher", "--out", key], check=True, capture_output=True)
        for name, model, shape in (one for one in MODELS if one[0] in arguments.models.split(",")):
            if callable(model):
                make, model = model, folder / f"{name}.onnx"
                make(model)
            graph = onnx.load(model).graph
            weights = {weight.name for weight in graph.initializer}
            [given] = [i.name for i in graph.input if i.name not in weights]
            feed = given, np.random.default_rng(7).uniform(0, 1, shape).astype(np.float32)
            servers = {
                "agent": agent(binaries, bundle(binaries, folder, name, model, feed, key), name, feed),
                "FastAPI, uvicorn": peer("fastapi", model, feed),
                "http.server": peer("http", model, feed),
            }
            if arguments.mlserver:
                servers["MLServer"] = mlserver(arguments.mlserver.absolute(), folder, name, model, feed)
            try:
                for _process, *call in servers.values():
                    wait_ready(*call)
                for connections in (1, 8, 64):
                    for title, (process, *call) in servers.items():
                        row = load(folder, *call, connections, arguments.seconds, process.pid)
                        bad += row["errors"]
                        print(f"| {name} | {connections} | {title} | {row['rate']:,.0f} | {row['p50']:.2f} ms | {row['p99']:.2f} ms "
                              f"| {row['cpu']:,.0f} us | {row['resident']:.0f} MiB |" + (f" {row['errors']} errors" if row["errors"] else ""), flush=True)
            finally:
                for process, *_ in servers.values():
                    process.send_signal(signal.SIGTERM)
                    process.wait(30)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
