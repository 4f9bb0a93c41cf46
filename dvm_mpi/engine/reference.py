"""The reference engine: DISA in plain Python ints, one function per instruction. The oracle.

It shares the instruction table and the decoder with the fast engine, and no arithmetic. This
module runs batches of attempts; reference_steps.py says what each instruction does.
The invariant to remember: between two attempts only the frame cache and the leases remain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.disa.image import Image
from dvm_mpi.engine import tally, trap_text
from dvm_mpi.engine.interface import (
    ATTEMPT,
    AttemptBatch,
    End,
    EngineSettings,
    Exit,
    Lease,
    LeaseKind,
    LoadTracking,
    OutcomeBatch,
    Reason,
    TrapKind,
    gathered,
)
from dvm_mpi.engine.lease_blocks import AttemptLeases, LeaseBlocks, automatic_stack_bytes
from dvm_mpi.engine.reference_memory import (
    AttemptMemory,
    Coverage,
    FaultError,
    Frame,
    FrameCache,
    MissedError,
    needs_home,
)
from dvm_mpi.engine.reference_program import ReferenceProgram
from dvm_mpi.engine.reference_state import Attempt, OutcomeLists
from dvm_mpi.engine.reference_steps import (
    ExitReachedError,
    LeaseWantedError,
    Stepper,
    Surroundings,
)
from dvm_mpi.layout import (
    CELL_ID,
    CELL_STACK_BASE,
    CELL_STACK_SIZE,
    PAGE_BYTES,
    WORD_BYTES,
)
from dvm_mpi.values import replace

_MASK64: Final = (1 << 64) - 1


class ReferenceEngine:
    """Implements `interface.Engine` slowly and plainly; `make_stepper` is for who looks on."""

    def __init__(
        self,
        settings: EngineSettings,
        make_stepper: Callable[[Surroundings, Attempt], Stepper] = Stepper,
    ) -> None:
        self._settings = settings
        self._make_stepper = make_stepper
        self._frames = FrameCache(settings.cache_bytes)
        self._leases = LeaseBlocks()
        self._around: Surroundings | None = None
        self._batch: AttemptBatch | None = None
        #: Next attempt of the batch to enter.
        self._cursor = 0
        self._running: Attempt | None = None
        self._parked: dict[int, Attempt] = {}
        self._next_handle = 1
        self._ended = OutcomeLists(settings.loads)
        self._undeclared: list[tuple[int, int]] = []
        self._undeclared_pcs: set[int] = set()
        #: Pages installed for the present instruction: never evicted, or an instruction that needs
        #: more pages than the cache holds would never end.
        self._installed_for_miss = 0
        #: Attempt and instruction count of the last install.
        self._installed_at: tuple[int, int] | None = None
        self._image: Image | None = None
        #: Instructions executed at each address, if they are counted.
        self._executed: Counter[int] = Counter()

    # --- program and batch --------------------------------------------------------------------
    def load(self, image: Image, stdin: bytes) -> None:
        """Take the program and standard input."""
        program = ReferenceProgram(image)
        self._image = image
        self._around = Surroundings(self._settings, program, stdin)

    def begin(self, batch: AttemptBatch) -> None:
        """Take a batch."""
        assert self._running is None, "an attempt of the last batch is unfinished"
        assert self._batch is None or self._cursor == len(self._batch.attempts), "unfinished batch"
        self._batch = batch
        self._cursor = 0

    def run(self, fuel: int) -> Exit:
        """Execute up to `fuel` instructions of the batch."""
        assert self._batch is not None, "begin comes before run"
        executed = 0
        with np.errstate(all="ignore"):
            while True:
                if self._running is None:
                    if self._cursor == len(self._batch.attempts):
                        return Exit(Reason.BATCH_DONE, self._cursor, executed)
                    self._running = self._enter(self._batch, self._cursor)
                    self._cursor += 1
                attempt = self._running
                before = attempt.instructions
                stop = self._advance(attempt, fuel - executed)
                executed += attempt.instructions - before
                if attempt.end is not None:
                    self._leave(attempt)
                else:
                    return replace(stop, instructions=executed)

    def take_outcomes(self) -> OutcomeBatch:
        """Return the attempts that ended since the last call."""
        taken = self._ended.to_batch()
        self._ended = OutcomeLists(self._settings.loads)
        return taken

    # --- one attempt --------------------------------------------------------------------------
    def _enter(self, batch: AttemptBatch, index: int) -> Attempt:
        assert self._around is not None, "load comes before run"
        row = {name: int(batch.attempts[index][name]) for name in ATTEMPT.names or ()}
        grants = batch.grants[row["grant_first"] :][: row["grant_count"]]
        stack = (row["stack_base"], row["stack_bytes"])
        others = [(row["id"], PAGE_BYTES)]
        if not row["stack_automatic"]:
            others.append(stack)
        memory = AttemptMemory(
            frames=self._frames,
            text=self._around.program.text,
            coverage=Coverage([(s, n, newest) for s, n, newest in grants.tolist()], others),
            snapshot=row["snapshot"],
            stack=stack if row["stack_automatic"] else (0, 0),
            stack_bytes=automatic_stack_bytes(self._settings),
            allow_undeclared=self._settings.allow_undeclared,
            tracks_loads=self._settings.loads is not LoadTracking.NONE,
            touched_pages_max=self._settings.touched_pages_max,
        )
        for run in batch.image_runs[row["image_first"] :][: row["image_count"]].tolist():
            start, length, data_first = run
            memory.fill_stack(start, batch.image_data[data_first : data_first + length].tobytes())
        memory.store(CELL_STACK_BASE, WORD_BYTES, row["stack_base"])
        memory.store(CELL_STACK_SIZE, WORD_BYTES, row["stack_bytes"])
        memory.store(CELL_ID, WORD_BYTES, row["id"])
        leases = AttemptLeases(batch.leases[index]) if len(batch.leases) else self._leases
        return Attempt(index, row["runner"], row["id"], row["entry"] & _MASK64, memory, leases)

    def _advance(self, attempt: Attempt, fuel: int) -> Exit:
        """Execute up to `fuel` instructions; the attempt may end on the way."""
        assert self._around is not None, "load comes before run"
        step = self._make_stepper(self._around, attempt)
        fuel_max = self._settings.fuel_max
        last = attempt.instructions + fuel
        try:
            while attempt.instructions < last:
                if fuel_max and attempt.instructions >= fuel_max:
                    attempt.end_by_trap(TrapKind.FUEL_EXHAUSTED, -1)
                    break
                pc = attempt.pc
                step.step()
                self._count(attempt, pc)
                if attempt.memory.undeclared:
                    self._note_undeclared(attempt, pc)
                if step.sleep_us:
                    return Exit(Reason.SLEEPING, attempt.index, 0, sleep_us=step.sleep_us)
        except ExitReachedError as reached:
            self._count(attempt, attempt.pc)
            attempt.end, attempt.exit_pc = reached.end, attempt.pc
        except FaultError as fault:
            self._count(attempt, attempt.pc)
            self._note_undeclared(attempt, attempt.pc)
            attempt.end_by_trap(fault.kind, fault.address)
        except MissedError as missed:
            self._note_undeclared(attempt, attempt.pc)
            return Exit(Reason.PAGE_MISSED, attempt.index, 0, page=missed.page)
        except LeaseWantedError as wanted:
            self._note_undeclared(attempt, attempt.pc)
            return Exit(
                Reason.LEASE_NEEDED,
                attempt.index,
                0,
                lease=wanted.kind,
                lease_bytes=wanted.length,
                pc=attempt.pc,
            )
        return Exit(Reason.SLICE_ENDED, attempt.index, 0)

    def _count(self, attempt: Attempt, pc: int) -> None:
        attempt.instructions += 1
        if self._settings.counts_instructions:
            self._executed[pc] += 1

    def instruction_counts(self) -> NDArray[np.int64]:
        """Return how often each instruction was executed so far."""
        assert self._image is not None, "load comes before counts"
        return tally.by_row(self._image, self._executed)

    def _leave(self, attempt: Attempt) -> None:
        assert self._around is not None, "load comes before run"
        detail = None
        if attempt.end is End.TRAP:
            detail = trap_text.describe(
                self._around.program.peek(attempt.pc),
                attempt.memory.peek,
                attempt.trap_address,
                attempt.memory.covered_or_private(),
                self._settings.touched_pages_max
                if attempt.trap == TrapKind.MEMORY_EXHAUSTED
                else 0,
            )
        self._ended.add(attempt, detail)
        self._running = None

    def _note_undeclared(self, attempt: Attempt, pc: int) -> None:
        for address in attempt.memory.undeclared:
            if pc not in self._undeclared_pcs:
                self._undeclared_pcs.add(pc)
                self._undeclared.append((pc, address))
        attempt.memory.undeclared.clear()

    def undeclared_accesses(self) -> list[tuple[int, int]]:
        """Return the accesses that were first admitted since the last call."""
        found, self._undeclared = self._undeclared, []
        return found

    # --- parked attempts ----------------------------------------------------------------------
    def park(self) -> int:
        """Set the running attempt aside."""
        assert self._running is not None, "nothing runs"
        handle = self._next_handle
        self._next_handle += 1
        self._parked[handle] = self._running
        self._running = None
        return handle

    def unpark(self, handle: int) -> None:
        """Put a parked attempt back."""
        assert self._running is None, "another attempt runs"
        self._running = self._parked.pop(handle)
        self._running.memory.forget()

    # --- addresses and pages ------------------------------------------------------------------
    def grant_lease(self, lease: Lease) -> None:
        """Add addresses to hand out; an empty MALLOC lease refuses the waiting `malloc`."""
        if self._running is not None:
            self._running.leases.add(lease)
        else:
            self._leases.add(lease)
        if lease.kind is LeaseKind.MALLOC and lease.start >= lease.end:
            assert self._running is not None, "a refusal answers the running attempt"
            self._running.malloc_refused = True

    def missing(
        self, pages: NDArray[np.int64], newest: NDArray[np.int64], snapshot: int
    ) -> NDArray[np.int64]:
        """Return those pages that are not held as of the snapshot."""
        wanted = zip(pages.tolist(), newest.tolist(), strict=True)
        lacking = [
            page
            for page, until in wanted
            if needs_home(page) and not self._frames.holds(page, until, snapshot)
        ]
        return np.array(lacking, dtype=np.int64)

    def cached_versions(self, pages: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the version cached for each page, -1 where there is none."""
        return self._frames.versions(pages)

    def renew(self, pages: NDArray[np.int64], until: NDArray[np.int64]) -> None:
        """Note until when cached pages are known unchanged."""
        for page, epoch in zip(pages.tolist(), until.tolist(), strict=True):
            frame = self._frames.get(page)
            if frame is not None:
                frame.until = max(frame.until, epoch)

    def install(
        self,
        pages: NDArray[np.int64],
        versions: NDArray[np.int64],
        until: NDArray[np.int64],
        memory: NDArray[np.uint8],
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        """Cache pages."""
        data = gathered(memory, rows)
        assert data.shape == (len(pages), PAGE_BYTES), data.shape
        frames = zip(pages.tolist(), versions.tolist(), until.tolist(), data, strict=True)
        for page, version, epoch, content in frames:
            self._frames.put(page, Frame(version, epoch, content.tobytes()))
        running = self._running
        place = None if running is None else (running.index, running.instructions)
        if place is None or place != self._installed_at:
            self._installed_for_miss = 0
        self._installed_at = place
        self._installed_for_miss += len(pages)
        self._frames.evict(self._installed_for_miss)
        if running is not None:
            running.memory.forget()

    def close(self) -> None:
        """Give back the memory."""
        self._frames = FrameCache(PAGE_BYTES)
        self._running = None
        self._parked.clear()
