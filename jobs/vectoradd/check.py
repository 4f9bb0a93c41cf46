"""Check the vector addition against numpy, to the last bit."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def generate(size: int) -> tuple[Floats, Floats]:
    """Return the vectors that the job makes itself: a[i] = i / 2 and b[i] = the root of i."""
    index = np.arange(size, dtype=np.float64)
    return index / 2, np.sqrt(index)


def read_vector(place: str) -> Floats:
    """Read FILE:DATASET, or a .npy file, whole."""
    try:
        if place.endswith(".npy"):
            saved: Floats = np.load(place)
            return saved
        path, _, name = place.rpartition(":")
        with h5py.File(Path(path), "r") as file:
            vector: Floats = file[name][...]
        return vector
    except (OSError, KeyError, ValueError) as error:
        sys.exit(f"check: cannot read {place}: {error}; run the job first, with --in and --out")


def main() -> None:
    """Run as a command; the exit status is 0 only if every bit agrees."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--a", metavar="FILE:DATASET", help="default: what the job makes itself")
    parser.add_argument("--b", metavar="FILE:DATASET", help="default: what the job makes itself")
    parser.add_argument("--c", metavar="FILE:DATASET", required=True)
    options = parser.parse_args()

    c = read_vector(options.c)
    a, b = generate(len(c))
    if options.a:
        a = read_vector(options.a)
    if options.b:
        b = read_vector(options.b)
    if c.tobytes() != (a + b).tobytes():
        wrong = np.flatnonzero(c != a + b)
        sys.exit(f"check: {len(wrong)} sums differ from numpy's, the first at index {wrong[:1]}")
    print(f"check: {len(c)} sums agree with numpy to the last bit")


if __name__ == "__main__":
    main()
