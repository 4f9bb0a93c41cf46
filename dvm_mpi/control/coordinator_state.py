"""What the coordinator knows: runners, history, watchers, pins; shared by its three parts.

`ordering` takes records in, `publishing` makes epochs visible, `scheduler` sends runners out.
Each changes this state by vectors of rows; nothing here decides anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import (
    LOSSES_BEFORE_RESERVING,
    LOSSES_BEFORE_RUNNING_ALONE,
    QUEUE_ROWS_IN_ORDER,
    STORY_ROWS,
)
from dvm_mpi.control import birth_loops, instance_loops, row_loops
from dvm_mpi.control.arena import RowArena
from dvm_mpi.control.contention import Contention
from dvm_mpi.control.grants import child_grants
from dvm_mpi.control.leases import LeaseBook
from dvm_mpi.control.lengths import RunnerLengths
from dvm_mpi.control.lifecycle import Event, Kind, RunnerTable, State
from dvm_mpi.control.messages import Finished, Message
from dvm_mpi.control.nearness import Front
from dvm_mpi.control.policies import Declared, largest_of
from dvm_mpi.control.prediction import LengthEstimate
from dvm_mpi.control.queue import RowQueue
from dvm_mpi.control.reservations import Reservations
from dvm_mpi.control.sharing import Sharing
from dvm_mpi.control.validation import ConflictUnit, Isolation, Validation
from dvm_mpi.dsm.commit import CommitLog
from dvm_mpi.dsm.conflict import ConflictSet
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.hot_pages import HotPages
from dvm_mpi.dsm.messages import BlocksMoved
from dvm_mpi.dsm.migration import Limits, Migration
from dvm_mpi.dsm.pins import Pins
from dvm_mpi.dsm.ranges import expand, firsts_of
from dvm_mpi.dsm.rows import words_of
from dvm_mpi.dsm.watch import WatchIndex
from dvm_mpi.engine.interface import RUN
from dvm_mpi.layout import RANGE
from dvm_mpi.values import dataclass, field

NO_ROWS: Final = np.zeros(0, dtype=np.int64)
#: An attempt that was given up on, and may still be reading its snapshot.
GIVEN_UP: Final = np.dtype([("attempt", "<i8"), ("snapshot", "<i8")])


# --- actions ------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class ToWorker:
    """Send a message to a worker."""

    worker: int
    message: Message


@dataclass(frozen=True, slots=True)
class ToHome:
    """Send a message to a home."""

    home: int
    message: Message


@dataclass(frozen=True, slots=True)
class ToLeader:
    """Send a message to a leader, for several of its ranks."""

    leader: int
    message: Message


@dataclass(frozen=True, slots=True)
class ToAll:
    """Send a message to every rank: to its home and its worker, if it has one."""

    message: BlocksMoved


@dataclass(frozen=True, slots=True)
class Print:
    """Write committed console output, once and in this order."""

    data: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class RecordOrder:
    """Note for a history: these attempts committed in this order, in this epoch."""

    epoch: int
    numbers: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RecordGivenUp:
    """Note for a history: these attempts were given up on; whatever they do counts for nothing."""

    numbers: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RecordRecalled:
    """Note for a history: these attempts came back before they had begun; they never do."""

    numbers: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RecordLoss:
    """Note for a history: these attempts lost to stores of these epochs; their runners retry."""

    numbers: NDArray[np.int64]
    epochs: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RecordWaking:
    """Note for a history: each of these commits woke a template, pair by pair.

    `writers` are attempts, `ids` those of the templates. The instance that must see the commit has
    the row `instances` from its first attempt on, which is `next_attempt` or a later one.
    """

    writers: NDArray[np.int64]
    ids: NDArray[np.int64]
    instances: NDArray[np.int64]
    next_attempt: int


@dataclass(frozen=True, slots=True)
class Failure:
    """A trap that was ordered without a conflict: the program's end.

    `attempt` counts the runner's own attempts, from 1; `number` is its number in a history.
    """

    runner_id: int
    runner_entry: int
    newr_pc: int
    attempt: int
    worker: int
    trap: int
    pc: int
    address: int
    instructions: int
    operands: tuple[str, ...]
    nearest: tuple[int, int] | None
    number: int = 0


@dataclass(frozen=True, slots=True)
class ArmedWatcher:
    """A watcher that was still armed at the program's end; `watched` is RANGE."""

    id: int
    entry: int
    newr_pc: int
    watched: NDArray[Any]


@dataclass(frozen=True, slots=True)
class Complete:
    """The program has ended: nothing is queued or running, or a trap was ordered."""

    failure: Failure | None
    watchers: tuple[ArmedWatcher, ...]


#: What the coordinator says of its decisions, for whoever judges them.
Claim = RecordLoss | RecordWaking | RecordGivenUp | RecordRecalled
Action = ToWorker | ToHome | ToLeader | ToAll | Print | RecordOrder | Claim | Complete


# --- state --------------------------------------------------------------------------------------
@dataclass(slots=True)
class Counters:
    """Totals since the start, for the progress line and the report."""

    runners: int = 0
    attempts: int = 0
    commits: int = 0
    aborts: int = 0
    retries: int = 0
    #: Attempts that were given up on since their worker did not answer.
    given_up: int = 0
    #: Attempts that came back from their worker before they had begun, for others to run.
    recalled: int = 0
    #: Records of attempts that were given up on that came after all, and were dropped.
    fenced: int = 0
    watcher_firings: int = 0
    epochs: int = 0
    instructions: int = 0
    bytes_fetched: int = 0
    bytes_committed: int = 0
    #: Blocks of pages that moved to another home.
    blocks_moved: int = 0


@dataclass(slots=True)
class Births:
    """Runners that one batch of records created, waiting for their parents' epoch.

    `creators` are attempt numbers; `wakes` marks templates whose watched bytes somebody stored
    after the creator's snapshot and before its epoch. Children of one creator lie together.
    """

    creators: NDArray[np.int64]
    wakes: NDArray[np.bool_]
    children: NDArray[Any]  # CHILD, image rows into `runs`
    child_ranges: NDArray[Any]  # RANGE
    runs: NDArray[Any]  # RUN, data_first into `data`
    data: NDArray[np.uint8]


@dataclass(slots=True)
class PendingEpoch:
    """What must happen when an epoch becomes visible; lists are in commit order."""

    #: Rows whose attempt was ordered here; they end when it is visible.
    ordered: list[NDArray[np.int64]] = field(default_factory=list)
    #: Rows of templates to delete.
    deletions: list[int] = field(default_factory=list)
    births: list[Births] = field(default_factory=list)
    #: Write sets: attempt numbers, runs per record, RUN rows.
    writers: list[NDArray[np.int64]] = field(default_factory=list)
    run_counts: list[NDArray[np.int64]] = field(default_factory=list)
    runs: list[NDArray[Any]] = field(default_factory=list)
    console: list[NDArray[np.uint8]] = field(default_factory=list)


class CoordinatorState:
    """Tables of the coordinator. Rank 0 only."""

    def __init__(
        self,
        geometry: Geometry,
        worker_count: int,
        leases: LeaseBook,
        visible: int,
        isolation: Isolation = "snapshot",
        conflict_unit: ConflictUnit = "byte",
        receivers: NDArray[np.int64] | None = None,
        migration: Limits | None = None,
    ) -> None:
        self.home_count = geometry.home_count
        self.table = RunnerTable()
        self.grants, self.watched = RowArena(RANGE), RowArena(RANGE)
        self.image_runs, self.image_data = RowArena(RUN), RowArena(np.uint8)
        self.leases = leases
        self.log = CommitLog(geometry, visible, receivers)
        #: Which blocks move to other homes; None if none does.
        self.migration = None if migration is None else Migration(geometry, migration)
        #: Who stored each byte last.
        self.conflicts = ConflictSet()
        self.validation, self.isolation = Validation(conflict_unit), isolation
        self.watches, self.pins = WatchIndex(), Pins()
        self.reservations, self.lengths = Reservations(), LengthEstimate()
        self.counters = Counters()
        #: Where attempts lost, how long they were, what pages they share: for whoever looks on.
        self.contention, self.runner_lengths = Contention(), RunnerLengths()
        self.hot_pages, self.sharing = HotPages(), Sharing()
        #: Runners that may start now, in order; those that come first, by whom they are near to.
        self.queue, self.front = RowQueue(in_order_max=QUEUE_ROWS_IN_ORDER), Front(worker_count)
        #: Runners that have lost so often that each runs alone; in a run of rounds all that have
        #: lost: they come first.
        self.solo = RowQueue()
        #: Runners of the round under way that wait for a worker; in a run of rounds only.
        self.chosen = RowQueue()
        #: Losses after which what a runner stored is remembered, and after which it goes to `solo`.
        self.losses_before_remembering = LOSSES_BEFORE_RESERVING
        self.losses_before_solo = LOSSES_BEFORE_RUNNING_ALONE
        #: Losers that wait for an epoch to become visible.
        self.blocked: NDArray[np.int64] = NO_ROWS
        #: Records that wait for a reservation to end, in order of arrival, one each.
        self.held: list[Finished] = []
        self.pending: dict[int, PendingEpoch] = {}
        #: Attempts that run at each worker; (worker_count,).
        self.running: NDArray[np.int64] = np.zeros(worker_count, dtype=np.int64)
        #: Of the batch that each worker got last its runners, and the instructions that these are
        #: expected to take, -1 if all have begun; (worker_count,).
        self.newest_batch, self.newest_fuel = (np.zeros(worker_count, np.int64) for _ in range(2))
        #: Workers with an engine, and those of them that are to get no runners; (worker_count,).
        self.ready, self.withheld = (np.zeros(worker_count, dtype=bool) for _ in range(2))
        #: Workers that do not answer, not ready until they do; those that will never be heard of
        #: again; (worker_count,).
        self.suspected, self.lost = (np.zeros(worker_count, dtype=bool) for _ in range(2))
        #: Attempts given up on whose late record may come, by worker: GIVEN_UP. Each holds a pin.
        self.given_up: dict[int, NDArray[Any]] = {}
        #: The last serial of staged write sets that a record of each worker has named.
        self.last_serials: NDArray[np.int64] = np.zeros(worker_count, dtype=np.int64)
        #: Homes that wait for free frames, each with `visible` and the pins as it was told them.
        self.lacking: dict[int, tuple[int, ...]] = {}
        #: Of the attempts at each worker, those that sleep in a system call; (worker_count,).
        self.asleep: NDArray[np.int64] = np.zeros(worker_count, dtype=np.int64)
        #: Of the running attempts, those whose records wait for the rest of their round;
        #: (worker_count,).
        self.gathered: NDArray[np.int64] = np.zeros(worker_count, dtype=np.int64)
        #: Row of the runner that runs alone, or -1; the newest attempt number given out.
        self.alone, self.last_attempt = -1, 0
        #: The epoch after `visible`, if what follows from it has been decided already; or 0.
        self.foreseen = 0
        self.failure: Failure | None = None

    @property
    def available(self) -> NDArray[np.bool_]:
        """Workers that may be sent runners; (worker_count,)."""
        return self.ready & ~self.withheld

    @property
    def snapshot(self) -> int:
        """The epoch that runners start on: what they are sent leaves when it is visible."""
        return max(self.log.visible, self.foreseen)

    @property
    def running_count(self) -> int:
        """Attempts dispatched whose record has not arrived."""
        return int(self.running.sum())

    def running_rows(self) -> NDArray[Any]:
        """Return copies of the rows of running attempts (RUNNER), for a look at them.

        None of a table so large that looking through it would hold up the run.
        """
        rows = self.table.rows
        return rows[rows["state"] == State.RUNNING] if len(rows) <= STORY_ROWS else rows[:0].copy()

    @property
    def startable_count(self) -> int:
        """Runners that may start now, but for those that run alone."""
        return len(self.front) + len(self.queue)

    def pending_epoch(self, epoch: int) -> PendingEpoch:
        """Return what is to happen when `epoch` becomes visible."""
        return self.pending.setdefault(epoch, PendingEpoch())

    def forget(self, horizon: int) -> None:
        """Note that no snapshot older than `horizon` will be asked about."""
        self.conflicts.forget(horizon)
        self.validation.forget(horizon)

    def enqueue(self, rows: NDArray[np.int64]) -> None:
        """Append rows that may start now."""
        self.queue.push(rows)

    def requeue(self, rows: NDArray[np.int64]) -> None:
        """Let rows that have run before start again, those that lost too often alone."""
        alone = self.table.rows["losses"][rows] >= self.losses_before_solo
        self.solo.push(rows[alone])
        self.enqueue(rows[~alone])

    def declared(self, row: int) -> NDArray[Any]:
        """Return the watched ranges of a template, as declared (RANGE)."""
        r = self.table.rows[row]
        first = int(r["watched_first"])
        return self.watched.rows[first : first + int(r["watched_count"])].copy()

    def granted_to(self, rows: NDArray[np.int64]) -> Declared:
        """Return what runners may touch beside their stacks."""
        r = self.table.rows[rows]
        ranges, _ = self.grants.gather(r["grant_first"], r["grant_count"])
        # Of whole pages: what is cached of a page is as old as its oldest byte.
        return Declared(r["grant_count"], ranges, self.conflicts.newest_of_pages(ranges))

    def register(self, parts: Sequence[Births]) -> NDArray[np.int64]:
        """Give each child a row and copy what it owns; return the rows, still FREE."""
        counts = [len(part.children) for part in parts]
        rows = self.table.allocate(sum(counts))
        first = 0
        for births, count in zip(parts, counts, strict=True):
            own = rows[first : first + count]
            found = np.zeros(birth_loops.COUNTED, np.int64)
            birth_loops.count(words_of(births.children), found)
            totals = found.tolist()
            if not self._enter(own, births, totals):
                self._enter_with_many_ranges(own, births)
            if totals[birth_loops.IMAGES]:
                self._register_images(own, births)
            first += count
        return rows

    def _enter(self, rows: NDArray[np.int64], births: Births, totals: list[int]) -> bool:
        """Fill in the rows of children; say whether that is done, or one has too many ranges.

        `totals`: of `birth_loops.count`.
        """
        children = births.children
        watched_count = totals[birth_loops.WATCHED_RANGES]
        range_count = totals[birth_loops.HEAP_RANGES] + watched_count
        self.grants.reserve(range_count + len(rows))
        self.watched.reserve(watched_count)
        ends = np.array([self.grants.used, self.watched.used])
        tables = self.table.words, words_of(self.grants.rows), words_of(self.watched.rows)
        own = words_of(children), words_of(births.child_ranges)
        if not birth_loops.enter(*own, rows, *tables, ends):
            return False
        self.grants.used, self.watched.used = ends.tolist()
        return True

    def _enter_with_many_ranges(self, rows: NDArray[np.int64], births: Births) -> None:
        """Fill in the rows of children, however many ranges they have."""
        children = births.children
        grants, grant_counts = child_grants(children, births.child_ranges)
        r = np.zeros(len(children), dtype=self.table.rows.dtype)
        for name in ("id", "entry", "newr_pc", "stack_base", "stack_bytes", "stack_automatic"):
            r[name] = children[name]
        r["kind"] = np.where(children["template"] == 1, Kind.TEMPLATE, Kind.ORDINARY)
        r["template"], r["queued_instance"] = -1, -1
        r["grant_count"] = grant_counts
        r["grant_first"] = self.grants.append(grants) + firsts_of(grant_counts)
        r["largest_range"] = largest_of(grants, grant_counts)
        watched_counts = children["watched_count"]
        watched = births.child_ranges.take(expand(children["watched_first"], watched_counts))
        r["watched_count"] = watched_counts
        r["watched_first"] = self.watched.append(watched) + firsts_of(watched_counts)
        self.table.words[rows] = words_of(r)

    def _register_images(self, rows: NDArray[np.int64], births: Births) -> None:
        """Copy what creators stored into the stacks of children."""
        counts = births.children["image_count"]
        runs = births.runs.take(expand(births.children["image_first"], counts))
        owner = np.repeat(np.arange(len(counts)), counts)
        bytes_each = np.bincount(owner, weights=runs["length"], minlength=len(counts))
        data_counts = bytes_each.astype(np.int64)
        data = births.data[expand(runs["data_first"], runs["length"])]
        data_firsts = firsts_of(data_counts)
        runs["data_first"] = firsts_of(runs["length"]) - data_firsts[owner]
        table = self.table.rows
        table["image_count"][rows], table["image_data_count"][rows] = counts, data_counts
        table["image_first"][rows] = self.image_runs.append(runs) + firsts_of(counts)
        table["image_data_first"][rows] = self.image_data.append(data) + data_firsts

    def end(self, rows: NDArray[np.int64]) -> None:
        """Free rows of runners that ended; templates go with their last instance."""
        if len(rows) == 0:
            return
        table = self.table.rows
        owned = self._release(rows)
        if owned[row_loops.LOSERS]:
            for row in rows[table["losses"][rows] > 0].tolist():
                self.reservations.forget(row)
        self.table.apply(rows, Event.ENDED)
        if owned[row_loops.INSTANCES]:
            last = np.empty(owned[row_loops.INSTANCES], np.int64)
            ended = np.ascontiguousarray(rows, np.int64)
            last = last[: instance_loops.end(self.table.words, ended, last)]
            self.end_templates(np.sort(last))

    def end_templates(self, rows: NDArray[np.int64]) -> None:
        """Free those of the template rows that are deleted and have no instance left."""
        if len(rows) == 0:
            return
        t = self.table.rows.take(rows)
        # numpy asks members of enumerations that it compares with for attributes, for 5 us.
        done = rows[(t["state"] == int(State.DELETED)) & (t["instances"] == 0)]
        self._release(done)
        self.table.apply(done, Event.ENDED)

    def _release(self, rows: NDArray[np.int64]) -> list[int]:
        """Give back what rows own that are no instances: arena rows and automatic stacks.

        Returns the sums of `row_loops.owned`.
        """
        totals = np.zeros(row_loops.OWNED_COUNT, np.int64)
        stacks = np.empty(len(rows), np.int64)
        row_loops.owned(self.table.words, np.ascontiguousarray(rows, np.int64), stacks, totals)
        owned: list[int] = totals.tolist()
        self.grants.release(owned[row_loops.GRANTS])
        self.watched.release(owned[row_loops.WATCHED])
        self.image_runs.release(owned[row_loops.IMAGES])
        self.image_data.release(owned[row_loops.IMAGE_DATA])
        if owned[row_loops.STACKS]:
            self.leases.end_stacks(stacks[: owned[row_loops.STACKS]])
        return owned

    def compact(self) -> None:
        """Close the gaps in the arenas when they are mostly garbage."""
        if self.grants.wants_compaction:
            self._compact_ranges(self.grants, row_loops.GRANT_FIRST, row_loops.GRANT_COUNT)
        if self.watched.wants_compaction:
            self._compact_ranges(self.watched, row_loops.WATCHED_FIRST, row_loops.WATCHED_COUNT)
        for arena, name in ((self.image_runs, "image"), (self.image_data, "image_data")):
            if arena.wants_compaction:
                self._compact(arena, f"{name}_first", f"{name}_count")

    def _compact_ranges(self, arena: RowArena, first: int, count: int) -> None:
        """Close the gaps in an arena of ranges, whose owners name theirs in two columns."""
        kept = np.empty(arena.used - arena.garbage, RANGE)
        words = words_of(arena.rows)
        row_loops.compact(self.table.words, first, count, words, words_of(kept))
        arena.replace(kept)

    def _compact(self, arena: RowArena, first: str, count: str) -> None:
        table = self.table.rows
        owns = (table["state"] != State.FREE) & (table["kind"] != Kind.INSTANCE)
        owners = np.flatnonzero(owns)
        table[first][owners] = arena.compact(table[first][owners], table[count][owners])
        borrowers = np.flatnonzero(
            (table["state"] != State.FREE) & (table["kind"] == Kind.INSTANCE)
        )
        table[first][borrowers] = table[first][table["template"][borrowers]]

    def check_invariants(self) -> None:
        """Assert that the tables agree with each other."""
        self.table.check_invariants()
        self.leases.check_invariants()
        state = self.table.rows["state"]
        assert int((state == State.RUNNING).sum()) == self.running_count
        assert int((state == State.HELD).sum()) == len(self.held)
        waiting = np.isin(state, (State.WAITING, State.CANCELLED)).sum()
        self.front.check_invariants()
        queued = self.startable_count + len(self.solo) + len(self.chosen) + len(self.blocked)
        assert waiting == queued
        pinned = (state == State.RUNNING) | (state == State.HELD)
        epochs = self.table.rows["snapshot"][pinned].tolist()
        for rows in self.given_up.values():
            epochs += rows["snapshot"].tolist()
        assert sorted(set(epochs)) == list(self.pins.epochs)
        assert len(epochs) == len(self.pins), "every attempt under way holds one pin"
        assert not (self.ready & (self.suspected | self.lost)).any()
        assert self.foreseen in {0, self.log.visible + 1}
        ordered = int((state == State.ORDERED).sum())
        assert ordered == sum(len(rows) for p in self.pending.values() for rows in p.ordered)
