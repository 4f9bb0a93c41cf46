"""Range arithmetic beside Python sets of bytes."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dvm_mpi.dsm import ranges
from dvm_mpi.dsm.messages import RUN
from dvm_mpi.layout import PAGE_BYTES, RANGE

rows = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)), max_size=8)


def make(pairs):
    return np.array(pairs, RANGE) if pairs else np.empty(0, RANGE)


def byte_set(found):
    return {b for s, n in found.tolist() for b in range(s, s + n)}


def assert_normal(found):
    ends = found["start"] + found["length"]
    assert (found["length"] > 0).all()
    assert (ends[:-1] < found["start"][1:]).all()


@given(left=rows, right=rows)
@settings(max_examples=200, deadline=None)
def test_set_operations(left, right):
    a, b = ranges.normalise(make(left)), ranges.normalise(make(right))
    assert byte_set(a) == byte_set(make(left))
    left_alone = ranges.subtract(a, b)
    assert_normal(left_alone)
    assert byte_set(left_alone) == byte_set(a) - byte_set(b)
    assert ranges.total_bytes(a) == len(byte_set(a))
    assert_normal(a)


@given(held=rows, asked=rows)
@settings(max_examples=200, deadline=None)
def test_covering(held, asked):
    normal = ranges.normalise(make(held))
    expected = [set(range(s, s + n)) <= byte_set(normal) for s, n in asked]
    assert ranges.covers(normal, make(asked)).tolist() == expected


@given(
    pairs=st.lists(
        st.tuples(st.integers(0, 9 * PAGE_BYTES), st.integers(0, 3 * PAGE_BYTES)), max_size=6
    )
)
@settings(max_examples=100, deadline=None)
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
@settings(max_examples=150, deadline=None)
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


def test_join_consecutive():
    firsts, counts = ranges.join_consecutive(np.array([4, 5, 6, 9, 8, 9, 1]))
    assert firsts.tolist() == [4, 9, 8, 1]
    assert counts.tolist() == [3, 1, 2, 1]
    assert ranges.join_consecutive(np.empty(0, np.int64))[0].size == 0
    assert ranges.expand(firsts, counts).tolist() == [4, 5, 6, 9, 8, 9, 1]
