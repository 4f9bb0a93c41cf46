"""A trace on file: complete at its end, readable before."""

import gzip
import json
import zlib
from pathlib import Path

import pytest

from dvm_mpi.errors import FileError
from dvm_mpi.io.trace_file import TraceFile

EVENTS = [json.dumps({"ph": "X", "name": f"é {number}", "ts": number}) for number in range(500)]


def parsed(data: bytes) -> list[str]:
    return [json.dumps(event) for event in json.loads(data)]


@pytest.mark.parametrize("count", [0, 1, 500])
@pytest.mark.parametrize("name", ["t.json", "t.json.gz"])
def test_the_whole_is_json(tmp_path: Path, name: str, count: int) -> None:
    path = tmp_path / name
    file = TraceFile(path, "--trace t")
    for event in EVENTS[:count]:
        file.write([event])
    file.write([])
    file.close()
    file.close()
    assert file.event_count == count
    data = path.read_bytes()
    assert parsed(gzip.decompress(data) if name.endswith(".gz") else data) == EVENTS[:count]


def test_what_was_flushed_is_read_without_the_end(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    file = TraceFile(path, "--trace t")
    assert json.loads(path.read_bytes() + b"]") == []
    for first in range(0, 500, 100):
        file.write(EVENTS[first : first + 100])
        file.flush()
        assert parsed(path.read_bytes() + b"]") == EVENTS[: first + 100]
    file.close()


def test_a_compressed_one_too(tmp_path: Path) -> None:
    path = tmp_path / "t.json.gz"
    file = TraceFile(path, "--trace t")
    file.write(EVENTS)
    file.flush()
    found = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(path.read_bytes())
    assert parsed(found + b"]") == EVENTS
    file.close()


def test_large_traces_reach_the_file_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    file = TraceFile(path, "--trace t")
    for _ in range(40):
        file.write(EVENTS)
    size = path.stat().st_size
    assert size > 256 * 1024
    assert len(parsed(path.read_bytes() + b"]")) % 500 == 0
    file.close()


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="--trace x: there is no folder"):
        TraceFile(tmp_path / "absent" / "t.json", "--trace x")


def test_a_full_disk_is_told_at_the_start() -> None:
    with pytest.raises(FileError, match="No space left"):
        TraceFile(Path("/dev/full"), "--trace full")


def test_a_disk_that_fills_up_is_told_once(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    file = TraceFile(path, "--trace t")

    class Full:
        def write(self, data: bytes) -> int:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            return

    assert file._raw is not None
    file._raw.close()
    file._raw = file._file = Full()  # type: ignore[assignment]
    file.write(EVENTS)
    with pytest.raises(FileError, match="free space"):
        file.flush()
    file.write(EVENTS)
    file.close()
