"""Huge pages for scans of stores, for compiled code.

A table that is filled and then used at random costs more for the processor's tables than for
itself: of 64 MiB these hold a tenth of the pages that a huge page is made of. Asking for huge pages
everywhere would give a word 2 MiB. So a stretch as large as one gets it where a scan comes to its
beginning that has stored to as much as half of that before, and all of it may be stored to.
The invariant to remember: what is in the view does not change here; memory that nobody used is
given back when the attempt leaves.
"""

from __future__ import annotations

from typing import Final

from dvm_mpi.engine.address_space import DIRTY, FLAGS, VIEW, WIDE_PAGES
from dvm_mpi.engine.compiled import compiled
from dvm_mpi.engine.lists import append
from dvm_mpi.engine.machine_words import (
    load_i64,
    populate,
    prefer_huge,
    prefer_small,
    store_i64,
)
from dvm_mpi.engine.page_flags import PAIR_BYTES
from dvm_mpi.engine.state import List, State
from dvm_mpi.layout import PAGE_BYTES, PAGE_SHIFT, WORD_BYTES

#: Pages before it that the attempt must have stored to.
_SCANNED_PAGES: Final = WIDE_PAGES // 2
#: Flags of eight neighbouring pages of which all are dirty.
_ALL_DIRTY: Final = int.from_bytes(bytes([DIRTY]) * WORD_BYTES, "little")


@compiled
def follows_a_scan(page: int) -> bool:
    """Return whether the attempt has stored to all of the pages before one, a multiple of eight."""
    at = page - WORD_BYTES
    least = max(page - _SCANNED_PAGES, 0)
    while at >= least and load_i64(FLAGS + at) & _ALL_DIRTY == _ALL_DIRTY:
        at -= WORD_BYTES
    return at < least


@compiled
def widen(state: State, page: int) -> None:
    """Give a stretch memory as a whole, and note it; the list has room.

    Where the system has no huge page left, small ones come. The wish is taken back at once: each
    one that stays parts the view into more mappings, whose number is limited.
    """
    store_i64(append(state, List.WIDENED, PAIR_BYTES), page)
    place = VIEW + (page << PAGE_SHIFT)
    prefer_huge(place, WIDE_PAGES * PAGE_BYTES)
    populate(place, WIDE_PAGES * PAGE_BYTES)
    prefer_small(place, WIDE_PAGES * PAGE_BYTES)
