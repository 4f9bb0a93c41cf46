"""What is loaded is what the homes hold, however it comes in pieces."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from dvm_mpi.control.loader import LOADED_EPOCH, Loader
from dvm_mpi.disa.image import ArrayDeclaration, Image, Section
from dvm_mpi.dsm.frames import FramePool
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.home import Home
from dvm_mpi.errors import LimitError
from dvm_mpi.layout import DATA_START, PAGE_BYTES, PAGE_SHIFT, RANGE, TEXT_START

#: Pages of the program's data that these tests use.
PAGES = 24
BLOCK_PAGES = 4


class Machine:
    """Homes that are loaded, beside one flat array."""

    def __init__(self, home_count: int, *, is_apart: bool = False) -> None:
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
        #: One for all homes together, or one for each, as ranks have.
        self.loaders = [Loader(self.geometry, dict(enumerate(self.homes)))]
        if is_apart:
            self.loaders = [Loader(self.geometry, {h.index: h}) for h in self.homes]
        self.expected = np.zeros(PAGES * PAGE_BYTES, np.uint8)

    def load_image(self, *sections: Section) -> None:
        """Load sections; later ones win."""
        image = Image(TEXT_START, b"", sections, np.zeros(0, dtype=RANGE))
        for loader in self.loaders:
            loader.load_image(image)
        for section in sections:
            data = np.frombuffer(section.data, np.uint8)
            start = section.start - DATA_START
            self.expected[start : start + data.size] = data

    def load_input(self, offset: int, data: NDArray[np.uint8]) -> list[list[int]]:
        """Load an array of bytes at an offset; return what each loader yields."""
        declaration = ArrayDeclaration("a", DATA_START + offset, "ub", (data.size,))

        def read_range(start: int, target: NDArray[np.uint8]) -> None:
            assert target.size
            target[:] = data[start : start + target.size]

        self.expected[offset : offset + data.size] = data
        return [list(loader.load_input(declaration, read_range)) for loader in self.loaders]

    def finish(self) -> None:
        for loader in self.loaders:
            loader.finish()

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


@pytest.mark.parametrize(("home_count", "is_apart"), [(1, False), (3, False), (3, True)])
@pytest.mark.parametrize("chunk_pages", [1, 4, 64])
def test_arrays_are_loaded_in_pieces(
    home_count: int, is_apart: bool, chunk_pages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two arrays lie in one another's neighbourhood; the first ends within a page."""
    monkeypatch.setattr("dvm_mpi.control.loader.FILE_CHUNK_BYTES", chunk_pages * PAGE_BYTES)
    machine = Machine(home_count, is_apart=is_apart)
    steps = machine.load_input(0, random_bytes(1, 9 * PAGE_BYTES + 100))
    machine.load_input(10 * PAGE_BYTES, random_bytes(2, 14 * PAGE_BYTES))
    machine.finish()
    assert np.array_equal(machine.loaded(), machine.expected)
    assert sum(loader.loaded_bytes for loader in machine.loaders) == 23 * PAGE_BYTES + 100
    for loaded in steps:
        moved = np.diff([0, *loaded])
        assert np.all(moved > 0)
        assert np.all(moved <= max(chunk_pages, BLOCK_PAGES) * PAGE_BYTES)


@pytest.mark.parametrize("seed", range(8))
def test_inputs_replace_sections_where_pages_are_shared(seed: int) -> None:
    """Sections of any size and place, on top of each other, then arrays on top of them."""
    random = np.random.default_rng(seed)
    machine = Machine(int(random.integers(1, 4)), is_apart=bool(seed % 2))
    sections = []
    for _ in range(12):
        start = int(random.integers(0, PAGES * PAGE_BYTES - 1))
        data = random_bytes(start, int(random.integers(1, PAGES * PAGE_BYTES - start + 1)))
        data = data[: int(random.choice([1, 60, 3 * PAGE_BYTES]))]
        sections.append(Section(DATA_START + start, data.tobytes()))
    machine.load_image(*sections)
    machine.load_input(4 * PAGE_BYTES, random_bytes(1, 5 * PAGE_BYTES + 77))
    machine.finish()
    assert np.array_equal(machine.loaded(), machine.expected)


@pytest.mark.parametrize("is_apart", [False, True])
def test_an_array_lies_in_contiguous_frames_of_each_home(is_apart: bool) -> None:
    """So that a snapshot of it is a few large transfers, its last page included."""
    machine = Machine(2, is_apart=is_apart)
    machine.load_image(Section(DATA_START + 20, b"before"))
    machine.load_input(0, random_bytes(1, PAGES * PAGE_BYTES - 5))
    machine.finish()
    for home in machine.homes:
        pages = (DATA_START >> PAGE_SHIFT) + np.arange(PAGES)
        own = pages[machine.geometry.home_of(pages) == home.index]
        frames, _, _ = home.directory.lookup(own, LOADED_EPOCH)
        assert np.array_equal(frames, np.arange(len(own)))


def test_an_array_that_does_not_fit_is_told_before_it_is_read() -> None:
    machine = Machine(1)
    steps = machine.loaders[0].load_input(
        ArrayDeclaration("a", DATA_START, "ub", (25 * PAGE_BYTES,)), lambda *_: pytest.fail("read")
    )
    with pytest.raises(LimitError, match="the shared memory of a home is full"):
        next(steps)


def test_zeros_need_no_frame() -> None:
    machine = Machine(1)
    machine.load_image(Section(DATA_START, bytes(100)))
    machine.finish()
    assert machine.homes[0].pool.in_use == 0


def test_an_array_that_ends_with_zeros_within_a_page() -> None:
    """Its last page is nothing to compose, but its frame held something else before."""
    machine = Machine(1)
    machine.load_input(0, np.zeros(PAGE_BYTES + 10, np.uint8))
    machine.finish()
    assert not machine.loaded().any()


def test_an_empty_array_is_no_array() -> None:
    machine = Machine(2)
    assert machine.load_input(0, random_bytes(1, 0)) == [[]]
    machine.finish()
    assert not machine.loaded().any()
