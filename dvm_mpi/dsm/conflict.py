"""Which records lose: first to be ordered wins, to the byte.

A record conflicts if any byte that it stored, or loaded where that is asked about too, was stored
by a commit that its snapshot does not hold, that is by an epoch newer than the snapshot.
`ConflictSet` remembers for every byte the epoch of its last store, which is all that this question
needs: a newer store makes older ones irrelevant.

It knows no runner and no home. The invariant to remember: records are entered in commit order,
so nothing in the set is newer than the epoch being resolved.

Source: docs/memory-model.md, "Commit".
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi import config
from dvm_mpi.dsm import last_writers
from dvm_mpi.dsm.hashing import IntMap
from dvm_mpi.dsm.last_writers import (
    LONG_END,
    LONG_START,
    NEW_PAGES,
    PAGES_ENTERED_MAX,
)
from dvm_mpi.dsm.range_leaves import (
    BELOW_ALL,
    COUNT,
    END,
    EPOCH,
    FREE,
    FREE_TOTAL,
    INDEX_ROWS,
    KEY,
    LEAF_RANGES,
    LEAF_TOTAL,
    LOCATED_AT_ONCE,
    NEWEST,
    PLACE_ROWS,
    POSITION_ROWS,
    RANGE_TOTAL,
    SLOT,
    START,
    WORDS,
)
from dvm_mpi.dsm.rows import words_of
from dvm_mpi.errors import LimitError

Ints = NDArray[np.int64]

#: How full leaves are after they are built anew; the rest is room to grow without splits.
LEAF_RANGES_PACKED: Final = LEAF_RANGES * 3 // 4
#: Gaps, in bytes, over which old ranges are joined when there are too many, mildest first.
JOINED_GAPS: Final = (0, 1 << 12, 1 << 20, 1 << 30, 1 << 62)
SLOTS_AT_START: Final = 16
#: Behind every address.
ABOVE_ALL: Final = 2**62


class ConflictSet:
    """The epoch of the last store to every byte, and the decision that follows from it.

    Memory is about 50 bytes for each of the disjoint ranges that were stored at different epochs;
    `forget` joins old ones when there are more than `ranges_kept`.
    """

    #: Leaves, index and totals as `range_leaves` describes them.
    _leaves: Ints
    _index: Ints
    _totals: Ints
    #: The newest epoch resolved so far.
    _epoch: int
    #: No snapshot older than this is asked about any more.
    _horizon: int
    #: The number of ranges at which `forget` joins old ones.
    _join_at: int

    def __init__(self, ranges_kept: int = config.CONFLICT_RANGES_KEPT) -> None:
        assert ranges_kept > 0
        self._ranges_kept = ranges_kept
        self._join_at = ranges_kept
        self._epoch = 0
        self._horizon = 0
        #: The epoch of the last store into each page, as long as there are not too many.
        self._pages = IntMap()
        self._reach = np.array([0, ABOVE_ALL, BELOW_ALL])
        #: Room for searches that are made together.
        self._places = np.empty((PLACE_ROWS, LOCATED_AT_ONCE), np.int64)
        self._build(np.empty((3, 0), np.int64))

    @property
    def range_count(self) -> int:
        """Number of disjoint ranges that are remembered."""
        return int(self._totals[RANGE_TOTAL])

    @property
    def held_bytes(self) -> int:
        """Memory that the set has reserved for itself, in bytes."""
        pages, epochs = self._pages.tables(0)
        return self._leaves.nbytes + self._index.nbytes + pages.nbytes + epochs.nbytes

    def resolve(
        self,
        snapshots: Ints,
        offsets: Ints,
        runs: NDArray[Any],
        enter: NDArray[np.bool_],
        epoch: int,
    ) -> Ints:
        """Decide which records of a batch lose, and enter those that win.

        Parameters
        ----------
        snapshots
            (n,) epoch of each record's snapshot, in commit order.
        offsets
            (n + 1,) record i has the rows `runs[offsets[i] : offsets[i + 1]]`.
        runs
            Rows with `start` and `length` (layout.RANGE or messages.RUN), in any order; empty
            ones count for nothing.
        enter
            (n,) whether a record that wins is a store; a record that is only checked (a trap)
            leaves no trace.
        epoch
            The open epoch: newer than every snapshot, not older than the last one resolved.

        Returns
        -------
        (n,) 0 where the record wins, else the newest epoch that it conflicts with. Records that
        were entered are seen by later ones of the same batch.

        Raises
        ------
        LimitError
            There is no room for the ranges (`config.CONFLICT_RANGES_MAX`); nothing was entered.

        Notes
        -----
        O(r log h) for r runs and h ranges of history.
        """
        return self.resolve_with_loads(
            snapshots, offsets, runs, enter, epoch, np.zeros_like(offsets), runs[:0]
        )

    def resolve_with_loads(
        self,
        snapshots: Ints,
        offsets: Ints,
        runs: NDArray[Any],
        enter: NDArray[np.bool_],
        epoch: int,
        load_offsets: Ints,
        loads: NDArray[Any],
    ) -> Ints:
        """Do the same, and let records also lose by what they loaded.

        `loads[load_offsets[i] : load_offsets[i + 1]]` are rows of record i that are checked as
        its runs are, and never entered.
        """
        assert epoch >= self._epoch, f"epoch {epoch} resolved after {self._epoch}"
        assert offsets.size == snapshots.size + 1
        assert enter.size == snapshots.size
        assert load_offsets.size == offsets.size
        self._epoch = epoch
        self._reserve(runs.size)
        pages, epochs = self._pages.tables(PAGES_ENTERED_MAX * runs.size)
        conflicts = np.empty(snapshots.size, np.int64)
        beyond = last_writers.resolve(
            self._leaves,
            self._index,
            self._totals,
            pages,
            epochs,
            self._reach,
            np.ascontiguousarray(snapshots, np.int64),
            np.ascontiguousarray(offsets, np.int64),
            words_of(runs),
            np.ascontiguousarray(load_offsets, np.int64),
            words_of(loads),
            np.ascontiguousarray(enter, np.bool_),
            epoch,
            self._horizon,
            self._places,
            conflicts,
        )
        assert beyond == 0, "a snapshot beyond the horizon"
        self._count_pages()
        return conflicts

    def _count_pages(self) -> None:
        """Note which pages are new; of too many none is kept, and ranges are looked through."""
        self._pages.entered(int(self._reach[NEW_PAGES]))
        self._reach[NEW_PAGES] = 0
        if len(self._pages) > self._ranges_kept:
            self._pages = IntMap()
            self._reach[LONG_START], self._reach[LONG_END] = BELOW_ALL, ABOVE_ALL

    def newest(self, ranges: NDArray[Any]) -> Ints:
        """Return the newest epoch of any store into each of `ranges`, 0 where there is none.

        Epochs at or before the horizon may be given too high, never too low, and never above
        the horizon. Who wants to know whether a page changed asks for the whole page: its other
        bytes have epochs of their own (`newest_of_pages`).
        """
        newest = np.empty(ranges.size, np.int64)
        last_writers.newest_each(self._leaves, self._index, self._totals, words_of(ranges), newest)
        return newest

    def newest_of_pages(self, ranges: NDArray[Any]) -> Ints:
        """Return the same of all pages that each of `ranges` touches."""
        newest = np.empty(ranges.size, np.int64)
        last_writers.newest_each_of_pages(*self._maps(), words_of(ranges), newest)
        return newest

    def _maps(self) -> tuple[Ints, Ints, Ints, Ints, Ints, Ints]:
        return (self._leaves, self._index, self._totals, *self._pages.tables(0), self._reach)

    def shared_pages(
        self, snapshots: Ints, offsets: Ints, runs: NDArray[Any], runs_max: int
    ) -> tuple[Ints, Ints]:
        """Return the pages at the ends of stored runs that others stored to since the snapshot.

        Each with the position of its record; `snapshots`, `offsets` and `runs` as for `resolve`,
        which has not been asked about them yet. Only the first `runs_max` runs are looked at.
        """
        found = np.empty((2, 2 * min(runs.size, runs_max)), np.int64)
        count = last_writers.shared_pages(
            *self._maps(),
            np.ascontiguousarray(snapshots, np.int64),
            np.ascontiguousarray(offsets, np.int64),
            words_of(runs),
            min(runs.size, runs_max),
            found,
        )
        pages, records = found[:, :count]
        return pages, records

    def forget(self, horizon: int) -> None:
        """Note that no snapshot older than `horizon` will be asked about.

        Old ranges are joined only when there are too many, and then down to half of that, so the
        cost of a call is constant on average.
        """
        assert horizon >= self._horizon, f"the horizon moved back from {self._horizon} to {horizon}"
        self._horizon = horizon
        is_sparse = (
            self._totals[LEAF_TOTAL] * LEAF_RANGES
            > 8 * self.range_count + SLOTS_AT_START * LEAF_RANGES
        )
        if self.range_count <= self._join_at and not is_sparse:
            return
        rows = self._rows()
        for gap in JOINED_GAPS:
            if rows.shape[1] <= self._ranges_kept // 2:
                break
            rows = _join_old(rows, horizon, gap)
        self._build(rows)
        self._join_at = max(self._ranges_kept, 2 * rows.shape[1])

    def check_invariants(self) -> None:
        """Assert what holds between any two calls."""
        leaf_count = int(self._totals[LEAF_TOTAL])
        free_count = int(self._totals[FREE_TOTAL])
        keys, slots = self._index[:POSITION_ROWS, :leaf_count]
        counts, newest = self._index[COUNT, slots], self._index[NEWEST, slots]
        free = self._index[FREE, :free_count]
        used = np.sort(np.concatenate((slots, free)))
        assert np.array_equal(used, np.arange(self._leaves.shape[0])), (
            "a slot is lost or used twice"
        )
        assert keys[0] == BELOW_ALL
        assert np.all(np.diff(keys.astype(object)) > 0), "keys out of order"
        assert counts.min() >= 0
        assert counts.max() <= LEAF_RANGES
        rows = self._rows()
        assert rows.shape[1] == self.range_count == counts.sum()
        assert np.all(rows[START] < rows[END]), "an empty range"
        assert np.all(rows[END, :-1] <= rows[START, 1:]), "ranges overlap"
        assert np.all(rows[EPOCH] > 0)
        assert np.all(rows[EPOCH] <= self._epoch)
        ends = np.append(keys[1:], 2**62)
        for position in range(leaf_count):
            leaf = self._leaves[slots[position]].reshape(-1, WORDS)[: counts[position]]
            assert newest[position] == leaf[:, EPOCH].max(initial=0), "a leaf's newest is wrong"
            assert leaf[:, START].min(initial=2**62) >= keys[position]
            assert leaf[:, END].max(initial=BELOW_ALL) <= ends[position]

    def _rows(self) -> Ints:
        """Return all ranges in order as (3, range_count): START, END, EPOCH."""
        leaf_count = int(self._totals[LEAF_TOTAL])
        slots = self._index[SLOT, :leaf_count]
        is_used = np.arange(LEAF_RANGES) < self._index[COUNT, slots][:, None]
        used = self._leaves[slots].reshape(-1, LEAF_RANGES, WORDS)[is_used]
        return np.ascontiguousarray(used.T)

    def _build(self, rows: Ints) -> None:
        """Replace everything by `rows`, in order and disjoint, in evenly filled leaves."""
        leaf_count = max(1, -(-rows.shape[1] // LEAF_RANGES_PACKED))
        slot_count = leaf_count + SLOTS_AT_START
        self._leaves = np.empty((slot_count, WORDS * LEAF_RANGES), np.int64)
        self._index = np.empty((INDEX_ROWS, slot_count), np.int64)
        firsts = np.arange(leaf_count) * LEAF_RANGES_PACKED
        counts = np.minimum(rows.shape[1] - firsts, LEAF_RANGES_PACKED)
        padded = np.zeros((leaf_count * LEAF_RANGES_PACKED, WORDS), np.int64)
        padded[: rows.shape[1]] = rows.T
        by_leaf = padded.reshape(leaf_count, LEAF_RANGES_PACKED * WORDS)
        self._leaves[:leaf_count, : LEAF_RANGES_PACKED * WORDS] = by_leaf
        self._index[KEY, 0] = BELOW_ALL
        self._index[KEY, 1:leaf_count] = rows[START, firsts[1:]]
        self._index[SLOT, :leaf_count] = np.arange(leaf_count)
        self._index[COUNT, :leaf_count] = counts
        self._index[NEWEST, :leaf_count] = by_leaf[:, EPOCH::WORDS].max(axis=1)
        self._index[FREE, :SLOTS_AT_START] = np.arange(slot_count - 1, leaf_count - 1, -1)
        self._totals = np.array([leaf_count, SLOTS_AT_START, rows.shape[1]], np.int64)

    def _reserve(self, run_count: int) -> None:
        """Have enough free slots for `run_count` more stores.

        A store splits at most one leaf. A leaf that was made by a split takes about half of
        `LEAF_RANGES` more ranges, and a store adds at most two, before it is split again.
        """
        if self.range_count + 2 * run_count > config.CONFLICT_RANGES_MAX:
            raise LimitError(
                f"the commits have stored {self.range_count:,} separate ranges since the oldest "
                f"snapshot in use; the limit is {config.CONFLICT_RANGES_MAX:,} "
                "(config.CONFLICT_RANGES_MAX): "
                "let runners store longer runs of bytes, or end the long-running ones"
            )
        leaf_count = int(self._totals[LEAF_TOTAL])
        needed = min(run_count, leaf_count + 1 + 2 * run_count // (LEAF_RANGES // 2 - 4))
        missing = needed - int(self._totals[FREE_TOTAL])
        if missing <= 0:
            return
        slot_count = self._leaves.shape[0]
        grown = slot_count + max(missing, slot_count)
        leaves = np.empty((grown, WORDS * LEAF_RANGES), np.int64)
        leaves[:slot_count] = self._leaves
        index = np.empty((INDEX_ROWS, grown), np.int64)
        index[:, :slot_count] = self._index
        free_count = int(self._totals[FREE_TOTAL])
        index[FREE, free_count : free_count + grown - slot_count] = np.arange(
            grown - 1, slot_count - 1, -1
        )
        self._totals[FREE_TOTAL] += grown - slot_count
        self._leaves = leaves
        self._index = index


def _join_old(rows: Ints, horizon: int, gap: int) -> Ints:
    """Join neighbours whose epochs are at or before `horizon` and that are at most `gap` apart."""
    is_old = rows[EPOCH] <= horizon
    joins = is_old[1:] & is_old[:-1] & (rows[START, 1:] - rows[END, :-1] <= gap)
    firsts = np.flatnonzero(np.concatenate(([True], ~joins)))
    lasts = np.append(firsts[1:], rows.shape[1]) - 1
    return np.stack(
        [rows[START, firsts], rows[END, lasts], np.maximum.reduceat(rows[EPOCH], firsts)]
    )
