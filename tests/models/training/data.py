"""The two UCI data sets, as scikit-learn ships them, cut into disjoint train / reference / held-out parts."""

from dataclasses import dataclass

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.model_selection import train_test_split

SPLIT_SEED = 20_261_123


@dataclass(frozen=True)
class Split:
    """Three disjoint parts; `reference` and `held_out` are never trained on."""

    train_x: np.ndarray
    train_y: np.ndarray
    reference_x: np.ndarray
    reference_y: np.ndarray
    held_out_x: np.ndarray
    held_out_y: np.ndarray


def split(x, y, reference: int, held_out: int) -> Split:
    """Stratified by class, so that the parts have the same class shares."""
    rest_x, held_x, rest_y, held_y = train_test_split(
        x, y, test_size=held_out, random_state=SPLIT_SEED, stratify=y
    )
    train_x, ref_x, train_y, ref_y = train_test_split(
        rest_x, rest_y, test_size=reference, random_state=SPLIT_SEED + 1, stratify=rest_y
    )
    return Split(train_x, train_y, ref_x, ref_y, held_x, held_y)


def digits() -> Split:
    """1,797 handwritten digits, uint8 [n, 8, 8], ink counts 0..16 as UCI publishes them."""
    bunch = load_digits()
    images = bunch.images.astype(np.uint8)
    assert images.shape == (1797, 8, 8) and images.max() == 16
    return split(images, bunch.target.astype(np.uint8), reference=300, held_out=800)


def as_pixels(counts: np.ndarray) -> np.ndarray:
    """Ink counts 0..16 as the grey values 0..255 that a camera and a PNG file carry."""
    return np.rint(counts.astype(np.float64) * 255.0 / 16.0).astype(np.uint8)


def cancer() -> tuple[Split, list[str], list[str]]:
    """569 biopsies, float32 [n, 30]; returns the split, the feature names and the class names."""
    bunch = load_breast_cancer()
    names = [str(name).replace(" ", "_") for name in bunch.feature_names]
    classes = [str(name) for name in bunch.target_names]
    x = bunch.data.astype(np.float32)
    return split(x, bunch.target.astype(np.uint8), reference=200, held_out=100), names, classes
