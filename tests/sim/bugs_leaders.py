"""Planted faults of leaders: what they join, and what they say for others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dvm_mpi.control.gathering import Gathering
from dvm_mpi.control.joining import SEVERAL, batches_of
from dvm_mpi.control.leader import Leader
from dvm_mpi.control.messages import BatchesDealt, CoordinatorEvent, Finished, Relayed
from dvm_mpi.control.wire import decode, encode
from dvm_mpi.dsm.commit import for_homes
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.messages import AppliesRequested, ApplyRequested, EpochApplied


class _CarelessGathering(Gathering):
    def take(self) -> list[CoordinatorEvent]:
        return [_mixed_up(m) if isinstance(m, Finished) else m for m in super().take()]


def _mixed_up(finished: Finished) -> Finished:
    """Return records that all point to the first bytes of their message."""
    if finished.worker != SEVERAL:
        return finished
    runs = finished.runs.copy()
    runs["data_first"][runs["data_first"] >= 0] = 0
    return replace(finished, runs=runs)


class BytesMixedUp(Leader):
    """Records are joined, but do not say where their bytes are now."""

    def __init__(self, geometry: Geometry) -> None:
        super().__init__(geometry)
        self._gathering = _CarelessGathering()


class AnswersForHomes(Leader):
    """A leader says that its homes have applied an epoch as soon as it hands it on to them."""

    def __init__(self, geometry: Geometry) -> None:
        super().__init__(geometry)
        self._answered: set[tuple[int, int]] = set()

    def take(self, source: int, message: Any) -> None:
        if isinstance(message, EpochApplied) and (message.home, message.epoch) in self._answered:
            return
        super().take(source, message)
        for home, request in self._handed_on(message):
            self._answered.add((home, request.epoch))
            super().take(home, EpochApplied(home, request.epoch, 0))

    def _handed_on(self, message: Any) -> list[tuple[int, ApplyRequested]]:
        """Return what homes will apply because of a message."""
        if isinstance(message, AppliesRequested):
            return for_homes(self.geometry, message)
        request = decode(message.content) if isinstance(message, Relayed) else None
        return [(message.rank, request)] if isinstance(request, ApplyRequested) else []


class GrantsMixedUp(Leader):
    """Of the batches that come in one message each is given the ranges of the first ones."""

    def take(self, source: int, message: Any) -> None:
        if not isinstance(message, BatchesDealt):
            super().take(source, message)
            return
        for worker, batch in batches_of(message):
            grants = message.grants[: len(batch.grants)]
            super().take(source, Relayed(worker, encode(replace(batch, grants=grants))))
