from __future__ import annotations

import os
from pathlib import Path

import pytest

from dvm_mpi import __version__
from dvm_mpi.config import POSTMORTEM_INTERVAL_S
from dvm_mpi.launch.postmortem import PostMortem


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A post-mortem file with a clock that stands still, and the warnings that it gave."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.warnings: list[str] = []
        self.asked = 0
        self.file = PostMortem(
            folder, "job-1", ["python", "-m", "dvm_mpi", "a b.dasm"],
            warn=self.warnings.append, clock=self.clock, time_of_day=self.time_of_day,
        )  # fmt: skip

    def time_of_day(self) -> str:
        return f"T{self.clock.now:.0f}"

    def sample(self) -> str:
        self.asked += 1
        return f"state {self.asked}\n"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_file_tells_what_it_is_and_how_the_run_was_started(bench: Bench, tmp_path: Path) -> None:
    bench.clock.now += 7
    bench.file.update(bench.sample)
    assert [path.name for path in tmp_path.iterdir()] == ["dvm-postmortem-job-1.txt"]
    assert bench.file.path.read_text().splitlines() == [
        "This file is rewritten while the run goes on, and removed at its end. If the run is over "
        "and",
        "the file is still here, the run was ended from outside (SIGKILL, out of memory, the node "
        "or",
        "the launcher died), and this is its last known state.",
        "",
        "command    python -m dvm_mpi 'a b.dasm'",
        f"version    dvm {__version__}",
        f"host       {os.uname().nodename}, process {os.getpid()}",
        "started    T100",
        "written    T107",
        "",
        "state 1",
    ]


def test_state_is_asked_for_and_written_only_when_it_is_time(bench: Bench) -> None:
    for _ in range(3):
        bench.file.update(bench.sample)
        bench.clock.now += POSTMORTEM_INTERVAL_S * 0.49
    assert bench.asked == 1
    bench.clock.now += POSTMORTEM_INTERVAL_S * 0.1
    bench.file.update(bench.sample)
    assert bench.file.path.read_text().endswith("state 2\n")


def test_slow_disk_does_not_take_all_the_time(bench: Bench) -> None:
    def slow() -> str:
        bench.clock.now += 10 * POSTMORTEM_INTERVAL_S
        return bench.sample()

    bench.file.update(slow)
    bench.file.update(slow)
    assert bench.asked == 1


def test_orderly_end_leaves_nothing(bench: Bench, tmp_path: Path) -> None:
    bench.file.update(bench.sample)
    bench.file.remove()
    bench.file.remove()
    bench.clock.now += 60
    bench.file.update(bench.sample)
    assert list(tmp_path.iterdir()) == []


def test_run_that_never_wrote_has_nothing_to_remove(bench: Bench, tmp_path: Path) -> None:
    bench.file.remove()
    assert list(tmp_path.iterdir()) == []
    assert bench.warnings == []


def test_kept_file_says_why_and_stays(bench: Bench, tmp_path: Path) -> None:
    """Also if the state was written a moment ago; nothing writes over it afterwards."""
    bench.file.update(bench.sample)
    path = bench.file.keep("rank 3 failed", "its last events\n")
    bench.clock.now += 60
    bench.file.update(bench.sample)
    bench.file.remove()
    assert path is not None
    assert list(tmp_path.iterdir()) == [path]
    text = path.read_text()
    assert text.startswith("The run ended before the program did: rank 3 failed\n")
    assert text.endswith("\n\nits last events\n")
    assert "rewritten" not in text


def test_change_is_written_without_waiting(bench: Bench) -> None:
    bench.file.update(bench.sample)
    bench.file.hurry()
    bench.file.update(bench.sample)
    bench.file.update(bench.sample)
    assert bench.file.path.read_text().endswith("state 2\n")
    assert bench.asked == 2


def test_rank_that_fails_keeps_what_rank_0_has_written(tmp_path: Path) -> None:
    """It knows what it did itself, and rank 0 what all did."""
    coordinating, failing = Bench(tmp_path), Bench(tmp_path)
    coordinating.file.update(lambda: "all ranks")
    path = failing.file.keep("rank 3 failed", "its own")
    assert path is not None
    assert path.read_text().startswith("The run ended before the program did: rank 3 failed\n")
    assert "\n\nits own\n\nWhat had been written before:\n\nThis file" in path.read_text()
    assert path.read_text().endswith("\n\nall ranks\n")


def test_why_another_rank_failed_is_not_written_over(tmp_path: Path) -> None:
    coordinating, failing = Bench(tmp_path), Bench(tmp_path)
    coordinating.file.update(coordinating.sample)
    assert not coordinating.file.is_told_by_another()
    failing.file.keep("rank 3 failed", "its own")
    assert not failing.file.is_told_by_another()
    assert coordinating.file.is_told_by_another()
    coordinating.clock.now += 60
    coordinating.file.update(coordinating.sample)
    coordinating.file.remove()
    assert "rank 3 failed" in coordinating.file.path.read_text()
    assert coordinating.asked == 1


def test_rank_that_fails_tells_its_own_state_once(bench: Bench) -> None:
    bench.file.update(lambda: "before")
    path = bench.file.keep("rank 0 failed", "now")
    assert path is not None
    assert "before" not in path.read_text().replace("ended before", "")


def test_reader_sees_one_whole_state(bench: Bench) -> None:
    """Who has the old file open goes on reading the old one."""
    bench.file.update(bench.sample)
    with bench.file.path.open() as reader:
        bench.clock.now += 60
        bench.file.update(lambda: "new " * 1000)
        assert reader.read().endswith("state 1\n")


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every writing fail after the file has been made."""

    def write_text(path: Path, *_: object, **__: object) -> int:
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", write_text)


@pytest.mark.usefixtures("full_disk")
def test_full_disk_is_told_once_and_ends_nothing(bench: Bench, tmp_path: Path) -> None:
    for _ in range(3):
        bench.file.update(bench.sample)
        bench.clock.now += 60
    assert bench.file.keep("rank 3 failed", "") is None
    assert bench.asked == 1
    assert bench.warnings == [
        f"no post-mortem file is written: {bench.file.path}: No space left on device"
    ]
    assert list(tmp_path.iterdir()) == []


def test_missing_folder_is_told_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "gone")
    assert bench.file.keep("rank 3 failed", "") is None
    bench.file.update(bench.sample)
    bench.file.remove()
    assert len(bench.warnings) == 1
    assert bench.warnings[0].endswith("No such file or directory")


def test_state_may_hold_any_bytes_of_a_program(bench: Bench) -> None:
    bench.file.update(lambda: "name \udcff é")
    assert bench.file.path.read_text(encoding="utf-8").endswith("name \\udcff é\n")


def test_real_clocks_are_the_default(tmp_path: Path) -> None:
    file = PostMortem(tmp_path, "x", ["dvm"], warn=pytest.fail)
    file.update(lambda: "state")
    assert "started    20" in file.path.read_text()
