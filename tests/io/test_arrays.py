from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
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
from dvm_mpi.io.arrays import DTYPES, Output, check_outputs, open_input, write_outputs
from dvm_mpi.io.specs import ArraySpec, parse_spec

POINTS = np.arange(30, dtype="<f8").reshape(10, 3)


def declare(type_name: str = "fd", shape: tuple[int, ...] = (10, 3)) -> ArrayDeclaration:
    return ArrayDeclaration("points", 0x4_4000_0000, type_name, shape)


def spec_in(path: Path, dataset: str | None = "points") -> ArraySpec:
    return parse_spec(f"points={path}" + (f":{dataset}" if dataset else ""), "--in")


def spec_out(path: Path, dataset: str | None = "points") -> ArraySpec:
    return parse_spec(f"points={path}" + (f":{dataset}" if dataset else ""), "--out")


def read(spec: ArraySpec, declaration: ArrayDeclaration, chunk_bytes: int = 64) -> bytes:
    data = b""
    with open_input(spec, declaration) as source:
        for offset, chunk in source.chunks(chunk_bytes):
            assert offset == len(data)
            data += chunk.tobytes()
    return data


def output(spec: ArraySpec, array: NDArray[Any]) -> Output:
    """Offer an array of the machine in pieces that fit nothing."""
    name = next(n for n, t in DTYPES.items() if t == array.dtype)
    data = np.frombuffer(array.tobytes(), np.uint8)
    return Output(spec, declare(name, array.shape), np.split(data, range(7, len(data), 7)))


def save(path: Path, **arrays: NDArray[Any]) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return path


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


# --- writing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("type_name", DTYPES)
def test_what_is_written_is_what_is_read(tmp_path: Path, type_name: str) -> None:
    array = np.arange(30).reshape(5, 2, 3).astype(DTYPES[type_name])
    h5, npy = tmp_path / "a.h5", tmp_path / "a.npy"
    write_outputs([output(spec_out(h5, "g/points"), array), output(spec_out(npy, None), array)])
    with h5py.File(h5) as file:
        assert file["g/points"].dtype == array.dtype
        np.testing.assert_array_equal(file["g/points"][...], array)
    loaded = np.load(npy)
    assert loaded.dtype == array.dtype
    np.testing.assert_array_equal(loaded, array)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5", "a.npy"]


def test_arrays_larger_than_a_piece(tmp_path: Path) -> None:
    array = np.arange(3 * 700_000, dtype="<i8").reshape(700_000, 3)
    path = tmp_path / "a.h5"
    data = array.view(np.uint8).ravel()
    write_outputs([Output(spec_out(path), declare("sq", array.shape), [data])])
    with open_input(spec_in(path), declare("sq", array.shape)) as source:
        copies = [(at, chunk.copy()) for at, chunk in source.chunks()]
    assert [at for at, _ in copies] == [i * 4 * 1024 * 1024 for i in range(len(copies))]
    np.testing.assert_array_equal(np.concatenate([c for _, c in copies]), data)


def test_two_outputs_into_one_file_and_other_datasets_stay(tmp_path: Path) -> None:
    path = save(tmp_path / "a.h5", points=np.zeros(3), input=POINTS)
    with h5py.File(path, "a") as file:
        file["input"].attrs["unit"] = "m"
    labels = np.arange(4, dtype="<i8")
    write_outputs([output(spec_out(path), POINTS), output(spec_out(path, "labels"), labels)])
    with h5py.File(path) as file:
        assert set(file) == {"points", "input", "labels"}
        assert file["input"].attrs["unit"] == "m"
        np.testing.assert_array_equal(file["points"][...], POINTS)
        np.testing.assert_array_equal(file["labels"][...], labels)


def test_a_file_does_not_grow_from_run_to_run(tmp_path: Path) -> None:
    path = save(tmp_path / "a.h5", input=POINTS)
    sizes = []
    for _ in range(3):
        write_outputs([output(spec_out(path), np.zeros(20_000, "<f8"))])
        sizes.append(path.stat().st_size)
    assert sizes[2] == sizes[1] <= sizes[0] + 4096


def test_outputs_repeat_byte_for_byte(tmp_path: Path) -> None:
    paths = tmp_path / "a.h5", tmp_path / "b.h5"
    for path in paths:
        write_outputs([output(spec_out(path), POINTS)])
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_link_keeps_pointing_to_the_new_content(tmp_path: Path) -> None:
    save(tmp_path / "real.h5", points=np.zeros(3))
    (tmp_path / "link.h5").symlink_to(tmp_path / "real.h5")
    write_outputs([output(spec_out(tmp_path / "link.h5"), POINTS)])
    assert (tmp_path / "link.h5").is_symlink()
    assert read(spec_in(tmp_path / "real.h5"), declare()) == POINTS.tobytes()


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
    write_outputs([output(spec_out(tmp_path / name, dataset), POINTS)])
    before = (tmp_path / name).read_bytes()
    large = np.zeros(200_000, "<f8")
    with file_size_limit(100_000), pytest.raises(FileError) as caught:
        write_outputs([output(spec_out(tmp_path / name, dataset), large)])
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
        write_outputs([output(spec_out(tmp_path / "a.h5"), POINTS + 1), output(missing, POINTS)])
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
        write_outputs([output(spec_out(path), POINTS)])
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]


def test_too_few_bytes_from_the_machine_are_our_fault(tmp_path: Path) -> None:
    spec = spec_out(tmp_path / "a.h5")
    with pytest.raises(AssertionError, match="short of the array"):
        write_outputs([Output(spec, declare(), [np.zeros(8, np.uint8)])])
    assert not list(tmp_path.iterdir())
