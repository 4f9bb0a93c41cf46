"""How an attempt enters the view and how it leaves it, for compiled code.

Entering costs what the attempt declares; leaving costs what it touched. Leaving first writes the
outcome, then undoes every store, so that the next attempt finds cached pages and zeros only.
The invariant to remember: where a list lacks room, nothing of the outcome has been written.
"""

from __future__ import annotations

from typing import Final

from dvm_mpi.engine.access import fault, first_uncovered
from dvm_mpi.engine.address_space import (
    CACHED,
    DIRTY,
    FLAGS,
    LOAD_MASKS,
    LOADED,
    MASK_BYTES,
    MASKS,
    VIEW,
    WIDE_PAGES,
)
from dvm_mpi.engine.address_space import CHILD as CHILD_FLAG
from dvm_mpi.engine.calls import record_of
from dvm_mpi.engine.compiled import compiled
from dvm_mpi.engine.interface import (
    ATTEMPT,
    CHILD,
    GRANT,
    LEASES,
    OUTCOME,
    RUN,
    End,
    TrapKind,
)
from dvm_mpi.engine.lists import append, count_of, lacks_room, row_at, set_count
from dvm_mpi.engine.loads import clear_notes, collect_loads
from dvm_mpi.engine.machine_words import (
    clear,
    copy,
    load_i64,
    load_u8,
    release,
    store_i8,
    store_i64,
)
from dvm_mpi.engine.page_flags import PAIR_BYTES
from dvm_mpi.engine.stacks import collect_logged
from dvm_mpi.engine.state import Field, List, Phase, State, Stop
from dvm_mpi.layout import (
    CELL_ID,
    CELL_STACK_BASE,
    CELL_STACK_SIZE,
    PAGE_BYTES,
    PAGE_SHIFT,
    PR_END,
    STACKS_END,
    STACKS_START,
    WORD_BYTES,
)

#: Private pages that stay in memory, zeroed, for the next attempt to use.
_PRIVATE_PAGES_KEPT: Final = 1 << 12
#: Flags of eight neighbouring pages, whose masks share a page, of which one is dirty.
_ANY_DIRTY: Final = int.from_bytes(bytes([DIRTY]) * 8, "little")
assert PAGE_BYTES // MASK_BYTES == WORD_BYTES
#: Mask of a word of which all bytes were stored.
_ALL_STORED: Final = 0xFF
#: Words whose masks are looked at together: most pages have few stored bytes.
_GROUP_BYTES: Final = 8 * WORD_BYTES

_ATTEMPT_BYTES: Final = ATTEMPT.itemsize
_GRANT_BYTES: Final = GRANT.itemsize
_OUTCOME_BYTES: Final = OUTCOME.itemsize
_CHILD_BYTES: Final = CHILD.itemsize
_RUN_BYTES: Final = RUN.itemsize
_LEASES_BYTES: Final = LEASES.itemsize
_LEASE_WORDS: Final = _LEASES_BYTES // WORD_BYTES
# Rows are read and written by position; these are the orders that the code below follows.
assert ATTEMPT.names == (
    "runner", "id", "entry", "snapshot", "stack_base", "stack_bytes", "stack_automatic",
    "grant_first", "grant_count", "image_first", "image_count",
)  # fmt: skip
assert OUTCOME.names == (
    "runner", "end", "instructions", "run_first", "run_count", "child_first", "child_count",
    "console_first", "console_count", "malloc_first", "malloc_count", "stdin_bytes",
    "trap", "trap_pc", "trap_address", "exit_pc", "load_first", "load_count",
)  # fmt: skip


# --- entering ---------------------------------------------------------------------------------
@compiled
def enter(state: State) -> int:
    """Make the batch's next attempt the one in the view; return a reason to stop or 0."""
    row = state[Field.ATTEMPTS] + state[Field.CURSOR] * _ATTEMPT_BYTES
    state[Field.STOP] = Stop.NONE
    entry = load_i64(row + 2 * WORD_BYTES)
    record = record_of(state, entry)
    if state[Field.STOP] == Stop.DECODE_WANTED:
        return Stop.DECODE_WANTED
    state[Field.RECORD] = record
    grant_count = load_i64(row + 8 * WORD_BYTES)
    for which in (List.TOUCHED, List.DIRTY, List.SAVED, List.OTHERS, List.GRANTS,
                  List.CHILDREN, List.RANGES, List.MALLOCS, List.CONSOLE, List.LOADED,
                  List.LOADED_PAGES, List.STACK_RUNS, List.STACK_DATA):  # fmt: skip
        set_count(state, which, 0)
    if lacks_room(state, List.GRANTS, grant_count) or lacks_room(state, List.OUTCOMES, 1):
        return Stop.LIST_FULL
    state[Field.INDEX] = state[Field.CURSOR]
    state[Field.CURSOR] += 1
    _take_leases(state)
    state[Field.RUNNER] = load_i64(row)
    state[Field.ID] = load_i64(row + 1 * WORD_BYTES)
    state[Field.SNAPSHOT] = load_i64(row + 3 * WORD_BYTES)
    state[Field.INSTRUCTIONS] = 0
    state[Field.COMPARED] = 0
    state[Field.STDIN_POSITION] = 0
    state[Field.STDIN_TAKEN_AT] = -1
    state[Field.MALLOC_REFUSED] = 0
    state[Field.MALLOCS_ASCEND] = 1
    state[Field.PRIVATE_COUNT] = 0
    state[Field.SHARED_COUNT] = 0
    state[Field.EXIT_PC] = -1
    grants = state[Field.BATCH_GRANTS] + load_i64(row + 7 * WORD_BYTES) * _GRANT_BYTES
    copy(row_at(state, List.GRANTS, 0, _GRANT_BYTES), grants, grant_count * _GRANT_BYTES)
    set_count(state, List.GRANTS, grant_count)
    _cover(state, state[Field.ID], PAGE_BYTES)
    _enter_stack(state, row)
    store_i64(VIEW + CELL_ID, state[Field.ID])
    state[Field.PHASE] = Phase.RUNNING
    if record == 0:
        # A bad entry traps as if an instruction stood there.
        return end_by_trap(state, entry, 1)
    return 0


@compiled
def _enter_stack(state: State, row: int) -> None:
    """Note the stack of the attempt in a row of ATTEMPT; nothing is put into it yet."""
    stack = load_i64(row + 4 * WORD_BYTES)
    stack_bytes = load_i64(row + 5 * WORD_BYTES)
    state[Field.STACK_START] = 0
    state[Field.STACK_END] = 0
    state[Field.IMAGE_COUNT] = 0
    state[Field.IMAGE_LOADS] = 0
    state[Field.STACKS_SHOWN] = 0
    if load_i64(row + 6 * WORD_BYTES) != 0:
        state[Field.STACK_START] = stack
        state[Field.STACK_END] = stack + stack_bytes
        image = state[Field.IMAGE_RUNS] + load_i64(row + 9 * WORD_BYTES) * _RUN_BYTES
        state[Field.IMAGE] = image
        state[Field.IMAGE_COUNT] = load_i64(row + 10 * WORD_BYTES)
    else:
        _cover(state, stack, stack_bytes)
    store_i64(VIEW + CELL_STACK_BASE, stack)
    store_i64(VIEW + CELL_STACK_SIZE, stack_bytes)


@compiled
def _take_leases(state: State) -> None:
    """Hand out the addresses that the attempt brings, if it does."""
    if state[Field.BATCH_LEASES] != 0:
        row = state[Field.BATCH_LEASES] + state[Field.INDEX] * _LEASES_BYTES
        for word in range(_LEASE_WORDS):
            state[Field.ID_NEXT + word] = load_i64(row + word * WORD_BYTES)


@compiled
def _return_leases(state: State) -> None:
    """Tell what the attempt has left of its addresses; the list has room."""
    row = append(state, List.ENDED_LEASES, _LEASES_BYTES)
    for word in range(_LEASE_WORDS):
        store_i64(row + word * WORD_BYTES, state[Field.ID_NEXT + word])


@compiled
def _cover(state: State, start: int, length: int) -> None:
    if length > 0:
        row = append(state, List.OTHERS, PAIR_BYTES)
        store_i64(row, start)
        store_i64(row + WORD_BYTES, start + length)


@compiled
def end_by_trap(state: State, pc: int, counted: int) -> int:
    """End the attempt at `pc`, by the trap that the state names; return the reason to stop."""
    state[Field.INSTRUCTIONS] += counted
    state[Field.END] = End.TRAP
    state[Field.TRAP_PC] = pc
    state[Field.PHASE] = Phase.LEAVING
    return Stop.TRAPPED


@compiled
def end_by_exit(state: State, pc: int, end: int) -> int:
    """End the attempt by `exit`; a commit of undeclared bytes traps. Return the reason to stop."""
    if end in (End.COMMIT, End.COMMIT_DELETE) and not state[Field.ALLOW_UNDECLARED]:
        uncovered = _lowest_uncovered_store(state)
        if uncovered >= 0:
            fault(state, TrapKind.UNDECLARED_STORE, uncovered)
            return end_by_trap(state, pc, 1)
    state[Field.INSTRUCTIONS] += 1
    state[Field.END] = end
    state[Field.EXIT_PC] = pc
    state[Field.TRAP] = -1
    state[Field.TRAP_PC] = -1
    state[Field.TRAP_ADDRESS] = -1
    state[Field.PHASE] = Phase.LEAVING
    return 0


@compiled
def _lowest_uncovered_store(state: State) -> int:
    """Return the lowest stored address that nothing covers, or -1."""
    lowest = -1
    for index in range(count_of(state, List.DIRTY)):
        page = load_i64(row_at(state, List.DIRTY, index, PAIR_BYTES))
        if load_u8(FLAGS + page) & CHILD_FLAG:
            continue
        start = page << PAGE_SHIFT
        end = start + PAGE_BYTES
        if first_uncovered(state, start, end) < end:
            found = _uncovered_store_in(state, start, end if lowest < 0 else min(end, lowest))
            lowest = found if found >= 0 else lowest
    return lowest


@compiled
def _uncovered_store_in(state: State, start: int, end: int) -> int:
    """Return the lowest stored address in `[start, end)` of one page that nothing covers, or -1.

    Only words that were stored are looked up: mostly few, and a lookup costs more than a mask.
    """
    for group in range(start, end, _GROUP_BYTES):
        if load_i64(MASKS + (group >> 3)) == 0:
            continue
        for word in range(group, min(group + _GROUP_BYTES, end), WORD_BYTES):
            mask = load_u8(MASKS + (word >> 3))
            if mask != 0:
                after = min(word + WORD_BYTES, end)
                address = first_uncovered(state, word, after)
                while address < after:
                    if mask >> (address & 7) & 1:
                        return address
                    address = first_uncovered(state, address + 1, after)
    return -1


# --- leaving ----------------------------------------------------------------------------------
@compiled
def leave(state: State) -> int:
    """Write the outcome of the attempt that ended and clear the view; a reason to stop or 0."""
    run_first = count_of(state, List.RUNS)
    data_first = count_of(state, List.DATA)
    child_first = count_of(state, List.ENDED_CHILDREN)
    range_first = count_of(state, List.ENDED_RANGES)
    console_first = count_of(state, List.ENDED_CONSOLE)
    malloc_first = count_of(state, List.ENDED_MALLOCS)
    load_first = count_of(state, List.LOADS)
    load_data_first = count_of(state, List.LOAD_DATA)
    end = state[Field.END]
    for pages in (List.DIRTY, List.LOADED):
        _sort_pairs(row_at(state, pages, 0, PAIR_BYTES), count_of(state, pages))
    is_abort = end in (End.ABORT, End.ABORT_DELETE)
    is_complete = (
        not lacks_room(state, List.OUTCOMES, 1)
        and collect_loads(state)
        and not lacks_room(state, List.ENDED_LEASES, 1)
        and _collect_runs(state, is_abort)
    )
    run_count = count_of(state, List.RUNS) - run_first
    if is_complete and end in (End.COMMIT, End.COMMIT_DELETE):
        is_complete = _collect_created(state)
    elif is_complete:
        is_complete = _collect_dropped_stacks(state)
    if not is_complete:
        set_count(state, List.RUNS, run_first)
        set_count(state, List.DATA, data_first)
        set_count(state, List.ENDED_CHILDREN, child_first)
        set_count(state, List.ENDED_RANGES, range_first)
        set_count(state, List.ENDED_CONSOLE, console_first)
        set_count(state, List.ENDED_MALLOCS, malloc_first)
        set_count(state, List.LOADS, load_first)
        set_count(state, List.LOAD_DATA, load_data_first)
        return Stop.LIST_FULL
    if state[Field.BATCH_LEASES] != 0:
        _return_leases(state)
    row = append(state, List.OUTCOMES, _OUTCOME_BYTES)
    store_i64(row, state[Field.RUNNER])
    store_i64(row + 1 * WORD_BYTES, end)
    store_i64(row + 2 * WORD_BYTES, state[Field.INSTRUCTIONS])
    store_i64(row + 3 * WORD_BYTES, run_first)
    store_i64(row + 4 * WORD_BYTES, run_count)
    store_i64(row + 5 * WORD_BYTES, child_first)
    store_i64(row + 6 * WORD_BYTES, count_of(state, List.ENDED_CHILDREN) - child_first)
    store_i64(row + 7 * WORD_BYTES, console_first)
    store_i64(row + 8 * WORD_BYTES, count_of(state, List.ENDED_CONSOLE) - console_first)
    store_i64(row + 9 * WORD_BYTES, malloc_first)
    store_i64(row + 10 * WORD_BYTES, count_of(state, List.ENDED_MALLOCS) - malloc_first)
    store_i64(row + 11 * WORD_BYTES, state[Field.STDIN_POSITION])
    store_i64(row + 12 * WORD_BYTES, state[Field.TRAP])
    store_i64(row + 13 * WORD_BYTES, state[Field.TRAP_PC])
    store_i64(row + 14 * WORD_BYTES, state[Field.TRAP_ADDRESS])
    store_i64(row + 15 * WORD_BYTES, state[Field.EXIT_PC])
    store_i64(row + 16 * WORD_BYTES, load_first)
    store_i64(row + 17 * WORD_BYTES, count_of(state, List.LOADS) - load_first)
    clear_view(state)
    state[Field.PHASE] = Phase.NONE
    return 0


@compiled
def _collect_runs(state: State, only_status_page: bool) -> bool:
    """Add the stored runs, children's automatic stacks left out; False if a list lacks room."""
    start = 0
    end = 0
    for index in range(count_of(state, List.DIRTY)):
        page = load_i64(row_at(state, List.DIRTY, index, PAIR_BYTES))
        is_wanted = load_u8(FLAGS + page) & CHILD_FLAG == 0
        if only_status_page:
            is_wanted = page == state[Field.ID] >> PAGE_SHIFT
        if is_wanted:
            start, end = _collect_page(state, page, start, end)
            if end < 0:
                return False
    return _emit_run(state, start, end)


@compiled
def _collect_page(state: State, page: int, start: int, end: int) -> tuple[int, int]:
    """Join a page's stored bytes to the open run `[start, end)`; the end is -1 if out of room."""
    address = page << PAGE_SHIFT
    page_end = address + PAGE_BYTES
    while address < page_end:
        group = load_i64(MASKS + (address >> 3))
        if group == 0:
            address += _GROUP_BYTES
        elif group == -1 and end == address:
            end += _GROUP_BYTES
            address += _GROUP_BYTES
        else:
            start, end = _collect_group(state, address, start, end)
            address += _GROUP_BYTES
            if end < 0:
                return 0, -1
    return start, end


@compiled
def _collect_group(state: State, address: int, start: int, end: int) -> tuple[int, int]:
    """Join the stored bytes of eight words to the open run, under the same convention."""
    for word in range(address, address + _GROUP_BYTES, WORD_BYTES):
        mask = load_u8(MASKS + (word >> 3))
        if mask == _ALL_STORED and end == word:
            end += WORD_BYTES
        elif mask != 0:
            for bit in range(WORD_BYTES):
                if mask >> bit & 1:
                    if end != word + bit:
                        if not _emit_run(state, start, end):
                            return 0, -1
                        start = word + bit
                    end = word + bit + 1
    return start, end


@compiled
def _emit_run(state: State, start: int, end: int) -> bool:
    """Add one run with its bytes, nothing if it is empty; False if a list lacks room."""
    length = end - start
    if length == 0:
        return True
    if lacks_room(state, List.RUNS, 1) or lacks_room(state, List.DATA, length):
        return False
    data_first = count_of(state, List.DATA)
    copy(row_at(state, List.DATA, data_first, 1), VIEW + start, length)
    set_count(state, List.DATA, data_first + length)
    row = append(state, List.RUNS, _RUN_BYTES)
    store_i64(row, start)
    store_i64(row + WORD_BYTES, length)
    store_i64(row + 2 * WORD_BYTES, data_first)
    return True


@compiled
def _collect_created(state: State) -> bool:
    """Add children, blocks and console output; False if a list lacks room."""
    range_first = count_of(state, List.ENDED_RANGES)
    if not (
        _move_rows(state, List.RANGES, List.ENDED_RANGES, PAIR_BYTES)
        and _move_rows(state, List.CONSOLE, List.ENDED_CONSOLE, 1)
    ):
        return False
    for index in range(count_of(state, List.MALLOCS)):
        block = row_at(state, List.MALLOCS, index, PAIR_BYTES)
        if load_i64(block + WORD_BYTES) > 0:
            if lacks_room(state, List.ENDED_MALLOCS, 1):
                return False
            copy(append(state, List.ENDED_MALLOCS, PAIR_BYTES), block, PAIR_BYTES)
    child_first = count_of(state, List.ENDED_CHILDREN)
    if not _move_rows(state, List.CHILDREN, List.ENDED_CHILDREN, _CHILD_BYTES):
        return False
    for index in range(child_first, count_of(state, List.ENDED_CHILDREN)):
        child = row_at(state, List.ENDED_CHILDREN, index, _CHILD_BYTES)
        store_i64(child + 5 * WORD_BYTES, load_i64(child + 5 * WORD_BYTES) + range_first)
        store_i64(child + 7 * WORD_BYTES, load_i64(child + 7 * WORD_BYTES) + range_first)
        image_first = count_of(state, List.RUNS)
        if index - child_first >= state[Field.STACKS_SHOWN]:
            is_complete = collect_logged(state, child)
        else:
            is_complete = not load_i64(child + 4 * WORD_BYTES) or _collect_image(state, child)
        if not is_complete:
            return False
        store_i64(child + 10 * WORD_BYTES, image_first)
        store_i64(child + 11 * WORD_BYTES, count_of(state, List.RUNS) - image_first)
    return True


@compiled
def _collect_dropped_stacks(state: State) -> bool:
    """Add the automatic stacks of children that will never be; False if the list lacks room."""
    count = count_of(state, List.CHILDREN)
    if lacks_room(state, List.DROPPED_STACKS, count):
        return False
    for index in range(count):
        child = row_at(state, List.CHILDREN, index, _CHILD_BYTES)
        if load_i64(child + 4 * WORD_BYTES):
            stack = load_i64(child + 2 * WORD_BYTES)
            store_i64(append(state, List.DROPPED_STACKS, WORD_BYTES), stack)
    return True


@compiled
def _collect_image(state: State, child: int) -> bool:
    """Add what the parent stored into a child's shown stack; False if a list lacks room."""
    stack = load_i64(child + 2 * WORD_BYTES)
    stack_end = stack + load_i64(child + 3 * WORD_BYTES)
    start = 0
    end = 0
    for page in range(stack >> PAGE_SHIFT, stack_end >> PAGE_SHIFT):
        if load_u8(FLAGS + page) & DIRTY:
            start, end = _collect_page(state, page, start, end)
            if end < 0:
                return False
    return _emit_run(state, start, end)


@compiled
def _move_rows(state: State, source: int, target: int, row_bytes: int) -> bool:
    """Append a copy of one list's rows to another; False if it lacks room."""
    count = count_of(state, source)
    if lacks_room(state, target, count):
        return False
    first = count_of(state, target)
    copy(
        row_at(state, target, first, row_bytes),
        row_at(state, source, 0, row_bytes),
        count * row_bytes,
    )
    set_count(state, target, first + count)
    return True


# --- undoing ----------------------------------------------------------------------------------
@compiled
def clear_view(state: State) -> None:
    """Undo every store of the attempt and take its flags away."""
    for index in range(count_of(state, List.DIRTY)):
        row = row_at(state, List.DIRTY, index, PAIR_BYTES)
        page = load_i64(row)
        saved = load_i64(row + WORD_BYTES)
        content = VIEW + (page << PAGE_SHIFT)
        clear(MASKS + page * MASK_BYTES, MASK_BYTES)
        if saved >= 0:
            copy(content, row_at(state, List.SAVED, saved, PAGE_BYTES), PAGE_BYTES)
        else:
            clear(content, PAGE_BYTES)
            store_i8(FLAGS + page, 0)
            _retire(state, page)
    keeps_private = state[Field.PRIVATE_COUNT] <= _PRIVATE_PAGES_KEPT
    for index in range(count_of(state, List.TOUCHED)):
        page = load_i64(row_at(state, List.TOUCHED, index, WORD_BYTES))
        address = page << PAGE_SHIFT
        is_private = address < PR_END
        if is_private or state[Field.STACK_START] <= address < state[Field.STACK_END]:
            clear(VIEW + address, PAGE_BYTES)
            store_i8(FLAGS + page, 0)
            if not (is_private and keeps_private):
                _retire(state, page)
        else:
            store_i8(FLAGS + page, load_u8(FLAGS + page) & CACHED)
    for index in range(count_of(state, List.LOADED)):
        page = load_i64(row_at(state, List.LOADED, index, PAIR_BYTES))
        if clear_notes(page):
            _retire(state, page)
    for index in range(count_of(state, List.STATIC)):
        page = load_i64(row_at(state, List.STATIC, index, WORD_BYTES))
        clear(VIEW + (page << PAGE_SHIFT), PAGE_BYTES)
    set_count(state, List.DIRTY, 0)
    set_count(state, List.SAVED, 0)
    set_count(state, List.TOUCHED, 0)
    set_count(state, List.LOADED, 0)
    set_count(state, List.LOADED_PAGES, 0)
    if count_of(state, List.WIDENED) > 0:
        _release_widened(state)


@compiled
def _release_widened(state: State) -> None:
    """Give back what nobody uses of the stretches that got memory as a whole."""
    for index in range(count_of(state, List.WIDENED)):
        first = load_i64(row_at(state, List.WIDENED, index, PAIR_BYTES))
        end = first
        for page in range(first, first + WIDE_PAGES):
            if load_u8(FLAGS + page) != 0:
                _release_pages(first, end)
                first = page + 1
            end = page + 1
        _release_pages(first, end)
    set_count(state, List.WIDENED, 0)


@compiled
def _retire(state: State, page: int) -> None:
    """Note a zeroed page without flags whose memory may go; many are given back together."""
    field = Field.LISTS + 3 * List.RETIRED
    if state[field + 1] == state[field + 2]:
        _release_retired(state)
    store_i64(append(state, List.RETIRED, PAIR_BYTES), page)


@compiled
def _release_retired(state: State) -> None:
    """Give back the retired pages that nobody uses again, neighbours in one call."""
    count = count_of(state, List.RETIRED)
    _sort_pairs(row_at(state, List.RETIRED, 0, PAIR_BYTES), count)
    first = 0
    end = 0
    for index in range(count):
        page = load_i64(row_at(state, List.RETIRED, index, PAIR_BYTES))
        if load_u8(FLAGS + page) == 0:
            # Between automatic stacks lies one guard page, which never holds memory.
            is_stack = STACKS_START <= page << PAGE_SHIFT < STACKS_END
            if page > end + is_stack:
                _release_pages(first, end)
                first = page
            end = page + 1
    _release_pages(first, end)
    set_count(state, List.RETIRED, 0)


@compiled
def _release_pages(first: int, end: int) -> None:
    """Give the memory of pages back, and that of their masks where no neighbour uses it."""
    if end <= first:
        return
    release(VIEW + (first << PAGE_SHIFT), (end - first) << PAGE_SHIFT)
    masked = PAGE_BYTES // MASK_BYTES
    for group in range(first // masked, (end + masked - 1) // masked):
        if load_i64(FLAGS + group * masked) & _ANY_DIRTY == 0:
            release(MASKS + group * PAGE_BYTES, PAGE_BYTES)
        if load_i64(LOADED + group * masked) == 0:
            release(LOAD_MASKS + group * PAGE_BYTES, PAGE_BYTES)


@compiled
def _sort_pairs(base: int, count: int) -> None:
    """Sort pairs of words by the first, in place; mostly they are in order already."""
    gap = 1
    while gap < count:
        gap = 3 * gap + 1
    while gap > 0:
        for index in range(gap, count):
            key = load_i64(base + index * PAIR_BYTES)
            value = load_i64(base + index * PAIR_BYTES + WORD_BYTES)
            place = index
            while place >= gap and load_i64(base + (place - gap) * PAIR_BYTES) > key:
                copy(base + place * PAIR_BYTES, base + (place - gap) * PAIR_BYTES, PAIR_BYTES)
                place -= gap
            store_i64(base + place * PAIR_BYTES, key)
            store_i64(base + place * PAIR_BYTES + WORD_BYTES, value)
        gap //= 3
