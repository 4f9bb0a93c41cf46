"""Range arithmetic beside Python sets of bytes."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dvm_mpi.dsm import ranges
from dvm_mpi.dsm.messages import RUN
from dvm_mpi.layout import PAGE_BYTES, RANGE
from tests.properties import tried

rows = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)), max_size=8)


def near_pages(pages_max):
    """Return numbers of bytes, most of them a whole number of pages or a byte beside."""
    beside = st.one_of(st.integers(-1, 1), st.integers(0, PAGE_BYTES))
    return st.builds(lambda pages, more: pages * PAGE_BYTES + more,
                     st.integers(0, pages_max), beside)  # fmt: skip


def make(pairs):
    return np.array(pairs, RANGE) if pairs else np.empty(0, RANGE)


def byte_set(found):
    return {b for s, n in found.tolist() for b in range(s, s + n)}


def assert_normal(found):
    ends = found["start"] + found["length"]
    assert (found["length"] > 0).all()
    assert (ends[:-1] < found["start"][1:]).all()


class RangesBesideBytes(RuleBasedStateMachine):
    """A set that grows by ranges in any order, empty and overlapping ones too."""

    def __init__(self) -> None:
        super().__init__()
        self.real, self.naive = make([]), set()

    @rule(added=rows)
    def add(self, added):
        self.real = ranges.normalise(np.concatenate((make(added), self.real)))
        self.naive |= byte_set(make(added))

    @invariant()
    def agree(self):
        assert_normal(self.real)
        assert byte_set(self.real) == self.naive
        assert ranges.total_bytes(self.real) == len(self.naive)


TestRangesBesideBytes = RangesBesideBytes.TestCase
TestRangesBesideBytes.settings = tried(40, steps=20)


@given(held=rows, asked=rows)
@tried(200)
def test_covering(held, asked):
    normal = ranges.normalise(make(held))
    expected = [set(range(s, s + n)) <= byte_set(normal) for s, n in asked]
    assert ranges.covers(normal, make(asked)).tolist() == expected


@given(
    pairs=st.lists(
        st.tuples(near_pages(9), near_pages(3)).filter(lambda pair: min(pair) >= 0), max_size=6
    )
)
@tried(200)
def test_pages(pairs):
    expected = [
        {b // PAGE_BYTES for b in (s, *range(s, s + n, PAGE_BYTES), s + n - 1)} if n else set()
        for s, n in pairs
    ]
    rounded = ranges.round_to_pages(make(pairs))
    assert [
        set(range(s // PAGE_BYTES, (s + n) // PAGE_BYTES)) for s, n in rounded.tolist()
    ] == expected
    assert ranges.pages_of(make(pairs)).tolist() == sorted(set().union(*expected))


@given(pairs=rows, block=st.sampled_from([1, 4, 7, 64]))
@tried(150)
def test_cut_at(pairs, block):
    runs = np.empty(len(pairs), RUN)
    runs["start"] = [s for s, _ in pairs]
    runs["length"] = [n for _, n in pairs]
    runs["data_first"] = np.arange(len(pairs)) * 100
    pieces, cut_from = ranges.cut_at(runs, block)
    told = [
        (int(row), b, d + b - s)
        for (s, n, d), row in zip(pieces.tolist(), cut_from, strict=True)
        for b in range(s, s + n)
    ]
    assert told == [
        (row, b, 100 * row + b - s) for row, (s, n) in enumerate(pairs) for b in range(s, s + n)
    ]
    used = pieces[pieces["length"] > 0]
    assert (used["start"] // block == (used["start"] + used["length"] - 1) // block).all()
    assert runs["start"].tolist() == [s for s, _ in pairs], "the rows given are the caller's"


def test_cutting_drops_empty_runs():
    runs = np.array([(5, 0, 0), (0, 8, 0)], RUN)
    pieces, cut_from = ranges.cut_at(runs, 64)
    assert pieces.tolist() == [(0, 8, 0)]
    assert cut_from.tolist() == [1]


@given(numbers=st.lists(st.integers(0, 9), max_size=12))
@tried(150)
def test_joined_stretches_are_the_numbers_again(numbers):
    firsts, counts = ranges.join_consecutive(np.array(numbers, np.int64))
    assert ranges.expand(firsts, counts).tolist() == numbers
    steps = [b - a == 1 for a, b in pairwise(numbers)]
    assert firsts.size == (len(numbers) and 1 + steps.count(False))


def test_join_consecutive():
    firsts, counts = ranges.join_consecutive(np.array([4, 5, 6, 9, 8, 9, 1]))
    assert firsts.tolist() == [4, 9, 8, 1]
    assert counts.tolist() == [3, 1, 2, 1]
    assert ranges.join_consecutive(np.empty(0, np.int64))[0].size == 0
    assert ranges.expand(firsts, counts).tolist() == [4, 5, 6, 9, 8, 9, 1]


@given(st.lists(st.integers(-3, 8) | st.sampled_from([2**62, -(2**62)]), max_size=12))
def test_distinct_numbers_come_once_and_ascending(numbers):
    """As in a Python set, which is sorted."""
    found = ranges.distinct(np.array(numbers, np.int64))
    assert found.tolist() == sorted(set(numbers))


def test_distinct_numbers_load_no_masked_arrays():
    """That takes 10 ms, in the midst of a run."""
    program = (
        "import sys, numpy as np\n"
        "from dvm_mpi.dsm.ranges import distinct\n"
        "distinct(np.array([2, 1, 2]))\n"
        "assert 'numpy.ma' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
