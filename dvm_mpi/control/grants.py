"""From declared ranges to the sorted, disjoint grants that an engine checks accesses against.

Works on the ranges of many runners at once: a group number says whose range each one is.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.dsm.ranges import expand
from dvm_mpi.dsm.rows import joined
from dvm_mpi.layout import RANGE, SR_END

#: Groups that one pass can tell apart while `group * SR_END + address` still fits in 63 bits.
_GROUPS_PER_PASS: Final = 2**62 // SR_END


def normalise_grouped(
    groups: NDArray[np.int64], ranges: NDArray[Any], group_count: int
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Sort each group's ranges and join those that touch or overlap.

    Parameters
    ----------
    groups
        (n,) group of each range, 0 <= group < group_count, in any order.
    ranges
        (n,) RANGE, inside SR; empty ones are dropped.

    Returns
    -------
    The joined ranges, group after group, and how many each group has: (group_count,) int64.
    """
    if group_count > _GROUPS_PER_PASS:
        half = group_count // 2
        low = groups < half
        left, left_counts = normalise_grouped(groups[low], ranges[low], half)
        rest = normalise_grouped(groups[~low] - half, ranges[~low], group_count - half)
        return np.concatenate([left, rest[0]]), np.concatenate([left_counts, rest[1]])
    kept = ranges["length"] > 0
    offset = groups[kept] * SR_END
    starts = ranges["start"][kept] + offset
    ends = starts + ranges["length"][kept]
    order = np.argsort(starts, kind="stable")
    starts, ends, owner = starts[order], ends[order], groups[kept][order]
    if len(starts) == 0:
        return np.zeros(0, dtype=RANGE), np.zeros(group_count, dtype=np.int64)
    reach = np.maximum.accumulate(ends)
    begins = np.ones(len(starts), dtype=bool)
    begins[1:] = (starts[1:] > reach[:-1]) | (owner[1:] != owner[:-1])
    first = np.flatnonzero(begins)
    joined = np.zeros(len(first), dtype=RANGE)
    owner = owner[first]
    joined["start"] = starts[first] - owner * SR_END
    joined["length"] = np.maximum.reduceat(ends, first) - starts[first]
    return joined, np.bincount(owner, minlength=group_count).astype(np.int64)


def child_grants(
    children: NDArray[Any], child_ranges: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the normalised heap, watched and explicit-stack ranges of each child, and counts."""
    parts = []
    owners = []
    numbers = np.arange(len(children))
    for name in ("heap", "watched"):
        firsts, counts = children[f"{name}_first"], children[f"{name}_count"]
        parts.append(child_ranges.take(expand(firsts, counts)))
        owners.append(np.repeat(numbers, counts))
    explicit = (children["stack_automatic"] == 0) & (children["stack_bytes"] > 0)
    stacks = np.zeros(int(explicit.sum()), dtype=RANGE)
    stacks["start"] = children["stack_base"][explicit]
    stacks["length"] = children["stack_bytes"][explicit]
    parts.append(stacks)
    owners.append(numbers[explicit])
    return normalise_grouped(np.concatenate(owners), joined(parts), len(children))


def overlaps(ranges: NDArray[Any], wanted: NDArray[Any]) -> NDArray[np.bool_]:
    """Say which of `wanted` (any order) share a byte with `ranges` (sorted, disjoint)."""
    if len(ranges) == 0 or len(wanted) == 0:
        return np.zeros(len(wanted), dtype=bool)
    ends = ranges["start"] + ranges["length"]
    at = np.searchsorted(ends, wanted["start"], side="right")
    clipped = np.minimum(at, len(ranges) - 1)
    reaches = ranges["start"][clipped] < wanted["start"] + wanted["length"]
    shared: NDArray[np.bool_] = (at < len(ranges)) & reaches & (wanted["length"] > 0)
    return shared
