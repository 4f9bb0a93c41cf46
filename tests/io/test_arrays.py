from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dvm_mpi.disa.image import ArrayDeclaration
from dvm_mpi.errors import ExitCode, FileError
from dvm_mpi.io.arrays import DTYPES, InputArray, open_input, told_by
from dvm_mpi.io.specs import ArraySpec, parse_spec

POINTS = np.arange(30, dtype="<f8").reshape(10, 3)


def declare(type_name: str = "fd", shape: tuple[int, ...] = (10, 3)) -> ArrayDeclaration:
    return ArrayDeclaration("points", 0x4_4000_0000, type_name, shape)


def spec_in(path: Path, dataset: str | None = "points") -> ArraySpec:
    return parse_spec(f"points={path}" + (f":{dataset}" if dataset else ""), "--in")


def read(spec: ArraySpec, declaration: ArrayDeclaration, chunk_bytes: int = 64) -> bytes:
    """Read the whole in pieces, each into memory of its own."""
    with open_input(spec, declaration) as source:
        return b"".join(
            read_range(source, start, min(start + chunk_bytes, declaration.byte_count))
            for start in range(0, declaration.byte_count, chunk_bytes)
        )


def read_range(source: InputArray, start: int, stop: int) -> bytes:
    target = np.full(stop - start, 0xEE, np.uint8)
    source.read_range(start, target)
    return target.tobytes()


def save(path: Path, **arrays: NDArray[Any]) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return path


def save_in_every_way(folder: Path, array: NDArray[Any]) -> list[ArraySpec]:
    """Store an array in all layouts and byte orders; the first two lie as the machine wants."""
    swapped = array.astype(array.dtype.newbyteorder(">"))
    with h5py.File(folder / "a.h5", "w", userblock_size=1024) as file:
        file["whole"] = array
        file["swapped"] = swapped
        file.create_dataset("chunked", data=array, chunks=(3, 2), compression="gzip")
        compact = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        compact.set_layout(h5py.h5d.COMPACT)
        file.create_dataset("compact", data=array, dcpl=compact)
        outside = [(str(folder / "raw"), 0, array.nbytes)]
        file.create_dataset("external", array.shape, array.dtype, external=outside)[...] = array
        layout = h5py.VirtualLayout(array.shape, array.dtype)
        layout[...] = h5py.VirtualSource(file["whole"])
        file.create_virtual_dataset("virtual", layout)
    np.save(folder / "whole.npy", array)
    np.save(folder / "swapped.npy", swapped)
    np.save(folder / "fortran.npy", np.asfortranarray(array))
    names = ("whole", "swapped", "chunked", "compact", "external", "virtual")
    h5 = {name: spec_in(folder / "a.h5", name) for name in names}
    npy = {name: spec_in(folder / f"{name}.npy", None) for name in ("whole", "swapped", "fortran")}
    return [h5.pop("whole"), npy.pop("whole"), *h5.values(), *npy.values()]


def failure(spec: ArraySpec, declaration: ArrayDeclaration) -> str:
    with pytest.raises(FileError) as caught:
        read(spec, declaration)
    assert caught.value.exit_code is ExitCode.FILE
    text = str(caught.value)
    assert text.startswith(f"{spec.place}: ")
    return text.removeprefix(f"{spec.place}: ")


# --- reading ---------------------------------------------------------------------------------


@pytest.mark.parametrize("type_name", DTYPES)
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_type_is_read_in_either_byte_order(
    tmp_path: Path, type_name: str, order: Literal["<", ">"]
) -> None:
    array = np.arange(30).reshape(10, 3).astype(DTYPES[type_name])
    stored = array.astype(array.dtype.newbyteorder(order))
    save(tmp_path / "a.h5", points=stored)
    np.save(tmp_path / "a.npy", stored)
    for spec in (spec_in(tmp_path / "a.h5"), spec_in(tmp_path / "a.npy", None)):
        assert read(spec, declare(type_name)) == array.tobytes()


@settings(max_examples=10)
@given(data=st.data())
def test_any_part_of_an_array_is_read_however_it_is_stored(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("parts")
    for spec in save_in_every_way(folder, POINTS):
        with open_input(spec, declare()) as source:
            for _ in range(4):
                bounds = st.integers(0, POINTS.size)
                start, stop = sorted((data.draw(bounds) * 8, data.draw(bounds) * 8))
                assert read_range(source, start, stop) == POINTS.tobytes()[start:stop]


def test_arrays_that_lie_in_order_are_read_without_their_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every rank reads its part at its offset; what libraries would copy twice is read once."""
    specs = save_in_every_way(tmp_path, POINTS)
    monkeypatch.setattr(InputArray, "_read_boxes", None)
    for spec in specs[:2]:
        assert read(spec, declare()) == POINTS.tobytes()
    for spec in specs[2:]:
        with pytest.raises(TypeError):
            read(spec, declare())


@pytest.mark.parametrize("name", ["a.h5", "a.npy"])
def test_a_file_that_is_cut_while_it_is_read(tmp_path: Path, name: str) -> None:
    spec = spec_in(tmp_path / name, "points" if name == "a.h5" else None)
    save(tmp_path / "a.h5", points=POINTS)
    np.save(tmp_path / "a.npy", POINTS)
    with open_input(spec, declare()) as source:
        os.truncate(tmp_path / name, 140)
        with pytest.raises(FileError, match="became shorter while it was read"):
            read_range(source, 0, POINTS.nbytes)


def test_what_another_rank_does_not_find_is_perhaps_not_shared(tmp_path: Path) -> None:
    with pytest.raises(FileError) as caught, told_by(3):
        open_input(spec_in(tmp_path / "a.h5"), declare())
    assert caught.value.message.startswith(
        f"dvm: error: rank 3 on host {platform.node()}: --in points={tmp_path}/a.h5:points: "
    )
    assert caught.value.message.endswith("; is the folder shared by all nodes?")
    save(tmp_path / "a.h5", points=POINTS)
    with pytest.raises(FileError) as caught, told_by(3):
        open_input(spec_in(tmp_path / "a.h5"), declare(shape=(3, 10)))
    assert "shared by all nodes" not in caught.value.message


def test_layouts_that_are_not_contiguous_are_read_in_c_order(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("points", data=POINTS, chunks=(3, 2), compression="gzip")
    np.save(tmp_path / "a.npy", np.asfortranarray(POINTS))
    assert read(spec_in(tmp_path / "a.h5"), declare()) == POINTS.tobytes()
    assert read(spec_in(tmp_path / "a.npy", None), declare()) == POINTS.tobytes()


def test_a_path_with_a_colon_and_a_dataset_in_a_group(tmp_path: Path) -> None:
    (tmp_path / "disk:1").mkdir()
    with h5py.File(tmp_path / "disk:1" / "a.h5", "w") as file:
        file["run/points"] = POINTS
    assert read(spec_in(tmp_path / "disk:1" / "a.h5", "run/points"), declare()) == POINTS.tobytes()


def test_a_missing_file_is_told_with_its_neighbour(tmp_path: Path) -> None:
    save(tmp_path / "points.h5", points=POINTS)
    text = failure(spec_in(tmp_path / "pionts.h5"), declare())
    assert "there is no file" in text
    assert "(did you mean 'points.h5'?)" in text
    assert "there is no folder" in failure(spec_in(tmp_path / "no" / "a.h5"), declare())
    assert "is not a file" in failure(spec_in(tmp_path), declare())
    assert "File name too long" in failure(spec_in(tmp_path / ("a" * 300)), declare())
    assert "there is no file" in failure(spec_in(tmp_path / "a", "d" * 300), declare())


def test_a_colon_in_the_path_that_was_taken_for_the_divider(tmp_path: Path) -> None:
    """The file is `disk:1/a.h5`, the dataset was forgotten, and the colon divides the path."""
    (tmp_path / "disk:1").mkdir()
    save(tmp_path / "disk:1" / "a.h5", points=POINTS)
    text = failure(parse_spec(f"points={tmp_path}/disk:1/a.h5", "--in"), declare())
    assert f"'{tmp_path}/disk:1/a.h5' is the file, so add ':DATASET'" in text


def test_a_wrong_dataset_lists_those_that_exist(tmp_path: Path) -> None:
    save(tmp_path / "a.h5", points=POINTS, labels=np.arange(4, dtype="i4"))
    text = failure(spec_in(tmp_path / "a.h5", "piont"), declare())
    assert "has no dataset 'piont' (did you mean 'points'?); it holds" in text
    assert "\n  points  float64 (10, 3)" in text
    assert "\n  labels  int32 (4,)" in text


def test_a_long_list_of_datasets_is_cut(tmp_path: Path) -> None:
    save(tmp_path / "a.h5", **{f"d{i:02}": np.zeros(1) for i in range(30)})
    text = failure(spec_in(tmp_path / "a.h5"), declare())
    assert text.count("float64") == 20
    assert text.endswith("\n  ...")


def test_a_group_and_an_empty_file_have_no_dataset(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("points")
    assert "it holds no dataset at all" in failure(spec_in(tmp_path / "a.h5"), declare())


def test_a_wrong_shape_gives_both_and_the_remedy(tmp_path: Path) -> None:
    save(tmp_path / "a.h5", points=POINTS)
    assert failure(spec_in(tmp_path / "a.h5"), declare(shape=(3, 10))) == (
        "the file has float64 of shape (10, 3), but the program declares fd (float64) of shape "
        "(3, 10); declare `.array points, fd, 10, 3` (or give its sizes with -D), or cut the "
        "input to fit"
    )


def test_a_wrong_type_gives_both_and_the_remedy(tmp_path: Path) -> None:
    save(tmp_path / "a.h5", points=POINTS.astype("f4"), text=np.array([b"a"] * 30).reshape(10, 3))
    text = failure(spec_in(tmp_path / "a.h5"), declare())
    assert "the file has float32 of shape (10, 3), but the program declares fd (float64)" in text
    assert text.endswith("declare the array as fs, or convert the input: array.astype('<f8')")
    text = failure(spec_in(tmp_path / "a.h5", "text"), declare())
    assert text.endswith("; convert the input: array.astype('<f8')")


@pytest.mark.parametrize("stored", ["<i8", "<u8", ">i8"])
def test_a_type_of_the_same_width_is_a_wrong_type(tmp_path: Path, stored: str) -> None:
    save(tmp_path / "a.h5", points=POINTS.astype(stored))
    assert "the program declares fd" in failure(spec_in(tmp_path / "a.h5"), declare())


def test_a_dataset_without_a_value_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["points"] = h5py.Empty("f8")
    assert "of shape (0,), but" in failure(spec_in(tmp_path / "a.h5"), declare())


@pytest.mark.parametrize("kept", [0, 4, 100, 1000, -8])
def test_a_truncated_hdf5_file_is_refused(tmp_path: Path, kept: int) -> None:
    path = save(tmp_path / "a.h5", points=POINTS)
    path.write_bytes(path.read_bytes()[:kept])
    text = failure(spec_in(path), declare())
    assert "is truncated or damaged" in text or "is not an HDF5 file" in text


def test_damage_inside_the_data_is_told_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("points", data=POINTS, chunks=(5, 3), fletcher32=True)
    data = bytearray(path.read_bytes())
    at = data.index(POINTS[5:].tobytes())
    data[at] ^= 0xFF
    path.write_bytes(data)
    assert "is damaged: its data cannot be read" in failure(spec_in(path), declare())


def test_other_files_are_refused(tmp_path: Path) -> None:
    for name, words in (("a.h5", "is not an HDF5 file"), ("a.npy", "is not an .npy file")):
        path = tmp_path / name
        path.write_text("points: 1 2 3\n")
        assert words in failure(spec_in(path, None if name.endswith("npy") else "p"), declare())


def test_a_truncated_npy_file_and_objects_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, POINTS)
    for kept in (9, 60, 200):
        path.write_bytes(path.read_bytes()[:kept])
        assert "is truncated, damaged or holds objects" in failure(spec_in(path, None), declare())
    np.save(path, np.array([None]), allow_pickle=True)
    assert "is truncated, damaged or holds objects" in failure(spec_in(path, None), declare())


@settings(max_examples=150)
@given(data=st.data())
def test_mutated_files_are_read_or_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Damage may hit bytes that nobody reads; what must not happen is any other exception."""
    path = tmp_path_factory.mktemp("mutated") / "a.h5"
    content = bytearray(save(path, points=POINTS).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        assert len(read(spec_in(path), declare())) == POINTS.nbytes
    except FileError as error:
        assert str(error).startswith("--in points=")  # noqa: PT017 - either end is right
