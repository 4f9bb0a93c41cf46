"""Truths of workloads about watchers: who is woken, how often at least, and until when."""

from __future__ import annotations

from dvm_mpi.sim.workloads.workload import STRIDE_WORDS, RunEnd, differs, unless


def watchers(end: RunEnd) -> list[str]:
    """Every flag was noted exactly once."""
    flags = end.defines["FLAGS"]
    return [
        *differs("noted", end.words("noted", flags), [1] * flags),
        *differs("tries", end.word("tries"), flags),
        *differs("console", end.console, b"." * flags),
    ]


def counting_watcher(end: RunEnd) -> list[str]:
    """The last instance has seen all cells, and what instances saw only grew."""
    cells = end.defines["CELLS"]
    seen = [letter - ord("0") for letter in end.console]
    return [
        *differs("seen", end.word("seen"), cells),
        *differs("the last that was seen", seen[-1:], [cells]),
        *unless(sorted(set(seen)) == seen, f"what was seen does not grow: {seen}"),
    ]


def storm(end: RunEnd) -> list[str]:
    """Every template had an instance that saw all cells set."""
    count = end.defines["WATCHERS"]
    return differs("noted", end.words("noted", count), [end.defines["CELLS"]] * count)


def relay(end: RunEnd) -> list[str]:
    """Every instance's commit started the next one, until the template was deleted."""
    relays, laps = end.defines["RELAYS"], end.defines["LAPS"]
    return [
        *differs("cells", end.words("cells", relays), [laps] * relays),
        *differs("console", end.console, b"." * relays * (laps - 1)),
    ]


def deleted(end: RunEnd) -> list[str]:
    """One instance of each template won, and all stores were made."""
    count, stores = end.defines["TEMPLATES"], end.defines["STORES"]
    cell = int.from_bytes(bytes([1] * stores + [0] * (7 - stores) + [1]), "little")
    return [
        *differs("fired", end.words("fired", count), [1] * count),
        *differs(
            "cells", [end.word("cells", STRIDE_WORDS * i) for i in range(count)], [cell] * count
        ),
        *differs("console", end.console, b"f" * count),
    ]


def tree(end: RunEnd) -> list[str]:
    """Every node holds the sum of the leaves below it, and its flag."""
    leaves = end.defines["LEAVES"]
    sums = [0] * leaves + list(range(leaves, 2 * leaves))
    for node in range(leaves - 1, 0, -1):
        sums[node] = sums[2 * node] + sums[2 * node + 1]
    held = end.words("nodes", 4 * leaves)
    return [
        *differs("sums", held[2::2], sums[1:]),
        *differs("flags", held[3::2], [1] * (2 * leaves - 1)),
    ]
