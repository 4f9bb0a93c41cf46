"""The cluster itself: nodes that are apart, jobs, ranks without Slurm, and nothing left behind."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cluster.cluster import ROOT, Cluster, Mpi
from tests.cluster.conftest import require
from tests.patience import PATIENCE_S

RANKS = "from mpi4py import MPI; import os, sys; c = MPI.COMM_WORLD; \
sys.stdout.write(f'rank {c.rank} {c.size} {os.uname().nodename} {c.allreduce(c.rank)}\\n')"


def test_nodes_are_apart(cluster: Cluster) -> None:
    assert sorted(cluster.run("srun", "-N4", "hostname").out.split()) == cluster.nodes
    cluster.on("node1", "touch", "/dev/shm/mine")
    assert cluster.shared_memory("node1") == ["mine"]
    assert cluster.shared_memory("node2") == []
    cluster.on("node1", "rm", "/dev/shm/mine")
    cluster.assert_nothing_is_left("node3")


@pytest.mark.parametrize("command", ["sbatch", "yhbatch"])
def test_a_job_is_followed(cluster: Cluster, tmp_path: Path, command: str) -> None:
    script = tmp_path / "job.sh"
    # However late it is looked at: it ends when it was seen.
    script.write_text(
        "#!/bin/sh\nuntil [ -e seen ]; do sleep 0.1; done\necho from the job\nexit 3\n"
    )
    job = cluster.submit("--output=log", str(script), command=command, folder=tmp_path)
    cluster.wait_until_running(job)
    (tmp_path / "seen").touch()
    ended = cluster.wait(job)
    assert (ended.name, ended.state, ended.exit_code) == ("job.sh", "FAILED", 3)
    assert (tmp_path / "log").read_text() == "from the job\n"


@pytest.mark.parametrize("mpi", Mpi)
def test_ranks_without_slurm(cluster: Cluster, mpi: Mpi) -> None:
    command = cluster.hosts_command(mpi, 4, cluster.nodes, [mpi.python, "-c", RANKS])
    ended = cluster.run(*command)
    assert ended.code == 0, ended
    assert sorted(ended.out.splitlines()) == [f"rank {n} 4 node{n + 1} 6" for n in range(4)]


def test_nothing_is_left(tmp_path: Path) -> None:
    """Also by a process that is killed while it has a cluster."""
    require()
    code = "from tests.cluster.cluster import Cluster\nimport time\n\
with Cluster(1) as c, c.started('sleep', '321'):\n\
    print(c.root, c.environment['SLURM_TEST_TAG'], flush=True); time.sleep(1e4)"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        root, tag = process.stdout.readline().split()
        assert Path(root, "run").is_dir()
        assert tag in subprocess.check_output(["ip", "netns"], text=True)
        process.kill()
    deadline = time.monotonic() + PATIENCE_S

    def is_left() -> bool:
        """Tell whether anything is; who removes all that goes last."""
        names = subprocess.check_output(["ip", "netns"], text=True)
        lines = subprocess.check_output(["ps", "-e", "-o", "args"], text=True).splitlines()
        runs = any(root in line or line == "sleep 321" for line in lines)
        return Path(root).exists() or tag in names or runs

    while is_left():
        assert time.monotonic() < deadline
        time.sleep(0.1)
