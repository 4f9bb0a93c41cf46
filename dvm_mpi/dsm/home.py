"""A home: the one place that keeps the frames of its pages, and applies epochs to them.

Epochs are applied in order. A page that an epoch touches is copied once into a free frame, the
stored bytes are laid over it in commit order, and the frame is entered in the directory; only then
is the epoch acknowledged. A published frame is never written again, so whoever reads it needs no
lock. An epoch whose staged bytes have not all arrived waits, and so does one that lacks free frames
while snapshots in use still hold old ones; later epochs wait behind it, while lookups are answered
all the time. An epoch in which blocks of pages move is one among them: what leaves is sent when its
turn comes, and it is applied when what moves here has come.

Source: docs/memory-model.md, "Commit"; docs/design/0021-migration.md.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import LOCATED_PAGES_TOLD
from dvm_mpi.dsm import byte_copy, ranges
from dvm_mpi.dsm.directory import Directory
from dvm_mpi.dsm.frames import FramePool
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.handover import Handover
from dvm_mpi.dsm.hot_pages import HotPages
from dvm_mpi.dsm.messages import (
    LOCATED,
    NO_FRAME,
    NO_LOCATED,
    RUN,
    ApplyRequested,
    ArenaReleased,
    BlocksMoved,
    DiscardRequested,
    EpochApplied,
    FramesLacking,
    HomeAction,
    HomeEvent,
    LookupAnswered,
    LookupRequested,
    PagesHanded,
    PinsMoved,
    Staged,
    StagingEnded,
    StoresPassed,
)
from dvm_mpi.dsm.page_loops import copy_bases, lay_over, pages_stored
from dvm_mpi.dsm.rows import joined, words_of
from dvm_mpi.errors import LimitError
from dvm_mpi.layout import PAGE_BYTES, PAGE_SHIFT
from dvm_mpi.values import dataclass, field

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]

#: Stands for the coordinator where a worker's number is wanted; workers count from 0.
COORDINATOR: Final = -1
#: To whom something is said, and what.
Addressed = tuple[int, HomeAction]
#: An epoch that is closed.
Closed = ApplyRequested | BlocksMoved
#: Write sets that a message about a wait names.
_TOLD_MAX: Final = 3
#: Up to so many runs, and pages that they touch, loops over each pair of them are quick.
FEW_RUNS: Final = 64
FEW_PAGES: Final = 64


@dataclass(slots=True)
class StagedWriteSet:
    """The parts of one write set that have arrived, in private memory."""

    #: Runs and their bytes, part after part.
    parts: list[tuple[NDArray[Any], Bytes]] = field(default_factory=list)
    #: Whether the last part is here.
    is_complete: bool = False
    #: It lost: its parts are dropped as they arrive.
    is_discarded: bool = False

    @property
    def held_bytes(self) -> int:
        """Bytes of all parts."""
        return sum(data.size for _, data in self.parts)


class Home:
    """The directory and frames of the pages that `geometry` gives to this index.

    Homes that share a geometry with workers of their rank hear of moves for these too.
    """

    #: Number of this home.
    index: int
    #: Frames and their memory; others may read published frames at any time.
    pool: FramePool
    #: Versions of the pages of this home.
    directory: Directory
    #: (worker_count, slice_bytes): row w is written by worker w, read here when it says so. No
    #: byte wide where staged bytes come in messages.
    arena: Bytes
    #: Epochs up to this one that touch this home are all applied.
    known: int
    #: The last epoch applied or waiting.
    _last_asked: int
    #: Closed epochs that wait for staged bytes, or behind such a one; ascending.
    _waiting: deque[Closed]
    #: Write sets that were staged and neither applied nor dropped, by (worker, serial).
    _staged: dict[tuple[int, int], StagedWriteSet]
    #: Bytes in `_staged`.
    _staged_bytes: int
    #: Of lost workers: the last serial that a record has named.
    _last_serials: dict[int, int]
    #: The epoch of which the coordinator knows that it waits for frames; 0 if none.
    _told_lacking: int
    #: Where the pages lie that the last epoch has changed, if they are few; LOCATED.
    _located: NDArray[Any]

    def __init__(self, index: int, geometry: Geometry, pool: FramePool, arena: Bytes) -> None:
        assert 0 <= index < geometry.home_count
        assert arena.dtype == np.uint8
        self.index = index
        self.pool = pool
        # Rank r has home r, where there are ranks.
        pool.owner = f"home {index}"
        self.directory = Directory(pool.frame_count)
        self.arena = arena
        self.known = 0
        #: New versions of pages, for whoever looks at the run.
        self.hot_pages = HotPages()
        #: Where pages live.
        self.geometry = geometry
        self._last_asked = 0
        self._waiting = deque()
        self._staged = {}
        self._staged_bytes = 0
        self._last_serials = {}
        self._told_lacking = 0
        self._located = NO_LOCATED
        #: The last epoch whose leaving pages were sent.
        self._handed = 0
        self._handover = Handover(index, geometry)

    def handle(self, event: HomeEvent) -> tuple[Addressed, ...]:
        """Take one message and return what to send, in order.

        Messages of one sender must be handled in the order in which they were sent.

        Raises
        ------
        LimitError
            The frames, or the memory for staged bytes, do not suffice.
        """
        match event:
            case LookupRequested():
                told = self._answer(event)
            case Staged():
                told = self._take_part(event)
            case ApplyRequested():
                told = self._take_epoch(event)
            case BlocksMoved():
                told = self._take_moves(event)
            case PagesHanded():
                self._handover.take_pages(event)
                told = self._apply_ready()
            case StoresPassed():
                self._handover.take_stores(event)
                told = self._apply_ready()
            case DiscardRequested():
                told = self._drop(event)
            case StagingEnded():
                told = self._end_staging(event)
            case PinsMoved():
                self.collect(event.visible, event.pins)
                told = self._apply_ready()
        return told

    def load(self, epoch: int, first_page: int, data: Bytes) -> None:
        """Put the loader's bytes into consecutive pages of this home, from a page's start.

        Frames are contiguous where possible. What the bytes do not reach of the final page is
        zero, or as it was loaded before: loads of one epoch may overlap, the later one wins. Only
        before anything ran.
        """
        page_count = -(-data.size // PAGE_BYTES)
        pages = np.arange(first_page, first_page + page_count)
        assert np.all(self.geometry.home_of(pages) == self.index), "pages of another home"
        frames, versions = self.directory.newest(pages)
        assert np.all((versions == 0) | (versions == epoch)), "pages were loaded at another epoch"
        is_new = frames == NO_FRAME
        frames[is_new] = self.pool.allocate(int(is_new.sum()))
        if page_count and is_new[-1]:
            self.pool.memory[frames[-1]] = 0
        run = np.array([(first_page << PAGE_SHIFT, data.size, 0)], RUN)
        self._overlay(pages, frames, run, data)
        self.enter(epoch, pages[is_new], frames[is_new])

    def enter(self, epoch: int, pages: Ints, frames: Ints) -> None:
        """Enter frames of the pool that the loader has filled, one for each page.

        The pages are of this home and have none yet. Only before anything ran.
        """
        assert np.all(self.geometry.home_of(pages) == self.index), "pages of another home"
        self.directory.insert(epoch, pages, frames)
        self.known = max(self.known, epoch)
        self._last_asked = max(self._last_asked, epoch)

    def read(self, pages: Ints, snapshot: int) -> Bytes:
        """Return copies of pages as of `snapshot`: (n, PAGE_BYTES)."""
        frames, _, _ = self.directory.lookup(pages, snapshot)
        return self.pool.read(frames)

    @property
    def epochs_waiting(self) -> int:
        """Closed epochs that this home has not applied yet."""
        return len(self._waiting)

    @property
    def waits_for(self) -> str:
        """Tell what the oldest waiting epoch lacks; empty if none waits."""
        if not self._waiting:
            return ""
        event = self._waiting[0]
        if self._has_come(event):
            return f"{self._frames_wanted(event)} free frames for epoch {event.epoch}"
        if isinstance(event, BlocksMoved):
            homes = ", ".join(map(str, self._handover.lacks(event)))
            return f"pages that move here in epoch {event.epoch}, from home {homes}"
        lacking = [key for key in _staged_keys(event.tokens) if not self._is_here(key)]
        if not lacking:
            return f"stores of epoch {event.epoch} whose pages have moved here since"
        told = ", ".join(f"{serial} of worker {worker}" for worker, serial in lacking[:_TOLD_MAX])
        more = ", and others" if len(lacking) > _TOLD_MAX else ""
        return f"staged write sets of epoch {event.epoch}: {told}{more}"

    @property
    def staged_bytes(self) -> int:
        """Bytes of write sets, and of pages that move here, that are here and not applied yet."""
        return self._staged_bytes + self._handover.held_bytes

    def workers_with_staged_bytes(self) -> set[int]:
        """Return the workers of which something is staged that was neither applied nor dropped."""
        return {worker for worker, _ in self._staged}

    def check_invariants(self) -> None:
        """Assert what holds between any two calls."""
        self.pool.check_invariants()
        self.directory.check_invariants()
        assert self.directory.version_count == self.pool.in_use, "a frame is lost"
        assert self._staged_bytes == sum(staged.held_bytes for staged in self._staged.values())
        epochs = [event.epoch for event in self._waiting]
        assert epochs == sorted(set(epochs))
        assert not self._waiting or self.known < epochs[0]
        assert not self._waiting or not self._can_apply(self._waiting[0])

    # --- snapshots -----------------------------------------------------------------------------

    def _answer(self, event: LookupRequested) -> tuple[Addressed, ...]:
        frames, versions, superseding = self.directory.lookup(event.pages, event.snapshot)
        # A snapshot is a visible epoch: whatever it holds has been applied here.
        newest_known = max(self.known, event.snapshot)
        until = np.where(superseding == 0, newest_known, superseding - 1)
        moves, block_pages = self.geometry.moves, self.geometry.block_pages
        if moves.newest:
            # Of pages that have left nothing is known here, those that were never written included.
            until = np.minimum(until, moves.ends(event.pages // block_pages, self.index))
        content = np.empty(0, np.uint8)
        if event.held.size:
            assert event.held.size == event.pages.size, "a version for every page, or for none"
            is_sent = (frames != NO_FRAME) & (versions != event.held)
            content = self.pool.read(frames[is_sent]).reshape(-1)
        answer = LookupAnswered(
            self.index, event.ticket, event.pages, frames, versions, until, content
        )
        return ((event.worker, answer),)

    # --- staging -------------------------------------------------------------------------------

    def _take_part(self, event: Staged) -> tuple[Addressed, ...]:
        """Copy a part to private memory, release it, and go on if an epoch waited."""
        key = (event.worker, event.serial)
        if self._is_beyond(key):
            return ((event.worker, ArenaReleased(self.index, event.serial, event.part)),)
        staged = self._staged.setdefault(key, StagedWriteSet())
        assert not staged.is_complete, f"a part of {key} after the last one"
        if not staged.is_discarded:
            source = event.data if event.data.size else self.arena[event.worker]
            runs, data = byte_copy.gather(event.runs, source)
            if self._staged_bytes + data.size > self.pool.memory.nbytes:
                raise LimitError(
                    f"write sets that wait to be committed hold {self._staged_bytes:,} bytes at "
                    f"home {self.index}, whose memory is {self.pool.memory.nbytes:,} bytes, and "
                    f"{data.size:,} more have come; give it more with --memory"
                )
            staged.parts.append((runs, data))
            self._staged_bytes += data.size
        staged.is_complete = event.is_last
        if staged.is_complete and staged.is_discarded:
            del self._staged[key]
        released = ArenaReleased(self.index, event.serial, event.part)
        return ((event.worker, released), *self._pass_on(), *self._apply_ready())

    def _drop(self, event: DiscardRequested) -> tuple[Addressed, ...]:
        """Forget write sets that lost, or mark them if parts are still to come."""
        for worker, serial in event.tokens[["worker", "serial"]].tolist():
            if self._is_beyond((worker, serial)):
                continue
            staged = self._staged.setdefault((worker, serial), StagedWriteSet())
            self._staged_bytes -= staged.held_bytes
            staged.parts = []
            staged.is_discarded = True
            if staged.is_complete:
                del self._staged[worker, serial]
        return ()

    def _end_staging(self, event: StagingEnded) -> tuple[Addressed, ...]:
        """Forget what a lost worker has staged and no record names."""
        self._last_serials[event.worker] = event.serial
        for key in [key for key in self._staged if self._is_beyond(key)]:
            self._staged_bytes -= self._staged.pop(key).held_bytes
        return ()

    def _is_beyond(self, key: tuple[int, int]) -> bool:
        """Whether a write set is of a lost worker, and no record of it will come."""
        worker, serial = key
        return worker in self._last_serials and serial > self._last_serials[worker]

    # --- epochs --------------------------------------------------------------------------------

    def _take_epoch(self, event: ApplyRequested) -> tuple[Addressed, ...]:
        self._enqueue(event)
        self._handover.note_tokens(event.tokens, event.epoch)
        return (*self._pass_on(), *self._apply_ready())

    def _take_moves(self, event: BlocksMoved) -> tuple[Addressed, ...]:
        self.geometry.move(event.epoch, event.moved, event.homes)
        self._enqueue(event)
        return self._apply_ready()

    def _enqueue(self, event: Closed) -> None:
        assert event.epoch > self._last_asked, f"epoch {event.epoch} after {self._last_asked}"
        self._last_asked = event.epoch
        self.collect(event.visible, event.pins)
        self._waiting.append(event)

    def _pass_on(self) -> tuple[Addressed, ...]:
        """Send stores whose pages have moved on, before anything waits for others' stores."""
        actions: list[Addressed] = []
        for key in self._handover.owed:
            if self._is_here(key):
                staged = self._staged[key]
                self._staged_bytes -= staged.held_bytes
                staged.parts, told = self._handover.pass_on(key, staged.parts)
                self._staged_bytes += staged.held_bytes
                actions += told
        return tuple(actions)

    def collect(self, visible: int, pins: Ints) -> None:
        """Free the frames that nobody can ask for any more; as `Directory.collect`."""
        self.known = max(self.known, visible)
        self.pool.free(self.directory.collect(visible, pins))

    def _has_come(self, event: Closed) -> bool:
        """Whether all that an epoch needs is here, but for frames."""
        if isinstance(event, BlocksMoved):
            return not self._handover.lacks(event)
        return self._is_ready(event)

    def _is_ready(self, event: ApplyRequested) -> bool:
        """Whether every staged write set of an epoch is here as a whole."""
        is_here = all(self._is_here(key) for key in _staged_keys(event.tokens))
        return is_here and self._handover.has_stores(event.tokens, event.runs)

    def _is_here(self, key: tuple[int, int]) -> bool:
        """Whether all parts of a staged write set have arrived."""
        staged = self._staged.get(key)
        return staged is not None and staged.is_complete

    def _apply_ready(self) -> tuple[Addressed, ...]:
        actions = self._hand_over()
        while self._waiting and self._can_apply(self._waiting[0]):
            event = self._waiting[0]
            if isinstance(event, ApplyRequested):
                self._apply(event.epoch, self._take_write_sets(event))
            else:
                self._adopt(event)
                self._located = NO_LOCATED
            self._waiting.popleft()
            self.known = max(self.known, event.epoch)
            if isinstance(event, ApplyRequested) or self.index in event.homes:
                applied = EpochApplied(self.index, event.epoch, self.pool.in_use, self._located)
                actions.append((COORDINATOR, applied))
            actions += self._hand_over()
        return (*actions, *self._tell_lacking())

    def _hand_over(self) -> list[Addressed]:
        """Send the pages that leave, once, if the turn has come of the epoch in which they do."""
        event = self._waiting[0] if self._waiting else None
        if not isinstance(event, BlocksMoved) or self._handed == event.epoch:
            return []
        self._handed = event.epoch
        actions: list[Addressed] = []
        for home, pages in self._handover.leaving(event):
            held, frames, versions = self.directory.retire(event.epoch, pages)
            content = self.pool.read(frames).reshape(-1)
            actions.append((home, PagesHanded(self.index, event.epoch, held, versions, content)))
        return actions

    def _adopt(self, event: BlocksMoved) -> None:
        """Enter the pages that have moved here, in the versions that they had."""
        for handed in self._handover.adopt(event):
            frames = self.pool.allocate(handed.pages.size)
            self.pool.memory[frames] = handed.content.reshape(-1, PAGE_BYTES)
            self.directory.adopt(handed.versions, handed.pages, frames)

    def _can_apply(self, event: Closed) -> bool:
        """Whether an epoch's bytes are here, and frames for it, or no hope for frames."""
        return self._has_come(event) and not self._waits_for_frames(event)

    def _waits_for_frames(self, event: Closed) -> bool:
        """Whether an epoch whose bytes are here lacks frames, and waiting for some can help.

        The snapshots in use can only become newer. Once all of them are the epoch before it, each
        page has but one version left: that much becomes free, and no more.
        """
        free = self.pool.frame_count - self.pool.in_use
        if isinstance(event, BlocksMoved):
            wanted = self._handover.page_count(event)
            return free < wanted <= self.pool.frame_count - self.directory.pages().size
        # Counting pages exactly takes a while; mostly there is more than enough.
        if sum(map(_page_count_most, self._runs_of(event))) <= free:
            return False
        wanted = self._frames_wanted(event)
        return free < wanted <= self.pool.frame_count - self.directory.pages().size

    def _frames_wanted(self, event: Closed) -> int:
        if isinstance(event, BlocksMoved):
            return self._handover.page_count(event)
        runs = np.concatenate([np.empty(0, RUN), *self._runs_of(event)])
        return int(ranges.pages_of(ranges.normalise(runs)).size)

    def _runs_of(self, event: ApplyRequested) -> list[NDArray[Any]]:
        """Return what an epoch stores here; its staged bytes are here."""
        parts = [part for key in _staged_keys(event.tokens) for part in self._staged[key].parts]
        return [event.runs, *(runs for runs, _ in parts)]

    def _tell_lacking(self) -> tuple[Addressed, ...]:
        """Say, once for each epoch, that it waits for frames."""
        if not self._waiting or not self._has_come(self._waiting[0]):
            return ()
        event = self._waiting[0]
        if self._told_lacking == event.epoch:
            return ()
        self._told_lacking = event.epoch
        lacking = FramesLacking(self.index, event.epoch, self._frames_wanted(event))
        return ((COORDINATOR, lacking),)

    def _take_write_sets(self, event: ApplyRequested) -> list[tuple[NDArray[Any], Bytes]]:
        """Return runs and bytes in commit order; neighbours that came in line are one entry."""
        tokens = event.tokens
        if tokens.size == 0:
            return []
        written = []
        is_staged = tokens["staged"] != 0
        if not is_staged.any():
            # As most epochs of small write sets.
            return [(_runs_of_tokens(event, tokens), event.data)]
        begins = np.flatnonzero(np.concatenate(([True], is_staged[1:] | is_staged[:-1])))
        for group in np.split(tokens, begins[1:]):
            key = (int(group[0]["worker"]), int(group[0]["serial"]))
            if group[0]["staged"] < 0:
                written += self._handover.stores(key)
            elif group[0]["staged"]:
                staged = self._staged.pop(key)
                assert not staged.is_discarded, "a discarded write set was committed"
                self._staged_bytes -= staged.held_bytes
                written += staged.parts
            else:
                written.append((_runs_of_tokens(event, group), event.data))
        return written

    def _apply(self, epoch: int, written: list[tuple[NDArray[Any], Bytes]]) -> None:
        """Make one new version of every page that the write sets touch."""
        runs = joined([runs for runs, _ in written]) if written else np.empty(0, RUN)
        pages = _pages_of(runs)
        homes = self.geometry.home_of(pages, epoch)
        assert np.all(homes == self.index), "pages of another home"
        self.hot_pages.note("versions", pages)
        frames = self.pool.allocate(pages.size)
        self._lay_bases(pages, frames, runs)
        for runs, data in written:
            self._overlay(pages, frames, runs, data)
        self.directory.insert(epoch, pages, frames)
        self._located = NO_LOCATED
        if 0 < pages.size <= LOCATED_PAGES_TOLD:
            self._located = np.empty(pages.size, LOCATED)
            self._located["page"], self._located["home"] = pages, self.index
            self._located["frame"], self._located["version"] = frames, epoch

    def _lay_bases(self, pages: Ints, frames: Ints, runs: NDArray[Any]) -> None:
        """Give new frames what pages hold now, but those that runs will cover as a whole."""
        bases = self._base_frames(pages)
        if runs.size <= FEW_RUNS:
            copy_bases(words_of(runs), pages, frames, bases, self.pool.flat)
        else:
            starts, stored = pages << PAGE_SHIFT, ranges.normalise(runs)
            is_partial = ~ranges.covers(stored, ranges.from_bounds(starts, starts + PAGE_BYTES))
            self._copy_bases(frames[is_partial], bases[is_partial])

    def _base_frames(self, pages: Ints) -> Ints:
        """Return the frames on which an epoch's stores are laid: the newest, NO_FRAME if none."""
        return self.directory.newest(pages)[0]

    def _copy_bases(self, frames: Ints, bases: Ints) -> None:
        has_base = bases != NO_FRAME
        sources = bases[has_base] << PAGE_SHIFT
        targets = frames[has_base] << PAGE_SHIFT
        lengths = np.full(sources.size, PAGE_BYTES, np.int64)
        byte_copy.copy_runs(self.pool.flat, sources, self.pool.flat, targets, lengths)
        self.pool.memory[frames[~has_base]] = 0

    def _overlay(self, pages: Ints, frames: Ints, runs: NDArray[Any], data: Bytes) -> None:
        """Write runs into the frames of `pages` (ascending), in order."""
        failed = lay_over(words_of(runs), data, pages, frames, self.pool.flat)
        assert not failed, "a run beyond data, or beyond the pages"


def _runs_of_tokens(event: ApplyRequested, tokens: NDArray[Any]) -> NDArray[Any]:
    """Return the runs that write sets of an epoch's message have there, in order."""
    return event.runs.take(ranges.expand(tokens["run_first"], tokens["run_count"]))


def _pages_of(runs: NDArray[Any]) -> Ints:
    """Return the numbers of all pages that runs touch, ascending, each once."""
    if runs.size <= FEW_RUNS:
        pages = np.empty(FEW_PAGES, np.int64)
        count = pages_stored(words_of(runs), pages)
        if count <= FEW_PAGES:
            return pages[:count]
    return ranges.pages_of(ranges.normalise(runs))


def _page_count_most(runs: NDArray[Any]) -> int:
    """Return an upper bound of the number of pages that runs touch."""
    first = runs["start"] >> PAGE_SHIFT
    end = (runs["start"] + runs["length"] + PAGE_BYTES - 1) >> PAGE_SHIFT
    return int((end - first).sum())


def _staged_keys(tokens: NDArray[Any]) -> list[tuple[int, int]]:
    """Return (worker, serial) of the staged ones of messages.TOKEN rows, in order."""
    if not tokens["staged"].any():
        return []
    keys: list[tuple[int, int]] = tokens[tokens["staged"] > 0][["worker", "serial"]].tolist()
    return keys
