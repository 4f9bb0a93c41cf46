"""Check the product of the matrices against numpy, to the last bit."""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from jobs.lib.checking import compare, read_array

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


def main() -> None:
    """Run as a command; the exit status is 0 only if every bit agrees."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--c", metavar="FILE:DATASET", required=True)
    parser.add_argument("--a", metavar="FILE:DATASET", help="default: what the job makes itself")
    parser.add_argument("--b", metavar="FILE:DATASET", help="default: what the job makes itself")
    parser.add_argument("--rounds", type=int, default=1, help="-D ROUNDS")
    options = parser.parse_args()

    c = read_array(options.c)
    a, b = generate(c.shape[0], c.shape[2])
    if options.a:
        a = read_array(options.a)
    if options.b:
        b = read_array(options.b)
    compare(c, multiply(a, b, options.rounds), "numbers")


if __name__ == "__main__":
    main()
