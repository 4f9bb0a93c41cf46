"""Truths of workloads about runners: children, chains, stacks, aborts, status pages."""

from __future__ import annotations

from collections import Counter

from dvm_mpi.sim.workloads.workload import RunEnd, differs


# --- runners that create runners ----------------------------------------------------------------
def chains(end: RunEnd) -> list[str]:
    """Every link that should have run has added its sum, and no other."""
    expected, ends = _links_from(end.defines["DEPTH"], 1, 1)
    return [
        *differs("total", end.word("total"), expected),
        *differs("console", end.console, b"|" * ends),
    ]


def _links_from(depth: int, number: int, passed: int) -> tuple[int, int]:
    """Return the sum that a link and its children add, and how many ends there are."""
    held = passed + number
    if depth == 0:
        return held, 1
    if number % 2 and number > 1:
        return 0, 0
    parts = [_links_from(depth - 1, 2 * number + child, held) for child in (0, 1)]
    return sum(part[0] for part in parts), sum(part[1] for part in parts)


def lines(end: RunEnd) -> list[str]:
    """Every link stored its number, and found that of the link before it."""
    width, length = end.defines["CHAINS"], end.defines["LENGTH"]
    numbers = [link for link in range(1, length + 1) for _ in range(width)]
    before = [link - 1 for link in numbers]
    return [
        *differs("cells", end.words("cells", len(numbers), first=width), numbers),
        *differs("notes", end.words("notes", len(numbers), first=width), before),
    ]


def children(end: RunEnd) -> list[str]:
    """Every child ran, and saw what its parent stored after creating it."""
    count = end.defines["CHILDREN"]
    sealed = [(1 << 32) + number for number in range(1, count + 1)]
    return [
        *differs("cells", end.words("cells", count), sealed),
        *differs("runners", end.counters.runners, count + 1),
        *differs("retries", end.retries, 0),
    ]


# --- stacks, aborts, status pages ---------------------------------------------------------------
def stacks(end: RunEnd) -> list[str]:
    """Every child found what its parent stored; of those that aborted the status page remains."""
    count = end.defines["CHILDREN"]
    sums = [i + i + 100 for i in range(count)]
    told = [end.word("stacks", 32 * i + 18) for i in range(count)]
    return [
        *differs("done", end.word("done"), sum(sums)),
        *differs("console", end.console, b"!" * count),
        *differs("told", told, [0 if i % 2 else sums[i] for i in range(count)]),
    ]


def aborts(end: RunEnd) -> list[str]:
    """Runners with even numbers did all of their work; of the others the status page is left."""
    count = end.defines["RUNNERS"]
    numbers = list(range(1, count + 1))
    committed = [0 if number % 2 else number for number in numbers]
    letters = {ord("w"): count // 2, ord("c"): count // 2, ord("t"): count}
    return [
        *differs("cells", end.words("cells", count), committed),
        *differs("born", end.words("born", count), committed),
        *differs("told", end.words("told", count), numbers),
        *differs("letters printed", Counter(end.console), Counter(letters)),
    ]


def status(end: RunEnd) -> list[str]:
    """Every number that was taken is in one status page, at both places, and no other is."""
    count = end.defines["RUNNERS"]
    pairs = [end.words("found", 2, first=2 * runner) for runner in range(count)]
    takers = [first for first, _ in pairs[::3] + pairs[1::3]]
    others = [first for first, _ in pairs[2::3]]
    return [
        *differs("pages whose two places differ", [p for p in pairs if p[0] != p[1]], []),
        *differs("numbers taken", sorted(takers), list(range(1, len(takers) + 1))),
        *differs("pages of those that abort", others, list(range(1002, 1000 + count, 3))),
        *differs("counter", end.word("counter"), len(takers)),
    ]
