"""What a part notes of itself for a trace: rows of integers in a buffer of fixed size.

Nothing here looks at a clock: the journal is given one. A row that finds no room is counted and
dropped, so a journal never grows and never slows down whoever writes it. Whoever traces takes the
rows away at regular times; the size of the buffer is thus what may be noted between two of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum, auto
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from dvm_mpi import config

#: One row: what happened from `begin` to `end`, in ns of one clock. `RowKind` says what the values
#: mean; those that a kind does not name are 0.
ROW: Final = np.dtype(
    [(name, "<i8") for name in ("kind", "begin", "end", "a", "b", "c", "d", "e", "f", "g")]
)
_VALUES_MAX: Final = 7


class RowKind(IntEnum):
    """What a row tells, and what its values are."""

    #: A worker executed: first attempt of the batch, its entry (-1: several, or none is known),
    #: instructions, runners of the batch, snapshot, ns in slices, whether the batch begins here.
    RAN = 0
    #: A worker sent a record: attempts, instructions, children, stored bytes, staged write sets.
    RECORD = auto()
    #: One attempt; its moments are estimated: attempt, runner's id, entry, instructions, end
    #: (`engine.interface.End`), address of its last instruction, snapshot.
    RUNNER = auto()
    #: A worker waited for pages: pages, bytes that came, homes asked, the home that came last,
    #: snapshot. Of pages whose places came with the batch no home was asked (0, -1).
    FETCHED = auto()
    #: One home's pages were there: home, pages.
    ARRIVED = auto()
    #: A home answered: worker, pages, bytes sent along, snapshot.
    LOOKED_UP = auto()
    #: A home took a part of a write set: worker, bytes, whether it is the last.
    STAGED = auto()
    #: A home applied an epoch: epoch, bytes that came with the request, write sets, frames in use
    #: after it.
    APPLIED = auto()
    #: The coordinator decided: number of the message (`wire.MESSAGES`) or -1, records, commits,
    #: retries, runners dispatched, aborts.
    DECIDED = auto()
    #: A batch was sent to a worker: worker, first attempt, runners, snapshot.
    DISPATCHED = auto()
    #: What became of an attempt: attempt, `Fate`, epoch (of its commit, or that it lost to), how
    #: often its runner had lost before.
    FATE = auto()
    #: A child or instance was dispatched: epoch of the commit that caused it, attempt that
    #: committed, its own attempt.
    CAUSED = auto()
    #: An epoch from its first record to its visibility: epoch, when it closed, commits, bytes.
    EPOCH = auto()
    #: A value that changes with time: `Gauge`, value.
    GAUGE = auto()
    #: Long work of a rank: `Work`.
    WORKED = auto()
    #: How this rank's clock was moved: ns that were added, how wrong that may be (-1: unknown).
    CLOCK = auto()


class Fate(IntEnum):
    """What became of an attempt."""

    ORDERED = 0
    LOST = auto()
    PUBLISHED_NOTHING = auto()
    TRAPPED = auto()


class Gauge(IntEnum):
    """Values that change with time."""

    QUEUED = 0
    RUNNING = auto()
    COMMITS_PER_S = auto()
    RETRIES_PER_S = auto()
    #: Frames of a home.
    RESIDENT_BYTES = auto()
    SENT_BYTES_PER_S = auto()
    RECEIVED_BYTES_PER_S = auto()
    SENDS_PENDING = auto()


class Work(IntEnum):
    """Long work of a rank."""

    STARTING = 0
    LOADING = auto()
    COMPILING = auto()
    WRITING = auto()


#: Kinds of which there may be many, and which tell details: they leave room for the others.
_DETAILS: Final = frozenset(
    {
        RowKind.RUNNER,
        RowKind.ARRIVED,
        RowKind.LOOKED_UP,
        RowKind.STAGED,
        RowKind.FATE,
        RowKind.CAUSED,
    }
)


class Journal:
    """Rows of one rank.

    Parameters
    ----------
    clock
        Returns ns; it never falls.
    rows_max
        Rows between two calls of `take`.
    """

    def __init__(self, clock: Callable[[], int], rows_max: int) -> None:
        self.now = clock
        #: Rows that found no room, ever.
        self.dropped = 0
        self._rows = np.zeros(rows_max, ROW)
        self._count = 0
        self._rows_max = rows_max
        self._details_end = rows_max - rows_max // 4

    def add(self, kind: RowKind, begin: int, end: int, *values: int) -> None:
        """Note one row, if there is room."""
        at = self._count
        if at >= (self._details_end if kind in _DETAILS else self._rows_max):
            self.dropped += 1
            return
        self._rows[at] = (kind, begin, end, *values, *_ZEROS[len(values)])
        self._count = at + 1

    def add_many(self, kind: RowKind, begin: Any, end: Any, **values: Any) -> None:
        """Note rows of one kind, as columns; those that find no room are dropped."""
        limit = self._details_end if kind in _DETAILS else self._rows_max
        wanted = len(next(iter(values.values())))
        count = max(min(wanted, limit - self._count), 0)
        self.dropped += wanted - count
        if count == 0:
            return
        rows = self._rows[self._count : self._count + count]
        rows[:] = 0
        rows["kind"] = kind
        for name, column in {"begin": begin, "end": end, **values}.items():
            rows[name] = column[:count] if isinstance(column, np.ndarray) else column
        self._count += count

    def take(self) -> NDArray[Any]:
        """Return the rows since the last time, and forget them."""
        rows = self._rows[: self._count].copy()
        self._count = 0
        return rows


_ZEROS: Final = tuple((0,) * (_VALUES_MAX - count) for count in range(_VALUES_MAX + 1))


class Sampler:
    """Chooses attempts by number: every N-th, the same ones wherever they are met.

    Without a fixed N it is 1, and twice as much whenever more than about `per_s` were chosen within
    a second; each second begins with what the last one would have needed.
    """

    def __init__(self, per_s: int, stride: int = 0) -> None:
        assert per_s > 0
        self.stride = max(stride, 1)
        self._is_fixed = stride > 0
        self._per_s = per_s
        self._second = 0
        self._met = self._chosen = 0

    def choose(self, numbers: NDArray[np.int64], now_ns: int) -> NDArray[np.intp]:
        """Return the positions of those chosen."""
        second = now_ns // 1_000_000_000
        if second != self._second:
            if not self._is_fixed:
                self.stride = 1 << max(-(-self._met // self._per_s) - 1, 0).bit_length()
            self._second, self._met, self._chosen = second, 0, 0
        self._met += len(numbers)
        chosen = np.flatnonzero(numbers % self.stride == 0)
        while not self._is_fixed and self._chosen + len(chosen) > self._per_s:
            self.stride *= 2
            self._chosen //= 2
            chosen = chosen[numbers[chosen] % self.stride == 0]
        self._chosen += len(chosen)
        return chosen


class ClockOffset:
    """What must be added to this rank's clock to have rank 0's, from questions and answers.

    The answer was given at some moment between question and return, so half the time in between
    bounds the error. The best exchange counts; an old one is worth less, since clocks drift. An
    offset within its error is no offset: ranks of one host share a clock.
    """

    def __init__(self) -> None:
        #: Answers so far.
        self.heard_count = 0
        #: Of the best exchange: own clock at the answer, offset, error.
        self._best = (0, 0, -1)

    def hear(self, asked_ns: int, answered_ns: int, now_ns: int) -> None:
        """Take one exchange: own clock at the question, rank 0's, own clock at the answer."""
        error = (now_ns - asked_ns + 1) // 2
        offset = answered_ns - (asked_ns + now_ns) // 2
        self.heard_count += 1
        if self.heard_count == 1 or error <= self._aged(now_ns):
            self._best = (now_ns, offset, error)

    def best(self, now_ns: int) -> tuple[int, int]:
        """Return the offset and how wrong it may be, -1 if nothing was heard yet; ns."""
        if not self.heard_count:
            return 0, -1
        offset, error = self._best[1], self._aged(now_ns)
        return (0, abs(offset) + error) if abs(offset) <= error else (offset, error)

    def _aged(self, now_ns: int) -> int:
        """Return how wrong the best exchange may be by now."""
        at, _, error = self._best
        return error + int((now_ns - at) * config.TRACE_CLOCK_DRIFT)


class Working(Protocol):
    """Who notes long work."""

    def now(self) -> int:
        """Return the time in ns."""

    def work(self, work: Work, began: int) -> None:
        """Note work that ends now."""


@contextmanager
def traced(tracer: Working | None, work: Work) -> Iterator[None]:
    """Note what is done inside as long work, if there is a tracer."""
    began = tracer.now() if tracer is not None else 0
    yield
    if tracer is not None:
        tracer.work(work, began)
