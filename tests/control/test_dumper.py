"""What is written is what the homes hold, however many of them share the work."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from dvm_mpi.control.dumper import write_outputs, written_blocks
from dvm_mpi.disa.image import ArrayDeclaration
from dvm_mpi.dsm.frames import FramePool
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.home import Home
from dvm_mpi.errors import FileError
from dvm_mpi.io.specs import parse_spec
from dvm_mpi.layout import DATA_START, PAGE_BYTES, PAGE_SHIFT

PAGES = 24
EPOCH = 3
Bytes = NDArray[np.uint8]


def make_homes(home_count: int) -> tuple[Geometry, dict[int, Home], Bytes]:
    """Return homes in which some pages were written, beside their bytes; pool garbage is 0xEE."""
    geometry = Geometry(home_count, 4)
    expected = np.zeros((PAGES, PAGE_BYTES), np.uint8)
    homes = {}
    for number in range(home_count):
        pool = FramePool(np.full((PAGES, PAGE_BYTES), 0xEE, np.uint8))
        homes[number] = Home(number, geometry, pool, np.zeros((1, PAGE_BYTES), np.uint8))
    random = np.random.default_rng(home_count)
    for page in random.permutation(PAGES)[: PAGES // 2].tolist():
        expected[page] = random.integers(0, 256, PAGE_BYTES, np.uint8)
        number = (DATA_START >> PAGE_SHIFT) + page
        home = homes[int(geometry.home_of(np.array([number]))[0])]
        home.load(EPOCH, number, expected[page])
    return geometry, homes, expected.reshape(-1)


@pytest.mark.parametrize("home_count", [1, 2, 5])
@pytest.mark.parametrize("chunk_pages", [1, 8, 64])
def test_all_homes_together_give_every_byte_once(
    home_count: int, chunk_pages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dvm_mpi.control.dumper.FILE_CHUNK_BYTES", chunk_pages * PAGE_BYTES)
    geometry, homes, expected = make_homes(home_count)
    start, length = 3 * PAGE_BYTES, 19 * PAGE_BYTES + 8
    declaration = ArrayDeclaration("a", DATA_START + start, "fd", (length // 8,))
    apart = [
        list(written_blocks(declaration, geometry, {number: home}, EPOCH))
        for number, home in homes.items()
    ]
    together = list(written_blocks(declaration, geometry, homes, EPOCH))
    for blocks in (together, [block for each in apart for block in each]):
        found = np.full(length, 0xDD, np.uint8)
        for offset, data in blocks:
            found[offset : offset + data.size] = data
        assert np.array_equal(found, expected[start : start + length])
        assert sum(data.size for _, data in blocks) == length
    for blocks in (together, *apart):
        offsets = [offset for offset, _ in blocks]
        assert offsets == sorted(offsets)
        assert all(data.size <= max(chunk_pages, 4) * PAGE_BYTES for _, data in blocks)


def test_outputs_of_one_process(tmp_path: Path) -> None:
    """Two arrays in one file, over an old dataset whose space is used again, and one alone."""
    geometry, homes, expected = make_homes(3)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["first"] = np.full(50_000, -1.0)
        file["kept"] = np.arange(3)
    first = ArrayDeclaration("first", DATA_START, "sq", (5, 1000))
    second = ArrayDeclaration("second", DATA_START + 10 * PAGE_BYTES, "ub", (77,))
    outputs = [
        (parse_spec(f"first={tmp_path}/a.h5:first", "--out"), first),
        (parse_spec(f"second={tmp_path}/b.npy", "--out"), second),
        (parse_spec(f"second={tmp_path}/a.h5:g/second", "--out"), second),
    ]
    steps = list(write_outputs(outputs, geometry, homes, EPOCH))
    assert steps[-1] == first.byte_count + 2 * second.byte_count
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["first"].dtype == np.dtype("<i8")
        assert file["first"][...].tobytes() == expected[:40_000].tobytes()
        assert file["g/second"][...].tobytes() == expected[40_960:41_037].tobytes()
        np.testing.assert_array_equal(file["kept"][...], np.arange(3))
    assert np.load(tmp_path / "b.npy").tobytes() == expected[40_960:41_037].tobytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "b.npy"]


def test_an_end_in_between_leaves_nothing(tmp_path: Path) -> None:
    geometry, homes, _ = make_homes(1)
    array = ArrayDeclaration("a", DATA_START, "sq", (100,))
    writing = write_outputs(
        [(parse_spec(f"a={tmp_path}/a.npy", "--out"), array)], geometry, homes, EPOCH
    )
    next(writing)
    assert len(list(tmp_path.iterdir())) == 1
    writing.close()
    assert not list(tmp_path.iterdir())
    missing = [(parse_spec(f"a={tmp_path}/no/a.npy", "--out"), array)]
    with pytest.raises(FileError, match="there is no folder"):
        list(write_outputs(missing, geometry, homes, EPOCH))
