"""Check the vector addition against numpy, to the last bit."""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from jobs.lib.checking import compare, read_array

Floats = NDArray[np.float64]


def generate(size: int) -> tuple[Floats, Floats]:
    """Return the vectors that the job makes itself: a[i] = i / 2 and b[i] = the root of i."""
    index = np.arange(size, dtype=np.float64)
    return index / 2, np.sqrt(index)


def main() -> None:
    """Run as a command; the exit status is 0 only if every bit agrees."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--a", metavar="FILE:DATASET", help="default: what the job makes itself")
    parser.add_argument("--b", metavar="FILE:DATASET", help="default: what the job makes itself")
    parser.add_argument("--c", metavar="FILE:DATASET", required=True)
    options = parser.parse_args()

    c = read_array(options.c)
    a, b = generate(len(c))
    if options.a:
        a = read_array(options.a)
    if options.b:
        b = read_array(options.b)
    compare(c, a + b, "sums")


if __name__ == "__main__":
    main()
