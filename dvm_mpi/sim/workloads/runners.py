"""Truths of workloads about runners and watchers: children, stacks, aborts, wakings."""

from __future__ import annotations

from dvm_mpi.sim.workloads.workload import RunEnd, differs, unless


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


def stacks(end: RunEnd) -> list[str]:
    """Every child found what its parent stored; of those that aborted the status page remains."""
    children = end.defines["CHILDREN"]
    sums = [i + i + 100 for i in range(children)]
    told = [end.word("stacks", 32 * i + 18) for i in range(children)]
    return [
        *differs("done", end.word("done"), sum(sums)),
        *differs("console", end.console, b"!" * children),
        *differs("told", told, [0 if i % 2 else sums[i] for i in range(children)]),
    ]


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


def sleepers(end: RunEnd) -> list[str]:
    """No increment is lost, and every reader saw three cells of one moment."""
    writers = end.defines["WRITERS"]
    seen = end.words("seen", writers)
    printed = sorted((ord("0") + count) & 0xFF for count in seen if count > 0)
    return [
        *differs("cells", [end.word("cells", 512 * page) for page in range(3)], [writers] * 3),
        *unless(all(1 <= count <= writers for count in seen), f"a reader saw a torn state: {seen}"),
        *differs("printed", sorted(end.console), printed),
    ]
