from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvm_mpi.dsm.hot_pages import HotPages
from dvm_mpi.dsm.messages import HOT_PAGE
from tests.properties import tried

NOTES = st.lists(
    st.tuples(
        st.sampled_from(["fetches", "versions", "shared"]),
        st.lists(st.integers(0, 30), max_size=12),
    ),
    max_size=20,
)


def noted(notes: list[Any], **limits: int) -> tuple[HotPages, Counter[Any]]:
    hot, model = HotPages(**limits), Counter()
    for kind, pages in notes:
        hot.note(kind, np.array(pages, np.int64))
        model.update((page, kind) for page in pages)
    return hot, model


def as_counter(rows: np.ndarray) -> Counter[Any]:
    return Counter(
        {
            (int(row["page"]), kind): int(row[kind])
            for row in rows
            for kind in ("fetches", "versions", "shared")
            if row[kind]
        }
    )


@tried(100)
@given(NOTES, st.integers(1, 20))
def test_counts_against_a_naive_model(notes: list[Any], pending_max: int) -> None:
    # The same arrays again, as a scan notes them that is made over and over.
    hot, model = noted(notes + notes, pending_max=pending_max)
    rows = hot.busiest(1_000)
    assert as_counter(rows) == model
    totals = (rows["fetches"] + rows["versions"] + rows["shared"]).tolist()
    assert totals == sorted(totals, reverse=True)


@pytest.mark.parametrize("size", [63, 64, 20_000])
def test_scans_count_each_time(size: int) -> None:
    """Also where there are more than are kept apart, of several kinds, some of them once."""
    hot = HotPages(kept=100_000)
    first, second = np.arange(size), np.arange(size) + size // 2
    for _ in range(3):
        hot.note("fetches", first)
    hot.note("versions", first)
    hot.note("fetches", second)
    rows = hot.busiest(100_000)
    rows = rows[np.argsort(rows["page"])]
    assert rows["page"].tolist() == list(range(size // 2 + size))
    assert rows["fetches"].tolist() == [3] * (size // 2) + [4] * (size - size // 2) + [1] * (
        size // 2
    )
    assert rows["versions"].tolist() == [1] * size + [0] * (size // 2)


@tried(100)
@given(NOTES, NOTES)
def test_counts_of_several_are_added_up(first: list[Any], second: list[Any]) -> None:
    hot, model = noted(first)
    other, more = noted(second)
    hot.add(other.take(1_000))
    assert as_counter(hot.busiest(1_000)) == model + more
    assert len(other.busiest(1_000)) == 0


@tried(50)
@given(NOTES)
def test_of_many_pages_the_counts_are_never_too_high(notes: list[Any]) -> None:
    hot, model = noted(notes, kept=3, pending_max=4)
    rows = hot.busiest(1_000)
    assert len(rows) <= 6
    assert all(count <= model[key] for key, count in as_counter(rows).items())


def test_a_page_that_stays_hot_is_not_forgotten() -> None:
    hot = HotPages(kept=4, pending_max=64)
    for first in range(0, 10_000, 10):
        hot.note("fetches", np.array([7, 7, 7, *range(first, first + 10)]))
    assert hot.busiest(1)["page"].tolist() == [7]
    assert hot.busiest(1)["fetches"][0] == 3_001


def test_what_is_added_may_be_nothing() -> None:
    hot = HotPages()
    hot.add(np.zeros(0, HOT_PAGE))
    assert len(hot.take(5)) == 0


def test_what_is_added_waits_and_not_for_ever() -> None:
    rows = np.zeros(3, HOT_PAGE)
    rows["page"], rows["fetches"] = [5, 6, 7], 1
    hot = HotPages(pending_max=8)
    for _ in range(100):
        hot.add(rows)
        assert sum(map(len, hot._added)) < 8
    assert hot.busiest(9)["fetches"].tolist() == [100] * 3
