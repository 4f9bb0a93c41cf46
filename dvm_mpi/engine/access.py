"""Checks of memory accesses, for compiled code: the slow path behind the flag of a page.

The loop looks at one flag byte; when it does not permit the access, `reach` decides: a page of
this attempt that is touched for the first time gets its flags, a page that is not there is
reported missing, everything else is a trap. What may be touched is docs/isa.md, "Runners".
The invariant to remember: a page gets flags here only, and only when the access is permitted.
"""

from __future__ import annotations

from typing import Final

from dvm_mpi.engine.address_space import (
    CACHED,
    CHILD,
    DIRTY,
    EPOCH_ROW_BYTES,
    EPOCHS,
    FLAGS,
    LISTED,
    NOTED,
    PAGE_COUNT,
    READ,
    TRACK,
    VIEW,
    WIDE_PAGES,
    WRITE,
)
from dvm_mpi.engine.compiled import compiled
from dvm_mpi.engine.interface import GRANT, TrapKind
from dvm_mpi.engine.lists import append, count_of, lacks_room, room_in, row_at
from dvm_mpi.engine.loads import note_span
from dvm_mpi.engine.machine_words import clear, load_i64, load_u8, store_i64
from dvm_mpi.engine.page_flags import PAIR_BYTES, list_page, mark, save, stop_marking
from dvm_mpi.engine.records import PC, REPORTED
from dvm_mpi.engine.stacks import log_store, place_in_image, show_own_stack, show_stacks
from dvm_mpi.engine.state import Field, List, State, Stop
from dvm_mpi.engine.widening import follows_a_scan, widen
from dvm_mpi.layout import (
    CELL_CONSOLE,
    CELL_STDIN,
    GUARD_BYTES,
    MALLOC_END,
    MALLOC_START,
    PAGE_BYTES,
    PAGE_SHIFT,
    PR_END,
    PR_START,
    SR_END,
    STACKS_END,
    STACKS_START,
    TEXT_END,
    WORD_BYTES,
)

#: The page of the input and console cells: never gets the flags of the fast path.
SPECIAL_PAGE: Final = CELL_STDIN >> PAGE_SHIFT
assert SPECIAL_PAGE == CELL_CONSOLE >> PAGE_SHIFT

#: What an access is, for `reach`.
LOAD: Final = 0
STORE: Final = 1

#: Pages that a scan is let load from at a time: a touch of each by itself takes five times as long.
_PAGES_AHEAD: Final = 32

#: How a page is covered, as `_coverage` says.
_UNCOVERED: Final = 0
_PARTLY: Final = 1
_WHOLLY: Final = 2
_FRESH: Final = 3

_GRANT_BYTES: Final = GRANT.itemsize


@compiled
def fault(state: State, kind: int, address: int) -> int:
    """Stop for a trap at the present instruction; return the reason."""
    state[Field.TRAP] = kind
    state[Field.TRAP_ADDRESS] = address
    state[Field.STOP] = Stop.TRAPPED
    return Stop.TRAPPED


# --- what covers a page -----------------------------------------------------------------------
@compiled
def grant_after(state: State, address: int) -> int:
    """Return the first declared range that ends after `address`; they are sorted, disjoint."""
    low = 0
    high = count_of(state, List.GRANTS)
    while low < high:
        middle = (low + high) >> 1
        grant = row_at(state, List.GRANTS, middle, _GRANT_BYTES)
        if load_i64(grant) + load_i64(grant + WORD_BYTES) <= address:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def malloc_after(state: State, address: int) -> int:
    """Return a block of this attempt that holds a byte of `address` to its page's end, or -1."""
    count = count_of(state, List.MALLOCS)
    if state[Field.MALLOCS_ASCEND]:
        low = 0
        high = count
        while low < high:
            middle = (low + high) >> 1
            block = row_at(state, List.MALLOCS, middle, PAIR_BYTES)
            if load_i64(block) + load_i64(block + WORD_BYTES) <= address:
                low = middle + 1
            else:
                high = middle
        if low < count and load_i64(row_at(state, List.MALLOCS, low, PAIR_BYTES)) <= address:
            return low
        return -1
    for index in range(count):
        block = row_at(state, List.MALLOCS, index, PAIR_BYTES)
        start = load_i64(block)
        if start <= address < start + load_i64(block + WORD_BYTES):
            return index
    return -1


@compiled
def covered_until(state: State, address: int) -> int:
    """Return the end of a covered range that holds `address`, or `address` if none does."""
    index = grant_after(state, address)
    if index < count_of(state, List.GRANTS):
        grant = row_at(state, List.GRANTS, index, _GRANT_BYTES)
        if load_i64(grant) <= address:
            return load_i64(grant) + load_i64(grant + WORD_BYTES)
    for index in range(count_of(state, List.OTHERS)):
        other = row_at(state, List.OTHERS, index, PAIR_BYTES)
        if load_i64(other) <= address < load_i64(other + WORD_BYTES):
            return load_i64(other + WORD_BYTES)
    if MALLOC_START <= address < MALLOC_END:
        index = malloc_after(state, address)
        if index >= 0:
            block = row_at(state, List.MALLOCS, index, PAIR_BYTES)
            return load_i64(block) + load_i64(block + WORD_BYTES)
    return address


@compiled
def first_uncovered(state: State, start: int, end: int) -> int:
    """Return the first address in `[start, end)` that nothing covers, `end` if all is covered."""
    while start < end:
        until = covered_until(state, start)
        if until == start:
            return start
        start = until
    return end


@compiled
def _coverage(state: State, page: int) -> tuple[int, int]:
    """Return how a page is covered, and until which epoch it must be known unchanged.

    A page with declared bytes: until the newest commit to it, which the ranges' `newest` tells.
    Any other: until the snapshot, since nobody knows better.
    """
    start = page << PAGE_SHIFT
    end = start + PAGE_BYTES
    covered = 0
    newest = 0
    for index in range(grant_after(state, start), count_of(state, List.GRANTS)):
        grant = row_at(state, List.GRANTS, index, _GRANT_BYTES)
        first = load_i64(grant)
        if first >= end:
            break
        covered += min(first + load_i64(grant + WORD_BYTES), end) - max(first, start)
        newest = max(newest, load_i64(grant + PAIR_BYTES))
    if covered == PAGE_BYTES:
        return _WHOLLY, newest
    if MALLOC_START <= start < MALLOC_END and malloc_after(state, start) >= 0:
        return _FRESH, 0
    snapshot = state[Field.SNAPSHOT]
    if covered > 0:
        return _PARTLY, newest
    for index in range(count_of(state, List.OTHERS)):
        other = row_at(state, List.OTHERS, index, PAIR_BYTES)
        if load_i64(other) < end and load_i64(other + WORD_BYTES) > start:
            return _PARTLY, snapshot
    return _UNCOVERED, snapshot


# --- first touches ----------------------------------------------------------------------------
@compiled
def _report(state: State, address: int) -> int:
    """Report an access that only the setting admits, once for each instruction; 0 if done."""
    record = state[Field.RECORD]
    if load_i64(record + REPORTED) == 0:
        if lacks_room(state, List.UNDECLARED, 1):
            return Stop.LIST_FULL
        row = append(state, List.UNDECLARED, PAIR_BYTES)
        store_i64(row, load_i64(record + PC))
        store_i64(row + WORD_BYTES, address)
        store_i64(record + REPORTED, 1)
    return 0


@compiled
def _touch_private(state: State, page: int) -> int:
    if page == SPECIAL_PAGE:
        return 0
    if load_u8(FLAGS + page) & LISTED == 0:
        state[Field.PRIVATE_COUNT] += 1
    return list_page(state, page, READ | WRITE)


@compiled
def _touch_own_stack(state: State, page: int) -> int:
    stop = show_own_stack(state)
    return stop if stop != 0 else _touch_private(state, page)


@compiled
def _touch_text(state: State, address: int, access: int) -> int:
    if access == STORE:
        return fault(state, TrapKind.TEXT_STORE, address)
    return list_page(state, address >> PAGE_SHIFT, READ)


@compiled
def _check_shared(state: State, address: int) -> tuple[int, int]:
    """Decide on a page of SR outside text and own stack: a reason to stop or 0, how covered."""
    page = address >> PAGE_SHIFT
    flags = load_u8(FLAGS + page)
    if STACKS_START <= address < STACKS_END:
        if flags & CHILD:
            return show_stacks(state), _FRESH
        slot_bytes = GUARD_BYTES + state[Field.STACK_BYTES]
        is_guard = (address - STACKS_START) % slot_bytes < GUARD_BYTES
        kind = TrapKind.STACK_OVERFLOW if is_guard else TrapKind.UNDECLARED
        return fault(state, kind, address), 0
    covered, until = _coverage(state, page)
    if covered == _UNCOVERED and not state[Field.ALLOW_UNDECLARED]:
        return fault(state, TrapKind.UNDECLARED, address), 0
    if covered != _FRESH and flags & DIRTY == 0:
        epochs = EPOCHS + page * EPOCH_ROW_BYTES
        snapshot = state[Field.SNAPSHOT]
        is_held = (
            flags & CACHED != 0
            and load_i64(epochs) <= snapshot
            and load_i64(epochs + WORD_BYTES) >= min(until, snapshot)
        )
        if not is_held:
            state[Field.MISSED_PAGE] = page
            state[Field.STOP] = Stop.PAGE_MISSED
            return Stop.PAGE_MISSED, 0
    return 0, covered


@compiled
def _touch_shared(state: State, address: int, end: int, access: int) -> int:
    """Check and flag a page of SR outside text and own stack; 0 if the access may go on."""
    stop, covered = _check_shared(state, address)
    if stop == 0 and lacks_room(state, List.TOUCHED, 1):
        stop = Stop.LIST_FULL
    # Children's automatic stacks are listed from their creation on, and do not count.
    is_first = load_u8(FLAGS + (address >> PAGE_SHIFT)) & LISTED == 0
    count_max = state[Field.SHARED_COUNT_MAX]
    if stop == 0 and is_first and count_max > 0 and state[Field.SHARED_COUNT] == count_max:
        stop = fault(state, TrapKind.MEMORY_EXHAUSTED, address)
    granted = READ if access == LOAD else READ | WRITE | TRACK
    if stop == 0 and state[Field.ALLOW_UNDECLARED]:
        stop, granted = _admit(state, address, end, access, covered)
    page = address >> PAGE_SHIFT
    if stop == 0 and load_u8(FLAGS + page) & DIRTY == 0:
        # Somebody may have declared a fresh page, and so cached it, before it was given out.
        is_stale = covered == _FRESH and load_u8(FLAGS + page) & CACHED != 0
        if access == STORE:
            _leave_neighbours(page)
            if page % WIDE_PAGES == 0:
                _widen(state, page)
        if access == STORE or is_stale:
            stop = save(state, page, covered == _FRESH and not is_stale)
            granted |= DIRTY
        if stop == 0 and is_stale:
            clear(VIEW + (page << PAGE_SHIFT), PAGE_BYTES)
    if granted & READ and covered != _FRESH and state[Field.LOAD_TRACKING]:
        granted = granted & ~READ | NOTED
    if stop == 0:
        # Counted last: an instruction that stops for want of room touches its pages once more.
        state[Field.SHARED_COUNT] += is_first
        stop = list_page(state, page, granted)
    # Where pages are counted or reported, each is touched by itself.
    is_plain = granted == READ and covered == _WHOLLY and not state[Field.ALLOW_UNDECLARED]
    if stop == 0 and is_plain and count_max == 0 and load_u8(FLAGS + page - 1) & LISTED:
        _open_ahead(state, page)
    return stop


@compiled
def _leave_neighbours(page: int) -> None:
    """Ask for no more marks where a scan of stores, up or down, comes from to `page`, if all is."""
    stop_marking(page - 1)
    if page + 1 < PAGE_COUNT:
        stop_marking(page + 1)


@compiled
def _widen(state: State, page: int) -> None:
    """Give a stretch that begins with `page` memory as a whole, if a scan of stores comes to it."""
    if room_in(state, List.WIDENED) > 0 and follows_a_scan(page):
        start = page << PAGE_SHIFT
        end = start + WIDE_PAGES * PAGE_BYTES
        if first_uncovered(state, start, end) == end:
            widen(state, page)


@compiled
def _open_ahead(state: State, page: int) -> None:
    """Let a scan load from pages behind `page` that its declared range covers and the view holds.

    That changes nothing but how soon: whether an access is permitted, and sees the snapshot, is
    asked for each of them as if it had been touched.
    """
    grant = row_at(state, List.GRANTS, grant_after(state, page << PAGE_SHIFT), _GRANT_BYTES)
    end = (load_i64(grant) + load_i64(grant + WORD_BYTES)) >> PAGE_SHIFT
    snapshot = state[Field.SNAPSHOT]
    until = min(load_i64(grant + PAIR_BYTES), snapshot)
    most = min(_PAGES_AHEAD, room_in(state, List.TOUCHED))
    for ahead in range(page + 1, min(end, page + 1 + most)):
        epochs = EPOCHS + ahead * EPOCH_ROW_BYTES
        if (
            load_u8(FLAGS + ahead) != CACHED
            or load_i64(epochs) > snapshot
            or load_i64(epochs + WORD_BYTES) < until
        ):
            return
        list_page(state, ahead, READ)


@compiled
def _admit(state: State, address: int, end: int, access: int, covered: int) -> tuple[int, int]:
    """Return a reason to stop or 0, and the flags that spare the page more reports.

    Used where undeclared accesses are admitted: pages and bytes that nothing covers are
    checked again at every access, so that each instruction is reported.
    """
    page_start = address & -PAGE_BYTES
    if covered == _UNCOVERED:
        return _report(state, address), 0
    page_end = page_start + PAGE_BYTES
    # A page is saved before its first store, so a load must not open it for stores.
    if access == LOAD:
        return 0, READ
    if STACKS_START <= address < STACKS_END:
        return 0, READ | WRITE | TRACK
    if first_uncovered(state, page_start, page_end) == page_end:
        return 0, READ | WRITE | TRACK
    uncovered = first_uncovered(state, address, end)
    if uncovered < end:
        return _report(state, uncovered), READ
    return 0, READ


@compiled
def touch(state: State, address: int, length: int, access: int) -> int:
    """Check bytes of one page and flag it; return 0, or the reason to stop."""
    # An address above 2**63 is a negative int64.
    if address < PR_START or address >= SR_END:
        return fault(state, TrapKind.UNMAPPED, address)
    # STATIC pages, which share a bit with NOTED, may be loaded from as well.
    wanted = READ | NOTED if access == LOAD else WRITE
    page = address >> PAGE_SHIFT
    if load_u8(FLAGS + page) & wanted:
        return 0
    if address < PR_END:
        return _touch_private(state, page)
    if state[Field.STACK_START] <= address < state[Field.STACK_END]:
        return _touch_own_stack(state, page)
    if address < TEXT_END:
        return _touch_text(state, address, access)
    return _touch_shared(state, address, address + length, access)


@compiled
def touch_span(state: State, address: int, length: int, access: int) -> int:
    """Check up to a page of bytes that may lie on two pages, the lower first; 0 or a reason."""
    on_first = min(length, PAGE_BYTES - (address & (PAGE_BYTES - 1)))
    stop = touch(state, address, on_first, access)
    if stop == 0 and on_first < length:
        stop = touch(state, address + on_first, length - on_first, access)
    return stop


@compiled
def observe(state: State, address: int, length: int) -> int:
    """Check bytes as `touch_span` does for a load that then takes place, and note them."""
    stop = touch_span(state, address, length, LOAD)
    if stop == 0 and state[Field.LOAD_TRACKING]:
        stop = note_span(state, address, length)
    return stop


# --- operands ---------------------------------------------------------------------------------
@compiled
def _take_stdin(state: State, slot: int) -> int:
    """Take a byte of standard input into a scratch word; return the word's host address."""
    position = state[Field.STDIN_POSITION]
    if state[Field.STDIN_TAKEN_AT] != state[Field.INSTRUCTIONS]:
        state[Field.STDIN_TAKEN_AT] = state[Field.INSTRUCTIONS]
        state[Field.STDIN_BEFORE] = position
    word = state[Field.SCRATCH] + slot * WORD_BYTES
    if position == state[Field.STDIN_BYTES]:
        store_i64(word, -1)
    else:
        store_i64(word, load_u8(state[Field.STDIN] + position))
        state[Field.STDIN_POSITION] = position + 1
    return word


@compiled
def give_back_stdin(state: State) -> None:
    """Undo what the present instruction took from standard input."""
    if state[Field.STDIN_TAKEN_AT] == state[Field.INSTRUCTIONS]:
        state[Field.STDIN_POSITION] = state[Field.STDIN_BEFORE]
        state[Field.STDIN_TAKEN_AT] = -1


@compiled
def reach_load(state: State, address: int, width: int, slot: int) -> int:
    """Return where to load an operand from, 0 if the instruction must stop."""
    if address == CELL_STDIN:
        return _take_stdin(state, slot)
    if state[Field.IMAGE_COUNT] > 0:
        place = place_in_image(state, address, width)
        if place != 0:
            return place
    if observe(state, address, width) != 0:
        return 0
    return VIEW + address


@compiled
def reach_store(state: State, address: int, width: int) -> int:
    """Return where to store a result, marked as stored; 0 if the instruction must stop.

    The store must follow: the console's byte is counted here.
    """
    if address == CELL_CONSOLE:
        # The list has room for the whole word; only its low byte counts.
        if lacks_room(state, List.CONSOLE, WORD_BYTES):
            return 0
        return append(state, List.CONSOLE, 1)
    if STACKS_START <= address < STACKS_END:
        place = log_store(state, address, width)
        if place != 0:
            return max(place, 0)
    if touch_span(state, address, width, STORE) != 0:
        return 0
    on_first = min(width, PAGE_BYTES - (address & (PAGE_BYTES - 1)))
    if load_u8(FLAGS + (address >> PAGE_SHIFT)) & DIRTY:
        mark(address, on_first)
    if on_first < width and load_u8(FLAGS + ((address + on_first) >> PAGE_SHIFT)) & DIRTY:
        mark(address + on_first, width - on_first)
    return VIEW + address
