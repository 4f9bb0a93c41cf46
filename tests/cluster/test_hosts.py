"""Ranks on four hosts that share no memory, with both MPI libraries: right, and told well.

`make hosts` runs this with HOSTS=all, on 4 and 8 ranks, and the workloads with all their seeds.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from dvm_mpi import config
from jobs.kmeans import check
from jobs.primes.check import count_primes
from jobs.treesum.check import expected_sum
from tests.cluster.cluster import ROOT, Cluster, Ended, Mpi
from tests.jobs.machine import source_of
from tests.mpi.__main__ import run as run_tests
from tests.patience import PATIENCE_S

IS_LONG = os.environ.get("HOSTS", "") == "all"
#: One rank on each host, and two.
SIZES = (4, 8) if IS_LONG else (4,)
COMMON = ("--memory", "64M")
#: What a user sees who did not choose: once, on one line.
BY_MESSAGES = (
    "dvm: a rank that computes does not let others read its memory in time: data travels in "
    "messages\n"
)
#: Compiling everything, where nobody has before, and other tests have the processors.
TIMEOUT_S = 3_600 if IS_LONG else 2 * PATIENCE_S
POLL_S = 0.2
POINTS, CLUSTERS, ITERATIONS, PARTS = 2_000, 6, 3, 11

pytestmark = pytest.mark.timeout(TIMEOUT_S + 60)
each_mpi = pytest.mark.parametrize("mpi", Mpi, ids=lambda mpi: mpi.name)
each_size = pytest.mark.parametrize("rank_count", SIZES)


def run_on(
    cluster: Cluster, mpi: Mpi, rank_count: int, hosts: Sequence[str], folder: Path, *words: str
) -> Ended:
    """Run `python -m dvm_mpi WORDS` on hosts."""
    command = [mpi.python, "-m", "dvm_mpi", *words]
    return cluster.run(
        *cluster.hosts_command(mpi, rank_count, hosts, command),
        folder=folder,
        environment={"PYTHONPATH": str(ROOT)},
        timeout_s=TIMEOUT_S,
    )


def job(name: str, **parameters: int) -> tuple[str, ...]:
    defines = (word for key, value in parameters.items() for word in ("-D", f"{key}={value}"))
    return (str(source_of(name)), *COMMON, *defines)


# --- right --------------------------------------------------------------------------------------
@each_mpi
@each_size
def test_primes(cluster: Cluster, tmp_path: Path, mpi: Mpi, rank_count: int) -> None:
    words = job("primes", LIMIT=20_000, PARTS=7)
    ended = run_on(cluster, mpi, rank_count, cluster.nodes, tmp_path, *words)
    assert (ended.code, ended.out) == (0, f"{count_primes(20_000)}\n"), ended.err


@each_mpi
@each_size
def test_treesum(cluster: Cluster, tmp_path: Path, mpi: Mpi, rank_count: int) -> None:
    words = job("treesum", N=2_000)
    ended = run_on(cluster, mpi, rank_count, cluster.nodes, tmp_path, *words)
    assert (ended.code, ended.out) == (0, f"{expected_sum(2_000)}\n"), ended.err


@each_mpi
@each_size
@pytest.mark.parametrize("plane", ["auto", "rma"] if IS_LONG else ["auto"])
def test_kmeans_has_the_bits_of_one_rank(
    cluster: Cluster, tmp_path: Path, mpi: Mpi, rank_count: int, plane: str
) -> None:
    random = np.random.default_rng(5)
    points = random.normal(size=(POINTS, 3))
    np.save(tmp_path / "points.npy", points)
    sizes = {"N": POINTS, "K": CLUSTERS, "PARTS": PARTS, "ITERATIONS": ITERATIONS}
    words = (
        *job("kmeans", **sizes, GENERATE=0),
        *("--data-plane", plane, "--in", "points=points.npy"),
        *("--out", "centroids=centroids.npy", "--out", "labels=labels.npy"),
    )
    ended = run_on(cluster, mpi, rank_count, cluster.nodes, tmp_path, *words)
    assert ended.code == 0, ended.err
    expected = check.kmeans(points, CLUSTERS, ITERATIONS, PARTS)
    assert np.load(tmp_path / "centroids.npy").tobytes() == expected.centroids.tobytes()
    assert np.load(tmp_path / "labels.npy").tobytes() == expected.labels.tobytes()


@each_mpi
@each_size
def test_workloads_are_isolated(cluster: Cluster, mpi: Mpi, rank_count: int) -> None:
    """What each run recorded equals its replay, and is judged by the values that it saw."""
    some = () if IS_LONG else ("-k", "counters or bank or watchers or large or planted")
    tests = ["-s", "tests/mpi/test_histories.py", *some]
    logs = ROOT / "build" / "mpi" / f"hosts-{mpi.name}" / str(rank_count)
    # All seeds of `make histories` where all is wanted.
    environment = {"HISTORIES": os.environ.get("HOSTS", "")}
    assert run_tests(rank_count, logs, TIMEOUT_S, tests, (cluster, mpi), environment) == 0


@each_mpi
def test_commits_go_through_while_their_home_computes(cluster: Cluster, mpi: Mpi) -> None:
    """MPI helps nobody there: the home itself serves, between slices of its worker."""
    rank_count = len(cluster.nodes)
    command = [mpi.python, "-m", "tests.cluster.served"]
    ended = cluster.run(
        *cluster.hosts_command(mpi, rank_count, cluster.nodes, command),
        environment={"PYTHONPATH": str(ROOT)},
        timeout_s=TIMEOUT_S,
    )
    assert (ended.code, ended.out) == (0, "served while it computed\n"), ended.out + ended.err


# --- told well ----------------------------------------------------------------------------------
LAYOUTS = {
    "a rank on each": (4, 4, "message"),
    "two on each of two": (4, 2, "message"),
    "three on one, one on another": (4, -2, "message"),
    "all on one": (4, 1, "rma"),
}


@each_mpi
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_probe_chooses_one_plane_for_all(
    cluster: Cluster, tmp_path: Path, mpi: Mpi, layout: str
) -> None:
    rank_count, hosts, plane = LAYOUTS[layout]
    nodes = cluster.nodes[: abs(hosts)]
    words = (*job("hello"), "--report", "run.json")
    if hosts < 0:
        nodes = [nodes[0]] * 3 + [nodes[1]]
    ended = run_on(cluster, mpi, rank_count, nodes, tmp_path, *words)
    assert ended.code == 0, ended.err
    assert json.loads((tmp_path / "run.json").read_text())["data_plane"] == plane
    assert ended.err.count(BY_MESSAGES) == ended.err.count("messages") == int(plane == "message")


@each_mpi
def test_what_is_printed_is_of_the_run_and_not_of_every_host(
    cluster: Cluster, tmp_path: Path, mpi: Mpi
) -> None:
    ended = run_on(cluster, mpi, 4, cluster.nodes, tmp_path, *job("hello"))
    told = [line for line in ended.err.splitlines() if line.startswith("dvm")]
    waits = [line for line in told if re.search("waiting for|no progress", line)]
    assert len(told) == len(set(told)), ended.err
    assert [line for line in told if line not in waits] == [
        told[0], BY_MESSAGES.rstrip()
    ], ended.err  # fmt: skip


@each_mpi
def test_a_host_with_little_shared_memory_stops_nobody(
    own_cluster: Callable[..., Cluster], tmp_path: Path, mpi: Mpi
) -> None:
    """With one rank on each host nothing of a run need be there."""
    own = own_cluster()
    small = own.on("node3", "mount", "-o", "remount,size=8m", "/dev/shm")
    assert small.code == 0, small.err
    ended = run_on(own, mpi, 4, own.nodes, tmp_path, *job("hello"))
    assert ended.code == 0, ended.err
    two = run_on(own, mpi, 8, own.nodes, tmp_path, *job("hello"))
    assert two.code == 6, two.err
    assert re.search(r"/dev/shm +8\.0 MiB free of 8\.0 MiB", two.err), two.err
    assert "node3" in two.err


# --- ends ---------------------------------------------------------------------------------------
BUSY = str(ROOT / "tests" / "ranks" / "programs" / "busy.dasm")
RANKS = 4
#: Of the process of rank 2, on the third node.
RANK = "^/.*python[^ ]* -m dvm_mpi"


@each_mpi
@pytest.mark.parametrize("what", ["rank", "host"])
def test_a_rank_that_is_gone_ends_all(
    own_cluster: Callable[..., Cluster], tmp_path: Path, mpi: Mpi, what: str
) -> None:
    """Nobody waits for it without an end, one report tells of it, and nothing is left behind."""
    own = own_cluster()
    command = own.hosts_command(mpi, RANKS, own.nodes, [mpi.python, "-m", "dvm_mpi", BUSY])
    environment = {"PYTHONPATH": str(ROOT)}
    with own.started(*command, folder=tmp_path, environment=environment) as process:
        until_all_work(tmp_path)
        struck_s = time.monotonic()
        if what == "rank":
            killed = own.on("node3", "pkill", "-KILL", "-f", f"'{RANK}'")
            assert killed.code == 0, killed
        else:
            own.take_down("node3")
        ended = own.end_of(process, TIMEOUT_S)
    took_s = time.monotonic() - struck_s
    # An Open MPI launcher that has lost a host leaves with 0.
    assert ended.code != 0 or (mpi, what) == (Mpi.OPEN_MPI, "host"), ended.err
    assert took_s < config.STALL_S + config.LOST_S + PATIENCE_S, ended.err
    if (mpi, what) == (Mpi.MPICH, "host"):
        assert ended.code == 10, ended.err
        assert ended.err.count("dvm: error: rank 2 on node3: no answer for 20 s") == 1, ended.err
    (told,) = post_mortems(tmp_path)
    assert re.search("^rank 2 ", told, re.MULTILINE), told
    deadline = time.monotonic() + PATIENCE_S
    for node in ("node1", "node2", "node4"):
        while left := [line for line in own.processes(node) if "dvm_mpi" in line]:
            assert time.monotonic() < deadline, left
            time.sleep(POLL_S)
        assert own.shared_memory(node) == []


def until_all_work(folder: Path) -> None:
    """Wait until the program runs and every rank has told what its worker does.

    A rank that still loads its engine would be given more time.
    """
    deadline = time.monotonic() + TIMEOUT_S
    working = re.compile(r"^rank \d+ .* before: worker: ", re.MULTILINE)
    told = ""
    while "the program runs" not in told or len(working.findall(told)) < RANKS:
        assert time.monotonic() < deadline, told
        time.sleep(POLL_S)
        told = "".join(post_mortems(folder))


def post_mortems(folder: Path) -> list[str]:
    """Return what the files say that outlive a run."""
    return [path.read_text() for path in folder.glob("dvm-postmortem-*.txt")]


# --- start --------------------------------------------------------------------------------------
def test_slurm_reads_what_mpich_tells_it(cluster: Cluster) -> None:
    """MPICH's longest values, of which Slurm would read a part, are kept short."""
    command = [Mpi.MPICH.python, "-m", "tests.cluster.dense_memory"]
    srun = ["srun", "--mpi=pmi2", "--wait=5", "--nodes=2", "--ntasks=4"]
    ended = cluster.run(*srun, *command, environment={"PYTHONPATH": str(ROOT)})
    assert (ended.code, ended.out) == (0, 4 * "one of 4\n"), ended
