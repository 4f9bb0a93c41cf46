"""Write two vectors of random numbers as the input of the vector addition."""

from __future__ import annotations

import argparse
from pathlib import Path

import h5py
import numpy as np


def main() -> None:
    """Run as a command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=1_000_000, help="-D N")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("build/vectoradd/input.h5"))
    options = parser.parse_args()

    generator = np.random.default_rng(options.seed)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(options.output, "w") as file:
        for name in ("a", "b"):
            file.create_dataset(name, data=generator.standard_normal(options.size))
    print(f"{options.output}: a and b, {options.size} numbers each")


if __name__ == "__main__":
    main()
