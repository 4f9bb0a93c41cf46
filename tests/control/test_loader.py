"""What is loaded is what the homes hold, however it comes in pieces."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from dvm_mpi.control.loader import LOADED_EPOCH, Loader
from dvm_mpi.disa.image import Image, Section
from dvm_mpi.dsm.frames import FramePool
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.home import Home
from dvm_mpi.layout import DATA_START, PAGE_BYTES, PAGE_SHIFT, RANGE, TEXT_START

#: Pages of the program's data that these tests use.
PAGES = 24
BLOCK_PAGES = 4


class Machine:
    """Homes that are loaded, beside one flat array."""

    def __init__(self, home_count: int) -> None:
        self.geometry = Geometry(home_count, BLOCK_PAGES)
        self.homes = [
            Home(
                number,
                self.geometry,
                FramePool(np.full((PAGES, PAGE_BYTES), 0xEE, np.uint8)),
                np.zeros((1, PAGE_BYTES), np.uint8),
            )
            for number in range(home_count)
        ]
        self.loader = Loader(self.geometry, self.homes)
        self.expected = np.zeros(PAGES * PAGE_BYTES, np.uint8)

    def write(self, offset: int, data: NDArray[np.uint8]) -> None:
        self.loader.write(DATA_START + offset, data)
        self.expected[offset : offset + len(data)] = data

    def loaded(self) -> NDArray[np.uint8]:
        pages = (DATA_START >> PAGE_SHIFT) + np.arange(PAGES)
        content = np.zeros((PAGES, PAGE_BYTES), np.uint8)
        for home, positions in self.geometry.group_pages(pages):
            content[positions] = self.homes[home].read(pages[positions], LOADED_EPOCH)
            self.homes[home].check_invariants()
        return content.reshape(-1)


def random_bytes(seed: int, count: int) -> NDArray[np.uint8]:
    random = np.random.default_rng(seed)
    return random.integers(1, 256, count, dtype=np.uint8)


@pytest.mark.parametrize("home_count", [1, 3])
@pytest.mark.parametrize("piece_pages", [1, 3, 64])
def test_arrays_come_in_pieces_of_whole_pages(home_count: int, piece_pages: int) -> None:
    """Two arrays lie in one another's neighbourhood; the first ends within a page."""
    machine = Machine(home_count)
    for start, length in ((0, 9 * PAGE_BYTES + 100), (10 * PAGE_BYTES, 14 * PAGE_BYTES)):
        data = random_bytes(length, length)
        for done in range(0, length, piece_pages * PAGE_BYTES):
            machine.write(start + done, data[done : done + piece_pages * PAGE_BYTES])
    machine.loader.finish()
    assert np.array_equal(machine.loaded(), machine.expected)
    assert machine.loader.loaded_bytes == 23 * PAGE_BYTES + 100


@pytest.mark.parametrize("seed", range(8))
def test_later_writes_win_where_pages_are_shared(seed: int) -> None:
    """Sections of any size and place, on top of each other, then arrays on top of them."""
    random = np.random.default_rng(seed)
    machine = Machine(int(random.integers(1, 4)))
    sections = []
    for _ in range(12):
        start = int(random.integers(0, PAGES * PAGE_BYTES - 1))
        data = random_bytes(start, int(random.integers(1, PAGES * PAGE_BYTES - start + 1)))
        data = data[: int(random.choice([1, 60, 3 * PAGE_BYTES]))]
        sections.append(Section(DATA_START + start, data.tobytes()))
        machine.expected[start : start + len(data)] = data
    image = Image(TEXT_START, b"", tuple(sections), np.zeros(0, dtype=RANGE))
    machine.loader.load_image(image)
    machine.write(4 * PAGE_BYTES, random_bytes(1, 5 * PAGE_BYTES + 77))
    machine.loader.finish()
    assert np.array_equal(machine.loaded(), machine.expected)


def test_an_array_lies_in_contiguous_frames_of_each_home() -> None:
    """So that a snapshot of it is a few large transfers."""
    machine = Machine(2)
    machine.write(0, random_bytes(1, PAGES * PAGE_BYTES))
    machine.loader.finish()
    for home in machine.homes:
        pages = (DATA_START >> PAGE_SHIFT) + np.arange(PAGES)
        own = pages[machine.geometry.home_of(pages) == home.index]
        frames, _, _ = home.directory.lookup(own, LOADED_EPOCH)
        assert np.array_equal(frames, np.arange(len(own)))


def test_zeros_need_no_frame() -> None:
    machine = Machine(1)
    image = Image(TEXT_START, b"", (Section(DATA_START, bytes(100)),), np.zeros(0, dtype=RANGE))
    machine.loader.load_image(image)
    machine.loader.finish()
    assert machine.homes[0].pool.in_use == 0
