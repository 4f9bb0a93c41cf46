"""Where attempts lose: at which end of which runners, how often, and over which byte.

A run that is busy with losing looks like one that is busy. What is kept here tells its author
which line to look at. It decides nothing, and a run without losses never gets here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import (
    CONTENTION_LOSSES_TOLD,
    CONTENTION_SHARE_TOLD,
    CONTENTION_SITES_KEPT,
)
from dvm_mpi.dsm.conflict import ConflictSet
from dvm_mpi.layout import RANGE
from dvm_mpi.values import dataclass, replace

Ints = NDArray[np.int64]
#: The entry of runners, and the address where they wanted to commit, or trapped.
_Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class ContendedSite:
    """Attempts of runners with one entry that lost at one instruction.

    `most` is the highest number of losses of one runner. `address` is the lowest byte found that
    somebody else had stored first.
    """

    entry: int
    pc: int
    losses: int
    most: int
    address: int


class Contention:
    """Counts losses by site; of too many sites those with the fewest losses are forgotten."""

    def __init__(self, sites_kept: int = CONTENTION_SITES_KEPT) -> None:
        self._sites_kept = sites_kept
        self._sites: dict[_Place, ContendedSite] = {}

    def note(
        self, entries: Ints, pcs: Ints, losses: Ints, find_address: Callable[[int], int]
    ) -> None:
        """Count attempts that have lost together.

        Parameters
        ----------
        entries, pcs
            (n,) where each one's runner begins, and where it wanted to commit or trapped.
        losses
            (n,) how often each one's runner has lost by now.
        find_address
            Returns the lowest contended byte of the attempt at a position. Called for one
            attempt of a site, and only when its losses pass a power of two.
        """
        #: First position, attempts and highest losses of each place; there are few of them.
        batch: dict[_Place, tuple[int, int, int]] = {}
        for position, (entry, pc, worst) in enumerate(
            zip(entries.tolist(), pcs.tolist(), losses.tolist(), strict=True)
        ):
            first, count, most = batch.get((entry, pc), (position, 0, 0))
            batch[entry, pc] = first, count + 1, max(most, worst)
        for (entry, pc), (first, count, worst) in batch.items():
            known = self._sites.get((entry, pc))
            if known is None:
                address = find_address(first)
                self._sites[entry, pc] = ContendedSite(entry, pc, count, worst, address)
                continue
            total, address = known.losses + count, known.address
            if total.bit_length() > known.losses.bit_length():
                address = min(address, find_address(first))
            self._sites[entry, pc] = replace(
                known, losses=total, most=max(known.most, worst), address=address
            )
        if len(self._sites) > 2 * self._sites_kept:
            self._sites = {(site.entry, site.pc): site for site in self.sites()}

    def sites(self) -> tuple[ContendedSite, ...]:
        """Return the sites with the most losses, most first; ties by address."""
        ranked = sorted(self._sites.values(), key=lambda s: (-s.losses, s.pc, s.entry))
        return tuple(ranked[: self._sites_kept])


def is_worth_telling(losses: int, attempts: int) -> bool:
    """Say whether so many of a run's attempts have lost that its author should know."""
    return losses >= max(CONTENTION_LOSSES_TOLD, CONTENTION_SHARE_TOLD * attempts)


def lowest_newer(conflicts: ConflictSet, ranges: NDArray[Any], since: int) -> int:
    """Return the lowest byte of `ranges` (RANGE, sorted) that was stored after epoch `since`.

    There must be one. O(log b) questions for b bytes.
    """
    newer = np.flatnonzero(conflicts.newest(ranges) > since)
    assert len(newer), "nobody stored there"
    start, length = int(ranges["start"][newer[0]]), int(ranges["length"][newer[0]])
    while length > 1:
        lower_half = np.array([(start, length // 2)], dtype=RANGE)
        if int(conflicts.newest(lower_half)[0]) > since:
            length //= 2
        else:
            start, length = start + length // 2, length - length // 2
    return start
