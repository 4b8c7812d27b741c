#!/usr/bin/env python3
"""Makes every model, reference set, sample and fixture in this folder, then proves with ONNX Runtime what they claim.

    python -m venv .venv && .venv/bin/pip install -r requirements.txt
    .venv/bin/python train.py            # writes into this folder
    .venv/bin/python train.py --check    # writes elsewhere, fails if one byte differs from what is committed
"""

import os

# One thread and one set of kernels: the order of float additions, and with it every weight, depends on them.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["OPENBLAS_CORETYPE"] = "Haswell"

import argparse
import filecmp
import sys
import tempfile
from pathlib import Path

from training import cancer, claims, digits, fixtures, harms

HERE = Path(__file__).resolve().parent


def build(root: Path) -> None:
    """Writes all files below `root`."""
    digits.write(root)
    cancer.write(root)
    fixtures.write(root)
    harms.write(root)


def differences(fresh: Path, committed: Path) -> list[str]:
    """Files of `fresh` that `committed` lacks or holds with other bytes."""
    files = sorted(path.relative_to(fresh) for path in fresh.rglob("*") if path.is_file())
    return [
        str(name)
        for name in files
        if not (committed / name).is_file() or not filecmp.cmp(fresh / name, committed / name, shallow=False)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write to a temporary folder and compare")
    if not parser.parse_args().check:
        build(HERE)
        return claims.prove(HERE)
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder))
        changed = differences(Path(folder), HERE)
        for name in changed:
            print(f"differs: {name}", file=sys.stderr)
        return claims.prove(Path(folder)) or int(bool(changed))


if __name__ == "__main__":
    sys.exit(main())
