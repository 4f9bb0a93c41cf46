"""Where the pages lie that epochs have just changed: told by their homes, passed on with batches.

Whoever is woken by an epoch, or born of it, most often needs what was stored in it: a few pages
that no rank has as they are now. Their homes say with their answer in which frames these are, so
that a batch can bring that along, and its worker need not ask.

A page is located for a batch only if nobody has stored to it between the epoch that is known here
and the snapshot: then the snapshot's pin keeps its frame.
Invariant: of a page that moves to another home nothing is known from before.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import LOCATED_PAGES_MAX, LOCATED_PAGES_TOLD
from dvm_mpi.control.coordinator_state import Action, ToAll, ToWorker
from dvm_mpi.control.messages import Dispatched
from dvm_mpi.dsm.messages import LOCATED, NO_LOCATED
from dvm_mpi.dsm.rows import words_of
from dvm_mpi.layout import PAGE_SHIFT
from dvm_mpi.values import replace

#: Of a batch with more ranges nothing is located: it is long, and a question takes less of it.
_GRANTS_MAX: Final = 64
_BYTES_MAX: Final = LOCATED_PAGES_TOLD << PAGE_SHIFT


class Locations:
    """Frames of the pages that were changed last, at most LOCATED_PAGES_MAX."""

    def __init__(self) -> None:
        #: By page the rest of a LOCATED row: home, frame, version; noted last comes last.
        self._places: dict[int, tuple[int, int, int]] = {}
        #: The last epoch in which blocks moved.
        self._moved = 0

    def note(self, located: NDArray[Any]) -> None:
        """Take what homes tell of an epoch that they have applied."""
        for page, home, frame, version in words_of(located).tolist():
            if version > self._moved:
                self._places.pop(page, None)
                self._places[page] = home, frame, version
        while len(self._places) > LOCATED_PAGES_MAX:
            del self._places[next(iter(self._places))]

    def with_places(self, actions: list[Action]) -> list[Action]:
        """Return the actions with what is known for the batches among them."""
        for action in actions:
            if isinstance(action, ToAll):
                self._moved = action.message.epoch
                self._places.clear()
        return [self._with_places(action) for action in actions] if self._places else actions

    def _with_places(self, action: Action) -> Action:
        if not isinstance(action, ToWorker) or not isinstance(action.message, Dispatched):
            return action
        message = action.message
        located = self.located(message.grants, message.snapshot)
        if len(located) == 0:
            return action
        return ToWorker(action.worker, replace(message, located=located))

    def located(self, grants: NDArray[Any], snapshot: int) -> NDArray[Any]:
        """Return LOCATED rows of pages that the small ones of these ranges touch, ascending.

        `grants`: GRANT rows, of which `newest` is that of all pages that a range touches.
        """
        if len(grants) > _GRANTS_MAX:
            return NO_LOCATED
        places, found = self._places, dict[int, tuple[int, int, int]]()
        for start, length, newest in words_of(grants).tolist():
            if 0 < length <= _BYTES_MAX:
                for page in range(start >> PAGE_SHIFT, (start + length - 1 >> PAGE_SHIFT) + 1):
                    place = places.get(page)
                    if place is not None and newest <= place[2] <= snapshot:
                        found[page] = place
        if not found:
            return NO_LOCATED
        rows = np.array([(page, *found[page]) for page in sorted(found)], np.int64)
        return rows.view(LOCATED).reshape(-1)
