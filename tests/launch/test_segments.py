from __future__ import annotations

import mmap
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dvm_mpi.config import MIB, SEGMENTS_SHOWN_MAX
from dvm_mpi.launch.segments import Segment, describe, stale, unlink_mapped

#: As MPICH 5.0.2 and Open MPI 5.0.11 name them.
NAMES = ("mpich_shm_acfc49bf_0", "osc_sm.vm.a5830001.0.3", "sm_segment.vm.0.ded90001.0")
DAY_S = 86_400.0


def make(folder: Path, name: str, length: int = 3 * 4096) -> Path:
    path = folder / name
    path.write_bytes(b"\1" * length)
    os.utime(path, (1000.0, 1000.0))
    return path


def found(folder: Path) -> list[str]:
    return [segment.path.name for segment in stale(2000.0, folder)]


def map_file(path: Path) -> mmap.mmap:
    with path.open("r+b") as stream:
        return mmap.mmap(stream.fileno(), 0)


def test_files_of_dead_runs_are_found(tmp_path: Path) -> None:
    for name in (*NAMES, "pulse-shm-1", "sem.mpich", "psm2_shm.1"):
        make(tmp_path, name)
    (tmp_path / "mpich_shm_folder").mkdir()
    (tmp_path / "mpich_shm_link").symlink_to(tmp_path / NAMES[0])
    assert found(tmp_path) == sorted((*NAMES, "psm2_shm.1"))
    first = stale(2000.0, tmp_path)[0]
    assert first == Segment(tmp_path / NAMES[0], first.taken_bytes, os.getuid(), 1000.0)
    assert first.taken_bytes >= 3 * 4096


def test_sparse_files_count_by_what_they_take(tmp_path: Path) -> None:
    path = make(tmp_path, NAMES[0], 0)
    os.truncate(path, 100 * MIB)
    assert stale(0.0, tmp_path)[0].taken_bytes < MIB


def test_folder_that_is_not_there_has_no_files(tmp_path: Path) -> None:
    assert stale(0.0, tmp_path / "no") == []
    assert unlink_mapped(tmp_path / "no") == []


def test_mapped_file_is_in_use(tmp_path: Path) -> None:
    path = make(tmp_path, NAMES[0])
    with map_file(path):
        assert found(tmp_path) == []
    assert found(tmp_path) == [NAMES[0]]


def test_open_file_is_in_use(tmp_path: Path) -> None:
    """Between opening and mapping it, a starting run has nothing but a descriptor."""
    path = make(tmp_path, NAMES[0])
    with path.open("rb"):
        assert found(tmp_path) == []
    assert found(tmp_path) == [NAMES[0]]


def test_file_in_use_by_another_process_is_not_stale(tmp_path: Path) -> None:
    path = make(tmp_path, NAMES[0])
    code = (
        "import mmap, sys; f = open(sys.argv[1], 'r+b'); m = mmap.mmap(f.fileno(), 0); f.close(); "
        "print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert found(tmp_path) == []
        other.kill()
        other.wait()
        assert found(tmp_path) == [NAMES[0]]


def fake_process(proc: Path, maps: str) -> Path:
    folder = proc / "4711"
    (folder / "fd").mkdir(parents=True)
    (folder / "maps").write_text(maps)
    (proc / "self").symlink_to(folder)
    (proc / "meminfo").touch()
    return folder


def test_unreadable_process_of_another_user_protects_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, NAMES[0])
    process = fake_process(tmp_path / "proc", "")
    assert len(stale(0.0, tmp_path, tmp_path / "proc")) == 1
    read_bytes = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.parent == process:
            raise PermissionError(path)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    # Ours are no ranks if they refuse; but what is not ours might be one.
    assert len(stale(0.0, tmp_path, tmp_path / "proc")) == 1
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    assert stale(0.0, tmp_path, tmp_path / "proc") == []


def test_process_that_ends_meanwhile_is_passed_over(tmp_path: Path) -> None:
    make(tmp_path, NAMES[0])
    (fake_process(tmp_path / "proc", "") / "maps").unlink()
    assert len(stale(0.0, tmp_path, tmp_path / "proc")) == 1


def test_file_is_known_by_number_and_name(tmp_path: Path) -> None:
    """Another file system may have the number, another folder the name."""
    path = make(tmp_path, NAMES[0])
    inode = path.stat().st_ino
    process = fake_process(tmp_path / "proc", "")
    for line, is_used in (
        (f"7f00-7f01 rw-s 0000 00:1a {inode}      /elsewhere/{NAMES[0]}", True),
        (f"7f00-7f01 rw-s 0000 00:1a {inode}      /dev/shm/other", False),
        (f"7f00-7f01 rw-s 0000 00:1a {inode + 1}  /dev/shm/{NAMES[0]}", False),
        (f"7f00-7f01 rw-s 0000 00:1a {inode}      /dev/shm/{NAMES[0]} (deleted)", False),
        ("7f00-7f01 rw-p 0000 00:00 0", False),
    ):
        (process / "maps").write_text(f"55-56 r--p 0000 fe:00 9 /usr/bin/x\n{line}\n")
        assert (stale(0.0, tmp_path, tmp_path / "proc") == []) is is_used, line


# --- the message -------------------------------------------------------------------------------
def segments(*owners: int) -> list[Segment]:
    return [
        Segment(Path(f"/dev/shm/mpich_shm_{i}"), 3 * MIB, owner, i * DAY_S / 2)
        for i, owner in enumerate(owners)
    ]


def test_message_names_files_sizes_and_the_way_to_remove_them() -> None:
    assert describe(segments(1000, 1000), 1000).splitlines() == [
        "dead MPI runs have left 2 files of shared memory, 6.0 MiB in all, for up to 12 h; "
        "no process that can be seen here uses them",
        "  remove them with: (cd /dev/shm && rm mpich_shm_0 mpich_shm_1)",
    ]
    assert "have left 1 file of shared memory, 3.0 MiB in all, for up to 0 min" in describe(
        segments(1000), 1000
    )


def test_files_of_others_are_told_with_their_owners() -> None:
    assert describe(segments(1000, 0, 987654321), 1000).splitlines()[1:] == [
        "  remove them with: (cd /dev/shm && rm mpich_shm_0)",
        "  /dev/shm/mpich_shm_1 belongs to root",
        "  /dev/shm/mpich_shm_2 belongs to user 987654321",
    ]
    as_root = describe(segments(1000, 0), 0)
    assert "rm mpich_shm_0 mpich_shm_1" in as_root
    assert "belongs" not in as_root


def test_many_files_are_counted() -> None:
    text = describe(segments(*[1] * (SEGMENTS_SHOWN_MAX + 5)), 1)
    assert text.count(" mpich_shm_") == SEGMENTS_SHOWN_MAX
    assert text.endswith("and 5 more")
    assert "for up to 12 days" in text


def test_line_that_removes_files_works_in_a_shell(tmp_path: Path) -> None:
    folder = tmp_path / "sh m"
    folder.mkdir()
    for name in (NAMES[0], "mpich_shm_a b", "other"):
        make(folder, name)
    line = describe(stale(0.0, folder), os.getuid()).splitlines()[1]
    subprocess.run(["sh", "-c", line.partition(": ")[2]], check=True)
    assert [path.name for path in folder.iterdir()] == ["other"]


# --- our own -----------------------------------------------------------------------------------
def test_only_mapped_files_of_mpi_lose_their_names(tmp_path: Path) -> None:
    """The memory stays: two mappings of a file that has no name any more still share it."""
    mine, foreign, other = (make(tmp_path, n) for n in (NAMES[0], NAMES[1], "mine_too"))
    with map_file(mine) as one, map_file(mine) as two, map_file(other):
        assert unlink_mapped(tmp_path) == [NAMES[0]]
        assert [p.exists() for p in (mine, foreign, other)] == [False, True, True]
        one[5] = 77
        assert two[5] == 77
        assert unlink_mapped(tmp_path) == []


def test_neighbours_may_unlink_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path, NAMES[0])
    unlink: Callable[[Path], None] = Path.unlink

    def be_second(target: Path) -> None:
        unlink(target)
        unlink(target)

    monkeypatch.setattr(Path, "unlink", be_second)
    with map_file(path):
        assert unlink_mapped(tmp_path) == []
    assert not path.exists()
