"""The job scripts as users submit them: results, launchers, ends, and what the log tells.

Everything is submitted from a folder that looks like a fresh checkout, without settings.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from jobs.primes.check import count_primes
from tests.cluster.cluster import ROOT, Cluster, Job, Mpi
from tests.patience import PATIENCE_S

BUSY = str(ROOT / "tests" / "ranks" / "programs" / "busy.dasm")
#: What a checkout has; results and caches are the test's own.
CHECKOUT = ("dvm_mpi", "jobs", "slurm", *(mpi.value for mpi in Mpi))
#: A small k-means, by the environment of kmeans.sh and by options of DVM.
SMALL = {"KMEANS_CROP": "48x32", "KMEANS_K": "6", "KMEANS_PARTS": "16", "KMEANS_ITERATIONS": "4"}
SMALL_DEFINES = ("N=1536", "K=6", "PARTS=16", "ITERATIONS=4", "GENERATE=0")
#: Lines of BUSY after which it has reached all ranks.
UNDER_WAY = 20
POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Finished:
    """A job that is over, with its log and its folder."""

    job: Job
    log: str
    folder: Path

    def told(self, *patterns: str) -> None:
        """Assert that the log has these lines, in this order."""
        position = 0
        for pattern in patterns:
            found = re.compile(pattern, re.MULTILINE).search(self.log, position)
            assert found is not None, f"no {pattern!r} (from here on) in\n{self.log}"
            position = found.end()


class Site:
    """A user's folder on the cluster."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder
        for name in CHECKOUT:
            (folder / name).symlink_to(ROOT / name)
        (folder / "tests").symlink_to(ROOT / "tests")

    def submit(
        self,
        *arguments: str,
        mpi: Mpi = Mpi.MPICH,
        command: str = "sbatch",
        environment: Mapping[str, str] | None = None,
    ) -> int:
        chosen = {"MPI": mpi.value.removeprefix(".venv").removeprefix("-")}
        return self.cluster.submit(
            *arguments,
            command=command,
            folder=self.folder,
            environment=chosen | dict(environment or {}),
        )

    def log(self, job: int) -> str:
        found = list(self.folder.glob(f"*-{job}.out"))
        return found[0].read_text(errors="replace") if found else ""

    def wait(self, job: int, timeout_s: float = PATIENCE_S) -> Finished:
        ended = self.cluster.wait(job, timeout_s)
        return Finished(ended, self.log(job), self.folder / "runs" / f"{ended.name}-{job}")

    def run(self, *arguments: str, **options: Any) -> Finished:
        """Submit a job, see `submit`, and wait for its end."""
        return self.wait(self.submit(*arguments, **options))

    def until_under_way(self, job: int, timeout_s: float = PATIENCE_S) -> None:
        """Wait until BUSY has reached all ranks."""
        deadline = time.monotonic() + timeout_s
        while self.log(job).count(".\n") < UNDER_WAY:
            assert time.monotonic() < deadline, self.log(job)
            assert not self.cluster.job(job).is_over, self.log(job)
            time.sleep(POLL_S)


@pytest.fixture
def site(cluster: Cluster, tmp_path: Path) -> Site:
    return Site(cluster, tmp_path)


@pytest.fixture(scope="session")
def one_rank(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return centroids and labels of the small k-means as one process computes them."""
    folder = tmp_path_factory.mktemp("one")
    python = Mpi.MPICH.python
    job = ROOT / "jobs" / "kmeans"
    points = folder / "input.h5"
    subprocess.run(
        [python, str(job / "make_input.py"), "--crop", SMALL["KMEANS_CROP"], "--output", points],
        check=True,
    )
    defines = [word for text in SMALL_DEFINES for word in ("-D", text)]
    outputs = [w for n in ("centroids", "labels") for w in ("--out", f"{n}={folder}/out.h5:{n}")]
    subprocess.run(
        [python, "-m", "dvm_mpi", job / "kmeans.dasm", *defines, "--quiet",
         "--in", f"points={points}:points", *outputs],
        check=True, cwd=ROOT,
    )  # fmt: skip
    return bits_of(folder / "out.h5")


def bits_of(path: Path) -> dict[str, bytes]:
    with h5py.File(path) as file:
        return {name: file[name][...].tobytes() for name in ("centroids", "labels")}


# --- results -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("mpi", "command", "launcher"),
    [
        (Mpi.MPICH, "sbatch", "srun --mpi=pmi2"),
        (Mpi.OPEN_MPI, "sbatch", "srun --mpi=pmix"),
        (Mpi.MPICH, "yhbatch", "srun --mpi=pmi2"),
    ],
)
def test_kmeans_has_the_bits_of_one_rank(
    site: Site, one_rank: dict[str, bytes], mpi: Mpi, command: str, launcher: str
) -> None:
    ended = site.run("slurm/kmeans.sh", mpi=mpi, command=command, environment=SMALL)
    assert (ended.job.state, ended.job.exit_code) == ("COMPLETED", 0), ended.log
    ended.told(
        rf"^job: \d+ \(kmeans\) on node\[\d-\d\], .*; folder {ended.folder}$",
        rf"^job: 4 ranks of (MPICH|Open MPI) by: .*{launcher} --cpu-bind=cores --wait=60$",
        r"^dvm .*kmeans\.dasm, 4 ranks",
        r"^#[0-9a-f]{6} \d+$",
        r"^kmeans\.dasm: the program ended; its outputs are written$",
        rf"^job: good; results in {ended.folder}$",
    )
    assert bits_of(ended.folder / "output.h5") == one_rank
    assert {path.name for path in ended.folder.iterdir()} >= {"output.h5", "report.json"}
    assert (site.folder / "build" / "kmeans" / "input-48x32.h5").is_file()
    wait_until_free(site)


@pytest.mark.parametrize("mpi", Mpi)
def test_kmeans_by_the_mpiexec_of_the_library(
    site: Site, one_rank: dict[str, bytes], mpi: Mpi
) -> None:
    """Where Slurm cannot start the ranks; they are on both nodes all the same."""
    environment = {**SMALL, "LAUNCHER": "own"}
    ended = site.run("slurm/kmeans.sh", mpi=mpi, environment=environment)
    assert (ended.job.state, ended.job.exit_code) == ("COMPLETED", 0), ended.log
    ended.told(rf"^job: 4 ranks of .* by: .*{mpi.value}/bin/mpiexec -n 4 ")
    assert bits_of(ended.folder / "output.h5") == one_rank


@pytest.mark.parametrize("mpi", Mpi)
def test_the_mpiexec_of_the_library_uses_all_nodes(site: Site, mpi: Mpi) -> None:
    hosts = "import os; os.system('hostname')"
    launch = f'source slurm/lib.sh; choose_launcher; exec "${{launch[@]}}" $PYTHON -c "{hosts}"'
    script = site.folder / "where.sh"
    script.write_text(f"#!/bin/bash\nlaunch=()\n{launch}\n")
    ended = site.run(
        "-N2", "--ntasks-per-node=2", "--output=%x-%j.out", "where.sh",
        mpi=mpi, environment={"LAUNCHER": "own"},
    )  # fmt: skip
    nodes = re.findall(r"^node\d$", ended.log, re.MULTILINE)
    assert sorted(nodes) == sorted(2 * sorted(set(nodes))), ended.log
    assert len(nodes) == 4, ended.log


def test_primes(site: Site) -> None:
    ended = site.run("-N3", "--ntasks-per-node=1", "slurm/primes.sh", "-D", "LIMIT=20000")
    assert ended.job.exit_code == 0, ended.log
    ended.told(r"^job: 3 ranks of MPICH", rf"^{count_primes(20_000)}$", r"^primes\.dasm: the prog")


def test_a_program_of_the_users_own(site: Site) -> None:
    """Paths are those of the folder where the job was submitted; {run} is the job's folder."""
    (site.folder / "mine.dasm").write_text(
        "        .array value, sq, 1\n        .text\n"
        "main:   .runner set, heap=[value]\n        exit:c\n"
        "set:    mov $42, value\n        exit:c\n"
    )
    ended = site.run("-N1", "slurm/job.sh", "mine.dasm", "--out", "value={run}/value.npy")
    assert ended.job.exit_code == 0, ended.log
    assert np.load(ended.folder / "value.npy").tolist() == [42]


def test_array(site: Site) -> None:
    """{task} is the number of the task; each has a log and a folder of its own."""
    limits = {3: 3000, 4: 4000}
    first = site.submit(
        "--array=3-4", "-N1", "slurm/job.sh", "jobs/primes/primes.dasm", "-D", "LIMIT={task}000",
    )  # fmt: skip
    for task in limits:
        site.cluster.wait(f"{first}_{task}")
    logs = [path.read_text() for path in site.folder.glob("dvm-*.out")]
    assert len(logs) == len(list((site.folder / "runs").iterdir())) == len(limits)
    for limit in limits.values():
        assert any(f"\n{count_primes(limit)}\n" in log for log in logs), logs


# --- refusals ----------------------------------------------------------------------------------
@pytest.mark.parametrize(("mpi", "command"), [(Mpi.MPICH, "srun"), (Mpi.OPEN_MPI, "yhrun")])
def test_worlds_of_one_rank_are_refused(cluster: Cluster, mpi: Mpi, command: str) -> None:
    """A plain srun would run the program four times, and let them write over each other's files."""
    ended = cluster.run(
        command, "-N2", "-n4", mpi.python, "-m", "dvm_mpi", "jobs/primes/primes.dasm"
    )
    assert ended.code == 8, ended
    assert ended.out == ""
    assert "srun without --mpi started 4 tasks that know nothing of each other" in ended.err
    kind = "pmi2" if mpi is Mpi.MPICH else "pmix"
    assert f"start with: srun --mpi={kind} -n 4" in ended.err
    assert ended.err.count("dvm: error") == 1, ended.err


def test_a_trap_is_the_exit_code_of_the_job(site: Site) -> None:
    ended = site.run("slurm/job.sh", BUSY, "-D", "TRAP_ROUND=3")
    assert (ended.job.state, ended.job.exit_code) == ("FAILED", 5), ended.log
    ended.told("trap: division by zero", r"^job: ended with code 5 \(docs/operations.md#exit-codes")
    assert list(ended.folder.glob("dvm-postmortem-*.txt"))


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (("slurm/job.sh",), {}, r"^job: error: which program\?"),
        (
            ("slurm/job.sh", BUSY),
            {"PYTHON": "/nowhere/python"},
            r"there is no /nowhere/python on n",
        ),
        (("slurm/kmeans.sh",), {"KMEANS_POINTS": "none.h5"}, r"there is no file none\.h5"),
    ],
    ids=["program", "python", "points"],
)
def test_what_is_missing_is_told(
    site: Site, arguments: tuple[str, ...], environment: dict[str, str], message: str
) -> None:
    ended = site.run(*arguments, environment=environment)
    assert (ended.job.state, ended.job.exit_code) == ("FAILED", 8), ended.log
    ended.told(message)


def test_the_wrong_folder_is_told(cluster: Cluster, tmp_path: Path) -> None:
    job = cluster.submit(str(ROOT / "slurm" / "primes.sh"), folder=tmp_path)
    assert cluster.wait(job).exit_code == 8
    told = (tmp_path / f"primes-{job}.out").read_text()
    assert told.endswith("submit from DVM's folder, or set DVM_HOME to it\n"), told


# --- ends before the time ----------------------------------------------------------------------
@pytest.mark.parametrize("mpi", Mpi)
def test_cancelled_job_ends_in_order(site: Site, mpi: Mpi) -> None:
    job = site.submit("slurm/job.sh", BUSY, mpi=mpi)
    site.until_under_way(job)
    assert site.cluster.run("scancel", str(job)).code == 0
    ended = site.wait(job)
    assert ended.job.state == "CANCELLED", ended.log
    ended.told(r"CANCELLED AT")
    ended.told(
        r"^dvm: ended by SIG(TERM|USR1); what had been committed was printed$",
        r"^busy\.dasm: ended on request",
        r"^  runners  [\d,]+: [1-9]",
        r"^  what was known then: .*dvm-postmortem-",
    )
    (note,) = ended.folder.glob("dvm-postmortem-*.txt")
    assert "The run ended before the program did: ended on request" in note.read_text()
    wait_until_free(site)


def wait_until_free(site: Site, *nodes: str) -> None:
    """Wait until no node is busy with the rest of a job, and look at what is left."""
    site.cluster.wait_until_free()
    site.cluster.assert_nothing_is_left(*nodes)


def test_the_time_limit_ends_a_run_in_order(site: Site) -> None:
    """Slurm sends the signal up to a minute early: the limit is set when the run is under way."""
    job = site.submit("--time=10", "--signal=B:USR1@35", "slurm/job.sh", BUSY)
    site.until_under_way(job)
    site.cluster.shorten(job, 45)
    ended = site.wait(job)
    assert (ended.job.state, ended.job.exit_code) == ("FAILED", 143), ended.log
    ended.told(r"^job: the time limit is near: the ranks are asked to end$")
    ended.told(
        r"^dvm: ended by SIGUSR1; what had been committed was printed$",
        r"^busy\.dasm: ended on request",
        r"^job: ended with code 143",
    )
    wait_until_free(site)


@pytest.fixture
def breakable(tmp_path: Path, own_cluster: Callable[..., Cluster]) -> Callable[[int], Site]:
    """Return what makes a site of three nodes; its Slurm notices so late when one is lost."""
    return lambda lost_s: Site(own_cluster(node_count=3, lost_s=lost_s), tmp_path)


def lose_a_node(site: Site, mpi: Mpi) -> int:
    """Take a node from a job; no packet tells of its end. Return the job."""
    job = site.submit("-N3", "--ntasks-per-node=1", "slurm/job.sh", BUSY, mpi=mpi)
    site.until_under_way(job)
    site.cluster.take_down("node3")
    return job


@pytest.mark.parametrize("mpi", Mpi)
def test_a_lost_node_ends_the_run(breakable: Callable[[int], Site], mpi: Mpi) -> None:
    """DVM names the rank that is silent, and ends the run, long before Slurm gives the node up."""
    site = breakable(60)
    job = lose_a_node(site, mpi)
    deadline = time.monotonic() + PATIENCE_S
    # Slurm keeps the job until it knows what became of the node, and srun --mpi=pmix the step.
    while (ended := re.search(r"^job: ended with code (\d+)", site.log(job), re.M)) is None:
        assert time.monotonic() < deadline, site.log(job)
        time.sleep(POLL_S)
    log = site.log(job)
    assert int(ended[1]) != 0, log
    # Where others wait for it "no progress" is told before; they may as well get on without it.
    assert "rank 2 on node3: no answer for 20 s" in log, log
    (note,) = site.folder.glob("runs/*/dvm-postmortem-*.txt")
    assert "rank 2" in note.read_text()
    wait_until_free(site, "node1", "node2")


def test_a_node_that_slurm_gives_up_ends_the_job(breakable: Callable[[int], Site]) -> None:
    site = breakable(15)
    ended = site.wait(lose_a_node(site, Mpi.MPICH))
    assert ended.job.state == "NODE_FAIL", ended
    # Whoever was first: Slurm, or, where its daemons are late, DVM.
    ended.told(r"DUE TO NODE FAILURE|rank 2 on node3: no answer for 20 s")
    wait_until_free(site, "node1", "node2")


def test_one_machine_in_two_clusters_is_two(
    cluster: Cluster, own_cluster: Callable[..., Cluster]
) -> None:
    """Several clusters exist at the same time, and each has its own nodes."""
    other = own_cluster(node_count=1)
    assert other.run("srun", "hostname").out == "node1\n"
    other.take_down("node1")
    assert cluster.on("node1", "true").code == 0
