"""Check the stencil against numpy, to the last bit."""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from jobs.lib.checking import compare, read_array

Floats = NDArray[np.float64]


def generate(rows: int, columns: int) -> Floats:
    """Return the plate that the job makes itself: cell (r, c) is (7 r + 13 c) mod 101."""
    row, column = np.indices((rows, columns))
    return np.asarray((7 * row + 13 * column) % 101, np.float64)


def spread(plate: Floats, steps: int) -> Floats:
    """Return the plate after so many steps, every sum in the job's order."""
    now = plate.copy()
    for _ in range(steps):
        around = (now[:-2, 1:-1] + now[2:, 1:-1]) + (now[1:-1, :-2] + now[1:-1, 2:])
        then = now.copy()
        then[1:-1, 1:-1] = now[1:-1, 1:-1] * 0.5 + around * 0.125
        now = then
    return now


def main() -> None:
    """Run as a command; the exit status is 0 only if every bit agrees."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--result", metavar="FILE:DATASET", required=True,
                        help="`plate` after an even number of steps, else `other`")  # fmt: skip
    parser.add_argument("--plate", metavar="FILE:DATASET", help="default: what the job makes")
    parser.add_argument("--iterations", type=int, default=20, help="-D ITERATIONS")
    options = parser.parse_args()

    result = read_array(options.result)
    plate = read_array(options.plate) if options.plate else generate(*result.shape)
    compare(result, spread(plate, options.iterations), "cells")


if __name__ == "__main__":
    main()
