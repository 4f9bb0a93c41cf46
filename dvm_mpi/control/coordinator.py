"""Rank 0's part that belongs to all ranks: scheduler and session, and who is told what they say.

Thin: events go in, actions are performed through a few callables. What takes long (making files,
putting them in place) is a task, a generator that the rank steps between messages.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from dvm_mpi import config
from dvm_mpi.control import coordinator_state as scheduling
from dvm_mpi.control import session as phases
from dvm_mpi.control.coordinator_tracer import CoordinatorTracer
from dvm_mpi.control.dedication import Dedication
from dvm_mpi.control.delivery import Part
from dvm_mpi.control.diagnosis import Narrator
from dvm_mpi.control.joining import ready_workers
from dvm_mpi.control.leader import COORDINATOR_RANK, Tree
from dvm_mpi.control.messages import (
    CoordinatorEvent,
    Message,
    Metered,
    PagesHeld,
    RankFailed,
    RankFinished,
    RankLoaded,
    SessionEvent,
    StatusReported,
    StatusRequested,
    TraceRows,
    WorkerReady,
    WorkersReady,
)
from dvm_mpi.control.metering import RankMeters
from dvm_mpi.control.scheduler import (
    Scheduler,
    SchedulerEvent,
    Started,
    Ticked,
    WorkerWithheld,
)
from dvm_mpi.control.session import Phase, Session
from dvm_mpi.control.silence import Silence
from dvm_mpi.disa.image import Image
from dvm_mpi.errors import RankLostError
from dvm_mpi.io.report import counted

#: Work in pieces: yields whether it did something, so that its rank may sleep if not.
Task = Generator[bool, None, None]
#: A task with a result.
MakingTask = Generator[bool, None, tuple[str, int]]

#: How long a rank is given to answer what it does before it is called silent.
_ANSWER_US: Final = 1_000_000
_US_PER_S: Final = 1_000_000
#: Of questions whose answers nobody waits for; the others count from 1.
_NO_SERIAL: Final = 0


def _named(rank: int, hosts: Sequence[str]) -> str:
    return f"rank {rank} on {hosts[rank]}" if hosts else f"rank {rank}"


def lost_ranks(ranks: Sequence[int], hosts: Sequence[str], silent_s: float) -> RankLostError:
    """Return the error that ends a run because ranks are silent.

    Parameters
    ----------
    hosts
        Of all ranks; empty if nobody told.
    """
    shown = ", ".join(_named(rank, hosts) for rank in sorted(ranks)[: config.RANKS_SHOWN_MAX])
    hidden = len(ranks) - config.RANKS_SHOWN_MAX
    return RankLostError(
        f"{shown}{f' and {hidden:,} more' if hidden > 0 else ''}: no answer for {silent_s:.0f} s; "
        "the process is stuck, or it, its host or the network is gone"
    )


class Host(Protocol):
    """What the owner of the run does for the coordinator; all of it on rank 0."""

    def printed(self, data: NDArray[np.uint8]) -> None:
        """Write committed console output."""

    def ordered(self, order: scheduling.RecordOrder) -> None:
        """See which attempts committed, in their order."""

    def claimed(self, claim: scheduling.Claim) -> None:
        """See who lost to what, what woke whom, and who was given up on."""

    def delivered(self, target: Part, message: Message) -> None:
        """See a batch that is sent to a worker, and every event of the scheduler."""

    def tell(self, text: str) -> None:
        """Show a line about the run to the user."""

    def make_outputs(self, ending: scheduling.Complete) -> MakingTask:
        """Tell how the program ended and make the files; return their places and the exit code."""

    def settle_outputs(self) -> Task:
        """Put the files in place: every rank has written its part."""

    def failed(self, failure: RankFailed) -> None:
        """Tell why the run ends before its time, and drop files that were begun."""


class Coordinator:
    """Scheduler and session of one run.

    Parameters
    ----------
    scheduler
        With as many workers as ranks, none of them ready.
    image
        Of the program: its entry and its reserved ranges.
    rank_count
        Rank r has worker r and home r.
    send
        Queues a message for a rank.
    host
        The owner of the run.
    begins_us
        Rank 0's time from which what the ranks do is shown.
    may_dedicate
        Whether rank 0's worker gets nothing while to coordinate takes most of its time.
    tree
        Through whom the scheduler's messages go; None: to all ranks directly. What the session
        says always does.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        image: Image,
        rank_count: int,
        send: Callable[[int, Message], None],
        host: Host,
        begins_us: int = 0,
        *,
        may_dedicate: bool = False,
        tree: Tree | None = None,
    ) -> None:
        self.scheduler = scheduler
        self.session = Session(rank_count)
        #: What the ranks told of their time.
        self.meters = RankMeters(rank_count, begins_us=begins_us)
        #: Looks on, if a trace was asked for.
        self.tracer: CoordinatorTracer | None = None
        #: Long work that the rank has to step.
        self.tasks: list[Task] = []
        self._image = image
        self._rank_count = rank_count
        self._send = send
        self._tree = tree or Tree(())
        self._dedication = Dedication() if may_dedicate else None
        self._host = host
        #: Whether all that the scheduler began was done.
        self._is_whole = True
        #: Whether the scheduler has decided anything in this turn.
        self._has_decided = False
        self._now_us = 0
        self._heard_at_us = 0
        self._stall_us = int(config.STALL_S * _US_PER_S)
        #: Ranks asked for their status and not answered yet; when; and what the others said.
        self._asked: set[int] = set()
        self._asked_at_us = 0
        self._serial = 0
        self._answers: dict[int, str] = {}
        self._narrator = Narrator(image)
        #: The latest status of each rank and when it came, for `describe`.
        self._states: dict[int, tuple[int, str]] = {}
        #: Whom `ask_some` asks next.
        self._asked_next = 0
        self._silence = Silence(rank_count)
        #: The host of each rank, for messages; empty if nobody told.
        self.hosts: Sequence[str] = ()
        #: What `describe` told when the run began to end by a fault.
        self._at_fault: dict[str, str] | None = None

    # --- events ---------------------------------------------------------------------------------
    def handle(self, event: CoordinatorEvent | SessionEvent) -> None:
        """Take one message and do what follows from it."""
        if isinstance(event, StatusReported):
            self._states[event.rank] = (self._now_us, event.text)
            self._silence.answered(event.rank, self._now_us)
            if event.serial == self._serial:
                self._asked.discard(event.rank)
                self._answers[event.rank] = event.text
            return
        if isinstance(event, Metered | TraceRows):
            self._silence.told(event.rank, self._now_us)
        if isinstance(event, Metered):
            self.meters.add(event.rank, event.host, event.spans, event.from_us)
            self.scheduler.state.hot_pages.add(event.hot_pages)
            return
        if isinstance(event, PagesHeld | TraceRows):
            self._host.delivered(("coordinator", 0), event)
            return
        self._heard_at_us = self._now_us
        self._stall_us = int(config.STALL_S * _US_PER_S)
        # It goes on: what ranks were asked for need not be told.
        self._asked_at_us = 0
        if isinstance(event, WorkerReady | WorkersReady):
            # From now on it takes turns, and tells of its time: also one that is lost before that.
            for worker in ready_workers(event).tolist():
                self._silence.told(worker, self._now_us)
        if isinstance(event, RankFailed):
            self._note_fault()
        if isinstance(event, RankLoaded | RankFinished | RankFailed):
            self._perform_all(self.session.handle(event))
        elif self.session.phase is Phase.RUNNING or self.session.phase is Phase.LOADING:
            self._host.delivered(("coordinator", 0), event)
            self._decide(event)

    def tick(self, now_us: int, spent_us: int = 0) -> None:
        """Let time pass; say what is waited for when nothing has happened for long.

        `spent_us`: how much of this rank's time went to coordinating so far.

        Raises
        ------
        RankLostError
            A rank has not answered for too long.
        """
        if not self._now_us:
            self._heard_at_us = now_us
        elif now_us - self._now_us >= _ANSWER_US:
            # This rank itself was stopped, and has not looked at what others said.
            self._silence.missed_all(now_us)
        self._now_us = max(now_us, self._now_us)
        if self.session.phase is Phase.RUNNING:
            if self._is_whole and self.scheduler.pass_time(self._now_us):
                self._decide(Ticked(self._now_us))
            elif self._is_whole and not self._has_decided and self.scheduler.may_foresee:
                # Only once what was decided before has left.
                self._foresee()
        self._has_decided = False
        if self.session.phase is Phase.RUNNING and self._dedication is not None:
            self._look_at_time(self._dedication, spent_us)
        if self.tracer is not None:
            self.tracer.each_turn()
        if self.session.phase is not Phase.OVER:
            self._watch_stall()
            self._watch_silence()

    def _look_at_time(self, dedication: Dedication, spent_us: int) -> None:
        """Keep runners from this rank's worker while there is too much to decide about."""
        if not dedication.is_due(self._now_us):
            return
        others = int(self.scheduler.state.ready[COORDINATOR_RANK + 1 :].sum())
        has_changed = dedication.look(self._now_us, spent_us, others)
        if has_changed and self.session.phase is Phase.RUNNING:
            self._decide(WorkerWithheld(COORDINATOR_RANK, dedication.is_dedicated))

    def _decide(self, event: SchedulerEvent) -> None:
        """Let the scheduler take an event and do what follows, unless an error came between.

        An error ends the run, but messages that came with it are handled before that: tables that
        are half changed would decide wrongly, and print with a gap.
        """
        if self._is_whole:
            self._is_whole, self._has_decided = False, True
            if self.tracer is not None:
                self.tracer.deciding(event)
            with self._narrator.places():
                actions = self.scheduler.handle(event)
            if self.tracer is not None:
                self.tracer.decided(event, actions)
            self._schedule(actions)
            self._is_whole = True

    def _foresee(self) -> None:
        """Let the scheduler decide ahead; an error ends the run, as in `_decide`."""
        self._is_whole = False
        with self._narrator.places():
            self.scheduler.foresee()
        self._is_whole = True

    def _schedule(self, actions: tuple[scheduling.Action, ...]) -> None:
        for action in actions:
            if isinstance(action, scheduling.ToWorker):
                self._host.delivered(("worker", action.worker), action.message)
                self._send(*self._tree.routed(action.worker, action.message))
            elif isinstance(action, scheduling.ToHome):
                self._send(*self._tree.routed(action.home, action.message))
            elif isinstance(action, scheduling.ToAll):
                for rank in range(self._rank_count):
                    self._send(*self._tree.routed(rank, action.message))
            elif isinstance(action, scheduling.ToLeader):
                self._host.delivered(("leader", action.leader), action.message)
                self._send(action.leader, action.message)
            elif isinstance(action, scheduling.Print):
                self._host.printed(action.data)
            elif isinstance(action, scheduling.RecordOrder):
                self._host.ordered(action)
            elif isinstance(action, scheduling.Claim):
                self._host.claimed(action)
            else:
                if action.failure is not None:
                    self._note_fault()
                self._perform_all(self.session.handle(action))

    def _perform_all(self, actions: tuple[phases.Action, ...]) -> None:
        for action in actions:
            if isinstance(action, phases.ToAll):
                for rank in range(self._rank_count):
                    self._send(rank, action.message)
            elif isinstance(action, phases.Begin):
                self._decide(Started(self._image.entry, self._image.reserved))
            elif isinstance(action, phases.MakeOutputs):
                self.tasks.append(self._make(action.ending))
            elif isinstance(action, phases.SettleOutputs):
                self.tasks.append(self._settle())
            else:
                self.tasks.clear()
                self._host.failed(action.failure)

    def _make(self, ending: scheduling.Complete) -> Task:
        places, exit_code = yield from self._host.make_outputs(ending)
        visible = self.scheduler.state.log.visible
        self._perform_all(self.session.made(visible, places, exit_code))

    def _settle(self) -> Task:
        yield from self._host.settle_outputs()
        self._perform_all(self.session.settled())

    # --- long waits -----------------------------------------------------------------------------
    def _watch_stall(self) -> None:
        """Ask the ranks that are waited for what they do, and tell it with the rest."""
        if self._asked_at_us:
            is_late = self._now_us - self._asked_at_us >= _ANSWER_US
            if self._asked and not is_late:
                return
            self._host.tell(self._stall_text())
            self._asked_at_us = 0
        elif self._now_us - self._heard_at_us >= self._stall_us:
            self._stall_us *= 2
            self._serial += 1
            self._asked = set(self._concerned())
            self._answers = {}
            self._asked_at_us = self._now_us
            for rank in sorted(self._asked):
                self._silence.asked(rank, self._now_us)
                self._send(rank, StatusRequested(self._serial))

    def _watch_silence(self) -> None:
        """Ask ranks that say nothing more; end the run where one is lost: it would have no end."""
        for rank in self._silence.whom_to_ask(self._now_us):
            self._silence.asked(rank, self._now_us)
            self._send(rank, StatusRequested(_NO_SERIAL))
        by_patience: dict[float, list[int]] = {}
        for rank, owing_us in self._silence.owing(self._now_us).items():
            patience_s = self._patience_s(rank)
            if owing_us >= int(patience_s * _US_PER_S):
                by_patience.setdefault(patience_s, []).append(rank)
        if by_patience:
            patience_s, lost = min(by_patience.items())
            raise lost_ranks(lost, self.hosts, patience_s)

    def _patience_s(self, rank: int) -> float:
        """Return how long a rank may be silent: one that loads its engine answers nobody."""
        is_running = self.session.phase is Phase.RUNNING
        if is_running and self.scheduler.state.ready[rank]:
            return config.LOST_S
        return config.LOST_AT_FILES_S

    def _named(self, rank: int) -> str:
        return _named(rank, self.hosts)

    def _concerned(self) -> set[int]:
        """Return the ranks whose move it is."""
        if self.session.phase is not Phase.RUNNING:
            return set(self.session.awaited)
        state = self.scheduler.state
        homes = {home for waiting in state.log.homes_awaited().values() for home in waiting}
        return homes | set(np.flatnonzero(state.running > 0).tolist())

    def _stall_text(self) -> str:
        seconds = (self._now_us - self._heard_at_us) / _US_PER_S
        lines = [f"dvm: no progress for {seconds:.0f} s: {self.waits_for}"]
        shown = config.RANKS_SHOWN_MAX
        silent = dict.fromkeys(self._asked, "does not answer; it may be stuck or gone")
        told = sorted((self._answers | silent).items())
        running = self._running_at()
        lines += [
            f"  {self._named(rank)}: {text}{running.get(rank, '')}" for rank, text in told[:shown]
        ]
        if len(told) > shown:
            lines.append(f"  and {counted(len(told) - shown, 'more rank')}")
        return "\n".join(lines)

    @property
    def has_begun(self) -> bool:
        """Whether everything was loaded and the program has begun."""
        return self.session.phase is not Phase.LOADING

    @property
    def waits_for(self) -> str:
        """Tell what the run waits for, in one line."""
        if self.session.phase is not Phase.RUNNING:
            return self.session.waits_for
        state = self.scheduler.state
        running = counted(state.running_count, "runner")
        parts = [f"{running} running, {self.scheduler.queued_count:,} queued"]
        if not state.ready.any():
            parts.append("no worker is ready: their code is being compiled")
        parts += [
            f"epoch {epoch:,} waits for home {', '.join(map(str, homes))}"
            for epoch, homes in list(state.log.homes_awaited().items())[: config.EPOCHS_IN_FLIGHT]
        ]
        return "; ".join(parts)

    # --- what outlives the run ------------------------------------------------------------------
    def ask_some(self) -> None:
        """Ask ranks what they do, for the next `describe`: few at a time, and all in turn."""
        for _ in range(min(self._rank_count, config.RANKS_ASKED_AT_ONCE)):
            self._send(self._asked_next, StatusRequested(_NO_SERIAL))
            self._asked_next = (self._asked_next + 1) % self._rank_count

    def describe(self) -> dict[str, str]:
        """Return the state of the run by headings; after a fault that of the moment before it."""
        if self._at_fault is not None:
            return self._at_fault
        counters = self.scheduler.counters
        told = {
            "phase": self.session.phase.value,
            "waits for": self.waits_for,
            "epoch": f"{self.scheduler.state.log.visible:,} is visible",
            "runners": f"{counters.runners:,} created, {counters.commits:,} committed, "
            f"{counters.retries:,} retried; {counted(counters.instructions, 'instruction')}",
        }
        running = self._running_at()
        for rank in range(self._rank_count):
            since_us, text = self._states.get(rank, (0, "has not told yet what it does"))
            ago_s = (self._now_us - since_us) / _US_PER_S
            when = f"{ago_s:.1f} s before: " if since_us else ""
            told[f"rank {rank}"] = f"{when}{text}{running.get(rank, '')}"
        return told

    def _note_fault(self) -> None:
        if self._at_fault is None:
            self._at_fault = self.describe()

    def _running_at(self) -> dict[int, str]:
        """Tell how many runners each rank has that has any, and which one since longest."""
        rows = self.scheduler.state.running_rows()
        order = np.lexsort((rows["attempt"], rows["worker"]))
        ranks, firsts, counts = np.unique(
            rows["worker"][order], return_index=True, return_counts=True
        )
        return {
            rank: f"; it has {counted(count, 'runner')}, since longest {int(first['id']):#x}, "
            f"which began at {self._narrator.label(int(first['entry']))}, as of epoch "
            f"{int(first['snapshot']):,}"
            for rank, count, first in zip(
                ranks.tolist(), counts.tolist(), rows[order[firsts]], strict=True
            )
        }
