"""What follows from an epoch, decided while its homes apply it.

Where nobody runs and nothing waits, rank 0 would do nothing until the homes have answered, and all
others nothing until it has decided then. So it decides at once, as if the epoch were visible, and
keeps what it would send. What is decided is the same: nothing that may come meanwhile changes it,
but what is said of workers that are lost or withheld, and that is heard afterwards.
Invariant: nothing that is kept here leaves before its epoch is visible.
"""

from __future__ import annotations

from typing import Any

from dvm_mpi.control.coordinator_state import Action, CoordinatorState


class Foresight:
    """What is kept until `state.foreseen` is visible."""

    def __init__(self, state: CoordinatorState) -> None:
        self._state = state
        self._actions: list[Action] = []
        #: Events of that time that are to be handled when it is over.
        self._said: list[Any] = []

    @property
    def is_possible(self) -> bool:
        """Whether all that is to come is one epoch becoming visible: nobody runs, nothing waits.

        Nor is any snapshot in use: the epoch is applied without anything being said of workers that
        are lost, so that this may wait for it.
        """
        state = self._state
        log = state.log
        if log.epochs_in_flight != 1 or log.open_records or state.foreseen:
            return False
        waits = state.startable_count or len(state.solo) or state.held or state.failure is not None
        return not waits and state.alone < 0 and state.running_count == len(state.pins) == 0

    def begin(self) -> int:
        """Take the epoch in flight for visible from now on; return it."""
        assert self.is_possible
        self._state.foreseen = self._state.log.visible + 1
        return self._state.foreseen

    def keep(self, actions: list[Action]) -> None:
        """Keep what is to be sent when that epoch is visible."""
        self._actions = actions

    def hear_later(self, event: Any) -> bool:
        """Keep what is said of a worker if it would be sent something first; say whether it is."""
        if self._state.foreseen:
            self._said.append(event)
        return self._state.foreseen > 0

    def end(self) -> tuple[list[Action], list[Any]]:
        """Return, now that the epoch is visible, what is to be sent, and then what was said."""
        kept, self._actions = (self._actions, self._said), []
        self._said, self._state.foreseen = [], 0
        return kept
