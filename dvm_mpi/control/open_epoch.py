"""The epoch that takes commits: when it closes, and who is told of it.

A home is told what it has to apply; a leader of several homes that the epoch touches is told once,
and divides it. Which records an epoch takes is decided elsewhere (`ordering`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import (
    ENDS_AWAITED_US_MAX,
    EPOCH_RECORDS_MAX,
    EPOCH_US_MAX,
    EPOCHS_IN_FLIGHT,
)
from dvm_mpi.control.coordinator_state import Action, CoordinatorState, ToAll, ToHome, ToLeader
from dvm_mpi.control.expected_ends import ExpectedEnds
from dvm_mpi.control.short_waits import ShortWaits
from dvm_mpi.dsm.messages import ApplyRequested, PinsMoved


class OpenEpoch:
    """Closes the open epoch of a coordinator."""

    def __init__(
        self, state: CoordinatorState, short_waits: ShortWaits, ends: ExpectedEnds | None
    ) -> None:
        self._state = state
        self._short_waits = short_waits
        #: None: nobody is awaited for being about to end.
        self._ends = ends
        #: When its first record came, and when it was asked last whether it is due.
        self.since_us = self._now_us = 0

    @property
    def closes_at_us(self) -> int | None:
        """When it closes, whatever happens until then; None while it is empty."""
        if self._state.log.open_records == 0:
            return None
        if self._is_held:
            return self._short_waits.until_us
        ends_us = self._ends_us(self._now_us)
        return self.since_us + EPOCH_US_MAX if ends_us is None else ends_us

    @property
    def _is_held(self) -> bool:
        """Whether it waits for short runners that are under way.

        Who has nothing to do would get what follows from these records, and the others what follows
        from theirs, an epoch each.
        """
        return self._state.failure is None and self._short_waits.holds_epoch

    def _ends_us(self, now_us: int) -> int | None:
        """Return until when it waits for the last few that are about to end; None: it does not.

        Not if runners are born of it: who has nothing to do may begin with these. A watcher that is
        born is nothing to begin with: it waits itself, perhaps for the very ones that are about to
        end.
        """
        if self._ends is None or self._state.failure is not None:
            return None
        opened = self._state.pending.get(self._state.log.open_epoch)
        births = () if opened is None else opened.births
        if any((born.children["watched_count"] == 0).any() for born in births):
            return None
        until_us = self._ends.until_us(now_us)
        latest_us = self.since_us + ENDS_AWAITED_US_MAX
        return None if until_us is None or now_us >= latest_us else min(until_us, latest_us)

    def is_due(self, now_us: int) -> bool:
        """Return whether it is full or old, or somebody has nothing else to do."""
        state, log = self._state, self._state.log
        self._now_us = now_us
        if log.open_records == 0:
            return False
        if log.open_records >= EPOCH_RECORDS_MAX or state.running_count == 0:
            return True
        if self._is_held or self._ends_us(now_us) is not None:
            return False
        if now_us - self.since_us >= EPOCH_US_MAX:
            return True
        is_idle = (state.running <= state.asleep)[state.available]
        idle = state.failure is not None or bool(is_idle.any())
        return idle and log.epochs_in_flight < EPOCHS_IN_FLIGHT

    def close(self) -> list[Action]:
        """Close it, and return what tells the homes that it touches."""
        state, log = self._state, self._state.log
        pins = state.pins.epochs
        requests = log.close(pins)
        oldest = int(pins[0]) if len(pins) else log.visible
        state.forget(min(oldest, log.visible))
        actions: list[Action] = [
            ToHome(receiver, request)
            if isinstance(request, ApplyRequested)
            else ToLeader(receiver, request)
            for receiver, request in requests
        ]
        return actions + self._move(pins)

    def _move(self, pins: NDArray[np.int64]) -> list[Action]:
        """Let blocks move in an epoch of their own, if some are to."""
        state, log = self._state, self._state.log
        # Of a lost worker nobody knows what it still asks for.
        if state.migration is None or state.lost.any():
            return []
        oldest = int(pins[0]) if len(pins) else log.visible
        closed = np.array(sorted(state.lacking), np.int64)
        blocks, homes = state.migration.decide(log.visible, oldest, closed)
        if len(blocks) == 0:
            return []
        state.counters.blocks_moved += len(blocks)
        return [ToAll(log.move(blocks, homes, pins))]


def tell_lacking(state: CoordinatorState) -> list[Action]:
    """Tell homes that wait for free frames what has changed about the snapshots in use."""
    if not state.lacking:
        return []
    pins = state.pins.epochs
    now = (state.log.visible, *pins.tolist())
    uninformed = sorted(home for home, told in state.lacking.items() if told != now)
    state.lacking.update(dict.fromkeys(uninformed, now))
    return [ToHome(home, PinsMoved(state.log.visible, pins)) for home in uninformed]
