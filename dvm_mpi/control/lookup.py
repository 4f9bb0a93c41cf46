"""Pages that a worker has asked a home for, and what it says of them when that takes long."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import LOOKUP_PAGES_MAX
from dvm_mpi.control.messages import Dispatched
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.messages import LookupAnswered
from dvm_mpi.dsm.rows import words_of
from dvm_mpi.dsm.snapshot import Fetch
from dvm_mpi.io.report import counted
from dvm_mpi.layout import PAGE_SHIFT
from dvm_mpi.values import dataclass

#: Lookups that a message about a long wait names.
_TOLD_MAX: Final = 3
#: Of so many pages, which a scan fetches, most often none is told of: 3,600 as objects take 0.8 ms.
_MANY: Final = 256
_NO_BYTES: Final = np.empty(0, np.uint8)


@dataclass(slots=True)
class Lookup:
    """Pages that were asked for."""

    home: int
    snapshot: int
    pages: NDArray[np.int64]
    #: What the home was told of them; empty if it was told nothing.
    held: NDArray[np.int64]
    #: The pages that are being read, once the home has answered.
    reading: Fetch | None = None

    def __str__(self) -> str:
        first, end = int(self.pages.min()) << PAGE_SHIFT, (int(self.pages.max()) + 1) << PAGE_SHIFT
        step = "directory" if self.reading is None else "frames"
        return (
            f"{counted(len(self.pages), 'page')} in [{first:#x}, {end:#x}) "
            f"as of epoch {self.snapshot} ({step} of home {self.home})"
        )


def told_of(lookups: Collection[Lookup]) -> list[str]:
    """Return what is said of lookups under way: some of them, and how many more there are."""
    told = [str(lookup) for lookup in lookups]
    more = [f"{len(told) - _TOLD_MAX} more"] if len(told) > _TOLD_MAX else []
    return told[:_TOLD_MAX] + more


def questions(
    geometry: Geometry, pages: NDArray[np.int64], snapshot: int
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield homes and those of `pages` that each is asked for at a time."""
    for home, positions in geometry.group_pages(pages, snapshot):
        for first in range(0, len(positions), LOOKUP_PAGES_MAX):
            yield home, pages[positions[first : first + LOOKUP_PAGES_MAX]]


def known_answers(
    batch: Dispatched | None, pages: NDArray[np.int64], ticket: int
) -> tuple[list[LookupAnswered], NDArray[np.int64]]:
    """Return what is known of `pages` as if their homes had answered, and the pages left to ask.

    Parameters
    ----------
    batch
        The one that the pages are for, with what was told of where pages lie; None: nothing was.
    ticket
        The last one that was given out: the answers have those behind it.
    """
    if batch is None or len(batch.located) == 0 or len(pages) == 0:
        return [], pages
    if len(pages) > _MANY and not np.isin(batch.located["page"], pages).any():
        return [], pages
    wanted = set(pages.tolist())
    known = [row for row in words_of(batch.located).tolist() if row[0] in wanted]
    answers = []
    for home in dict.fromkeys(row[1] for row in known):
        ticket += 1
        own, _, frames, versions = np.array([row for row in known if row[1] == home]).T.copy()
        until = np.full(own.size, batch.snapshot)
        answers.append(LookupAnswered(home, ticket, own, frames, versions, until, _NO_BYTES))
    found = {row[0] for row in known}
    return answers, np.array([page for page in pages.tolist() if page not in found], np.int64)
