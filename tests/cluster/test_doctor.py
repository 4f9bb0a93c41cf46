"""`doctor` on hosts that have a network between them, and under a Slurm that starts them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from dvm_mpi.errors import ExitCode
from tests.cluster.cluster import Cluster, Mpi

HOSTS = ["node1", "node2"]


@pytest.mark.parametrize("mpi", list(Mpi))
def test_ranks_of_two_hosts(cluster: Cluster, tmp_path: Path, mpi: Mpi) -> None:
    """No progress of the library's own there, and a run says so in the same words."""
    report = tmp_path / "doctor.json"
    doctor = [mpi.python, "-m", "dvm_mpi", "doctor"]
    line = [*doctor, "--json", str(report), "--folder", str(tmp_path)]
    ended = cluster.run(*cluster.hosts_command(mpi, 4, HOSTS, line))
    assert ended.code == 0, ended
    told = json.loads(report.read_text())
    found = {row["subject"]: row for row in told["findings"]}
    assert told["hosts"] == ["node1", "node1", "node2", "node2"]
    assert found["progress"]["level"] == "slow", ended.out
    assert "does not let others read its memory in time" in found["progress"]["what"]
    assert {"within hosts", "between hosts"} <= found.keys()
    assert found["writing"]["level"] != "wrong"
    hello = [mpi.python, "-m", "dvm_mpi", "jobs/hello/hello.dasm", "--memory", "64M"]
    ran = cluster.run(*cluster.hosts_command(mpi, 4, HOSTS, hello))
    assert ran.code == 0, ran
    assert f"dvm: {found['progress']['what']}" in ran.err


def test_a_folder_of_each_host(cluster: Cluster) -> None:
    line = [Mpi.MPICH.python, "-m", "dvm_mpi", "doctor", "--folder", "/dev/shm"]
    ended = cluster.run(*cluster.hosts_command(Mpi.MPICH, 4, HOSTS, line))
    assert ended.code == ExitCode.FILE, ended
    assert "/dev/shm is not shared" in ended.out
    assert "at ranks 2-3 on node2" in ended.out


@pytest.mark.parametrize(("mpi", "plugin"), [(Mpi.MPICH, "pmi2"), (Mpi.OPEN_MPI, "pmix")])
def test_an_srun_that_starts_worlds_of_one(cluster: Cluster, mpi: Mpi, plugin: str) -> None:
    dvm = (mpi.python, "-m", "dvm_mpi")
    worlds = cluster.run("srun", "-N", "2", "-n", "4", *dvm, "doctor", "--quick")
    assert worlds.code == ExitCode.LAUNCH, worlds
    what = "srun without --mpi started 4 tasks that know nothing of each other"
    assert worlds.out.count(what) == 1, worlds
    assert f"srun --mpi={plugin} -n 4" in worlds.out
    run = cluster.run("srun", "-N", "2", "-n", "4", *dvm, "jobs/hello/hello.dasm")
    assert run.code == ExitCode.LAUNCH, run
    assert run.err.count(f"dvm: error: {what}") == 1, run
    one = cluster.run("srun", f"--mpi={plugin}", "-N", "2", "-n", "4", *dvm, "doctor", "--quick")
    assert one.code == 0, one
    assert "4 tasks on 2 nodes" in one.out
    assert re.search(r"4 ranks on 2 hosts \(node\d, node\d\)", one.out), one.out
