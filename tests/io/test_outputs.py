"""What the machine writes is what a reader finds, or the old file is untouched."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from dvm_mpi.disa.image import ArrayDeclaration
from dvm_mpi.errors import FileError
from dvm_mpi.io.arrays import DTYPES, told_by
from dvm_mpi.io.outputs import (
    OutputPart,
    Place,
    check_outputs,
    drop_outputs,
    make_outputs,
    settle_outputs,
)
from dvm_mpi.io.specs import ArraySpec, parse_spec

POINTS = np.arange(30, dtype="<f8").reshape(10, 3)
Given = tuple[ArraySpec, NDArray[Any]]


def spec_out(path: Path, dataset: str | None = "points") -> ArraySpec:
    return parse_spec(f"points={path}" + (f":{dataset}" if dataset else ""), "--out")


def declare(array: NDArray[Any]) -> ArrayDeclaration:
    name = next(n for n, t in DTYPES.items() if t == array.dtype)
    return ArrayDeclaration("points", 0x4_4000_0000, name, array.shape)


def make(outputs: Sequence[Given]) -> list[Place]:
    """Make the files to the end; return their places as another rank gets them."""
    return finish(make_outputs([(spec, declare(array)) for spec, array in outputs]))


def finish(making: Generator[int, None, list[Place]]) -> list[Place]:
    while True:
        try:
            next(making)
        except StopIteration as ended:
            places: list[Place] = ended.value
            return [Place(**json.loads(json.dumps(asdict(place)))) for place in places]


def write(outputs: Sequence[Given]) -> None:
    """Write arrays as two ranks do: each every second piece, backwards, and flushed."""
    places = make(outputs)
    try:
        for rank in range(2):
            for place, (_, array) in zip(places, outputs, strict=True):
                data = np.frombuffer(array.tobytes(), np.uint8)
                step = data.size // 10 + 7
                with OutputPart(place) as part:
                    for at in reversed(range(rank * step, data.size, 2 * step)):
                        part.write_range(at, data[at : at + step])
                    part.flush()
        settle_outputs(places)
    finally:
        drop_outputs(places)


def save(path: Path, **arrays: NDArray[Any]) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return path


@pytest.mark.parametrize("type_name", DTYPES)
def test_what_is_written_is_what_is_read(tmp_path: Path, type_name: str) -> None:
    array = np.arange(30).reshape(5, 2, 3).astype(DTYPES[type_name])
    h5, npy = tmp_path / "a.h5", tmp_path / "a.npy"
    write([(spec_out(h5, "g/points"), array), (spec_out(npy, None), array)])
    with h5py.File(h5) as file:
        assert file["g/points"].dtype == array.dtype
        np.testing.assert_array_equal(file["g/points"][...], array)
    loaded = np.load(npy)
    assert loaded.dtype == array.dtype
    np.testing.assert_array_equal(loaded, array)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5", "a.npy"]


def test_arrays_without_elements(tmp_path: Path) -> None:
    empty = np.zeros((0, 3), "<f8")
    h5, npy = tmp_path / "a.h5", tmp_path / "a.npy"
    write([(spec_out(h5), empty), (spec_out(npy, None), empty)])
    with h5py.File(h5) as file:
        assert file["points"].shape == (0, 3)
    assert np.load(npy).shape == (0, 3)


def test_two_outputs_into_one_file_and_other_datasets_stay(tmp_path: Path) -> None:
    path = save(tmp_path / "a.h5", points=np.zeros(3), input=POINTS)
    with h5py.File(path, "a") as file:
        file["input"].attrs["unit"] = "m"
    labels = np.arange(4, dtype="<i8")
    write([(spec_out(path), POINTS), (spec_out(path, "labels"), labels)])
    with h5py.File(path) as file:
        assert set(file) == {"points", "input", "labels"}
        assert file["input"].attrs["unit"] == "m"
        np.testing.assert_array_equal(file["points"][...], POINTS)
        np.testing.assert_array_equal(file["labels"][...], labels)


def test_a_file_does_not_grow_from_run_to_run(tmp_path: Path) -> None:
    path = save(tmp_path / "a.h5", input=POINTS)
    sizes = []
    for _ in range(3):
        write([(spec_out(path), np.zeros(20_000, "<f8"))])
        sizes.append(path.stat().st_size)
    assert sizes[2] == sizes[1] <= sizes[0] + 4096


def test_outputs_repeat_byte_for_byte(tmp_path: Path) -> None:
    paths = tmp_path / "a.h5", tmp_path / "b.h5"
    for path in paths:
        write([(spec_out(path), POINTS)])
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_link_keeps_pointing_to_the_new_content(tmp_path: Path) -> None:
    save(tmp_path / "real.h5", points=np.zeros(3))
    (tmp_path / "link.h5").symlink_to(tmp_path / "real.h5")
    write([(spec_out(tmp_path / "link.h5"), POINTS)])
    assert (tmp_path / "link.h5").is_symlink()
    with h5py.File(tmp_path / "real.h5") as file:
        np.testing.assert_array_equal(file["points"][...], POINTS)


@contextmanager
def file_size_limit(byte_count: int) -> Iterator[None]:
    """Let writes beyond a size fail, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (byte_count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", ["a.h5", "a.npy"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path, name: str) -> None:
    dataset = "points" if name == "a.h5" else None
    write([(spec_out(tmp_path / name, dataset), POINTS)])
    before = (tmp_path / name).read_bytes()
    large = np.zeros(200_000, "<f8")
    with file_size_limit(100_000), pytest.raises(FileError) as caught:
        write([(spec_out(tmp_path / name, dataset), large)])
    text = str(caught.value)
    assert text.startswith(f"--out points={tmp_path / name}")
    assert "File too large; free space, or choose another place" in text
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == before


def test_one_failing_output_changes_no_file(tmp_path: Path) -> None:
    save(tmp_path / "a.h5", points=POINTS)
    before = (tmp_path / "a.h5").read_bytes()
    missing = spec_out(tmp_path / "no" / "b.h5")
    with pytest.raises(FileError, match=r"there is no folder .* make it first: mkdir -p"):
        write([(spec_out(tmp_path / "a.h5"), POINTS + 1), (missing, POINTS)])
    assert (tmp_path / "a.h5").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]


def test_outputs_are_checked_before_the_run(tmp_path: Path) -> None:
    save(tmp_path / "a.h5", points=POINTS)
    (tmp_path / "text.h5").write_text("not HDF5")
    with h5py.File(tmp_path / "g.h5", "w") as file:
        file["g/points"] = POINTS
    check_outputs([spec_out(tmp_path / "a.h5"), spec_out(tmp_path / "new.npy", None)])
    for spec, words in [
        (spec_out(tmp_path / "no" / "b.h5"), "there is no folder"),
        (spec_out(tmp_path / ("a" * 300) / "b.h5"), "there is no folder"),
        (spec_out(tmp_path / ("a" * 300)), "File name too long"),
        (spec_out(Path("/proc/dvm.h5")), "cannot write '/proc/dvm.h5'"),
        (spec_out(Path("/dev/null")), "is not an ordinary file"),
        (spec_out(tmp_path), "is not an ordinary file"),
        (spec_out(tmp_path / "text.h5"), "is not an HDF5 file"),
        (spec_out(tmp_path / "g.h5", "g"), "'g' in .* is a group, which would be lost"),
        (spec_out(tmp_path / "a.h5", "points/x"), "'points' in .* is a dataset, so nothing can"),
    ]:
        with pytest.raises(FileError, match=words):
            check_outputs([spec])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5", "g.h5", "text.h5"]


def test_a_group_that_came_up_during_the_run_is_not_destroyed(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["points/x"] = POINTS
    before = path.read_bytes()
    with pytest.raises(FileError, match="is a group, which would be lost"):
        write([(spec_out(path), POINTS)])
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]


def test_a_large_file_is_copied_in_pieces(tmp_path: Path) -> None:
    """So that the rank which copies it can serve others in between; giving up leaves no trace."""
    kept = np.arange(400_000, dtype="<f8")
    path = save(tmp_path / "a.h5", kept=kept)
    making = make_outputs([(spec_out(path), declare(POINTS))])
    assert next(making) == 1024 * 1024
    assert next(making) == 2 * 1024 * 1024
    making.close()
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]
    write([(spec_out(path), POINTS)])
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["kept"][...], kept)


def test_dropped_outputs_leave_the_old_file(tmp_path: Path) -> None:
    path = save(tmp_path / "a.h5", points=POINTS)
    before = path.read_bytes()
    places = make([(spec_out(path), POINTS + 1), (spec_out(tmp_path / "b.npy", None), POINTS)])
    assert len(list(tmp_path.iterdir())) == 3
    drop_outputs(places)
    drop_outputs(places)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]


def test_a_file_that_vanished_at_another_rank(tmp_path: Path) -> None:
    (place,) = make([(spec_out(tmp_path / "a.h5"), POINTS)])
    Path(place.part).unlink()
    with pytest.raises(FileError, match=r"rank 3 on host .* is the folder shared by"), told_by(3):
        OutputPart(place)


def test_bytes_beyond_the_array_are_our_fault(tmp_path: Path) -> None:
    (place,) = make([(spec_out(tmp_path / "a.h5"), POINTS)])
    with OutputPart(place) as part, pytest.raises(AssertionError, match="beyond the array"):
        part.write_range(POINTS.nbytes - 8, np.zeros(9, np.uint8))
    drop_outputs([place])


def test_a_write_that_the_system_cuts_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_all = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: write_all(file, data[:3], at))
    write([(spec_out(tmp_path / "a.npy", None), POINTS)])
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), POINTS)
