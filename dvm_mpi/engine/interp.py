"""The fast engine: pre-decoded records, one compiled loop, snapshot pages in the 64 TiB view.

Python prepares what the loop needs and answers what it asks for; every attempt of a batch is
entered, executed and left in compiled code. Several engines of one process take turns in the
view: whoever runs makes the other set its pages and its attempt aside.
The invariant to remember: while this engine is not in the view, everything it owns is aside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import LONG_SLICE_FUEL, SLICE_FUEL
from dvm_mpi.disa.image import Image
from dvm_mpi.engine import counting_entries, entries, tally, trap_text
from dvm_mpi.engine.address_space import CACHED, DIRTY, READ, STATIC, WRITE, AddressSpace
from dvm_mpi.engine.interface import (
    AttemptBatch,
    EngineSettings,
    Exit,
    Lease,
    LeaseKind,
    OutcomeBatch,
    Reason,
    TrapDetail,
    TrapKind,
    gathered,
)
from dvm_mpi.engine.lease_blocks import LeaseBlocks, automatic_stack_bytes
from dvm_mpi.engine.page_cache import PageCache
from dvm_mpi.engine.parking import ParkedAttempt, copy_attempt, restore_attempt
from dvm_mpi.engine.predecode import CELLS_PAGE, Program
from dvm_mpi.engine.state import ATTEMPT_FIELDS, LEASE_FIELDS, Buffers, Field, List, Phase, Stop
from dvm_mpi.engine.tiers import Tiers
from dvm_mpi.layout import PAGE_BYTES, stack_slot_bytes

if TYPE_CHECKING:
    from dvm_mpi.engine.native_code import LoadedUnit, NativeCode

#: After so many automatic stacks, of runners that ran or were created, all that they have left in
#: the system's tables is given back: flags, and tables of pages that hold nothing any more.
_STACKS_REMEMBERED: Final = 1 << 17

#: Instructions, more than ever are executed.
_UNLIMITED: Final = 1 << 62

#: Where each kind of lease is in the state: next address, end of the block.
_LEASE_FIELDS: Final = {
    LeaseKind.ID: (Field.ID_NEXT, Field.ID_END),
    LeaseKind.STACK: (Field.STACK_NEXT, Field.STACK_LEASE_END),
    LeaseKind.MALLOC: (Field.MALLOC_NEXT, Field.MALLOC_LEASE_END),
}
#: The lists behind the fields of an OutcomeBatch.
_TAKEN: Final = {
    "outcomes": List.OUTCOMES,
    "runs": List.RUNS,
    "data": List.DATA,
    "children": List.ENDED_CHILDREN,
    "child_ranges": List.ENDED_RANGES,
    "mallocs": List.ENDED_MALLOCS,
    "console": List.ENDED_CONSOLE,
    "loads": List.LOADS,
    "load_data": List.LOAD_DATA,
    "dropped_stacks": List.DROPPED_STACKS,
    "leases": List.ENDED_LEASES,
}
_REASONS: Final = {
    Stop.BATCH_DONE: Reason.BATCH_DONE,
    Stop.SLICE_ENDED: Reason.SLICE_ENDED,
    Stop.PAGE_MISSED: Reason.PAGE_MISSED,
    Stop.SLEEPING: Reason.SLEEPING,
}


def _compiled(settings: EngineSettings) -> tuple[Callable[..., Any], ...]:
    """Return `run`, `clear`, `settle`, `look` and `fill` of the library for these settings."""
    if settings.counts_instructions:
        library = counting_entries
        return library.run, library.clear, library.settle, library.look, library.fill
    return entries.run, entries.clear, entries.settle, entries.look, entries.fill


class InterpEngine:
    """Implements `interface.Engine` with a numba loop."""

    def __init__(self, settings: EngineSettings, native: NativeCode | None = None) -> None:
        """Make an engine; with `native` it takes translated code from there, and asks for more."""
        assert native is None or not settings.counts_instructions, "a profile counts by the loop"
        self._settings = settings
        self._run, self._clear, self._settle, self._look, fill = _compiled(settings)
        self._space = AddressSpace.shared()
        self._cache = PageCache(self._space, settings.cache_bytes, fill, settings.spent_ns)
        self._buffers = Buffers()
        self._state = self._buffers.state
        self._state[Field.FUEL_MAX] = settings.fuel_max
        self._state[Field.LOOP_LEFT] = _UNLIMITED
        self._state[Field.SHARED_COUNT_MAX] = settings.touched_pages_max
        self._state[Field.STACK_BYTES] = automatic_stack_bytes(settings)
        self._state[Field.ALLOW_UNDECLARED] = settings.allow_undeclared
        self._state[Field.LOAD_TRACKING] = settings.loads
        self._state[Field.REFUSES_TIME] = settings.clock is None
        self._leases = LeaseBlocks()
        #: Counts instructions, if that was asked for.
        self._tally: tally.Tally | None = None
        self._program: Program | None = None
        self._native = native
        self._tiers = Tiers()
        #: Units of `native` that have been looked at, and those of them that wait for pages.
        self._units_seen = 0
        self._units_held: list[LoadedUnit] = []
        self._text = b""
        self._image: Image | None = None
        #: What the state's addresses point into: kept alive here.
        self._stdin: NDArray[np.uint8] = np.zeros(1, dtype=np.uint8)
        self._batch: AttemptBatch | None = None
        #: Automatic stacks since all of them were last forgotten, at most.
        self._stacks_seen = 0
        self._parked: dict[int, ParkedAttempt] = {}
        self._next_handle = 1
        #: The running attempt while another engine is in the view.
        self._vacated: ParkedAttempt | None = None
        self._traps: dict[int, TrapDetail] = {}
        #: As in reference.py: pages installed for the instruction that waits, and which it is.
        self._installed_for_miss = 0
        self._installed_at: tuple[int, int] | None = None

    # --- program and batch --------------------------------------------------------------------
    def load(self, image: Image, stdin: bytes) -> None:
        """Take the program and standard input."""
        assert self._program is None, "an engine runs one program"
        if self._settings.counts_instructions:
            self._tally = tally.Tally(len(image.text))
        self._program = Program(image, self._tally)
        self._image, self._text = image, image.text
        self._stdin = np.frombuffer(stdin or b"\0", dtype=np.uint8)
        self._state[Field.STDIN] = self._stdin.ctypes.data
        self._state[Field.STDIN_BYTES] = len(stdin)
        self._state[Field.TEXT_BYTES] = len(image.text)
        self._state[Field.RECORD_AT] = self._program.record_at.ctypes.data
        if not self._claim():
            self._space.show_text(self._text)
            self._show_static_pages()
        if self._native is not None:
            self._native.join(self)
            self._take_units(self._native)

    # --- translated code ----------------------------------------------------------------------
    def attach(
        self, entries: Mapping[int, int], function: int, static_pages: Iterable[int]
    ) -> None:
        """Enter translated code at these instructions from now on; see `Program.attach`."""
        assert self._program is not None, "load comes before attach"
        self._program.attach(entries, function, static_pages)

    @property
    def native_instructions(self) -> int:
        """How many instructions were executed by translated code."""
        return int(self._state[Field.NATIVE_INSTRUCTIONS])

    @property
    def static_pages(self) -> list[int]:
        """Private pages that records point into."""
        assert self._program is not None, "load comes before its pages"
        return self._program.static_pages

    def _take_units(self, native: NativeCode) -> None:
        """Enter the units that have come from now on, each as soon as its pages are static."""
        assert self._program is not None, "load comes before units"
        waiting = self._units_held + native.units[self._units_seen :]
        self._units_seen = len(native.units)
        self._units_held = []
        pages_before = len(self._program.static_pages)
        for unit in waiting:
            entries = {pc: number for number, pc in enumerate(unit.head.entries)}
            self._program.expect([*unit.head.entries, *unit.head.ways_out])
            if not self._program.knows(entries):
                continue
            if set(unit.head.static_pages) <= set(self._program.static_pages):
                self._program.attach(entries, unit.function, unit.head.static_pages)
                self._tiers.cover(unit.head.addresses)
            else:
                self._units_held.append(unit)
        if len(self._program.static_pages) > pages_before:
            self._show_static_pages()

    def _sample(self, native: NativeCode) -> None:
        """Take a sample of where the running attempt is; ask for code where that is hot."""
        assert self._program is not None, "load comes before run"
        if self._phase == Phase.RUNNING:
            pc = self._program.pc_at(int(self._state[Field.RECORD]))
            if self._tiers.sample(pc):
                native.want(pc, self._program.static_pages)
        if self._units_held:
            self._take_units(native)

    def _execute(self, fuel: int) -> tuple[Stop, int]:
        """Execute up to `fuel` instructions; return why compiled code stopped, and how many."""
        native = self._native
        if native is None:
            return Stop(self._run(self._state, fuel)), int(self._state[Field.EXECUTED])
        native.look()
        state = self._state
        executed, left = 0, SLICE_FUEL if native.ends_slices else LONG_SLICE_FUEL
        while True:
            if len(native.units) > self._units_seen:
                self._take_units(native)
            if self._tiers.is_due:
                self._sample(native)
            given = state[Field.LOOP_LEFT] = min(left, self._tiers.left)
            stop = Stop(self._run(state, fuel - executed))
            interpreted = given - int(state[Field.LOOP_LEFT])
            self._tiers.ran(interpreted)
            left -= interpreted
            executed += int(state[Field.EXECUTED])
            if stop is not Stop.SLICE_ENDED or executed >= fuel or left <= 0:
                return stop, executed

    def begin(self, batch: AttemptBatch) -> None:
        """Take a batch."""
        assert not self._is_running, "an attempt of the last batch is unfinished"
        assert self._state[Field.CURSOR] == self._state[Field.ATTEMPT_COUNT], "unfinished batch"
        arrays = (batch.attempts, batch.grants, batch.image_runs, batch.image_data, batch.leases)
        self._batch = AttemptBatch(*(np.ascontiguousarray(array) for array in arrays))
        self._state[Field.ATTEMPTS] = self._batch.attempts.ctypes.data
        self._state[Field.BATCH_GRANTS] = self._batch.grants.ctypes.data
        self._state[Field.IMAGE_RUNS] = self._batch.image_runs.ctypes.data
        self._state[Field.IMAGE_DATA] = self._batch.image_data.ctypes.data
        leases = self._batch.leases
        self._state[Field.BATCH_LEASES] = leases.ctypes.data if len(leases) else 0
        self._state[Field.CURSOR] = 0
        self._state[Field.ATTEMPT_COUNT] = len(batch.attempts)
        self._buffers.shrink_those_of_attempts()
        self._stacks_seen += len(batch.attempts)

    def run(self, fuel: int) -> Exit:
        """Execute up to `fuel` instructions of the batch."""
        assert self._batch is not None, "begin comes before run"
        self._claim()
        if self._stacks_seen > _STACKS_REMEMBERED and self._phase == Phase.NONE:
            self._space.forget_stacks()
            self._stacks_seen = 0
        executed = 0
        while True:
            stop, ran = self._execute(fuel - executed)
            executed += ran
            ended = self._answer(stop, executed)
            if ended is not None:
                return ended

    def _answer(self, stop: Stop, executed: int) -> Exit | None:
        """Give compiled code what it stopped for, or return what the caller must give."""
        assert self._program is not None, "load comes before run"
        index = int(self._state[Field.INDEX])
        if stop is Stop.LIST_FULL:
            self._grow_full_list()
        elif stop is Stop.CLOCK_WANTED:
            assert self._settings.clock is not None, "without a clock gettime traps"
            self._state[Field.CLOCK_NS] = self._settings.clock()
            self._state[Field.CLOCK_READY] = 1
        elif stop is Stop.DECODE_WANTED:
            self._program.decode_from(int(self._state[Field.DECODE_PC]))
            self._show_static_pages()
        elif stop is Stop.TRAPPED:
            self._traps[self._buffers.count(List.OUTCOMES)] = self._describe_trap()
            self._count_trap()
        elif stop is Stop.LEASE_NEEDED:
            return self._answer_lease(index, executed)
        elif stop is Stop.BATCH_DONE:
            return Exit(Reason.BATCH_DONE, int(self._state[Field.CURSOR]), executed)
        elif stop is Stop.PAGE_MISSED:
            return Exit(
                Reason.PAGE_MISSED, index, executed, page=int(self._state[Field.MISSED_PAGE])
            )
        elif stop is Stop.SLEEPING:
            sleep_us = int(self._state[Field.SLEEP_US])
            return Exit(Reason.SLEEPING, index, executed, sleep_us=sleep_us)
        else:
            return Exit(_REASONS[stop], index, executed)
        return None

    def _grow_full_list(self) -> None:
        rows = int(self._state[Field.FULL_ROWS])
        self._buffers.grow(List(self._state[Field.FULL_LIST]), rows)

    def take_outcomes(self) -> OutcomeBatch:
        """Return the attempts that ended since the last call."""
        taken = dict(zip(_TAKEN, self._buffers.take_all(list(_TAKEN.values())), strict=True))
        self._stacks_seen += len(taken["children"])
        traps, self._traps = self._traps, {}
        return OutcomeBatch(**taken, traps=traps)

    @property
    def _phase(self) -> int:
        # numpy asks members of enumerations that it compares with for attributes, for 10 us.
        return int(self._state[Field.PHASE])

    @property
    def _is_running(self) -> bool:
        return self._vacated is not None or self._phase != Phase.NONE

    @property
    def _place(self) -> tuple[int, int]:
        """The running attempt and how far it is: an instruction that was not completed."""
        return int(self._state[Field.INDEX]), int(self._state[Field.INSTRUCTIONS])

    # --- leases -------------------------------------------------------------------------------
    def grant_lease(self, lease: Lease) -> None:
        """Add addresses to hand out; an empty MALLOC lease refuses the waiting `malloc`."""
        if self._attempts_bring_leases:
            self._claim()
            if lease.start < lease.end:
                at, end = _LEASE_FIELDS[lease.kind]
                self._state[at], self._state[end] = lease.start, lease.end
        else:
            self._take_back_leases()
            self._leases.add(lease)
            self._hand_out_leases()
        if lease.kind is LeaseKind.MALLOC and lease.start >= lease.end:
            self._claim()
            assert self._is_running, "a refusal answers the running attempt"
            self._state[Field.MALLOC_REFUSED] = 1

    @property
    def _attempts_bring_leases(self) -> bool:
        return bool(self._state[Field.BATCH_LEASES])

    def _take_back_leases(self) -> None:
        for kind, (at, end) in _LEASE_FIELDS.items():
            if self._state[end]:
                self._leases.use_up_to(kind, int(self._state[at]))

    def _hand_out_leases(self) -> None:
        for kind, (at, end) in _LEASE_FIELDS.items():
            self._state[at], self._state[end] = self._leases.front(kind)

    def _answer_lease(self, index: int, executed: int) -> Exit | None:
        """Bring forward a leased block that fits; ask the caller for one if there is none."""
        assert self._program is not None, "load comes before run"
        kind = LeaseKind(self._state[Field.WANTED_KIND])
        wanted = int(self._state[Field.WANTED_BYTES])
        pc = self._program.pc_at(int(self._state[Field.RECORD]))
        needs = Exit(Reason.LEASE_NEEDED, index, executed, lease=kind, lease_bytes=wanted, pc=pc)
        if self._attempts_bring_leases:
            return needs
        needed = {
            LeaseKind.ID: PAGE_BYTES,
            LeaseKind.STACK: stack_slot_bytes(self._settings.stack_bytes),
            LeaseKind.MALLOC: wanted,
        }
        self._take_back_leases()
        is_there = self._leases.bring_forward(kind, needed[kind])
        self._hand_out_leases()
        return None if is_there else needs

    # --- traps and reports --------------------------------------------------------------------
    def _describe_trap(self) -> TrapDetail:
        assert self._program is not None, "load comes before run"
        return trap_text.describe(
            self._program.instruction_at(int(self._state[Field.TRAP_PC])),
            self._peek,
            int(self._state[Field.TRAP_ADDRESS]),
            self._covered_ranges(),
            self._settings.touched_pages_max
            if self._state[Field.TRAP] == TrapKind.MEMORY_EXHAUSTED
            else 0,
        )

    def _peek(self, address: int, width: int) -> int | None:
        if address >= 1 << 63:
            return None
        if not self._look(self._state, address, width):
            return None
        return int.from_bytes(self._space.peek(address, width), "little")

    def _covered_ranges(self) -> Iterator[tuple[int, int]]:
        start, end = (int(self._state[f]) for f in (Field.STACK_START, Field.STACK_END))
        yield start, end - start
        for child in self._buffers.rows(List.CHILDREN):
            yield int(child["stack_base"]), int(child["stack_bytes"])
        for grant in self._buffers.rows(List.GRANTS):
            yield int(grant["start"]), int(grant["length"])
        for start, end in self._buffers.rows(List.OTHERS).tolist():
            yield start, end - start
        yield from self._buffers.rows(List.MALLOCS).tolist()

    def undeclared_accesses(self) -> list[tuple[int, int]]:
        """Return the accesses that were first admitted since the last call."""
        return [(pc, address) for pc, address in self._buffers.take(List.UNDECLARED).tolist()]

    # --- a profile ----------------------------------------------------------------------------
    def _count_trap(self) -> None:
        if self._tally is None:
            return
        assert self._program is not None, "load comes before run"
        if self._state[Field.TRAP] != TrapKind.FUEL_EXHAUSTED:
            self._tally.note_trap(int(self._state[Field.TRAP_PC]))
            return
        halt = self._program.halt_at(int(self._state[Field.RECORD]))
        if halt is not None:
            self._tally.note_end_before(halt)

    def instruction_counts(self) -> NDArray[np.int64]:
        """Return how often each instruction was executed so far."""
        program, image = self._program, self._image
        assert program is not None, "load comes before counts"
        assert image is not None
        if self._tally is None:
            return tally.by_row(image, {})
        aside = [*self._parked.values(), *filter(None, [self._vacated])]
        under_way = [self._state[ATTEMPT_FIELDS], *(attempt.fields for attempt in aside)]
        records = [
            int(fields[Field.RECORD])
            for fields in under_way
            if fields[Field.PHASE] == Phase.RUNNING
        ]
        halts = filter(None, map(program.halt_at, records))
        return tally.by_row(image, self._tally.executed(program.decoded(), halts))

    # --- in and out of the view ---------------------------------------------------------------
    def _claim(self) -> bool:
        """Come into the view if another engine is there; return whether that was needed."""
        if not self._space.claim(self):
            return False
        self._space.show_text(self._text)
        self._show_static_pages()
        self._cache.put_back()
        if self._vacated is not None:
            restore_attempt(self._space, self._buffers, self._static_pages, self._vacated)
            self._vacated = None
        return True

    def vacate(self) -> None:
        """Set aside everything in the view and leave it zero, without any flag."""
        if self._phase != Phase.NONE:
            self._vacated = self._set_aside()
        self._cache.set_aside()
        self._hide_static_pages()

    @property
    def _static_pages(self) -> NDArray[np.int64]:
        pages = [CELLS_PAGE] if self._program is None else self._program.static_pages
        return np.array(pages, dtype=np.int64)

    def _show_static_pages(self) -> None:
        """Flag the private pages that records point into, and list them for clearing."""
        pages = self._static_pages
        # The cells' page never gets the flags of the fast path: its loads and stores have effects.
        self._space.flags[pages[pages != CELLS_PAGE]] |= READ | WRITE | STATIC
        self._buffers.put(List.STATIC, pages)

    def _hide_static_pages(self) -> None:
        pages = self._static_pages
        self._space.pages[pages] = 0
        self._space.flags[pages] = 0

    def _set_aside(self) -> ParkedAttempt:
        while self._settle(self._state) != 0:
            self._grow_full_list()
        attempt = copy_attempt(self._space, self._buffers, self._static_pages)
        self._clear(self._state)
        self._state[Field.PHASE] = Phase.NONE
        return attempt

    def park(self) -> int:
        """Set the running attempt aside."""
        self._claim()
        assert self._is_running, "nothing runs"
        handle = self._next_handle
        self._next_handle += 1
        self._parked[handle] = self._set_aside()
        return handle

    def unpark(self, handle: int) -> None:
        """Put a parked attempt back."""
        self._claim()
        assert not self._is_running, "another attempt runs"
        attempt = self._parked.pop(handle)
        restore_attempt(self._space, self._buffers, self._static_pages, attempt)
        if self._attempts_bring_leases:
            self._state[LEASE_FIELDS] = attempt.leases

    # --- pages --------------------------------------------------------------------------------
    def missing(
        self, pages: NDArray[np.int64], newest: NDArray[np.int64], snapshot: int
    ) -> NDArray[np.int64]:
        """Return those pages that are not held as of the snapshot."""
        self._claim()
        return self._cache.missing(pages, newest, snapshot)

    def cached_versions(self, pages: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the version cached for each page, -1 where there is none."""
        self._claim()
        return self._cache.versions(pages)

    def renew(self, pages: NDArray[np.int64], until: NDArray[np.int64]) -> None:
        """Note until when cached pages are known unchanged."""
        self._claim()
        self._cache.renew(pages, until)

    def install(
        self,
        pages: NDArray[np.int64],
        versions: NDArray[np.int64],
        until: NDArray[np.int64],
        memory: NDArray[np.uint8],
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        """Cache pages."""
        rows = np.arange(len(memory)) if rows is None else rows
        assert memory.shape[1:] == (PAGE_BYTES,), memory.shape
        assert rows.shape == pages.shape, rows.shape
        self._claim()
        is_dirty = (self._space.flags[pages] & DIRTY) != 0
        count = len(pages)
        if is_dirty.any():
            self._install_under(pages[is_dirty], gathered(memory, rows[is_dirty]))
            self._cache.note(pages[is_dirty], versions[is_dirty], until[is_dirty])
            clean = ~is_dirty
            pages, versions, until, rows = (a[clean] for a in (pages, versions, until, rows))
        self._cache.install(pages, versions, until, memory, rows)
        place = self._place if self._is_running else None
        if place is None or place != self._installed_at:
            self._installed_for_miss = 0
        self._installed_at = place
        self._installed_for_miss += count
        self._cache.evict(self._installed_for_miss)

    def _install_under(self, pages: NDArray[np.int64], data: NDArray[np.uint8]) -> None:
        """Put pages below the running attempt's own: they come out when it leaves."""
        rows = dict(self._buffers.rows(List.DIRTY).tolist())
        for page, content in zip(pages.tolist(), data, strict=True):
            assert rows[page] >= 0, "fresh memory has no home"
            self._buffers.rows(List.SAVED)[rows[page]] = content
        self._space.flags[pages] |= CACHED

    def close(self) -> None:
        """Give back the memory; idempotent."""
        if self._space.holds(self):
            if self._phase != Phase.NONE:
                self._clear(self._state)
            self._cache.drop()
            self._hide_static_pages()
            self._space.leave(self)
        self._state[Field.PHASE] = Phase.NONE
        self._vacated = None
        self._parked.clear()
