"""The conflict set beside a dictionary from byte to epoch."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from dvm_mpi import config
from dvm_mpi.dsm import conflict, range_leaves
from dvm_mpi.dsm.conflict import ConflictSet
from dvm_mpi.errors import LimitError
from dvm_mpi.layout import PAGE_BYTES, RANGE
from tests.properties import tried


class NaiveConflictSet:
    """One dictionary entry for each byte ever stored."""

    def __init__(self) -> None:
        self.epoch_of: dict[int, int] = {}

    def newest(self, runs):
        return max((self.epoch_of.get(b, 0) for s, n in runs for b in range(s, s + n)), default=0)

    def resolve(self, records, epoch):
        results = []
        for snapshot, runs, enter, *loads in records:
            newest = max(self.newest(runs), *(self.newest(each) for each in loads), 0)
            results.append(newest if newest > snapshot else 0)
            if newest <= snapshot and enter:
                self.epoch_of.update({b: epoch for s, n in runs for b in range(s, s + n)})
        return results


def ranges(rows):
    return np.array(rows, RANGE) if rows else np.empty(0, RANGE)


def resolve(conflicts, records, epoch):
    """Resolve `(snapshot, [(start, length)…], enter)` records, which may have loads as well."""
    loads = [record[3] if len(record) == 4 else [] for record in records]
    given = (
        np.array([record[0] for record in records], np.int64),
        *ragged([record[1] for record in records]),
        np.array([record[2] for record in records], np.bool_),
        epoch,
    )
    if any(loads):
        return conflicts.resolve_with_loads(*given, *ragged(loads)).tolist()
    return conflicts.resolve(*given).tolist()


def ragged(groups):
    """Return offsets and rows of groups of ranges."""
    offsets = np.cumsum([0] + [len(group) for group in groups])
    return offsets.astype(np.int64), ranges([row for group in groups for row in group])


def store(conflicts, start, length, epoch):
    assert resolve(conflicts, [(epoch - 1, [(start, length)], True)], epoch) == [0]


BASE = 1 << 40


SPAN = 2_000
Run = tuple[int, int]
#: (start, length): mostly words near each other, some wide, some empty.
RUNS = st.tuples(
    st.integers(0, 40) | st.integers(0, SPAN), st.integers(0, 9) | st.integers(0, SPAN)
).map(lambda run: (BASE + run[0], run[1]))
#: (how much older than the newest possible, runs, whether a winner is entered, loads).
RECORDS = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.lists(RUNS, max_size=4),
        st.booleans() | st.just(True),
        st.just([]) | st.lists(RUNS, max_size=2),
    ),
    min_size=1,
    max_size=8,
)


class ConflictSetBesideBytes(RuleBasedStateMachine):
    """Batches in commit order, with snapshots that lag behind, and a horizon that follows.

    Conflicts are exact at all times; newest epochs are exact above the horizon, and bounds below.
    """

    @initialize(ranges_kept=st.sampled_from([1, 4, 1_000]))
    def make(self, ranges_kept: int) -> None:
        self.real, self.naive = ConflictSet(ranges_kept), NaiveConflictSet()
        self.epoch, self.horizon = 2, 1

    def same(self, records: list[tuple[int, list[Run], bool, list[Run]]]) -> None:
        expected = self.naive.resolve(records, self.epoch)
        assert resolve(self.real, records, self.epoch) == expected
        self.real.check_invariants()

    @rule(batch=RECORDS, later=st.integers(0, 2))
    def commit(self, batch: list[tuple[int, list[Run], bool, list[Run]]], later: int) -> None:
        self.epoch += later
        newest = self.epoch - 1
        self.same(
            [
                (max(newest - age, self.horizon), runs, enter, loads)
                for age, runs, enter, loads in batch
            ]
        )

    @rule(
        start=st.integers(0, SPAN),
        stride=st.integers(1, 9),
        count=st.integers(100, 400),
        length=st.integers(1, 4),
    )
    def scatter(self, start: int, stride: int, count: int, length: int) -> None:
        """One record of so many runs that leaves split."""
        runs = [(BASE + start + stride * k, length) for k in range(count)]
        self.same([(self.epoch - 1, runs, True, [])])

    @rule(lag=st.integers(1, 3))
    def forget(self, lag: int) -> None:
        self.horizon = max(self.horizon, self.epoch - lag)
        self.real.forget(self.horizon)
        self.real.check_invariants()
        self.newest([(BASE + 5 * k, 3) for k in range(SPAN // 5)])

    @rule(asked=st.lists(RUNS, min_size=1, max_size=6))
    def newest(self, asked: list[tuple[int, int]]) -> None:
        told = self.real.newest(ranges(asked)).tolist()
        for found, exact in zip(
            told, map(self.naive.newest, [[one] for one in asked]), strict=True
        ):
            assert found == exact if exact > self.horizon else exact <= found <= self.horizon

    @invariant()
    def nothing_kept_for_nothing(self) -> None:
        assert self.real.range_count <= len(self.naive.epoch_of)


def test_agrees_with_one_entry_per_byte():
    run_state_machine_as_test(ConflictSetBesideBytes, settings=tried(40, steps=15))


def test_splits_leaves_and_clears_them():
    """Thousands of separate bytes over many leaves, then stores that cover some of them."""
    real, naive = ConflictSet(), NaiveConflictSet()
    random = np.random.default_rng(7)
    for epoch in range(2, 12):
        starts = random.permutation(20_000)[:2_000] * 3
        records = [(epoch - 1, [(BASE + int(s), int(random.integers(1, 3)))], True) for s in starts]
        assert resolve(real, records, epoch) == naive.resolve(records, epoch)
        real.check_invariants()
        wide = [(epoch, [(BASE + int(random.integers(50_000)), int(random.integers(5_000)))], True)]
        assert resolve(real, wide, epoch + 0) == naive.resolve(wide, epoch)
        real.check_invariants()
        asked = [
            (BASE + int(random.integers(60_000)), int(random.integers(9_000))) for _ in range(40)
        ]
        assert real.newest(ranges(asked)).tolist() == [naive.newest([one]) for one in asked]
    assert real.range_count > 20 * range_leaves.LEAF_RANGES
    store(real, BASE - 10, 100_000, 12)
    real.check_invariants()
    assert real.range_count == 1


#: Records of one short run each: how much older than the newest snapshot, where, and how long.
ALONE = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 300), st.integers(1, 4)), min_size=1, max_size=100
)


@tried(40)
@given(batches=st.lists(ALONE, min_size=1, max_size=4), before=st.sampled_from([0, 150, 1_000]))
def test_records_of_one_run_meet_those_before_them(batches, before):
    """New bytes, the same ones again, parts of others and neighbours, in full leaves and new ones.

    Where a record's bytes lie is looked for before those ahead of it are entered.
    """
    real, naive = ConflictSet(), NaiveConflictSet()
    laid = [(1, [(BASE + 2 * k, 1)], True) for k in range(before)]
    assert resolve(real, laid, 2) == naive.resolve(laid, 2)
    for epoch, drawn in enumerate(batches, 3):
        records = [(epoch - 1 - age, [(BASE + at, n)], True) for age, at, n in drawn]
        assert resolve(real, records, epoch) == naive.resolve(records, epoch)
        real.check_invariants()
    asked = [(BASE + at, 1) for at in range(320)]
    newest = [naive.newest([one]) for one in asked]
    assert real.newest(ranges(asked)).tolist() == newest
    if before == 0 and 2 * sum(map(len, batches)) < range_leaves.LEAF_RANGES - 2:
        # Neighbours of one epoch are one range, as long as no leaf is split.
        stretches = [epoch for epoch, _ in groupby(newest) if epoch]
        assert real.range_count == len(stretches)


#: Stores, in pages and bytes: where they begin, and how long they are.
PAGE_STORES = st.lists(
    st.tuples(st.integers(0, 20), st.sampled_from([0, 8, PAGE_BYTES - 8]), st.integers(0, 3),
              st.sampled_from([0, 1, 16])), max_size=12
)  # fmt: skip


@tried(100)
@given(stored=PAGE_STORES, asked=PAGE_STORES, ranges_kept=st.sampled_from([3, 1_000]))
def test_newest_epochs_of_pages_are_those_of_a_dictionary(stored, asked, ranges_kept):
    """Of short stores and long ones, also when too many pages were stored to."""
    real, epoch_of = ConflictSet(ranges_kept), {}

    def spans(drawn):
        return [
            (
                BASE // PAGE_BYTES * PAGE_BYTES + page * PAGE_BYTES + offset,
                pages * PAGE_BYTES + rest,
            )
            for page, offset, pages, rest in drawn
        ]

    def pages_of(start, length):
        return range(start // PAGE_BYTES, -(-(start + length) // PAGE_BYTES) if length else 0)

    for epoch, (start, length) in enumerate(spans(stored), 2):
        (against,) = resolve(real, [(epoch - 1, [(start, length)], epoch % 4 > 0)], epoch)
        assert against == 0
        if epoch % 4 > 0:
            epoch_of.update(dict.fromkeys(pages_of(start, length), epoch))
        expected = [
            max((epoch_of.get(page, 0) for page in pages_of(*span)), default=0)
            for span in spans(asked)
        ]
        assert real.newest_of_pages(ranges(spans(asked))).tolist() == expected
        real.check_invariants()


def stores(snapshot, *runs):
    return snapshot, list(runs), True


def checks(snapshot, *runs):
    return snapshot, list(runs), False


def loads(snapshot, *loaded, stored=()):
    return snapshot, list(stored), True, list(loaded)


# fmt: off
SCENARIOS = [
    # at epoch 5; byte 50 was stored at 2, byte 100 at 3
    # name                              records: snapshot, (start, length)…            outcome
    ("the first to be ordered wins",    [stores(4, (0, 8)), stores(4, (0, 8))],          [0, 5]),
    ("neighbours do not conflict",      [stores(4, (0, 8)), stores(4, (8, 8))],          [0, 0]),
    ("one shared byte does",            [stores(4, (0, 8)), stores(4, (7, 8))],          [0, 5]),
    ("a loser leaves no trace",         [stores(1, (0, 9), (100, 1)), stores(4, (0, 9))], [3, 0]),
    ("nor does one that is checked",    [checks(4, (0, 8)), stores(4, (0, 8))],          [0, 0]),
    ("a checked one can lose",          [stores(4, (0, 8)), checks(4, (0, 8))],          [0, 5]),
    ("the newest of several conflicts", [stores(1, (50, 1), (100, 1))],                  [3]),
    ("a snapshot that holds the store", [stores(3, (100, 1))],                           [0]),
    ("a byte may be stored twice",      [stores(4, (0, 8), (4, 8))],                     [0]),
    ("an empty run is no store",        [stores(1, (100, 0))],                           [0]),
    ("who loaded what changed loses",   [loads(2, (100, 1))],                            [3]),
    ("earlier winners of one batch count", [stores(4, (0, 8)), loads(4, (7, 1))],        [0, 5]),
    ("a load disturbs nobody",          [loads(4, (0, 8)), stores(4, (0, 8))],           [0, 0]),
    ("write skew: the second loses",    [loads(4, (0, 16), stored=[(0, 8)]),
                                         loads(4, (0, 16), stored=[(8, 8)])],            [0, 5]),
    ("a loser's loads leave no trace",  [loads(1, (100, 1), stored=[(0, 8)]), loads(4, (0, 8))],
                                                                                         [3, 0]),
]
# fmt: on


@pytest.mark.parametrize(
    ("records", "outcome"), [row[1:] for row in SCENARIOS], ids=[row[0] for row in SCENARIOS]
)
def test_scenario(records, outcome):
    conflicts = ConflictSet()
    store(conflicts, 50, 1, 2)
    store(conflicts, 100, 1, 3)
    assert resolve(conflicts, records, 5) == outcome


def test_adjacent_words_of_2048_runners_do_not_conflict():
    conflicts = ConflictSet()
    records = [(1, [(BASE + 8 * k, 8)], True) for k in range(2_048)]
    assert resolve(conflicts, records, 2) == [0] * 2_048
    assert conflicts.range_count == 1


def test_rewriting_one_array_does_not_grow_it():
    """10,000 commits of the same 1 MB, in changing cuts, as an iterating program does."""
    conflicts = ConflictSet()
    store(conflicts, BASE, 1 << 20, 2)
    held = conflicts.held_bytes
    random = np.random.default_rng(3)
    for epoch in range(3, 10_003):
        cut = int(random.integers(1, 1 << 20))
        store(conflicts, BASE, cut, epoch)
        store(conflicts, BASE + cut, (1 << 20) - cut, epoch)
    conflicts.check_invariants()
    assert conflicts.range_count == 1
    assert conflicts.held_bytes == held


def test_forgetting_bounds_scattered_history():
    """A program that scatters words for ever, with short snapshots, stays within what is kept."""
    conflicts = ConflictSet(ranges_kept=1_000)
    for epoch in range(2, 200):
        records = [(epoch - 1, [(BASE + 4096 * (1_000 * epoch + k), 8)], True) for k in range(100)]
        assert resolve(conflicts, records, epoch) == [0] * 100
        conflicts.forget(epoch - 1)
        assert conflicts.range_count <= 1_000 + 100
    conflicts.check_invariants()


def test_leaves_left_sparse_are_packed():
    conflicts = ConflictSet()
    count = 40 * range_leaves.LEAF_RANGES
    assert not any(resolve(conflicts, [(1, [(BASE + 100 * k, 8)], True) for k in range(count)], 2))
    held = conflicts.held_bytes
    for k in range(0, count - 150, 150):
        store(conflicts, BASE + 100 * k + 50, 100 * 149, 3)
    conflicts.forget(1)
    conflicts.check_invariants()
    assert conflicts.held_bytes < held // 2


def test_too_many_ranges_is_an_error_that_names_the_limit(monkeypatch):
    monkeypatch.setattr(config, "CONFLICT_RANGES_MAX", 100)
    conflicts = ConflictSet()
    with pytest.raises(LimitError, match=r"limit is 100 \(config.CONFLICT_RANGES_MAX\)"):
        resolve(conflicts, [(1, [(BASE + 10 * k, 8)], True) for k in range(60)], 2)
    assert conflicts.range_count == 0


def test_a_batch_of_many_runs_has_room_reserved():
    """One record with more runs than all leaves hold: every split finds a slot."""
    conflicts = ConflictSet()
    runs = [(BASE + 16 * k, 8) for k in range(50_000)]
    assert resolve(conflicts, [(1, runs, True)], 2) == [0]
    conflicts.check_invariants()
    assert conflicts.range_count == 50_000
    assert conflict.LEAF_RANGES_PACKED < range_leaves.LEAF_RANGES


def test_a_range_that_is_stored_again_is_one_range_and_touching_ones_are_joined():
    """The quick way for what was stored before, byte for byte, leaves what the other way leaves."""
    conflicts = ConflictSet()
    cells = [(64 * k, 8) for k in range(2_000)]
    yes = np.ones(len(cells), np.bool_)
    offsets, runs = np.arange(len(cells) + 1), np.array(cells, RANGE)
    conflicts.resolve(np.zeros(len(cells), np.int64), offsets, runs, yes, 1)
    lost = conflicts.resolve(np.zeros(len(cells), np.int64), offsets, runs, yes, 2)
    assert (lost == 1).all(), "the snapshots lack epoch 1"
    again = np.concatenate([runs[::-1], runs[::-1]])
    present = np.repeat([1, 3], len(cells))
    enter, offsets = np.ones(len(again), np.bool_), np.arange(len(again) + 1)
    assert not conflicts.resolve(present, offsets, again, enter, 3).any()
    assert (conflicts.newest(runs) == 3).all()
    assert conflicts.range_count == len(cells)
    neighbours = np.array([(0, 8), (8, 8), (16, 48), (64, 8)], RANGE)
    conflicts.resolve(np.full(4, 3), np.arange(5), neighbours, np.ones(4, np.bool_), 4)
    assert conflicts.range_count == len(cells) - 1, "four of one epoch are one"
    conflicts.check_invariants()


def test_pages_that_others_stored_to_are_found_at_the_ends_of_runs():
    conflicts = ConflictSet()
    page = PAGE_BYTES
    stored = np.array([(page + 8, 8), (5 * page, 8)], RANGE)
    conflicts.resolve(np.zeros(2, np.int64), np.arange(3), stored, np.ones(2, np.bool_), 7)
    runs = np.array([(page, 8), (page + 64, 8), (2 * page, 2 * page), (4 * page - 8, 16)], RANGE)
    asked = np.array([6, 6, 7, 6]), np.array([0, 2, 3, 4, 4])
    pages, records = conflicts.shared_pages(*asked, runs, 100)
    assert list(zip(pages.tolist(), records.tolist(), strict=True)) == [(1, 0)]
    spans = np.array([(4 * page, page + 8)], RANGE)
    pages, records = conflicts.shared_pages(np.array([0]), np.array([0, 1]), spans, 100)
    assert (pages.tolist(), records.tolist()) == ([5], [0])
    assert conflicts.shared_pages(np.array([0]), np.array([0, 1]), spans, 0)[0].size == 0
