"""Homes between which blocks move, beside the whole history of the memory."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest

from dvm_mpi.dsm.commit import CommitLog
from dvm_mpi.dsm.directory import Directory
from dvm_mpi.dsm.frames import FramePool, reserve_frames
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.home import COORDINATOR, Home
from dvm_mpi.dsm.messages import (
    NO_FRAME,
    RUN,
    TOKEN,
    ApplyRequested,
    BlocksMoved,
    EpochApplied,
    FramesLacking,
    LookupAnswered,
    LookupRequested,
    PagesHanded,
    PinsMoved,
    Staged,
    StoresPassed,
)
from dvm_mpi.dsm.pins import Pins
from dvm_mpi.layout import PAGE_BYTES

HOMES = 3
BLOCK_PAGES = 2
BLOCKS = 6
PAGES = BLOCKS * BLOCK_PAGES
NO_BYTES = np.zeros(0, np.uint8)
NO_PAGES = np.zeros(0, np.int64)


class Machine:
    """A log and homes, whose messages arrive whenever the seed says, in order for each pair."""

    def __init__(self, seed: int, frame_count: int = 200) -> None:
        self.random = np.random.default_rng(seed)
        self.geometry = Geometry(HOMES, BLOCK_PAGES)
        self.log = CommitLog(self.geometry, 1)
        self.homes = [
            Home(
                number,
                Geometry(HOMES, BLOCK_PAGES),
                FramePool(reserve_frames(frame_count)),
                np.zeros((HOMES, 0), np.uint8),
            )
            for number in range(HOMES)
        ]
        self.channels: dict[tuple[int, int], deque[object]] = {}
        self.pins = Pins()
        self.lacking: list[FramesLacking] = []
        self.serial = 0
        self.memory = {1: np.zeros(PAGES * PAGE_BYTES, np.uint8)}
        self.passed = self.handed = 0

    def post(self, source: int, target: int, message: object) -> None:
        self.channels.setdefault((source, target), deque()).append(message)

    def step(self) -> bool:
        """Deliver one message; say whether there was any."""
        full = sorted(key for key, channel in self.channels.items() if channel)
        if not full:
            return False
        source, target = full[int(self.random.integers(len(full)))]
        message = self.channels[source, target].popleft()
        if target == COORDINATOR:
            if isinstance(message, EpochApplied):
                self.log.applied(message.home, message.epoch)
            else:
                assert isinstance(message, FramesLacking)
                self.lacking.append(message)
            return True
        self.passed += isinstance(message, StoresPassed)
        self.handed += message.pages.size if isinstance(message, PagesHanded) else 0
        for receiver, reply in self.homes[target].handle(message):  # type: ignore[arg-type]
            if isinstance(reply, EpochApplied | FramesLacking | PagesHanded | StoresPassed):
                self.post(target, receiver, reply)
        self.homes[target].check_invariants()
        return True

    def commit(self, start: int, content: bytes, *, snapshot: int = 0) -> None:
        """Store bytes in the open epoch; staged by an attempt on a snapshot if one is given."""
        self.serial += 1
        data = np.frombuffer(content, np.uint8)
        runs = np.array([(start, data.size, 0)], RUN)
        if snapshot:
            for home, pieces in self.geometry.group_runs(runs, snapshot):
                self.post(9, home, Staged(0, self.serial, 0, True, pieces, data))
        token = np.array([(0, self.serial, snapshot, 0, 1)], TOKEN)
        self.log.append(token, runs, NO_BYTES if snapshot else data)
        memory = self.memory.setdefault(
            self.log.open_epoch, self.memory[self.log.open_epoch - 1].copy()
        )
        memory[start : start + data.size] = data

    def close(self) -> None:
        epoch = self.log.open_epoch
        self.memory.setdefault(epoch, self.memory[epoch - 1])
        for home, message in self.log.close(self.pins.epochs):
            self.post(COORDINATOR, home, message)

    def move(self, blocks: np.ndarray, homes: np.ndarray) -> None:
        self.memory[self.log.open_epoch] = self.memory[self.log.open_epoch - 1]
        message = self.log.move(blocks, homes, self.pins.epochs)
        for home in range(HOMES):
            self.post(COORDINATOR, home, message)

    def move_some(self) -> None:
        """Move what may move: nothing that somebody may still ask the home before last for."""
        oldest = min([self.log.visible, *self.pins.epochs.tolist()])
        blocks = self.random.choice(BLOCKS, 2, replace=False)
        if self.log.visible < self.geometry.moves.newest:
            return
        blocks = blocks[self.geometry.moves.of(blocks)[:, 1] <= oldest]
        if blocks.size:
            before = self.geometry.home_of(blocks * BLOCK_PAGES)
            self.move(blocks, (before + self.random.integers(1, HOMES, blocks.size)) % HOMES)

    def check(self, snapshot: int) -> None:
        """Read all memory as of a snapshot where it is, and ask whoever has it since when."""
        pages = np.arange(PAGES)
        expected = self.memory[snapshot].reshape(PAGES, PAGE_BYTES)
        for home, rows in self.geometry.group_pages(pages, snapshot):
            assert np.array_equal(self.homes[home].read(pages[rows], snapshot), expected[rows])
            request = LookupRequested(0, 1, snapshot, pages[rows], NO_PAGES)
            ((_, answer),) = self.homes[home].handle(request)
            assert isinstance(answer, LookupAnswered)
            for page, until in zip(answer.pages.tolist(), answer.until.tolist(), strict=True):
                assert until >= snapshot
                for later in (*self.pins.epochs.tolist(), *range(self.log.visible, until + 1)):
                    # Snapshots between these there are none any more.
                    if snapshot <= later <= until:
                        content = self.memory[later].reshape(PAGES, PAGE_BYTES)[page]
                        assert np.array_equal(content, expected[page]), "known longer than it is"


@pytest.mark.parametrize("seed", range(4))
def test_all_memory_is_there_as_of_any_snapshot_wherever_it_lives(seed: int) -> None:
    machine = Machine(seed)
    random = machine.random
    pinned: list[int] = []
    for _ in range(250):
        act = random.random()
        if act < 0.25:
            if machine.log.is_open_empty:
                snapshot = int(random.choice([0, machine.log.visible, *pinned]))
                first = int(random.integers(PAGES * PAGE_BYTES - 9_000))
                content = random.bytes(int(random.integers(1, 9_000)))
                machine.commit(first, content, snapshot=snapshot)
                machine.close()
                if random.random() < 0.5:
                    machine.move_some()
        elif act < 0.32:
            pinned.append(machine.log.visible)
            machine.pins.add(machine.log.visible)
        elif act < 0.40 and pinned:
            machine.pins.remove(pinned.pop(int(random.integers(len(pinned)))))
        else:
            machine.step()
        for snapshot in {machine.log.visible, *pinned}:
            machine.check(snapshot)
    while machine.step():
        pass
    assert machine.log.epochs_in_flight == 0
    machine.check(machine.log.visible)
    for home in machine.homes:
        assert home.epochs_waiting == 0
        assert home.staged_bytes == 0
        home.collect(machine.log.visible, NO_PAGES)
        pages = home.directory.pages()
        assert np.all(machine.geometry.home_of(pages) == home.index), "old versions are left"
        assert home.pool.in_use == pages.size
    assert machine.handed > 0


def test_write_sets_that_were_staged_before_a_move_are_passed_on() -> None:
    """Of one that lies in two blocks the part goes on whose block has moved."""
    machine = Machine(1)
    machine.move(np.array([1]), np.array([2]))
    machine.commit(2 * BLOCK_PAGES * PAGE_BYTES - 5, b"ab" * 10, snapshot=1)
    machine.close()
    while machine.step():
        pass
    assert (machine.passed, machine.log.epochs_in_flight) == (1, 0)
    machine.check(machine.log.visible)


def test_two_homes_that_pass_stores_to_each_other_do_not_wait_for_each_other() -> None:
    machine = Machine(2)
    machine.move(np.array([0, 1]), np.array([1, 0]))
    machine.commit(100, b"x" * (2 * BLOCK_PAGES * PAGE_BYTES - 200), snapshot=1)
    machine.close()
    while machine.step():
        pass
    assert (machine.passed, machine.log.epochs_in_flight) == (2, 0)
    machine.check(machine.log.visible)


def test_a_home_says_what_moves_there_and_has_not_come() -> None:
    machine = Machine(3)
    home = machine.homes[2]
    home.handle(BlocksMoved(5, 1, NO_PAGES, np.array([0, 1]), np.array([2, 2])))
    assert home.waits_for == "pages that move here in epoch 5, from home 0, 1"
    tokens = np.array([(0, 7, -1, 0, 1)], TOKEN)
    runs = np.array([(0, 8, -1)], RUN)
    home.handle(PagesHanded(0, 5, NO_PAGES, NO_PAGES, NO_BYTES))
    assert home.handle(PagesHanded(1, 5, NO_PAGES, NO_PAGES, NO_BYTES)) == (
        (COORDINATOR, EpochApplied(2, 5, 0)),
    )
    home.handle(ApplyRequested(6, 1, NO_PAGES, tokens, runs, NO_BYTES))
    assert home.waits_for == "stores of epoch 6 whose pages have moved here since"


def test_a_home_without_room_for_what_moves_there_waits_for_snapshots_to_end() -> None:
    machine = Machine(4, frame_count=4)
    home = machine.homes[1]
    content = np.zeros(2 * PAGE_BYTES, np.uint8)
    token = np.array([(0, 0, 0, 0, 1)], TOKEN)
    for epoch, length in ((2, 2 * PAGE_BYTES), (3, 9)):
        runs = np.array([(2 * PAGE_BYTES, length, 0)], RUN)
        home.handle(ApplyRequested(epoch, 1, NO_PAGES, token, runs, content))
    home.handle(BlocksMoved(4, 1, np.array([2]), np.array([0]), np.array([1])))
    handed = PagesHanded(0, 4, np.array([0, 1]), np.array([1, 1]), content)
    assert home.handle(handed) == ((COORDINATOR, FramesLacking(1, 4, 2)),)
    assert home.waits_for == "2 free frames for epoch 4"
    assert home.handle(PinsMoved(3, np.array([3]))) == ((COORDINATOR, EpochApplied(1, 4, 4)),)


def test_what_has_left_a_directory_goes_when_no_snapshot_needs_it() -> None:
    directory = Directory(8)
    directory.insert(2, np.array([7, 8]), np.array([0, 1]))
    directory.insert(4, np.array([7]), np.array([2]))
    pages, frames, versions = directory.retire(6, np.array([7, 8, 9]))
    assert (pages.tolist(), frames.tolist(), versions.tolist()) == ([7, 8], [2, 1], [4, 2])
    assert directory.lookup(np.array([7, 8]), 5)[2].tolist() == [6, 6]
    assert directory.collect(5, np.array([3])).size == 0
    # The newest of a page may go before an older one.
    assert directory.collect(6, np.array([3])).tolist() == [2]
    directory.check_invariants()
    assert directory.lookup(np.array([7, 8]), 3)[0].tolist() == [0, 1]
    assert sorted(directory.collect(7, NO_PAGES).tolist()) == [0, 1]
    assert directory.pages().size == directory.version_count == 0
    directory.adopt(np.array([4]), np.array([7]), np.array([5]))
    directory.check_invariants()
    assert directory.lookup(np.array([7, 8]), 9)[0].tolist() == [5, NO_FRAME]
