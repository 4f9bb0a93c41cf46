"""Arithmetic on arrays of byte ranges: sets of bytes, and runs with their data.

Free functions on structured arrays with the fields `start` and `length` (layout.RANGE,
messages.RUN and alike); results are layout.RANGE unless they say otherwise. A *normal* set is
sorted and disjoint, without empty ranges, and touching ranges are joined, so that two normal sets
hold the same bytes exactly if they are equal.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.layout import PAGE_SHIFT, RANGE

Ints = NDArray[np.int64]


def from_bounds(starts: Ints, ends: Ints) -> NDArray[Any]:
    """Return layout.RANGE rows for half-open bounds."""
    rows = np.empty(starts.size, RANGE)
    rows["start"] = starts
    rows["length"] = ends - starts
    return rows


def normalise(ranges: NDArray[Any]) -> NDArray[Any]:
    """Return the bytes of `ranges`, in any order and overlapping, as a normal set."""
    kept = ranges[ranges["length"] > 0]
    if kept.size == 0:
        return np.empty(0, RANGE)
    order = np.argsort(kept["start"], kind="stable")
    starts = kept["start"][order]
    reached = np.maximum.accumulate(starts + kept["length"][order])
    firsts = np.flatnonzero(np.concatenate(([True], starts[1:] > reached[:-1])))
    return from_bounds(starts[firsts], reached[np.append(firsts[1:], starts.size) - 1])


def total_bytes(ranges: NDArray[Any]) -> int:
    """Return the sum of the lengths."""
    return int(ranges["length"].sum())


def covers(ranges: NDArray[Any], others: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell for each of `others` whether the normal set `ranges` holds all of its bytes."""
    if ranges.size == 0:
        return np.asarray(others["length"] <= 0)
    row = np.searchsorted(ranges["start"], others["start"], side="right") - 1
    return np.asarray(
        (others["length"] <= 0) | ((row >= 0) & (_ends(others) <= _ends(ranges)[row]))
    )


def round_to_pages(ranges: NDArray[Any]) -> NDArray[Any]:
    """Return each range grown to whole pages, in the same order; empty ones stay empty."""
    first = ranges["start"] >> PAGE_SHIFT
    end = (_ends(ranges) - 1 >> PAGE_SHIFT) + 1
    end = np.where(ranges["length"] > 0, end, first)
    return from_bounds(first << PAGE_SHIFT, end << PAGE_SHIFT)


def pages_of(ranges: NDArray[Any]) -> Ints:
    """Return the numbers of all pages that the bytes touch, ascending, each once."""
    rounded = normalise(round_to_pages(ranges))
    return expand(rounded["start"] >> PAGE_SHIFT, rounded["length"] >> PAGE_SHIFT)


def firsts_of(counts: Ints) -> Ints:
    """Return where each group begins when groups of these sizes lie back to back."""
    return np.zeros(1, np.int64) if counts.size == 1 else np.asarray(counts.cumsum() - counts)


def begins_of(differs: NDArray[np.bool_]) -> Ints:
    """Return where stretches of equal rows begin; `differs` compares each row but the first."""
    begins = np.empty(differs.size + 1, np.bool_)
    begins[0] = True
    begins[1:] = differs
    return np.flatnonzero(begins)


def expand(firsts: Ints, counts: Ints) -> Ints:
    """Return firsts[0], firsts[0] + 1, … counts[0] of them, then those of firsts[1], and so on."""
    # Asked many times for each batch, and often of nothing or of one: methods are quicker than
    # functions, and integers than arrays.
    if counts.size == 1:
        first = int(firsts[0])
        return np.arange(first, first + int(counts[0]))
    ends = counts.cumsum()
    total = int(ends[-1]) if ends.size else 0
    if total == 0:
        return np.empty(0, np.int64)
    return np.asarray((firsts - ends + counts).repeat(counts) + np.arange(total))


def join_consecutive(numbers: Ints) -> tuple[Ints, Ints]:
    """Return `(firsts, counts)` of the stretches in which each number is the last plus one."""
    if numbers.size == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    begins = np.flatnonzero(np.concatenate(([True], np.diff(numbers) != 1)))
    return numbers[begins], np.diff(np.append(begins, numbers.size))


def cut_at(runs: NDArray[Any], block_bytes: int) -> tuple[NDArray[Any], Ints]:
    """Cut messages.RUN rows at the multiples of `block_bytes`.

    Returns
    -------
    The pieces in order, each within one block, with `data_first` moved along; and for each piece
    the row that it was cut from. Empty runs give no piece.
    """
    blocks = runs["start"] // block_bytes
    counts = (_ends(runs) - 1) // block_bytes + 1 - blocks
    counts = np.where(runs["length"] > 0, counts, 0)
    if np.all(counts == 1):
        return runs, np.arange(runs.size, dtype=np.int64)
    rows = np.repeat(np.arange(runs.size, dtype=np.int64), counts)
    pieces = runs.take(rows)
    block_starts = expand(blocks, counts) * block_bytes
    ends = np.minimum(_ends(pieces), block_starts + block_bytes)
    starts = np.maximum(pieces["start"], block_starts)
    pieces["data_first"] += starts - pieces["start"]
    pieces["start"] = starts
    pieces["length"] = ends - starts
    return pieces, rows


def _ends(ranges: NDArray[Any]) -> Ints:
    return np.asarray(ranges["start"] + ranges["length"])


def distinct(numbers: Ints) -> Ints:
    """Return each of the numbers once, ascending.

    As `np.unique` does, which loads masked arrays when it is first called: 10 ms, within a run.
    """
    ordered = np.sort(numbers)
    if ordered.size <= 1:
        return ordered
    return ordered[np.concatenate(([True], ordered[1:] != ordered[:-1]))]
