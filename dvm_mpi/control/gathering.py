"""Messages for the coordinator that came together, as few as may be: records are joined.

What is gathered is taken in one go, by a leader that sends it on, or by the coordinator that
decides about it. Nothing waits here, and nothing is dropped.
Invariant: messages of one source stay in their order. One source's records may come before another
source's messages that were said sooner, as if they had been sooner under way.
"""

from __future__ import annotations

from dvm_mpi.config import JOINED_RECORDS_MAX
from dvm_mpi.control.joining import join
from dvm_mpi.control.messages import CoordinatorEvent, Finished


class Gathering:
    """Messages of several sources, until they are taken."""

    def __init__(self) -> None:
        #: What will be taken: a message, or those whose records will be joined.
        self._slots: list[CoordinatorEvent | list[Finished]] = []
        #: The slot that takes records, -1 if there is none; and how many records are in it.
        self._open_slot = -1
        self._open_records = 0
        #: The slot of the latest message of each source.
        self._latest: dict[int, int] = {}

    def __len__(self) -> int:
        """Return how many messages will be taken."""
        return len(self._slots)

    def add(self, source: int, message: CoordinatorEvent) -> None:
        """Take a message of a source, which may be of several workers if that is a leader."""
        if isinstance(message, Finished):
            self._latest[source] = self._join(source, message)
        else:
            self._latest[source] = len(self._slots)
            self._slots.append(message)

    def _join(self, source: int, finished: Finished) -> int:
        """Put records to others, unless their source has said something since; return the slot."""
        count = len(finished.records)
        slot = self._open_slot
        has_room = self._open_records + count <= JOINED_RECORDS_MAX
        if slot < 0 or not has_room or self._latest.get(source, -1) > slot:
            slot = self._open_slot = len(self._slots)
            self._slots.append([])
            self._open_records = 0
        parts = self._slots[slot]
        assert isinstance(parts, list)
        parts.append(finished)
        self._open_records += count
        return slot

    def take(self) -> list[CoordinatorEvent]:
        """Return what has come since the last time, in order, and forget it."""
        slots, self._slots = self._slots, []
        self._open_slot, self._open_records = -1, 0
        self._latest.clear()
        return [_joined(slot) if isinstance(slot, list) else slot for slot in slots]


def _joined(parts: list[Finished]) -> Finished:
    return parts[0] if len(parts) == 1 else join(parts)
