"""Compiled loops over runner rows, beside plain ones."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dvm_mpi.control import row_loops
from dvm_mpi.control.lifecycle import RUNNER, Kind, State
from dvm_mpi.dsm.rows import words_of
from dvm_mpi.engine.interface import ATTEMPT, GRANT
from dvm_mpi.layout import RANGE
from tests.properties import tried

SMALL = st.integers(0, 3)
ROWS = st.lists(st.tuples(st.sampled_from(Kind), SMALL, SMALL, SMALL, SMALL, SMALL, SMALL))


@tried(60)
@given(ROWS)
def test_what_rows_own_is_what_a_loop_counts(drawn: list[Any]) -> None:
    """Instances own nothing: what they use is their template's. All of them are counted."""
    table = np.zeros(len(drawn), RUNNER)
    names = ("kind", "grant_count", "watched_count", "image_count", "image_data_count", "losses")
    for row, (kind, *values) in enumerate(drawn):
        table[list(names)][row] = (kind, *values[:5])
        table["stack_automatic"][row], table["stack_base"][row] = values[5] > 1, 1_000 + row
    rows = np.arange(len(drawn))[::-1].copy()
    totals, stacks = np.zeros(row_loops.OWNED_COUNT, np.int64), np.zeros(len(drawn), np.int64)
    row_loops.owned(words_of(table), rows, stacks, totals)
    owners = [r for r in rows.tolist() if drawn[r][0] != Kind.INSTANCE]
    bases = [1_000 + r for r in owners if drawn[r][6] > 1]
    assert totals.tolist() == [
        *(sum(drawn[r][place] for r in owners) for place in (1, 2, 3, 4)),
        len(bases),
        sum(d[5] > 0 for d in drawn),
        len(drawn) - len(owners),
    ]
    assert stacks[: len(bases)].tolist() == bases


def test_rows_that_cannot_all_move_stay_where_they_are() -> None:
    table = np.zeros((3, len(RUNNER.names or ())), np.int64)
    table[:, row_loops.STATE] = [1, 2, 1]
    free, following = np.zeros(3, np.int64), np.array([-1, 0, -1])
    assert row_loops.move(table, np.array([0, 2, 1]), following, free, 0) == -1 - 2
    assert table[:, row_loops.STATE].tolist() == [1, 2, 1]
    assert row_loops.move(table, np.array([0, 2]), following, free, 1) == 3
    assert table[:, row_loops.STATE].tolist() == [0, 2, 0]
    assert free.tolist() == [0, 2, 0], "the first of them is on top"


@tried(60)
@given(ROWS)
def test_what_is_sent_is_what_a_loop_copies(drawn: list[Any]) -> None:
    """Of each row what its worker must know; the row knows where it runs, and on what."""
    table = np.zeros(len(drawn), RUNNER)
    copied = ("id", "entry", "stack_base", "stack_bytes", "stack_automatic")
    arena: list[tuple[int, int]] = []
    for row, (kind, grants, images, losses, *_) in enumerate(drawn):
        table["kind"][row], table["losses"][row] = kind, losses
        for number, name in enumerate(copied):
            table[name][row] = 100 * row + number
        table["grant_first"][row], table["grant_count"][row] = len(arena), grants
        table["image_count"][row] = images
        arena += [(1_000 * row + k, k + 1) for k in range(grants)]
    rows = np.arange(len(drawn))[::-1].copy()
    # The first two are a batch, then comes an empty one, and the rest.
    batches = [rows[:2].tolist(), [], rows[2:].tolist()]
    counts, workers = np.array([len(batch) for batch in batches]), np.array([3, 5, 4])
    attempts = np.empty(len(drawn), ATTEMPT)
    totals = np.zeros((3, row_loops.SENT_COUNT), np.int64)
    row_loops.send(words_of(table), rows, workers, counts, 50, 8, words_of(attempts), totals)
    grants = np.empty(len(arena), GRANT)
    ranges = np.array(arena, RANGE).reshape(-1)
    row_loops.copy_grants(words_of(table), rows, words_of(ranges), words_of(grants))
    assert table["attempt"][rows].tolist() == [50 + k for k in range(len(drawn))]
    assert (table["snapshot"] == 8).all()
    assert table["worker"][rows].tolist() == [3] * len(batches[0]) + [4] * len(batches[2])
    before = sum(drawn[row][1] for row in batches[0])
    for position, (attempt, row) in enumerate(zip(attempts, rows.tolist(), strict=True)):
        assert (int(attempt["runner"]), int(attempt["snapshot"])) == (row, 8)
        assert [int(attempt[name]) for name in copied] == [100 * row + k for k in range(5)]
        first = int(attempt["grant_first"]) + (before if position >= len(batches[0]) else 0)
        own = grants[first:][: int(attempt["grant_count"])]
        spans = list(zip(own["start"].tolist(), own["length"].tolist(), strict=True))
        assert spans == [(1_000 * row + k, k + 1) for k in range(drawn[row][1])]
        assert (int(attempt["image_first"]), int(attempt["image_count"])) == (0, 0)
    assert totals.tolist() == [
        [
            sum(drawn[row][1] for row in batch),
            sum(drawn[row][2] for row in batch),
            sum(drawn[row][3] > 0 for row in batch),
            sum(drawn[row][0] == Kind.INSTANCE for row in batch),
        ]
        for batch in batches
    ]


@tried(200)
@given(
    portions=st.lists(st.lists(st.integers(0, 30), max_size=9), max_size=6),
    fuel=st.integers(1, 60),
    most=st.integers(1, 5),
)
def test_batches_are_cut_as_a_loop_does(portions: list[list[int]], fuel: int, most: int) -> None:
    """A row goes with those before it if it is of the same portion, and both limits allow it."""
    expected: list[tuple[int, list[int]]] = []
    for portion, rows in enumerate(portions):
        batch: list[int] = []
        for row in rows:
            if not batch or len(batch) == most or sum(batch) + row > fuel:
                batch = []
                expected.append((portion, batch))
            batch.append(row)
    needed = np.array([row for rows in portions for row in rows], np.int64)
    counts = np.array([len(rows) for rows in portions], np.int64)
    found = np.empty((3, len(needed)), np.int64)
    count = row_loops.cut(needed, counts, fuel, most, *found)
    assert found[:, :count].T.tolist() == [[p, len(rows), sum(rows)] for p, rows in expected]


@tried(100)
@given(
    groups=st.lists(st.integers(0, 5), min_size=1, max_size=5),
    missing=st.lists(st.integers(0, 4), max_size=5),
)
def test_who_misses_some_gets_of_the_fullest_group(groups: list[int], missing: list[int]) -> None:
    """The first of those that have most; it is taken of as long as the first one wants some."""
    begins = np.arange(len(groups)) * 10
    ends = begins + np.array(groups)
    left = [list(range(begin, end)) for begin, end in zip(begins, ends, strict=True)]
    expected: list[tuple[int, int]] = []
    for position, count in enumerate(missing):
        wanted = count
        while wanted and any(left):
            fullest = max(left, key=len)
            taken = fullest[:wanted]
            del fullest[: len(taken)]
            wanted -= len(taken)
            expected += [(position, int(place)) for place in taken]
    positions, places = np.empty((2, sum(missing)), np.int64)
    count = row_loops.deal_fullest(begins, ends, np.array(missing, np.int64), positions, places)
    given_out = list(zip(positions[:count].tolist(), places[:count].tolist(), strict=True))
    assert given_out == expected
    assert (ends - begins).tolist() == [len(group) for group in left]


@tried(60)
@given(st.lists(st.integers(0, 40), max_size=12), st.integers(1, 4))
def test_stretches_are_those_of_equal_blocks(values: list[int], room: int) -> None:
    found = np.zeros((2, room), np.int64)
    count = row_loops.stretches(np.array(values, np.int64) + 5, 5, 8, found)
    expected = [(block, len(list(group))) for block, group in groupby(v // 8 for v in values)]
    assert count == len(expected)
    if count <= room:
        assert list(zip(*found[:, :count].tolist(), strict=True)) == expected


@tried(60)
@given(st.lists(st.tuples(st.sampled_from(State), st.sampled_from(Kind), SMALL), max_size=12))
def test_what_is_owned_lies_back_to_back_and_instances_borrow(drawn: list[Any]) -> None:
    """In an arena with a row of nobody between any two owners."""
    table, arena = np.zeros(len(drawn), RUNNER), np.zeros(4 * len(drawn) + 1, RANGE)
    arena["start"] = np.arange(len(arena))
    owners = []
    for row, (state, kind, count) in enumerate(drawn):
        table["state"][row], table["kind"][row], table["template"][row] = state, kind, -1
        table["grant_first"][row], table["grant_count"][row] = 4 * (len(drawn) - row) - 3, count
        if state != State.FREE and kind != Kind.INSTANCE:
            owners.append(row)
    templates = [row for row in owners if drawn[row][1] == Kind.TEMPLATE]
    instances = np.flatnonzero((table["state"] != State.FREE) & (table["kind"] == Kind.INSTANCE))
    if templates:
        table["template"][instances] = templates[-1]
    else:
        table["state"][instances] = State.FREE
    held = {
        row: list(range(int(r["grant_first"]), int(r["grant_first"]) + int(r["grant_count"])))
        for row, r in enumerate(table)
    }
    kept = np.empty(sum(drawn[row][2] for row in owners), RANGE)
    columns = row_loops.GRANT_FIRST, row_loops.GRANT_COUNT
    row_loops.compact(words_of(table), *columns, words_of(arena), words_of(kept))
    for row in owners:
        first, count = int(table["grant_first"][row]), int(table["grant_count"][row])
        assert kept["start"][first : first + count].tolist() == held[row]
    for row in instances.tolist() if templates else ():
        assert table["grant_first"][row] == table["grant_first"][templates[-1]]
