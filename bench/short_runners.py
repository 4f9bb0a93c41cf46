"""What a short runner costs within the engine: `python -m bench.short_runners`.

Batches of attempts go straight into `begin`, `run` and `take_outcomes`, with fresh ids and stacks
for each attempt, as in a run, and pages that are cached already. Processor time of this thread,
which other processes hardly make longer; kinds and sizes are sampled in turn.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.machine import ROOT
from dvm_mpi import config
from dvm_mpi.disa.assembler import assemble_file
from dvm_mpi.disa.image import Image
from dvm_mpi.engine.interface import (
    ATTEMPT,
    GRANT,
    RUN,
    AttemptBatch,
    EngineSettings,
    Lease,
    LeaseKind,
    Reason,
)
from dvm_mpi.engine.interp import InterpEngine
from dvm_mpi.layout import (
    DATA_START,
    GUARD_BYTES,
    PAGE_BYTES,
    STACKS_END,
    STACKS_START,
    STATUS_AREAS,
    WORD_BYTES,
    stack_slot_bytes,
)

STACK_BYTES: Final = 8_192
SLOT_BYTES: Final = stack_slot_bytes(STACK_BYTES)
SIZES: Final = (64, 1_024, 4_096)
#: Attempts, or children, of one sample at least.
SAMPLE_ATTEMPTS: Final = 4_096
#: Ids or stacks of one lease.
LEASE_COUNT: Final = 1_024
FUEL: Final = 1 << 40
NEVER: Final = 1 << 40
#: As in jobs/treesum: a node is a sum and a flag.
NODE_BYTES: Final = 16
ARGUMENTS: Final = 3

#: Makes a batch of so many attempts, for an engine that is to run it.
Maker = Callable[["Subject", int], AttemptBatch]


@dataclass
class Subject:
    """One program on an engine, with what is left of the address space to hand out."""

    image: Image
    engine: InterpEngine
    next_id: int = STATUS_AREAS[0][0] + (1 << 34)
    next_stack: int = STACKS_START + (1 << 36) // SLOT_BYTES * SLOT_BYTES
    leases: dict[LeaseKind, int] = field(
        default_factory=lambda: {
            LeaseKind.ID: STATUS_AREAS[0][0],
            LeaseKind.STACK: STACKS_START,
            LeaseKind.MALLOC: 0,
        }
    )

    def attempts(self, entry: str, count: int) -> NDArray[Any]:
        """Return attempts with ids and automatic stacks of their own, without ranges or images."""
        rows = np.zeros(count, dtype=ATTEMPT)
        numbers = np.arange(count)
        rows["runner"] = numbers
        rows["id"] = self.next_id + numbers * PAGE_BYTES
        rows["entry"] = self.image.symbols[entry]
        rows["snapshot"] = 1
        rows["stack_base"] = self.next_stack + GUARD_BYTES + numbers * SLOT_BYTES
        rows["stack_bytes"] = STACK_BYTES
        rows["stack_automatic"] = 1
        self.next_id += count * PAGE_BYTES
        self.next_stack += count * SLOT_BYTES
        assert self.next_stack < STACKS_END
        return rows

    def run(self, batch: AttemptBatch) -> int:
        """Run a batch to its end and take what came of it; return the instructions."""
        engine = self.engine
        engine.begin(batch)
        while True:
            stopped = engine.run(FUEL)
            if stopped.reason is Reason.BATCH_DONE:
                return int(engine.take_outcomes().outcomes["instructions"].sum())
            if stopped.reason is Reason.PAGE_MISSED:
                page = np.array([stopped.page])
                one = np.ones(1, np.int64)
                engine.install(page, one, one * NEVER, np.zeros((1, PAGE_BYTES), np.uint8))
            else:
                assert stopped.lease is not None, stopped
                start = self.leases[stopped.lease]
                unit = PAGE_BYTES if stopped.lease is LeaseKind.ID else SLOT_BYTES
                end = self.leases[stopped.lease] = start + LEASE_COUNT * unit
                engine.grant_lease(Lease(stopped.lease, start, end))


def make_batch(
    attempts: NDArray[Any], grants: NDArray[Any] | None = None, words: NDArray[Any] | None = None
) -> AttemptBatch:
    """Return a batch; `grants` (n, k) and `words`, arguments on the stacks, (n, m), a row each."""
    count = len(attempts)
    numbers = np.arange(count)
    flat = np.zeros(0, GRANT)
    if grants is not None:
        attempts["grant_count"] = grants.shape[1]
        attempts["grant_first"] = numbers * grants.shape[1]
        flat = grants.reshape(-1)
    runs, data = np.zeros(0, RUN), np.zeros(0, np.uint8)
    if words is not None:
        runs = np.zeros(count, RUN)
        runs["start"] = attempts["stack_base"]
        runs["length"] = words.shape[1] * WORD_BYTES
        runs["data_first"] = numbers * words.shape[1] * WORD_BYTES
        attempts["image_first"], attempts["image_count"] = numbers, 1
        data = np.ascontiguousarray(words, dtype=np.int64).view(np.uint8).reshape(-1)
    return AttemptBatch(attempts, flat, runs, data)


# --- kinds --------------------------------------------------------------------------------------
def _empty(subject: Subject, count: int) -> AttemptBatch:
    return make_batch(subject.attempts("empty", count))


def _empty_with_image(subject: Subject, count: int) -> AttemptBatch:
    return make_batch(subject.attempts("empty", count), words=np.ones((count, ARGUMENTS), np.int64))


def _stacked(subject: Subject, count: int) -> AttemptBatch:
    return make_batch(subject.attempts("stacked", count))


def _parent(subject: Subject, count: int) -> AttemptBatch:
    """One attempt of empty.dasm, whose CHILDREN are set by whoever assembles it."""
    return make_batch(subject.attempts("parent", 1))


def _tree_places(subject: Subject, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return an address of a node and one of two integers for each of `count` leaves."""
    numbers = np.arange(count)
    integers = subject.image.arrays["integers"]
    leaves = integers.shape[0] // 2
    nodes = subject.image.symbols["nodes"] + (leaves + numbers % leaves) * NODE_BYTES
    return nodes, integers.address + numbers % leaves * NODE_BYTES


def _leaf(subject: Subject, count: int) -> AttemptBatch:
    nodes, integers = _tree_places(subject, count)
    grants = np.zeros((count, 2), GRANT)
    grants["start"] = np.sort(np.stack([nodes, integers], axis=1), axis=1)
    grants["length"] = NODE_BYTES
    words = np.stack([nodes, integers, np.full(count, NODE_BYTES)], axis=1)
    return make_batch(subject.attempts("leaf", count), grants, words)


def _inner(subject: Subject, count: int) -> AttemptBatch:
    """Watchers that find one flag missing: all memory is zero."""
    numbers = 1 + np.arange(count)
    first = subject.image.symbols["nodes"]
    nodes, children = first + numbers * NODE_BYTES, first + numbers * 2 * NODE_BYTES
    grants = np.zeros((count, 2), GRANT)
    grants["start"] = np.stack([nodes, children], axis=1)
    grants["length"] = [NODE_BYTES, 2 * NODE_BYTES]
    return make_batch(subject.attempts("inner", count), grants, np.stack([nodes, children], axis=1))


def _tree(subject: Subject, count: int) -> AttemptBatch:
    """The tree sum's first runner, which creates all leaves and all inner nodes."""
    grants = np.zeros((1, 1), GRANT)
    grants["start"], grants["length"] = DATA_START, 1 << 20
    return make_batch(subject.attempts("main", 1), grants)


@dataclass
class Kind:
    """One row of the table: attempts of a kind; per attempt, or per child that one creates."""

    name: str
    program: str
    maker: Maker
    sizes: tuple[int, ...] = SIZES
    per_child: bool = False


KINDS: Final = (
    Kind("empty", "bench/programs/empty.dasm", _empty),
    Kind("empty, 24 bytes on its stack", "bench/programs/empty.dasm", _empty_with_image),
    Kind("stores into its stack", "bench/programs/empty.dasm", _stacked),
    Kind("leaf of the tree sum", "jobs/treesum/treesum.dasm", _leaf),
    Kind("inner watcher that aborts", "jobs/treesum/treesum.dasm", _inner),
    Kind("parent, a child", "bench/programs/empty.dasm", _parent, per_child=True),
    Kind("tree sum's first, a child", "jobs/treesum/treesum.dasm", _tree, (20_480,), True),
)


@dataclass
class Series:
    """Samples of one kind and size: ns of processor time, page faults and instructions."""

    kind: Kind
    size: int
    subject: Subject
    ns: list[float] = field(default_factory=list)
    faults: list[float] = field(default_factory=list)
    instructions: float = 0.0

    def sample(self) -> None:
        """Run enough batches for one sample."""
        rounds = max(1, SAMPLE_ATTEMPTS // self.size)
        batches = [self.kind.maker(self.subject, self.size) for _ in range(rounds)]
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        began = time.thread_time_ns()
        for batch in batches:
            self.instructions = self.subject.run(batch) / self.size
        ns = time.thread_time_ns() - began
        faults = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before
        self.ns.append(ns / (rounds * self.size))
        self.faults.append(faults / (rounds * self.size))

    @property
    def row(self) -> str:
        """The samples as a row of the table."""
        return (
            f"| {self.kind.name} | {self.size:,} | {statistics.median(self.ns):,.0f} "
            f"| {min(self.ns):,.0f} | {statistics.median(self.faults):.2f} "
            f"| {self.instructions:.1f} |"
        )


def _series(kind: Kind, size: int) -> Series:
    defines = {}
    if kind.maker is _parent:
        defines = {"CHILDREN": str(size)}
    image = assemble_file(ROOT / kind.program, defines)
    settings = EngineSettings(STACK_BYTES, 0, False, config.CACHE_BYTES_DEFAULT, time.time_ns)
    engine = InterpEngine(settings)
    engine.load(image, b"")
    return Series(kind, size, Subject(image, engine))


def main() -> int:
    """Run as a command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="", metavar="TEXT", help="kinds with this in the name")
    parser.add_argument(
        "--runners", type=int, default=0, metavar="N",
        help="instead, run and create N empty runners, and tell the memory as they go",
    )  # fmt: skip
    options = parser.parse_args()
    if options.runners:
        _watch_memory(options.runners)
        return 0
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors, as it begins")
    chosen = [kind for kind in KINDS if options.only in kind.name]
    series = [_series(kind, size) for kind in chosen for size in kind.sizes]
    for one in series:
        one.sample()
        one.ns.clear()
        one.faults.clear()
    resident = _resident_bytes()
    for _ in range(options.rounds):
        for one in series:
            # Engines take turns in the view: the first batch of a turn is not measured.
            one.subject.run(one.kind.maker(one.subject, one.size))
            one.sample()
    print("| attempts | in a batch | ns each | best | page faults each | instructions each |")
    print("|---|---|---|---|---|---|")
    for one in series:
        print(one.row)
    print(
        f"memory: {resident >> 20} MiB after the first round, {_resident_bytes() >> 20} at the end"
    )
    return 0


def _watch_memory(runners: int) -> None:
    """Run and create many runners, each with an id and a stack of its own; tell the memory."""
    empty, stacked, parent = (
        _series(next(kind for kind in KINDS if kind.maker is maker), SAMPLE_ATTEMPTS).subject
        for maker in (_empty_with_image, _stacked, _parent)
    )
    for maker, subject in ((_empty_with_image, empty), (_stacked, stacked), (_parent, parent)):
        told = []
        for _ in range(5):
            for _ in range(runners // SAMPLE_ATTEMPTS // 5):
                subject.run(maker(subject, SAMPLE_ATTEMPTS))
            told.append(f"{_resident_bytes() / (1 << 20):.1f} ({_table_kib():,} KiB of tables)")
        print(f"{maker.__name__}: MiB after each fifth of {runners:,}: {', '.join(told)}")


def _table_kib() -> int:
    """Return what the system's page tables of this process take."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmPTE:")[1].split()[0])


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * PAGE_BYTES


if __name__ == "__main__":
    sys.exit(main())
