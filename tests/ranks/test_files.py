"""Arrays from files and to files, through several ranks: byte for byte as in one process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.ranks.launch import Ended

PROGRAM = Path(__file__).parent / "programs" / "files.dasm"
Arrays = dict[str, NDArray[Any]]
#: How each array lies in its HDF5 file; 300 x 1003 does not divide into these chunks.
LAYOUTS: dict[str, dict[str, Any]] = {
    "contiguous": {},
    "chunked": {"chunks": True},
    "compressed": {"compression": "gzip", "shuffle": True},
    "big_endian": {},
    "npy": {},
    "fortran": {},
}


def given_arrays() -> Arrays:
    """Return the arrays that files give, no two elements near each other alike."""
    random = np.random.default_rng(5)
    return {
        "large": random.integers(-(2**31), 2**31 - 1, (300, 1003), np.int32),
        "matrix": random.normal(size=(401, 37)),
        "cube": random.integers(0, 2**16, (7, 11, 13), np.uint16),
        "octets": random.integers(0, 256, 70001, np.uint8),
        "one": np.array([41]),
    }


def changed(given: Arrays) -> Arrays:
    """Return what the program makes of them."""
    wanted = {name: array.copy() for name, array in given.items()}
    for name, values in (("large", (1, 1)), ("matrix", (1.0, 1.0)), ("one", (1, 0))):
        wanted[name].flat[0] += values[0]
        wanted[name].flat[-1] += values[1]
    for name, (first, end) in (("cube", (1, 2)), ("octets", (3, 4))):
        wanted[name].flat[0], wanted[name].flat[-1] = first, end
    wanted["fresh"] = np.zeros(5000, np.float32)
    wanted["fresh"][-1] = 0.5
    return wanted


def write(folder: Path, layout: str, given: Arrays) -> list[str]:
    """Write the input files; return the options that name them."""
    options = []
    for name, array in given.items():
        if layout in {"npy", "fortran"}:
            np.save(
                folder / f"{name}.npy", np.asarray(array, order="C" if layout == "npy" else "F")
            )
            options += ["--in", f"{name}={name}.npy"]
            continue
        with h5py.File(folder / "given.h5", "a") as file:
            dtype = array.dtype.newbyteorder(">") if layout == "big_endian" else array.dtype
            file.create_dataset(f"group/{name}", data=array, dtype=dtype, **LAYOUTS[layout])
        options += ["--in", f"{name}=given.h5:group/{name}"]
    return options


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rank_count", [0, 3])
def test_every_layout(
    dvm: Callable[..., Ended], tmp_path: Path, rank_count: int, layout: str
) -> None:
    given = given_arrays()
    options = write(tmp_path, layout, given)
    wanted = changed(given)
    for number, name in enumerate(wanted):
        place = f"{name}.out.npy" if number % 2 else f"made.h5:{name}"
        options += ["--out", f"{name}={place}"]
    ended = dvm(rank_count, str(PROGRAM), "--quiet", "--memory", "8M", *options)
    assert ended.code == 0, ended.err
    for number, (name, array) in enumerate(wanted.items()):
        if number % 2:
            made = np.load(tmp_path / f"{name}.out.npy")
        else:
            with h5py.File(tmp_path / "made.h5") as file:
                made = file[name][...]
        assert made.dtype == array.dtype, name
        assert made.shape == array.shape, name
        assert made.tobytes() == array.tobytes(), name
    left = {path.name for path in tmp_path.iterdir() if ".part" in path.name}
    assert left == set()


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.npy")}


@pytest.mark.parametrize(
    ("rank_count", "plane"), [(1, "auto"), (3, "message"), (4, "rma"), (4, "message")]
)
def test_files_have_the_bytes_that_one_process_writes(
    dvm: Callable[..., Ended], tmp_path: Path, rank_count: int, plane: str
) -> None:
    given = given_arrays()
    options = write(tmp_path, "contiguous", given)
    for name in [*given, "fresh"]:
        options += ["--out", f"{name}={name}.npy"]
    command = (str(PROGRAM), "--quiet", "--memory", "8M", *options)
    assert dvm(0, *command).code == 0
    alone = files_of(tmp_path)
    assert len(alone) == 6
    for path in tmp_path.glob("*.npy"):
        path.unlink()
    assert dvm(rank_count, *command, "--data-plane", plane).code == 0
    assert files_of(tmp_path) == alone


def test_no_rank_has_room_for_the_whole_array(dvm: Callable[..., Ended], tmp_path: Path) -> None:
    """The array has 1.2 MB; each of four ranks gives 512 KiB to pages."""
    given = {"large": given_arrays()["large"]}
    options = write(tmp_path, "contiguous", given)
    command = (str(PROGRAM), "--quiet", *options, "--out", "large=made.npy")
    ended = dvm(4, *command, "--memory", "512K")
    assert ended.code == 0, ended.err
    wanted = changed(given_arrays())["large"]
    assert np.load(tmp_path / "made.npy").tobytes() == wanted.tobytes()
