"""For which runners it pays to fetch what they declare before they start.

An attempt that aborts has most often looked at a flag and found that it came too early, as a
watcher on several commits does: the rest of what it declares would travel for nothing. Where most
attempts of an entry point abort, pages are fetched where they are touched.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.dsm.ranges import expand

Ints = NDArray[np.int64]

#: Weight of the newest observation in the running share of attempts that abort.
_SMOOTHING: Final = 0.3
#: From this share on nothing is fetched early.
_SHARE_MAX: Final = 0.5


class Eagerness:
    """One worker's experience; it has no more entries than the program has entry points."""

    def __init__(self) -> None:
        #: Share of attempts that aborted, by entry point; those that never did are left out.
        self._aborting: dict[int, float] = {}

    def observe(self, entries: Ints, aborted: NDArray[np.bool_]) -> None:
        """Take attempts that ended: where they began, and whether they aborted."""
        if not self._aborting and not aborted.any():
            return
        distinct, rows = np.unique(entries, return_inverse=True)
        counts = np.bincount(rows)
        shares = np.bincount(rows, weights=aborted) / counts
        for entry, count, share in zip(
            distinct.tolist(), counts.tolist(), shares.tolist(), strict=True
        ):
            known = self._aborting.get(entry, 0.0)
            if known or share:
                weight = 1.0 - (1.0 - _SMOOTHING) ** count
                self._aborting[entry] = known + weight * (share - known)

    def grants(self, attempts: NDArray[Any], grants: NDArray[Any]) -> NDArray[Any]:
        """Return the grants of a batch that are worth fetching before it starts."""
        late = [entry for entry, share in self._aborting.items() if share > _SHARE_MAX]
        is_late = np.isin(attempts["entry"], late) if late else np.zeros(0, bool)
        if not is_late.any():
            return grants
        kept = attempts[~is_late]
        return grants[expand(kept["grant_first"], kept["grant_count"])]
