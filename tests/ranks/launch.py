"""Starts commands as ranks of an MPI job, and leaves none of them behind.

Every process of a launch carries one mark in its environment, by which it is found in /proc: ranks
outlive a launcher that is killed, and belong to no process group of ours. Linux only.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from uuid import uuid4

from tests.patience import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = Path("/proc")
#: In the environment of every process of a launch.
MARK = "DVM_TEST_LAUNCH"
#: What the launchers call a rank's number: hydra, Open MPI, Slurm.
RANK_VARIABLES = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID")
#: A rank that starts belongs to no launch of somebody else's.
FOREIGN = ("PMI", "PMIX_", "OMPI_COMM_", "HYDI_", "MPI_LOCAL")
POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Ended:
    """What a launch left: the launcher's exit code (negative: its signal), and all output."""

    code: int
    out: str
    err: str
    #: From the start until the last process was gone.
    seconds: float


def launcher() -> str:
    """Return the mpiexec that belongs to this environment's library, else the one on the PATH."""
    own = Path(sys.executable).parent / "mpiexec"
    found = str(own) if own.exists() else shutil.which("mpiexec")
    assert found is not None, "no mpiexec beside the interpreter, and none on the PATH"
    return found


def rank_in(environment: Mapping[str, str]) -> int | None:
    """Return the rank that a launcher gave to a process with this environment."""
    for name in RANK_VARIABLES:
        if name in environment:
            return int(environment[name])
    return None


class Launch:
    """One run of a launcher; at the end of the `with` block every process of it is killed.

    Parameters
    ----------
    rank_count
        Ranks to start; 0 starts the command alone, without a launcher.
    command
        What every rank executes.
    folder
        Working folder of all ranks; also takes their output, if it is kept.
    environment
        Added to the environment of this process.
    is_quiet
        Whether the output goes to files, for `Ended`, and not to the terminal.
    stdin
        Standard input of the launcher: a file descriptor, or one of the constants of subprocess.
    """

    def __init__(
        self,
        rank_count: int,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str] | None = None,
        *,
        is_quiet: bool = True,
        stdin: int = subprocess.DEVNULL,
    ) -> None:
        self._mark = uuid4().hex
        self._started = time.monotonic()
        self._out = folder / f"out-{self._mark}.txt"
        self._err = folder / f"err-{self._mark}.txt"
        own = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)}
        starter = [launcher(), "-n", str(rank_count)] if rank_count else []
        self._files: list[IO[bytes]] = []
        if is_quiet:
            self._files = [self._out.open("wb"), self._err.open("wb")]
        stdout, stderr = self._files or (None, None)
        self.process = subprocess.Popen(
            [*starter, *command],
            cwd=folder,
            env=own | dict(environment or {}) | {MARK: self._mark},
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            # Ctrl-C at the terminal is for the test, which then ends the launch.
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        for file in self._files:
            file.close()
        self._out.unlink(missing_ok=True)
        self._err.unlink(missing_ok=True)

    def _environments(self) -> dict[int, dict[str, str]]:
        """Return the environment of every live process of this launch, by process id."""
        wanted = f"{MARK}={self._mark}".encode()
        found = {}
        for entry in PROCESSES.iterdir():
            if not entry.name.isdigit():
                continue
            try:
                lines = (entry / "environ").read_bytes().split(b"\0")
            except OSError:  # it ended meanwhile, or is another user's
                continue
            if wanted in lines:
                pairs = (line.decode(errors="replace").partition("=") for line in lines)
                found[int(entry.name)] = {name: value for name, _, value in pairs}
        return found

    def processes(self) -> list[int]:
        """Return the ids of all live processes of this launch: launcher, ranks, their children."""
        return sorted(self._environments())

    def ranks(self) -> dict[int, int]:
        """Return the process id of each live rank, by rank; children that it started come later."""
        found: dict[int, int] = {}
        for pid, environment in sorted(self._environments().items()):
            rank = rank_in(environment)
            if rank is not None:
                found.setdefault(rank, pid)
        return found

    def output(self) -> tuple[str, str]:
        """Return standard output and standard error so far."""
        return self._out.read_text(errors="replace"), self._err.read_text(errors="replace")

    def wait(self, timeout_s: float) -> Ended:
        """Wait until the launcher and every rank has ended.

        Raises
        ------
        TimeoutError
            With what was printed; everything that was left has been killed.
        """
        deadline = time.monotonic() + timeout_s
        while self.process.poll() is None or self.processes():
            if time.monotonic() > deadline:
                left = self.processes()
                self.kill()
                out, err = self.output() if self._files else ("", "")
                raise TimeoutError(f"processes {left} after {timeout_s} s\n{out}\n{err}")
            time.sleep(POLL_S)
        out, err = self.output() if self._files else ("", "")
        assert self.process.returncode is not None
        return Ended(self.process.returncode, out, err, time.monotonic() - self._started)

    def kill(self) -> None:
        """Kill whatever is left of this launch."""
        while left := self.processes():
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            self.process.poll()
            time.sleep(POLL_S)
        self.process.wait()


def run_ranks(
    rank_count: int,
    *arguments: str,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = PATIENCE_S,
) -> Ended:
    """Run `python -m dvm_mpi ARGUMENTS` on that many ranks, to its end; see `Launch`."""
    paths = {"PYTHONPATH": str(ROOT)} | dict(environment or {})
    command = (sys.executable, "-m", "dvm_mpi", *arguments)
    with Launch(rank_count, command, folder, paths) as launch:
        return launch.wait(timeout_s)
