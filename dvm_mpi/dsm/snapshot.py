"""What a worker reads of a snapshot, and when: plans only, no messages and no bytes.

Small declared ranges are fetched before a runner starts, large ones where they are touched; a scan
is recognised and read ahead of. All pages of a snapshot may be fetched as late as one likes: the
snapshot is pinned, so its frames stay.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from dvm_mpi import config
from dvm_mpi.dsm import ranges
from dvm_mpi.dsm.messages import NO_FRAME, LookupAnswered
from dvm_mpi.dsm.page_loops import few_eager_pages
from dvm_mpi.layout import PAGE_BYTES, PAGE_SHIFT
from dvm_mpi.values import dataclass

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]

#: Up to so many ranges, and pages of them, loops over each pair of them are quick.
FEW: Final = 64
#: Later than every epoch: of a page about which nothing is declared, nothing is known.
UNKNOWN_EPOCH: Final = 2**62
#: Scans that are followed at a time; the one that was idle longest is forgotten.
SCANS_MAX: Final = 8
#: Beginnings of ranges from which walks are expected, and how many attempts for each walk seen.
WALKS_MAX: Final = 256
WALK_TRUSTED_TIMES: Final = 8
#: Pages that are looked at first behind one that was held before; then so many times as many.
_HELD_LOOK: Final = 64
_HELD_LOOK_GROWTH: Final = 16
#: Bits that hold how many pages a range within EAGER_BYTES_MAX touches.
_COUNT_BITS: Final = 12
assert config.EAGER_BYTES_MAX // PAGE_BYTES + 1 < 1 << _COUNT_BITS


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """Where the bytes of pages lie: page i is row `rows[i]` of `memory`, zeros for NO_FRAME.

    `memory` is (m, PAGE_BYTES), and may be that of a home: only these rows may be looked at, and
    only until the call is over that got it.
    """

    memory: Bytes
    rows: Ints

    @staticmethod
    def of(pages: Bytes) -> Content:
        """Return content of which the pages are the rows, one after the other."""
        return Content(pages, np.arange(len(pages)))


class DataPlane(Protocol):
    """Moves bytes between one worker and the homes, beside the messages or within them."""

    @property
    def carries_content(self) -> bool:
        """Whether bytes travel in the messages: then nothing is read or written here."""

    def read_frames(self, home: int, frames: Ints, ticket: int) -> Content | None:
        """Read published frames; NO_FRAME among them is a page of zeros.

        None: they are on their way, and `arrived` hands them over under this ticket, which no
        other read under way has.
        """

    def arrived(self) -> list[tuple[int, Content]]:
        """Return what `read_frames` owed and has come since the last call: ticket and content."""

    def write_arena(self, home: int, offset: int, data: Bytes) -> None:
        """Put bytes into this worker's slice of a home's arena; on return they are there."""

    @property
    def waits_for(self) -> str:
        """Tell what is on its way; empty if nothing is."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """What to do with one home's answer, rows in the order of frames.

    `renewed` pages are cached in the very version that the home named; only `renewed_until` is new.
    The other arrays are pages to read from `frames` (NO_FRAME: zero) and to install.
    """

    home: int
    renewed: Ints
    renewed_until: Ints
    pages: Ints
    frames: Ints
    versions: Ints
    until: Ints


def eager_pages(grants: NDArray[Any]) -> tuple[Ints, Ints]:
    """Choose the pages to fetch before the attempts that hold `grants` run.

    Ranges of up to EAGER_BYTES_MAX, in the order given as long as all of them together are within
    EAGER_BATCH_BYTES_MAX, those on the same pages counted once; the others are fetched where they
    are touched.

    Parameters
    ----------
    grants
        Rows with `start`, `length` and `newest`, of any number of attempts.

    Returns
    -------
    Pages, ascending, each once; and for each an epoch after which nobody stored into any granted
    byte of it.
    """
    if len(grants) <= FEW:
        found = np.empty((5, FEW), np.int64)
        count = few_eager_pages(
            np.ascontiguousarray(grants["start"]),
            np.ascontiguousarray(grants["length"]),
            np.ascontiguousarray(grants["newest"]),
            config.EAGER_BYTES_MAX,
            config.EAGER_BATCH_BYTES_MAX >> PAGE_SHIFT,
            found,
        )
        if count >= 0:
            return found[0, :count], found[1, :count]
    is_small = (grants["length"] > 0) & (grants["length"] <= config.EAGER_BYTES_MAX)
    small = grants[is_small]
    rounded = ranges.round_to_pages(small)
    # Runners of one batch declare neighbours: thousands of ranges lie on the same few pages.
    keys = (rounded["start"] >> PAGE_SHIFT) << _COUNT_BITS | rounded["length"] >> PAGE_SHIFT
    keys, first_at, extents = np.unique(keys, return_index=True, return_inverse=True)
    newest = np.zeros(keys.size, np.int64)
    np.maximum.at(newest, extents, small["newest"])
    in_order = np.argsort(first_at)
    counts = (keys & ((1 << _COUNT_BITS) - 1))[in_order]
    is_within = np.cumsum(counts) <= config.EAGER_BATCH_BYTES_MAX >> PAGE_SHIFT
    counts, in_order = counts[is_within], in_order[is_within]
    all_pages = ranges.expand(keys[in_order] >> _COUNT_BITS, counts)
    pages, rows = np.unique(all_pages, return_inverse=True)
    newest_of_page = np.zeros(pages.size, np.int64)
    np.maximum.at(newest_of_page, rows, np.repeat(newest[in_order], counts))
    return pages, newest_of_page


def with_companions(pages: Ints, newest: Ints, grants: NDArray[Any]) -> tuple[Ints, Ints]:
    """Add the pages of an attempt's small ranges to one that it has touched, if they are few.

    They were not fetched early, since attempts like this one often end before they need them. But a
    home answers about a few pages in the time in which it answers about one, and whoever went on
    would wait once more for each range.

    Parameters
    ----------
    pages, newest
        The one page, and its newest epoch, as `ReadAhead.plan` returns them.
    grants
        As for `eager_pages`, of the one attempt.
    """
    others, newest_of_others = eager_pages(grants)
    is_other = others != pages[0]
    if is_other.sum() > config.COMPANION_PAGES_MAX:
        return pages, newest
    return (
        np.concatenate([pages, others[is_other]]),
        np.concatenate([newest, newest_of_others[is_other]]),
    )


def plan_fetch(answer: LookupAnswered, cached_versions: Ints) -> Fetch:
    """Divide a home's answer into pages that the worker has already and pages to read.

    `cached_versions`: the epoch of the cached frame of each page of the answer, -1 if none. Pages
    to read are sorted by frame, so that neighbours become one transfer (`frames.frame_extents`).
    """
    is_held = cached_versions == answer.versions
    if not is_held.any() and (answer.frames[1:] >= answer.frames[:-1]).all():
        # Most often: few pages, all of which others have stored to.
        none = answer.pages[:0]
        return Fetch(
            answer.home, none, none, answer.pages, answer.frames, answer.versions, answer.until
        )
    wanted = np.flatnonzero(~is_held)
    wanted = wanted[np.argsort(answer.frames[wanted], kind="stable")]
    return Fetch(
        answer.home,
        answer.pages[is_held],
        answer.until[is_held],
        answer.pages[wanted],
        answer.frames[wanted],
        answer.versions[wanted],
        answer.until[wanted],
    )


def plan_delivery(
    answer: LookupAnswered, held: Ints, cached_versions: Ints
) -> tuple[Fetch, Content]:
    """Divide an answer that carries content into what is cached and what has come.

    A page that was held when the home was asked, and has been pushed out since by pages of other
    homes, is neither: it is missed when it is touched, and asked for again.

    Parameters
    ----------
    answer
        Of a home that was told what is held.
    held
        The versions that were held when the question was asked, -1 for none.
    cached_versions
        The versions that are held now.

    Returns
    -------
    The fetch, its pages in the order of the answer; and their content, within the answer.
    """
    has_come = (answer.frames != NO_FRAME) & (answer.versions != held)
    assert answer.content.size == int(has_come.sum()) * PAGE_BYTES, "an answer without its content"
    is_cached = ~has_come & (cached_versions == answer.versions)
    is_zero = ~is_cached & (answer.frames == NO_FRAME)
    is_new = has_come | is_zero
    rows = np.where(has_come, np.cumsum(has_come) - 1, NO_FRAME)[is_new]
    fetch = Fetch(
        answer.home,
        answer.pages[is_cached],
        answer.until[is_cached],
        answer.pages[is_new],
        answer.frames[is_new],
        answer.versions[is_new],
        answer.until[is_new],
    )
    return fetch, Content(answer.content.reshape(-1, PAGE_BYTES), rows)


@dataclass(slots=True)
class _Scan:
    """A stretch of pages that an attempt walks through."""

    #: The page behind the last one that was fetched for it.
    next_page: int
    #: Pages of the next fetch.
    window: int
    #: Where a declared range begins, if the scan began there; else -1.
    began: int = -1


class Walks:
    """Where earlier attempts of a worker have walked on from the beginning of a range.

    The next one will probably do so too. Whether it has cannot be seen, since it misses nothing: so
    a walk is believed in for a few times, and must then be seen again.
    """

    def __init__(self) -> None:
        #: By pages where ranges begin: for how many more attempts; the latest walk last.
        self._left: dict[int, int] = {}

    def saw(self, began: int) -> None:
        """Note a walk that began at a page."""
        self._left.pop(began, None)
        self._left[began] = WALK_TRUSTED_TIMES
        if len(self._left) > WALKS_MAX:
            del self._left[next(iter(self._left))]

    def expects(self, begins: int) -> bool:
        """Say whether who touches this page, where a range begins, will walk on."""
        left = self._left.pop(begins, 0)
        if left > 1:
            self._left[begins] = left - 1
        return left > 0


class ReadAhead:
    """How many pages to fetch at a first touch: one at first, more and more as a scan goes on.

    A single touch fetches a single page, since large ranges are often sparse. A touch just behind
    the pages of an earlier one is a scan, and so is one where a declared range begins:
    READ_AHEAD_PAGES, then READ_AHEAD_GROWTH times as many each time. If a scan goes on and the
    rank held what follows before, in older versions, all of that is fetched: others have walked
    through it here; at the first touch already, if a range begins there and an earlier attempt has
    walked on from it. So is the rest of a declared range that one fetch takes, if the scan has come
    from its beginning. One object serves one attempt; `walks` is its worker's.
    """

    #: Least recently continued first.
    _scans: list[_Scan]

    def __init__(self, walks: Walks | None = None) -> None:
        self._scans = []
        self._walks = Walks() if walks is None else walks

    def plan(
        self, missed: int, grants: NDArray[Any], held: Callable[[Ints], NDArray[np.bool_]] | None
    ) -> tuple[Ints, Ints]:
        """Choose the pages to fetch when `missed` was touched.

        Parameters
        ----------
        missed
            Page that the view does not hold.
        grants
            Rows with `start`, `length` and `newest`; the attempt's own, or its whole batch's.
        held
            Tells of which pages this rank holds some version, whether it is good still or not. None
            where all content waits in the message that answers: then no fetch is very large.

        Returns
        -------
        Pages from `missed` on, consecutive, within one declared range; and their newest epochs as
        `eager_pages` returns them (UNKNOWN_EPOCH for a page that nothing declared).
        """
        first = grants["start"] >> PAGE_SHIFT
        end = (grants["start"] + grants["length"] + PAGE_BYTES - 1) >> PAGE_SHIFT
        holds = np.flatnonzero((grants["length"] > 0) & (first <= missed) & (missed < end))
        if holds.size == 0:
            return np.array([missed]), np.array([UNKNOWN_EPOCH])
        end_most = int(end[holds].max())
        count = self._continue_scan(missed, held is None)
        is_walk = count > 1
        if is_walk and self._scans[-1].began >= 0:
            self._walks.saw(self._scans[-1].began)
        elif not is_walk and (first[holds] == missed).any():
            count = self._continue_scan(missed + 1, held is None)
            self._scans[-1].began = missed
            is_walk = self._walks.expects(missed)
            if end_most - missed <= config.READ_AHEAD_PAGES_MAX and held is not None:
                self._scans[-1].window = config.READ_AHEAD_PAGES_MAX
        if is_walk and held is not None:
            refetched = min(end_most, missed + config.REFETCH_PAGES_MAX)
            count = max(count, _held_end(missed, refetched, held) - missed)
        stop = min(end_most, missed + count)
        self._scans[-1].next_page = stop
        pages = np.arange(missed, stop)
        # Other ranges on these pages may have newer stores.
        touches = (grants["length"] > 0) & (first < stop) & (end > missed)
        return pages, np.full(pages.size, grants["newest"][touches].max())

    def _continue_scan(self, missed: int, is_carried: bool) -> int:
        """Return how many pages to fetch, and put the scan that `missed` belongs to last."""
        most = config.CARRIED_AHEAD_PAGES_MAX if is_carried else config.READ_AHEAD_PAGES_MAX
        for position, scan in enumerate(self._scans):
            if scan.next_page <= missed < scan.next_page + config.READ_AHEAD_PAGES:
                self._scans.append(self._scans.pop(position))
                window = scan.window
                scan.window = min(config.READ_AHEAD_GROWTH * window, most)
                return window
        del self._scans[: len(self._scans) - SCANS_MAX + 1]
        self._scans.append(_Scan(missed + 1, config.READ_AHEAD_PAGES))
        return 1


def _held_end(first: int, end: int, held: Callable[[Ints], NDArray[np.bool_]]) -> int:
    """Return the end of the pages from `first` on, up to `end`, that are held without a gap.

    Looks at few more than there are: ranges are large, and looking touches tables.
    """
    look = _HELD_LOOK
    while first < end:
        pages = np.arange(first, min(first + look, end))
        gaps = np.flatnonzero(~held(pages))
        if gaps.size:
            return first + int(gaps[0])
        first += pages.size
        look *= _HELD_LOOK_GROWTH
    return end
