"""Planted faults of homes, addresses and engines: what a snapshot holds, what a record says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.control.messages import BatchesDealt
from dvm_mpi.control.scheduler import Scheduler
from dvm_mpi.control.sending import Sending
from dvm_mpi.dsm import ranges
from dvm_mpi.dsm.directory import Directory
from dvm_mpi.dsm.home import Addressed, Home
from dvm_mpi.dsm.messages import NO_FRAME, NO_LOCATED, RUN, ApplyRequested, HomeEvent
from dvm_mpi.engine.interface import AttemptBatch, End, EngineSettings, Lease, LeaseKind
from dvm_mpi.engine.reference import ReferenceEngine
from dvm_mpi.engine.reference_memory import FrameCache
from dvm_mpi.engine.reference_state import Attempt
from dvm_mpi.layout import MALLOC_START, PAGE_BYTES, PAGE_SHIFT, PR_END
from tests.sim.bugs_runners import FaultySending

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]
WriteSets = list[tuple[NDArray[Any], Bytes]]


# --- homes --------------------------------------------------------------------------------------
class _NewestDirectory(Directory):
    def lookup(self, pages: Ints, snapshot: int) -> tuple[Ints, Ints, Ints]:
        frames, versions = self.newest(pages)
        return frames, np.minimum(versions, snapshot), np.zeros_like(frames)


class NewestPages(Home):
    """Lookups are answered with the newest version, whatever the snapshot."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.directory = _NewestDirectory(self.pool.frame_count)

    def _apply(self, epoch: int, written: WriteSets) -> None:
        super()._apply(epoch, written)
        # Who was told where pages lie would not ask.
        self._located = NO_LOCATED


class PageImages(Home):
    """A store brings its whole page along, as its runner's snapshot may have had it."""

    _seen = 0

    def _take_epoch(self, event: ApplyRequested) -> tuple[Addressed, ...]:
        self._seen = event.visible
        return super()._take_epoch(event)

    def _base_frames(self, pages: Ints) -> Ints:
        return self.directory.lookup(pages, self._seen)[0]


class _CarelessDirectory(Directory):
    def collect(self, visible: int, pins: Ints) -> Ints:
        return super().collect(visible, pins[:0])


class FreedUnderPins(Home):
    """What was superseded is freed as soon as that is visible, whoever may still read it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.directory = _CarelessDirectory(self.pool.frame_count)


class FramesInPlace(Home):
    """Stores are written into the frames that are published already."""

    def _apply(self, epoch: int, written: WriteSets) -> None:
        runs = np.concatenate([np.empty(0, RUN), *(runs for runs, _ in written)])
        pages = ranges.pages_of(ranges.normalise(runs))
        frames, _ = self.directory.newest(pages)
        is_new = frames == NO_FRAME
        frames[is_new] = self.pool.allocate(int(is_new.sum()))
        self.pool.memory[frames[is_new]] = 0
        self.directory.insert(epoch, pages[is_new], frames[is_new])
        for stored, data in written:
            self._overlay(pages, frames, stored, data)


class EmptyFrames(Home):
    """A frame is entered in the directory, and filled when the home has nothing else to do."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._unfilled: list[tuple[int, WriteSets]] = []

    def handle(self, event: HomeEvent) -> tuple[Addressed, ...]:
        waiting = len(self._unfilled)
        replies = super().handle(event)
        self._fill(waiting)
        return replies

    def read(self, pages: Ints, snapshot: int) -> Bytes:
        self._fill(len(self._unfilled))
        return super().read(pages, snapshot)

    def _apply(self, epoch: int, written: WriteSets) -> None:
        self._fill(len(self._unfilled))
        runs = np.concatenate([np.empty(0, RUN), *(runs for runs, _ in written)])
        pages = ranges.pages_of(ranges.normalise(runs))
        frames = self.pool.allocate(pages.size)
        self._copy_bases(frames, self._base_frames(pages))
        self.directory.insert(epoch, pages, frames)
        self._unfilled.append((epoch, written))

    def _fill(self, count: int) -> None:
        """Fill the frames of the oldest `count` epochs."""
        for epoch, written in self._unfilled[:count]:
            for stored, data in written:
                pages = ranges.pages_of(ranges.normalise(stored))
                self._overlay(pages, self.directory.lookup(pages, epoch)[0], stored, data)
        del self._unfilled[:count]


class UncleanFrames(Home):
    """A frame that begins a page holds what the frame last held."""

    def _lay_bases(self, pages: Ints, frames: Ints, runs: NDArray[Any]) -> None:
        held, is_new = self.pool.memory[frames], self._base_frames(pages) == NO_FRAME
        super()._lay_bases(pages, frames, runs)
        self.pool.memory[frames[is_new]] = held[is_new]


class StagedPartsLost(Home):
    """Of a write set that came in several parts only the last is applied."""

    def _take_write_sets(self, event: ApplyRequested) -> WriteSets:
        for staged in self._staged.values():
            for _, data in staged.parts[:-1]:
                self._staged_bytes -= data.size
            staged.parts = staged.parts[-1:]
        return super()._take_write_sets(event)


# --- addresses ----------------------------------------------------------------------------------
class IdsTwice(Scheduler):
    """Every lease of ids is the first one, but for the first runner's."""

    _first: Lease | None = None

    def _lease(self, kind: LeaseKind, wanted_bytes: int = 0, blocks: int = 1) -> Lease:
        lease = super()._lease(kind, wanted_bytes, blocks)
        if kind is not LeaseKind.ID:
            return lease
        self._first = self._first or lease
        return self._first


class _Generous(Sending):
    def _lay_out(self, *arguments: Any) -> BatchesDealt:
        dealt = super()._lay_out(*arguments)
        grants = dealt.grants.copy()
        grants["length"] = ranges.round_to_pages(grants)["length"]
        return replace(dealt, grants=grants)


class RangesOfPages(FaultySending):
    """Runners are given whole pages, whatever was declared of them."""

    made_of = _Generous


class BlocksTwice(Scheduler):
    """Every lease for `malloc` begins where the area begins."""

    def _lease(self, kind: LeaseKind, wanted_bytes: int = 0, blocks: int = 1) -> Lease:
        lease = super()._lease(kind, wanted_bytes, blocks)
        if kind is not LeaseKind.MALLOC:
            return lease
        return Lease(kind, MALLOC_START, MALLOC_START + lease.end - lease.start)


# --- engines ------------------------------------------------------------------------------------
class _TrustingCache(FrameCache):
    def holds(self, page: int, newest: int, snapshot: int) -> bool:
        frame = self.get(page)
        return frame is not None and frame.version <= snapshot


class StaleCacheEngine(ReferenceEngine):
    """A cached page is kept although others have stored to it since."""

    def __init__(self, settings: EngineSettings) -> None:
        super().__init__(settings)
        self._frames = _TrustingCache(settings.cache_bytes)


class LeftoverEngine(ReferenceEngine):
    """Private memory is not zeroed between two attempts."""

    def __init__(self, settings: EngineSettings) -> None:
        super().__init__(settings)
        self._left: dict[int, bytearray] = {}

    def _enter(self, batch: AttemptBatch, index: int) -> Attempt:
        attempt = super()._enter(batch, index)
        for page, content in self._left.items():
            attempt.memory._private.setdefault(page, content)
        return attempt

    def _leave(self, attempt: Attempt) -> None:
        private = attempt.memory._private.items()
        self._left = {page: content for page, content in private if page << PAGE_SHIFT < PR_END}
        super()._leave(attempt)


class SilentStoresDropped(ReferenceEngine):
    """A byte counts as stored only if its value has changed."""

    def _leave(self, attempt: Attempt) -> None:
        memory = attempt.memory
        for address in list(memory.stored):
            frame = self._frames.get(address >> PAGE_SHIFT)
            if frame is None:
                continue
            if frame.data[address % PAGE_BYTES] == memory.stored_byte(address):
                memory.stored.discard(address)
        super()._leave(attempt)


class PublishingAborts(ReferenceEngine):
    """An abort publishes all that it stored."""

    def _leave(self, attempt: Attempt) -> None:
        if attempt.end is not End.ABORT:
            super()._leave(attempt)
            return
        # As a commit that has created and printed nothing, of which the record says: an abort.
        stacks = [child.stack[0] for child in attempt.children if child.stack_is_automatic]
        self._ended.dropped_stacks += stacks
        attempt.children.clear()
        attempt.console.clear()
        attempt.memory.coverage.mallocs.clear()
        attempt.end = End.COMMIT
        super()._leave(attempt)
        runner, _, *others = self._ended.outcomes.pop()
        self._ended.outcomes.append((runner, int(End.ABORT), *others))
