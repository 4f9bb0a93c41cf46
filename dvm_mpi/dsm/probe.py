"""Does a rank that computes let others read its memory? Measured once, when the windows are new.

Some transports move one-sided data only while the target looks at its messages. A home would then
answer a read as late as its worker pleases, and content had better travel in messages.

Times alone cannot tell: on a full machine a rank is late because it has no core. So the content
of the reads tells. In each pair of ranks the target writes BUSY into its own memory, computes for
PROBE_BUSY_S without a call of MPI, and writes that it has done; its partner reads all the time. A
read that brought BUSY was served by a rank that computed, whenever that was. PROBE_READS of them in
one busy stretch show that reads go through, at no more than PROBE_BUSY_S / PROBE_READS each; the
partner then says by a write that it is satisfied, and the target sees it without MPI. A stretch in
which the partner had no core proves nothing: it has not looked PROBE_LOOKS_MIN times in vain, which
takes it a tenth of a stretch. There are PROBE_ATTEMPTS with so many looks.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Generator
from enum import IntEnum
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from dvm_mpi import config
from dvm_mpi.values import dataclass

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]

#: The tag of the partners' messages; no other messages may be received by it.
_TAG: Final = 2
_NAP_S: Final = 20e-6
#: What a partner sends when no attempt follows.
_NO_MORE: Final = -1

#: Bytes of one read: two pages.
READ_BYTES: Final = 8_192


class Cell(IntEnum):
    """Offsets in the mailbox of a target; both cells are one byte."""

    #: Written by the target: 0 at first, `_busy(attempt)`, `_done(attempt)`. Part of what is read.
    STATE = 0
    #: Written by its partner: 1 + the attempt that it is satisfied with.
    SATISFIED = READ_BYTES


#: What a target needs of its mailbox.
MAILBOX_BYTES: Final = READ_BYTES + 8
#: States are one byte.
assert 2 * config.PROBE_ATTEMPTS_MAX <= np.iinfo(np.uint8).max


class ProbedWindows(Protocol):
    """What is measured: `window.Windows`."""

    comm: Any
    rank: int
    mailbox: Bytes

    @property
    def is_unified(self) -> bool:
        """Whether a rank's loads see what others write."""

    def read_mailbox(self, rank: int, offset: int, target: Bytes) -> Any:
        """Begin to read; return requests that are complete when `Testall` says so."""

    def write_mailbox(self, rank: int, offset: int, data: Bytes) -> None:
        """Write."""


class LoadableWindows(Protocol):
    """Windows whose memory other ranks may be able to load."""

    comm: Any
    rank: int

    @property
    def is_unified(self) -> bool:
        """Whether a rank's loads see what others write."""

    def memory_of(self, rank: int) -> Bytes | None:
        """Return a rank's memory if it can be loaded from here."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What all ranks know after the probe, the same on each.

    `slowest_us`: the median time of a read in the slowest pair in which reads went through, by its
    partner's clock; 0 if there was none.
    """

    answers: bool
    pair_count: int
    slowest_us: int

    @property
    def remark(self) -> str:
        """What is told where windows are of no use."""
        return f"{self}: data travels in messages"

    def __str__(self) -> str:
        if self.pair_count == 0:
            return "one rank alone reads its own memory"
        if not self.answers:
            return "a rank that computes does not let others read its memory in time"
        return f"a rank that computes lets others read its memory in {self.slowest_us} µs"


def pair_up(nodes: list[int]) -> list[tuple[int, int]]:
    """Choose which ranks try each other: `(target, partner)`, each rank in one pair at most.

    `nodes[r]` tells which node rank r is on. One rank of a node with one of the next node, two by
    two, and two more ranks within each node: all kinds of ways are tried, and few ranks compute.
    """
    by_node: dict[int, list[int]] = {}
    for rank, node in enumerate(nodes):
        by_node.setdefault(node, []).append(rank)
    groups = list(by_node.values())
    pairs = []
    for left, right in zip(groups[::2], groups[1::2], strict=False):
        pairs.append((left.pop(0), right.pop(0)))
    pairs += [(group[0], group[1]) for group in groups if len(group) > 1]
    return sorted(pairs)


def probe(windows: ProbedWindows, node_name: str) -> Generator[None, None, Finding]:
    """Measure, on all ranks together; yields while it waits, and sleeps by itself.

    *Collective.* Nobody uses the windows yet, and their mailboxes have MAILBOX_BYTES. Every rank
    returns the same finding.
    """
    comm = windows.comm
    digest = hashlib.blake2b(node_name.encode(), digest_size=8).digest()
    nodes = yield from _gather(comm, np.frombuffer(digest, np.int64))
    pairs = pair_up(nodes[:, 0].tolist())
    answers, median_us = windows.is_unified, 0
    for target, partner in pairs:
        if windows.rank == target:
            yield from _compute_when_asked(windows, partner)
        elif windows.rank == partner:
            median_us = yield from _try(windows, target)
            answers = answers and median_us > 0
    told = yield from _gather(comm, np.array([answers, median_us]))
    return Finding(bool(told[:, 0].all()), len(pairs), int(told[:, 1].max()))


def can_load(windows: LoadableWindows) -> Generator[None, None, bool]:
    """Tell whether every rank can load the memory of the next one; waits as `probe` does.

    *Collective.* Every rank returns the same. Where it is so on one node, nobody is ever asked for
    what is in memory, and a rank that computes need not answer.
    """
    comm = windows.comm
    neighbour = (windows.rank + 1) % comm.Get_size()
    answer = windows.is_unified and windows.memory_of(neighbour) is not None
    told = yield from _gather(comm, np.array([answer], np.int64))
    return bool(told.all())


def _busy(attempt: int) -> int:
    return 2 * attempt + 1


def _done(attempt: int) -> int:
    return 2 * attempt + 2


# --- a target -----------------------------------------------------------------------------------
def _compute_when_asked(windows: ProbedWindows, partner: int) -> Generator[None, None, None]:
    asked = np.zeros(1, np.int64)
    while True:
        request = windows.comm.Irecv(asked, partner, _TAG)
        yield from _until(request.Test)
        if asked[0] == _NO_MORE:
            return
        _compute(windows.mailbox, int(asked[0]))


def _compute(mailbox: Bytes, attempt: int) -> None:
    """Be busy, without a call of MPI, until the partner is satisfied or time is over."""
    mailbox[Cell.STATE] = _busy(attempt)
    end = time.perf_counter() + config.PROBE_BUSY_S
    while time.perf_counter() < end and mailbox[Cell.SATISFIED] <= attempt:
        pass
    mailbox[Cell.STATE] = _done(attempt)


# --- a partner ----------------------------------------------------------------------------------
def _try(windows: ProbedWindows, target: int) -> Generator[None, None, int]:
    """Return the median time of reads from a busy target, at least 1 µs; 0: it does not answer."""
    median_us, refusals = 0, 0
    for attempt in range(config.PROBE_ATTEMPTS_MAX):
        yield from _tell(windows.comm, target, attempt)
        times_s, looks = yield from _read_while_busy(windows, target, attempt)
        if len(times_s) == config.PROBE_READS:
            windows.write_mailbox(target, Cell.SATISFIED, np.array([attempt + 1], np.uint8))
            # Not numpy's, which loads masked arrays for it: 9 ms on every rank.
            median_us = max(round(sorted(times_s)[len(times_s) // 2] * 1e6), 1)
            break
        refusals += looks >= config.PROBE_LOOKS_MIN
        if refusals == config.PROBE_ATTEMPTS:
            break
    yield from _tell(windows.comm, target, _NO_MORE)
    return median_us


def _read_while_busy(
    windows: ProbedWindows, target: int, attempt: int
) -> Generator[None, None, tuple[list[float], int]]:
    """Return how long reads took that the target answered while it was busy; and looks in vain."""
    block = np.zeros(READ_BYTES, np.uint8)
    times_s: list[float] = []
    looks = 0
    while len(times_s) < config.PROBE_READS and block[Cell.STATE] != _done(attempt):
        began = time.perf_counter()
        requests = windows.read_mailbox(target, 0, block)
        for _ in _until(lambda: all(request.Test() for request in requests)):  # noqa: B023
            looks += 1
            yield
        if block[Cell.STATE] == _busy(attempt):
            times_s.append(time.perf_counter() - began)
    return times_s, looks


# --- waiting ------------------------------------------------------------------------------------
def _tell(comm: Any, target: int, number: int) -> Generator[None, None, None]:
    request = comm.Isend(np.array([number], np.int64), target, _TAG)
    yield from _until(request.Test)


def _gather(comm: Any, row: Ints) -> Generator[None, None, Ints]:
    """Return every rank's row, in the order of ranks."""
    rows = np.zeros((comm.Get_size(), row.size), np.int64)
    request = comm.Iallgather(row, rows)
    yield from _until(request.Test)
    return rows


def _until(is_done: Callable[[], bool]) -> Generator[None, None, None]:
    """Sleep and yield until a test is passed; at once if it is passed at once."""
    while not is_done():
        time.sleep(_NAP_S)
        yield
