"""Workers and homes without engines and memory: they say to a coordinator what ranks would say.

Everything goes as a buffer in the wire's form. Runners own a cell of eight bytes each, which they
declare and store to, so nobody loses; a child is given the cell of a runner that has ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.control.coordinator_state import ToHome, ToWorker
from dvm_mpi.control.messages import RECORD, Dispatched, Finished, LeaseGranted, LeaseRequested
from dvm_mpi.control.scheduler import Scheduler, Started, Ticked
from dvm_mpi.control.wire import decode, encode
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.messages import ApplyRequested, EpochApplied
from dvm_mpi.engine.interface import CHILD, OUTCOME, RUN, LeaseKind
from dvm_mpi.layout import DATA_START, GUARD_BYTES, PAGE_BYTES, RANGE, TEXT_START, stack_slot_bytes

Ints = NDArray[np.int64]
Buffer = NDArray[np.uint8]

STACK_BYTES: Final = 4_096
CELL_BYTES: Final = 64
#: Cells of runners, those of watchers, and those that are watched lie this far apart.
_AREA_BYTES: Final = 1 << 36
_LOADED: Final = 1
#: One record in so many creates a runner, and one in so many hits a watcher.
CHILD_EVERY: Final = 10
WATCHER_EVERY: Final = 100
#: What each attempt is said to have executed.
INSTRUCTIONS: Final = 64
#: Microseconds from one message to the next.
_STEP_US: Final = 1_000
_CHILDREN_AT_ONCE: Final = 65_536


class Crowd:
    """The ranks of a coordinator.

    Parameters
    ----------
    batch
        Records of one message.
    """

    #: How buffers become messages and the other way; a caller may time them.
    decode: Callable[[Buffer], Any]
    encode: Callable[[Any], Buffer]

    def __init__(self, batch: int, workers: int = 4, homes: int = 2) -> None:
        self.decode, self.encode = decode, encode
        self._batch = batch
        self._homes = homes
        self.scheduler = Scheduler(Geometry(homes), workers, STACK_BYTES, _LOADED)
        #: Attempts that run, by worker, in order of dispatch: numbers, rows, cells.
        self._running: list[deque[tuple[Ints, Ints, Ints]]] = [deque() for _ in range(workers)]
        self._serving = 0
        self._acknowledged: list[Buffer] = []
        self._now_us = 0
        self._records = 0
        self._free_cells = np.zeros(0, np.int64)
        self._next_cell = 0
        self._watched = 0
        self._next_hit = 0
        #: Addresses that were leased, by kind: where the next one lies, and behind the last.
        self._leases: dict[int, deque[tuple[int, int]]] = {
            int(LeaseKind.ID): deque(),
            int(LeaseKind.STACK): deque(),
        }
        self._strides = {
            int(LeaseKind.ID): PAGE_BYTES,
            int(LeaseKind.STACK): stack_slot_bytes(STACK_BYTES),
        }
        self._random = np.random.default_rng(1)
        self._wanted = 0
        self.receive(self._encoded(self.scheduler.handle(Started(TEXT_START, _ranges(0, 0, 0)))))

    # --- the coordinator's side: this is what is timed ------------------------------------------
    def take(self, buffers: Sequence[Buffer]) -> list[tuple[int, Buffer]]:
        """Hand in what has come, let time pass, and return what goes out: receivers, buffers."""
        out: list[tuple[int, Buffer]] = []
        handle = self.scheduler.handle
        for buffer in buffers:
            out += self._encoded(handle(self.decode(buffer)))
        out += self._encoded(handle(Ticked(self._now_us)))
        return out

    def _encoded(self, actions: Sequence[Any]) -> list[tuple[int, Buffer]]:
        encode = self.encode
        return [
            (action.worker if isinstance(action, ToWorker) else -1 - action.home,
             encode(action.message))
            for action in actions
            if isinstance(action, ToWorker | ToHome)
        ]  # fmt: skip

    # --- the ranks' side ------------------------------------------------------------------------
    def receive(self, out: Sequence[tuple[int, Buffer]]) -> int:
        """Take what the coordinator says; return how many epochs wait to be acknowledged."""
        for receiver, buffer in out:
            message = decode(buffer)
            if isinstance(message, Dispatched):
                firsts = message.attempts["grant_first"]
                has_cell = message.attempts["grant_count"] > 0
                cells = np.full(len(firsts), DATA_START, np.int64)
                cells[has_cell] = message.grants["start"][firsts[has_cell]]
                parts = message.numbers.copy(), message.attempts["runner"].copy(), cells
                self._running[receiver].append(parts)
            elif isinstance(message, ApplyRequested):
                home = -1 - receiver
                assert int(message.runs["length"].sum()) == message.data.size
                self._acknowledged.append(encode(EpochApplied(home, message.epoch, 0)))
            else:
                assert isinstance(message, LeaseGranted)
                self._leases[message.kind].append((message.start, message.end))
        return len(self._acknowledged)

    def applied_buffers(self) -> list[Buffer]:
        """Return what homes have to say."""
        buffers, self._acknowledged = self._acknowledged, []
        self._now_us += _STEP_US
        return buffers

    def next_buffers(self) -> list[Buffer]:
        """Return what comes in next: homes' acknowledgements, and one message of records."""
        buffers = self.applied_buffers()
        numbers, rows, cells = self._take_attempts(self._batch)
        positions = self._records + np.arange(self._batch)
        self._records += self._batch
        starts = cells.copy()
        if self._watched:
            hits = np.flatnonzero(positions % WATCHER_EVERY == 0)
            targets = (self._next_hit + np.arange(hits.size)) % self._watched
            self._next_hit += hits.size
            starts[hits] = _watched_address(targets)
        self._give_back(cells)
        child_counts = (positions % CHILD_EVERY == 0).astype(np.int64)
        children, child_ranges, asks = self._children(int(child_counts.sum()), watched=False)
        worker = self._serving
        finished = _finished(worker, numbers, rows, starts, child_counts, children, child_ranges)
        return [*buffers, *asks, encode(finished)]

    def family_buffers(self, count: int) -> list[Buffer]:
        """Return the message of one attempt that has created so many runners."""
        return self._births(count, watched=False)

    def step(self) -> None:
        """Let one message be handled, and its answers be received."""
        self.receive(self.take(self.next_buffers()))

    def populate(self, runners: int = 0, watchers: int = 0) -> None:
        """Create runners and watchers, and wait until all are there."""
        self._wanted += runners
        for total, watched in ((runners, False), (watchers, True)):
            for first in range(0, total, _CHILDREN_AT_ONCE):
                count = min(_CHILDREN_AT_ONCE, total - first)
                self.receive(self.take(self._births(count, watched=watched)))
                self._settle()
        self._warm_up()
        self.refill()

    def _warm_up(self) -> None:
        """Let batches grow to their size: at first nobody knows how short runners are."""
        whole = self._batch
        while self.scheduler.state.lengths.batch_runners < whole:
            self._batch = max(map(_count, self._running))
            self.step()
            self.receive(self.take(self._births(whole, watched=False)))
            self._settle()
        self._batch = whole

    def refill(self) -> None:
        """Create runners in place of those that have ended: so many wait, beside those that run."""
        while True:
            missing = self._wanted - self.scheduler.queued_count
            if missing <= 0 and min(map(_count, self._running)) >= self._batch:
                return
            count = min(_CHILDREN_AT_ONCE, max(missing, self._batch // 4))
            self.receive(self.take(self._births(count, watched=False)))
            self._settle()

    def check(self) -> None:
        """Assert that the coordinator's tables agree, and that nobody has lost."""
        self._settle()
        assert self.scheduler.counters.retries == 0, "cells are shared"
        assert self._watched == 0 or self.scheduler.counters.watcher_firings > 0
        self.scheduler.check_invariants()

    @property
    def is_visible(self) -> bool:
        """Whether everything that was committed is visible."""
        log = self.scheduler.state.log
        return log.open_records == 0 and log.epochs_in_flight == 0

    def _settle(self) -> None:
        while not self.is_visible:
            self.receive(self.take(self.applied_buffers()))

    def _take_attempts(self, count: int) -> tuple[Ints, Ints, Ints]:
        """Take so many of one worker, in its order; the next worker is another one."""
        for _ in self._running:
            self._serving = (self._serving + 1) % len(self._running)
            queue = self._running[self._serving]
            if _count(queue) >= count:
                break
        else:
            raise AssertionError("no worker runs so many")
        taken: list[tuple[Ints, Ints, Ints]] = []
        while count:
            part = queue.popleft()
            taken.append((part[0][:count], part[1][:count], part[2][:count]))
            if len(part[0]) > count:
                queue.appendleft((part[0][count:], part[1][count:], part[2][count:]))
            count -= len(taken[-1][0])
        numbers, rows, cells = (np.concatenate(column) for column in zip(*taken, strict=True))
        return numbers, rows, cells

    def _births(self, count: int, *, watched: bool) -> list[Buffer]:
        """Return the message of one attempt that has created so many."""
        numbers, rows, cells = self._take_attempts(1)
        self._give_back(cells)
        children, child_ranges, asks = self._children(count, watched=watched)
        counts = np.array([count])
        worker = self._serving
        message = _finished(worker, numbers, rows, cells, counts, children, child_ranges)
        self._now_us += _STEP_US
        return [*asks, encode(message)]

    def _children(
        self, count: int, *, watched: bool
    ) -> tuple[NDArray[Any], NDArray[Any], list[Buffer]]:
        """Return children, their ranges, and requests for the addresses of the next ones."""
        children = np.zeros(count, CHILD)
        for kind, name in ((LeaseKind.ID, "id"), (LeaseKind.STACK, "stack_base")):
            children[name] = self._addresses(kind, count)
        children["stack_base"] += GUARD_BYTES
        children["stack_bytes"], children["stack_automatic"] = STACK_BYTES, 1
        children["entry"], children["newr_pc"] = TEXT_START + 64, TEXT_START
        places = np.arange(count, dtype=np.int64)
        child_ranges = np.zeros(2 * count if watched else count, RANGE)
        child_ranges["length"] = 8
        children["heap_first"], children["heap_count"] = places, 1
        if watched:
            # Their own cells lie apart: every instance stores there.
            cells = DATA_START + _AREA_BYTES + CELL_BYTES * (self._watched + places)
            child_ranges["start"][:count] = cells
            child_ranges["start"][count:] = _watched_address(self._watched + places)
            children["watched_first"], children["watched_count"] = count + places, 1
            children["template"] = 1
            self._watched += count
        else:
            child_ranges["start"][:count] = self._cells(count)
        return children, child_ranges, self._asks()

    def _give_back(self, cells: Ints) -> None:
        """Let children have the cells of runners that have ended; a watcher's stay its own."""
        given = cells[cells < DATA_START + _AREA_BYTES]
        self._free_cells = np.concatenate([self._free_cells, given])

    def _cells(self, count: int) -> Ints:
        """Return addresses of cells of their own, those of ended runners first."""
        reused, self._free_cells = self._free_cells[:count], self._free_cells[count:]
        fresh = count - reused.size
        # Runners that follow each other are not neighbours in memory.
        numbers = self._next_cell + self._random.permutation(fresh)
        self._next_cell += fresh
        return np.concatenate([reused, DATA_START + CELL_BYTES * (1 + numbers)])

    def _addresses(self, kind: LeaseKind, count: int) -> Ints:
        """Take addresses from leases; more are asked for at once where they do not suffice."""
        leases, stride = self._leases[int(kind)], self._strides[int(kind)]
        parts: list[Ints] = []
        while count:
            if not leases:
                asked = encode(LeaseRequested(0, int(kind), 0))
                self.receive(self._encoded(self.scheduler.handle(decode(asked))))
            start, end = leases.popleft()
            taken = min(count, (end - start) // stride)
            parts.append(start + stride * np.arange(taken, dtype=np.int64))
            if start + taken * stride < end:
                leases.appendleft((start + taken * stride, end))
            count -= taken
        return np.concatenate([np.zeros(0, np.int64), *parts])

    def _asks(self) -> list[Buffer]:
        """Ask for the next lease in time, as workers do."""
        return [
            encode(LeaseRequested(0, kind, 0))
            for kind, leases in self._leases.items()
            if sum(end - start for start, end in leases) < 256 * self._strides[kind]
        ]


def _count(parts: Collection[tuple[Ints, Ints, Ints]]) -> int:
    """Return how many attempts these are together."""
    return sum(len(numbers) for numbers, _, _ in parts)


def _watched_address(numbers: Ints) -> Ints:
    return np.asarray(DATA_START + 2 * _AREA_BYTES + CELL_BYTES * numbers)


def _ranges(start: int, length: int, count: int) -> NDArray[Any]:
    return np.array([(start, length)] * count, dtype=RANGE)


def _finished(
    worker: int,
    numbers: Ints,
    rows: Ints,
    starts: Ints,
    child_counts: Ints,
    children: NDArray[Any],
    child_ranges: NDArray[Any],
) -> Finished:
    """Return a message of attempts that store a word each and commit."""
    count = len(numbers)
    places = np.arange(count, dtype=np.int64)
    records = np.zeros(count, RECORD)
    records["attempt"] = numbers
    outcomes = np.zeros(count, OUTCOME)
    outcomes["runner"], outcomes["instructions"] = rows, INSTRUCTIONS
    outcomes["run_first"], outcomes["run_count"] = places, 1
    outcomes["child_first"] = np.cumsum(child_counts) - child_counts
    outcomes["child_count"] = child_counts
    outcomes["trap"], outcomes["trap_address"], outcomes["exit_pc"] = -1, -1, TEXT_START
    runs = np.zeros(count, RUN)
    runs["start"], runs["length"], runs["data_first"] = starts, 8, 8 * places
    return Finished(
        worker=worker,
        records=records,
        outcomes=outcomes,
        runs=runs,
        data=np.ones(8 * count, np.uint8),
        children=children,
        child_ranges=child_ranges,
        mallocs=np.zeros(0, RANGE),
        console=np.zeros(0, np.uint8),
        dropped_stacks=np.zeros(0, np.int64),
        effort=INSTRUCTIONS * count,
        traps="",
        fetched_bytes=0,
    )
