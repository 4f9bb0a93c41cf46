"""An epoch has become visible: runners are born, watchers wake, output is printed.

Order within one epoch: the attempts that were ordered in it end; templates are deleted;
children and watchers are registered; stores wake watchers, in commit order; output is printed.
Invariant: nothing that an epoch caused starts before every home has applied the epoch.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.control import instance_loops
from dvm_mpi.control.coordinator_state import (
    Action,
    Births,
    CoordinatorState,
    PendingEpoch,
    Print,
    RecordWaking,
)
from dvm_mpi.control.lifecycle import Event, RunnersLimitError, State
from dvm_mpi.dsm.messages import EpochApplied, EpochsApplied
from dvm_mpi.dsm.ranges import distinct
from dvm_mpi.dsm.rows import joined

#: As a number: numpy asks members of enumerations that it compares with for attributes, for 5 us.
_ARMED: Final = int(State.ARMED)


class Publishing:
    """Carries out what waited for epochs to become visible."""

    def __init__(self, state: CoordinatorState) -> None:
        self._state = state

    def publish(self, epoch: int) -> list[Action]:
        """Do what was pending on `epoch`; epochs come in order, none twice."""
        state = self._state
        pending = state.pending.pop(epoch, None)
        state.counters.epochs += 1
        if pending is None:
            return []
        if pending.ordered:
            state.end(np.concatenate(pending.ordered))
        self._delete(pending.deletions)
        authors: dict[int, int] = {}
        if pending.births:
            authors.update(self._bear(pending.births))
        claims = self._wake(pending, authors)
        state.compact()
        return [*claims, *(Print(data) for data in pending.console)]

    def unblock(self, visible: int) -> None:
        """Queue the losers whose conflict is visible now, in the order in which they lost."""
        state = self._state
        if len(state.blocked) == 0:
            return
        table = state.table.rows
        ready = table["ready_epoch"][state.blocked] <= visible
        rows = state.blocked[ready]
        state.blocked = state.blocked[~ready]
        state.requeue(rows)

    def _delete(self, templates: list[int]) -> None:
        """Delete templates; a queued instance goes, running ones finish."""
        if not templates:
            return
        state = self._state
        rows = distinct(np.array(templates, dtype=np.int64))
        rows = rows[state.table.rows["state"][rows] == _ARMED]
        if len(rows) == 0:
            return
        state.watches.remove_many(rows)
        state.table.apply(rows, Event.DELETED)
        queued = state.table.rows["queued_instance"][rows]
        state.table.rows["queued_instance"][rows] = -1
        state.table.apply(queued[queued >= 0], Event.CANCELLED)
        state.end_templates(rows)

    def _bear(self, parts: list[Births]) -> dict[int, int]:
        """Register children; return the creator's attempt of each new template, by row."""
        state = self._state
        try:
            rows = state.register(parts)
        except RunnersLimitError as error:
            error.pc = int(parts[-1].children["newr_pc"][-1])
            raise
        templates = [part.children["template"] for part in parts]
        if not any(each.any() for each in templates):
            self._start(rows)
            return {}
        template = np.concatenate(templates) == 1
        self._start(rows[~template])
        armed = rows[template]
        state.table.apply(armed, Event.ARMED)
        table = state.table.rows
        counts = table["watched_count"][armed]
        watched, _ = state.watched.gather(table["watched_first"][armed], counts)
        state.watches.add_many(armed, counts, watched)
        wakes = np.concatenate([part.wakes for part in parts])[template]
        self._queue_instances(armed[wakes])
        creators = np.concatenate([part.creators for part in parts])[template]
        return dict(zip(armed.tolist(), creators.tolist(), strict=True))

    def _start(self, rows: NDArray[np.int64]) -> None:
        """Queue new runners."""
        self._state.table.apply(rows, Event.CREATED)
        self._state.enqueue(rows)
        self._state.counters.runners += len(rows)

    def _wake(self, pending: PendingEpoch, authors: dict[int, int]) -> list[Action]:
        """Queue an instance of each template that a write set of the epoch touches; say so."""
        if len(self._state.watches) == 0 or not pending.writers:
            return []
        writers = np.concatenate(pending.writers)
        counts = np.concatenate(pending.run_counts)
        runs = joined(pending.runs)
        offsets = np.zeros(len(counts) + 1, np.int64)
        counts.cumsum(out=offsets[1:])
        records, templates = self._state.watches.match(offsets, runs)
        if len(templates) == 0:
            return []
        if authors:
            # Of this epoch: a creator's own commit wakes no watcher of its own.
            own = np.array([authors.get(t, 0) for t in templates.tolist()], dtype=np.int64)
            woken = own != writers[records]
            records, templates = records[woken], templates[woken]
            if len(templates) == 0:
                return []
        self._queue_instances(templates)
        table = self._state.table.rows
        instances = table["queued_instance"][templates]
        ids = table["id"][templates]
        next_attempt = self._state.last_attempt + 1
        return [RecordWaking(writers[records], ids, instances, next_attempt)]

    def _queue_instances(self, templates: NDArray[np.int64]) -> None:
        """Queue one instance of each, in order of first mention.

        A template that has one queued already gets no other: that one will see the commit.
        """
        state = self._state
        if len(templates) == 0:
            return
        woken = np.ascontiguousarray(templates, np.int64)
        chosen = np.empty(len(woken), np.int64)
        chosen = chosen[: instance_loops.choose(state.table.words, woken, chosen)]
        rows = state.table.allocate(len(chosen))
        instance_loops.make(state.table.words, chosen, rows)
        self._start(rows)
        state.counters.watcher_firings += len(rows)


def note_applied(state: CoordinatorState, event: EpochApplied | EpochsApplied) -> None:
    """Note which homes have applied which epochs."""
    if isinstance(event, EpochApplied):
        pairs = [(event.home, event.epoch)]
    else:
        pairs = list(zip(event.homes.tolist(), event.epochs.tolist(), strict=True))
    for home, epoch in pairs:
        state.log.applied(home, epoch)
        state.lacking.pop(home, None)
