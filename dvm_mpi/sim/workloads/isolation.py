"""Truths about what runners saw of each other: which histories of commits are possible at all."""

from __future__ import annotations

from itertools import pairwise

from dvm_mpi.sim.workloads.workload import STRIDE_WORDS, RunEnd, differs, unless

#: What a reader notes that has seen half of a commit.
_TORN = -1


# --- read, modify, write ------------------------------------------------------------------------
def mix(end: RunEnd) -> list[str]:
    """Every value that a cell held was replaced by one attempt at most, the last by none."""
    runners, rounds, cells = (end.defines[name] for name in ("RUNNERS", "ROUNDS", "CELLS"))
    #: By cell: which tag replaced a value.
    replaced: list[dict[int, int]] = [{} for _ in range(cells)]
    looked: list[tuple[int, int]] = []
    found: list[str] = []
    for number in range(runners * rounds):
        tag = ((number // rounds + 1) << 32) + number % rounds
        first = 3 * number % cells
        second = (first + 1 + number % (cells - 1)) % cells
        seen, *were = end.words("notes", 3, first=3 * number)
        looked.append(((7 * number + 3) % cells, seen))
        for cell, was in zip((first, second), were, strict=True):
            if was in replaced[cell]:
                by = f"{replaced[cell][was]:#x} and {tag:#x}"
                found.append(f"lost update: in cell {cell} both {by} replaced {was:#x}")
            replaced[cell][was] = tag
    for cell, successors in enumerate(replaced):
        last, steps = 0, 0
        while last in successors and steps <= len(successors):
            last, steps = successors[last], steps + 1
        found += differs(f"values that cell {cell} went through", steps, len(successors))
        found += differs(f"cell {cell}", end.word("cells", cell), last)
    stored = [{0, *successors.values()} for successors in replaced]
    found += [
        f"a runner found {seen:#x} in cell {cell}, which nobody stored"
        for cell, seen in looked
        if seen not in stored[cell]
    ]
    return found


# --- skew ---------------------------------------------------------------------------------------
def write_skew(end: RunEnd) -> list[str]:
    """At least one of each pair has left; if both have, that is write skew."""
    found = []
    for pair in range(end.defines["PAIRS"]):
        left = end.words("pairs", 2, first=2 * pair)
        if all(left):
            found.append(f"write skew: both of pair {pair} have left")
        elif not any(left):
            found.append(f"nobody of pair {pair} has left")
    return found


def silent(end: RunEnd) -> list[str]:
    """One of each pair has left, and the store that changed nothing woke the lock's watcher."""
    pairs = end.defines["PAIRS"]
    left = [sum(word != 0 for word in end.words("pairs", 2, first=4 * i)) for i in range(pairs)]
    return [
        *differs("how many of each pair have left", left, [1] * pairs),
        *differs("woken", end.words("woken", pairs), [1] * pairs),
    ]


# --- one order of commits -----------------------------------------------------------------------
def long_fork(end: RunEnd) -> list[str]:
    """No increment is lost, and what readers saw is ordered: one is newer in every cell."""
    cells, writers = end.defines["CELLS"], end.defines["WRITERS"]
    held = [end.word("cells", STRIDE_WORDS * cell) for cell in range(cells)]
    found = differs("cells", held, [len(range(cell, writers, cells)) for cell in range(cells)])
    chains, reads = end.defines["READERS"], end.defines["READS"]
    notes = [end.words("notes", cells, first=cells * note) for note in range(chains * reads)]
    for chain in range(chains):
        own = notes[chain * reads : (chain + 1) * reads]
        found += unless(own == sorted(own, key=sum), f"readers of chain {chain} went back: {own}")
    by_age = sorted(notes, key=sum)
    for older, newer in pairwise(by_age):
        ordered = all(before <= after for before, after in zip(older, newer, strict=True))
        found += unless(ordered, f"long fork: one reader saw {older}, another {newer}")
    return found


def invariants(end: RunEnd) -> list[str]:
    """Nobody saw two tags, no writer's tag was replaced twice, and one tag is left."""
    cells, writers = end.defines["CELLS"], end.defines["WRITERS"]
    tags = {(writer + 1) << 32 for writer in range(writers)}
    held = {end.word("cells", STRIDE_WORDS * cell) for cell in range(cells)}
    replaced = end.words("found", writers)
    noted = end.words("notes", end.defines["READERS"] * end.defines["READS"])
    torn = [note for note in (*replaced, *noted) if note == _TORN]
    return [
        *differs("runners that saw a torn commit", len(torn), 0),
        *unless(set(noted) <= {0, _TORN, *tags}, f"a reader noted what nobody stored: {noted}"),
        *differs("what was replaced, and what is left", {*replaced, *held}, {0, *tags}),
        *differs("tags in the cells", len(held), 1),
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
