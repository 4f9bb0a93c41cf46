"""The compiled engine's state: one int64 array, its fields, and the buffers that they point to.

Compiled functions take this array and nothing else; tables, lists and outputs are reached by
host addresses in it. `Buffers` owns the numpy arrays behind those addresses and lets them grow.
The invariant to remember: a list may move whenever compiled code is not running, never while it
is; the view, the program's records and the constants never move.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, auto
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.engine.interface import CHILD, GRANT, LEASES, OUTCOME, RUN
from dvm_mpi.errors import LimitError
from dvm_mpi.layout import PAGE_BYTES, RANGE


class State(Protocol):
    """The state array as compiled functions see it: int64 fields by `Field`."""

    def __getitem__(self, field: int, /) -> int:
        """Return a field."""

    def __setitem__(self, field: int, value: int, /) -> None:
        """Set a field."""


class _Counted(IntEnum):
    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last_values: list[Any]) -> int:
        return count


class Stop(_Counted):
    """Why compiled code returned; the first is no reason at all."""

    NONE = auto()
    BATCH_DONE = auto()
    SLICE_ENDED = auto()
    PAGE_MISSED = auto()
    LEASE_NEEDED = auto()
    SLEEPING = auto()
    #: The attempt ended by `exit`; compiled code itself goes on with the next one.
    ENDED = auto()
    #: The attempt trapped: the message is made while it is still in the view.
    TRAPPED = auto()
    #: `gettime` wants the clock.
    CLOCK_WANTED = auto()
    #: Control went to text that has not been decoded: at DECODE_PC.
    DECODE_WANTED = auto()
    #: The list FULL_LIST must grow, to FULL_ROWS at least.
    LIST_FULL = auto()
    #: Control came to an entry of translated code; compiled code itself calls that.
    NATIVE_WANTED = auto()


class Phase(_Counted):
    """Where the attempt in the view is."""

    NONE = auto()
    RUNNING = auto()
    #: It ended; its outcome is yet to be written and its stores are yet to be undone.
    LEAVING = auto()


class List(_Counted):
    """The growable lists; each has three fields of the state, from LISTS on."""

    # Of the running attempt.
    TOUCHED = auto()  # pages whose flags it set
    DIRTY = auto()  # (page, row of SAVED or -1 for a page that was zero)
    SAVED = auto()  # contents of dirty pages before the first store
    OTHERS = auto()  # (start, end): status page, explicit stacks
    GRANTS = auto()  # GRANT
    CHILDREN = auto()  # CHILD, rows of ranges counted from the attempt's own first
    RANGES = auto()  # RANGE
    MALLOCS = auto()  # RANGE, page-aligned starts
    CONSOLE = auto()  # bytes
    STACK_RUNS = auto()  # RUN, into STACK_DATA: stores to children's stacks that have no page yet
    STACK_DATA = auto()  # their bytes
    LOADED = auto()  # (page, row of LOADED_PAGES or -1): pages with loads that count
    LOADED_PAGES = auto()  # contents of those pages when they were first loaded from
    # Of all attempts that ended and were not taken.
    OUTCOMES = auto()
    RUNS = auto()
    DATA = auto()
    ENDED_CHILDREN = auto()
    ENDED_RANGES = auto()
    ENDED_MALLOCS = auto()
    ENDED_CONSOLE = auto()
    LOADS = auto()  # RUN
    LOAD_DATA = auto()
    DROPPED_STACKS = auto()  # bases
    ENDED_LEASES = auto()  # LEASES, of attempts that bring their own
    # Of the engine.
    UNDECLARED = auto()  # (pc, address)
    RETIRED = auto()  # (page, 0): private or fresh memory to give back
    WIDENED = auto()  # (first page, 0) of stretches that got memory as a whole, used or not
    STATIC = auto()  # private pages that instructions name directly


class Field(_Counted):
    """The fields of the state."""

    # --- the running attempt; set aside as a whole when it is parked --------------------------
    PHASE = auto()
    RECORD = auto()  # host address of the next instruction's record
    INSTRUCTIONS = auto()
    INDEX = auto()  # in its batch
    RUNNER = auto()
    ID = auto()
    SNAPSHOT = auto()
    STACK_START = auto()  # own automatic stack, empty if there is none
    STACK_END = auto()
    IMAGE = auto()  # host address of RUN rows of the batch: what the creator left on the own stack
    IMAGE_COUNT = auto()  # how many; 0 once they are in the view
    IMAGE_LOADS = auto()  # loads that the batch has answered instead of the view
    STACKS_SHOWN = auto()  # first children whose stacks' bytes are in the view, not in STACK_DATA
    COMPARED = auto()  # bytes that the present strcmp found equal in earlier steps
    STDIN_POSITION = auto()
    STDIN_BEFORE = auto()  # position before the instruction number STDIN_TAKEN_AT
    STDIN_TAKEN_AT = auto()
    MALLOC_REFUSED = auto()
    MALLOCS_ASCEND = auto()
    PRIVATE_COUNT = auto()  # touched private pages
    SHARED_COUNT = auto()  # touched pages of SR outside text and automatic stacks
    END = auto()
    EXIT_PC = auto()
    TRAP = auto()
    TRAP_PC = auto()
    TRAP_ADDRESS = auto()

    # --- the batch ----------------------------------------------------------------------------
    CURSOR = auto()  # next attempt to enter
    ATTEMPT_COUNT = auto()
    ATTEMPTS = auto()  # host addresses of the batch's arrays
    BATCH_GRANTS = auto()
    IMAGE_RUNS = auto()
    IMAGE_DATA = auto()
    BATCH_LEASES = auto()  # 0: the attempts hand out the engine's addresses

    # --- why compiled code stopped ------------------------------------------------------------
    STOP = auto()
    MISSED_PAGE = auto()
    WANTED_KIND = auto()
    WANTED_BYTES = auto()
    SLEEP_US = auto()
    DECODE_PC = auto()
    FULL_LIST = auto()
    FULL_ROWS = auto()  # how many that list must have room for
    EXECUTED = auto()  # instructions of this call
    LOOP_LEFT = auto()  # how many more the loop itself may execute, whatever is translated

    # --- settings, program, input, leases -----------------------------------------------------
    FUEL_MAX = auto()  # 0: no limit
    SHARED_COUNT_MAX = auto()  # 0: no limit
    STACK_BYTES = auto()  # of automatic stacks, whole pages
    ALLOW_UNDECLARED = auto()
    LOAD_TRACKING = auto()  # a LoadTracking
    REFUSES_TIME = auto()
    TEXT_BYTES = auto()
    RECORD_AT = auto()  # host address of an int64 for each byte of text: its record, 0, or -1
    STDIN = auto()
    STDIN_BYTES = auto()
    ID_NEXT = auto()
    ID_END = auto()
    STACK_NEXT = auto()
    STACK_LEASE_END = auto()
    MALLOC_NEXT = auto()
    MALLOC_LEASE_END = auto()
    CLOCK_READY = auto()
    CLOCK_NS = auto()
    SCRATCH = auto()  # host address of SCRATCH_WORDS words
    SELF = auto()  # host address of this array, for translated code

    # --- what translated code did since the engine was made ------------------------------------
    NATIVE_CALLS = auto()  # how often it was entered
    NATIVE_INSTRUCTIONS = auto()  # how many instructions it executed

    # --- lists: host address, rows in use, rows that fit --------------------------------------
    LISTS = auto()


ATTEMPT_FIELDS: Final = slice(Field.PHASE, Field.CURSOR)
#: The addresses to hand out, in the order of LEASES.
LEASE_FIELDS: Final = slice(Field.ID_NEXT, Field.MALLOC_LEASE_END + 1)
assert LEASE_FIELDS.stop - LEASE_FIELDS.start == len(LEASES.names or ())
FIELD_COUNT: Final = Field.LISTS + 3 * len(List)
#: One word for each source operand that takes from standard input.
SCRATCH_WORDS: Final = 8

_WORD: Final = np.dtype("<i8")
_BYTE: Final = np.dtype("u1")
_PAIR: Final = np.dtype((_WORD, 2))
_PAGE: Final = np.dtype((_BYTE, PAGE_BYTES))

_M: Final = 1 << 20
#: Room up to this many bytes is kept when a list is emptied.
_KEPT_BYTES: Final = 64 * _M
#: Element, rows at the start, rows at most and what the limit is called.
_LISTS: Final[dict[List, tuple[np.dtype[Any], int, int, str]]] = {
    List.TOUCHED: (_WORD, 1 << 10, 64 * _M, "pages that one attempt touches"),
    List.DIRTY: (_PAIR, 1 << 10, 4 * _M, "pages that one attempt stores to"),
    List.SAVED: (_PAGE, 1 << 8, 4 * _M, "pages that one attempt stores to"),
    List.OTHERS: (_PAIR, 1 << 6, 16 * _M, "explicit stacks of one attempt's children"),
    List.GRANTS: (GRANT, 1 << 6, 16 * _M, "declared ranges of one runner"),
    List.CHILDREN: (CHILD, 1 << 6, 16 * _M, "children of one attempt"),
    List.RANGES: (RANGE, 1 << 8, 64 * _M, "declared ranges of one attempt's children"),
    List.MALLOCS: (RANGE, 1 << 4, 16 * _M, "malloc blocks of one attempt"),
    List.CONSOLE: (_BYTE, 1 << 10, 256 * _M, "bytes of console output of one attempt"),
    List.STACK_RUNS: (RUN, 1 << 8, 64 * _M, "stores to stacks of one attempt's children"),
    List.STACK_DATA: (_BYTE, 1 << 12, 16_384 * _M, "stores to stacks of one attempt's children"),
    List.LOADED: (_PAIR, 1 << 10, 64 * _M, "pages that one attempt loads from"),
    List.LOADED_PAGES: (_PAGE, 1 << 8, 4 * _M, "pages that one attempt loads from"),
    List.OUTCOMES: (OUTCOME, 1 << 8, 16 * _M, "ended attempts"),
    List.RUNS: (RUN, 1 << 10, 64 * _M, "stored runs of ended attempts"),
    List.DATA: (_BYTE, 1 << 16, 16_384 * _M, "stored bytes of ended attempts"),
    List.ENDED_CHILDREN: (CHILD, 1 << 8, 16 * _M, "children of ended attempts"),
    List.ENDED_RANGES: (RANGE, 1 << 10, 64 * _M, "declared ranges of created runners"),
    List.ENDED_MALLOCS: (RANGE, 1 << 4, 16 * _M, "malloc blocks of ended attempts"),
    List.ENDED_CONSOLE: (_BYTE, 1 << 10, 1024 * _M, "bytes of console output"),
    List.LOADS: (RUN, 1 << 10, 64 * _M, "loaded runs of ended attempts"),
    List.LOAD_DATA: (_BYTE, 1 << 16, 16_384 * _M, "loaded bytes of ended attempts"),
    List.UNDECLARED: (_PAIR, 1 << 6, 16 * _M, "instructions with undeclared accesses"),
    List.DROPPED_STACKS: (_WORD, 1 << 6, 16 * _M, "children that were not created"),
    List.ENDED_LEASES: (LEASES, 1 << 8, 16 * _M, "ended attempts"),
    List.RETIRED: (_PAIR, 1 << 10, 1 << 10, "pages to give back"),
    List.WIDENED: (_PAIR, 1 << 10, 1 << 10, "stretches with memory of their own"),
    List.STATIC: (_WORD, 1 << 5, 1 << 5, "private pages named directly"),
}
assert _LISTS.keys() == set(List)


#: What the many lists that stay empty give to whoever takes them.
_EMPTY: Final = {which: np.empty(0, element) for which, (element, *_) in _LISTS.items()}
_COUNTS: Final = slice(Field.LISTS + 1, None, 3)


def _bytes_of(rows: NDArray[Any]) -> NDArray[Any]:
    """Return a list's rows as bytes: numpy copies records field by field, 17 times as slowly."""
    return rows.view(np.uint8) if rows.dtype.names else rows


class Buffers:
    """The state array and the lists that it points to."""

    def __init__(self) -> None:
        self.state: NDArray[np.int64] = np.zeros(FIELD_COUNT, dtype=np.int64)
        self._arrays: dict[List, NDArray[Any]] = {}
        #: Lists that have more room than is kept when they are empty.
        self._large: set[List] = set()
        for which, (element, rows, _, _) in _LISTS.items():
            self._place(which, np.zeros(rows, dtype=element))
        self._scratch = np.zeros(SCRATCH_WORDS, dtype=np.int64)
        self.state[Field.SCRATCH] = self._scratch.ctypes.data
        self.state[Field.SELF] = self.state.ctypes.data

    def _place(self, which: List, array: NDArray[Any]) -> None:
        self._arrays[which] = array
        self._large.discard(which)
        if array.nbytes > _KEPT_BYTES:
            self._large.add(which)
        field = Field.LISTS + 3 * which
        self.state[field] = array.ctypes.data
        self.state[field + 2] = len(array)

    def count(self, which: List) -> int:
        """Return how many rows of a list are in use."""
        return int(self.state[Field.LISTS + 3 * which + 1])

    def rows(self, which: List) -> NDArray[Any]:
        """Return the rows in use, as a view that is good until the list grows."""
        return self._arrays[which][: self.count(which)]

    def grow(self, which: List, wanted_rows: int = 0) -> None:
        """Make room for `wanted_rows`, or for twice as many as now.

        Raises
        ------
        LimitError
            The list is as long as it may get.
        """
        element, _, rows_max, meaning = _LISTS[which]
        old = self._arrays[which]
        rows = max(wanted_rows, 2 * len(old))
        if rows > rows_max:
            if len(old) >= rows_max or wanted_rows > rows_max:
                raise LimitError(
                    f"{meaning}: more than {rows_max} at once are not supported. "
                    "Divide the work among more runners."
                )
            rows = rows_max
        grown = np.zeros(rows, dtype=element)
        used = self.count(which)
        _bytes_of(grown[:used])[:] = _bytes_of(old[:used])
        self._place(which, grown)

    def put(self, which: List, rows: NDArray[Any]) -> None:
        """Replace a list's rows by these."""
        if len(rows) > len(self._arrays[which]):
            self.grow(which, len(rows))
        _bytes_of(self._arrays[which][: len(rows)])[:] = _bytes_of(rows)
        self.state[Field.LISTS + 3 * which + 1] = len(rows)

    def take(self, which: List) -> NDArray[Any]:
        """Return a list's rows, which are the caller's from now on, and empty it."""
        taken = self.rows(which)
        self.state[Field.LISTS + 3 * which + 1] = 0
        # A large list goes as it is: a copy into fresh memory takes longer than the stores did.
        return taken if self.shrink(which) else _bytes_of(taken).copy().view(taken.dtype)

    def take_all(self, lists: Sequence[List]) -> list[NDArray[Any]]:
        """Take several lists, most of which are empty."""
        counts = self.state[_COUNTS].tolist()
        return [self.take(which) if counts[which] else _EMPTY[which] for which in lists]

    def shrink_those_of_attempts(self) -> None:
        """Give the room of large lists back that no attempt uses, since none runs."""
        for which in sorted(self._large):
            if which < List.OUTCOMES:
                self.state[Field.LISTS + 3 * which + 1] = 0
                self.shrink(which)

    def shrink(self, which: List) -> bool:
        """Give an empty list that has become very large the room that it started with.

        Returns whether it was; then its old room is no longer used.
        """
        element, rows, _, _ = _LISTS[which]
        is_large = which in self._large and self.count(which) == 0
        if is_large:
            self._place(which, np.zeros(rows, dtype=element))
        return is_large
