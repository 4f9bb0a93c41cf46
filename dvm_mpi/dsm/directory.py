"""Which frame holds which page as of which epoch, at one home.

Every page has a chain of versions, newest first; each version is one frame, and the frame's number
names it here. A version is never changed: a newer one supersedes it. `collect` returns the frames
that no snapshot in use or to come can ask for.

The invariant to remember: snapshots are only ever taken at the newest visible epoch, so a version
that was superseded at or before a visible epoch can gain no new reader; its readers are among the
pins, and only fewer of them come to be.

Source: docs/memory-model.md, "Garbage".
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.dsm.hashing import IntMap
from dvm_mpi.dsm.messages import NO_FRAME
from dvm_mpi.dsm.page_loops import enter_versions, sift, unlink
from dvm_mpi.dsm.rows import reserved
from dvm_mpi.errors import LimitError

Ints = NDArray[np.int64]


class Directory:
    """Versions of the pages of one home, by page and by frame."""

    #: Newest frame of each page that was ever written.
    _newest: IntMap
    #: By frame: the version's page, its epoch, the epoch that superseded it (0: none did), and
    #: its neighbours in the chain. Undefined for frames that hold no version.
    _page: Ints
    _epoch: Ints
    _superseded: Ints
    _older: Ints
    _newer: Ints
    #: All of these, in this order, as rows.
    _versions: Ints
    #: `(epoch, frames that it superseded)`, ascending: those that `collect` has not yet looked at.
    _recent: deque[tuple[int, Ints]]
    #: Superseded frames that were kept, by the oldest pin that holds them.
    _held: dict[int, list[Ints]]
    #: Pages that were retired and are not gone yet.
    _retired_count: int
    #: Versions in all chains.
    version_count: int

    def __init__(self, frame_count: int) -> None:
        """Prepare for that many frames; `LimitError` if the system does not give the memory."""
        # Pages of these arrays that no frame uses take no memory. numpy would ask for huge ones.
        try:
            self._versions = reserved(np.int64, 5 * frame_count).reshape(5, frame_count)
        except (OSError, OverflowError, ValueError) as error:
            raise LimitError(
                f"no room for the directory of {frame_count:,} pages: {error}; "
                "give less with --memory"
            ) from error
        self._page, self._epoch, self._superseded, self._older, self._newer = self._versions
        self._newest = IntMap()
        self._recent = deque()
        self._held = {}
        self._retired_count = 0
        self.version_count = 0

    def insert(self, epoch: int, pages: Ints, frames: Ints) -> None:
        """Enter one new version for each of `pages` (each once), newer than any it has."""
        assert pages.size == 0 or int(pages.min()) >= 0, "pages are not negative"
        keys, values = self._newest.tables(pages.size)
        superseded = np.empty(pages.size, np.int64)
        new = enter_versions(
            keys,
            values,
            epoch,
            np.ascontiguousarray(pages),
            np.ascontiguousarray(frames),
            self._versions,
            superseded,
        )
        assert new >= 0, "a version is not newer than the last"
        self._newest.entered(new)
        self.version_count += frames.size
        if new < pages.size:
            self._recent.append((epoch, superseded[: pages.size - new]))

    def adopt(self, epochs: Ints, pages: Ints, frames: Ints) -> None:
        """Enter the versions, with their epochs, of pages that have none here and come to live."""
        assert np.all(self._newest.get(pages, NO_FRAME) == NO_FRAME), "pages have versions here"
        self._page[frames] = pages
        self._epoch[frames] = epochs
        self._superseded[frames] = 0
        self._older[frames] = self._newer[frames] = NO_FRAME
        self._newest.put(pages, frames)
        self.version_count += frames.size

    def retire(self, epoch: int, pages: Ints) -> tuple[Ints, Ints, Ints]:
        """Let pages end here: from `epoch`, later than any version, they are found elsewhere.

        What snapshots before it can ask for stays until `collect` frees it. Returns those of the
        pages that have a version, their newest frames and the epochs of these.
        """
        frames, versions = self.newest(pages)
        is_here = frames != NO_FRAME
        pages, frames, versions = pages[is_here], frames[is_here], versions[is_here]
        assert np.all((self._superseded[frames] == 0) & (versions < epoch)), "pages end twice"
        self._superseded[frames] = epoch
        if frames.size:
            self._recent.append((epoch, frames))
            self._retired_count += frames.size
        return pages, frames, versions

    def newest(self, pages: Ints) -> tuple[Ints, Ints]:
        """Return the newest frame and its epoch for each page; NO_FRAME and 0 if never written."""
        frames = self._newest.get(pages, NO_FRAME)
        return frames, np.where(frames == NO_FRAME, 0, self._epoch[frames])

    def pages(self) -> Ints:
        """Return every page that has a version, ascending."""
        return self._newest.items()[0]

    def lookup(self, pages: Ints, snapshot: int) -> tuple[Ints, Ints, Ints]:
        """Find pages as of a snapshot that is pinned, or is the newest visible epoch.

        Returns
        -------
        frames
            NO_FRAME where the page was not written at or before `snapshot`.
        versions
            Epochs of these frames, 0 where there is none.
        superseding
            The epoch of the next newer version, 0 where there is none.
        """
        frames = self._newest.get(pages, NO_FRAME)
        superseding = np.zeros(pages.size, np.int64)
        late = np.flatnonzero(frames != NO_FRAME)
        while (late := late[self._epoch[frames[late]] > snapshot]).size:
            superseding[late] = self._epoch[frames[late]]
            frames[late] = self._older[frames[late]]
            late = late[frames[late] != NO_FRAME]
        found = frames != NO_FRAME
        # The next version in the chain may be gone already: the frame itself knows better.
        superseding = np.where(found, self._superseded[frames], superseding)
        return frames, np.where(found, self._epoch[frames], 0), superseding

    def collect(self, visible: int, pins: Ints) -> Ints:
        """Forget versions that nobody can ask for any more, and return their frames.

        The work is proportional to what was superseded since the last call and to what was held by
        pins that are gone; what other pins hold is not looked at. `pins`: sorted, unique.
        """
        candidates = []
        while self._recent and self._recent[0][0] <= visible:
            candidates.append(self._recent.popleft()[1])
        if self._held:
            held = np.array(list(self._held), np.int64)
            for pin in held[~np.isin(held, pins)].tolist():
                candidates += self._held.pop(pin)
        if not candidates:
            return np.empty(0, np.int64)
        frames = np.concatenate(candidates)
        kept = np.empty(frames.size, np.int64)
        count = sift(frames, np.ascontiguousarray(pins, np.int64), self._versions, kept)
        if count < frames.size:
            self._hold(kept[: frames.size - count], pins)
        garbage = frames[:count]
        if self._retired_count:
            self._behead(garbage)
        unlink(garbage, self._versions)
        self.version_count -= garbage.size
        return garbage

    def _behead(self, garbage: Ints) -> None:
        """Let chains of retired pages begin behind garbage at their head; without more they go."""
        heads = garbage[self._newest.get(self._page[garbage], NO_FRAME) == garbage]
        pages = self._page[heads]
        while (goes := np.isin(heads, garbage) & (heads != NO_FRAME)).any():
            heads = np.where(goes, self._older[heads], heads)
        is_gone = heads == NO_FRAME
        self._retired_count -= int(is_gone.sum())
        self._newest.remove(pages[is_gone])
        self._newest.put(pages[~is_gone], heads[~is_gone])

    def check_invariants(self) -> None:
        """Assert what holds between any two calls."""
        self._newest.check_invariants()
        pages, frames = self._newest.items()
        assert np.all(self._newer[frames] == NO_FRAME)
        count = 0
        waiting: list[Ints] = [frames[self._superseded[frames] != 0]]
        while frames.size:
            count += frames.size
            assert np.array_equal(self._page[frames], pages)
            has_older = self._older[frames] != NO_FRAME
            newer, pages = frames[has_older], pages[has_older]
            frames = self._older[newer]
            assert np.array_equal(self._newer[frames], newer), "a chain is broken"
            assert np.all(self._epoch[frames] < self._superseded[frames])
            assert np.all(self._superseded[frames] <= self._epoch[newer])
            waiting.append(frames)
        assert count == self.version_count
        listed = [part for _, part in self._recent] + [p for ps in self._held.values() for p in ps]
        assert np.array_equal(_sorted(waiting), _sorted(listed)), "a superseded frame is lost"

    def _hold(self, frames: Ints, pins: Ints) -> None:
        """Keep frames until the oldest pin that needs each of them is gone.

        The oldest, because a pin that has lasted long is likely to last longer.
        """
        blocking = np.searchsorted(pins, self._epoch[frames])
        order = np.argsort(blocking, kind="stable")
        needed, begins = np.unique(blocking[order], return_index=True)
        parts = np.split(frames[order], begins[1:])
        for row, part in zip(needed, parts if needed.size else (), strict=True):
            self._held.setdefault(int(pins[row]), []).append(part)


def _sorted(parts: list[Any]) -> Ints:
    return np.sort(np.concatenate([np.empty(0, np.int64), *parts]))
