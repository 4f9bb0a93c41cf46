"""Batches bring along where pages lie that were changed last, and nothing that is out of date."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dvm_mpi.config import LOCATED_PAGES_MAX, LOCATED_PAGES_TOLD
from dvm_mpi.control.coordinator_state import ToAll, ToHome, ToWorker
from dvm_mpi.control.locations import Locations
from dvm_mpi.control.messages import Dispatched
from dvm_mpi.dsm.messages import LOCATED, BlocksMoved, PinsMoved
from dvm_mpi.engine.interface import ATTEMPT, GRANT, RUN
from dvm_mpi.layout import PAGE_BYTES
from tests.control.coordinator import FIRST, A, B, Child, Coordinator, X
from tests.properties import tried

NONE = np.empty(0, np.int64)


def rows(*located: tuple[int, int, int, int]) -> Any:
    return np.array(list(located), LOCATED)


def grants(*ranges: tuple[int, int, int]) -> Any:
    return np.array(list(ranges), GRANT)


def test_pages_of_small_ranges_are_located_as_of_their_last_store() -> None:
    known = Locations()
    known.note(rows((7, 1, 30, 4), (8, 0, 31, 5), (9, 0, 32, 5)))
    wanted = grants((8 * PAGE_BYTES - 1, 2, 4), (8 * PAGE_BYTES + 9, 9, 5))
    assert known.located(wanted, 5).tolist() == [(7, 1, 30, 4), (8, 0, 31, 5)]
    assert known.located(wanted[:1], 4).tolist() == [(7, 1, 30, 4)], "page 8 is newer"
    stored_since = grants((7 * PAGE_BYTES, 8, 6), (8 * PAGE_BYTES, 0, 5))
    assert known.located(stored_since, 6).tolist() == []
    large = grants((7 * PAGE_BYTES, LOCATED_PAGES_TOLD * PAGE_BYTES + 1, 5))
    assert known.located(large, 5).tolist() == []


def test_the_newest_version_of_a_page_counts() -> None:
    known = Locations()
    known.note(rows((7, 1, 30, 4)))
    known.note(rows((7, 1, 33, 6)))
    wanted = grants((7 * PAGE_BYTES, 8, 4))
    assert known.located(wanted, 5).tolist() == []
    assert known.located(wanted, 6).tolist() == [(7, 1, 33, 6)]


def test_what_was_noted_longest_ago_is_forgotten_first() -> None:
    known = Locations()
    for page in range(LOCATED_PAGES_MAX):
        known.note(rows((page, 0, page, 2)))
    known.note(rows((0, 0, 99, 3)))
    known.note(rows((999, 0, 98, 3)))
    wanted = grants((0, 2 * PAGE_BYTES, 2))
    assert known.located(wanted, 3).tolist() == [(0, 0, 99, 3)]


def test_of_pages_that_move_nothing_is_known_from_before() -> None:
    known = Locations()
    known.note(rows((7, 1, 30, 4)))
    batch = Dispatched(
        *(6, np.array([2]), np.zeros(1, ATTEMPT), grants((7 * PAGE_BYTES, 8, 4))),
        *(np.zeros(0, RUN), np.zeros(0, np.uint8)),
    )
    others = [ToHome(0, PinsMoved(4, NONE))]
    sent = known.with_places([*others, ToWorker(3, batch)])
    assert sent[0] is others[0]
    assert isinstance(sent[1], ToWorker)
    assert isinstance(sent[1].message, Dispatched)
    assert sent[1].message.located.tolist() == [(7, 1, 30, 4)]
    known.with_places([ToAll(BlocksMoved(6, 5, NONE, NONE, NONE))])
    assert known.located(batch.grants, 6).tolist() == []
    # Its home had not heard of the move when it said so.
    known.note(rows((7, 1, 31, 5), (8, 1, 32, 7)))
    assert known.located(grants((7 * PAGE_BYTES, PAGE_BYTES + 1, 5)), 7).tolist() == [(8, 1, 32, 7)]


Stores = st.lists(
    st.tuples(st.lists(st.integers(0, 5), min_size=1, unique=True), st.booleans()), max_size=20
)


@tried(100)
@given(Stores, st.integers(0, 5), st.integers(1, 3))
def test_it_is_what_the_homes_directory_says(epochs: Any, first: int, count: int) -> None:
    """Homes tell of some epochs only; what batches are told is right for all that."""
    known, versions = Locations(), dict[int, tuple[int, int]]()
    for epoch, (pages, is_told) in enumerate(epochs, 2):
        stored = {page: (1_000 * epoch + page, epoch) for page in pages}
        versions |= stored
        if is_told:
            known.note(rows(*((page, 0, *stored[page]) for page in pages)))
    declared = range(first, first + count)
    newest = max((versions[page][1] for page in declared if page in versions), default=0)
    wanted = grants((first * PAGE_BYTES, count * PAGE_BYTES, newest))
    for page, _, frame, version in known.located(wanted, len(epochs) + 1).tolist():
        assert page in declared
        assert versions[page] == (frame, version)


def test_who_is_woken_hears_where_that_lies_which_woke_it() -> None:
    c = Coordinator(workers=2)
    c.ends(c.one(FIRST), children=[Child(A), Child(B, watched=[(X, 8)], heap=[(X, 8)])])
    c.apply()
    c.ends(c.one(A), stores=[X])
    home, request = c.applying.popleft()
    actions = c.handle(c.applied(home, request.epoch, [(X // PAGE_BYTES, 17)]))
    (batch,) = (a.message for a in actions if isinstance(a, ToWorker))
    assert isinstance(batch, Dispatched)
    assert batch.located.tolist() == [(X // PAGE_BYTES, home, 17, request.epoch)]


def test_so_does_who_was_foreseen() -> None:
    c = Coordinator(workers=2)
    c.ends(c.one(FIRST), stores=[X], children=[Child(A, heap=[(X, 8)])])
    c.scheduler.foresee()
    home, request = c.applying.popleft()
    actions = c.handle(c.applied(home, request.epoch, [(X // PAGE_BYTES, 18)]))
    (batch,) = (a.message for a in actions if isinstance(a, ToWorker))
    assert isinstance(batch, Dispatched)
    assert batch.located.tolist() == [(X // PAGE_BYTES, home, 18, request.epoch)]
