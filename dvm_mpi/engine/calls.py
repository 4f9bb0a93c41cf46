"""The instructions that do much, for compiled code: `newr`, `int`, `strcmp`, `bl`, `br:sl`.

Each gets at its operands through a table of rows (records.py) and does the whole of its work,
destination included. The rules are those of reference_steps.py. An entry of translated code comes
by here as well, and stops the loop.
The invariant to remember: everything that can stop an instruction is asked before its first
effect.
"""

from __future__ import annotations

from typing import Final

from dvm_mpi.config import DESCRIPTOR_RANGES_MAX, STRCMP_STEP_BYTES
from dvm_mpi.engine.access import (
    STORE,
    fault,
    give_back_stdin,
    observe,
    reach_load,
    reach_store,
    touch,
)
from dvm_mpi.engine.address_space import CHILD as CHILD_FLAG
from dvm_mpi.engine.address_space import VIEW
from dvm_mpi.engine.compiled import compiled
from dvm_mpi.engine.interface import CHILD, LeaseKind, TrapKind
from dvm_mpi.engine.lists import append, count_of, lacks_room, row_at, set_count
from dvm_mpi.engine.loads import note
from dvm_mpi.engine.machine_words import load_i64, load_u8, store_i64
from dvm_mpi.engine.page_flags import PAIR_BYTES, list_page
from dvm_mpi.engine.records import (
    A_FAR,
    EXTRA,
    NEXT,
    OPERAND_ROW_BYTES,
    PC,
    ROW_CELL,
    ROW_OFFSET,
    ROW_SHAPE,
    TARGET,
    B,
    Operation,
)
from dvm_mpi.engine.state import Field, List, State, Stop
from dvm_mpi.layout import (
    CELL_CHILD_ID,
    CELL_CHILD_STACK_BASE,
    CELL_CHILD_STACK_SIZE,
    CELL_SYSCALL_ARGS,
    CELL_SYSCALL_ARGS_END,
    CELL_SYSCALL_NUMBER,
    GUARD_BYTES,
    MALLOC_END,
    MALLOC_START,
    PAGE_BYTES,
    PAGE_SHIFT,
    SR_END,
    SR_START,
    STACKS_END,
    STACKS_START,
    TEXT_START,
    WORD_BYTES,
)

#: The number of `int` that calls the system, and what its cell may ask for.
SYSTEM_INTERRUPT: Final = 0x80
_MALLOC: Final = 1
_USLEEP: Final = 2
_MALLOC_WITH_OPTION: Final = 6
_GETTIME: Final = 7
_RESULTS_BYTES: Final = 3 * WORD_BYTES
assert CELL_SYSCALL_ARGS + _RESULTS_BYTES <= CELL_SYSCALL_ARGS_END
_NS_PER_S: Final = 1_000_000_000

_CHILD_BYTES: Final = CHILD.itemsize
#: A CHILD row's fields in order, as `_newr` fills them.
assert CHILD.names == (
    "id", "entry", "stack_base", "stack_bytes", "stack_automatic", "heap_first", "heap_count",
    "watched_first", "watched_count", "template", "image_first", "image_count", "newr_pc",
)  # fmt: skip


@compiled
def call(state: State, record: int, operation: int) -> tuple[int, int]:
    """Execute one of these instructions; return a reason to stop or 0, and what comes next."""
    state[Field.STOP] = Stop.NONE
    following = load_i64(record + NEXT)
    if operation == Operation.CALL_BL:
        following = _branch_and_link(state, record)
    elif operation == Operation.CALL_SL:
        following = _branch_if_string_less(state, record)
    elif operation == Operation.CALL_STRCMP:
        following = _strcmp(state, record)
    elif operation == Operation.CALL_NEWR:
        _newr(state, record)
    elif operation == Operation.NATIVE:
        # Handed on from here, so that the loop has not an operation more than without it.
        state[Field.STOP] = Stop.NATIVE_WANTED
    else:
        _int(state, record)
    return state[Field.STOP], following


# --- operands and fields ----------------------------------------------------------------------
@compiled
def _address(state: State, row: int) -> int:
    """Return the address of a checked operand; the state's STOP tells of a failure."""
    cell = load_i64(row + ROW_CELL)
    if load_i64(row + ROW_SHAPE) & A_FAR:
        cell = reach_load(state, cell, WORD_BYTES, 0)
        if cell == 0:
            return 0
    return load_i64(cell) + load_i64(row + ROW_OFFSET)


@compiled
def _read(state: State, record: int, index: int) -> int:
    """Return an eight-byte source operand; nothing more is read once the state's STOP is set."""
    if state[Field.STOP] != Stop.NONE:
        return 0
    row = load_i64(record + B) + index * OPERAND_ROW_BYTES
    if load_i64(row + ROW_SHAPE) == 0:
        return load_i64(load_i64(row + ROW_CELL))
    address = _address(state, row)
    if state[Field.STOP] != Stop.NONE:
        return 0
    pointer = reach_load(state, address, WORD_BYTES, 0)
    return load_i64(pointer) if pointer != 0 else 0


@compiled
def _write(state: State, row: int, value: int) -> int:
    """Store an eight-byte result; return a reason to stop or 0."""
    if load_i64(row + ROW_SHAPE) == 0:
        store_i64(load_i64(row + ROW_CELL), value)
        return 0
    address = _address(state, row)
    if state[Field.STOP] == Stop.NONE:
        pointer = reach_store(state, address, WORD_BYTES)
        if pointer != 0:
            store_i64(pointer, value)
    return state[Field.STOP]


@compiled
def _load_field(state: State, address: int) -> int:
    """Return eight bytes of a descriptor, under the same convention."""
    if state[Field.STOP] != Stop.NONE or observe(state, address, WORD_BYTES) != 0:
        return 0
    return load_i64(VIEW + address)


# --- control ----------------------------------------------------------------------------------
@compiled
def record_of(state: State, pc: int) -> int:
    """Return the record of the instruction at `pc`, or 0 with the state's STOP set."""
    offset = pc - TEXT_START
    if 0 <= offset < state[Field.TEXT_BYTES]:
        record = load_i64(state[Field.RECORD_AT] + offset * WORD_BYTES)
        if record > 0:
            return record
        if record == 0:
            state[Field.DECODE_PC] = pc
            state[Field.STOP] = Stop.DECODE_WANTED
            return 0
    fault(state, TrapKind.BAD_JUMP, pc)
    return 0


@compiled
def _branch_and_link(state: State, record: int) -> int:
    target = _read(state, record, 0)
    if state[Field.STOP] != Stop.NONE:
        return 0
    goal = record_of(state, target)
    if goal != 0:
        _write(state, load_i64(record + B) + OPERAND_ROW_BYTES, load_i64(record + EXTRA))
    return goal


# --- strings ----------------------------------------------------------------------------------
@compiled
def _order_of(left: int, right: int, length: int) -> int:
    """Compare bytes at host addresses; -1, 0 or 1."""
    offset = 0
    while offset + WORD_BYTES <= length and load_i64(left + offset) == load_i64(right + offset):
        offset += WORD_BYTES
    while offset < length:
        a = load_u8(left + offset)
        b = load_u8(right + offset)
        if a != b:
            return -1 if a < b else 1
        offset += 1
    return 0


@compiled
def _note_compared(state: State, a: int, b: int, length: int) -> None:
    """Note the bytes of two pages, listed already, up to the first that differ."""
    seen = 0
    while seen < length and load_u8(VIEW + a + seen) == load_u8(VIEW + b + seen):
        seen += 1
    seen = min(seen + 1, length)
    note(state, a, seen)
    note(state, b, seen)


@compiled
def _branch_if_string_less(state: State, record: int) -> int:
    left = _read(state, record, 0)
    right = _read(state, record, 1)
    if state[Field.STOP] != Stop.NONE:
        return 0
    if observe(state, left, WORD_BYTES) != 0:
        return 0
    if observe(state, right, WORD_BYTES) != 0:
        return 0
    if _order_of(VIEW + left, VIEW + right, WORD_BYTES) < 0:
        return load_i64(record + TARGET)
    return load_i64(record + NEXT)


@compiled
def _strcmp(state: State, record: int) -> int:
    """Compare one step's bytes; come back to this instruction while there is more to compare."""
    left = _read(state, record, 0)
    left_bytes = max(_read(state, record, 1), 0)
    right = _read(state, record, 2)
    right_bytes = max(_read(state, record, 3), 0)
    if state[Field.STOP] != Stop.NONE:
        return 0
    shared = min(left_bytes, right_bytes)
    offset = state[Field.COMPARED]
    end = min(offset + STRCMP_STEP_BYTES, shared)
    order = 0
    while order == 0 and offset < end:
        a = left + offset
        b = right + offset
        length = min(PAGE_BYTES - (a & (PAGE_BYTES - 1)), PAGE_BYTES - (b & (PAGE_BYTES - 1)))
        length = min(length, end - offset)
        if observe(state, a, 1) != 0 or observe(state, b, 1) != 0:
            return 0
        order = _order_of(VIEW + a, VIEW + b, length)
        if state[Field.LOAD_TRACKING]:
            _note_compared(state, a, b, length)
        offset += length
    if order == 0 and end < shared:
        state[Field.COMPARED] = end
        give_back_stdin(state)
        return load_i64(record + TARGET)
    if order == 0:
        order = (left_bytes > right_bytes) - (left_bytes < right_bytes)
    if _write(state, load_i64(record + B) + 4 * OPERAND_ROW_BYTES, order) != 0:
        return 0
    state[Field.COMPARED] = 0
    return load_i64(record + NEXT)


# --- runners ----------------------------------------------------------------------------------
@compiled
def _judge_span(state: State, start: int, length: int, address: int) -> None:
    """Trap unless a descriptor's range is good; `address` is where it stands."""
    if state[Field.STOP] != Stop.NONE:
        return
    is_inside = SR_START <= start <= SR_END and length <= SR_END - start
    is_clear = start >= STACKS_END or start + length <= STACKS_START
    if length < 0 or (length > 0 and not (is_inside and is_clear)):
        fault(state, TrapKind.BAD_DESCRIPTOR, address)


@compiled
def _append_ranges(state: State, descriptor: int) -> int:
    """Add the nonempty ranges of `{n, (base, size) * n}` to the list; return n."""
    count = _load_field(state, descriptor)
    if state[Field.STOP] != Stop.NONE:
        return 0
    if count < 0 or count > DESCRIPTOR_RANGES_MAX:
        fault(state, TrapKind.BAD_DESCRIPTOR, descriptor)
        return 0
    if lacks_room(state, List.RANGES, count):
        return 0
    for index in range(count):
        at = descriptor + WORD_BYTES + index * PAIR_BYTES
        start = _load_field(state, at)
        length = _load_field(state, at + WORD_BYTES)
        _judge_span(state, start, length, at)
        if state[Field.STOP] != Stop.NONE:
            return 0
        if length > 0:
            row = append(state, List.RANGES, PAIR_BYTES)
            store_i64(row, start)
            store_i64(row + WORD_BYTES, length)
    return count


@compiled
def _want_lease(state: State, kind: int, length: int) -> None:
    state[Field.WANTED_KIND] = kind
    state[Field.WANTED_BYTES] = length
    state[Field.STOP] = Stop.LEASE_NEEDED


@compiled
def _check_room_for_child(state: State, is_automatic: bool) -> None:
    """Stop unless a lease and the lists have room for one more child."""
    if state[Field.STOP] != Stop.NONE:
        return
    if state[Field.ID_NEXT] + PAGE_BYTES > state[Field.ID_END]:
        _want_lease(state, LeaseKind.ID, 0)
        return
    stack_bytes = state[Field.STACK_BYTES]
    slot_bytes = GUARD_BYTES + stack_bytes
    if is_automatic and state[Field.STACK_NEXT] + slot_bytes > state[Field.STACK_LEASE_END]:
        _want_lease(state, LeaseKind.STACK, 0)
        return
    if lacks_room(state, List.CHILDREN, 1) or lacks_room(state, List.OTHERS, 1):
        return
    lacks_room(state, List.TOUCHED, stack_bytes >> PAGE_SHIFT)


@compiled
def _newr(state: State, record: int) -> None:
    ranges_before = count_of(state, List.RANGES)
    at_stack = _read(state, record, 0)
    at_heap = _read(state, record, 1)
    at_watched = _read(state, record, 2)
    at_entry = _read(state, record, 3)
    stack = _load_field(state, at_stack)
    stack_bytes = _load_field(state, at_stack + WORD_BYTES)
    if stack != 0:
        _judge_span(state, stack, stack_bytes, at_stack)
    elif stack_bytes != 0 and state[Field.STOP] == Stop.NONE:
        fault(state, TrapKind.BAD_DESCRIPTOR, at_stack)
    _append_ranges(state, at_heap)
    heap_count = count_of(state, List.RANGES) - ranges_before
    watched = _append_ranges(state, at_watched)
    watched_count = count_of(state, List.RANGES) - ranges_before - heap_count
    entry = _load_field(state, at_entry)
    _check_room_for_child(state, stack == 0)
    if state[Field.STOP] != Stop.NONE:
        set_count(state, List.RANGES, ranges_before)
        return
    child = append(state, List.CHILDREN, _CHILD_BYTES)
    store_i64(child, state[Field.ID_NEXT])
    store_i64(child + 1 * WORD_BYTES, entry)
    store_i64(child + 4 * WORD_BYTES, stack == 0)
    if stack == 0:
        stack, stack_bytes = _take_stack(state)
    elif stack_bytes > 0:
        row = append(state, List.OTHERS, PAIR_BYTES)
        store_i64(row, stack)
        store_i64(row + WORD_BYTES, stack + stack_bytes)
    store_i64(child + 2 * WORD_BYTES, stack)
    store_i64(child + 3 * WORD_BYTES, stack_bytes)
    store_i64(child + 5 * WORD_BYTES, ranges_before)
    store_i64(child + 6 * WORD_BYTES, heap_count)
    store_i64(child + 7 * WORD_BYTES, ranges_before + heap_count)
    store_i64(child + 8 * WORD_BYTES, watched_count)
    store_i64(child + 9 * WORD_BYTES, watched > 0)
    # Until the attempt ends: rows of STACK_RUNS.
    store_i64(child + 10 * WORD_BYTES, 0)
    store_i64(child + 11 * WORD_BYTES, 0)
    store_i64(child + 12 * WORD_BYTES, load_i64(record + PC))
    store_i64(VIEW + CELL_CHILD_STACK_BASE, stack)
    store_i64(VIEW + CELL_CHILD_STACK_SIZE, stack_bytes)
    store_i64(VIEW + CELL_CHILD_ID, state[Field.ID_NEXT])
    state[Field.ID_NEXT] += PAGE_BYTES


@compiled
def _take_stack(state: State) -> tuple[int, int]:
    """Take an automatic stack from the lease, open it for the parent; return base and bytes."""
    stack_bytes = state[Field.STACK_BYTES]
    stack = state[Field.STACK_NEXT] + GUARD_BYTES
    state[Field.STACK_NEXT] = stack + stack_bytes
    for page in range(stack >> PAGE_SHIFT, (stack + stack_bytes) >> PAGE_SHIFT):
        list_page(state, page, CHILD_FLAG)
    return stack, stack_bytes


# --- system calls -----------------------------------------------------------------------------
@compiled
def _int(state: State, record: int) -> None:
    if load_i64(record + EXTRA) != SYSTEM_INTERRUPT:
        fault(state, TrapKind.BAD_SYSTEM_CALL, -1)
        return
    if touch(state, CELL_SYSCALL_ARGS, _RESULTS_BYTES, STORE) != 0:
        return
    number = load_i64(VIEW + CELL_SYSCALL_NUMBER)
    argument = load_i64(VIEW + CELL_SYSCALL_ARGS)
    if number in (_MALLOC, _MALLOC_WITH_OPTION):
        _malloc(state, argument)
    elif number == _USLEEP:
        _usleep(state, argument)
    elif number == _GETTIME:
        _gettime(state)
    else:
        fault(state, TrapKind.BAD_SYSTEM_CALL, -1)


@compiled
def _malloc(state: State, length: int) -> None:
    if length < 0:
        fault(state, TrapKind.BAD_SYSTEM_CALL, -1)
        return
    if state[Field.MALLOC_REFUSED] or length > MALLOC_END - MALLOC_START:
        state[Field.MALLOC_REFUSED] = 0
        store_i64(VIEW + CELL_SYSCALL_ARGS, 0)
        return
    # Even an empty block has an address of its own.
    block_bytes = max((length + PAGE_BYTES - 1) & -PAGE_BYTES, PAGE_BYTES)
    start = state[Field.MALLOC_NEXT]
    if start + block_bytes > state[Field.MALLOC_LEASE_END]:
        _want_lease(state, LeaseKind.MALLOC, block_bytes)
        return
    if lacks_room(state, List.MALLOCS, 1):
        return
    count = count_of(state, List.MALLOCS)
    if count > 0 and load_i64(row_at(state, List.MALLOCS, count - 1, PAIR_BYTES)) > start:
        state[Field.MALLOCS_ASCEND] = 0
    row = append(state, List.MALLOCS, PAIR_BYTES)
    store_i64(row, start)
    store_i64(row + WORD_BYTES, length)
    state[Field.MALLOC_NEXT] = start + block_bytes
    store_i64(VIEW + CELL_SYSCALL_ARGS, start)


@compiled
def _usleep(state: State, microseconds: int) -> None:
    if microseconds < 0:
        fault(state, TrapKind.BAD_SYSTEM_CALL, -1)
        return
    store_i64(VIEW + CELL_SYSCALL_ARGS, 0)
    if microseconds > 0:
        state[Field.SLEEP_US] = microseconds
        state[Field.STOP] = Stop.SLEEPING


@compiled
def _gettime(state: State) -> None:
    if state[Field.REFUSES_TIME]:
        fault(state, TrapKind.NO_TIME, -1)
        return
    if not state[Field.CLOCK_READY]:
        state[Field.STOP] = Stop.CLOCK_WANTED
        return
    state[Field.CLOCK_READY] = 0
    store_i64(VIEW + CELL_SYSCALL_ARGS, 0)
    store_i64(VIEW + CELL_SYSCALL_ARGS + WORD_BYTES, state[Field.CLOCK_NS] // _NS_PER_S)
    store_i64(VIEW + CELL_SYSCALL_ARGS + 2 * WORD_BYTES, state[Field.CLOCK_NS] % _NS_PER_S)
