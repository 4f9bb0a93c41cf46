"""Frames and staging arenas that other ranks read and write: MPI windows, and the plane over them.

Passive target throughout: one shared lock of every rank for the windows' life (no exclusive one is
ever taken, so MPI need not check), reads complete by their own requests, writes by a flush of their
target. No atomics: who may read or write what follows from the commit protocol. Frames are
published by messages that are sent after `sync`, and an arena is read after `sync` and a message.

Rank r of the communicator has home r and worker r. Importing this module loads the MPI library and
does not start it.
"""

from __future__ import annotations

from collections import deque
from typing import cast

import mpi4py
import numpy as np
from numpy.typing import NDArray

from dvm_mpi.values import dataclass

# The first import decides for the process; `control.transport` says the same.
mpi4py.rc.initialize = False
mpi4py.rc.finalize = False

from mpi4py import MPI  # noqa: E402

from dvm_mpi import config  # noqa: E402
from dvm_mpi.dsm.frames import frame_extents  # noqa: E402
from dvm_mpi.dsm.messages import NO_FRAME  # noqa: E402
from dvm_mpi.dsm.page_loops import extent_count  # noqa: E402
from dvm_mpi.dsm.snapshot import Content  # noqa: E402
from dvm_mpi.dsm.traffic import Ledger  # noqa: E402
from dvm_mpi.errors import WindowError  # noqa: E402
from dvm_mpi.layout import PAGE_BYTES, PAGE_SHIFT  # noqa: E402

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]


class Windows:
    """One rank's memory that others reach, and its access to theirs. Made and closed collectively.

    MPI's calls for that wait without sleeping: ranks should meet by other means first.

    Parameters
    ----------
    comm
        Of all ranks with a home; it must outlive the windows.
    frame_count
        Frames of this rank's home; others may have more or fewer.
    worker_count
        Slices of each arena.
    slice_bytes
        Size of each slice; the same on every rank.
    mailbox_bytes
        Memory beside the arena for whoever measures the windows; the same on every rank.
    traffic
        Where pages that are read and bytes that are put are counted; what goes by the mailbox is
        not.

    Raises
    ------
    WindowError
        MPI does not give that much memory.
    """

    #: (frame_count, PAGE_BYTES), own frames; at first whatever was there.
    memory: Bytes
    #: (worker_count, slice_bytes), own arena; row w is written by rank w.
    arena: Bytes
    #: (mailbox_bytes,), zero at first.
    mailbox: Bytes

    def __init__(
        self,
        comm: MPI.Intracomm,
        frame_count: int,
        worker_count: int,
        slice_bytes: int,
        mailbox_bytes: int = 0,
        traffic: Ledger | None = None,
    ) -> None:
        self.comm = comm
        self.rank: int = comm.Get_rank()
        self.traffic = Ledger(comm.Get_size()) if traffic is None else traffic
        self._slice_bytes = slice_bytes
        arena_bytes = worker_count * slice_bytes
        self._mailbox_offset = arena_bytes
        self._frames = _allocate(comm, frame_count * PAGE_BYTES, "frames")
        self._arenas = _allocate(comm, arena_bytes + mailbox_bytes, "staging arenas")
        self.memory = _bytes_of(self._frames.tomemory()).reshape(frame_count, PAGE_BYTES)
        beside = _bytes_of(self._arenas.tomemory())
        self.arena = beside[:arena_bytes].reshape(worker_count, slice_bytes)
        self.mailbox = beside[arena_bytes:]
        self.mailbox[:] = 0
        self._memories: dict[int, Bytes | None] = {self.rank: self.memory.reshape(-1)}
        self._is_open = True
        for window in (self._frames, self._arenas):
            window.Lock_all(MPI.MODE_NOCHECK)

    @property
    def is_unified(self) -> bool:
        """Whether what others write is in the very memory that this rank loads from."""
        models = {window.model for window in (self._frames, self._arenas)}
        return models == {MPI.WIN_UNIFIED}

    def sync(self) -> None:
        """Order this rank's own loads and stores with what others read and write.

        A home calls it before it reads its arena, and before it lets anyone know of new frames; so
        does who was told of frames and loads them.
        """
        self._frames.Sync()
        self._arenas.Sync()

    def memory_of(self, rank: int) -> Bytes | None:
        """Return a rank's frames as bytes in a row if they can be loaded from here, else None.

        Between ranks of one node, where MPI tells the address of a window's memory: since MPI 4.1,
        and before that if all ranks are on that node. *Origin only.*
        """
        if rank not in self._memories:
            try:
                memory = _bytes_of(self._frames.Shared_query(rank)[0])
            except MPI.Exception:
                memory = np.empty(0, np.uint8)
            self._memories[rank] = memory if memory.size else None
        return self._memories[rank]

    def read_frames(self, rank: int, first: int, target: Bytes) -> list[MPI.Request]:
        """Begin to read consecutive frames of a rank from `first` on, as many as `target` holds.

        *Origin only.* `target` must live, and is undefined, until all requests are complete.
        """
        return _read(self._frames, rank, first << PAGE_SHIFT, target)

    def write_slice(self, rank: int, offset: int, data: Bytes) -> None:
        """Write into the own slice of a rank's arena; on return the bytes are there.

        *Origin only.* This may wait until a target that computes looks at its messages.
        """
        assert 0 <= offset <= offset + data.size <= self._slice_bytes, "outside of the slice"
        self.traffic.wrote(rank, data.size)
        if rank == self.rank:
            self.arena[rank, offset : offset + data.size] = data
        else:
            self._write(rank, self.rank * self._slice_bytes + offset, data)

    def read_mailbox(self, rank: int, offset: int, target: Bytes) -> list[MPI.Request]:
        """Begin to read a part of a rank's mailbox, as `read_frames` does.

        *Origin only.*
        """
        return _read(self._arenas, rank, self._mailbox_offset + offset, target)

    def write_mailbox(self, rank: int, offset: int, data: Bytes) -> None:
        """Write into a rank's mailbox; on return the bytes are there.

        *Origin only.*
        """
        self._write(rank, self._mailbox_offset + offset, data)

    def _write(self, rank: int, offset: int, data: Bytes) -> None:
        # As a whole, so that every piece lives until the flush.
        data = np.ascontiguousarray(data)
        for begin in range(0, data.size, config.RMA_BYTES_MAX):
            piece = data[begin : begin + config.RMA_BYTES_MAX]
            self._arenas.Put([piece, MPI.BYTE], rank, [offset + begin, piece.size, MPI.BYTE])
        self._arenas.Flush(rank)

    def close(self) -> None:
        """Give the memory back; idempotent. *Collective*: no rank may use the windows any more."""
        if not self._is_open:
            return
        self._is_open = False
        # Views of memory that is gone would end the process at the next touch.
        self.memory = self.arena = np.empty((0, 0), np.uint8)
        self.mailbox = np.empty(0, np.uint8)
        self._memories = {}
        for window in (self._frames, self._arenas):
            window.Unlock_all()
            window.Free()


def _tells_memory() -> bool:
    """Whether this library can tell the address of a window's memory on another rank: MPI 4.1."""
    return MPI.Get_version() >= (4, 1)


def _allocate(comm: MPI.Intracomm, byte_count: int, what: str) -> MPI.Win:
    try:
        if not _tells_memory() and _is_one_node(comm):
            # Every library tells the addresses of such windows, which are for one node's ranks.
            info = MPI.Info.Create({"alloc_shared_noncontig": "true"})
            window = MPI.Win.Allocate_shared(byte_count, 1, info=info, comm=comm)
            info.Free()
            return window
        return MPI.Win.Allocate(byte_count, 1, comm=comm)
    except MPI.Exception as error:
        raise WindowError(
            f"rank {comm.Get_rank()}: MPI has no room for a window of "
            f"{byte_count / config.MIB:,.2f} MiB for {what}: {error.Get_error_string()}; give less "
            "with --memory, run fewer ranks on a node, or use --data-plane message"
        ) from error


def _is_one_node(comm: MPI.Intracomm) -> bool:
    """Return whether all ranks can share memory; *collective*."""
    node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    size = node.Get_size()
    node.Free()
    return bool(size == comm.Get_size())


def _bytes_of(memory: MPI.buffer) -> Bytes:
    # A buffer, though its stub does not say so before Python 3.12.
    return np.frombuffer(cast(memoryview, memory), np.uint8)


def _read(window: MPI.Win, rank: int, offset: int, target: Bytes) -> list[MPI.Request]:
    """Begin reads of RMA_BYTES_MAX each: counts of more bytes are not understood everywhere."""
    requests = []
    for begin in range(0, target.size, config.RMA_BYTES_MAX):
        piece = target[begin : begin + config.RMA_BYTES_MAX]
        place = [offset + begin, piece.size, MPI.BYTE]
        requests.append(window.Rget([piece, MPI.BYTE], rank, place))
    return requests


@dataclass(slots=True, eq=False)
class _Read:
    """A read that is not complete."""

    home: int
    ticket: int
    content: Bytes
    #: Extents not asked for yet: first frame, frame count, first row of `content`.
    extents: deque[tuple[int, int, int]]
    #: What MPI has not finished.
    requests: list[MPI.Request]


class WindowPlane:
    """`snapshot.DataPlane` of this rank's worker over windows.

    Frames that can be loaded from here are looked at where they are. Of others one read for each
    extent goes straight to its place, some at a time, so that no call takes long.
    """

    carries_content = False

    def __init__(self, windows: Windows) -> None:
        self._windows = windows
        #: In the order in which they were asked for.
        self._reads: list[_Read] = []

    def read_frames(self, home: int, frames: Ints, ticket: int) -> Content | None:
        """Read published frames; NO_FRAME is a page of zeros; None: `arrived` has them."""
        read_count = int((frames != NO_FRAME).sum())
        self._windows.traffic.read(home, read_count << PAGE_SHIFT, extent_count(frames))
        memory = self._windows.memory_of(home)
        if memory is not None:
            self._windows.sync()
            return Content(memory.reshape(-1, PAGE_BYTES), frames)
        content = np.empty((frames.size, PAGE_BYTES), np.uint8)
        content[frames == NO_FRAME] = 0
        extents = frame_extents(frames)
        listed = zip(*(part.tolist() for part in extents), strict=True)
        read = _Read(home, ticket, content, deque(listed), [])
        if self._advance(read):
            return Content.of(content)
        self._reads.append(read)
        return None

    def arrived(self) -> list[tuple[int, Content]]:
        """Return what `read_frames` owed and has come since the last call: ticket and content."""
        done = [read for read in self._reads if self._advance(read)]
        if done:
            self._reads = [read for read in self._reads if read not in done]
        return [(read.ticket, Content.of(read.content)) for read in done]

    def _advance(self, read: _Read) -> bool:
        """Ask for more of a read if what was asked for is there; return whether all is there."""
        if not MPI.Request.Testall(read.requests):
            return False
        read.requests.clear()
        while read.extents and len(read.requests) < config.RMA_READS_AT_ONCE:
            first, count, row = read.extents.popleft()
            target = read.content[row : row + count].reshape(-1)
            read.requests += self._windows.read_frames(read.home, first, target)
        return bool(MPI.Request.Testall(read.requests)) and not read.extents

    def write_arena(self, home: int, offset: int, data: Bytes) -> None:
        """Put bytes into this worker's slice of a home's arena; on return they are there."""
        self._windows.write_slice(home, offset, data)

    @property
    def waits_for(self) -> str:
        """Tell what is on its way; empty if nothing is."""
        return ", ".join(f"{len(read.content)} frames of home {read.home}" for read in self._reads)
