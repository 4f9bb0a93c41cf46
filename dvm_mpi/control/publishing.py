"""An epoch has become visible: runners are born, watchers wake, output is printed.

Order within one epoch: the attempts that were ordered in it end; templates are deleted;
children and watchers are registered; stores wake watchers, in commit order; output is printed.
Invariant: nothing that an epoch caused starts before every home has applied the epoch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import LOSSES_BEFORE_RUNNING_ALONE
from dvm_mpi.control.coordinator_state import (
    Action,
    Births,
    CoordinatorState,
    PendingEpoch,
    Print,
)
from dvm_mpi.control.grants import child_grants
from dvm_mpi.control.lifecycle import Event, Kind, State


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
        for rows in pending.ordered:
            state.end(rows)
        self._delete(pending.deletions)
        authors = {}
        for births in pending.births:
            authors.update(self._bear(births))
        self._wake(pending, authors)
        state.compact()
        return [Print(data) for data in pending.console]

    def unblock(self, visible: int) -> None:
        """Queue the losers whose conflict is visible now, in the order in which they lost."""
        state = self._state
        if len(state.blocked) == 0:
            return
        table = state.table.rows
        ready = table["ready_epoch"][state.blocked] <= visible
        rows = state.blocked[ready]
        state.blocked = state.blocked[~ready]
        alone = table["losses"][rows] >= LOSSES_BEFORE_RUNNING_ALONE
        state.solo.push(rows[alone])
        state.enqueue(rows[~alone])

    def _delete(self, templates: list[int]) -> None:
        """Delete templates; a queued instance goes, running ones finish."""
        state = self._state
        for template in templates:
            row = state.table.rows[template]
            if row["state"] != State.ARMED:
                continue
            state.watches.remove(template)
            queued = int(row["queued_instance"])
            state.table.apply(np.array([template]), Event.DELETED)
            if queued >= 0:
                state.table.rows["queued_instance"][template] = -1
                state.table.apply(np.array([queued]), Event.CANCELLED)
            state.end_templates(np.array([template]))

    def _bear(self, births: Births) -> dict[int, int]:
        """Register children; return the creator's attempt of each new template, by row."""
        state = self._state
        grants, counts = child_grants(births.children, births.child_ranges)
        rows = state.register(births, grants, counts)
        template = births.children["template"] == 1
        ordinary = rows[~template]
        state.table.apply(ordinary, Event.CREATED)
        state.enqueue(ordinary)
        state.counters.runners += len(ordinary)
        armed = rows[template]
        state.table.apply(armed, Event.ARMED)
        authors = {}
        for row, creator, woken in zip(
            armed.tolist(),
            births.creators[template].tolist(),
            births.wakes[template].tolist(),
            strict=True,
        ):
            state.watches.add(row, state.declared(row))
            authors[row] = creator
            if woken:
                self._queue_instance(row)
        return authors

    def _wake(self, pending: PendingEpoch, authors: dict[int, int]) -> None:
        """Queue an instance of each template that a write set of the epoch touches."""
        if len(self._state.watches) == 0 or not pending.writers:
            return
        writers = np.concatenate(pending.writers)
        counts = np.concatenate(pending.run_counts)
        runs: NDArray[Any] = np.concatenate(pending.runs)
        offsets = np.concatenate([[0], np.cumsum(counts)])
        records, templates = self._state.watches.match(offsets, runs)
        for record, template in zip(records.tolist(), templates.tolist(), strict=True):
            if authors.get(template) != writers[record]:
                self._queue_instance(template)

    def _queue_instance(self, template: int) -> None:
        """Queue one instance, unless one is queued already: that one will see the commit."""
        state = self._state
        if state.table.rows["queued_instance"][template] >= 0:
            return
        rows = state.table.allocate(1)
        row = int(rows[0])
        table = state.table.rows
        table[row] = table[template]
        table["state"][row] = State.FREE
        table["kind"][row] = Kind.INSTANCE
        table["template"][row] = template
        table["queued_instance"][row] = -1
        table["instances"][row] = 0
        table["queued_instance"][template] = row
        table["instances"][template] += 1
        state.table.apply(rows, Event.CREATED)
        state.enqueue(rows)
        state.counters.runners += 1
        state.counters.watcher_firings += 1
