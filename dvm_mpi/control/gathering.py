"""Messages for the coordinator that came together, as few as may be: of some kinds they are joined.

What is gathered is taken in one go, by a leader that sends it on, or by the coordinator that
decides about it. Nothing waits here, and nothing is dropped.
Invariant: messages of one source stay in their order. What is joined may come before messages that
other sources said sooner, as if it had been sooner under way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from dvm_mpi.config import JOINED_RECORDS_MAX
from dvm_mpi.control.joining import join, join_applied, join_ready
from dvm_mpi.control.messages import CoordinatorEvent, Finished, WorkerReady, WorkersReady
from dvm_mpi.dsm.messages import EpochApplied, EpochsApplied

#: Kinds whose messages are joined, each with those of its own kind: by type.
_RECORDS, _APPLIED, _READY = range(3)
_KINDS: Final[dict[type[Any], int]] = {
    Finished: _RECORDS,
    EpochApplied: _APPLIED,
    EpochsApplied: _APPLIED,
    WorkerReady: _READY,
    WorkersReady: _READY,
}
#: How those of each kind become one.
_JOINS: Final[tuple[Callable[[list[Any]], CoordinatorEvent], ...]] = (
    join,
    join_applied,
    join_ready,
)


class Gathering:
    """Messages of several sources, until they are taken."""

    def __init__(self) -> None:
        #: What will be taken: a message, or those that will be joined.
        self._slots: list[CoordinatorEvent | list[Any]] = []
        #: Of each kind the slot that takes more, if there is one; and how many records are in it.
        self._open: dict[int, int] = {}
        self._open_records = 0
        #: The slot of the latest message of each source.
        self._latest: dict[int, int] = {}

    def __len__(self) -> int:
        """Return how many messages will be taken."""
        return len(self._slots)

    def add(self, source: int, message: CoordinatorEvent) -> None:
        """Take a message of a source, which may be of several ranks if that is a leader."""
        kind = _KINDS.get(type(message))
        if kind is not None:
            self._latest[source] = self._join(source, message, kind)
        else:
            self._latest[source] = len(self._slots)
            self._slots.append(message)

    def _join(self, source: int, message: CoordinatorEvent, kind: int) -> int:
        """Put a message to others of its kind; return the slot.

        Not before what its source has said since those.
        """
        count = len(message.records) if isinstance(message, Finished) else 0
        slot = self._open.get(kind, -1)
        has_room = self._open_records + count <= JOINED_RECORDS_MAX or not count
        if slot < 0 or not has_room or self._latest.get(source, -1) > slot:
            slot = self._open[kind] = len(self._slots)
            self._slots.append([])
            if kind == _RECORDS:
                self._open_records = 0
        parts = self._slots[slot]
        assert isinstance(parts, list)
        parts.append(message)
        self._open_records += count
        return slot

    def take(self) -> list[CoordinatorEvent]:
        """Return what has come since the last time, in order, and forget it."""
        slots, self._slots = self._slots, []
        self._open_records = 0
        self._open.clear()
        self._latest.clear()
        return [_joined(slot) if isinstance(slot, list) else slot for slot in slots]


def _joined(parts: list[Any]) -> CoordinatorEvent:
    first: CoordinatorEvent = parts[0]
    if len(parts) == 1:
        return first
    return _JOINS[_KINDS[type(first)]](parts)
