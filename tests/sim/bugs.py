"""Faults planted in the real objects, each one a rule of the commit protocol left out.

Every one of them runs without an error most of the time. They show that the replay would notice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.control.coordinator_state import Action
from dvm_mpi.control.ordering import Ordering
from dvm_mpi.control.scheduler import Scheduler
from dvm_mpi.dsm.conflict import ConflictSet
from dvm_mpi.dsm.directory import Directory
from dvm_mpi.dsm.home import Addressed, Home
from dvm_mpi.dsm.messages import ApplyRequested

Ints = NDArray[np.int64]


# --- a child starts before its parent's epoch is visible ----------------------------------------
class EarlyChildren(Scheduler):
    """Runners are born when their parent's epoch is closed, not when it is visible."""

    def _close(self) -> list[Action]:
        actions = super()._close()
        for pending in self.state.pending.values() if actions else ():
            for births in pending.births:
                if not births.children["template"].any():
                    self._publishing._bear(births)
            pending.births = [b for b in pending.births if b.children["template"].any()]
        return actions


# --- a watcher is armed at its creator's commit -------------------------------------------------
class _LateArming(Ordering):
    def _stored_before_registration(self, batch: Any) -> NDArray[np.bool_]:
        return np.zeros(len(batch.finished.children), dtype=bool)


class LateArming(Scheduler):
    """Stores between the creator's snapshot and its commit wake nobody."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._ordering = _LateArming(self.state)


# --- page images are installed ------------------------------------------------------------------
class PageImages(Home):
    """A store brings its whole page along, as its runner's snapshot may have had it."""

    _seen = 0

    def _take_epoch(self, event: ApplyRequested) -> tuple[Addressed, ...]:
        self._seen = event.visible
        return super()._take_epoch(event)

    def _base_frames(self, pages: Ints) -> Ints:
        return self.directory.lookup(pages, self._seen)[0]


# --- nobody looks for conflicts -----------------------------------------------------------------
class _BlindConflictSet(ConflictSet):
    def resolve(
        self,
        snapshots: Ints,
        offsets: Ints,
        runs: NDArray[Any],
        enter: NDArray[np.bool_],
        epoch: int,
    ) -> Ints:
        return super().resolve(np.full_like(snapshots, epoch), offsets, runs, enter, epoch)


class NoConflicts(Scheduler):
    """Whoever stores what another stored after its snapshot wins as well."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.state.conflicts = _BlindConflictSet()


# --- frames are freed under a pin ---------------------------------------------------------------
class _CarelessDirectory(Directory):
    def _is_garbage(self, epochs: Ints, superseded: Ints, pins: Ints) -> NDArray[np.bool_]:
        return np.ones(len(epochs), dtype=bool)


class FreedUnderPins(Home):
    """What was superseded is freed as soon as that is visible, whoever may still read it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.directory = _CarelessDirectory(self.pool.frame_count)


@dataclass(frozen=True, slots=True)
class Bug:
    """A fault, the program that shows it, and how soon that must be noticed."""

    parts: Mapping[str, type]
    program: str
    #: Some line that the replay writes about it contains this.
    told: str
    seeds_max: int


BUGS: Final = {
    "early child": Bug({"make_scheduler": EarlyChildren}, "chains", "before its parent's", 3),
    "armed at commit": Bug({"make_scheduler": LateArming}, "watchers", "slept through", 10),
    "page image": Bug({"make_home": PageImages}, "neighbours", "holds", 10),
    "no write-write check": Bug({"make_scheduler": NoConflicts}, "counters", "after its snap", 3),
    "freed under a pin": Bug({"make_home": FreedUnderPins}, "counters", "was", 10),
}
