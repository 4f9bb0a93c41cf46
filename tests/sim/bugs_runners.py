"""Planted faults of births and wakings: who starts too early, twice, or never."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.control.coordinator_state import Action, PendingEpoch
from dvm_mpi.control.lifecycle import Kind, State
from dvm_mpi.control.locations import Locations
from dvm_mpi.control.messages import BatchesDealt
from dvm_mpi.control.ordering import Ordering
from dvm_mpi.control.publishing import Publishing
from dvm_mpi.control.scheduler import Scheduler, SchedulerEvent
from dvm_mpi.control.sending import Sending
from dvm_mpi.engine.interface import RUN

Ints = NDArray[np.int64]


class FaultySending(Scheduler):
    """A coordinator whose sending is another one."""

    made_of: type[Sending]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        usual = self._sending
        self._sending = self.made_of(self.state, usual.policy, usual.rounds, usual.receivers)


class _FaultyPublishing(Scheduler):
    """A coordinator whose publishing is another one."""

    made_of: type[Publishing]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._publishing = self.made_of(self.state)


# --- births -------------------------------------------------------------------------------------
class EarlyChildren(Scheduler):
    """Runners are born and sent when their parent's epoch is closed, not when it is visible."""

    def _close(self) -> list[Action]:
        actions = super()._close()
        if not actions:
            return actions
        for pending in self.state.pending.values():
            for births in pending.births:
                if not births.children["template"].any():
                    self._publishing._bear([births])
            pending.births = [b for b in pending.births if b.children["template"].any()]
        return [*actions, *(self._dispatch() if self.state.failure is None else ())]


class SentAhead(Scheduler):
    """What follows from an epoch leaves as soon as it is decided, though homes still apply it."""

    def handle(self, event: SchedulerEvent) -> tuple[Action, ...]:
        actions, foresight = super().handle(event), self._foresight
        ahead, foresight._actions = foresight._actions, []
        return (*actions, *ahead)


class _Untold(Locations):
    """Hears of each page once, as if all later epochs that store to it changed many pages."""

    def note(self, located: NDArray[Any]) -> None:
        super().note(located[[page not in self._places for page in located["page"].tolist()]])

    def located(self, grants: NDArray[Any], snapshot: int) -> NDArray[Any]:
        unchanged = grants.copy()
        unchanged["newest"] = 0
        return super().located(unchanged, snapshot)


class LocatedAsBefore(Scheduler):
    """Batches are told where pages lay, though they have been stored to since."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._locations = _Untold()


class _Behind(Sending):
    def _lay_out(self, *arguments: Any) -> BatchesDealt:
        log = self._state.log
        visible = log.visible
        log.visible = max(visible - 1, self._state.conflicts._horizon)
        try:
            return super()._lay_out(*arguments)
        finally:
            log.visible = visible


class EarlySnapshots(FaultySending):
    """Runners are sent out on the epoch before the newest visible one, where that is known."""

    made_of = _Behind


class _Forgetful(Sending):
    def _describe_images(
        self, rows: Ints, attempts: NDArray[Any], counts: Ints
    ) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        table = self._state.table.rows
        image_counts = table["image_count"][rows]
        table["image_count"][rows] = np.where(table["losses"][rows] > 0, 0, image_counts)
        try:
            return super()._describe_images(rows, attempts, counts)
        finally:
            table["image_count"][rows] = image_counts


class EmptyStacks(FaultySending):
    """A runner that lost does not get the stack again that its creator left."""

    made_of = _Forgetful


# --- arming and waking --------------------------------------------------------------------------
class _LateOrdering(Ordering):
    def _stored_before_registration(self, batch: Any) -> NDArray[np.bool_]:
        return np.zeros(len(batch.finished.children), dtype=bool)


class LateArming(Scheduler):
    """Stores between the creator's snapshot and its commit wake nobody."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._ordering = _LateOrdering(self.state)


class EarlyWaking(Scheduler):
    """Watchers wake when an epoch is closed, not when it is visible."""

    def _close(self) -> list[Action]:
        actions = super()._close()
        for pending in self.state.pending.values() if actions else ():
            self._publishing._wake(pending, {})
            pending.writers, pending.run_counts = [], []
            pending.runs = [np.empty(0, RUN)]
        return actions


class _ForgetfulPublishing(Publishing):
    def _wake(self, pending: PendingEpoch, authors: dict[int, int]) -> list[Action]:
        """Wake by the first commit of the epoch only."""
        if not pending.writers:
            return []
        writers, counts = np.concatenate(pending.writers), np.concatenate(pending.run_counts)
        runs = np.concatenate(pending.runs)[: counts[0]]
        first = PendingEpoch(writers=[writers[:1]], run_counts=[counts[:1]], runs=[runs])
        return super()._wake(first, authors)


class LostTriggers(_FaultyPublishing):
    """Of several commits in one epoch only the first wakes watchers."""

    made_of = _ForgetfulPublishing


class _MergingPublishing(Publishing):
    def _queue_instances(self, templates: Ints) -> None:
        table = self._state.table.rows
        running = (table["kind"] == Kind.INSTANCE) & (table["state"] == State.RUNNING)
        super()._queue_instances(templates[~np.isin(templates, table["template"][running])])


class MergedIntoRunning(_FaultyPublishing):
    """A commit queues no instance while one runs, though that one does not see the commit."""

    made_of = _MergingPublishing


class _GenerousPublishing(Publishing):
    def _queue_instances(self, templates: Ints) -> None:
        for template in templates.tolist():
            self._state.table.rows["queued_instance"][template] = -1
            super()._queue_instances(np.array([template]))


class DoubleInstances(_FaultyPublishing):
    """Every commit queues an instance, also where one is queued already."""

    made_of = _GenerousPublishing


class _SelfWakingPublishing(Publishing):
    def _wake(self, pending: PendingEpoch, authors: dict[int, int]) -> list[Action]:
        return super()._wake(pending, {})


class OwnCommitWakes(_FaultyPublishing):
    """The commit that creates a watcher wakes it."""

    made_of = _SelfWakingPublishing


class _SelflessPublishing(Publishing):
    def _wake(self, pending: PendingEpoch, authors: dict[int, int]) -> list[Action]:
        """Leave out what instances of watchers have stored."""
        rows = self._state.table.rows
        instances = rows["attempt"][rows["kind"] == Kind.INSTANCE]
        if not pending.writers:
            return []
        foreign = ~np.isin(np.concatenate(pending.writers), instances)
        counts = np.concatenate(pending.run_counts)
        others = PendingEpoch(
            writers=[np.concatenate(pending.writers)[foreign]],
            run_counts=[counts[foreign]],
            runs=[np.concatenate(pending.runs)[np.repeat(foreign, counts)]],
        )
        return super()._wake(others, authors)


class InstancesWakeNobody(_FaultyPublishing):
    """What an instance of a watcher commits wakes no watcher."""

    made_of = _SelflessPublishing


# --- deletion -----------------------------------------------------------------------------------
class _KeepingPublishing(Publishing):
    def _delete(self, templates: list[int]) -> None:
        del templates


class DeletionForgotten(_FaultyPublishing):
    """`exit:cd` deletes nothing."""

    made_of = _KeepingPublishing


class _LenientPublishing(Publishing):
    def _delete(self, templates: list[int]) -> None:
        """Delete templates, and let queued instances go on."""
        table = self._state.table
        table.rows["queued_instance"][templates] = -1
        super()._delete(templates)


class CancelForgotten(_FaultyPublishing):
    """An instance that is queued when its template is deleted runs all the same."""

    made_of = _LenientPublishing
