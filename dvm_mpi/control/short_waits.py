"""Whether the short runners that are under way are awaited, so that what follows goes together.

Each dispatch, each record and each epoch takes rank 0 about as long as it executes a million
instructions in. So where all that runs takes a moment only, nothing is begun beside it: few runners
that may start wait for it (`dealing`), and so does the epoch (`open_epoch`). Once apart they would
stay apart, level after level of a tree. How long they are is a guess: if for GATHER_US none of them
has ended, nobody is awaited any more until all have.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from dvm_mpi.config import GATHER_US, RUNNER_FUEL
from dvm_mpi.control.coordinator_state import CoordinatorState

#: Runners are awaited that make fewer than so many shares: together one batch, at most.
SHARES_AWAITED_MAX: Final = 4


class ShortWaits:
    """What the scheduler's parts know of it in common.

    Parameters
    ----------
    share_fuel_min
        What runners take at least to be divided, in instructions; 0: nobody is awaited.
    """

    #: Whether somebody who was taken for short runs long.
    in_vain: bool
    #: Until when others are awaited, unless some more end until then.
    until_us: int

    def __init__(self, state: CoordinatorState, share_fuel_min: int) -> None:
        self._state = state
        self._fuel_max = SHARES_AWAITED_MAX * share_fuel_min
        self.in_vain = False
        self.until_us = self._now_us = 0
        self._has_heard = False

    @property
    def _awake_count(self) -> int:
        state = self._state
        # Some of those that sleep may have been given up on.
        return max(int(np.add.reduce(state.running - state.asleep)), 0)

    @property
    def are_short(self) -> bool:
        """Whether all who run will have ended in a moment, as far as that is known."""
        if self._fuel_max == 0 or self.in_vain:
            return False
        return self._awake_count * (self._state.lengths.all.mean + RUNNER_FUEL) < self._fuel_max

    @property
    def holds_epoch(self) -> bool:
        """Whether somebody runs, and what ends in a moment had best be in the same epoch.

        Not where so many runners are born of it that they are enough for all.
        """
        if not self.are_short or self._awake_count == 0:
            return False
        opened = self._state.pending.get(self._state.log.open_epoch)
        births = () if opened is None else opened.births
        return sum(len(born.children) for born in births) * RUNNER_FUEL < self._fuel_max

    @property
    def is_settled(self) -> bool:
        """Whether nothing is under way: nobody runs who is awake, and all epochs are visible.

        Or foreseen: what follows from that one starts as if it were.
        """
        state = self._state
        is_followed = state.log.open_epoch - 1 == state.snapshot
        return is_followed and self._awake_count == 0 and not state.log.open_records

    def heard(self) -> None:
        """Note that runners have ended, or what they committed is visible: it goes on."""
        self._has_heard = True
        self.until_us = self._now_us + GATHER_US

    def look(self, now_us: int) -> None:
        """Let time pass: await nobody any more if for so long nothing was heard of those awaited.

        What was heard is as old as this look: to take it up, and to send what follows, takes time.
        """
        self._now_us = now_us
        if self._has_heard:
            self._has_heard = False
            self.until_us = now_us + GATHER_US
        # Asked in every turn, and most often it is too early to ask, or has been asked.
        if not self.in_vain and now_us >= self.until_us:
            self.in_vain = self.are_short and not self.is_settled

    def begin_anew(self) -> None:
        """Await others again if all has ended; to be asked before runners start."""
        self.in_vain &= not self.is_settled
