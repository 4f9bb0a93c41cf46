"""Planted faults: homes between which blocks of pages move, each with a rule left out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.dsm.handover import Handover, Part
from dvm_mpi.dsm.home import Addressed, Home
from dvm_mpi.dsm.messages import BlocksMoved, PagesHanded


class DroppedWhenHanded(Home):
    """What has left is freed at once, though older snapshots look for it here."""

    def _hand_over(self) -> list[Addressed]:
        actions = super()._hand_over()
        if actions:
            left = self.directory.collect(self._handed, np.zeros(0, np.int64))
            self.pool.free(left)
        return actions


class _Impatient(Handover):
    """Does not wait for pages."""

    def lacks(self, event: BlocksMoved) -> list[int]:
        return []

    def page_count(self, event: BlocksMoved) -> int:
        return 0

    def adopt(self, event: BlocksMoved) -> list[PagesHanded]:
        return [
            self._pages.pop((event.epoch, home))
            for home in self._sources(event)
            if (event.epoch, home) in self._pages
        ]


class AnsweredBeforePagesCame(Home):
    """A new home says that it has pages before they have come, and enters none that come late."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._handover = _Impatient(self.index, self.geometry)


class _Forgetful(Handover):
    """Takes stores that others have passed on for lost."""

    def has_stores(self, tokens: NDArray[Any], runs: NDArray[Any]) -> bool:
        return True

    def stores(self, key: tuple[int, int]) -> list[Part]:
        return self._passed.pop(key, [])


class StoresLeftBehind(Home):
    """Stores that were staged at the old home of their pages stay there."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._handover = _Forgetful(self.index, self.geometry)

    def _pass_on(self) -> tuple[Addressed, ...]:
        super()._pass_on()
        return ()
