"""What is known of pages before anybody is asked, and who is asked for the others."""

from __future__ import annotations

import numpy as np
import pytest

from dvm_mpi.control import lookup
from dvm_mpi.control.lookup import known_answers
from dvm_mpi.control.messages import Dispatched
from dvm_mpi.dsm.messages import LOCATED
from dvm_mpi.engine.interface import ATTEMPT, GRANT, NO_LEASES, RUN

SNAPSHOT = 5


def told_of(*located: tuple[int, int, int, int]) -> Dispatched:
    """Return a batch that was told where pages lie: page, home, frame, version."""
    numbers = np.empty(0, np.int64)
    attempts, grants, runs = (np.empty(0, dtype) for dtype in (ATTEMPT, GRANT, RUN))
    data = np.empty(0, np.uint8)
    rows = np.array(list(located), LOCATED)
    return Dispatched(SNAPSHOT, numbers, attempts, grants, runs, data, NO_LEASES, located=rows)


@pytest.mark.parametrize("many", [0, lookup._MANY])
@pytest.mark.parametrize("first", [10, 12, 20])
def test_many_pages_are_answered_as_few(
    many: int, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup, "_MANY", many)
    batch = told_of((11, 1, 7, 4), (12, 0, 8, 5), (14, 1, 9, 3))
    pages = np.arange(first, first + 4)
    answers, left = known_answers(batch, pages, 100)
    known = {11: (1, 7, 4), 12: (0, 8, 5), 14: (1, 9, 3)}
    answered = {
        page: (answer.home, frame, version)
        for answer in answers
        for page, frame, version in zip(
            answer.pages.tolist(), answer.frames.tolist(), answer.versions.tolist(), strict=True
        )
    }
    assert answered == {page: known[page] for page in pages.tolist() if page in known}
    assert left.tolist() == [page for page in pages.tolist() if page not in known]
    assert [answer.ticket for answer in answers] == list(range(101, 101 + len(answers)))


def test_of_a_scan_that_was_not_told_of_all_pages_are_left() -> None:
    pages = np.arange(1_000, 1_000 + 2 * lookup._MANY)
    answers, left = known_answers(told_of((11, 1, 7, 4)), pages, 100)
    assert (answers, left.tolist()) == ([], pages.tolist())
