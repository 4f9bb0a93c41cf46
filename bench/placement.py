"""What moves between ranks, and how long it takes, by policy: `python -m bench.placement`.

Each job runs with one iteration and with more, under each policy in turn; the difference has no
start-up in it, nor the first look at the data. Results must be the same under all policies. On four
virtual hosts (`tests/cluster/up.sh`, with RATE=1gbit for links like that) name the launcher with
`--starter`. `--slow RANK` runs each policy also with a rank that is stopped most of the time, and
`--migration off on` each without and with pages that move home.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.cpu_share import ranks_of
from bench.launch import ROOT, TIMEOUT_S, launcher
from dvm_mpi.control.policies import PLACEMENTS

_SHOWN_PER_MB: Final = 1e6
#: A slowed rank goes on for so long, and is stopped for so long, in turn.
GOES_S: Final = 0.01
STOPS_S: Final = 0.05
#: Where launchers tell a process its rank.
_RANK_NAMES: Final = (b"PMI_RANK", b"PMIX_RANK", b"OMPI_COMM_WORLD_RANK")


@dataclass(frozen=True, slots=True)
class Job:
    """A job, what says how many iterations it has, and the array that it leaves."""

    name: str
    repeats: str
    few: int
    many: int
    #: The array after `few` and after `many` iterations.
    results: tuple[str, str]
    defines: tuple[str, ...] = ()
    #: The program's name, if it is not the job's.
    program: str = ""

    @property
    def path(self) -> str:
        """The program."""
        program = self.program or self.name
        return f"jobs/{program}/{program}.dasm"


JOBS: Final = {
    job.name: job
    for job in (
        Job("kmeans", "ITERATIONS", 1, 6, ("centroids", "centroids"),
            ("N=400000", "K=4", "LABELS=0")),
        Job("stencil", "ITERATIONS", 1, 11, ("other", "other")),
        # More runners than there are on 512 rows: what it computes takes longer than its messages.
        Job("plate", "ITERATIONS", 1, 21, ("other", "other"),
            ("ROWS=2048", "COLS=512", "PARTS=128"), "stencil"),
        # Parts of eight blocks each: wherever a part goes, most of it is at home elsewhere.
        Job("slabs", "ITERATIONS", 1, 21, ("other", "other"),
            ("ROWS=2048", "COLS=512", "PARTS=16"), "stencil"),
        Job("matmul", "ROUNDS", 1, 3, ("c", "c"), ("TILES=8", "TILE=64")),
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Variant:
    """A policy, the rank that is slowed, or -1, and whether pages move home: on or off."""

    policy: str
    slow: int = -1
    migration: str = "off"

    @property
    def name(self) -> str:
        """The variant, in a word or two."""
        slow = ", slow" if self.slow >= 0 else ""
        return f"{self.policy}{slow}{', move' if self.migration == 'on' else ''}"


@dataclass(frozen=True, slots=True)
class Moved:
    """What one run moved between ranks, in bytes, how long it worked, and what it left.

    `instructions`: of each rank.
    """

    payload: float
    control: float
    work_s: float
    digest: str
    instructions: tuple[int, ...] = ()


def _find_rank(launcher_pid: int, rank: int) -> int | None:
    """Return the process of a rank, if it has started."""
    for pid in ranks_of(launcher_pid):
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        if any(b"%s=%d" % (name, rank) in words for name in _RANK_NAMES):
            return pid
    return None


@contextmanager
def slowed(launcher_pid: int, rank: int) -> Iterator[None]:
    """Stop a rank of a launcher's run most of the time, from its start on."""
    is_over = threading.Event()

    def stop_and_go() -> None:
        pid = None
        while not is_over.wait(GOES_S):
            with suppress(ProcessLookupError, FileNotFoundError):
                if pid is None:
                    pid = _find_rank(launcher_pid, rank)
                    continue
                os.kill(pid, signal.SIGSTOP)
                time.sleep(STOPS_S)
                os.kill(pid, signal.SIGCONT)

    thread = threading.Thread(target=stop_and_go)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def run(starter: Sequence[str], job: Job, is_long: bool, plane: str, variant: Variant) -> Moved:
    """Run a job and return what its report says."""
    repeats = job.many if is_long else job.few
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as folder:
        report, result = Path(folder) / "report.json", Path(folder) / "result.npy"
        defines = [f"-D{define}" for define in (*job.defines, f"{job.repeats}={repeats}")]
        command = [*starter, sys.executable, "-m", "dvm_mpi", job.path, *defines]
        command += ["--placement", variant.policy, "--data-plane", plane]
        command += ["--migration", variant.migration]
        command += ["--quiet", "--memory", "256M", "--report", str(report)]
        command += ["--out", f"{job.results[is_long]}={result}"]
        _finish(command, variant.slow)
        told = json.loads(report.read_text())
        digest = hashlib.sha256(result.read_bytes()).hexdigest()
    between = told["traffic"]["between_ranks"]
    payload = between["payload_fetched"] + between["payload_stored"]
    executed = tuple(told["by_rank"]["instructions"])
    return Moved(payload, between["control"], told["work_s"], digest, executed)


def _finish(command: Sequence[str], slow: int) -> None:
    """Run a command to its end, with a rank that is slowed unless `slow` is -1."""
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            if slow < 0:
                _, errors = process.communicate(timeout=TIMEOUT_S)
            else:
                with slowed(process.pid, slow):
                    _, errors = process.communicate(timeout=TIMEOUT_S)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        sys.exit(f"bench: {shlex.join(command)}: {process.returncode}\n{errors}")


def measure(
    starter: Sequence[str], job: Job, plane: str, variant: Variant
) -> tuple[Moved, tuple[str, str]]:
    """Return what the iterations after the first moved, and the results of both runs."""
    few, many = (run(starter, job, is_long, plane, variant) for is_long in (False, True))
    moved = Moved(
        many.payload - few.payload,
        many.control - few.control,
        many.work_s - few.work_s,
        many.digest,
        many.instructions,
    )
    return moved, (few.digest, many.digest)


def line(job: Job, variant: Variant, samples: Sequence[Moved]) -> str:
    """Return a row of the table: medians, for one iteration."""
    count = job.many - job.few
    payload, control, work_s = (
        statistics.median(getattr(sample, name) for sample in samples) / count
        for name in ("payload", "control", "work_s")
    )
    slow = ""
    if variant.slow >= 0:
        shares = [m.instructions[variant.slow] / sum(m.instructions) for m in samples]
        slow = f" rank {variant.slow} had {statistics.median(shares):.0%} of all instructions"
    return (
        f"| {job.name:8} | {variant.name:12} | {payload / _SHOWN_PER_MB:9.3f} "
        f"| {control / _SHOWN_PER_MB:9.3f} | {work_s:8.3f} |{slow}"
    )


def main() -> int:
    """Run as a command; the status tells whether all policies left the same results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--jobs", nargs="+", default=list(JOBS), choices=list(JOBS))
    parser.add_argument("--policies", nargs="+", default=["data", "random"], choices=PLACEMENTS)
    parser.add_argument("--migration", nargs="+", default=["off"], choices=["off", "on"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plane", default="auto", help="of --data-plane")
    parser.add_argument(
        "--slow", type=int, metavar="RANK", help="slow a rank, in runs of their own"
    )
    parser.add_argument("--starter", help="all words before Python's (default: mpiexec -n RANKS)")
    options = parser.parse_args()
    starter = [launcher(), "-n", str(options.ranks)]
    if options.starter is not None:
        starter = shlex.split(options.starter)
    slows = [-1] if options.slow is None else [-1, options.slow]
    variants = [
        Variant(policy, slow, migration)
        for slow in slows
        for policy in options.policies
        for migration in options.migration
    ]
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors, as it begins")
    is_same = True
    print("| job      | policy       | MB, pages | MB, other | seconds  |  of an iteration")
    for name in options.jobs:
        job = JOBS[name]
        samples: dict[Variant, list[Moved]] = {variant: [] for variant in variants}
        results = set()
        for _ in range(options.rounds):
            for variant, found in samples.items():
                moved, result = measure(starter, job, options.plane, variant)
                found.append(moved)
                results.add(result)
        for variant, found in samples.items():
            print(line(job, variant, found), flush=True)
        is_same = is_same and len(results) == 1
        print(f"| {name}: results {'are the same' if len(results) == 1 else 'DIFFER'}", flush=True)
    return int(not is_same)


if __name__ == "__main__":
    sys.exit(main())
