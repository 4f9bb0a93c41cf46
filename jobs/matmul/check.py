"""Check the product of the matrices against numpy, to the last bit."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def generate(tiles: int, tile: int) -> tuple[Floats, Floats]:
    """Return the matrices that the job makes itself, by tiles: (tiles, tiles, tile, tile)."""
    number = np.arange((tiles * tile) ** 2).reshape(tiles, tiles, tile, tile)
    return (31 * number % 1009) / 7.0, (17 * number % 997) / 11.0


def whole(tiled: Floats) -> Floats:
    """Return a matrix as rows and columns, from its tiles."""
    size = tiled.shape[0] * tiled.shape[2]
    return np.ascontiguousarray(tiled.transpose(0, 2, 1, 3)).reshape(size, size)


def in_tiles(matrix: Floats, tile: int) -> Floats:
    """Return a matrix by tiles; `whole` undoes it."""
    tiles = len(matrix) // tile
    return np.ascontiguousarray(matrix.reshape(tiles, tile, tiles, tile).transpose(0, 2, 1, 3))


def multiply(a: Floats, b: Floats, rounds: int) -> Floats:
    """Return the product added to zero `rounds` times, by tiles, every sum in the job's order."""
    left, right = whole(a), whole(b)
    product = np.zeros_like(left)
    for _ in range(rounds):
        for column in range(len(left)):
            product += left[:, column, None] * right[column]
    return in_tiles(product, a.shape[2])


def read_tiles(place: str) -> Floats:
    """Read FILE:DATASET, or a .npy file, whole."""
    try:
        if place.endswith(".npy"):
            saved: Floats = np.load(place)
            return saved
        path, _, name = place.rpartition(":")
        with h5py.File(Path(path), "r") as file:
            tiles: Floats = file[name][...]
        return tiles
    except (OSError, KeyError, ValueError) as error:
        sys.exit(f"check: cannot read {place}: {error}; run the job first, with --out")


def main() -> None:
    """Run as a command; the exit status is 0 only if every bit agrees."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--c", metavar="FILE:DATASET", required=True)
    parser.add_argument("--a", metavar="FILE:DATASET", help="default: what the job makes itself")
    parser.add_argument("--b", metavar="FILE:DATASET", help="default: what the job makes itself")
    parser.add_argument("--rounds", type=int, default=1, help="-D ROUNDS")
    options = parser.parse_args()

    c = read_tiles(options.c)
    a, b = generate(c.shape[0], c.shape[2])
    if options.a:
        a = read_tiles(options.a)
    if options.b:
        b = read_tiles(options.b)
    expected = multiply(a, b, options.rounds)
    if c.tobytes() != expected.tobytes():
        wrong = np.argwhere(c != expected)
        sys.exit(f"check: {len(wrong)} numbers differ from numpy's, the first at {wrong[:1]}")
    print(f"check: {c.size} numbers agree with numpy to the last bit")


if __name__ == "__main__":
    main()
