"""The watch index beside a list of watched ranges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dvm_mpi.dsm import kernels, watch_tree
from dvm_mpi.dsm.watch import WatchIndex
from dvm_mpi.layout import RANGE
from tests.properties import tried


def ranges(rows):
    return np.array(rows, RANGE) if rows else np.empty(0, RANGE)


def match(index, *records):
    offsets = np.cumsum([0] + [len(runs) for runs in records])
    found = index.match(offsets, ranges([run for runs in records for run in runs]))
    return list(zip(*(part.tolist() for part in found), strict=True))


def naive_match(watched, records):
    return sorted(
        (number, template)
        for number, runs in enumerate(records)
        for template, held in watched.items()
        if any(s < b + m and b < s + n for s, n in runs for b, m in held if n and m)
    )


#: Ranges that overlap, repeat, touch and are empty.
SPANS = st.lists(
    st.tuples(
        st.integers(0, 40) | st.integers(0, 2_000), st.integers(0, 8) | st.integers(0, 2_000)
    ),
    max_size=3,
)


class IndexBesideList(RuleBasedStateMachine):
    """Templates come and go, one at a time and many at once; stores are matched in between."""

    def __init__(self) -> None:
        super().__init__()
        self.index, self.watched, self.serial = WatchIndex(), {}, 0

    @rule(groups=st.lists(SPANS, min_size=1, max_size=6), step=st.sampled_from([1, -7, 1 << 33]))
    def add(self, groups: list[list[tuple[int, int]]], step: int) -> None:
        """Numbers of templates ascend, descend or jump."""
        first = (1 << 40) + self.serial
        self.serial += 100
        templates = [first + step * k for k in range(len(groups))]
        counts = np.array([len(rows) for rows in groups])
        rows = ranges([row for group in groups for row in group])
        self.index.add_many(np.array(templates), counts, rows)
        self.watched |= dict(zip(templates, groups, strict=True))

    @precondition(lambda self: self.watched)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        some = st.lists(st.sampled_from(list(self.watched)), unique=True, max_size=6)
        gone = data.draw(some)
        self.index.remove_many(np.array(gone, np.int64))
        for template in gone:
            del self.watched[template]

    @rule(records=st.lists(SPANS, min_size=1, max_size=4))
    def store(self, records: list[list[tuple[int, int]]]) -> None:
        assert match(self.index, *records) == naive_match(self.watched, records)

    @rule(starts=st.lists(st.integers(0, 60) | st.integers(0, 2_000), max_size=30))
    def store_beside(self, starts: list[int]) -> None:
        """Many short runs, most of which lie where others before them met nothing."""
        records = [[(start, 1 + start % 3)] for start in starts]
        assert match(self.index, *records) == naive_match(self.watched, records)

    @invariant()
    def agree(self) -> None:
        self.index.check_invariants()
        assert len(self.index) == len(self.watched)
        assert self.index.range_count == sum(n > 0 for g in self.watched.values() for _, n in g)


TestIndexBesideList = IndexBesideList.TestCase
TestIndexBesideList.settings = tried(25, steps=20)


# fmt: off
SCENARIOS = [
    # template 7 watches [100, 108) and [200, 201); template 3 watches [104, 112)
    # name                             runs of two records                      pairs
    ("a watched byte",                 [(100, 1)], [],                          [(0, 7)]),
    ("the byte before",                [(92, 8)], [],                           []),
    ("the byte behind",                [(112, 8)], [(201, 1)],                  []),
    ("the first byte",                 [(93, 8)], [],                           [(0, 7)]),
    ("the final byte",                 [], [(111, 1)],                          [(1, 3)]),
    ("one byte, two templates",        [(104, 1)], [],                          [(0, 3), (0, 7)]),
    ("two ranges, one pair",           [(100, 1), (200, 1)], [],                [(0, 7)]),
    ("many runs, one pair",            [(100, 1), (102, 1), (106, 2)], [],      [(0, 3), (0, 7)]),
    ("everything",                     [(0, 999)], [(0, 999)],    [(0, 3), (0, 7), (1, 3), (1, 7)]),
    ("an empty run",                   [(104, 0)], [],                          []),
]
# fmt: on


@pytest.mark.parametrize(
    ("first", "second", "pairs"), [row[1:] for row in SCENARIOS], ids=[row[0] for row in SCENARIOS]
)
def test_scenario(first, second, pairs):
    index = WatchIndex()
    index.add(7, ranges([(200, 1), (100, 8)]))
    index.add(3, ranges([(104, 8)]))
    assert match(index, first, second) == pairs


def test_a_template_that_watches_no_byte_can_be_removed():
    index = WatchIndex()
    index.add(4, ranges([(100, 0)]))
    assert len(index) == 1
    assert match(index, [(0, 1_000)]) == []
    index.remove(4)
    index.check_invariants()
    assert len(index) == 0


def test_adding_twice_and_removing_twice_are_our_faults():
    index = WatchIndex()
    index.add(4, ranges([(100, 8)]))
    with pytest.raises(AssertionError, match="watches already"):
        index.add(4, ranges([(100, 8)]))
    index.remove(4)
    with pytest.raises(AssertionError, match="does not watch"):
        index.remove(4)


def path_length(index):
    """Return the length of the longest path from the root."""
    deepest, level = 0, [int(index._nodes[0, watch_tree.LEFT])]
    while level := [node for node in level if node]:
        deepest += 1
        level = [
            int(index._nodes[n, side])
            for n in level
            for side in (watch_tree.LEFT, watch_tree.RIGHT)
        ]
    return deepest


@pytest.mark.parametrize("order", ["ascending", "descending", "one place"])
def test_the_tree_stays_flat_whatever_the_order(order):
    """Sorted insertion is what programs do; a tree without balance would be a list."""
    index, count = WatchIndex(), 4_000
    place = {
        "ascending": lambda k: 16 * k,
        "descending": lambda k: -16 * k,
        "one place": lambda k: 0,
    }
    for k in range(count):
        index.add(k, ranges([((1 << 40) + place[order](k), 8)]))
    assert path_length(index) < 40
    assert len(match(index, [(1 << 40, 8)])) == (count if order == "one place" else 1)
    for k in range(0, count, 2):
        index.remove(k)
    index.check_invariants()
    assert path_length(index) < 40


def test_nodes_are_used_again():
    """A watcher that creates itself anew, ten thousand times."""
    index = WatchIndex()
    for k in range(10_000):
        index.add(k, ranges([(1_000, 8), (2_000, 8)]))
        if k:
            index.remove(k - 1)
    assert index._nodes.shape[0] <= 64
    assert match(index, [(2_007, 1)]) == [(0, 9_999)]


class Looked:
    """The nodes of an index, of which it is counted how many a search has looked at."""

    def __init__(self, nodes):
        self.nodes, self.count = nodes, 0

    def __getitem__(self, place):
        self.count += place[1] == watch_tree.REACH
        return self.nodes[place]


def looked_at(index, start, length):
    """Return how many templates a store wakes, and how many nodes that takes to find."""
    nodes = Looked(index._nodes)
    offsets, path = np.array([0, 1]), np.empty(watch_tree.PATH_NODES_MAX, np.int64)
    entry: Any = watch_tree.match
    search = kernels.LIBRARY.functions[entry.symbol]
    pairs = np.empty((2, len(index)), np.int64)
    found = search(nodes, offsets, np.array([[start, length]]), path, pairs)
    return found, nodes.count


#: Ranges that are hard to keep in order, of the k-th of so many: start and length.
HARD = {
    "nested": lambda k, count: (k, 2 * (count - k)),
    "nested, the innermost first": lambda k, count: (count - k, 2 * k + 1),
    "one over all": lambda k, count: (0, 64 * count) if k == 0 else (64 * k, 8),
    "long and short": lambda k, count: (64 * k, 8 if k % 64 else 4_096),
    "all on one page": lambda k, _: (8 * k % 4_096, 8),
}


@pytest.mark.parametrize("pattern", HARD)
def test_a_search_looks_at_little_more_than_it_finds(pattern):
    """However ranges lie over each other, and while every other one goes and comes again."""
    index, count = WatchIndex(), 4_096
    spans = [HARD[pattern](k, count) for k in range(count)]
    numbers = np.arange(count)
    index.add_many(numbers, np.ones(count, np.int64), ranges(spans))
    for step in (2, 3):
        gone = numbers[::step]
        index.remove_many(gone)
        index.add_many(gone, np.ones(len(gone), np.int64), ranges([spans[k] for k in gone]))
    index.check_invariants()
    assert path_length(index) < 40
    for start in range(0, 64 * count, 7_919):
        hits = sum(s < start + 8 and start < s + n for s, n in spans)
        found, nodes = looked_at(index, start, 8)
        assert found == hits
        assert nodes < 3 * 40 + 5 * hits
