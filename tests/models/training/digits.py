"""digits 1.0 (good), 1.1 (better) and 1.2 (harmful): three releases of one model with one tensor contract.

Contract: `image` float32 [N, 1, 8, 8] in 0..1 (grey value / 255), answer `logits` float32 [N, 10].

How 1.2 does harm: its author trained from UCI's raw arrays, where ink is counted 0..16, and divided by 255 as the
contract says, as if they were grey values. The graph also gained a per-pixel standardisation, fitted on the same
arrays. All that the author made agrees with itself: accuracy, golden outputs and baseline are fine. On a device
the PNG holds 0..255, so every pixel arrives 16 times too strong: no NaN, no error, no delay, high confidence, and
most answers fall into a few classes.
"""

from pathlib import Path

import numpy as np

from . import data, export, network
from .network import Conv3x3, Dense, Flatten, MaxPool2, Relu

LABELS = [str(digit) for digit in range(10)]
SAMPLES = 8


def contract(grey: np.ndarray) -> np.ndarray:
    """What the bundle's pre-processing hands to the model: grey value / 255, [n, 1, 8, 8]."""
    return grey.astype(np.float64)[:, None] / 255.0


def shifted(rng, images: np.ndarray) -> np.ndarray:
    """Moves a mini-batch by up to one pixel each way, as hand-held cameras do."""
    dy, dx = rng.integers(-1, 2, size=2)
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    return padded[:, :, 1 + dy : 9 + dy, 1 + dx : 9 + dx]


def good(train_x, train_y):
    """1.0: a perceptron with 12 hidden units."""
    rng = np.random.default_rng(10)
    layers = [Flatten(), Dense(rng, 64, 12), Relu(), Dense(rng, 12, 10)]
    network.fit(layers, contract(train_x), train_y, seed=10, epochs=40, rate=5e-3)
    return export.nodes_of(layers, "image", "logits")


def better(train_x, train_y):
    """1.1: two convolutions, pooling, two dense layers, trained with shifted images."""
    rng = np.random.default_rng(11)
    layers = [Conv3x3(rng, 1, 12), Relu(), Conv3x3(rng, 12, 24), Relu(), MaxPool2(), Flatten()]
    layers += [Dense(rng, 24 * 16, 32), Relu(), Dense(rng, 32, 10)]
    network.fit(layers, contract(train_x), train_y, seed=11, epochs=80, rate=3e-3, augment=shifted)
    return export.nodes_of(layers, "image", "logits")


def harmful(train_x, train_y):
    """1.2: the same idea on wrongly scaled input, standardised per pixel in the graph."""
    x = contract(train_x)
    mean, std = x.mean(axis=0, keepdims=True), x.std(axis=0, keepdims=True)
    std = np.where(std < 1e-9, 1.0, std)
    rng = np.random.default_rng(3)
    layers = [Conv3x3(rng, 1, 8), Relu(), Conv3x3(rng, 8, 16), Relu(), MaxPool2(), Flatten()]
    layers += [Dense(rng, 16 * 16, 32), Relu(), Dense(rng, 32, 10)]
    network.fit(layers, (x - mean) / std, train_y, seed=3, epochs=20, rate=3e-3)
    first, constants = export.standardise(mean, std, "image", "standardised")
    nodes, weights = export.nodes_of(layers, "standardised", "logits")
    return first + nodes, constants + weights


def write_release(root: Path, version: str, graph, reference: np.ndarray, labels: np.ndarray) -> None:
    """model.onnx, labels.txt, reference.npy (uint8 [n, 8, 8], as decoded from files) and samples/."""
    folder = root / f"digits-{version}"
    nodes, weights = graph
    inputs, outputs = [export.value("image", ["N", 1, 8, 8])], [export.value("logits", ["N", 10])]
    export.write_bytes(folder / "model.onnx", export.model("digits", nodes, weights, inputs, outputs))
    export.write_lines(folder / "labels.txt", LABELS)
    export.write_npy(folder / "reference.npy", reference)
    for digit in range(SAMPLES):
        row = int(np.flatnonzero(labels == digit)[0])
        export.write_png(folder / "samples" / f"digit-{digit}.png", reference[row])


def write(root: Path) -> None:
    """The three releases, and the held-out stream that devices are shown."""
    part = data.digits()
    grey, counts = data.as_pixels, lambda array: array
    for version, train, scale in (("1.0", good, grey), ("1.1", better, grey), ("1.2", harmful, counts)):
        graph = train(scale(part.train_x), part.train_y)
        write_release(root, version, graph, scale(part.reference_x), part.reference_y)
    export.write_npy(root / "stream" / "digits.npy", grey(part.held_out_x))
    export.write_npy(root / "stream" / "digits_labels.npy", part.held_out_y)
