"""Which blocks of pages should move to another home: counted by rank 0, from what it commits.

For each epoch that stores into a block it is noted beside which home most was stored. The home for
which that holds several times in a row draws the block, if what that saves is more than the move
costs. A decision follows from what was noted, in that order, and from limits.

Source: docs/design/0021-migration.md.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi import config
from dvm_mpi.dsm import ranges
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.hashing import IntMap
from dvm_mpi.dsm.moves import SINCE, TIMES
from dvm_mpi.dsm.ranges import distinct
from dvm_mpi.layout import PAGE_SHIFT
from dvm_mpi.values import dataclass

Ints = NDArray[np.int64]

#: Of a block that nobody draws.
_NOBODY: Final = -1
#: Columns of what is counted of a block.
_COLUMNS: Final = 4
_NONE: Final = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Limits:
    """When a block moves; see `config`, which says what the names mean."""

    bytes_min: int = config.MIGRATION_BYTES_MIN
    epochs: int = config.MIGRATION_EPOCHS
    horizon: int = config.MIGRATION_HORIZON
    share_percent: int = config.MIGRATION_SHARE_PERCENT
    #: How often `epochs` doubles at most: for each move of a block, and each row that ended.
    doublings_max: int = 16
    blocks_at_once: int = config.MIGRATION_BLOCKS_AT_ONCE
    blocks_max: int = config.MIGRATION_BLOCKS_MAX
    #: Pages that a home takes at most, beyond those that it had at first.
    room_pages: int = 2**62


def limits_of(home_bytes: int, loaded_pages: int) -> Limits:
    """Return the limits of a run whose homes have so many bytes of frames each.

    `loaded_pages`: how many the fullest holds when the program is loaded.
    """
    free = max((home_bytes >> PAGE_SHIFT) - loaded_pages, 0)
    return Limits(room_pages=free * config.MIGRATION_ROOM_PERCENT // 100)


class Migration:
    """Counts stores by block and the home beside who stored, and says which blocks move where.

    Parameters
    ----------
    geometry
        Where pages live, as the coordinator knows; worker w is beside home w.
    limits
        When a block moves.
    """

    def __init__(self, geometry: Geometry, limits: Limits) -> None:
        self._geometry = geometry
        self._limits = limits
        #: Of the open epoch: blocks, homes and bytes, of each batch of pieces.
        self._noted: list[tuple[Ints, Ints, Ints]] = []
        self._rows = IntMap()
        self._forget()
        #: Pages that each home has got, less those that it gave: (home_count,).
        self._taken: Ints = np.zeros(geometry.home_count, np.int64)

    def _forget(self) -> None:
        """Begin to count anew."""
        self._rows = IntMap()
        #: Of each row: which home draws the block, in how many epochs in a row, its surplus, and
        #: how often several such epochs have ended without a move.
        self._drawn: Ints = np.zeros((0, _COLUMNS), np.int64)

    def note(self, tokens: NDArray[Any], runs: NDArray[Any]) -> None:
        """Count write sets that join the open epoch.

        Parameters
        ----------
        tokens, runs
            TOKEN rows, whose workers stored the RUN rows that they name.
        """
        counts = tokens["run_count"]
        # Of most batches nothing can be long enough, and this is all that they cost.
        if int(counts.max()) * int(runs["length"].max(initial=0)) < self._limits.bytes_min:
            return
        own = runs.take(ranges.expand(tokens["run_first"], counts))
        owners = np.arange(tokens.size).repeat(counts)
        totals = np.bincount(owners, weights=own["length"], minlength=tokens.size)
        is_large = totals[owners] >= self._limits.bytes_min
        owners, own = owners[is_large], own[is_large]
        pieces, cut_from = ranges.cut_at(own, self._geometry.block_bytes)
        blocks = (pieces["start"] >> PAGE_SHIFT) // self._geometry.block_pages
        # In one process there may be more workers than homes.
        homes = tokens["worker"][owners[cut_from]] % self._geometry.home_count
        self._noted.append((blocks, homes, np.ascontiguousarray(pieces["length"])))

    def decide(self, visible: int, oldest: int, closed: Ints) -> tuple[Ints, Ints]:
        """Return the blocks that move now, the open epoch being empty, and their new homes.

        Parameters
        ----------
        visible
            The newest visible epoch.
        oldest
            The oldest snapshot in use, or `visible`.
        closed
            Homes that take nothing.
        """
        if not self._noted:
            return _NONE, _NONE
        moves, limits = self._geometry.moves, self._limits
        blocks, rows = self._count_epoch()
        # Those that were not stored to have been looked at before.
        is_ready = self._drawn[rows, 1] >= limits.epochs
        if visible < moves.newest or not is_ready.any():
            return _NONE, _NONE
        blocks, rows = blocks[is_ready], rows[is_ready]
        drawing, epochs, surplus, broken = self._drawn[rows].T
        moved = moves.of(blocks)
        # Each move makes the next one dearer, and so does each that was not worth it in the end:
        # what goes to and fro stays.
        wanted = limits.epochs << np.minimum(moved[:, TIMES] + broken, limits.doublings_max)
        pays = surplus * limits.horizon > self._geometry.block_bytes * epochs
        may = pays & (epochs >= wanted) & (moved[:, SINCE] <= min(oldest, visible))
        may &= ~np.isin(drawing, closed) & (drawing != self._geometry.home_of(self._first(blocks)))
        if len(moves) + int(may.sum()) > limits.blocks_max:
            may &= moved[:, TIMES] > 0
        chosen = np.flatnonzero(may)[: limits.blocks_at_once]
        chosen = chosen[self._has_room(drawing[chosen])]
        blocks, homes = blocks[chosen], drawing[chosen]
        self._enter(blocks, homes)
        self._drawn[rows[chosen], :3] = (_NOBODY, 0, 0)
        return blocks, np.ascontiguousarray(homes)

    def _first(self, blocks: Ints) -> Ints:
        """Return the first page of each block."""
        return blocks * self._geometry.block_pages

    def _has_room(self, homes: Ints) -> NDArray[np.bool_]:
        """Say which moves, in this order, their homes still have room for."""
        earlier = np.zeros(homes.size, np.int64)
        for home in distinct(homes).tolist():
            goes = homes == home
            earlier[goes] = np.arange(1, int(goes.sum()) + 1)
        taken = self._taken[homes] + earlier * self._geometry.block_pages
        return np.asarray(taken <= self._limits.room_pages)

    def _enter(self, blocks: Ints, homes: Ints) -> None:
        """Note that blocks will move."""
        before = self._geometry.home_of(self._first(blocks))
        np.add.at(self._taken, homes, self._geometry.block_pages)
        np.subtract.at(self._taken, before, self._geometry.block_pages)

    def _count_epoch(self) -> tuple[Ints, Ints]:
        """Take what was noted of the epoch that has closed: who drew which block.

        Returns the blocks that it stored to, and their rows.
        """
        noted, self._noted = self._noted, []
        blocks, homes, stored = (np.concatenate(part) for part in zip(*noted, strict=True))
        pairs = np.stack((blocks, homes), axis=1)
        pairs, owner = np.unique(pairs, axis=0, return_inverse=True)
        sums = np.bincount(owner.reshape(-1), weights=stored, minlength=len(pairs)).astype(np.int64)
        # Who stored most comes first; of several the lowest number.
        order = np.lexsort((pairs[:, 1], -sums, pairs[:, 0]))
        pairs, sums = pairs[order], sums[order]
        firsts = ranges.begins_of(pairs[1:, 0] != pairs[:-1, 0])
        blocks, homes, most = pairs[firsts, 0], pairs[firsts, 1], sums[firsts]
        total = np.add.reduceat(sums, firsts)
        draws = (most * 100 >= total * self._limits.share_percent) & (
            homes != self._geometry.home_of(self._first(blocks))
        )
        rows = self._rows_of(blocks)
        goes_on = draws & (self._drawn[rows, 0] == homes)
        self._drawn[rows, 3] += ~goes_on & (self._drawn[rows, 1] > 1)
        before = np.where(goes_on[:, np.newaxis], self._drawn[rows], 0)
        self._drawn[rows, 0] = np.where(draws, homes, _NOBODY)
        self._drawn[rows, 1] = np.where(draws, before[:, 1] + 1, 0)
        self._drawn[rows, 2] = np.where(draws, before[:, 2] + 2 * most - total, 0)
        return blocks, rows

    def _rows_of(self, blocks: Ints) -> Ints:
        """Return the row of each block, a new one for those that have none."""
        if len(self._rows) + blocks.size > self._limits.blocks_max:
            self._forget()
        rows = self._rows.get(blocks, _NOBODY)
        is_new = rows == _NOBODY
        first, count = len(self._drawn), int(is_new.sum())
        rows[is_new] = np.arange(first, first + count)
        self._rows.put(blocks[is_new], rows[is_new])
        added = np.full((count, _COLUMNS), (_NOBODY, 0, 0, 0), np.int64)
        self._drawn = np.concatenate((self._drawn, added))
        return rows
