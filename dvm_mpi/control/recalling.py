"""Work goes to who has none: batches that a worker has not begun are recalled for idle ones.

A worker holds a batch beside the one that it runs, so that it need not wait for the next. At the
end of a wave that is work of which others have none. The coordinator asks for it, and the worker
gives back its last batch as a whole, if it has not begun it; it alone knows. What comes back is
exact: these attempts have not run and never will, so their snapshots are no longer pinned.
The invariant to remember: an attempt that is given back is RUNNING until the answer comes, and its
worker is asked for one batch at a time.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.control import giving_up
from dvm_mpi.control.coordinator_state import (
    Action,
    CoordinatorState,
    RecordRecalled,
    ToWorker,
)
from dvm_mpi.control.lifecycle import Event, Kind, State
from dvm_mpi.control.messages import BatchRecalled, BatchReturned

Ints = NDArray[np.int64]


class Recalling:
    """Asks for batches back, and takes them.

    Parameters
    ----------
    state
        The coordinator's.
    fuel_min
        Batches that are expected to be shorter are left where they are, in instructions: they are
        done before anybody else could begin them.
    """

    def __init__(self, state: CoordinatorState, fuel_min: int) -> None:
        self._state = state
        self._fuel_min = fuel_min
        #: Workers that have been asked and have not answered; (worker_count,).
        self._asked = np.zeros(len(state.running), dtype=bool)

    def ask(self) -> list[Action]:
        """Ask the workers with most work for a batch, one for each worker that has nothing to do.

        Call it when nobody else may start.
        """
        state = self._state
        holds_two = state.running > state.newest_batch
        if not holds_two.any():
            return []
        idle = int(np.count_nonzero(state.ready & (state.running == 0)))
        # A worker that does not answer any more has no batch for anyone.
        idle -= int(np.count_nonzero(self._asked & state.ready))
        if idle <= 0:
            return []
        can_give = state.ready & holds_two & ~self._asked & (state.newest_fuel >= self._fuel_min)
        givers = np.flatnonzero(can_give)
        # Who has most first; of equal ones the lowest number.
        givers = givers[np.argsort(-state.newest_fuel[givers], kind="stable")][:idle]
        self._asked[givers] = True
        return [ToWorker(worker, BatchRecalled()) for worker in givers.tolist()]

    def take(
        self, returned: BatchReturned, release: Callable[[Ints], list[Action]]
    ) -> list[Action]:
        """Let runners of a batch that has come back start again; it may be empty.

        `release` ends what rows reserve, and orders what that had held back.
        """
        state, worker = self._state, returned.worker
        self._asked[worker] = False
        table = state.table.rows
        rows, numbers = returned.runners, returned.numbers
        if len(rows) == 0:
            # All has begun; it is not asked again before it is sent something.
            state.newest_fuel[worker] = -1
            return []
        # The worker may have been suspected meanwhile: then they run elsewhere by now.
        is_current = (table["attempt"][rows] == numbers) & (table["state"][rows] == State.RUNNING)
        late = numbers[~is_current]
        giving_up.settle(state, np.full(len(late), worker), late)
        rows, numbers = rows[is_current], numbers[is_current]
        giving_up.unpin(state, table["snapshot"][rows])
        state.running[worker] -= len(rows)
        state.counters.recalled += len(rows)
        state.table.apply(rows, Event.GIVEN_UP)
        actions = release(rows)
        self._start_again(rows)
        # Of the others it has been said already that they were given up on.
        return [RecordRecalled(numbers), *actions]

    def _start_again(self, rows: Ints) -> None:
        """Let runners start again as if they had never been sent.

        A watcher's instance is in the queue again then, if this was what took it off. It is none
        too many: where another one was queued since, that one sees all that this one was to see,
        and both would see the same; where the template was deleted, what is queued is cancelled.
        """
        state, table = self._state, self._state.table.rows
        instances = rows[(table["kind"][rows] == Kind.INSTANCE) & (table["losses"][rows] == 0)]
        attempts, templates = table["attempt"][instances], table["template"][instances]
        latest = table["attempt"][templates]
        is_armed = table["state"][templates] == State.ARMED
        stays = is_armed & (attempts == latest) & (table["queued_instance"][templates] < 0)
        table["queued_instance"][templates[stays]] = instances[stays]
        # What was sent anew, since its worker was suspected, was not in the queue.
        dropped = ~stays & (attempts <= latest)
        merged_count = int(np.count_nonzero(dropped & is_armed))
        state.counters.runners -= merged_count
        state.counters.watcher_firings -= merged_count
        state.table.apply(instances[dropped], Event.CANCELLED)
        state.end(instances[dropped])
        state.requeue(rows[~np.isin(rows, instances[dropped])])
