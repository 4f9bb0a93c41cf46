"""Flags of pages and marks of stored bytes, for compiled code: what accesses and stacks share.

The invariant to remember: a page with any of the attempt's flags is on the list TOUCHED, one
with DIRTY also on the list DIRTY, so leaving costs what was touched and not what exists.
"""

from __future__ import annotations

from typing import Final

from dvm_mpi.engine.address_space import FLAGS, LISTED, MASK_BYTES, MASKS, TRACK, VIEW
from dvm_mpi.engine.compiled import compiled
from dvm_mpi.engine.lists import append, count_of, lacks_room
from dvm_mpi.engine.machine_words import (
    copy,
    load_i64,
    load_u8,
    load_u16,
    store_i8,
    store_i16,
    store_i64,
)
from dvm_mpi.engine.state import List, State, Stop
from dvm_mpi.layout import PAGE_BYTES, PAGE_SHIFT, WORD_BYTES

PAIR_BYTES: Final = 2 * WORD_BYTES


@compiled
def mark(address: int, width: int) -> None:
    """Note that `width` bytes, at most eight, were stored at an SR address."""
    place = MASKS + (address >> 3)
    bits = ((1 << width) - 1) << (address & 7)
    store_i16(place, load_u16(place) | bits)


@compiled
def list_page(state: State, page: int, flag: int) -> int:
    """Give a page more flags, and list it if it had none of the attempt's; 0 if done."""
    present = load_u8(FLAGS + page)
    if present & LISTED == 0:
        if lacks_room(state, List.TOUCHED, 1):
            return Stop.LIST_FULL
        store_i64(append(state, List.TOUCHED, WORD_BYTES), page)
    store_i8(FLAGS + page, present | flag | LISTED)
    return 0


@compiled
def stop_marking(page: int) -> None:
    """Ask for no more marks on a page, if of all its bytes it is known that they were stored.

    What is then stored there at random would touch a line of masks for each line of the page.
    """
    flags = load_u8(FLAGS + page)
    if flags & TRACK == 0:
        return
    for offset in range(MASK_BYTES - WORD_BYTES, -1, -WORD_BYTES):
        if load_i64(MASKS + page * MASK_BYTES + offset) != -1:
            return
    store_i8(FLAGS + page, flags & ~TRACK)


@compiled
def save(state: State, page: int, is_fresh: bool) -> int:
    """Set the content of a page aside before its first store; 0 if done."""
    if lacks_room(state, List.DIRTY, 1) or lacks_room(state, List.SAVED, 1):
        return Stop.LIST_FULL
    place = -1
    if not is_fresh:
        place = count_of(state, List.SAVED)
        copy(append(state, List.SAVED, PAGE_BYTES), VIEW + (page << PAGE_SHIFT), PAGE_BYTES)
    row = append(state, List.DIRTY, PAIR_BYTES)
    store_i64(row, page)
    store_i64(row + WORD_BYTES, place)
    return 0
