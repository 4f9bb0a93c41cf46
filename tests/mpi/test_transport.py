"""Messages between real ranks: complete, in order, and without anybody waiting for anybody."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dvm_mpi import config
from dvm_mpi.control.messages import LeaseGranted, RunEnded
from dvm_mpi.dsm.messages import RUN, Staged
from tests.mpi.waiting import POLL_S, wait
from tests.patience import PATIENCE_S

MESSAGES = 60
#: Tags of a test's own signs.
LATE_RANK, LATE_ROOT = 1, 2
NO_RUNS = np.zeros(0, RUN)
#: Bytes of a message's content: with its head below and above what is taken in one go.
SIZES = (0, 1, 30_000, 100_000, 1 << 20)


def transport_of(comm: Any) -> Any:
    return import_module("dvm_mpi.control.transport").Transport(comm)


def part(transport: Any, take: Callable[[Any], None] = lambda message: None) -> None:
    transport.drain(lambda: None, take)
    transport.close()


def content(source: int, target: int, number: int) -> NDArray[np.uint8]:
    """Return the bytes of one message, which no other has at these places."""
    draw = np.random.default_rng([source, target, number])
    return np.frombuffer(draw.bytes(int(draw.choice(SIZES))), np.uint8)


def large_message(number: int) -> Staged:
    return Staged(1, number, 0, True, NO_RUNS, np.zeros(SIZES[-1], np.uint8))


def message(source: int, target: int, number: int) -> Staged:
    return Staged(source, number, 0, True, NO_RUNS, content(source, target, number))


def test_a_message_wakes_a_rank_of_the_same_host_that_sleeps(comm: Any) -> None:
    """The first rank is on another host, and sleeps as long as it meant to."""
    transport = transport_of(comm)
    hosts = [0, *[1] * (comm.size - 1)]
    transport.hang_bells(f"test-{comm.bcast(time.monotonic_ns())}", hosts)
    # All hang before the first message.
    comm.Barrier()
    for rank in range(comm.size):
        if rank != comm.rank:
            transport.send(rank, RunEnded(comm.rank))
    transport.flush()
    has_neighbours = comm.rank > 0 and comm.size > 2
    assert transport.wait(PATIENCE_S if has_neighbours else 0) == has_neighbours
    part(transport)


def test_messages_of_each_pair_come_in_order_and_whole(comm: Any) -> None:
    """Small ones overtake large ones in MPI's queues; they must not be seen to."""
    transport = transport_of(comm)
    others = [rank for rank in range(comm.size) if rank != comm.rank]
    expected = dict.fromkeys(range(comm.size), 0)
    sent = 0
    while sent < MESSAGES or any(expected[rank] < MESSAGES for rank in range(comm.size)):
        if sent < MESSAGES:
            for rank in [*others, comm.rank]:
                transport.send(rank, message(comm.rank, rank, sent))
            sent += 1
            # Some buffers carry several messages.
            if sent % 3 or sent == MESSAGES:
                transport.flush()
        for source, arrived in transport.receive():
            number = expected[source]
            assert (arrived.worker, arrived.serial) == (source, number)
            assert np.array_equal(arrived.data, content(source, comm.rank, number))
            expected[source] += 1
        time.sleep(POLL_S)
    part(transport)
    assert transport.sends_pending == 0


@pytest.mark.mpi(min_size=2)
def test_nothing_waits_for_a_rank_that_does_not_listen(comm: Any) -> None:
    """Rank 0 takes nothing before all others have said, by other means, that they are through."""
    transport = transport_of(comm)
    large = np.zeros(8 << 20, np.uint8)
    if comm.rank:
        for number in range(4):
            transport.send(0, Staged(comm.rank, number, 0, True, NO_RUNS, large))
            transport.flush()
        assert transport.receive() == []
        assert transport.sends_pending > 0
    through = comm.Ibarrier()
    while not through.Test():
        time.sleep(POLL_S)
    arrived: list[Any] = []
    # What is under way is not lost, though the others leave already: `drain` of each waits.
    while comm.rank == 0 and len(arrived) < 4 * (comm.size - 1):
        arrived += transport.receive()
        time.sleep(POLL_S)
    part(transport)
    assert sorted((source, m.serial) for source, m in arrived) == [
        (source, number) for source in range(1, comm.size) for number in range(4)
    ] * (comm.rank == 0)


@pytest.mark.mpi(min_size=2)
def test_nothing_is_left_of_a_flood_when_ranks_part(comm: Any) -> None:
    transport = transport_of(comm)
    if comm.rank:
        for number in range(10 * config.RECEIVES_AT_ONCE):
            transport.send(0, RunEnded(number))
            transport.flush()
    through = comm.Ibarrier()
    while not through.Test():
        time.sleep(POLL_S)
    transport.drain(lambda: None)
    assert not transport.comm.Iprobe()
    transport.close()


@pytest.mark.mpi(min_size=2)
def test_what_comes_later_than_all_ranks_is_waited_for(comm: Any) -> None:
    """Between hosts a message may be slower than what tells that all others have come."""
    transport = transport_of(comm)
    if comm.rank:
        transport.send(0, RunEnded(comm.rank))
    next_arrived, slow_until = transport._next_arrived, time.monotonic() + 0.5
    transport._next_arrived = lambda: next_arrived() if time.monotonic() > slow_until else None
    late: list[Any] = []
    part(transport, late.append)
    assert {message.exit_code for message in late} == (
        set() if comm.rank else set(range(1, comm.size))
    )


@pytest.mark.mpi(min_size=2)
def test_a_flood_is_taken_in_parts(comm: Any) -> None:
    transport = transport_of(comm)
    count = 2 * config.RECEIVES_AT_ONCE
    if comm.rank == 1:
        for number in range(count):
            transport.send(0, RunEnded(number))
            transport.flush()
    numbers: list[int] = []
    while comm.rank == 0 and len(numbers) < count:
        taken = transport.receive()
        assert len(taken) <= config.RECEIVES_AT_ONCE
        numbers += [each.exit_code for _, each in taken]
        time.sleep(POLL_S)
    assert numbers == list(range(count)) * (comm.rank == 0)
    part(transport)


def test_what_is_not_flushed_does_not_leave_and_own_messages_come_back(comm: Any) -> None:
    transport = transport_of(comm)
    transport.send(comm.rank, LeaseGranted(1, 2, 3))
    if comm.rank == 0 and comm.size > 1:
        transport.send(1, RunEnded(1))
    wait(comm.Ibarrier())
    received = transport.receive()
    # Rank 0 flushes when all have looked, or what it sends would be there for those who are late.
    wait(comm.Ibarrier())
    assert received == [(comm.rank, LeaseGranted(1, 2, 3))]
    late: list[Any] = []
    part(transport, late.append)
    assert late == [RunEnded(1)] * (comm.rank == 1), "what is left leaves at the end"


def test_a_look_whether_anybody_speaks_takes_nothing(comm: Any) -> None:
    transport = transport_of(comm)
    assert transport.is_quiet(), "nobody has said anything"
    transport.send(comm.rank, LeaseGranted(1, 2, 3))
    assert not transport.is_quiet(), "it has said something to itself"
    assert transport.take_own() == [(comm.rank, LeaseGranted(1, 2, 3))]
    wait(comm.Ibarrier())
    if comm.rank == 0 and comm.size > 1:
        transport.send(1, RunEnded(1))
        assert not transport.is_quiet(), "that is to leave"
        transport.flush()
    if comm.rank == 1:
        while transport.is_quiet():
            time.sleep(POLL_S)
        assert not transport.is_quiet(), "it was a look only"
        arrived: list[Any] = []
        while not arrived:
            arrived = transport.receive()
        assert arrived == [(0, RunEnded(1))]
    part(transport)


class Arrivals:
    """A communicator with which two large buffers of rank 1 arrive, the second one first."""

    def __init__(self, buffers: list[NDArray[np.uint8]]) -> None:
        self.buffers = buffers
        self.tests = [iter([False, False, True]), iter([True])]

    def Dup(self) -> Arrivals:
        return self

    def Get_rank(self) -> int:
        return 0

    def Get_size(self) -> int:
        return 2

    def Improbe(self, source: int, tag: int, status: Any) -> Any:
        if not self.buffers:
            return None
        status.Set_source(1)
        status.Set_elements(import_module("mpi4py.MPI").BYTE, self.buffers[0].size)
        return self

    def Irecv(self, target: list[Any]) -> Any:
        target[0][:] = self.buffers.pop(0)
        answers = self.tests.pop(0)
        return type("Request", (), {"Test": lambda self: next(answers)})()


def test_a_large_buffer_that_comes_first_waits_for_an_earlier_one() -> None:
    pack = import_module("dvm_mpi.control.transport").pack
    transport = transport_of(Arrivals([pack([large_message(n)]) for n in range(2)]))
    arrived = [transport.receive() for _ in range(3)]
    assert [[m.serial for _, m in each] for each in arrived] == [[], [], [0, 1]]


@pytest.mark.parametrize("length", [0, 1, 3 << 20])
def test_rank_0_gathers_and_tells_all(comm: Any, length: int) -> None:
    """The last rank comes late, then rank 0; who waits says for whom, and does other things."""
    transport = transport_of(comm)
    waits: set[str] = set()
    late, late_wait = comm.size - 1, f"rank {comm.size - 1} to count"
    signs = [np.zeros(1, np.uint8) for _ in range(comm.size)]
    sent: list[Any] = []

    def turn() -> None:
        """Note what is waited for, and let those who are late know that somebody waits."""
        waits.add(transport.waits_for)
        if comm.rank == 0 and late_wait in waits and not sent:
            sent.append(comm.Isend(signs[0], late, tag=LATE_RANK))
        elif comm.rank and "rank 0 to tell" in waits and not sent:
            sent.append(comm.Isend(signs[0], 0, tag=LATE_ROOT))

    row = np.full(5, comm.rank, np.uint8)
    if late and comm.rank == late:
        wait(comm.Irecv(signs[0], 0, tag=LATE_RANK))
    rows = transport.gather(row, "count", turn)
    assert (rows is None) == (comm.rank > 0)
    wanted = np.resize(np.arange(251, dtype=np.uint8), length)
    if rows is not None:
        assert rows.tolist() == [[rank] * 5 for rank in range(comm.size)]
        assert comm.size == 1 or late_wait in waits
        for rank in range(1, comm.size):
            wait(comm.Irecv(signs[rank], rank, tag=LATE_ROOT))
    told = transport.broadcast(wanted if comm.rank == 0 else None, "tell", turn)
    assert np.array_equal(told, wanted)
    assert comm.rank == 0 or "rank 0 to tell" in waits
    assert transport.waits_for == ""
    for request in sent:
        wait(request)
    part(transport)
