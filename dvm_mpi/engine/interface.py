"""What an engine takes and gives back: one contract for every tier.

An engine executes *attempts*, in batches, on a view of memory that it owns. It is told which
bytes an attempt may touch (grants), is given pages when it asks for them, and returns what the
attempt stored, created and printed. It decides nothing about time, commits or other runners.
The invariant to remember: between two attempts the view holds only cached snapshot pages; no
byte that an attempt stored survives it.

All fields are int64, so a compiled engine may view a record array as a two-dimensional one.
Ranges of rows in companion arrays are written `X_first, X_count`.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.disa.image import Image
from dvm_mpi.layout import PAGE_BYTES
from dvm_mpi.values import dataclass, field


def _record(*names: str) -> np.dtype[Any]:
    return np.dtype([(name, "<i8") for name in names])


#: One attempt to run, as an engine takes it.
ATTEMPT: Final = _record(
    "runner",           # the scheduler's number of the runner; opaque here
    "id",               # address of the status page; also a one-page grant
    "entry",            # address of the first instruction
    "snapshot",         # epoch of the snapshot
    "stack_base",       # first byte of the stack, 0 if there is none
    "stack_bytes",
    "stack_automatic",  # 1: private, zero but for the image; 0: an ordinary granted range
    "grant_first", "grant_count",  # rows of GRANT: declared ranges, sorted and disjoint
    "image_first", "image_count",  # rows of RUN: what the creator stored into the automatic stack
)  # fmt: skip

#: Bytes that an attempt may load and store; `newest`: no commit after that epoch stored into any
#: page that they touch: the other bytes of such a page may be loaded as well.
GRANT: Final = _record("start", "length", "newest")
#: Bytes with content: `data[data_first : data_first + length]` of the companion byte array.
RUN: Final = _record("start", "length", "data_first")

#: How one attempt ended, as an engine gives it back.
OUTCOME: Final = _record(
    "runner",
    "end",            # End
    "instructions",   # executed, the trapping one included
    "run_first", "run_count",          # RUN rows: stored SR bytes, sorted, disjoint, joined;
                                       # for an abort only those on the own status page
    "child_first", "child_count",      # CHILD rows, in order of creation; none unless committed
    "console_first", "console_count",  # bytes of `console`
    "malloc_first", "malloc_count",    # rows of `mallocs`: blocks obtained, in order
    "stdin_bytes",    # how many bytes of standard input were taken
    "trap",           # TrapKind, or -1
    "trap_pc",        # address of the instruction that trapped
    "trap_address",   # the address at fault, or -1
    "exit_pc",        # address of the `exit`, or -1
    "load_first", "load_count",        # RUN rows of `loads`: bytes of SR whose value in the
                                       # snapshot was observed, sorted, disjoint, joined
)  # fmt: skip

#: One runner that an attempt created.
CHILD: Final = _record(
    "id",
    "entry",
    "stack_base",
    "stack_bytes",
    "stack_automatic",
    "heap_first", "heap_count",      # `child_ranges` rows in descriptor order, none empty
    "watched_first", "watched_count",
    "template",                      # 1: the descriptor's n of watched was > 0
    "image_first", "image_count",    # RUN rows in `runs`: parent's stores to the automatic stack
    "newr_pc",                       # address of the creating instruction
)  # fmt: skip

#: What is left of the addresses that one attempt hands out: a block of each kind, half-open.
LEASES: Final = _record(
    "id_next", "id_end", "stack_next", "stack_end", "malloc_next", "malloc_end",
)  # fmt: skip
#: Of attempts that hand out their engine's addresses.
NO_LEASES: Final = np.zeros(0, dtype=LEASES)


class End(IntEnum):
    """How an attempt ended; the first four are the codes of `exit`."""

    COMMIT = 0
    ABORT = 1
    COMMIT_DELETE = 2
    ABORT_DELETE = 3
    TRAP = 4


class TrapKind(IntEnum):
    """Why an attempt trapped (docs/operations.md lists the messages)."""

    DIVISION_BY_ZERO = 0
    UNMAPPED = 1  # outside PR and SR
    UNDECLARED = 2  # SR access on a page that nothing covers
    UNDECLARED_STORE = 3  # found at exit:c: a stored byte that nothing covers
    TEXT_STORE = 4
    BAD_OPCODE = 5
    BAD_JUMP = 6  # target outside the text, or not an instruction's first byte
    STACK_OVERFLOW = 7  # access to a guard page
    FUEL_EXHAUSTED = 8
    BAD_DESCRIPTOR = 9
    BAD_SYSTEM_CALL = 10
    NO_TIME = 11  # `gettime` where a run must not depend on time
    MEMORY_EXHAUSTED = 12  # more pages of SR touched than one attempt may


class LoadTracking(IntEnum):
    """What an engine notes of the bytes that an attempt loaded.

    A byte of SR counts when it was loaded before the attempt itself stored it, whatever
    instruction did so and however the attempt ends. Text, the own automatic stack, automatic
    stacks of own children and memory that this attempt obtained from `malloc` do not count: what
    they hold does not come from the snapshot.
    """

    NONE = 0
    #: Which bytes; `data_first` of their rows is -1.
    PLACES = 1
    #: Which bytes, and their values in the snapshot.
    CONTENT = 2


class Reason(IntEnum):
    """Why `Engine.run` returned."""

    BATCH_DONE = 0
    SLICE_ENDED = 1
    PAGE_MISSED = 2
    LEASE_NEEDED = 3
    SLEEPING = 4


class LeaseKind(IntEnum):
    """What ranks lease addresses of."""

    ID = 0
    STACK = 1
    MALLOC = 2


@dataclass(frozen=True, slots=True)
class Exit:
    """Why and where `Engine.run` stopped.

    `index` is the attempt at which to go on, `instructions` what this call executed.
    `page` for PAGE_MISSED (first missing page); `lease` and `lease_bytes` for LEASE_NEEDED (bytes
    for MALLOC, else 0) and `pc`, of the instruction that wants it; `sleep_us` for SLEEPING, whose
    call is complete when the runner goes on.
    """

    reason: Reason
    index: int
    instructions: int
    page: int = -1
    lease: LeaseKind | None = None
    lease_bytes: int = 0
    sleep_us: int = 0
    pc: int = -1


@dataclass(frozen=True, slots=True)
class TrapDetail:
    """What the message of a trap needs and only the engine sees.

    `operands`: one text per operand with its address and value; `nearest`: the declared range
    nearest to the address at fault, `(start, length)`, or None.
    """

    operands: tuple[str, ...]
    nearest: tuple[int, int] | None


@dataclass(slots=True)
class AttemptBatch:
    """Attempts to run, with their companion arrays; the caller's, read-only to the engine.

    `leases` has a row for each attempt that brings its own addresses, and is empty if all hand out
    those of their engine. An engine sees batches of one sort only.
    """

    attempts: NDArray[Any]  # ATTEMPT
    grants: NDArray[Any]  # GRANT
    image_runs: NDArray[Any]  # RUN
    image_data: NDArray[np.uint8]
    leases: NDArray[Any] = field(default_factory=lambda: NO_LEASES)  # LEASES


@dataclass(slots=True)
class OutcomeBatch:
    """Ends of attempts in the order in which they ended; owned by the caller once taken."""

    outcomes: NDArray[Any]  # OUTCOME
    runs: NDArray[Any]  # RUN
    data: NDArray[np.uint8]
    children: NDArray[Any]  # CHILD
    child_ranges: NDArray[Any]  # layout.RANGE
    mallocs: NDArray[Any]  # layout.RANGE
    console: NDArray[np.uint8]
    #: Bases of automatic stacks whose runners will never be: of the children of attempts that
    #: aborted or trapped. The stacks of those in `children` are not among them.
    dropped_stacks: NDArray[np.int64]
    #: RUN, into `load_data`; none unless loads are tracked.
    loads: NDArray[Any] = field(default_factory=lambda: np.empty(0, dtype=RUN))
    load_data: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, dtype=np.uint8))
    #: By position in `outcomes`, for those whose end is TRAP.
    traps: dict[int, TrapDetail] = field(default_factory=dict)
    #: What the attempts have left of their own leases, a row each; empty if they had none.
    leases: NDArray[Any] = field(default_factory=lambda: NO_LEASES)  # LEASES


@dataclass(frozen=True, slots=True)
class Lease:
    """Half-open block of addresses to hand out; for stacks, slots of guard page + stack."""

    kind: LeaseKind
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What an engine is built with; sizes in bytes.

    `fuel_max` is instructions per attempt, 0 for no limit. `cache_bytes` limits the cached pages.
    `clock` returns nanoseconds since the Unix epoch, for `gettime`, which traps if it is None.
    `loads` costs time at every load from SR, so it is off unless a run needs what it tells.
    `touched_pages_max` is how many pages of SR one attempt may load from or store to, 0 for no
    limit; text and automatic stacks do not count, nor does what is fetched and never touched.
    `counts_instructions` is for a profile. `spent_ns` returns the processor time of this thread, in
    nanoseconds: huge pages for what is fetched are timed by it; None: there are none.
    """

    stack_bytes: int
    fuel_max: int
    allow_undeclared: bool
    cache_bytes: int
    clock: Callable[[], int] | None
    loads: LoadTracking = LoadTracking.NONE
    touched_pages_max: int = 0
    counts_instructions: bool = False
    spent_ns: Callable[[], int] | None = None


class Engine(Protocol):
    """Runs attempts on a view of memory. One thread, one attempt in the view at a time."""

    def load(self, image: Image, stdin: bytes) -> None:
        """Take the program and standard input; text pages are present from now on."""

    def begin(self, batch: AttemptBatch) -> None:
        """Take a batch; no other may be unfinished. Attempts run in order, from the first."""

    def run(self, fuel: int) -> Exit:
        """Execute up to about `fuel` instructions of the batch, and say why it stopped.

        PAGE_MISSED: go on after `install`. LEASE_NEEDED: after `grant_lease`. The instruction
        that stopped is executed again from its beginning, with no side effect left over.
        """

    def park(self) -> int:
        """Set the running attempt aside, its stores undone in the view; return a handle.

        The next `run` goes on with the next attempt of the batch (BATCH_DONE if there is none).
        """

    def unpark(self, handle: int) -> None:
        """Put a parked attempt back as the running one; only when none is running."""

    def take_outcomes(self) -> OutcomeBatch:
        """Return the attempts that ended since the last call, and forget them."""

    def grant_lease(self, lease: Lease) -> None:
        """Add addresses to hand out. An empty MALLOC lease means: this one `malloc` returns 0.

        Where attempts bring their own addresses it goes to the running one, in place of what that
        has left of this kind.
        """

    def missing(
        self, pages: NDArray[np.int64], newest: NDArray[np.int64], snapshot: int
    ) -> NDArray[np.int64]:
        """Return those of `pages` that the view does not hold as of `snapshot`.

        A page is held if it was read from its home at an epoch `version` <= snapshot and is known
        unchanged until at least min(newest, snapshot). Pages that need no home (PR, text,
        automatic stacks) are never missing.
        """

    def cached_versions(self, pages: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the epoch of the cached frame for each page, -1 where none is cached."""

    def renew(self, pages: NDArray[np.int64], until: NDArray[np.int64]) -> None:
        """Note that cached pages are known unchanged until the given epochs."""

    def install(
        self,
        pages: NDArray[np.int64],
        versions: NDArray[np.int64],
        until: NDArray[np.int64],
        memory: NDArray[np.uint8],
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        """Put pages into the view, copied from wherever they lie; the attempt's stores stay.

        `memory` is (m, PAGE_BYTES) uint8 in C order, and row `rows[i]` of it is page i, which is
        zero where that is negative; without `rows` the pages are the rows, one after the other.
        """

    def undeclared_accesses(self) -> list[tuple[int, int]]:
        """Return (pc, address) of each instruction first admitted by --undeclared allow, once."""

    def instruction_counts(self) -> NDArray[np.int64]:
        """Return how often each instruction was executed so far, by the rows of `tally`.

        All zero unless that was asked for. Attempts under way are counted up to where they are.
        """

    def close(self) -> None:
        """Give back the memory; idempotent."""


def gathered(memory: NDArray[np.uint8], rows: NDArray[np.int64] | None) -> NDArray[np.uint8]:
    """Return pages as `Engine.install` gets them as (n, PAGE_BYTES), zeros where a row is none."""
    if rows is None:
        return memory
    content = np.zeros((len(rows), PAGE_BYTES), np.uint8)
    is_there = rows >= 0
    content[is_there] = memory[rows[is_there]]
    return content
