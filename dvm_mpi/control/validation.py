"""What makes a record lose: which of its bytes count, and in what unit they are compared.

Under snapshot isolation the stored bytes count; under `serializable` those that the attempt loaded
from its snapshot count too, so a winner could have run at its commit point and seen the same. The
unit is the byte, or for comparison the page. Everything else that asks who stored last, such as
the arming of watchers, asks `CoordinatorState.conflicts`, which is always exact to the byte.

Invariant: loads are checked and never entered; nobody loses because another one looked.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.dsm.conflict import ConflictSet
from dvm_mpi.dsm.ranges import from_bounds, normalise, round_to_pages
from dvm_mpi.values import dataclass

Isolation = Literal["snapshot", "serializable"]
ConflictUnit = Literal["byte", "page"]


@dataclass(frozen=True, slots=True)
class Footprints:
    """What the attempts of a batch of records did to the shared region, in commit order.

    Record i stored `runs[offsets[i] : offsets[i + 1]]` and is answerable for having loaded
    `loads[load_offsets[i] : load_offsets[i + 1]]`; rows have `start` and `length`.
    """

    snapshots: NDArray[np.int64]
    offsets: NDArray[np.int64]
    runs: NDArray[Any]
    load_offsets: NDArray[np.int64]
    loads: NDArray[Any]

    def at_stake(self, record: int) -> NDArray[Any]:
        """Return the bytes through which a record can lose (RANGE, sorted, disjoint)."""
        stored = self.runs[self.offsets[record] : self.offsets[record + 1]]
        loaded = self.loads[self.load_offsets[record] : self.load_offsets[record + 1]]
        starts = np.concatenate([stored["start"], loaded["start"]])
        lengths = np.concatenate([stored["length"], loaded["length"]])
        return normalise(from_bounds(starts, starts + lengths))


class Validation:
    """Decides records in a unit.

    Parameters
    ----------
    unit
        Of conflicts.
    """

    def __init__(self, unit: ConflictUnit) -> None:
        #: Who stored last into each page; None if the unit is the byte.
        self._pages = ConflictSet() if unit == "page" else None

    def resolve(
        self,
        conflicts: ConflictSet,
        footprints: Footprints,
        enter: NDArray[np.bool_],
        epoch: int,
    ) -> NDArray[np.int64]:
        """Decide which records lose, and enter the others' stores into `conflicts`.

        Returns and raises as `ConflictSet.resolve`.
        """
        f = footprints
        if self._pages is None:
            if len(f.loads) == 0:
                return conflicts.resolve(f.snapshots, f.offsets, f.runs, enter, epoch)
            return conflicts.resolve_with_loads(
                f.snapshots, f.offsets, f.runs, enter, epoch, f.load_offsets, f.loads
            )
        runs, loads = round_to_pages(f.runs), round_to_pages(f.loads)
        against = self._pages.resolve_with_loads(
            f.snapshots, f.offsets, runs, enter, epoch, f.load_offsets, loads
        )
        # As of the open epoch nothing conflicts: only the winners' bytes are entered.
        present = np.full_like(f.snapshots, epoch)
        conflicts.resolve(present, f.offsets, f.runs, enter & (against == 0), epoch)
        return against

    def at_stake(self, footprints: Footprints, record: int) -> NDArray[Any]:
        """Return the bytes that others must leave alone for a record not to lose (RANGE)."""
        ranges = footprints.at_stake(record)
        return ranges if self._pages is None else normalise(round_to_pages(ranges))

    def forget(self, horizon: int) -> None:
        """Note that no snapshot older than `horizon` will be asked about."""
        if self._pages is not None:
            self._pages.forget(horizon)
