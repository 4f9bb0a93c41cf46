"""One attempt under the reference engine, and how its end becomes rows of an outcome batch."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

import numpy as np

from dvm_mpi.engine.interface import (
    CHILD,
    LEASES,
    OUTCOME,
    RUN,
    End,
    LoadTracking,
    OutcomeBatch,
    TrapDetail,
    TrapKind,
)
from dvm_mpi.engine.lease_blocks import AttemptLeases, LeaseBlocks
from dvm_mpi.engine.reference_memory import AttemptMemory, Span
from dvm_mpi.layout import PAGE_BYTES, RANGE
from dvm_mpi.values import dataclass, field

#: `Attempt.trap` of an attempt that did not trap.
NO_TRAP: Final = -1


def _field_of(address: int) -> int:
    """Return what a row's signed field holds for an unsigned address: the same 64 bits."""
    return address - (1 << 64) if address >= 1 << 63 else address


@dataclass(slots=True)
class Child:
    """One runner that the attempt created; spans are `(start, length)`."""

    id: int
    entry: int
    stack: Span
    stack_is_automatic: bool
    heap: list[Span]
    watched: list[Span]
    is_template: bool
    newr_pc: int


@dataclass(slots=True)
class Attempt:
    """The state of one attempt; everything that is gone when it ends."""

    index: int
    runner: int
    id: int
    pc: int
    memory: AttemptMemory
    #: Where ids, stacks and malloc blocks come from: the engine's, or what the attempt brought.
    leases: LeaseBlocks | AttemptLeases
    instructions: int = 0
    #: Bytes that the present `strcmp` has found equal in earlier steps.
    compared: int = 0
    stdin_position: int = 0
    console: bytearray = field(default_factory=bytearray)
    children: list[Child] = field(default_factory=list)
    #: The next `malloc` returns 0: the coordinator had nothing left for it.
    malloc_refused: bool = False
    # How it ended.
    end: End | None = None
    exit_pc: int = -1
    trap: int = NO_TRAP
    trap_pc: int = -1
    trap_address: int = -1

    def end_by_trap(self, kind: TrapKind, address: int) -> None:
        """End the attempt at the present instruction."""
        self.end = End.TRAP
        self.trap = int(kind)
        self.trap_pc = _field_of(self.pc)
        self.trap_address = _field_of(address)


def _add_runs(runs: list[tuple[int, int, int]], data: bytearray, values: dict[int, int]) -> int:
    """Add bytes by address as sorted, joined rows of RUN; return the first row."""
    first = len(runs)
    for address in sorted(values):
        if len(runs) > first and sum(runs[-1][:2]) == address:
            start, length, data_first = runs[-1]
            runs[-1] = (start, length + 1, data_first)
        else:
            runs.append((address, 1, len(data)))
        data.append(values[address])
    return first


@dataclass(slots=True)
class OutcomeLists:
    """Rows of ended attempts, gathered until they are taken."""

    tracking: LoadTracking
    outcomes: list[tuple[int, ...]] = field(default_factory=list)
    runs: list[tuple[int, int, int]] = field(default_factory=list)
    data: bytearray = field(default_factory=bytearray)
    children: list[tuple[int, ...]] = field(default_factory=list)
    child_ranges: list[Span] = field(default_factory=list)
    mallocs: list[Span] = field(default_factory=list)
    console: bytearray = field(default_factory=bytearray)
    loads: list[tuple[int, int, int]] = field(default_factory=list)
    load_data: bytearray = field(default_factory=bytearray)
    dropped_stacks: list[int] = field(default_factory=list)
    traps: dict[int, TrapDetail] = field(default_factory=dict)
    leases: list[tuple[int, ...]] = field(default_factory=list)

    def add(self, attempt: Attempt, detail: TrapDetail | None) -> None:
        """Add one ended attempt; `detail` only for a trap."""
        assert attempt.end is not None, "only an attempt that ended has an outcome"
        stored = sorted(attempt.memory.stored)
        commits = attempt.end in {End.COMMIT, End.COMMIT_DELETE}
        child_pages = attempt.memory.child_stacks
        shared = [a for a in stored if a // PAGE_BYTES not in child_pages]
        if attempt.end in {End.ABORT, End.ABORT_DELETE}:
            shared = [a for a in shared if attempt.id <= a < attempt.id + PAGE_BYTES]
        stored_byte = attempt.memory.stored_byte
        run_first = _add_runs(self.runs, self.data, {a: stored_byte(a) for a in shared})
        run_count = len(self.runs) - run_first
        child_first = len(self.children)
        console_first = len(self.console)
        malloc_first = len(self.mallocs)
        load_first = self._add_loads(attempt.memory.loaded)
        if commits:
            for child in attempt.children:
                self._add_child(attempt.memory, child, stored)
            self.console += attempt.console
            self.mallocs += [block for block in attempt.memory.coverage.mallocs if block[1]]
        else:
            dropped = (child.stack[0] for child in attempt.children if child.stack_is_automatic)
            self.dropped_stacks += dropped
        if isinstance(attempt.leases, AttemptLeases):
            self.leases.append(attempt.leases.row)
        if detail is not None:
            self.traps[len(self.outcomes)] = detail
        self.outcomes.append((
            attempt.runner, int(attempt.end), attempt.instructions,
            run_first, run_count,
            child_first, len(self.children) - child_first,
            console_first, len(self.console) - console_first,
            malloc_first, len(self.mallocs) - malloc_first,
            attempt.stdin_position,
            attempt.trap, attempt.trap_pc, attempt.trap_address, attempt.exit_pc,
            load_first, len(self.loads) - load_first,
        ))  # fmt: skip

    def _add_loads(self, loaded: dict[int, int]) -> int:
        """Add what an attempt observed; return the first row."""
        first = _add_runs(self.loads, self.load_data, loaded)
        if self.tracking is not LoadTracking.CONTENT:
            self.loads[first:] = [(start, length, -1) for start, length, _ in self.loads[first:]]
            self.load_data.clear()
        return first

    def _add_child(self, memory: AttemptMemory, child: Child, stored: list[int]) -> None:
        base, length = child.stack
        image_first = len(self.runs)
        if child.stack_is_automatic:
            first, end = bisect_left(stored, base), bisect_left(stored, base + length)
            stack_bytes = {a: memory.stored_byte(a) for a in stored[first:end]}
            _add_runs(self.runs, self.data, stack_bytes)
        heap_first = len(self.child_ranges)
        self.child_ranges += child.heap
        watched_first = len(self.child_ranges)
        self.child_ranges += child.watched
        self.children.append((
            child.id, _field_of(child.entry), _field_of(base), length,
            int(child.stack_is_automatic),
            heap_first, len(child.heap),
            watched_first, len(child.watched),
            int(child.is_template),
            image_first, len(self.runs) - image_first,
            child.newr_pc,
        ))  # fmt: skip

    def to_batch(self) -> OutcomeBatch:
        """Return the rows as arrays."""
        return OutcomeBatch(
            outcomes=np.array(self.outcomes, dtype=OUTCOME),
            runs=np.array(self.runs, dtype=RUN),
            data=np.frombuffer(bytes(self.data), dtype=np.uint8),
            children=np.array(self.children, dtype=CHILD),
            child_ranges=np.array(self.child_ranges, dtype=RANGE),
            mallocs=np.array(self.mallocs, dtype=RANGE),
            console=np.frombuffer(bytes(self.console), dtype=np.uint8),
            loads=np.array(self.loads, dtype=RUN),
            load_data=np.frombuffer(bytes(self.load_data), dtype=np.uint8),
            dropped_stacks=np.array(self.dropped_stacks, dtype=np.int64),
            traps=self.traps,
            leases=np.array(self.leases, dtype=LEASES),
        )
