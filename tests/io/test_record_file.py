"""A file of entries: what goes in comes out, also of a file that was not closed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from dvm_mpi import config
from dvm_mpi.errors import FileError
from dvm_mpi.io.record_file import RecordReader, RecordWriter, check_record

PLACE = "--record r.h5"
SECTIONS = {"program": b"\x01\x02", "stdin": b"", "header": b"{}"}


def content(size: int, value: int = 7) -> np.ndarray:
    return np.full(size, value, np.uint8)


def write(path: Path, *entries: tuple[int, int, int]) -> None:
    """Write entries of kind, part and size; the bytes are the kind."""
    writer = RecordWriter(path, PLACE, SECTIONS)
    for kind, part, size in entries:
        writer.append(kind, part, content(size, kind))
    writer.close()
    writer.close()


def read(path: Path) -> list[tuple[int, int, bytes]]:
    with RecordReader(path, "replay") as reader:
        assert {name: reader.section(name) for name in SECTIONS} == SECTIONS
        return [(kind, part, data.tobytes()) for kind, part, data in reader.entries()]


def test_entries_come_back_in_order(tmp_path: Path) -> None:
    sizes = [0, 1, config.RECORD_CHUNK_BYTES + 3, 5, config.RECORD_BUFFER_BYTES, 0, 2]
    entries = [(kind, -kind, size) for kind, size in enumerate(sizes)]
    write(tmp_path / "r.h5", *entries)
    assert read(tmp_path / "r.h5") == [(k, p, bytes([k]) * size) for k, p, size in entries]


def test_a_record_without_entries(tmp_path: Path) -> None:
    write(tmp_path / "r.h5")
    assert read(tmp_path / "r.h5") == []


def test_what_was_flushed_outlives_a_kill(tmp_path: Path) -> None:
    """A run may die at any moment; the file is readable up to the last flush before."""
    code = (
        "import sys, os, signal, numpy as np, pathlib\n"
        "from dvm_mpi.io.record_file import RecordWriter\n"
        f"w = RecordWriter(pathlib.Path(sys.argv[1]), 'p', {SECTIONS!r})\n"
        "w.append(1, 2, np.full(10, 1, np.uint8)); w.flush()\n"
        "w.append(3, 4, np.full(10, 3, np.uint8))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = str(Path(__file__).resolve().parents[2])
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "r.h5")],
        check=False, env=os.environ | {"PYTHONPATH": root},
    )  # fmt: skip
    assert ended.returncode == -signal.SIGKILL
    assert read(tmp_path / "r.h5") == [(1, 2, b"\x01" * 10)]
    check_record(tmp_path / "r.h5", PLACE)


def test_a_record_may_be_read_while_it_grows(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path / "r.h5", PLACE, SECTIONS)
    writer.append(1, 0, content(3, 1))
    writer.flush()
    code = (
        "import sys, pathlib\n"
        "from dvm_mpi.io.record_file import RecordReader\n"
        "print(len(list(RecordReader(pathlib.Path(sys.argv[1]), 'p').entries())))\n"
    )
    root = str(Path(__file__).resolve().parents[2])
    told = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "r.h5")],
        check=True, capture_output=True, env=os.environ | {"PYTHONPATH": root},
    )  # fmt: skip
    assert told.stdout == b"1\n"
    writer.close()


# --- what is refused ----------------------------------------------------------------------------
def refused(path: Path) -> str:
    with pytest.raises(FileError) as caught:
        read(path)
    return str(caught.value)


def test_files_that_are_no_records(tmp_path: Path) -> None:
    assert "there is no file" in refused(tmp_path / "missing.h5")
    (tmp_path / "text.h5").write_text("text", encoding="utf-8")
    assert "is not an HDF5 file" in refused(tmp_path / "text.h5")
    with h5py.File(tmp_path / "arrays.h5", "w") as file:
        file["a"] = np.zeros(3)
    assert "is no record of a run; make one with --record" in refused(tmp_path / "arrays.h5")


def test_damage_is_told(tmp_path: Path) -> None:
    path = tmp_path / "r.h5"
    write(path, (1, 0, 100_000), (2, 0, 100_000))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "is truncated or damaged" in refused(path)
    # One bit of the entries' bytes: the checksum of their chunk does not fit any more.
    at = whole.index(b"\x02" * 1000)
    path.write_bytes(whole[:at] + b"\x03" + whole[at + 1 :])
    assert "is truncated or damaged" in refused(path)
    path.write_bytes(whole)
    with h5py.File(path, "r+") as file:
        file["entries"][1] = (2, 0, 500_000)
    assert "its entries do not add up" in refused(path)
    path.write_bytes(whole)
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = 99
    assert "version 99" in refused(path)


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="there is no folder"):
        check_record(tmp_path / "no" / "r.h5", PLACE)
    with pytest.raises(FileError, match="is not an ordinary file"):
        check_record(tmp_path, PLACE)
    with pytest.raises(FileError, match="there is no folder"):
        RecordWriter(tmp_path / "no" / "r.h5", PLACE, {})


def test_only_a_record_is_replaced(tmp_path: Path) -> None:
    """`--record points.h5` for `--in points=points.h5:points` must not cost the input."""
    path = tmp_path / "points.h5"
    check_record(path, PLACE)
    assert not path.exists()
    with h5py.File(path, "w") as file:
        file["points"] = np.zeros(3)
    with pytest.raises(FileError, match="is there, and is no record that could be replaced"):
        check_record(path, PLACE)
    write(tmp_path / "r.h5", (1, 0, 10))
    check_record(tmp_path / "r.h5", PLACE)
    write(tmp_path / "r.h5", (2, 0, 10))
    assert read(tmp_path / "r.h5") == [(2, 0, b"\x02" * 10)]
