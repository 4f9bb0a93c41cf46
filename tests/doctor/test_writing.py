"""The file that all ranks write together."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvm_mpi import config
from dvm_mpi.doctor import writing
from dvm_mpi.errors import ExitCode
from dvm_mpi.launch.finding import Level


@pytest.mark.parametrize("size", [1, 2, 3, 4096])
def test_all_parts_together_are_bounded(size: int) -> None:
    part = writing.part_bytes(size)
    assert 0 < part <= config.TRIAL_PART_BYTES_MAX
    assert part * size <= config.TRIAL_FILE_BYTES
    assert part % 8 == 0


def test_what_is_written_is_read_by_another(tmp_path: Path) -> None:
    path = tmp_path / "trial"
    assert writing.make(path) is None
    for rank in range(3):
        seconds, wrong = writing.write(path, rank, 3)
        assert wrong is None
        assert seconds > 0
    assert [writing.read(path, writing.partner(rank, 3), 3) for rank in range(3)] == [None] * 3
    assert sorted(writing.partner(rank, 3) for rank in range(3)) == [0, 1, 2]
    # One word that another host has in its cache still.
    with path.open("r+b") as file:
        file.seek(writing.part_bytes(3) + 80)
        file.write(b"\0" * 8)
    wrong = writing.read(path, 1, 3)
    assert wrong is not None
    assert "not what is read" in wrong.what
    writing.remove(path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_another_host_has_no_such_file(tmp_path: Path) -> None:
    _, wrong = writing.write(tmp_path / "trial", 1, 2)
    assert wrong is not None
    assert (wrong.level, wrong.exit_code) == (Level.WRONG, ExitCode.FILE)
    assert f"{tmp_path} is not shared" in wrong.what


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    wrong = writing.make(tmp_path / "none" / "trial")
    assert wrong is not None
    assert f"cannot write in {tmp_path / 'none'}: No such file" in wrong.what


def test_the_slowest_rank_decides() -> None:
    limit_s = writing.part_bytes(4) * 4 / 1e6 / config.RATE_MB_S_WRITING_MIN
    assert writing.judge(Path("d"), [0.01, 0.01, 0.01, limit_s * 0.9]).level is Level.GOOD
    slow = writing.judge(Path("d"), [0.01, 0.01, 0.01, limit_s * 1.1])
    assert slow.level is Level.SLOW
    assert slow.remedy
