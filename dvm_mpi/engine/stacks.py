"""Automatic stacks that have no page yet, for compiled code.

What a creator stores into a child's new stack is mostly a few arguments, which the child mostly
loads once. A page for them costs more than all else that such runners do: the system clears one
for the creator and one for the child, and takes both back. So those stores go to a list, from
which the outcome is made, and those loads are answered from the batch that brought the bytes. Any
other access to a stack puts the bytes where they belong (*shows* them), and the rest is as usual.
The invariant to remember: a stack whose bytes are not shown has no page with READ or WRITE.
"""

from __future__ import annotations

from typing import Final

from dvm_mpi.engine.address_space import DIRTY, FLAGS, READ, TRACK, VIEW, WRITE
from dvm_mpi.engine.compiled import compiled
from dvm_mpi.engine.interface import CHILD, RUN
from dvm_mpi.engine.lists import append, count_of, lacks_room, row_at, set_count
from dvm_mpi.engine.machine_words import copy, load_i64, load_u8, store_i64
from dvm_mpi.engine.page_flags import list_page, mark, save
from dvm_mpi.engine.state import Field, List, State, Stop
from dvm_mpi.layout import PAGE_BYTES, PAGE_SHIFT, WORD_BYTES

#: Loads of an attempt that are answered from the batch: each costs more than one from a page.
_IMAGE_LOADS_MAX: Final = 16
#: Bytes that are stored to the list for one child: no more pages than this can be among them.
_LOGGED_BYTES_MAX: Final = 256

_RUN_BYTES: Final = RUN.itemsize
_CHILD_BYTES: Final = CHILD.itemsize
#: Where a CHILD row tells of its stack; `image_first` and `image_count` are rows of STACK_RUNS
#: until the attempt ends.
_STACK_BASE: Final = 2 * WORD_BYTES
_STACK_BYTES: Final = 3 * WORD_BYTES
_STACK_AUTOMATIC: Final = 4 * WORD_BYTES
_IMAGE_FIRST: Final = 10 * WORD_BYTES
_IMAGE_COUNT: Final = 11 * WORD_BYTES


# --- the own stack ----------------------------------------------------------------------------
@compiled
def place_in_image(state: State, address: int, width: int) -> int:
    """Return where the batch has bytes of the own stack; 0 if they must be loaded in the view."""
    if state[Field.IMAGE_LOADS] == _IMAGE_LOADS_MAX:
        return 0
    for index in range(state[Field.IMAGE_COUNT]):
        run = state[Field.IMAGE] + index * _RUN_BYTES
        offset = address - load_i64(run)
        if 0 <= offset <= load_i64(run + WORD_BYTES) - width:
            state[Field.IMAGE_LOADS] += 1
            return state[Field.IMAGE_DATA] + load_i64(run + 2 * WORD_BYTES) + offset
    return 0


@compiled
def show_own_stack(state: State) -> int:
    """Copy what the creator left into the own stack, once; 0 if done."""
    count = state[Field.IMAGE_COUNT]
    page_count = (state[Field.STACK_END] - state[Field.STACK_START]) >> PAGE_SHIFT
    if count == 0:
        return 0
    # Asked for all pages before the first gets its flags: the instruction is executed again.
    if lacks_room(state, List.TOUCHED, page_count):
        return Stop.LIST_FULL
    for index in range(count):
        run = state[Field.IMAGE] + index * _RUN_BYTES
        start = load_i64(run)
        length = load_i64(run + WORD_BYTES)
        for page in range(start >> PAGE_SHIFT, (start + length + PAGE_BYTES - 1) >> PAGE_SHIFT):
            list_page(state, page, READ | WRITE)
        copy(VIEW + start, state[Field.IMAGE_DATA] + load_i64(run + 2 * WORD_BYTES), length)
    state[Field.IMAGE_COUNT] = 0
    return 0


# --- stacks of children -----------------------------------------------------------------------
@compiled
def log_store(state: State, address: int, width: int) -> int:
    """Return where to store bytes of the newest child's stack; -1 if a list lacks room.

    0 if the view is the place: for all other addresses, stores that do not go upwards, and more
    bytes than arguments need.
    """
    index = count_of(state, List.CHILDREN) - 1
    if index < state[Field.STACKS_SHOWN]:
        return 0
    child = row_at(state, List.CHILDREN, index, _CHILD_BYTES)
    offset = address - load_i64(child + _STACK_BASE)
    is_inside = 0 <= offset <= load_i64(child + _STACK_BYTES) - width
    if not is_inside or load_i64(child + _STACK_AUTOMATIC) == 0:
        return 0
    data_first = count_of(state, List.STACK_DATA)
    run_count = load_i64(child + _IMAGE_COUNT)
    end = -1
    run = 0
    if run_count > 0:
        first = row_at(state, List.STACK_RUNS, load_i64(child + _IMAGE_FIRST), _RUN_BYTES)
        run = first + (run_count - 1) * _RUN_BYTES
        end = load_i64(run) + load_i64(run + WORD_BYTES)
        logged = data_first - load_i64(first + 2 * WORD_BYTES)
        if address < end or logged + width > _LOGGED_BYTES_MAX:
            return 0
    if lacks_room(state, List.STACK_RUNS, 1) or lacks_room(state, List.STACK_DATA, width):
        return -1
    set_count(state, List.STACK_DATA, data_first + width)
    if address == end:
        store_i64(run + WORD_BYTES, load_i64(run + WORD_BYTES) + width)
    else:
        if run_count == 0:
            store_i64(child + _IMAGE_FIRST, count_of(state, List.STACK_RUNS))
        store_i64(child + _IMAGE_COUNT, run_count + 1)
        run = append(state, List.STACK_RUNS, _RUN_BYTES)
        store_i64(run, address)
        store_i64(run + WORD_BYTES, width)
        store_i64(run + 2 * WORD_BYTES, data_first)
    return row_at(state, List.STACK_DATA, data_first, 1)


@compiled
def show_stacks(state: State) -> int:
    """Put the bytes of all children's stacks that are on the list into the view; 0 if done."""
    for index in range(state[Field.STACKS_SHOWN], count_of(state, List.CHILDREN)):
        child = row_at(state, List.CHILDREN, index, _CHILD_BYTES)
        # Asked for a whole stack: the instruction is executed again, and pages with flags are
        # complete.
        if lacks_room(state, List.DIRTY, _LOGGED_BYTES_MAX) or lacks_room(state, List.SAVED, 1):
            return Stop.LIST_FULL
        first = load_i64(child + _IMAGE_FIRST)
        for run in range(first, first + load_i64(child + _IMAGE_COUNT)):
            _show_run(state, row_at(state, List.STACK_RUNS, run, _RUN_BYTES))
        state[Field.STACKS_SHOWN] = index + 1
    return 0


@compiled
def _show_run(state: State, run: int) -> None:
    """Store one run into the view as the creator would have done."""
    start = load_i64(run)
    length = load_i64(run + WORD_BYTES)
    copy(VIEW + start, row_at(state, List.STACK_DATA, load_i64(run + 2 * WORD_BYTES), 1), length)
    for address in range(start, start + length):
        page = address >> PAGE_SHIFT
        if load_u8(FLAGS + page) & DIRTY == 0:
            save(state, page, True)
            list_page(state, page, READ | WRITE | TRACK | DIRTY)
        mark(address, 1)


@compiled
def collect_logged(state: State, child: int) -> bool:
    """Add the runs of a child's stack that is not shown to the outcome; False if no room."""
    first = load_i64(child + _IMAGE_FIRST)
    count = load_i64(child + _IMAGE_COUNT)
    if lacks_room(state, List.RUNS, count):
        return False
    for index in range(first, first + count):
        run = row_at(state, List.STACK_RUNS, index, _RUN_BYTES)
        length = load_i64(run + WORD_BYTES)
        if lacks_room(state, List.DATA, length):
            return False
        data_first = count_of(state, List.DATA)
        set_count(state, List.DATA, data_first + length)
        source = row_at(state, List.STACK_DATA, load_i64(run + 2 * WORD_BYTES), 1)
        copy(row_at(state, List.DATA, data_first, 1), source, length)
        row = append(state, List.RUNS, _RUN_BYTES)
        store_i64(row, load_i64(run))
        store_i64(row + WORD_BYTES, length)
        store_i64(row + 2 * WORD_BYTES, data_first)
    return True
