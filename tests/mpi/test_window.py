"""Windows between real ranks: what is read and written, when, and what the probe finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import pytest
from mpi4py import MPI
from numpy.typing import NDArray

from dvm_mpi import config
from dvm_mpi.dsm import window
from dvm_mpi.dsm.frames import FramePool
from dvm_mpi.dsm.messages import NO_FRAME
from dvm_mpi.dsm.probe import MAILBOX_BYTES, Finding, probe
from dvm_mpi.dsm.window import WindowPlane, Windows
from dvm_mpi.engine.interface import gathered
from dvm_mpi.errors import WindowError
from dvm_mpi.layout import PAGE_BYTES
from tests.mpi.waiting import wait

FRAMES = 600
SLICE = 16 * config.KIB


@contextmanager
def opened(comm: Any, frame_count: int = FRAMES, mailbox_bytes: int = 0) -> Iterator[Windows]:
    """Make windows; ranks meet before they close them, so that all have finished."""
    windows = Windows(comm, frame_count, comm.size, SLICE, mailbox_bytes)
    yield windows
    wait(comm.Ibarrier())
    windows.close()


def fill(windows: Windows) -> None:
    """Give every frame content of its own: the rank and the frame's number."""
    numbers = windows.memory.reshape(-1).view(np.int64).reshape(len(windows.memory), -1)
    numbers[:] = (windows.rank << 32) + np.arange(len(windows.memory))[:, None]
    windows.sync()


def random_bytes(seed: int) -> NDArray[np.uint8]:
    """Return as many bytes as a slice has."""
    draw = np.random.default_rng(seed)
    return np.frombuffer(draw.bytes(SLICE), np.uint8)


def numbers_of(content: NDArray[np.uint8]) -> list[int]:
    """Return what `fill` wrote, of whole frames."""
    words = content.view(np.int64).reshape(len(content), -1)
    assert (words == words[:, :1]).all(), "a frame is torn"
    numbers: list[int] = words[:, 0].tolist()
    return numbers


def read(plane: WindowPlane, home: int, frames: list[int], ticket: int = 1) -> NDArray[np.uint8]:
    content = plane.read_frames(home, np.array(frames, np.int64), ticket)
    while content is None:
        assert plane.waits_for == f"{len(frames)} frames of home {home}"
        content = dict(plane.arrived()).get(ticket)
    assert plane.waits_for == ""
    return gathered(content.memory, content.rows)


@pytest.fixture(params=["loads", "reads"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Frames of the same node are loaded where that works; then as if it did not."""
    if request.param == "reads":
        own = Windows.memory_of
        monkeypatch.setattr(
            Windows, "memory_of", lambda self, rank: own(self, rank) if rank == self.rank else None
        )
    return str(request.param)


def test_frames_of_every_home_are_read(comm: Any, way: str) -> None:
    """Extents in any order, more of them than are begun at once, and pages without a frame."""
    draw = np.random.default_rng(comm.rank)
    with opened(comm) as windows:
        fill(windows)
        wait(comm.Ibarrier())
        plane = WindowPlane(windows)
        assert FRAMES // 2 > config.RMA_READS_AT_ONCE
        for home in range(comm.size):
            for frames in (
                [7],
                list(range(FRAMES)),
                list(range(0, FRAMES, 2)),
                draw.permutation(FRAMES).tolist(),
                [NO_FRAME, 3, 4, NO_FRAME, 2],
                [NO_FRAME],
            ):
                expected = [0 if f == NO_FRAME else (home << 32) + f for f in frames]
                content = read(plane, home, frames)
                assert content.shape == (len(frames), PAGE_BYTES)
                assert numbers_of(content) == expected
                content[:] = 255
        wait(comm.Ibarrier())
        own = [(comm.rank << 32) + f for f in range(FRAMES)]
        assert numbers_of(windows.memory) == own, "the callers got copies"


@pytest.mark.mpi(min_size=2)
def test_ranks_of_one_node_load_each_others_frames(comm: Any) -> None:
    """With every library; each rank's frames are its own, of whatever number, and on a page."""
    if not memory_is_shared(comm):
        pytest.skip("the ranks cannot share memory")
    with opened(comm, FRAMES + comm.rank) as windows:
        assert windows.is_unified
        fill(windows)
        wait(comm.Ibarrier())
        windows.sync()
        for home in range(comm.size):
            memory = windows.memory_of(home)
            assert memory is not None
            assert memory.ctypes.data % PAGE_BYTES == 0
            expected = [(home << 32) + f for f in range(FRAMES + home)]
            assert numbers_of(memory.reshape(-1, PAGE_BYTES)) == expected


@pytest.mark.mpi(min_size=2)
def test_reads_under_way_are_kept_apart(comm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several lookups at a time, to several homes; each ticket gets its own pages, once."""
    monkeypatch.setattr(Windows, "memory_of", lambda self, rank: None)
    monkeypatch.setattr(config, "RMA_READS_AT_ONCE", 3)
    with opened(comm) as windows:
        fill(windows)
        wait(comm.Ibarrier())
        plane = WindowPlane(windows)
        expected, got = {}, {}
        for ticket in range(12):
            home = ticket % comm.size
            frames = np.arange(ticket, FRAMES, 7 + ticket)
            expected[ticket] = ((home << 32) + frames).tolist()
            content = plane.read_frames(home, frames, ticket)
            if content is not None:
                got[ticket] = numbers_of(gathered(content.memory, content.rows))
        while len(got) < 12:
            for ticket, content in plane.arrived():
                assert ticket not in got
                got[ticket] = numbers_of(gathered(content.memory, content.rows))
        assert got == expected
        assert plane.arrived() == []


def test_every_worker_writes_its_own_slice(comm: Any) -> None:
    with opened(comm) as windows:
        assert windows.arena.shape == (comm.size, SLICE)
        windows.arena[:] = 0xEE
        windows.sync()
        wait(comm.Ibarrier())
        plane = WindowPlane(windows)
        for home in range(comm.size):
            plane.write_arena(home, 100 + home, np.full(50, comm.rank, np.uint8))
            plane.write_arena(home, SLICE - 3, np.full(3, comm.rank + 100, np.uint8))
        with pytest.raises(AssertionError, match="outside of the slice"):
            plane.write_arena(0, SLICE - 2, np.zeros(3, np.uint8))
        wait(comm.Ibarrier())
        windows.sync()
        for worker in range(comm.size):
            expected = np.full(SLICE, 0xEE, np.uint8)
            expected[100 + comm.rank : 150 + comm.rank] = worker
            expected[-3:] = worker + 100
            assert np.array_equal(windows.arena[worker], expected)


@pytest.mark.mpi(min_size=2)
def test_frames_published_by_a_message_are_there(comm: Any, way: str) -> None:
    """A home writes a free frame, syncs, and tells; who was told reads what was written."""
    with opened(comm, frame_count=8) as windows:
        plane = WindowPlane(windows)
        pool = FramePool(windows.memory)
        told, kept = np.zeros(1, np.int64), []
        writer = comm.size - 1
        for turn in range(60):
            if comm.rank == writer:
                (told[0],) = pool.allocate(1).tolist()
                pool.memory[told[0]].view(np.int64)[:] = turn
                kept.append(int(told[0]))
                windows.sync()
            wait(comm.Ibcast(told, root=writer))
            assert numbers_of(read(plane, writer, told.tolist())) == [turn]
            wait(comm.Ibarrier())
            if len(kept) > 4:
                pool.free(np.array([kept.pop(0)]))


def test_frames_are_loaded_after_a_sync(comm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loads are no operations of MPI: without it they may come before the message that told."""
    syncs: list[int] = []
    with opened(comm) as windows:
        fill(windows)
        monkeypatch.setattr(Windows, "sync", lambda self: syncs.append(self.rank))
        read(WindowPlane(windows), comm.rank, [3])
        assert syncs == [comm.rank]


@pytest.mark.mpi(min_size=2)
def test_large_reads_are_cut(comm: Any, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a read of several gigabytes is: no piece is larger than what all libraries take."""
    monkeypatch.setattr(config, "RMA_BYTES_MAX", 3 * PAGE_BYTES + 8)
    with opened(comm) as windows:
        fill(windows)
        wait(comm.Ibarrier())
        plane, home = WindowPlane(windows), (comm.rank + 1) % comm.size
        content = read(plane, home, list(range(100)))
        assert numbers_of(content) == [(home << 32) + f for f in range(100)]
        monkeypatch.setattr(config, "RMA_BYTES_MAX", 1_000)
        plane.write_arena(home, 0, random_bytes(comm.rank))
        wait(comm.Ibarrier())
        windows.sync()
        left = (comm.rank - 1) % comm.size
        assert np.array_equal(windows.arena[left], random_bytes(left))


def test_ranks_may_have_different_amounts_of_memory(comm: Any) -> None:
    with opened(comm, frame_count=comm.rank + 1) as windows:
        fill(windows)
        wait(comm.Ibarrier())
        plane = WindowPlane(windows)
        for home in range(comm.size):
            assert numbers_of(read(plane, home, [home])) == [(home << 32) + home]


def test_closing_twice_is_closing(comm: Any) -> None:
    with opened(comm) as windows:
        pass
    windows.close()
    assert windows.memory.size == windows.arena.size == 0


def test_no_room_is_told_with_sizes(comm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        @staticmethod
        def Allocate(*arguments: Any, **keywords: Any) -> None:
            raise MPI.Exception(MPI.ERR_NO_MEM)

        Allocate_shared = Allocate

    with monkeypatch.context() as patched:
        patched.setattr("dvm_mpi.dsm.window.MPI.Win", Full)
        with pytest.raises(
            WindowError, match=rf"rank {comm.rank}: .*2\.34 MiB for frames.*--memory"
        ):
            Windows(comm, FRAMES, comm.size, SLICE)


# --- the probe ----------------------------------------------------------------------------------
def run_probe(comm: Any, nodes: Callable[[int], str]) -> Finding:
    """Return what this rank finds."""
    with opened(comm, mailbox_bytes=MAILBOX_BYTES) as windows:
        wait(comm.Ibarrier())
        steps = probe(windows, nodes(comm.rank))
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                return cast(Finding, stop.value)


def agreed(comm: Any, finding: Finding) -> bool:
    """Whether all ranks found the same."""
    own = np.array([finding.answers, finding.pair_count, finding.slowest_us], np.int64)
    everyones = np.zeros((comm.size, 3), np.int64)
    wait(comm.Iallgather(own, everyones))
    return bool((everyones == own).all())


@pytest.mark.parametrize("ranks_per_node", [1, 3, 99])
def test_windows_in_shared_memory_let_others_read_while_their_rank_computes(
    comm: Any, ranks_per_node: int
) -> None:
    """A network may or may not (UCX_TLS=tcp,self does not); all ranks agree in any case."""
    finding = run_probe(comm, lambda rank: f"node {rank // ranks_per_node}")
    assert finding.answers or not memory_is_shared(comm)
    assert (finding.pair_count > 0) == (comm.size > 1)
    assert agreed(comm, finding)


@pytest.mark.mpi(min_size=2)
def test_windows_that_need_the_targets_calls_are_found_out(
    comm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one node, windows over memory that MPI did not allocate are served by their rank."""

    def create(comm: Any, byte_count: int, what: str) -> Any:
        return MPI.Win.Create(np.zeros(byte_count, np.uint8), 1, comm=comm)

    monkeypatch.setattr(window, "_allocate", create)
    finding = run_probe(comm, lambda rank: "one node")
    assert agreed(comm, finding)
    if memory_is_shared(comm):
        assert not finding.answers


def memory_is_shared(comm: Any) -> bool:
    """Whether MPI puts windows into memory that ranks of this machine share."""
    own = comm.Split_type(MPI.COMM_TYPE_SHARED)
    is_whole = bool(own.Get_size() == comm.size)
    own.Free()
    return is_whole
