"""Looks on at workers, homes and the coordinator from outside, and notes it in a journal.

Tracers see what goes into a part and what comes out, and when. The parts do not know of them, and
nothing that a tracer does can change a run. Both shells use them: ranks over MPI, and the driver
of one process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi import config
from dvm_mpi.control.delivery import Sent
from dvm_mpi.control.journal import Gauge, Journal, RowKind, Sampler
from dvm_mpi.control.messages import Dispatched, Finished, Message
from dvm_mpi.control.worker import Worker
from dvm_mpi.dsm.home import Addressed, Home
from dvm_mpi.dsm.messages import (
    ApplyRequested,
    EpochApplied,
    LookupAnswered,
    LookupRequested,
    Staged,
)
from dvm_mpi.engine.interface import End
from dvm_mpi.layout import PAGE_BYTES
from dvm_mpi.values import dataclass

_NS_PER_US: Final = 1_000
_NS_PER_S: Final = 1_000_000_000
_GAUGE_NS: Final = int(config.TRACE_GAUGE_S * _NS_PER_S)
_GAP_NS: Final = config.TRACE_GAP_US * _NS_PER_US


@dataclass(slots=True)
class _Span:
    """Slices of one batch with no gap between them."""

    begin: int
    end: int
    batch: Dispatched | None
    instructions: int
    busy_ns: int


@dataclass(slots=True)
class _Asked:
    """A lookup under way."""

    home: int
    pages: int


class WorkerTracer:
    """Looks on at one worker."""

    def __init__(self, journal: Journal, sampler: Sampler) -> None:
        self._journal = journal
        self._sampler = sampler
        self._began = 0
        self._batch: Dispatched | None = None
        self._span: _Span | None = None
        #: The batch of the last span that was noted.
        self._noted: Dispatched | None = None
        #: Batches of which attempts have not ended, and how many have not.
        self._batches: deque[tuple[Dispatched, list[int]]] = deque()
        #: Lookups under way, and since when.
        self._asked: dict[int, _Asked] = {}
        self._asked_at = self._homes = self._pages = self._arrived = 0
        #: Of the bytes that have come, how many were noted.
        self._bytes_noted = 0
        self._times = _EndTimes()

    # --- slices ---------------------------------------------------------------------------------
    def slice_begins(self, worker: Worker) -> None:
        """Note when a slice begins, its batch, and pages that came without a question."""
        self._began, self._batch = self._journal.now(), worker.batch
        came = worker.installed_bytes - self._bytes_noted
        if came:
            self._note_fetched(worker, self._began, self._began, (came // PAGE_BYTES, came, 0, -1))

    def slice_ended(self, worker: Worker, instructions: int, sent: Iterable[Sent]) -> None:
        """Note a slice, and what it sent."""
        begin, end = self._began, self._journal.now()
        span = self._span
        if span is None or span.batch is not self._batch or begin - span.end > _GAP_NS:
            self.settle()
            span = self._span = _Span(begin, begin, self._batch, 0, 0)
        span.end = end
        span.instructions += instructions
        span.busy_ns += end - begin
        self._times.ran(begin, end, instructions)
        self._hear(worker, sent, end)

    def settle(self) -> None:
        """Note the slices so far."""
        span, self._span = self._span, None
        if span is None:
            return
        first, size, entry, snapshot = 0, 0, -1, 0
        if span.batch is not None:
            entries = span.batch.attempts["entry"]
            first, size = int(span.batch.numbers[0]), len(entries)
            entry = int(entries[0]) if (entries == entries[0]).all() else -1
            snapshot = span.batch.snapshot
        begins = span.batch is not self._noted
        self._noted = span.batch
        self._journal.add(
            RowKind.RAN,
            span.begin,
            span.end,
            *(first, entry, span.instructions, size, snapshot, span.busy_ns, int(begins)),
        )

    # --- messages -------------------------------------------------------------------------------
    def took(self, worker: Worker, message: Message, sent: Iterable[Sent]) -> None:
        """Note a message that the worker has handled, and what it sent then."""
        now = self._journal.now()
        if isinstance(message, Dispatched):
            self._batches.append((message, [len(message.numbers)]))
        self._hear(worker, sent, now)

    def polled(self, worker: Worker, sent: Iterable[Sent]) -> None:
        """Note that pages may have come beside the messages, or a sleeper was woken."""
        if self._asked or sent:
            self._hear(worker, sent, self._journal.now())

    def _hear(self, worker: Worker, sent: Iterable[Sent], now: int) -> None:
        if self._asked:
            self._look_at_lookups(worker, now)
        for (_, number), message in sent:
            if isinstance(message, LookupRequested):
                if not self._asked:
                    self._asked_at = now
                    self._homes = self._pages = self._arrived = 0
                self._asked[message.ticket] = _Asked(number, len(message.pages))
                self._homes += 1
                self._pages += len(message.pages)
            elif isinstance(message, Finished):
                self._note_record(message, now)

    def _look_at_lookups(self, worker: Worker, now: int) -> None:
        """Note the lookups whose pages are there by now."""
        under_way = worker.tickets
        done = [ticket for ticket in self._asked if ticket not in under_way]
        if not done:
            return
        for ticket in done:
            asked = self._asked.pop(ticket)
            self._arrived += 1
            if self._arrived <= config.TRACE_HOMES_SHOWN:
                self._journal.add(RowKind.ARRIVED, now, now, asked.home, asked.pages)
        if not self._asked:
            came = worker.installed_bytes - self._bytes_noted
            fetched = self._pages, came, self._homes, asked.home
            self._note_fetched(worker, self._asked_at, now, fetched)

    def _note_fetched(
        self, worker: Worker, begin: int, end: int, fetched: tuple[int, int, int, int]
    ) -> None:
        """Note pages that are there by now, as RowKind.FETCHED has them but for the snapshot."""
        snapshot = worker.batch.snapshot if worker.batch is not None else 0
        self._journal.add(RowKind.FETCHED, begin, end, *fetched, snapshot)
        self._bytes_noted = worker.installed_bytes

    def _note_record(self, finished: Finished, now: int) -> None:
        outcomes, numbers = finished.outcomes, finished.records["attempt"]
        self._journal.add(
            RowKind.RECORD,
            now,
            now,
            len(numbers),
            int(outcomes["instructions"].sum()),
            len(finished.children),
            int(finished.runs["length"].sum()),
            int((finished.records["serial"] > 0).sum()),
        )
        begins, ends = self._times.divide(outcomes["instructions"])
        chosen = self._sampler.choose(numbers, now)
        if len(chosen):
            self._note_runners(finished, chosen, begins, ends)
        self._forget(numbers)

    def _note_runners(
        self,
        finished: Finished,
        chosen: NDArray[np.intp],
        begins: NDArray[np.int64],
        ends: NDArray[np.int64],
    ) -> None:
        outcomes = finished.outcomes[chosen]
        numbers = finished.records["attempt"][chosen]
        given = np.zeros((3, len(chosen)), np.int64)
        for batch, _ in self._batches:
            at = numbers - batch.numbers[0]
            inside = (at >= 0) & (at < len(batch.numbers))
            rows = batch.attempts[at[inside]]
            given[:, inside] = rows["id"], rows["entry"], rows["snapshot"]
        is_trap = outcomes["end"] == End.TRAP
        self._journal.add_many(
            RowKind.RUNNER,
            begins[chosen],
            ends[chosen],
            a=numbers,
            b=given[0],
            c=given[1],
            d=outcomes["instructions"],
            e=outcomes["end"],
            f=np.where(is_trap, outcomes["trap_pc"], outcomes["exit_pc"]),
            g=given[2],
        )

    def _forget(self, numbers: NDArray[np.int64]) -> None:
        """Drop the batches of which every attempt has ended."""
        for batch, left in self._batches:
            first = int(batch.numbers[0])
            left[0] -= int(((numbers >= first) & (numbers < first + len(batch.numbers))).sum())
        self._batches = deque(each for each in self._batches if each[1][0] > 0)


class _EndTimes:
    """When attempts began and ended, told from their instructions.

    An engine runs attempts one after the other and says only how many instructions each had. What
    was executed between two records is laid out over the time of its slices, in proportion.
    """

    def __init__(self) -> None:
        self._begin = self._end = 0
        self._executed = 0
        #: What the attempt under way had executed at the last record, and since when it runs.
        self._carried = 0
        self._carried_since = 0
        self._last_end = 0

    def ran(self, begin: int, end: int, instructions: int) -> None:
        """Take a slice."""
        if not self._executed:
            self._begin = begin
        self._end = end
        self._executed += instructions

    def divide(self, lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return begins and ends of attempts that ended, in this order."""
        bounds = np.concatenate([[0], np.cumsum(lengths)]) - self._carried
        scale = (self._end - self._begin) / max(self._executed, 1)
        moments = (self._begin + bounds * scale).astype(np.int64)
        if self._carried:
            moments[0] = self._carried_since
        moments = np.maximum.accumulate(np.clip(moments, self._last_end, self._end))
        self._carried = max(self._executed - int(bounds[-1]), 0)
        self._carried_since = self._last_end = int(moments[-1])
        self._executed = 0
        return moments[:-1], moments[1:]


class HomeTracer:
    """Looks on at one home."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        #: Epochs that came and were not applied at once: bytes, write sets.
        self._waiting: dict[int, tuple[int, int]] = {}

    def served(
        self, home: Home, began: int, message: Message, replies: tuple[Addressed, ...]
    ) -> None:
        """Note a message that a home has handled since `began`, and what it answered."""
        add, now = self._journal.add, self._journal.now()
        if isinstance(message, LookupRequested):
            content = sum(r.content.size for _, r in replies if isinstance(r, LookupAnswered))
            pages = len(message.pages)
            add(RowKind.LOOKED_UP, began, now, message.worker, pages, content, message.snapshot)
            return
        if isinstance(message, ApplyRequested):
            self._waiting[message.epoch] = (message.data.size, len(message.tokens))
        applied = [reply for _, reply in replies if isinstance(reply, EpochApplied)]
        for reply in applied:
            stored, write_sets = self._waiting.pop(reply.epoch, (0, 0))
            add(RowKind.APPLIED, began, now, reply.epoch, stored, write_sets, home.pool.in_use)
            # Several that were applied together share the time.
            began = now
        if isinstance(message, Staged) and not applied:
            size = int(message.runs["length"].sum())
            add(RowKind.STAGED, began, now, message.worker, size, int(message.is_last))


class Gauges:
    """Notes values that change with time, when it is time and they have changed."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._due_at = 0
        self._noted: dict[Gauge, int] = {}
        #: Totals at the last look, and when that was.
        self._totals: dict[Gauge, int] = {}
        self._looked_at = 0

    def is_due(self) -> bool:
        """Whether it is time for the next look."""
        return self._journal.now() >= self._due_at

    def look(self, values: dict[Gauge, int], totals: dict[Gauge, int]) -> None:
        """Note values, and how fast totals grew since the last look."""
        now = self._journal.now()
        passed = now - self._looked_at
        rates = {
            gauge: round((total - self._totals.get(gauge, 0)) * _NS_PER_S / passed)
            for gauge, total in totals.items()
            if self._looked_at and passed
        }
        for gauge, value in (values | rates).items():
            if self._noted.get(gauge) != value:
                self._noted[gauge] = value
                self._journal.add(RowKind.GAUGE, now, now, gauge, value)
        self._totals, self._looked_at = dict(totals), now
        self._due_at = now + _GAUGE_NS


@dataclass(slots=True)
class PartsTracer:
    """Looks on at the worker and the home of one rank, or of one number in a single process."""

    journal: Journal
    worker: WorkerTracer
    home: HomeTracer
    gauges: Gauges

    def take(self) -> NDArray[Any]:
        """Return all rows up to now."""
        self.worker.settle()
        return self.journal.take()


def parts_tracer(clock: Callable[[], int], rank: int, rank_count: int, sample: int) -> PartsTracer:
    """Return the tracer of one of so many ranks; `sample` as `Sampler`'s stride."""
    journal = Journal(clock, rows_between_flushes(rank, rank_count))
    share = config.TRACE_ROWS_PER_S // (4 * rank_count)
    sampler = Sampler(max(min(config.TRACE_RUNNERS_PER_S, share), 1), sample)
    worker = WorkerTracer(journal, sampler)
    return PartsTracer(journal, worker, HomeTracer(journal), Gauges(journal))


def flush_interval_s(rank_count: int) -> float:
    """Return how long a rank gathers rows."""
    return config.TRACE_FLUSH_S * max(rank_count / config.TRACE_RANKS_OFTEN, 1)


def rows_between_flushes(rank: int, rank_count: int) -> int:
    """Return how many rows a rank gathers at most; rank 0 also has what the coordinator notes."""
    if rank == 0:
        return config.TRACE_ROWS_MAX
    share = config.TRACE_ROWS_PER_S * flush_interval_s(rank_count) / rank_count
    return min(max(int(share), config.TRACE_ROWS_MIN), config.TRACE_ROWS_MAX)
