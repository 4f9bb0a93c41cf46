"""What an attempt costs by what it touches: `python -m bench.touching`.

Attempts that touch none, one, a hundred and more pages go straight into an engine, whose view holds
the snapshot already. Processor time of this thread for entering, executing and leaving, without
what an attempt that touches nothing takes; kinds and numbers are sampled in turn. What an attempt
touches is all that it should cost: so each page should take the same.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from typing import Final

import numpy as np

from bench.machine import ROOT
from bench.short_runners import STACK_BYTES, Subject, make_batch
from dvm_mpi import config
from dvm_mpi.disa.assembler import assemble_file
from dvm_mpi.engine.interface import GRANT, AttemptBatch, EngineSettings
from dvm_mpi.engine.interp import InterpEngine

KINDS: Final = {
    "private": "stores to private memory",
    "loads": "loads from a snapshot",
    "stores": "stores to a snapshot, undone at the end",
}
COUNTS: Final = (0, 1, 10, 100, 1_000, 4_096)
#: Pages of one sample, at least, so that the clock's steps do not matter.
SAMPLE_PAGES: Final = 20_000
ATTEMPTS_MAX: Final = 2_000


def _batch(subject: Subject, kind: str, pages: int) -> AttemptBatch:
    count = min(max(SAMPLE_PAGES // max(pages, 1), 1), ATTEMPTS_MAX)
    grants = np.zeros((count, 1), GRANT)
    data = subject.image.arrays["data"]
    grants["start"], grants["length"] = data.address, data.byte_count
    words = np.full((count, 1), pages, np.int64)
    return make_batch(subject.attempts(kind, count), grants, words)


def _sample_ns(subject: Subject, kind: str, pages: int) -> float:
    """Return the processor time of one attempt."""
    subject.run(_batch(subject, kind, pages))
    batch = _batch(subject, kind, pages)
    began = time.thread_time_ns()
    subject.run(batch)
    return (time.thread_time_ns() - began) / len(batch.attempts)


def main() -> None:
    """Run as a command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    image = assemble_file(ROOT / "bench/programs/touching.dasm", {})
    settings = EngineSettings(STACK_BYTES, 0, False, config.CACHE_BYTES_DEFAULT, time.time_ns)
    engine = InterpEngine(settings)
    engine.load(image, b"")
    subject = Subject(image, engine)
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors, as it begins")
    samples: dict[tuple[str, int], list[float]] = {}
    for _ in range(options.rounds):
        for kind in KINDS:
            for pages in COUNTS:
                samples.setdefault((kind, pages), []).append(_sample_ns(subject, kind, pages))
    engine.close()
    medians = {key: statistics.median(values) for key, values in samples.items()}
    print("| pages touched by an attempt: | ns, none | " + " | ".join(map(str, COUNTS[1:])) + " |")
    print("|---" * (len(COUNTS) + 1) + "|")
    for kind, words in KINDS.items():
        none = medians[kind, 0]
        each = [f"{(medians[kind, pages] - none) / pages:,.0f}" for pages in COUNTS[1:]]
        print(f"| {words}, ns a page | {none:,.0f} | {' | '.join(each)} |")


if __name__ == "__main__":
    main()
