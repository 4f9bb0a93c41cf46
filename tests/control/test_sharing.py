"""Whose stores meet on a page."""

from __future__ import annotations

import numpy as np

from dvm_mpi.control.sharing import Sharing


def note(sharing: Sharing, *pairs: tuple[int, int]) -> None:
    pages, entries = (np.array(column, np.int64) for column in zip(*pairs, strict=True))
    sharing.note(pages, entries)


def test_runners_are_told_by_page_those_with_most_commits_first() -> None:
    sharing = Sharing()
    note(sharing, (7, 0x100), (7, 0x200), (8, 0x300))
    note(sharing, (7, 0x200))
    sharing.note(np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert sharing.entries(7, 5) == [0x200, 0x100]
    assert sharing.entries(7, 1) == [0x200]
    assert sharing.entries(8, 5) == [0x300]
    assert sharing.entries(9, 5) == []


def test_of_too_many_pages_those_with_most_are_remembered() -> None:
    sharing = Sharing(kept=2)
    note(sharing, *[(page, 0x100) for page in range(4)])
    note(sharing, (1, 0x100), (3, 0x100), (9, 0x100))
    told = [page for page in range(10) if sharing.entries(page, 1)]
    assert told == [1, 3]
