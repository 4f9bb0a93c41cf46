"""Looks on at the scheduler: decisions, epochs, what became of attempts and what they caused.

As `tracer`, but for the one coordinator of a run. Invariant: a row that names an epoch's end or a
decision comes before those that point to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar

from dvm_mpi import config
from dvm_mpi.control import coordinator_state as scheduling
from dvm_mpi.control.joining import batches_of
from dvm_mpi.control.journal import Fate, Gauge, Journal, RowKind, Sampler
from dvm_mpi.control.messages import BatchesDealt, Dispatched, Finished
from dvm_mpi.control.scheduler import Scheduler, SchedulerEvent, Ticked
from dvm_mpi.control.tracer import Gauges
from dvm_mpi.control.wire import MESSAGES
from dvm_mpi.dsm.messages import AppliesRequested, ApplyRequested
from dvm_mpi.values import dataclass

_NUMBERS: Final = {cls: number for number, cls in enumerate(MESSAGES)}
_NO_MESSAGE: Final = -1
_V = TypeVar("_V")


@dataclass(slots=True)
class _Ended:
    """An attempt whose record has come."""

    #: How often its runner had lost before.
    losses: int
    #: Whether its commit would publish anything.
    has_effect: bool
    #: Id of the first runner that it created and that waits for nothing, or 0.
    child: int


def _remember(kept: dict[int, _V], key: int, value: _V) -> None:
    """Keep a value; of too many the oldest goes."""
    kept[key] = value
    if len(kept) > config.TRACE_PAIRS_MAX:
        del kept[next(iter(kept))]


class CoordinatorTracer:
    """Looks on at one scheduler.

    Parameters
    ----------
    journal
        Of rank 0.
    sampler
        Chooses by the same numbers as those of the workers, of all attempts.
    """

    def __init__(self, scheduler: Scheduler, journal: Journal, sampler: Sampler) -> None:
        self._scheduler = scheduler
        self._journal = journal
        self._sampler = sampler
        self._gauges = Gauges(journal)
        self._began = 0
        #: Commits, retries and aborts before the decision.
        self._before = (0, 0, 0)
        #: Chosen attempts that have ended and of which nothing has become yet, by number.
        self._ended: dict[int, _Ended] = {}
        #: Epochs not visible yet: when the first record came, when it closed, commits, bytes.
        self._epochs: dict[int, list[int]] = {}
        self._open = scheduler.state.log.open_epoch
        self._visible = scheduler.state.log.visible
        #: Epochs of chosen attempts, by number.
        self._committed: dict[int, int] = {}
        #: Runners that chosen commits created or woke, by id: attempt that committed, its epoch.
        self._awaited: dict[int, tuple[int, int]] = {}

    # --- around a decision ----------------------------------------------------------------------
    def deciding(self, event: SchedulerEvent) -> None:
        """Look at what a decision will change."""
        self._began = self._journal.now()
        counters = self._scheduler.counters
        self._before = (counters.commits, counters.retries, counters.aborts)
        if isinstance(event, Finished):
            self._choose(event)

    def decided(self, event: SchedulerEvent, actions: Iterable[scheduling.Action]) -> None:
        """Note a decision, what it made visible, and whom it sent out."""
        actions = tuple(actions)
        if isinstance(event, Ticked) and not actions:
            return
        now = self._journal.now()
        dispatched = _dispatched(actions)
        records = len(event.records) if isinstance(event, Finished) else 0
        counters = self._scheduler.counters
        after = (counters.commits, counters.retries, counters.aborts)
        commits, retries, aborts = (a - b for a, b in zip(after, self._before, strict=True))
        sent = sum(len(message.numbers) for _, message in dispatched)
        number = _NUMBERS.get(type(event), _NO_MESSAGE)
        self._journal.add(
            RowKind.DECIDED, self._began, now, number, records, commits, retries, sent, aborts
        )
        if self._ended:
            self._note_fates(actions)
        self._note_epochs(actions, now)
        for action in actions:
            if isinstance(action, scheduling.RecordWaking):
                self._await_watchers(action)
        for worker, message in dispatched:
            self._note_dispatch(worker, message)

    def each_turn(self) -> None:
        """Look at the queue from time to time."""
        if self._gauges.is_due():
            scheduler, counters = self._scheduler, self._scheduler.counters
            self._gauges.look(
                {
                    Gauge.QUEUED: scheduler.queued_count,
                    Gauge.RUNNING: scheduler.state.running_count,
                },
                {
                    Gauge.COMMITS_PER_S: counters.commits,
                    Gauge.RETRIES_PER_S: counters.retries,
                },
            )

    # --- epochs ---------------------------------------------------------------------------------
    def _note_epochs(self, actions: tuple[scheduling.Action, ...], now: int) -> None:
        log = self._scheduler.state.log
        for action in actions:
            if isinstance(action, scheduling.RecordOrder):
                self._epoch(action.epoch)[2] += len(action.numbers)
            elif isinstance(action, scheduling.ToHome | scheduling.ToLeader) and isinstance(
                action.message, ApplyRequested | AppliesRequested
            ):
                self._epoch(action.message.epoch)[3] += action.message.data.size
        if log.open_records:
            self._epoch(log.open_epoch)
        for epoch in range(self._open, log.open_epoch):
            self._epoch(epoch)[1] = now
        self._open = log.open_epoch
        for epoch in range(self._visible + 1, log.visible + 1):
            opened, closed, commits, size = self._epochs.pop(epoch)
            self._journal.add(RowKind.EPOCH, opened, now, epoch, closed, commits, size)
        self._visible = log.visible
        if not log.open_records:
            # What is ordered and publishes nothing opens no epoch.
            self._epochs.pop(log.open_epoch, None)

    def _epoch(self, epoch: int) -> list[int]:
        return self._epochs.setdefault(epoch, [self._began, self._began, 0, 0])

    # --- single attempts ------------------------------------------------------------------------
    def _choose(self, event: Finished) -> None:
        """Keep what is known of the chosen attempts of a record."""
        chosen = self._sampler.choose(event.records["attempt"], self._began)
        outcomes = event.outcomes[chosen]
        losses = self._scheduler.state.table.rows["losses"][outcomes["runner"]]
        publishes = outcomes["run_count"] + outcomes["child_count"] + outcomes["console_count"] > 0
        for number, lost, has_effect, first, count in zip(
            event.records["attempt"][chosen].tolist(),
            losses.tolist(),
            publishes.tolist(),
            outcomes["child_first"].tolist(),
            outcomes["child_count"].tolist(),
            strict=True,
        ):
            own = event.children[first : first + count]
            starts = own["id"][own["template"] == 0][:1].tolist()
            child = starts[0] if starts else 0
            _remember(self._ended, number, _Ended(lost, has_effect, child))

    def _note_fates(self, actions: tuple[scheduling.Action, ...]) -> None:
        """Note what became of the chosen attempts, and whose children are to be looked for."""
        for action in actions:
            if isinstance(action, scheduling.RecordOrder):
                for number in action.numbers.tolist():
                    ended = self._ended.pop(number, None)
                    if ended is None:
                        continue
                    fate = Fate.ORDERED if ended.has_effect else Fate.PUBLISHED_NOTHING
                    self._note_fate(number, fate, action.epoch, ended)
                    _remember(self._committed, number, action.epoch)
                    if ended.child:
                        self._await(ended.child, number, action.epoch)
            elif isinstance(action, scheduling.RecordLoss):
                pairs = zip(action.numbers.tolist(), action.epochs.tolist(), strict=True)
                for number, epoch in pairs:
                    ended = self._ended.pop(number, None)
                    if ended is not None:
                        self._note_fate(number, Fate.LOST, epoch, ended)
        failure = self._scheduler.state.failure
        if failure is not None and failure.number in self._ended:
            ended = self._ended.pop(failure.number)
            self._note_fate(failure.number, Fate.TRAPPED, 0, ended)

    def _note_fate(self, number: int, fate: Fate, epoch: int, ended: _Ended) -> None:
        self._journal.add(RowKind.FATE, self._began, self._began, number, fate, epoch, ended.losses)

    def _await(self, runner_id: int, number: int, epoch: int) -> None:
        """Look out for the dispatch of a runner that a commit has caused."""
        _remember(self._awaited, runner_id, (number, epoch))

    def _await_watchers(self, waking: scheduling.RecordWaking) -> None:
        for writer, template in zip(waking.writers.tolist(), waking.ids.tolist(), strict=True):
            if writer in self._committed:
                self._await(template, writer, self._committed[writer])

    def _note_dispatch(self, worker: int, message: Dispatched) -> None:
        first = int(message.numbers[0])
        began, count = self._began, len(message.numbers)
        self._journal.add(RowKind.DISPATCHED, began, began, worker, first, count, message.snapshot)
        if not self._awaited:
            return
        # Of large batches with much that is awaited, sets are faster than arrays.
        for at, runner_id in enumerate(message.attempts["id"].tolist()):
            if runner_id in self._awaited:
                number, epoch = self._awaited.pop(runner_id)
                self._journal.add(RowKind.CAUSED, began, began, epoch, number, first + at)


def _dispatched(actions: tuple[scheduling.Action, ...]) -> list[tuple[int, Dispatched]]:
    """Return the batches that are sent out, each with its worker."""
    found: list[tuple[int, Dispatched]] = []
    for action in actions:
        if isinstance(action, scheduling.ToWorker) and isinstance(action.message, Dispatched):
            found.append((action.worker, action.message))
        elif isinstance(action, scheduling.ToLeader) and isinstance(action.message, BatchesDealt):
            found += batches_of(action.message)
    return found


def coordinator_tracer(
    scheduler: Scheduler, journal: Journal, rank_count: int, sample: int
) -> CoordinatorTracer:
    """Return the tracer of the coordinator of so many ranks; `sample` as `Sampler`'s stride."""
    per_s = min(config.TRACE_RUNNERS_PER_S * rank_count, config.TRACE_ROWS_PER_S // 4)
    return CoordinatorTracer(scheduler, journal, Sampler(per_s, sample))
