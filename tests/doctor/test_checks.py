from __future__ import annotations

import pytest

from dvm_mpi.doctor import checks
from dvm_mpi.launch.finding import Level

MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
tmpfs /tmp tmpfs rw 0 0
server:/net /net nfs4 rw 0 0
server:/a /my\\040data lustre rw 0 0
overlay /tmp overlay rw 0 0
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/usr/lib", "ext4"),
        ("/tmp/cache", "overlay"),
        ("/net", "nfs4"),
        ("/net/.cache", "nfs4"),
        ("/nets", "ext4"),
        ("/my data/x", "lustre"),
    ],
)
def test_the_file_system_is_that_of_the_deepest_mount(folder: str, kind: str) -> None:
    assert checks.file_system_of(folder, MOUNTS) == kind


def test_a_cache_on_a_network_is_slow() -> None:
    assert checks.check_code_folder("/tmp/c", "", "ext4").level is Level.GOOD
    assert checks.check_code_folder("/tmp/c", "", "").level is Level.GOOD
    slow = checks.check_code_folder("/net/c", "", "nfs4")
    assert (slow.level, "NUMBA_CACHE_DIR" in slow.remedy) == (Level.SLOW, True)
    assert checks.check_code_folder("/tmp/c", "kept in /tmp/c", "ext4").what == "kept in /tmp/c"


JOB = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_JOB_NUM_NODES": "2"}


@pytest.mark.parametrize(
    ("environ", "size", "hosts", "told"),
    [
        (JOB, 4, ["a", "a", "b", "b"], "job 7: 4 tasks on 2 nodes"),
        (JOB, 2, ["a", "b"], "but 2 ranks run"),
        (JOB, 4, ["a"] * 4, "but ranks run on 1"),
        ({"SLURM_JOB_ID": "7"}, 4, ["a"] * 4, "job 7: ? tasks"),
    ],
)
def test_ranks_are_compared_with_the_allocation(
    environ: dict[str, str], size: int, hosts: list[str], told: str
) -> None:
    (finding,) = checks.check_allocation(environ, size, hosts)
    assert told in finding.what
    assert (finding.level is Level.SLOW) == ("but" in told)
    assert checks.check_allocation({}, size, hosts) == []


def test_clocks_are_compared() -> None:
    near = checks.check_clocks([5.0, 5.2], ["a", "b"])
    assert (near.level, near.what) == (Level.GOOD, "equal within 200 ms")
    assert checks.check_clocks([5.0, 9.2], ["a", "a"]).what == "one host"
    slow = checks.check_clocks([5.0, 9.0, 5.1], ["a", "b", "c"])
    assert slow.level is Level.SLOW
    assert "the clock of b is 4.0 s ahead of that of a" in slow.what


def test_thread_settings_are_those_that_are_set() -> None:
    assert checks.thread_settings({"OMP_NUM_THREADS": "4", "X": "1"}) == "OMP_NUM_THREADS=4"
    assert "not set" in checks.thread_settings({})
