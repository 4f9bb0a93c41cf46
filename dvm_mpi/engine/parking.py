"""An attempt out of the view: everything that belongs to it, as copies.

What it stored is kept as whole pages with their masks; of pages that it only loaded it is kept
that it touched them, since they can be read again as of its snapshot. The notes of what it loaded,
if any, are kept. The view's own state of a dirty page may change while the attempt is out, for
instance to a newer version; the attempt's content then covers it again.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.engine.address_space import CACHED, CHILD, DIRTY, LISTED, READ, WRITE, AddressSpace
from dvm_mpi.engine.state import ATTEMPT_FIELDS, LEASE_FIELDS, Buffers, Field, List
from dvm_mpi.layout import PAGE_SHIFT, PR_END
from dvm_mpi.values import dataclass

#: Lists that go with the attempt as they are.
_KEPT: Final = (
    List.OTHERS, List.GRANTS, List.CHILDREN, List.RANGES, List.MALLOCS, List.CONSOLE,
    List.STACK_RUNS, List.STACK_DATA, List.LOADED, List.LOADED_PAGES,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ParkedAttempt:
    """One attempt set aside; all arrays are its own."""

    fields: NDArray[np.int64]
    lists: dict[List, NDArray[Any]]
    #: Private pages named directly by instructions, in the program's order.
    static: NDArray[np.uint8]
    #: All pages that it touched.
    touched: NDArray[np.int64]
    private_pages: NDArray[np.int64]
    private: NDArray[np.uint8]
    #: Automatic stacks of children, stored to or not.
    child_pages: NDArray[np.int64]
    #: Dirty pages: numbers, flags, contents, masks, and whether they were zero before.
    dirty_pages: NDArray[np.int64]
    dirty_flags: NDArray[np.uint8]
    dirty: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    is_fresh: NDArray[np.bool_]
    #: Masks of loaded bytes, by row of LOADED.
    load_masks: NDArray[np.uint8]
    #: The addresses that it could hand out (LEASE_FIELDS); its own only if it brought some.
    leases: NDArray[np.int64]


def copy_attempt(
    space: AddressSpace, buffers: Buffers, static_pages: NDArray[np.int64]
) -> ParkedAttempt:
    """Return a copy of the attempt in the view, which the caller then clears."""
    state = buffers.state
    touched = buffers.rows(List.TOUCHED)
    starts = touched << PAGE_SHIFT
    is_private = starts < PR_END
    is_private |= (state[Field.STACK_START] <= starts) & (starts < state[Field.STACK_END])
    private_pages = touched[is_private]
    dirty_rows = buffers.rows(List.DIRTY)
    dirty_pages = dirty_rows[:, 0].copy()
    return ParkedAttempt(
        fields=state[ATTEMPT_FIELDS].copy(),
        lists={which: buffers.rows(which).copy() for which in _KEPT},
        static=space.pages[static_pages],
        touched=touched.copy(),
        private_pages=private_pages,
        private=space.pages[private_pages],
        child_pages=touched[(space.flags[touched] & CHILD) != 0],
        dirty_pages=dirty_pages,
        dirty_flags=space.flags[dirty_pages],
        dirty=space.pages[dirty_pages],
        masks=space.masks[dirty_pages],
        is_fresh=dirty_rows[:, 1] < 0,
        load_masks=space.load_masks[buffers.rows(List.LOADED)[:, 0]],
        leases=state[LEASE_FIELDS].copy(),
    )


def restore_attempt(
    space: AddressSpace,
    buffers: Buffers,
    static_pages: NDArray[np.int64],
    parked: ParkedAttempt,
) -> None:
    """Put an attempt back into the view, which must hold none.

    `static_pages` may have grown at its end since the attempt was copied.
    """
    buffers.state[ATTEMPT_FIELDS] = parked.fields
    for which, rows in parked.lists.items():
        buffers.put(which, rows)
    # Pages that have become static since were private pages then, and are restored as such.
    space.pages[static_pages[: len(parked.static)]] = parked.static
    space.pages[parked.private_pages] = parked.private
    space.flags[parked.touched] |= LISTED
    space.flags[parked.private_pages] |= READ | WRITE
    space.flags[parked.child_pages] |= CHILD
    keeps = ~parked.is_fresh
    saved_rows = np.where(keeps, np.cumsum(keeps) - 1, -1)
    buffers.put(List.SAVED, space.pages[parked.dirty_pages[keeps]])
    buffers.put(List.DIRTY, np.stack([parked.dirty_pages, saved_rows], axis=1))
    space.pages[parked.dirty_pages] = parked.dirty
    space.masks[parked.dirty_pages] = parked.masks
    cached = space.flags[parked.dirty_pages] & CACHED
    space.flags[parked.dirty_pages] = (parked.dirty_flags & ~np.uint8(CACHED)) | cached
    loaded_pages = parked.lists[List.LOADED][:, 0]
    space.load_masks[loaded_pages] = parked.load_masks
    space.loaded[loaded_pages] = 1
    buffers.put(List.TOUCHED, parked.touched)
    assert (space.flags[parked.dirty_pages] & DIRTY).all(), "a dirty page is marked as such"
