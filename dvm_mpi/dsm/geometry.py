"""Where pages live, as of which epoch: blocks of pages go round the homes in turn, and some move.

A page is named by its number, address >> PAGE_SHIFT. Everyone knows where blocks go by their
number, and is told of those that move (`moves`), so finding a home costs no message.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvm_mpi import config
from dvm_mpi.dsm import ranges
from dvm_mpi.dsm.moves import BLOCK, NEWEST, Moves, home_each
from dvm_mpi.layout import PAGE_BYTES, PAGE_SHIFT
from dvm_mpi.values import dataclass, field

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Geometry:
    """Block-cyclic placement of pages over homes 0 … home_count - 1, and what has moved since.

    Parts that hear of moves one by one have a geometry each.
    """

    home_count: int
    block_pages: int = config.HOME_BLOCK_PAGES
    moves: Moves = field(default_factory=Moves, compare=False)

    def __post_init__(self) -> None:
        assert self.home_count > 0
        assert self.block_pages > 0

    @property
    def block_bytes(self) -> int:
        """Consecutive bytes that share a home."""
        return self.block_pages * PAGE_BYTES

    def home_of(self, pages: Ints, epoch: int | Ints = NEWEST) -> Ints:
        """Return the home of each page as of an epoch: one for all, or one for each."""
        blocks = pages // self.block_pages
        if self.moves.newest == 0:
            return np.asarray(blocks % self.home_count)
        homes = np.empty(pages.size, np.int64)
        epochs = np.ascontiguousarray(epoch, np.int64).reshape(-1)
        blocks = np.ascontiguousarray(blocks, np.int64)
        home_each(self.moves.table, blocks, epochs, self.home_count, homes)
        return homes

    def move(self, epoch: int, blocks: Ints, homes: Ints) -> None:
        """Let blocks have these homes from `epoch` on; see `Moves.note`."""
        self.moves.note(epoch, blocks, homes, self.home_count)

    def group_pages(self, pages: Ints, epoch: int = NEWEST) -> list[tuple[int, Ints]]:
        """Return `(home, positions in pages)` for each home touched, ascending, order kept."""
        return _groups(self.home_of(pages, epoch))

    def pages_per_home(self, first_page: int, page_count: int) -> Ints:
        """Return how many pages of a stretch each home has before anything moves: (home_count,)."""
        homes = np.arange(self.home_count, dtype=np.int64)

        def below(page: int) -> Ints:
            rounds, rest = divmod(page, self.block_pages * self.home_count)
            begun = np.clip(rest - homes * self.block_pages, 0, self.block_pages)
            return np.asarray(rounds * self.block_pages + begun)

        return below(first_page + page_count) - below(first_page)

    def pages_at(
        self,
        homes: Collection[int],
        first_page: int,
        page_count: int,
        batch_pages: int,
        epoch: int = NEWEST,
    ) -> Iterator[Ints]:
        """Yield the pages of a stretch that these homes have as of an epoch, in batches.

        A batch is never empty, ascends, and holds `batch_pages` at most, or one block if that is
        more. Batches ascend as well, but for blocks that have moved here: they come last.
        """
        own = np.array(sorted(homes), np.int64)
        end_page = first_page + page_count
        batch_blocks = max(batch_pages // self.block_pages, 1)
        for blocks in self._blocks_at(own, first_page, end_page, batch_blocks):
            firsts = blocks * self.block_pages
            pages = (firsts[:, np.newaxis] + np.arange(self.block_pages)).reshape(-1)
            pages = pages[(pages >= first_page) & (pages < end_page)]
            if self.moves.newest:
                pages = pages[np.isin(self.home_of(pages, epoch), own)]
            if pages.size:
                yield pages

    def _blocks_at(
        self, own: Ints, first_page: int, end_page: int, batch_blocks: int
    ) -> Iterator[Ints]:
        """Yield the blocks that go to homes by their number, then the others that ever moved."""
        round_pages = self.block_pages * self.home_count
        # Blocks of these homes are counted from page 0 on.
        begin = first_page // round_pages * own.size
        end = -(-end_page // round_pages) * own.size
        for block in range(begin, end, batch_blocks):
            rounds, which = np.divmod(np.arange(block, min(block + batch_blocks, end)), own.size)
            yield rounds * self.home_count + own[which]
        moved = self.moves.rows()[:, BLOCK]
        moved = moved[~np.isin(moved % self.home_count, own)]
        for first in range(0, moved.size, batch_blocks):
            yield moved[first : first + batch_blocks]

    def cut(self, runs: NDArray[Any], epoch: int = NEWEST) -> tuple[NDArray[Any], Ints, Ints]:
        """Cut messages.RUN rows where the home may change, as of an epoch.

        Returns the pieces in order, the row that each was cut from, and the home of each.
        """
        if self.home_count == 1:
            rows = np.flatnonzero(runs["length"] > 0)
            return runs[rows], rows, np.zeros(rows.size, np.int64)
        pieces, rows = ranges.cut_at(runs, self.block_bytes)
        return pieces, rows, self.home_of(pieces["start"] >> PAGE_SHIFT, epoch)

    def group_runs(self, runs: NDArray[Any], epoch: int = NEWEST) -> list[tuple[int, NDArray[Any]]]:
        """Return `(home, pieces of runs)` for each home touched, ascending, order kept."""
        pieces, _, homes = self.cut(runs, epoch)
        return [(home, pieces[positions]) for home, positions in _groups(homes)]


def _groups(homes: Ints) -> list[tuple[int, Ints]]:
    """Return `(home, its positions)` in ascending order of homes; positions ascend as well."""
    if homes.size == 0:
        return []
    order = np.argsort(homes, kind="stable")
    ordered = homes[order]
    begins = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    return [
        (int(ordered[begin]), part)
        for begin, part in zip(begins, np.split(order, begins[1:]), strict=True)
    ]
