"""Snapshot pages into the view, for compiled code: each byte is copied once, from where it lies.

Content goes first, and then what is noted of each page: neighbours share the lines of the tables.
The invariant to remember: a page that reads as zero takes no memory as long as nobody has written
to it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.engine.address_space import (
    CACHED,
    EPOCH_ROW_BYTES,
    EPOCHS,
    FLAGS,
    NOTED,
    READ,
    SERIALS,
    VIEW,
)
from dvm_mpi.engine.compiled import compiled
from dvm_mpi.engine.machine_words import (
    clear,
    copy,
    load_i64,
    load_u8,
    populate,
    store_i8,
    store_i64,
    stream_page,
)
from dvm_mpi.layout import PAGE_BYTES, PAGE_SHIFT, WORD_BYTES

Ints = NDArray[np.int64]

#: From so many pages on, content goes past the processor's caches: it would push everything else
#: out of them, and be out itself before it is read.
_STREAMED_PAGES_MIN: Final = 1_024
#: From so many pages on that follow each other and take no memory yet, they get it in one call.
_POPULATED_PAGES_MIN: Final = 16


@compiled
def is_zero(address: int) -> bool:
    """Return whether a page of content is all zero."""
    at = address
    while at < address + PAGE_BYTES and load_i64(at) == 0:
        at += WORD_BYTES
    return at == address + PAGE_BYTES


@compiled
def _fresh_until(pages: Ints, rows: Ints, source: int, first: int) -> int:
    """Return the end of those from `first` on that follow each other and will take memory."""
    index = first
    while (
        index < pages.size
        and pages[index] - pages[first] == index - first
        and rows[index] >= 0
        and load_u8(FLAGS + pages[index]) & CACHED == 0
        and not is_zero(source + (rows[index] << PAGE_SHIFT))
    ):
        index += 1
    return index


@compiled
def _put_content(pages: Ints, rows: Ints, source: int) -> None:
    """Put the content of pages into the view that are not in it as of their new epochs."""
    is_streamed = pages.size >= _STREAMED_PAGES_MIN
    populated_until = 0
    for index in range(pages.size):
        place = VIEW + (pages[index] << PAGE_SHIFT)
        content = source + (rows[index] << PAGE_SHIFT)
        is_taken = rows[index] >= 0
        if load_u8(FLAGS + pages[index]) & CACHED:
            if not is_taken:
                clear(place, PAGE_BYTES)
        elif is_taken and index >= populated_until:
            is_taken = not is_zero(content)
            if is_taken:
                end = _fresh_until(pages, rows, source, index)
                if end - index >= _POPULATED_PAGES_MIN:
                    # Systems that do not know how are no worse off.
                    populate(place, (end - index) << PAGE_SHIFT)
                populated_until = end
        if is_taken and is_streamed:
            stream_page(place, content)
        elif is_taken:
            copy(place, content, PAGE_BYTES)


@compiled
def fill(pages: Ints, rows: Ints, versions: Ints, until: Ints, source: int, serial: int) -> int:
    """Put pages into the view, row `rows[i]` of `source` as page i, zeros for a negative row.

    None of them is dirty. `serial` is the number of their note. Returns how many bore none.
    """
    _put_content(pages, rows, source)
    fresh_count = 0
    for index in range(pages.size):
        page = pages[index]
        epochs = EPOCHS + page * EPOCH_ROW_BYTES
        store_i64(epochs, versions[index])
        store_i64(epochs + WORD_BYTES, until[index])
        bears = SERIALS + page * WORD_BYTES
        fresh_count += load_i64(bears) == 0
        store_i64(bears, serial)
        flags = FLAGS + page
        store_i8(flags, load_u8(flags) & ~(READ | NOTED) | CACHED)
    return fresh_count
