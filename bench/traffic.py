"""What moves between ranks in an iteration of k-means, and what must: `make traffic`.

Runs the job with few iterations and with more; the difference has no start-up in it, nor the first
look at the points, nor the wave that labels. What must move follows from the job's sizes, the homes
of its arrays, and one rule: whoever touches a page that has changed since it last had it gets all
of the page, unless its own home has it; whoever stores bytes sends them to their home, once.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.launch import ROOT, TIMEOUT_S, launcher
from dvm_mpi.disa.assembler import assemble_file
from dvm_mpi.disa.image import Image
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.layout import PAGE_BYTES, PAGE_SHIFT

JOB: Final = "jobs/kmeans/kmeans.dasm"
#: Iterations of the two runs.
FEW: Final = 5
MANY: Final = 20
#: What is promised: payload that moves, as a multiple of what must.
RATIO_MAX: Final = 1.5


@dataclass(frozen=True, slots=True)
class Needed:
    """What must move between ranks in one iteration."""

    #: Pages that a rank loads from or stores to, changed since, and not of its own home.
    pages: int
    #: Stored bytes whose home is another rank than the one that stores them.
    stored_bytes: int

    @property
    def payload_bytes(self) -> int:
        """All content."""
        return self.pages * PAGE_BYTES + self.stored_bytes


def needed(image: Image, rank_count: int) -> Needed:
    """Count for k-means on ranks that all work, parts dealt out in equal shares of neighbours.

    A part touches its points, which do not change, all centroids, its own sums and its own cell of
    `done`. `combine` touches all sums, all of `done` and the centroids; it runs on the rank at
    home of most sums, where it needs least.
    """
    geometry = Geometry(rank_count)
    centroids, sums, done = (image.arrays[name] for name in ("centroids", "sums", "done"))
    parts = sums.shape[0]
    sums_bytes, cell_bytes = sums.byte_count // parts, done.byte_count // parts
    home_pages = geometry.home_of(_pages(sums.address, sums.byte_count))
    combiner = int(np.bincount(home_pages, minlength=rank_count).argmax())
    pages, stored = 0, 0
    for rank in range(rank_count):
        own = range(rank * parts // rank_count, (rank + 1) * parts // rank_count)
        writes = [(sums.address + part * sums_bytes, sums_bytes) for part in own]
        writes += [(done.address + part * cell_bytes, cell_bytes) for part in own]
        touched = [(centroids.address, centroids.byte_count), *writes]
        if rank == combiner:
            writes.append((centroids.address, centroids.byte_count))
            touched += [(sums.address, sums.byte_count), (done.address, done.byte_count)]
        all_pages = np.unique(np.concatenate([_pages(*each) for each in touched]))
        pages += int((geometry.home_of(all_pages) != rank).sum())
        stored += sum(_bytes_elsewhere(geometry, rank, *each) for each in writes)
    return Needed(pages, stored)


def _pages(start: int, length: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.arange(start >> PAGE_SHIFT, (start + length - 1 >> PAGE_SHIFT) + 1)


def _bytes_elsewhere(geometry: Geometry, rank: int, start: int, length: int) -> int:
    homes = geometry.home_of(np.arange(start, start + length) >> PAGE_SHIFT)
    return int((homes != rank).sum())


@dataclass(frozen=True, slots=True)
class Moved:
    """What moved between ranks in one iteration, in bytes but for the messages."""

    fetched: float
    stored: float
    control: float
    messages: float

    @property
    def payload(self) -> float:
        """All content."""
        return self.fetched + self.stored


def run_job(starter: Sequence[str], plane: str, iterations: int, defines: Iterable[str]) -> Any:
    """Run the job, and return what its report says of traffic between ranks."""
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as folder:
        report = Path(folder) / "report.json"
        options = [f"-D{define}" for define in (*defines, f"ITERATIONS={iterations}")]
        command = [*starter, sys.executable, "-m", "dvm_mpi", JOB, *options]
        command += ["--quiet", "--memory", "256M", "--data-plane", plane, "--report", str(report)]
        done = subprocess.run(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            check=False, timeout=TIMEOUT_S,
        )  # fmt: skip
        if done.returncode or f"{iterations} iterations" not in done.stdout:
            sys.exit(f"bench: {shlex.join(command)}: {done.returncode}\n{done.stderr}")
        told = json.loads(report.read_text())
    if told["workers"] < told["ranks"]:
        sys.exit("bench: a rank did not work; the compiled interpreter was not there yet")
    return told["traffic"]["between_ranks"]


def measure(starter: Sequence[str], plane: str, defines: Sequence[str]) -> Moved:
    """Return what an iteration moves: the difference of two runs."""
    few, many = (run_job(starter, plane, count, defines) for count in (FEW, MANY))
    each = {name: (many[name] - few[name]) / (MANY - FEW) for name in many}
    return Moved(each["payload_fetched"], each["payload_stored"], each["control"], each["messages"])


def line(plane: str, samples: Sequence[Moved], need: Needed) -> str:
    """Return a row of the table: medians."""
    fetched, stored, control, messages = (
        statistics.median(getattr(sample, name) for sample in samples)
        for name in ("fetched", "stored", "control", "messages")
    )
    payloads = sorted(sample.payload for sample in samples)
    payload = statistics.median(payloads)
    return (
        f"| {plane:7} | {payload:9,.0f} | {payloads[0]:7,.0f} – {payloads[-1]:7,.0f} "
        f"| {fetched:9,.0f} | {stored:8,.0f} | {need.payload_bytes:8,} "
        f"| {payload / need.payload_bytes:5.2f} | {control:9,.0f} | {messages:8,.0f} |"
    )


def main() -> int:
    """Run as a command; the status tells whether the promise was kept."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--planes", nargs="+", default=["rma", "message"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-D", dest="defines", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--starter", help="all words before Python's (default: mpiexec -n RANKS)")
    options = parser.parse_args()
    starter = [launcher(), "-n", str(options.ranks)]
    if options.starter is not None:
        starter = shlex.split(options.starter)
    image = assemble_file(ROOT / JOB, dict(define.split("=") for define in options.defines))
    need = needed(image, options.ranks)
    print(f"needed in an iteration: {need.pages} pages and {need.stored_bytes:,} stored bytes")
    print("| plane   |   payload | least and most    |   fetched |   stored "
          "|   needed | ratio |   control | messages |")  # fmt: skip
    samples: dict[str, list[Moved]] = {plane: [] for plane in options.planes}
    for _ in range(options.rounds):
        for plane, found in samples.items():
            found.append(measure(starter, plane, options.defines))
    for plane, found in samples.items():
        print(line(plane, found, need), flush=True)
    worst = max(statistics.median(s.payload for s in found) for found in samples.values())
    return int(worst > RATIO_MAX * need.payload_bytes)


if __name__ == "__main__":
    sys.exit(main())
