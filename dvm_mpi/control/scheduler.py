"""The coordinator: which runner starts where and on which snapshot, and when epochs close.

A state machine without messages of its own making: `handle(event)` returns actions, in order.
Ties are broken by row, then worker number; the same events give the same actions.
Invariant: a runner is dispatched only on a visible snapshot that is pinned until its record has
been ordered, and only when the epoch that created it (or that it lost to) is visible. What follows
from an epoch may be decided while homes apply it (`foresee`); it is returned when it is visible.

The three parts: `ordering` (records in), `publishing` (epochs visible), and dispatch, here. A run
that must be the same every time goes by `rounds`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import (
    CHILDREN_MAX,
    MOVED_BYTES_PER_US,
    NEAR_WAIT_US,
    SHARE_FUEL_MIN,
    SLICE_FUEL,
)
from dvm_mpi.control import giving_up
from dvm_mpi.control.coordinator_state import (
    Action,
    ArmedWatcher,
    Births,
    Complete,
    CoordinatorState,
    Counters,
    ToWorker,
)
from dvm_mpi.control.dealing import ONE_RUNNER, Dealing, Dealt
from dvm_mpi.control.expected_ends import ExpectedEnds
from dvm_mpi.control.foresight import Foresight
from dvm_mpi.control.joining import SEVERAL, efforts, ready_workers, workers_of
from dvm_mpi.control.leader import Tree
from dvm_mpi.control.leases import LeaseBook
from dvm_mpi.control.lifecycle import Event, State, too_many_children
from dvm_mpi.control.locations import Locations
from dvm_mpi.control.messages import (
    AsleepChanged,
    BatchReturned,
    Finished,
    LeaseGranted,
    LeaseRequested,
    WorkerReady,
    WorkersReady,
)
from dvm_mpi.control.open_epoch import OpenEpoch, tell_lacking
from dvm_mpi.control.ordering import Ordering
from dvm_mpi.control.policies import Placement, make_policy
from dvm_mpi.control.publishing import Publishing, note_applied
from dvm_mpi.control.recalling import Recalling
from dvm_mpi.control.rounds import Rounds, apart, place_blocks, round_runners
from dvm_mpi.control.sending import Sending
from dvm_mpi.control.short_waits import ShortWaits
from dvm_mpi.control.validation import ConflictUnit, Isolation
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.messages import EpochApplied, EpochsApplied, FramesLacking
from dvm_mpi.dsm.migration import Limits
from dvm_mpi.engine.interface import CHILD, RUN, Lease, LeaseKind
from dvm_mpi.layout import GUARD_BYTES, RANGE
from dvm_mpi.values import dataclass


@dataclass(frozen=True, slots=True)
class Started:
    """The program is loaded everywhere and visible: begin with its first runner.

    `reserved` (RANGE, sorted, disjoint) is what that runner may touch beside its stack.
    """

    entry: int
    reserved: NDArray[Any]


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time has passed; `now_us` counts from any fixed moment and never falls."""

    now_us: int


@dataclass(frozen=True, slots=True)
class WorkerSuspected:
    """A worker has not answered for too long: what it runs is to run elsewhere."""

    worker: int


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """A worker will not answer any more; its rank's home may still serve."""

    worker: int


@dataclass(frozen=True, slots=True)
class WorkerWithheld:
    """A worker gets no runners any more, or some again; what it has it executes."""

    worker: int
    is_withheld: bool


#: What a worker says; of a lost one nobody listens to more than its records.
WorkerTold = LeaseRequested | AsleepChanged | WorkerReady | WorkersReady | BatchReturned
SchedulerEvent = (
    Started
    | Ticked
    | Finished
    | WorkerTold
    | EpochApplied
    | EpochsApplied
    | FramesLacking
    | WorkerSuspected
    | WorkerLost
    | WorkerWithheld
)


class Scheduler:
    """Rank 0's state machine.

    Parameters
    ----------
    geometry
        Where pages live.
    worker_count
        Workers are numbered from 0.
    stack_bytes
        Size of automatic stacks.
    visible
        The epoch of the loaded program.
    workers_ready
        Whether all workers may be sent runners from the start; else each says so (`WorkerReady`).
    isolation
        `serializable` wants workers whose engines track loads.
    conflict_unit
        What two runners must not both store.
    deterministic
        Whether the run goes by rounds, so that it does not depend on workers and timing.
    placement
        Where runners go; a run by rounds sends them wherever there is room.
    placement_seed
        What `random` draws from.
    near_wait_us
        How long runners wait for the worker that they are near to, while others are idle.
    moved_bytes_per_us
        How fast memory moves to another worker: for a large range they wait longer.
    tree
        Through whom homes hear of epochs; None: each by itself.
    recall_fuel_min
        What a batch is expected to take at least, in instructions, that is taken back from a worker
        which has not begun it, while others are idle.
    share_fuel_min
        What runners are expected to take at least, in instructions, to be divided among workers; 0:
        they are divided however few they are, and nobody waits for others.
    migration
        When blocks of pages move to other homes; None: never. Nor do they in a run by rounds.
    """

    def __init__(
        self,
        geometry: Geometry,
        worker_count: int,
        stack_bytes: int,
        visible: int,
        *,
        workers_ready: bool = True,
        isolation: Isolation = "snapshot",
        conflict_unit: ConflictUnit = "byte",
        deterministic: bool = False,
        placement: Placement = "data",
        placement_seed: int = 0,
        near_wait_us: int = NEAR_WAIT_US,
        moved_bytes_per_us: int = MOVED_BYTES_PER_US,
        recall_fuel_min: int = SLICE_FUEL,
        tree: Tree | None = None,
        share_fuel_min: int = SHARE_FUEL_MIN,
        migration: Limits | None = None,
    ) -> None:
        self._rounds = Rounds(round_runners(stack_bytes)) if deterministic else None
        leases = LeaseBook(stack_bytes, place_blocks(stack_bytes) if deterministic else None)
        receivers = tree.receivers() if tree is not None and tree.leaders else None
        self.state = CoordinatorState(
            geometry,
            worker_count,
            leases,
            visible,
            isolation,
            conflict_unit,
            receivers,
            None if deterministic else migration,
        )
        if deterministic:
            self.state.losses_before_remembering = self.state.losses_before_solo = 1
        self.state.ready[:] = workers_ready
        # None if they go wherever there is room.
        policy = None
        if not deterministic:
            policy = make_policy(placement, geometry, worker_count, placement_seed)
        self._short_waits = ShortWaits(self.state, share_fuel_min)
        self._dealing = Dealing(
            *(self.state, policy, near_wait_us, share_fuel_min, self._short_waits),
            moved_bytes_per_us,
        )
        self._ordering = Ordering(self.state)
        # Where nobody is awaited for being short, nobody is for being about to end.
        awaits_ends = share_fuel_min > 0 and not deterministic
        self._ends = ExpectedEnds(self.state) if awaits_ends else None
        self._open_epoch = OpenEpoch(self.state, self._short_waits, self._ends)
        self._publishing = Publishing(self.state)
        self._recalling = Recalling(self.state, recall_fuel_min)
        self._sending = Sending(self.state, policy, self._rounds, receivers)
        self._stack_bytes = stack_bytes
        self._now_us = 0
        self._published = visible
        self._foresight = Foresight(self.state)
        self._locations = Locations()
        self._has_begun = False
        self._complete = False

    # --- what others may look at ----------------------------------------------------------------
    @property
    def counters(self) -> Counters:
        """Totals so far; the caller must not change them."""
        return self.state.counters

    @property
    def queued_count(self) -> int:
        """Runners that wait for a worker, an epoch or their turn to run alone."""
        state = self.state
        waiting = len(state.solo) + len(state.chosen) + len(state.blocked)
        return state.startable_count + waiting

    @property
    def due_at_us(self) -> int | None:
        """When time alone makes something possible: an epoch closes, or a runner waits no more."""
        times = (self._open_epoch.closes_at_us, self._waits_until_us)
        return min((time_us for time_us in times if time_us is not None), default=None)

    @property
    def _waits_until_us(self) -> int | None:
        """Until when runners wait for the workers that they are near to; None if none does."""
        state, waits_until_us = self.state, self._dealing.waits_until_us
        is_held_up = state.failure is not None or state.alone >= 0 or len(state.solo)
        is_held_up = is_held_up or state.foreseen
        if waits_until_us is None or is_held_up or not state.available.any():
            return None
        return waits_until_us

    # --- events ---------------------------------------------------------------------------------
    def pass_time(self, now_us: int) -> bool:
        """Take the time, as `Ticked` does; say whether anything has become due.

        If not, that event would lead to nothing: who asks in every turn need not make one.
        """
        assert now_us >= self._now_us, "time runs backwards"
        self._now_us = now_us
        self._short_waits.look(now_us)
        waits_until_us = self._waits_until_us
        has_waited = waits_until_us is not None and now_us >= waits_until_us
        return has_waited or self._open_epoch.is_due(self._now_us)

    def handle(self, event: SchedulerEvent) -> tuple[Action, ...]:
        """Take one event and return what must be done, in this order.

        Raises
        ------
        LimitError
            Ids, automatic stacks or rows of the runner table have run out, or one attempt creates
            runners without end.
        """
        assert not self._complete, "the program has ended"
        actions: list[Action] = []
        state = self.state
        was_empty = state.log.open_records == 0
        if isinstance(event, Finished):
            is_one = event.worker != SEVERAL
            giving_up.hear(state, event.worker if is_one else workers_of(event))
            self._short_waits.heard()
            actions += self._take_records(event)
        elif isinstance(event, LeaseRequested) and self._makes_nothing_possible(event):
            return tuple(self._hear(event))
        elif isinstance(event, WorkerTold):
            actions += self._hear(event)
        elif isinstance(event, EpochApplied | EpochsApplied):
            visible = state.log.visible
            note_applied(state, event)
            self._locations.note(event.located)
            if state.log.visible == visible:
                # Other homes are awaited too: nothing has become possible.
                return ()
            self._short_waits.heard()
            actions += self._take_foreseen()
        elif isinstance(event, FramesLacking):
            state.lacking[event.home] = ()
        elif isinstance(event, WorkerSuspected | WorkerLost | WorkerWithheld):
            if self._foresight.hear_later(event):
                return ()
            actions += self._leave(event)
        elif isinstance(event, Ticked):
            if not self.pass_time(event.now_us):
                return ()
        else:
            self._start(event)
        if was_empty:
            self._open_epoch.since_us = self._now_us
        actions += self._advance()
        return tuple(self._locations.with_places(actions))

    def _leave(self, event: WorkerSuspected | WorkerLost | WorkerWithheld) -> list[Action]:
        """Do without a worker, for now or for good, or with it again."""
        state = self.state
        if isinstance(event, WorkerWithheld):
            state.withheld[event.worker] = event.is_withheld
            return []
        leave = giving_up.suspect if isinstance(event, WorkerSuspected) else giving_up.lose
        return leave(state, event.worker, self._ordering.give_up)

    # --- ahead of time --------------------------------------------------------------------------
    @property
    def may_foresee(self) -> bool:
        """Whether `foresee` would decide anything."""
        return self._rounds is None and self._foresight.is_possible

    def foresee(self) -> None:
        """Decide what follows from the only epoch in flight, while its homes apply it.

        `handle` returns it when that epoch is visible. To be called when there is nothing else to
        do; if there might be, this does nothing.

        Raises
        ------
        LimitError
            As of `handle`.
        """
        if not self.may_foresee:
            return
        self._published = self._foresight.begin()
        actions = self._publishing.publish(self._published)
        self._publishing.unblock(self._published)
        workers = self.state.available.nonzero()[0]
        if len(workers) and self.state.startable_count and not len(self.state.solo):
            actions += self._deal(workers)
        self._foresight.keep(actions)

    def _take_foreseen(self) -> list[Action]:
        """Return what was decided ahead of the epoch that is visible now, and hear what waited."""
        actions, said = self._foresight.end()
        for event in said:
            actions += self._leave(event)
        return actions

    def _makes_nothing_possible(self, event: LeaseRequested) -> bool:
        """Say whether addresses are all that there is to send: nobody else may start for them."""
        return self._rounds is None and not self.state.suspected[event.worker]

    def _hear_ready(self, event: WorkerReady | WorkersReady) -> list[Action]:
        """Note that workers have their engines, but for those that are lost by now."""
        workers = ready_workers(event)
        workers = workers[~self.state.lost[workers]]
        giving_up.hear(self.state, workers)
        self.state.ready[workers] = True
        return []

    def _hear(self, event: WorkerTold) -> list[Action]:
        """Take what a worker says of itself or asks for."""
        if isinstance(event, WorkerReady | WorkersReady):
            return self._hear_ready(event)
        if self.state.lost[event.worker]:
            return []
        giving_up.hear(self.state, event.worker)
        if isinstance(event, AsleepChanged):
            self.state.asleep[event.worker] = event.asleep
        elif isinstance(event, BatchReturned):
            return self._recalling.take(event, self._ordering.give_up)
        elif event.created > CHILDREN_MAX:
            raise too_many_children(event.created, event.pc)
        elif self._rounds is None:
            return [self._granted(event, event.blocks)]
        else:
            self._rounds.ask(event)
        return []

    def _take_records(self, finished: Finished) -> list[Action]:
        """Order records now, or with the rest of their round."""
        rounds, state = self._rounds, self.state
        if rounds is None:
            if self._ends is not None:
                self._ends.ended(finished, self._now_us)
            return self._ordering.take(finished)
        rounds.take(finished)
        np.add.at(state.gathered, workers_of(finished), 1)
        # The rest of the round goes in batches of the right size.
        entries = state.table.rows["entry"][finished.outcomes["runner"]]
        state.lengths.observe(entries, efforts(finished))
        if not rounds.is_complete:
            return []
        state.gathered[:] = 0
        return self._ordering.take(rounds.settle())

    def _granted(self, request: LeaseRequested, blocks: int = 1) -> ToWorker:
        """Answer a request for addresses."""
        lease = self._lease(LeaseKind(request.kind), request.wanted_bytes, blocks)
        granted = LeaseGranted(int(lease.kind), lease.start, lease.end, request.attempt)
        return ToWorker(request.worker, granted)

    def _lease(self, kind: LeaseKind, wanted_bytes: int = 0, blocks: int = 1) -> Lease:
        """Return addresses; those for `malloc` are fresh, nobody ever stored there."""
        lease = self.state.leases.lease(kind, wanted_bytes, blocks)
        while kind is LeaseKind.MALLOC and lease.start < lease.end:
            block = np.array([(lease.start, lease.end - lease.start)], dtype=RANGE)
            if self.state.conflicts.newest(block)[0] == 0:
                break
            # Somebody declared addresses of the malloc area before they were given out.
            lease = self.state.leases.lease(kind, wanted_bytes, blocks)
        return lease

    def _start(self, event: Started) -> None:
        """Register the first runner; it has an automatic stack and touches what is reserved."""
        state = self.state
        self._has_begun = True
        first_id = state.leases.lease(LeaseKind.ID)
        slot = state.leases.lease(LeaseKind.STACK)
        child = np.zeros(1, dtype=CHILD)
        child["id"], child["entry"] = first_id.start, event.entry
        child["stack_base"] = slot.start + GUARD_BYTES
        child["stack_bytes"], child["stack_automatic"] = self._stack_bytes, 1
        child["heap_count"] = len(event.reserved)
        births = Births(
            creators=np.zeros(1, dtype=np.int64),
            wakes=np.zeros(1, dtype=bool),
            children=child,
            child_ranges=event.reserved,
            runs=np.zeros(0, dtype=RUN),
            data=np.zeros(0, dtype=np.uint8),
        )
        rows = state.register([births])
        state.table.apply(rows, Event.CREATED)
        state.enqueue(rows)
        state.counters.runners += 1

    def _advance(self) -> list[Action]:
        """Do whatever has become possible: close, publish, dispatch, end."""
        actions: list[Action] = []
        while True:
            actions += self._publish()
            if self.state.failure is None:
                actions += self._dispatch()
            closed = self._close()
            actions += closed
            # An epoch that touches no home is visible as soon as it is closed.
            if self.state.log.visible <= self._published:
                break
        actions += tell_lacking(self.state)
        actions += self._finish()
        return actions

    # --- epochs ---------------------------------------------------------------------------------
    def _close(self) -> list[Action]:
        """Close the open epoch if it is full or old, or if somebody has nothing else to do."""
        return self._open_epoch.close() if self._open_epoch.is_due(self._now_us) else []

    def _publish(self) -> list[Action]:
        actions: list[Action] = []
        while self._published < self.state.log.visible:
            self._published += 1
            actions += self._publishing.publish(self._published)
            self._publishing.unblock(self._published)
        return actions

    # --- dispatch -------------------------------------------------------------------------------
    def _dispatch(self) -> list[Action]:
        """Send runners to workers, on the newest visible snapshot."""
        state = self.state
        workers = state.available.nonzero()[0]
        if state.alone >= 0 or len(workers) == 0 or state.foreseen:
            return []
        self._publishing.unblock(state.log.visible)
        if self._rounds is not None:
            return self._dispatch_round(self._rounds, workers)
        if len(state.solo):
            return self._dispatch_alone(int(workers[0]))
        if state.startable_count == 0:
            self._dealing.waits_until_us = None
            return self._recalling.ask()
        return self._deal(workers)

    def _deal(self, workers: NDArray[np.intp]) -> list[Action]:
        """Send runners that may start to workers, as far as these have room."""
        dealt = self._dealing.deal(workers, self._now_us)
        actions = self._sending.send(dealt)
        if self._ends is not None:
            self._ends.sent(dealt, self._now_us)
        return actions

    def _dispatch_round(self, rounds: Rounds, workers: NDArray[np.intp]) -> list[Action]:
        """Send out the round under way, or the next one if every commit is visible."""
        state = self.state
        if not rounds.is_under_way:
            if state.log.open_records or state.log.epochs_in_flight:
                return []
            rows = self._choose_round(rounds.runners_max)
            state.chosen.push(rows)
            rounds.begin(len(rows), state.last_attempt + 1)
            rounds.deal(self._lease)
        actions: list[Action] = []
        if len(state.chosen):
            size = self._dealing.size(len(workers), len(state.chosen))
            share = self._dealing.share(workers, len(state.chosen), size)
            given = share > 0
            rows = state.chosen.pop(int(share.sum()))
            actions += self._sending.send(Dealt(workers[given], share[given], rows, size))
        if rounds.all_wait:
            actions += [self._granted(*answered) for answered in rounds.answer()]
        return actions

    def _choose_round(self, runners_max: int) -> NDArray[np.int64]:
        """Take the next round off the queues: losers first, then whoever is next.

        The first one cannot lose. Of losers that stored to the same bytes one goes at a time: the
        others would lose again.
        """
        state = self.state
        losers = state.solo.pop(len(state.solo))
        looked_at = losers[:runners_max]
        goes = apart([state.reservations.wanted(row) for row in looked_at.tolist()])
        state.solo.push(np.concatenate([looked_at[~goes], losers[runners_max:]]))
        rows = looked_at[goes]
        while len(losers) < runners_max and len(rows) < runners_max and len(state.queue):
            rows = np.concatenate([rows, self._dealing.take(runners_max - len(rows))])
        return rows

    def _dispatch_alone(self, worker: int) -> list[Action]:
        """Run the next of those that lost too often, when there is nothing it could lose to.

        Nobody else runs, and every commit is visible: it would lose to one that its snapshot lacks.
        """
        state = self.state
        if state.running_count or state.held:
            return []
        if state.log.open_records or state.log.epochs_in_flight:
            return []
        # Only an instance that never ran is cancelled with its template: this one has lost.
        rows = state.solo.pop(1)
        state.alone = int(rows[0])
        return self._sending.send(Dealt(np.array([worker]), np.ones(1, np.int64), rows, ONE_RUNNER))

    # --- end ------------------------------------------------------------------------------------
    def _finish(self) -> list[Action]:
        """End the program when nothing is queued or running and every epoch is visible."""
        state = self.state
        if state.log.open_records or state.log.epochs_in_flight:
            return []
        busy = not self._has_begun or self.queued_count or state.running_count or state.held
        if busy and state.failure is None:
            return []
        self._complete = True
        return [Complete(state.failure, self._armed())]

    def _armed(self) -> tuple[ArmedWatcher, ...]:
        table = self.state.table.rows
        armed = np.flatnonzero(table["state"] == State.ARMED)
        order = armed[np.argsort(table["id"][armed], kind="stable")]
        return tuple(
            ArmedWatcher(
                int(table["id"][row]),
                int(table["entry"][row]),
                int(table["newr_pc"][row]),
                self.state.declared(row),
            )
            for row in order.tolist()
        )

    def check_invariants(self) -> None:
        """Assert that tables, pins and epochs agree."""
        if self.state.failure is None:
            self.state.check_invariants()
        if self._rounds is not None:
            self._rounds.check_invariants()
        self.state.log.check_invariants()
