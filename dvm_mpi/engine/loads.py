"""What an attempt has observed of its snapshot, for compiled code: notes of loads, and their rows.

While loads are tracked, pages of the snapshot have NOTED instead of READ, so every load from them
takes the slow path and comes here. A mask byte for each eight bytes tells which of them were
loaded before the attempt stored them itself. Without tracking nothing here is ever called.
The invariant to remember: a page with a mark is on the list LOADED, and `LOADED` says so.
"""

from __future__ import annotations

from typing import Final

from dvm_mpi.engine.address_space import (
    CACHED,
    FLAGS,
    LOAD_MASKS,
    LOADED,
    MASK_BYTES,
    MASKS,
    READ,
    VIEW,
)
from dvm_mpi.engine.compiled import compiled
from dvm_mpi.engine.interface import RUN, LoadTracking
from dvm_mpi.engine.lists import append, count_of, lacks_room, row_at, set_count
from dvm_mpi.engine.machine_words import clear, copy, load_i64, load_u8, store_i8, store_i64
from dvm_mpi.engine.state import Field, List, State, Stop
from dvm_mpi.layout import PAGE_BYTES, PAGE_SHIFT, TEXT_END, WORD_BYTES

_PAIR_BYTES: Final = 2 * WORD_BYTES
_RUN_BYTES: Final = RUN.itemsize
#: Mask of a word of which all bytes were loaded.
_ALL_LOADED: Final = 0xFF


# --- notes ------------------------------------------------------------------------------------
@compiled
def note(state: State, address: int, length: int) -> int:
    """Note a load from one page, which `touch` has permitted; a reason to stop or 0."""
    page = address >> PAGE_SHIFT
    # What may be loaded without a note has READ, but for the cells' page, which is private.
    if address < TEXT_END or load_u8(FLAGS + page) & READ:
        return 0
    if load_u8(LOADED + page) == 0 and not _list_loaded(state, page):
        return Stop.LIST_FULL
    end = address + length
    while address < end:
        width = min(WORD_BYTES - (address & 7), end - address)
        bits = ((1 << width) - 1) << (address & 7)
        place = address >> 3
        new = bits & ~load_u8(MASKS + place)
        store_i8(LOAD_MASKS + place, load_u8(LOAD_MASKS + place) | new)
        address += width
    return 0


@compiled
def note_span(state: State, address: int, length: int) -> int:
    """Note a load of up to a page of bytes that may lie on two pages; a reason to stop or 0."""
    on_first = min(length, PAGE_BYTES - (address & (PAGE_BYTES - 1)))
    stop = note(state, address, on_first)
    if stop == 0 and on_first < length:
        stop = note(state, address + on_first, length - on_first)
    return stop


@compiled
def _list_loaded(state: State, page: int) -> bool:
    """List a page at its first load, with its content if that is asked for; False if no room.

    Bytes that the attempt has stored by now are never noted, so the content of the others is all
    that is ever looked at; and it is kept here because the page may be dropped from the view.
    """
    if lacks_room(state, List.LOADED, 1):
        return False
    place = -1
    if state[Field.LOAD_TRACKING] == LoadTracking.CONTENT:
        if lacks_room(state, List.LOADED_PAGES, 1):
            return False
        place = count_of(state, List.LOADED_PAGES)
        copy(append(state, List.LOADED_PAGES, PAGE_BYTES), VIEW + (page << PAGE_SHIFT), PAGE_BYTES)
    row = append(state, List.LOADED, _PAIR_BYTES)
    store_i64(row, page)
    store_i64(row + WORD_BYTES, place)
    store_i8(LOADED + page, 1)
    return True


# --- rows of the outcome ----------------------------------------------------------------------
@compiled
def collect_loads(state: State) -> bool:
    """Add the noted bytes as joined runs; False if a list lacks room. LOADED is in page order."""
    first = count_of(state, List.LOADS)
    start = 0
    end = 0
    for index in range(count_of(state, List.LOADED)):
        page = load_i64(row_at(state, List.LOADED, index, _PAIR_BYTES))
        address = page << PAGE_SHIFT
        for place in range(LOAD_MASKS + page * MASK_BYTES, LOAD_MASKS + (page + 1) * MASK_BYTES):
            mask = load_u8(place)
            if mask == _ALL_LOADED and end == address:
                end += WORD_BYTES
            elif mask != 0:
                for bit in range(WORD_BYTES):
                    if mask >> bit & 1:
                        if end != address + bit:
                            if not _emit(state, start, end):
                                return False
                            start = address + bit
                        end = address + bit + 1
            address += WORD_BYTES
    if not _emit(state, start, end):
        return False
    if state[Field.LOAD_TRACKING] == LoadTracking.CONTENT:
        _fill_in(state, first)
    return True


@compiled
def _emit(state: State, start: int, end: int) -> bool:
    """Add one run, nothing if it is empty, with room for its content; False if a list is full."""
    length = end - start
    if length == 0:
        return True
    if lacks_room(state, List.LOADS, 1):
        return False
    data_first = -1
    if state[Field.LOAD_TRACKING] == LoadTracking.CONTENT:
        if lacks_room(state, List.LOAD_DATA, length):
            return False
        data_first = count_of(state, List.LOAD_DATA)
        set_count(state, List.LOAD_DATA, data_first + length)
    row = append(state, List.LOADS, _RUN_BYTES)
    store_i64(row, start)
    store_i64(row + WORD_BYTES, length)
    store_i64(row + 2 * WORD_BYTES, data_first)
    return True


@compiled
def _fill_in(state: State, first: int) -> None:
    """Copy the content of the runs from row `first` on; runs and pages are in address order."""
    at = 0
    for index in range(first, count_of(state, List.LOADS)):
        row = row_at(state, List.LOADS, index, _RUN_BYTES)
        address = load_i64(row)
        end = address + load_i64(row + WORD_BYTES)
        target = row_at(state, List.LOAD_DATA, load_i64(row + 2 * WORD_BYTES), 1)
        while address < end:
            while load_i64(row_at(state, List.LOADED, at, _PAIR_BYTES)) < address >> PAGE_SHIFT:
                at += 1
            place = load_i64(row_at(state, List.LOADED, at, _PAIR_BYTES) + WORD_BYTES)
            offset = address & (PAGE_BYTES - 1)
            length = min(PAGE_BYTES - offset, end - address)
            copy(target, row_at(state, List.LOADED_PAGES, place, PAGE_BYTES) + offset, length)
            address += length
            target += length


# --- leaving ----------------------------------------------------------------------------------
@compiled
def clear_notes(page: int) -> bool:
    """Forget a page's notes; return whether the page has left the cache: its memory may go."""
    clear(LOAD_MASKS + page * MASK_BYTES, MASK_BYTES)
    store_i8(LOADED + page, 0)
    return load_u8(FLAGS + page) & CACHED == 0
