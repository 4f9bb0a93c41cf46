"""Compiled loops over a balanced tree of watched ranges, which may overlap at will.

A treap: ordered by (start, node) like a search tree and by priority like a heap, which keeps
it balanced; priorities are mixed from a counter, so the same calls give the same tree. Every node
also knows how far the ranges of its subtree reach, so that a search leaves out subtrees that end
before the stored bytes. Adding, removing and each match cost the logarithm of the ranges there are.

The nodes are rows of (capacity, 8) int64, one cache line each. Row 0 is no node: it stands for "no
child", and its LEFT is the root.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.dsm.kernels import entry_kernel, kernel

Ints = NDArray[np.int64]

START: Final = 0
END: Final = 1
#: The largest end in the subtree.
REACH: Final = 2
LEFT: Final = 3
RIGHT: Final = 4
TEMPLATE: Final = 5
PRIORITY: Final = 6
#: The next node of the same template, or of the list of free nodes.
NEXT: Final = 7
FIELDS: Final = 8

NO_NODE: Final = 0
#: REACH of no node: no stored byte lies before it.
BELOW_ALL: Final = -(2**63)
#: Behind every range.
ABOVE_ALL: Final = 2**63 - 1
#: Columns of stored runs, as words.
RUN_START: Final = 0
RUN_LENGTH: Final = 1

#: Nodes on a path from the root; three times the expected depth of a tree of 2**40 nodes.
PATH_NODES_MAX: Final = 256

MIXER: Final = 0x9E37_79B9_7F4A_7C15 - 2**64


@kernel
def mixed(number: int) -> int:
    """Return a well-mixed non-negative number; distinct ones for distinct numbers below 2**40."""
    number = number * MIXER
    number ^= (number >> 29) & 0x7_FFFF_FFFF
    number = number * MIXER
    return (number >> 1) & 0x7FFF_FFFF_FFFF_FFFF


@kernel
def goes_before(nodes: Ints, left: int, right: int) -> bool:
    """Tell whether node `left` comes before node `right` in the order of the tree."""
    if nodes[left, START] != nodes[right, START]:
        return bool(nodes[left, START] < nodes[right, START])
    return left < right


@kernel
def measure(nodes: Ints, path: Ints, length: int) -> None:
    """Set REACH of the first `length` nodes of `path`, the last of them first."""
    for step in range(length - 1, -1, -1):
        node = path[step]
        reach = max(nodes[nodes[node, LEFT], REACH], nodes[nodes[node, RIGHT], REACH])
        nodes[node, REACH] = max(reach, nodes[node, END])


@kernel
def insert(nodes: Ints, node: int, path: Ints) -> None:
    """Put a node, whose range, template and priority are set, into the tree."""
    parent, side = NO_NODE, LEFT
    below = nodes[NO_NODE, LEFT]
    while below != NO_NODE and nodes[below, PRIORITY] >= nodes[node, PRIORITY]:
        nodes[below, REACH] = max(nodes[below, REACH], nodes[node, END])
        parent = below
        side = LEFT if goes_before(nodes, node, below) else RIGHT
        below = nodes[parent, side]
    nodes[parent, side] = node
    # What was below is divided into the nodes that come before the new one and those behind.
    before, before_side = node, LEFT
    behind, behind_side = node, RIGHT
    path[0] = node
    length = 1
    while below != NO_NODE:
        path[length] = below
        length += 1
        if goes_before(nodes, below, node):
            nodes[before, before_side] = below
            before, before_side = below, RIGHT
            below = nodes[below, RIGHT]
        else:
            nodes[behind, behind_side] = below
            behind, behind_side = below, LEFT
            below = nodes[below, LEFT]
    nodes[before, before_side] = NO_NODE
    nodes[behind, behind_side] = NO_NODE
    measure(nodes, path, length)


@kernel
def erase(nodes: Ints, node: int, path: Ints) -> None:
    """Take a node out of the tree."""
    parent, side = NO_NODE, LEFT
    length = 0
    here = nodes[NO_NODE, LEFT]
    while here != node:
        path[length] = here
        length += 1
        parent = here
        side = LEFT if goes_before(nodes, node, here) else RIGHT
        here = nodes[here, side]
    # Its two subtrees become one, the higher priority on top.
    left = nodes[node, LEFT]
    right = nodes[node, RIGHT]
    while min(left, right) > NO_NODE:
        if nodes[left, PRIORITY] >= nodes[right, PRIORITY]:
            nodes[parent, side] = left
            parent, side = left, RIGHT
            left = nodes[left, RIGHT]
        else:
            nodes[parent, side] = right
            parent, side = right, LEFT
            right = nodes[right, LEFT]
        path[length] = parent
        length += 1
    nodes[parent, side] = left if right == NO_NODE else right
    measure(nodes, path, length)


@entry_kernel(
    "int64(int64[:, ::1], int64[::1], int64[::1], int64[::1], int64[::1], int64, int64, "
    "int64[::1], int64[::1])"
)
def add_each(
    nodes: Ints,
    templates: Ints,
    counts: Ints,
    starts: Ints,
    lengths: Ints,
    free: int,
    serial: int,
    path: Ints,
    firsts: Ints,
) -> int:
    """Insert the ranges of templates, `counts` rows each, and fill in each one's first node.

    Nodes are taken from the head of the free list; its head afterwards is returned. Empty ranges
    are passed over. `serial` is the number of ranges given so far.
    """
    row = 0
    for position in range(templates.size):
        firsts[position] = NO_NODE
        for _ in range(counts[position]):
            if lengths[row] > 0:
                node = free
                free = nodes[node, NEXT]
                nodes[node, START] = starts[row]
                nodes[node, END] = starts[row] + lengths[row]
                nodes[node, TEMPLATE] = templates[position]
                nodes[node, PRIORITY] = mixed(serial + row)
                nodes[node, NEXT] = firsts[position]
                firsts[position] = node
                insert(nodes, node, path)
            row += 1
    return free


@entry_kernel("int64(int64[:, ::1], int64[::1], int64, int64[::1], int64[::1])")
def remove_each(nodes: Ints, firsts: Ints, free: int, path: Ints, erased: Ints) -> int:
    """Erase the nodes from each of `firsts` on along NEXT; return the head of the free list then.

    `erased[0]` is raised by the number of nodes that were erased.
    """
    for position in range(firsts.size):
        node = firsts[position]
        while node != NO_NODE:
            following = nodes[node, NEXT]
            erase(nodes, node, path)
            nodes[node, NEXT] = free
            free = node
            node = following
            erased[0] += 1
    return free


@entry_kernel("int64(int64[:, ::1], int64[::1], int64[:, ::1], int64[::1], int64[:, ::1])")
def match(nodes: Ints, offsets: Ints, runs: Ints, path: Ints, pairs: Ints) -> int:
    """Find all (record, template) with a run of the record inside a range of the template.

    Fills the two rows of `pairs` as far as there is room, and returns how many pairs there are; a
    pair may be there more than once.

    A run inside no range leaves behind how far it is from it to the next ranges: the runs that lie
    within this gap are inside none either, and need no search.
    """
    found = 0
    gap_start, gap_end = 0, 0
    for record in range(offsets.size - 1):
        for run in range(offsets[record], offsets[record + 1]):
            start = runs[run, RUN_START]
            end = start + runs[run, RUN_LENGTH]
            if gap_start <= start and end <= gap_end:
                continue
            before = found
            low, high = BELOW_ALL, ABOVE_ALL
            path[0] = nodes[NO_NODE, LEFT]
            length = 1 if start < end else 0
            while length > 0:
                length -= 1
                node = path[length]
                # Row 0 reaches nowhere, so children that are not there end here as well.
                if nodes[node, REACH] <= start or node == NO_NODE:
                    low = max(low, nodes[node, REACH])
                    continue
                path[length] = nodes[node, LEFT]
                length += 1
                if nodes[node, START] >= end:
                    high = min(high, nodes[node, START])
                    continue
                path[length] = nodes[node, RIGHT]
                length += 1
                if nodes[node, END] > start:
                    if found < pairs.shape[1]:
                        pairs[0, found] = record
                        pairs[1, found] = nodes[node, TEMPLATE]
                    found += 1
                else:
                    low = max(low, nodes[node, END])
            if found == before and start < end:
                gap_start, gap_end = low, high
    return found
