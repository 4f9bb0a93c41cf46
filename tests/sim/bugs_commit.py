"""Planted faults of the commit: who wins, what a loser leaves, when an epoch is visible."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.control import record_loops
from dvm_mpi.control.coordinator_state import Action, CoordinatorState, Print, ToWorker
from dvm_mpi.control.lifecycle import State
from dvm_mpi.control.messages import BatchReturned
from dvm_mpi.control.ordering import Ordering
from dvm_mpi.control.publishing import Publishing
from dvm_mpi.control.recalling import Recalling
from dvm_mpi.control.scheduler import Scheduler
from dvm_mpi.dsm.commit import CommitLog
from dvm_mpi.dsm.conflict import ConflictSet
from dvm_mpi.dsm.home import Home, StagedWriteSet
from dvm_mpi.dsm.messages import ApplyRequested
from dvm_mpi.dsm.ranges import expand, round_to_pages
from dvm_mpi.engine.interface import End

Ints = NDArray[np.int64]
Runs = NDArray[Any]
Flags = NDArray[np.bool_]


# --- conflicts ----------------------------------------------------------------------------------
class _BlindConflictSet(ConflictSet):
    def resolve(self, snapshots: Ints, offsets: Ints, runs: Runs, enter: Flags, epoch: int) -> Ints:
        return super().resolve(np.full_like(snapshots, epoch), offsets, runs, enter, epoch)


class NoConflicts(Scheduler):
    """Whoever stores what another stored after its snapshot wins as well."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.state.conflicts = _BlindConflictSet()


class _ShortConflictSet(ConflictSet):
    def resolve(self, snapshots: Ints, offsets: Ints, runs: Runs, enter: Flags, epoch: int) -> Ints:
        shorter = runs.copy()
        shorter["length"] -= 1
        return super().resolve(snapshots, offsets, shorter, enter, epoch)


class BytesBeyondEnds(Scheduler):
    """The last byte of every stored run counts for nothing."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.state.conflicts = _ShortConflictSet()


class _PageConflictSet(ConflictSet):
    def resolve(self, snapshots: Ints, offsets: Ints, runs: Runs, enter: Flags, epoch: int) -> Ints:
        return super().resolve(snapshots, offsets, round_to_pages(runs), enter, epoch)


class ConflictsOfPages(Scheduler):
    """Neighbours on one page conflict."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.state.conflicts = _PageConflictSet()


class _LenientConflictSet(ConflictSet):
    def resolve(self, snapshots: Ints, offsets: Ints, runs: Runs, enter: Flags, epoch: int) -> Ints:
        fresh = np.where(enter, snapshots, epoch)
        return super().resolve(fresh, offsets, runs, enter, epoch)


class TrapsOfLosers(Scheduler):
    """A trap ends the program even if the attempt would have lost."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.state.conflicts = _LenientConflictSet()


# --- who is late --------------------------------------------------------------------------------
class _OpenOrdering(Ordering):
    def _fence(self, finished: Any) -> tuple[Ints, Ints, int]:
        """Take the record of any attempt whose runner runs, here or elsewhere."""
        states = self._state.table.rows["state"][finished.outcomes["runner"]]
        runs = states == State.RUNNING
        return np.flatnonzero(runs), np.flatnonzero(~runs), super()._fence(finished)[2]


class NoFencing(Scheduler):
    """An attempt that was given up on may still commit."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._ordering = _OpenOrdering(self.state)


class _HastyRecalling(Recalling):
    def __init__(self, state: CoordinatorState, release: Callable[[Ints], list[Action]]) -> None:
        super().__init__(state, 0)
        self._release = release

    def ask(self) -> list[Action]:
        asked, actions = super().ask(), list[Action]()
        table = self._state.table.rows
        for action in asked:
            assert isinstance(action, ToWorker)
            worker = action.worker
            rows = np.flatnonzero((table["state"] == State.RUNNING) & (table["worker"] == worker))
            newest = rows[np.argsort(table["attempt"][rows])][-self._state.newest_batch[worker] :]
            returned = BatchReturned(worker, table["attempt"][newest], newest)
            actions += self.take(returned, self._release)
        return asked + actions


class NotAsked(Scheduler):
    """What is recalled runs elsewhere before its worker has said that it has not begun it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._recalling = _HastyRecalling(self.state, self._ordering.give_up)


class _ForgetfulRecalling(Recalling):
    def _start_again(self, rows: Ints) -> None:
        self._state.requeue(rows)


class RecalledBesideLater(Scheduler):
    """An instance that was recalled starts again although a later one sees the same."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._recalling = _ForgetfulRecalling(self.state, 0)


# --- losers -------------------------------------------------------------------------------------
class _TalkativeLosers(Ordering):
    def _lose(self, batch: Any, lost: Ints, against: Ints) -> list[Action]:
        outcomes = batch.finished.outcomes[lost]
        said = expand(outcomes["console_first"], outcomes["console_count"])
        printed: list[Action] = [Print(batch.finished.console[said])] if len(said) else []
        return printed + super()._lose(batch, lost, against)


class ConsoleOfLosers(Scheduler):
    """What a losing attempt printed appears."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._ordering = _TalkativeLosers(self.state)


class _QuietAborts(Ordering):
    def _win(self, batch: Any, won: Ints, wakes: Flags, epoch: int) -> list[Action]:
        outcomes = batch.finished.outcomes.copy()
        outcomes["run_count"][outcomes["end"] == End.ABORT] = 0
        batch = replace(batch, finished=replace(batch.finished, outcomes=outcomes))
        return super()._win(batch, won, wakes, epoch)


class StatusPagesLost(Scheduler):
    """An abort publishes not even its status page."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._ordering = _QuietAborts(self.state)


class _FertileLosers(Ordering):
    def _lose(self, batch: Any, lost: Ints, against: Ints) -> list[Action]:
        finished = batch.finished
        outcomes, numbers = finished.outcomes[lost], finished.records["attempt"][lost]
        wakes = np.zeros(len(finished.children), dtype=bool)
        sums = [0] * record_loops.SUMMED_COUNT
        sums[record_loops.CHILDREN] = int(outcomes["child_count"].sum())
        sums[record_loops.CHILDREN_OUT_OF_ORDER] = 1
        self._enter_children(finished, outcomes, numbers, wakes, sums, self._state.log.open_epoch)
        return super()._lose(batch, lost, against)

    def _discard(
        self, finished: Any, positions: Ints, workers: Ints, snapshots: Ints
    ) -> list[Action]:
        """Let the children of losers keep their stacks."""
        outcomes = finished.outcomes.copy()
        outcomes["child_count"][positions] = 0
        finished = replace(finished, outcomes=outcomes)
        return super()._discard(finished, positions, workers, snapshots)


class ChildrenOfLosers(Scheduler):
    """Runners that a losing attempt created come into being."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._ordering = _FertileLosers(self.state)


class _ImpatientPublishing(Publishing):
    def unblock(self, visible: int) -> None:
        super().unblock(visible + 2**40)


class EarlyRetries(Scheduler):
    """A loser runs again before what it lost to is visible."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._publishing = _ImpatientPublishing(self.state)


class _EqualOrdering(Ordering):
    def _lose(self, batch: Any, lost: Ints, against: Ints) -> list[Action]:
        actions = super()._lose(batch, lost, against)
        self._state.table.rows["losses"][batch.rows[lost]] = 0
        return actions


class NoPrecedence(Scheduler):
    """Losers are never given precedence."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._ordering = _EqualOrdering(self.state)


# --- epochs -------------------------------------------------------------------------------------
class _OvertakingLog(CommitLog):
    def applied(self, home: int, epoch: int) -> int:
        super().applied(home, epoch)
        if epoch not in self._waiting:
            self.visible = max(self.visible, epoch)
        return self.visible


class OvertakingEpochs(Scheduler):
    """An epoch that every home has applied is visible, whatever comes of those before it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.state.log = _OvertakingLog(arguments[0], arguments[3])


class _HastyLog(CommitLog):
    def applied(self, home: int, epoch: int) -> int:
        homes = self._waiting.get(epoch)
        if homes is None:
            return self.visible
        homes.intersection_update({home})
        homes.add(home)
        return super().applied(home, epoch)


class VisibleTooSoon(Scheduler):
    """An epoch is visible as soon as one home has applied it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.state.log = _HastyLog(arguments[0], arguments[3])


class AppliedBeforeAllArrived(Home):
    """An epoch does not wait for staged bytes: what is not here is not stored."""

    def _is_ready(self, event: ApplyRequested) -> bool:
        return True

    def _take_write_sets(self, event: ApplyRequested) -> list[tuple[Runs, NDArray[np.uint8]]]:
        for token in event.tokens[event.tokens["staged"] > 0]:
            key = int(token["worker"]), int(token["serial"])
            self._staged.setdefault(key, StagedWriteSet())
        return super()._take_write_sets(event)


# --- output and the end -------------------------------------------------------------------------
class _BackwardPublishing(Publishing):
    def publish(self, epoch: int) -> list[Action]:
        return super().publish(epoch)[::-1]


class ConsoleReversed(Scheduler):
    """Output of one epoch is printed last commit first."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._publishing = _BackwardPublishing(self.state)


class LeftInSleep(Scheduler):
    """The program ends although runners sleep."""

    def _finish(self) -> list[Action]:
        running = self.state.running
        self.state.running = running - self.state.asleep
        try:
            return super()._finish()
        finally:
            self.state.running = running
