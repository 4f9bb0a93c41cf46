"""Runs an array that no rank could hold, and watches the memory of all ranks together.

`python -m tests.ranks.big --gib 8` runs `programs/big.dasm` with the `--memory` that `estimate`
names, and then with too little. The exit code is 0 only if the first run is right and stays within
its limit, and the second is refused at its start. Memory that ranks share counts once: each rank's
part of it is what the system calls its proportional set size (PSS).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from dvm_mpi.errors import ExitCode
from tests.ranks.launch import PROCESSES, ROOT, Ended, Launch

PROGRAM = ROOT / "tests" / "ranks" / "programs" / "big.dasm"
STEP = 0x9E3779B97F4A7C15
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
WORD_BYTES = 8
#: What each rank may take beside the array: interpreter, cached pages, staged bytes, old frames.
RANK_BYTES = GIB
#: What should be free beside that, for others on the machine.
SPARE_BYTES = GIB


@dataclass(slots=True)
class Memory:
    """The most that the processes of a launch have had, in bytes."""

    #: All processes together at the worst moment, and of that what they share.
    total: int = 0
    shared: int = 0
    #: By rank, each at its own worst moment.
    by_rank: dict[int, int] = field(default_factory=dict)

    def sample(self, launch: Launch) -> None:
        """Look at every process of the launch now."""
        rank_of = {pid: rank for rank, pid in launch.ranks().items()}
        total = shared = 0
        for pid in launch.processes():
            try:
                text = (PROCESSES / str(pid) / "smaps_rollup").read_text()
            except OSError:  # it ended meanwhile
                continue
            sizes = dict(line.split(":") for line in text.splitlines()[1:])
            pss = int(sizes["Pss"].split()[0]) * KIB
            total += pss
            shared += int(sizes["Pss_Shmem"].split()[0]) * KIB
            if pid in rank_of:
                rank = rank_of[pid]
                self.by_rank[rank] = max(self.by_rank.get(rank, 0), pss)
        if total > self.total:
            self.total, self.shared = total, shared


def expected(word_count: int) -> str:
    """Return what the program prints."""
    total = STEP * (word_count * (word_count - 1) // 2) % (1 << 64)
    signed = total - (1 << 64) if total >> 63 else total
    return f"{signed} is the sum, wrong words: 0\n"


def run(given: argparse.Namespace, memory: str, seen: Memory) -> Ended:
    """Run the program with that `--memory`, and watch what it takes."""
    dvm = (sys.executable, "-m", "dvm_mpi", str(PROGRAM), "-D", f"N={given.words}")
    options = ("--memory", memory, "--data-plane", given.plane, "--report", "report.json")
    with tempfile.TemporaryDirectory() as name:
        paths = {"PYTHONPATH": str(ROOT)}
        with Launch(given.ranks, (*dvm, *options), Path(name), paths) as launch:
            deadline = time.monotonic() + given.timeout
            while launch.process.poll() is None and time.monotonic() < deadline:
                seen.sample(launch)
                time.sleep(given.every)
            return launch.wait(max(deadline - time.monotonic(), 1))


def available_bytes() -> int:
    """Return how much memory the machine can give now."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    sizes = dict(line.split(":") for line in lines)
    return int(sizes["MemAvailable"].split()[0]) * KIB


def estimated(given: argparse.Namespace) -> str:
    """Return the `--memory` that `estimate` names."""
    command = (sys.executable, "-m", "dvm_mpi", "estimate", str(PROGRAM), "-D", f"N={given.words}")
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "estimate.json"
        asked = (*command, "-n", str(given.ranks), "--json", str(path))
        subprocess.run(asked, cwd=ROOT, check=True, stdout=sys.stderr)
        return str(json.loads(path.read_text())["memory_bytes"])


def main() -> int:
    """Run both; return whether something is not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tests.ranks.big", description=__doc__)
    parser.add_argument("--gib", type=float, default=8, help="size of the array")
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--memory", help="of each rank; default: what `estimate` names")
    parser.add_argument("--plane", default="auto")
    parser.add_argument("--timeout", type=float, default=900, help="seconds for each run")
    parser.add_argument("--every", type=float, default=0.5, help="seconds between two looks")
    given = parser.parse_args()
    array_bytes = int(given.gib * GIB)
    given.words = array_bytes // WORD_BYTES
    limit = array_bytes + given.ranks * RANK_BYTES
    if available_bytes() < limit + SPARE_BYTES:
        sys.exit(f"big: needs {(limit + SPARE_BYTES) / GIB:.1f} GiB of free memory")
    seen = Memory()
    ended = run(given, given.memory or estimated(given), seen)
    sys.stdout.write(ended.err)
    is_right = ended.code == 0 and ended.out == expected(given.words)
    is_within = seen.total <= limit
    refused = run(given, str(array_bytes // given.ranks // 2), Memory())
    is_refused = refused.code == ExitCode.LIMIT and "does not fit" in refused.err
    each = ", ".join(f"{seen.by_rank[rank] / GIB:.2f}" for rank in sorted(seen.by_rank))
    sys.stdout.write(
        f"{refused.err}\n"
        f"result: {'right' if is_right else f'WRONG: {ended}'}, {ended.seconds:.0f} s\n"
        f"memory: {seen.total / GIB:.2f} GiB in all ranks together, {seen.shared / GIB:.2f} of it "
        f"shared; at most {limit / GIB:.2f} allowed; by rank {each}"
        f"{'' if is_within else ': TOO MUCH'}\n"
        f"half the memory: {'refused' if is_refused else f'NOT REFUSED: {refused}'}\n"
    )
    return int(not (is_right and is_within and is_refused))


if __name__ == "__main__":
    sys.exit(main())
