"""Huge pages for what is fetched together, as long as the system has them at hand.

Most of the time of a large first fetch goes into memory that nobody has touched: the system finds,
clears and accounts for each small page by itself, at 2 us, and five times as fast in huge pages.
But a system that must find these first, or whose host must, takes several times as long as for
small ones. So each is timed, and where they have cost more than they saved none is asked for again.
The invariant to remember: what can be loaded from the view does not change here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.engine.address_space import WIDE_PAGES, AddressSpace

Ints = NDArray[np.int64]

#: What as many small pages take, and by how much huge ones may take longer before they are given
#: up: that of two or three that were not at hand.
_SMALL_NS: Final = 1_000_000
_LOST_NS_MAX: Final = 4_000_000


class WideFetches:
    """The stretches of the view that get memory as a whole when the first of their pages come.

    Parameters
    ----------
    space
        The view.
    spent_ns
        Processor time of this thread: what others on the machine take is no fault of huge pages.
    widen
        Has memory for WIDE_PAGES pages from one on; None: that of the view does.
    """

    def __init__(
        self,
        space: AddressSpace,
        spent_ns: Callable[[], int],
        widen: Callable[[int], None] | None = None,
    ) -> None:
        self._space = space
        self._spent_ns = spent_ns
        self._widen = space.widen if widen is None else widen
        #: First pages of the stretches all of which are being fetched.
        self._expected = np.empty(0, np.int64)
        #: How much longer huge pages have taken lately than small ones would have.
        self._lost_ns = 0

    @property
    def are_given_up(self) -> bool:
        """Whether huge pages have taken so long that none is asked for any more."""
        return self._lost_ns > _LOST_NS_MAX

    def expect(self, pages: Ints) -> None:
        """Take note of the pages, ascending, that are fetched together from now on."""
        if self._expected.size == 0 and pages.size < WIDE_PAGES:
            return
        firsts, lasts = pages[: 1 - WIDE_PAGES], pages[WIDE_PAGES - 1 :]
        is_whole = (firsts % WIDE_PAGES == 0) & (lasts - firsts == WIDE_PAGES - 1)
        self._expected = firsts[is_whole]

    def make_ready(self, pages: Ints, rows: Ints) -> None:
        """Have memory for the stretches that the first of their pages have come for.

        Not where one of these is zero: a view of zeros takes no memory. Pages as they are
        installed, in any order, and negative rows for zeros.
        """
        for first in self._expected.tolist():
            if self.are_given_up:
                return
            is_here = (first <= pages) & (pages < first + WIDE_PAGES)
            is_bare = not self._space.flags[first : first + WIDE_PAGES].any()
            if is_bare and is_here.any() and (rows[is_here] >= 0).all():
                began_ns = self._spent_ns()
                self._widen(first)
                lost_ns = self._lost_ns + self._spent_ns() - began_ns - _SMALL_NS
                self._lost_ns = max(lost_ns, 0)
