"""Runners without a program: what each one does is drawn from a hash of the seed and its number.

For simulations of very many runners. The engine takes and gives back what any engine does, but
computes whole batches at once. The first runner creates parents, and those create leaves. Each leaf
adds 1 to a word of its own, next to its neighbours' words, and some add 1 to a word that others may
want as well. So the sum of all words is known, whoever loses how often.

A runner's number travels as its entry: to the scheduler both are opaque.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.disa.image import Image
from dvm_mpi.dsm.ranges import expand, firsts_of
from dvm_mpi.engine.interface import (
    CHILD,
    AttemptBatch,
    Exit,
    Lease,
    LeaseKind,
    OutcomeBatch,
    Reason,
    gathered,
)
from dvm_mpi.layout import DATA_START, PAGE_BYTES, PAGE_SHIFT, RANGE, TEXT_START, WORD_BYTES
from dvm_mpi.sim.outcomes import committed, joined, outcome_batch, runs_of
from dvm_mpi.values import dataclass

Ints = NDArray[np.int64]

_FIRST_PAGE: Final = DATA_START >> PAGE_SHIFT
_PAGE_WORDS: Final = PAGE_BYTES // WORD_BYTES
#: One leaf in so many wants a shared word, and for how many leaves there is a page of those.
_SHARING: Final = 32
_LEAVES_PER_SHARED_PAGE: Final = 4_096
#: Leaves that one parent creates, at most.
_LEAVES_PER_PARENT: Final = 250_000
#: Pages that an engine has room for at first, and keeps from one batch to the next at most.
_CACHED_PAGES_FIRST: Final = 8
_CACHED_PAGES_MAX: Final = 256
#: Multipliers of the hash (splitmix64).
_MIX: Final = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_MASK64: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class SyntheticWork:
    """How many leaves there are; each attempt of any runner counts as so many instructions."""

    seed: int
    leaves: int = 100_000
    instructions: int = 1_000

    @property
    def parents(self) -> int:
        """How many runners create leaves."""
        return -(-self.leaves // _LEAVES_PER_PARENT)

    @property
    def shared_words(self) -> int:
        """How many words are wanted by many."""
        return -(-self.leaves // _LEAVES_PER_SHARED_PAGE) * _PAGE_WORDS

    @property
    def pages(self) -> int:
        """Pages of the array: the shared words, then one word for each leaf."""
        return -(-(self.shared_words + self.leaves) // _PAGE_WORDS)

    def image(self) -> Image:
        """Return a program of nothing but the array, for a machine to load."""
        reserved = np.array([(DATA_START, self.pages * PAGE_BYTES)], RANGE)
        return Image(TEXT_START, b"", (), reserved, {"words": DATA_START}, source_name="synthetic")

    def wrong(self, total: int) -> list[str]:
        """Return what is wrong about the sum of the array at the end, one line each."""
        expected = self.words_of(np.arange(self.leaves))[0].size
        if total == expected:
            return []
        return [f"{self.leaves} leaves have added {total} to the array, not {expected}"]

    def leaves_of(self, parent: int) -> tuple[int, int]:
        """Return the first leaf of a parent, and the end of its leaves."""
        return (
            parent * self.leaves // self.parents,
            (parent + 1) * self.leaves // self.parents,
        )

    def words_of(self, leaves: Ints) -> tuple[Ints, Ints]:
        """Return the addresses of the words that leaves add to, leaf by leaf, ascending.

        And how many each leaf has: one or two.
        """
        drawn = self._hash(leaves)
        shares = drawn % np.uint64(_SHARING) == 0
        shared = (drawn >> np.uint64(32)) % np.uint64(self.shared_words)
        words = np.stack([shared.astype(np.int64), self.shared_words + leaves], axis=1)
        is_used = np.stack([shares, np.ones(len(leaves), bool)], axis=1)
        return DATA_START + words[is_used] * WORD_BYTES, is_used.sum(axis=1)

    def _hash(self, numbers: Ints) -> NDArray[np.uint64]:
        first, second, third = map(np.uint64, _MIX)
        offset = np.uint64(self.seed * _MIX[0] & _MASK64)
        z = numbers.astype(np.uint64) * first + offset
        z = (z ^ (z >> np.uint64(30))) * second
        z = (z ^ (z >> np.uint64(27))) * third
        return np.asarray(z ^ (z >> np.uint64(31)))


class SyntheticEngine:
    """Implements `interface.Engine` for `SyntheticWork`."""

    def __init__(self, work: SyntheticWork) -> None:
        self._work = work
        self._batch: AttemptBatch | None = None
        self._cursor = 0
        self._ids: list[tuple[int, int]] = []
        self._ended: list[OutcomeBatch] = []
        #: Cached pages in the order in which they came, room for more behind them; and where each
        #: page of the array is there, -1 if it is not.
        self._content = np.empty((_CACHED_PAGES_FIRST, PAGE_BYTES), np.uint8)
        self._cached_count = 0
        self._slots = np.full(work.pages, -1, np.int64)
        self._versions = np.full(work.pages, -1, np.int64)
        self._until = np.full(work.pages, -1, np.int64)

    def load(self, image: Image, stdin: bytes) -> None:
        """Take nothing: what runners do is not in the image."""

    # --- attempts -------------------------------------------------------------------------------
    def begin(self, batch: AttemptBatch) -> None:
        """Take a batch."""
        assert self._batch is None or self._cursor == len(self._batch.attempts), "unfinished batch"
        self._batch, self._cursor = batch, 0
        if self._cached_count > _CACHED_PAGES_MAX:
            self._slots[:] = self._versions[:] = -1
            self._cached_count = 0

    def run(self, fuel: int) -> Exit:
        """Execute as many attempts as the fuel is for, one at least."""
        assert self._batch is not None, "begin comes before run"
        cost = self._work.instructions
        rows = self._batch.attempts[self._cursor :]
        rows = rows[: max(fuel // cost, 1)]
        numbers = (rows["entry"] - TEXT_START).astype(np.int64)
        is_leaf = numbers > self._work.parents
        # Parents and the first runner come alone: each may need many ids.
        count = len(rows) if is_leaf.all() else max(int(np.argmin(is_leaf)), 1)
        if count and is_leaf[0]:
            self._run_leaves(rows[:count], numbers[:count] - self._work.parents - 1)
        elif count and not self._create(rows[:1], int(numbers[0])):
            return Exit(Reason.LEASE_NEEDED, self._cursor, 0, lease=LeaseKind.ID)
        self._cursor += count
        is_done = self._cursor == len(self._batch.attempts)
        reason = Reason.BATCH_DONE if is_done else Reason.SLICE_ENDED
        return Exit(reason, self._cursor, count * cost)

    def _run_leaves(self, rows: NDArray[Any], leaves: Ints) -> None:
        """Add 1 to each leaf's words, as of its snapshot."""
        addresses, counts = self._work.words_of(leaves)
        pages, words = np.divmod((addresses - DATA_START) // WORD_BYTES, _PAGE_WORDS)
        loaded = self._content.view(np.int64)[self._slots[pages], words]
        outcomes = committed(rows, self._work.instructions)
        outcomes["run_count"], outcomes["run_first"] = counts, firsts_of(counts)
        runs, data = runs_of(addresses, WORD_BYTES), (loaded + 1).view(np.uint8)
        self._ended.append(outcome_batch(outcomes, runs=runs, data=data))

    def _create(self, rows: NDArray[Any], number: int) -> bool:
        """Create the children of one runner; say whether there were enough ids."""
        work = self._work
        if number == 0:
            first, end = 1, 1 + work.parents
        else:
            first, end = (1 + work.parents + leaf for leaf in work.leaves_of(number - 1))
        children = np.zeros(end - first, CHILD)
        if sum(stop - start for start, stop in self._ids) < len(children) * PAGE_BYTES:
            return False
        children["id"] = self._take_ids(len(children))
        children["entry"] = TEXT_START + np.arange(first, end)
        child_ranges = np.empty(0, RANGE)
        if number:
            addresses, counts = work.words_of(np.arange(first, end) - 1 - work.parents)
            child_ranges = np.zeros(addresses.size, RANGE)
            child_ranges["start"], child_ranges["length"] = addresses, WORD_BYTES
            children["heap_count"], children["heap_first"] = counts, firsts_of(counts)
        outcomes = committed(rows, work.instructions)
        outcomes["child_count"] = len(children)
        self._ended.append(outcome_batch(outcomes, children=children, child_ranges=child_ranges))
        return True

    def _take_ids(self, count: int) -> Ints:
        counts = np.array([(end - start) // PAGE_BYTES for start, end in self._ids])
        starts = np.array([start for start, _ in self._ids]) // PAGE_BYTES
        ids = expand(starts, counts)[:count] * PAGE_BYTES
        last = int(ids[-1]) + PAGE_BYTES if count else 0
        left = [(max(start, last), end) for start, end in self._ids if end > last]
        self._ids = left if count else self._ids
        return ids

    def park(self) -> int:
        """Refuse: nobody sleeps."""
        raise AssertionError("a synthetic runner cannot sleep")

    def unpark(self, handle: int) -> None:
        """Refuse: nobody sleeps."""
        raise AssertionError(f"nothing was parked under {handle}")

    def take_outcomes(self) -> OutcomeBatch:
        """Return the attempts that ended since the last call, and forget them."""
        taken, self._ended = self._ended, []
        return joined(taken)

    def grant_lease(self, lease: Lease) -> None:
        """Take over ids."""
        self._ids.append((lease.start, lease.end))
        self._ids.sort()

    # --- pages ----------------------------------------------------------------------------------
    def missing(self, pages: Ints, newest: Ints, snapshot: int) -> Ints:
        """Return those of `pages` that are not held as of `snapshot`."""
        rows = pages - _FIRST_PAGE
        version = self._versions[rows]
        is_held = (version >= 0) & (version <= snapshot)
        is_held &= self._until[rows] >= np.minimum(newest, snapshot)
        return np.asarray(pages[~is_held])

    def cached_versions(self, pages: Ints) -> Ints:
        """Return the epoch of the cached frame for each page, -1 where none is cached."""
        return np.asarray(self._versions[pages - _FIRST_PAGE])

    def renew(self, pages: Ints, until: Ints) -> None:
        """Note that cached pages are known unchanged until the given epochs."""
        rows = pages - _FIRST_PAGE
        self._until[rows] = np.maximum(self._until[rows], until)

    def install(
        self,
        pages: Ints,
        versions: Ints,
        until: Ints,
        memory: NDArray[np.uint8],
        rows: Ints | None = None,
    ) -> None:
        """Copy pages into the view."""
        data = gathered(memory, rows)
        numbers = pages - _FIRST_PAGE
        fresh = numbers[self._slots[numbers] < 0]
        while self._cached_count + len(fresh) > len(self._content):
            self._content = np.concatenate([self._content, np.empty_like(self._content)])
        self._slots[fresh] = self._cached_count + np.arange(len(fresh))
        self._cached_count += len(fresh)
        self._content[self._slots[numbers]] = data
        self._versions[numbers], self._until[numbers] = versions, until

    def undeclared_accesses(self) -> list[tuple[int, int]]:
        """Return nothing: every access is declared."""
        return []

    def instruction_counts(self) -> Ints:
        """Return nothing: there is no program."""
        return np.empty(0, np.int64)

    def close(self) -> None:
        """Give back nothing: the memory goes with the engine."""
