"""Which cores ranks may use, and what is said of that."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from dvm_mpi.launch.binding import Cores, check_cores, cpus_of, listed, misbound, own_list
from dvm_mpi.launch.environment import Launch, Launcher
from dvm_mpi.launch.finding import Level

LAUNCH = Launch(Launcher.OPEN_MPI, 0, 4, 0, 4, "job")


def ranks(*allowed: str, cpu_count: int = 8, numa_count: int = 1) -> list[Cores]:
    return [Cores(r, "alpha", a, cpu_count, numa_count) for r, a in enumerate(allowed)]


@pytest.mark.parametrize(
    ("text", "cpus"), [("0", {0}), ("0-3,8", {0, 1, 2, 3, 8}), ("", set()), ("a-b", set())]
)
def test_lists_are_the_kernels(text: str, cpus: set[int]) -> None:
    assert cpus_of(text) == cpus
    if cpus:
        assert listed(sorted(cpus)) == text


def test_own_cores_are_those_that_taskset_gives() -> None:
    first = min(os.sched_getaffinity(0))
    code = "from dvm_mpi.launch.binding import own_list; print(own_list())"
    bound = ["taskset", "-c", str(first), sys.executable, "-c", code]
    told = subprocess.run(bound, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == str(first)
    assert cpus_of(own_list()) == os.sched_getaffinity(0)


@pytest.mark.parametrize(
    ("allowed", "told"),
    [
        (("0", "1", "2", "3"), ""),
        (("0-7",) * 8, ""),
        (("0-7",) * 16, ""),
        (("0", "1", "1", "2"), "ranks 1-2 on alpha are bound to core 1, of 8"),
        (("0-1",) * 4, "ranks 0-3 on alpha are bound to 2 cores, of 8"),
        # No two have the same list, and still two cores are too few.
        (("0-1", "0", "1", "5"), "ranks 0-2 on alpha are bound to 2 cores, of 8"),
        (("", "", "3", "3"), "ranks 2-3 on alpha are bound to core 3"),
    ],
)
def test_ranks_on_one_core_beside_idle_ones_are_told(allowed: tuple[str, ...], told: str) -> None:
    found = misbound(ranks(*allowed), LAUNCH)
    assert (found == "") == (told == "")
    assert found.startswith(told)
    if found:
        assert "--bind-to core" in found
        assert [found] == [finding.text for finding in check_cores(ranks(*allowed), LAUNCH)]


def test_many_hosts_that_are_alike_are_told_once() -> None:
    given = [Cores(rank, f"node{rank // 2}", "0", 4) for rank in range(2_000)]
    told = misbound(given, LAUNCH)
    assert told.startswith("ranks 0-1 on node0 are bound to core 0, of 4")
    assert told.endswith("\n  and so on 999 more hosts")
    assert len(told.splitlines()) == 3


@pytest.mark.parametrize(
    ("given", "level", "told"),
    [
        (ranks("0-7", "0-7"), Level.GOOD, "not bound to single ones"),
        (ranks("0-3", "4-7"), Level.GOOD, "each rank has cores of its own"),
        (ranks("0-1", "0-1", "0-1", cpu_count=2), Level.SLOW, "3 ranks on alpha share 2 cores"),
        (ranks("0-7", "0-7", numa_count=2), Level.SLOW, "2 NUMA nodes"),
        (ranks("0-3", "4-7", numa_count=2), Level.GOOD, "cores of its own"),
    ],
)
def test_cores_of_a_host(given: list[Cores], level: Level, told: str) -> None:
    (finding,) = check_cores(given, LAUNCH)
    assert finding.level is level
    assert told in finding.what
    assert bool(finding.remedy) == (level is not Level.GOOD)


def test_hosts_are_looked_at_apart() -> None:
    """Core 0 of one host is not core 0 of another."""
    given = [Cores(0, "alpha", "0", 2), Cores(1, "beta", "0", 2), Cores(2, "beta", "0", 2)]
    found = check_cores(given, None)
    assert [finding.level for finding in found] == [Level.SLOW, Level.GOOD]
    assert "ranks 1-2 on beta" in found[0].what
