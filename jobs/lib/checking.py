"""What the checks of the jobs share: reading what a job left, and comparing it bit by bit."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray


def read_array(place: str) -> NDArray[Any]:
    """Read FILE:DATASET, or a .npy file, whole; end with a message if that cannot be done."""
    try:
        if place.endswith(".npy"):
            saved: NDArray[Any] = np.load(place)
            return saved
        path, _, name = place.rpartition(":")
        with h5py.File(Path(path), "r") as file:
            data: NDArray[Any] = file[name][...]
        return data
    except (OSError, KeyError, ValueError) as error:
        told = " ".join(str(error).split())
        sys.exit(f"check: cannot read {place}: {told}; run the job first, with --out (and --in)")


def compare(found: NDArray[np.float64], expected: NDArray[np.float64], what: str) -> None:
    """Tell that all doubles agree; end with a message, naming the first, where bits differ.

    `what` they are, in the plural.
    """
    if found.shape != expected.shape or found.dtype != expected.dtype:
        described = (f"{array.shape} {array.dtype}" for array in (found, expected))
        sys.exit(f"check: the {what} are {', numpy has '.join(described)}")
    # Zeros of both signs are equal, and NaN is not; their bits tell.
    bits = (np.ascontiguousarray(array).view(np.uint64) for array in (found, expected))
    wrong = np.argwhere(np.not_equal(*bits))
    if len(wrong):
        place = tuple(wrong[0].tolist())
        sys.exit(
            f"check: {len(wrong)} {what} differ from numpy's, the first at {place}: "
            f"{found[place]!r}, not {expected[place]!r}"
        )
    print(f"check: {found.size} {what} agree with numpy to the last bit")


def printed_number() -> int:
    """Return the last number of a job's output, which comes on standard input."""
    numbers = re.findall(r"\d+", sys.stdin.read())
    if not numbers:
        sys.exit("check: there is no number in the job's output")
    return int(numbers[-1])
