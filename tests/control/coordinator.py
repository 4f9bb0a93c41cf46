"""A scheduler whose workers and homes are played by the test, event by event.

Runners are told apart by their entry: a test names entries `A`, `B` and so on. The invariants of
all parts are checked after every event.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np

from dvm_mpi.config import BATCH_FUEL, MOVED_BYTES_PER_US, NEAR_WAIT_US, RUNNER_FUEL
from dvm_mpi.control.coordinator_state import (
    Action,
    Claim,
    Complete,
    Print,
    RecordGivenUp,
    RecordOrder,
    ToHome,
    ToLeader,
    ToWorker,
)
from dvm_mpi.control.leader import Leader, Tree
from dvm_mpi.control.messages import RECORD, BatchesDealt, Dispatched, Finished, Message
from dvm_mpi.control.policies import Placement
from dvm_mpi.control.scheduler import Scheduler, SchedulerEvent, Started, Ticked
from dvm_mpi.control.validation import ConflictUnit, Isolation
from dvm_mpi.control.wire import decode, encode
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.messages import (
    LOCATED,
    ApplyRequested,
    DiscardRequested,
    EpochApplied,
    PinsMoved,
    StagingEnded,
)
from dvm_mpi.engine.interface import CHILD, LEASES, OUTCOME, RUN, End, LeaseKind
from dvm_mpi.layout import GUARD_BYTES, PAGE_BYTES, RANGE, STATUS_AREAS, TEXT_START

STACK_BYTES = 8192
#: The loaded program.
LOADED = 1
#: Entries: what a runner is known by.
FIRST, A, B, C, D, E, F, G = (TEXT_START + 0x100 * n for n in range(8))
#: Cells of the program's data, each on a page of its own; their homes alternate.
X, Y, Z = (0x4_4000_0000 + 16 * PAGE_BYTES * n for n in range(3))

Span = tuple[int, int]


@dataclass(frozen=True)
class Attempt:
    """One dispatched attempt, as its worker knows it."""

    number: int
    worker: int
    snapshot: int
    row: int
    id: int
    entry: int
    grants: tuple[Span, ...]
    image: dict[int, int]
    stack: Span


@dataclass
class Child:
    """A runner that an attempt creates; a watcher if `watched` is not None."""

    entry: int
    watched: Sequence[Span] | None = None
    heap: Sequence[Span] = ()
    #: An explicit stack, or None for an automatic one.
    stack: Span | None = None
    image: Sequence[tuple[int, bytes]] = ()


@dataclass
class Ends:
    """How an attempt ends; a store is `(address, bytes)`, or an address for eight of them."""

    attempt: Attempt
    end: End = End.COMMIT
    stores: Sequence[int | tuple[int, bytes]] = ()
    children: Sequence[Child] = ()
    console: bytes = b""
    serial: int = 0
    trap: int = -1
    #: What it observed of its snapshot, `(address, length)`.
    loads: Sequence[Span] = ()


@dataclass
class Coordinator:
    """Drives one scheduler."""

    workers: int = 4
    homes: int = 2
    #: Whether all workers may be sent runners from the start.
    workers_ready: bool = True
    isolation: Isolation = "snapshot"
    conflict_unit: ConflictUnit = "byte"
    deterministic: bool = False
    #: Runners per batch that the scheduler believes to be right.
    batch: int = 256
    #: Attempts that run, by number, in the order of dispatch.
    running: dict[int, Attempt] = field(default_factory=dict)
    #: Closed epochs that homes have not acknowledged.
    applying: deque[tuple[int, ApplyRequested]] = field(default_factory=deque)
    discarded: list[tuple[int, tuple[int, int]]] = field(default_factory=list)
    #: What homes were told of lost workers, and of pins: `(home, message)`.
    told: list[tuple[int, StagingEnded | PinsMoved]] = field(default_factory=list)
    given_up: list[int] = field(default_factory=list)
    printed: list[bytes] = field(default_factory=list)
    orders: list[RecordOrder] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    complete: Complete | None = None
    batches: list[tuple[int, int]] = field(default_factory=list)
    #: Runners go wherever there is room, unless a test asks for more.
    placement: Placement = "load"
    near_wait_us: int = NEAR_WAIT_US
    moved_bytes_per_us: int = MOVED_BYTES_PER_US
    #: A few runners are shared out too, and wait for nobody.
    share_fuel_min: int = 0
    #: Through whom workers are sent batches, and those messages with their leaders.
    tree: Tree | None = None
    dealt: list[tuple[int, BatchesDealt]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scheduler = Scheduler(
            Geometry(self.homes),
            self.workers,
            STACK_BYTES,
            LOADED,
            workers_ready=self.workers_ready,
            isolation=self.isolation,
            conflict_unit=self.conflict_unit,
            deterministic=self.deterministic,
            placement=self.placement,
            near_wait_us=self.near_wait_us,
            moved_bytes_per_us=self.moved_bytes_per_us,
            share_fuel_min=self.share_fuel_min,
            tree=self.tree,
        )
        # A runner is short here, so that batches are as large as a test wants them.
        lengths = self.scheduler.state.lengths
        lengths.observe = lambda *_: None  # type: ignore[method-assign]
        lengths.observe_one = lambda *_: None  # type: ignore[method-assign]
        lengths.all.mean = BATCH_FUEL / self.batch - RUNNER_FUEL
        self._ids = (STATUS_AREAS[0][0] + PAGE_BYTES * n for n in count(1))
        self._stacks = self._stack_bases()
        self.handle(Started(FIRST, np.array([(X, 64 * PAGE_BYTES)], dtype=RANGE)))

    # --- events ---------------------------------------------------------------------------------
    def handle(self, event: SchedulerEvent) -> tuple[Action, ...]:
        """Give the scheduler one event, and take up what it wants done."""
        actions = self.scheduler.handle(event)
        for action in actions:
            if isinstance(action, ToWorker):
                if isinstance(action.message, Dispatched):
                    self._dispatched(action.worker, action.message)
            elif isinstance(action, ToLeader):
                self._led(action.leader, action.message)
            elif isinstance(action, ToHome):
                self._told_home(action.home, action.message)
            elif isinstance(action, Print):
                self.printed.append(action.data.tobytes())
            elif isinstance(action, RecordOrder):
                self.orders.append(action)
            elif isinstance(action, RecordGivenUp):
                self.given_up += action.numbers.tolist()
            elif isinstance(action, Claim):
                self.claims.append(action)
            else:
                assert self.complete is None
                assert isinstance(action, Complete)
                self.complete = action
        self.scheduler.check_invariants()
        return actions

    def _told_home(self, home: int, message: Message) -> None:
        if isinstance(message, ApplyRequested):
            self.applying.append((home, message))
        elif isinstance(message, StagingEnded | PinsMoved):
            self.told.append((home, message))
        else:
            assert isinstance(message, DiscardRequested)
            tokens = message.tokens[["worker", "serial"]].tolist()
            self.discarded += [(home, token) for token in tokens]

    def _led(self, leader: int, message: Message) -> None:
        """Take what a leader hands on, as it hears it."""
        heard = decode(encode(message))
        if isinstance(heard, BatchesDealt):
            self.dealt.append((leader, heard))
        taken = Leader(self.scheduler.state.log._geometry)
        taken.take(0, heard)
        for rank, one in taken.hand_on():
            if isinstance(one, Dispatched):
                self._dispatched(rank, one)
            else:
                assert isinstance(one, ApplyRequested)
                self.applying.append((rank, one))

    def _dispatched(self, worker: int, message: Dispatched) -> None:
        self.batches.append((worker, len(message.attempts)))
        for number, row in zip(message.numbers.tolist(), message.attempts, strict=True):
            grants = message.grants[int(row["grant_first"]) :][: int(row["grant_count"])]
            runs = message.image_runs[int(row["image_first"]) :][: int(row["image_count"])]
            image = {
                start + i: int(message.image_data[first + i])
                for start, length, first in runs.tolist()
                for i in range(length)
            }
            assert message.snapshot == int(row["snapshot"])
            assert message.snapshot <= self.visible
            self.running[number] = Attempt(
                number,
                worker,
                message.snapshot,
                int(row["runner"]),
                int(row["id"]),
                int(row["entry"]),
                tuple((g["start"].item(), g["length"].item()) for g in grants),
                image,
                (int(row["stack_base"]), int(row["stack_bytes"])),
            )

    def finish(self, *ends: Ends) -> None:
        """Report attempts of one worker, in one message."""
        for e in ends:
            del self.running[e.attempt.number]
        self.handle(self.record(*ends))

    def ends(self, attempt: Attempt, end: End = End.COMMIT, **rest: Any) -> None:
        """Report one attempt."""
        self.finish(Ends(attempt, end, **rest))

    def apply(self, times: int | None = None) -> None:
        """Let homes acknowledge the oldest requests: so many, or until there are none."""
        while self.applying and times != 0:
            home, request = self.applying.popleft()
            self.handle(EpochApplied(home, request.epoch, 0))
            times = None if times is None else times - 1

    @staticmethod
    def applied(home: int, epoch: int, frames: Sequence[tuple[int, int]]) -> EpochApplied:
        """Return what a home says of an epoch that has changed these pages: `(page, frame)`."""
        located = [(page, home, frame, epoch) for page, frame in frames]
        return EpochApplied(home, epoch, 0, np.array(located, LOCATED))

    def tick(self, now_us: int) -> None:
        """Let it be `now_us`."""
        self.handle(Ticked(now_us))

    # --- looking --------------------------------------------------------------------------------
    def runs(self, entry: int) -> list[Attempt]:
        """Return the running attempts that began at `entry`, oldest first."""
        return [a for a in self.running.values() if a.entry == entry]

    def one(self, entry: int) -> Attempt:
        """Return the only running attempt that began at `entry`."""
        (found,) = self.runs(entry)
        return found

    @property
    def has_ended(self) -> bool:
        """Whether the scheduler said that the program is complete."""
        return self.complete is not None

    @property
    def visible(self) -> int:
        """The newest visible epoch."""
        return self.scheduler.state.log.visible

    @property
    def order(self) -> list[int]:
        """Attempt numbers in commit order."""
        return [number for order in self.orders for number in order.numbers.tolist()]

    # --- records --------------------------------------------------------------------------------
    def record(self, *ends: Ends) -> Finished:
        """Build the message that tells these ends."""
        outcomes, records = np.zeros(len(ends), dtype=OUTCOME), np.zeros(len(ends), dtype=RECORD)
        runs: list[tuple[int, int, int]] = []
        data, console = bytearray(), bytearray()
        children: list[Any] = []
        ranges: list[Span] = []
        loads: list[tuple[int, int, int]] = []
        for position, e in enumerate(ends):
            records[position] = e.attempt.number, e.serial
            o = outcomes[position]
            o["runner"], o["end"], o["instructions"] = e.attempt.row, e.end, 1
            o["trap"], o["trap_pc"], o["trap_address"] = e.trap, e.attempt.entry, -1
            o["run_first"], o["run_count"] = len(runs), len(e.stores)
            for store in sorted(s if isinstance(s, tuple) else (s, b"\1" * 8) for s in e.stores):
                runs.append((store[0], len(store[1]), -1 if e.serial else len(data)))
                data += store[1] if not e.serial else b""
            o["load_first"], o["load_count"] = len(loads), len(e.loads)
            loads += [(start, length, -1) for start, length in e.loads]
            o["console_first"], o["console_count"] = len(console), len(e.console)
            console += e.console
            o["child_first"], o["child_count"] = len(children), len(e.children)
            children += [self._child(c, ranges) for c in e.children]
            for child, row in zip(
                e.children, children[len(children) - len(e.children) :], strict=True
            ):
                row["image_first"] = len(runs) if child.image else 0
                for start, content in child.image:
                    runs.append((row["stack_base"].item() + start, len(content), len(data)))
                    data += content
        return Finished(
            worker=ends[0].attempt.worker,
            records=records,
            outcomes=outcomes,
            runs=np.array(runs, dtype=RUN),
            data=np.frombuffer(bytes(data), dtype=np.uint8),
            children=np.array(children, dtype=CHILD),
            child_ranges=np.array(ranges, dtype=RANGE),
            mallocs=np.zeros(0, dtype=RANGE),
            dropped_stacks=np.zeros(0, dtype=np.int64),
            console=np.frombuffer(bytes(console), dtype=np.uint8),
            traps="",
            fetched_bytes=0,
            effort=int(outcomes["instructions"].sum()),
            loads=np.array(loads, dtype=RUN),
            leases=np.zeros(len(ends) if self.deterministic else 0, dtype=LEASES),
        )

    def _stack_bases(self) -> Iterator[int]:
        """Yield automatic stacks from leases, as workers hand them out."""
        while True:
            lease = self.scheduler.state.leases.lease(LeaseKind.STACK)
            yield from range(lease.start + GUARD_BYTES, lease.end, GUARD_BYTES + STACK_BYTES)

    def _child(self, child: Child, ranges: list[Span]) -> Any:
        row = np.zeros((), dtype=CHILD)
        row["id"], row["entry"], row["newr_pc"] = next(self._ids), child.entry, FIRST
        automatic = child.stack is None
        row["stack_base"] = next(self._stacks) if child.stack is None else child.stack[0]
        row["stack_bytes"] = STACK_BYTES if child.stack is None else child.stack[1]
        row["stack_automatic"] = automatic
        for name, declared in (("heap", child.heap), ("watched", child.watched or ())):
            spans = [span for span in declared if span[1]]
            row[f"{name}_first"], row[f"{name}_count"] = len(ranges), len(spans)
            ranges += spans
        row["template"] = child.watched is not None
        row["image_count"] = len(child.image)
        return row


def with_children(*children: Child, workers: int = 4, **options: Any) -> Coordinator:
    """Return a machine in which the first runner has created `children` and ended.

    `options` are fields of Coordinator.
    """
    c = Coordinator(workers=workers, **options)
    c.ends(c.one(FIRST), children=children)
    c.apply()
    return c


def lose(c: Coordinator, loser: int, winner: int, times: int, place: int = X) -> Attempt:
    """Let runners at `winner` beat the one at `loser` in storing to `place`.

    Each winner creates the next one.

    Returns the loser's next attempt.
    """
    for _ in range(times):
        attempt = c.one(loser)
        c.ends(c.one(winner), stores=[place], children=[Child(winner)])
        c.ends(attempt, stores=[place])
        c.apply()
    return c.one(loser)
