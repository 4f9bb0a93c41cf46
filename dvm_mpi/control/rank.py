"""One rank of a job: its home, its worker and, on rank 0, the coordinator, around one transport.

A loop of turns: take messages, hand each to the part that it is for, execute a slice of about a
millisecond, send what came of it. Nothing in a turn blocks, so a home answers at most one slice
late whatever its worker does. Long work (loading, writing, waiting for a compilation) is a task, a
generator that is stepped once a turn.
"""

from __future__ import annotations

import gc
import platform
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from dvm_mpi import config
from dvm_mpi.control.cpu_share import CpuShare
from dvm_mpi.control.delivery import Sent
from dvm_mpi.control.gathering import Gathering
from dvm_mpi.control.journal import Work, traced
from dvm_mpi.control.leader import COORDINATOR_RANK, GATHERED, Leader, Tree
from dvm_mpi.control.messages import (
    TO_HOME,
    TO_WORKER,
    BatchesDealt,
    ClockAnswered,
    ClockAsked,
    CodeShared,
    CoordinatorEvent,
    Dispatched,
    GatheredTaken,
    LeaderEvent,
    Message,
    Metered,
    PagesHeld,
    ProgramEnded,
    RankFailed,
    RankFinished,
    RankLoaded,
    Relayed,
    RunEnded,
    StatusReported,
    StatusRequested,
    TraceRows,
    WorkerReady,
)
from dvm_mpi.control.metering import Activity, Meter
from dvm_mpi.control.rank_clock import RankClock
from dvm_mpi.control.slices import SliceLength
from dvm_mpi.control.transport import Nap, Transport
from dvm_mpi.control.worker import Worker
from dvm_mpi.dsm import messages as memory
from dvm_mpi.dsm.home import COORDINATOR, Home
from dvm_mpi.errors import DvmError, ExitCode, RankLostError
from dvm_mpi.io.report import counted
from dvm_mpi.layout import PAGE_BYTES

if TYPE_CHECKING:
    from dvm_mpi.control.coordinator import Coordinator, Task
    from dvm_mpi.control.rank_tracer import RankTracer

_NS_PER_US: Final = 1_000
#: Objects after which Python looks for garbage among the young, at most: that takes 2 ms.
_YOUNG_OBJECTS_MAX: Final = 20_000
#: What a leader takes, or the coordinator, with all else of it that comes in the same turn.
_GATHERED: Final = (*GATHERED, Relayed, GatheredTaken, BatchesDealt, memory.AppliesRequested)
#: What the coordinator takes at once.
_TO_COORDINATOR: Final = (
    RankLoaded,
    RankFailed,
    RankFinished,
    StatusReported,
    PagesHeld,
    Metered,
    TraceRows,
)
#: What lets a home read what others put into its memory, or write what others read.
_TOUCHING_MEMORY: Final = (
    memory.Staged,
    memory.ApplyRequested,
    memory.BlocksMoved,
    memory.PagesHanded,
    memory.StoresPassed,
    memory.PinsMoved,
)

#: Writes this rank's part of the outputs; returns figures for the report, as JSON.
WritingTask = Generator[bool, None, str]


class Syncing(Protocol):
    """Memory that others read and write behind our back."""

    def sync(self) -> None:
        """Make what others put visible here, and what was written here visible to others."""


def now_us() -> int:
    """Return this rank's own time."""
    return time.monotonic_ns() // _NS_PER_US


def used_us() -> int:
    """Return the processor time of this process so far, all its threads together."""
    return time.process_time_ns() // _NS_PER_US


@contextmanager
def _without_long_collections() -> Iterator[None]:
    """Keep what exists by now out of the search for garbage, which would stop this rank.

    Modules and tables live as long as the run. To look through them takes 20 ms, far longer than a
    turn, and it comes without notice. So does a look at very many young ones, for which a start
    takes its time.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(min(before[0], _YOUNG_OBJECTS_MAX), *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


class Rank:
    """The parts of one rank.

    Parameters
    ----------
    transport
        To all ranks of the run.
    home
        Of this rank.
    write_outputs
        Makes the task that writes this rank's part of the outputs as of an epoch.
    windows
        Whose memory the home uses; None if it is private.
    has_worker
        Whether a worker will be added, once there is an engine.
    slice_fuel
        Instructions between two looks at the messages; None: as many as last a millisecond.
    cpu_share
        Says when this rank rests; None: never.
    resident_bytes
        Tells how large this process is.
    tree
        Through whom ranks talk to the coordinator; None: themselves.
    """

    def __init__(
        self,
        transport: Transport,
        home: Home,
        write_outputs: Callable[[int, str], WritingTask],
        *,
        windows: Syncing | None = None,
        has_worker: bool = True,
        slice_fuel: Callable[[], int] | None = None,
        cpu_share: CpuShare | None = None,
        resident_bytes: Callable[[], int] = lambda: 0,
        tree: Tree | None = None,
    ) -> None:
        self.transport = transport
        self.home = home
        self.worker: Worker | None = None
        self.coordinator: Coordinator | None = None
        #: The run's exit code, once it is over.
        self.exit_code: int | None = None
        self.tasks: deque[Task] = deque()
        #: Looks on, if a trace was asked for.
        self.tracer: RankTracer | None = None
        #: Takes translated code that other hosts have made.
        self.take_code: Callable[[CodeShared], None] = lambda shared: None
        self._tree = tree or Tree(())
        self._leader_rank = self._tree.leader_of(transport.rank)
        #: Of other ranks too, if this one is a leader.
        self._leader = Leader(home.geometry) if transport.rank in self._tree.leaders else None
        #: What the coordinator gets in this turn, and the leaders that it comes from; rank 0 only.
        self._gathering = Gathering()
        self._heard_leaders: dict[int, None] = {}
        #: How much time went to that, ever.
        self._coordinating_us = 0
        self._write_outputs = write_outputs
        self._windows = windows
        self._has_worker = has_worker
        self._slice_fuel = slice_fuel
        self._slices = SliceLength()
        #: The batch of which slices were executed last.
        self._begun: Dispatched | None = None
        self._cpu_share = cpu_share
        #: Whether this rank serves only, since its share of its core is used up.
        self._rests = False
        self._resident_bytes = resident_bytes
        #: This rank's clock, and rank 0's.
        self.clock = RankClock(transport, time.monotonic_ns)
        self._meter = Meter(now_us(), transport.size)
        #: When the meter began, in rank 0's time; 0: not known yet. It stays as it was told first,
        #: so that spans go on without a gap.
        self._metered_from_us = 0
        self._host = platform.node()
        #: Whether runners may still be executed.
        self._runs = True
        self._has_failed = False
        #: Since when there has been nothing to do, for `describe`.
        self._idle_since_us = now_us()

    # --- parts ----------------------------------------------------------------------------------
    def add_worker(self, worker: Worker) -> None:
        """Begin to execute runners."""
        self.worker = worker
        self._tell(WorkerReady(worker.number))

    def loaded(self, loaded_bytes: int) -> None:
        """Say that the home holds its part of the program and its inputs."""
        if self._windows is not None:
            self._windows.sync()
        self.transport.send(0, RankLoaded(self.transport.rank, loaded_bytes))

    def fail(self, exit_code: int, text: str) -> None:
        """End the run for a reason that the user should know; only the first one counts."""
        if not self._has_failed:
            self._has_failed = True
            self._runs = False
            self.tasks.clear()
            self.transport.send(0, RankFailed(self.transport.rank, exit_code, text))

    # --- turns ----------------------------------------------------------------------------------
    def run(self, each_turn: Callable[[], None]) -> int:
        """Take turns until the run is over, and return its exit code; sleeps when idle."""
        nap = Nap(self.transport.wait)
        with _without_long_collections():
            while self.exit_code is None:
                each_turn()
                did = self.turn()
                if did:
                    nap.end()
                else:
                    nap.sleep()
                self._meter_turn(did)
        self._tell_spans()
        return self.exit_code

    def turn(self) -> bool:
        """Do what can be done now without waiting; return whether that was anything."""
        did, mark = False, self._meter.mark
        for arrived in self.transport.receive():
            did = True
            self._guard(self._deliver, arrived)
        did |= self._deliver_own()
        mark(Activity.SERVING, now_us())
        if self.coordinator is not None:
            self._coordinate(self.coordinator)
            mark(Activity.COORDINATING, now_us())
        # What others wait for leaves before the tasks and the slice, not after them.
        self._flush()
        if self._deliver_own():
            did = True
            mark(Activity.SERVING, now_us())
            self._flush()
        share = self._cpu_share
        self._rests = share is not None and share.rests_us(now_us(), used_us()) > 0
        if not self._rests:
            worked = False
            if self.tasks or (self.coordinator is not None and self.coordinator.tasks):
                mark(Activity.SERVING, now_us())
                worked |= self._step_tasks()
                mark(Activity.LOADING, now_us())
            if self.worker is not None and self._runs:
                worked |= bool(self._guard(self._work, self.worker))
            if worked and share is not None:
                share.worked()
            did |= worked
        self._flush()
        if self.tracer is not None:
            self.tracer.each_turn(self.home)
        self.clock.each_turn()
        if did:
            self._idle_since_us = now_us()
        return did

    def _deliver_own(self) -> bool:
        """Let the parts of this rank talk to each other; return whether anything was said.

        Each would answer in the next turn anyway. But a turn looks at much else.
        """
        for spoken in range(config.OWN_ROUNDS):
            own = self.transport.take_own()
            if not own:
                return spoken > 0
            for message in own:
                self._guard(self._deliver, message)
        return True

    def _guard(self, step: Callable[[Any], Any], argument: Any) -> Any:
        """Take a step; a fault that the user can mend ends the run in order, if all are there."""
        try:
            return step(argument)
        except RankLostError:
            raise
        except DvmError as error:
            self.fail(error.exit_code, error.message)
        except MemoryError as error:
            self.fail(
                ExitCode.LIMIT,
                f"dvm: error: rank {self.transport.rank}: memory does not suffice: "
                f"{error or 'none is left'}",
            )
        return True

    def _coordinate(self, coordinator: Coordinator) -> None:
        """Let the coordinator decide about all that has come in this turn, and time pass."""
        began_us = now_us()
        for message in self._gathering.take():
            self._guard(coordinator.handle, message)
        decided_us = now_us()
        self._guard(lambda spent_us: coordinator.tick(decided_us, spent_us), self._coordinating_us)
        self._coordinating_us += now_us() - began_us
        for leader in self._heard_leaders:
            self.transport.send(leader, GatheredTaken())
        self._heard_leaders.clear()

    def _flush(self) -> None:
        """Send what is to leave, that of the ranks that this one leads too."""
        if self._leader is not None:
            for rank, message in self._leader.hand_on():
                if rank == self.transport.rank:
                    self._guard(self._deliver, (COORDINATOR_RANK, message))
                else:
                    self.transport.send(rank, message)
            for told in self._leader.leave():
                self.transport.send(COORDINATOR_RANK, told)
        self.transport.flush()

    def _deliver(self, arrived: tuple[int, Message]) -> None:
        source, message = arrived
        if self.exit_code is not None:
            # Others may have come to the end before this one, and figures still count.
            self.take_late(message)
        elif isinstance(message, TO_HOME):
            self._serve(message)
        elif isinstance(message, TO_WORKER):
            if self._runs:
                assert self.worker is not None, "runners were sent to a rank without a worker"
                sent = self.worker.handle(message)
                if self.tracer is not None:
                    self.tracer.parts.worker.took(self.worker, message, sent)
                self._send(sent)
        elif isinstance(message, _GATHERED):
            self._gather(source, message)
        elif isinstance(message, _TO_COORDINATOR):
            assert self.coordinator is not None, "only rank 0 has the coordinator"
            self._meter.mark(Activity.SERVING, now_us())
            self.coordinator.handle(message)
            self._meter.mark(Activity.COORDINATING, now_us())
        elif isinstance(message, ProgramEnded):
            self._runs = False
            if not self._has_failed:
                self.tasks.append(self._finish(message))
        elif isinstance(message, StatusRequested | ClockAsked | ClockAnswered | CodeShared):
            self._take_aside(message)
        else:
            assert isinstance(message, RunEnded)
            self._runs = False
            self.tasks.clear()
            self.exit_code = message.exit_code

    def _take_aside(
        self, message: StatusRequested | ClockAsked | ClockAnswered | CodeShared
    ) -> None:
        """Take what has to do with no part of the machine."""
        if isinstance(message, StatusRequested):
            report = StatusReported(self.transport.rank, message.serial, self.describe())
            self.transport.send(0, report)
        elif isinstance(message, CodeShared):
            self.take_code(message)
        else:
            self.clock.take(message)

    def _gather(self, source: int, message: CoordinatorEvent | LeaderEvent) -> None:
        """Keep what others are to get, or the coordinator here, until all has come of this turn."""
        if self.coordinator is None:
            assert self._leader is not None, "rank 0 and leaders are for others, this one is not"
            self._leader.take(source, message)
            return
        assert not isinstance(message, LeaderEvent), "the coordinator leads, and is led by nobody"
        self._gathering.add(source, message)
        if source in self._tree.leaders:
            self._heard_leaders[source] = None

    def _tell(self, message: CoordinatorEvent) -> None:
        """Say something to the coordinator, through this rank's leader if it has one."""
        if self._leader is not None:
            self._leader.take(self.transport.rank, message)
        else:
            self.transport.send(self._leader_rank, message)

    def take_late(self, message: Message) -> None:
        """Take a message that comes when the run is over: of what others did then."""
        if self.coordinator is not None and isinstance(message, Metered | TraceRows):
            self.coordinator.handle(message)

    def _serve(self, message: memory.HomeEvent) -> None:
        """Let the home handle a message, between two looks at what others see of its memory."""
        began = self.tracer.now() if self.tracer is not None else 0
        shares = isinstance(message, _TOUCHING_MEMORY)
        if self._windows is not None and shares:
            self._windows.sync()
        replies = self.home.handle(message)
        if self._windows is not None and shares:
            self._windows.sync()
        if self.tracer is not None:
            self.tracer.parts.home.served(self.home, began, message, replies)
        for receiver, reply in replies:
            if receiver == COORDINATOR:
                self._tell(reply)  # type: ignore[arg-type]
            else:
                self.transport.send(receiver, reply)

    def _work(self, worker: Worker) -> bool:
        """Take pages that have come, and execute a slice."""
        arrived = worker.poll_plane()
        self._send(arrived)
        woken = worker.wake(now_us())
        self._send(tuple(woken))
        tracing = None if self.tracer is None else self.tracer.parts.worker
        if tracing is not None:
            tracing.polled(worker, (*arrived, *woken))
        did = bool(arrived) or bool(woken)
        if not worker.is_runnable or self.transport.sends_pending > config.SENDS_PENDING_MAX:
            return did
        if worker.batch is not self._begun:
            self._begun = worker.batch
            if self._slice_fuel is None and not self.transport.is_quiet():
                # Who got its batch in the same moment asks for its pages now, and would wait for a
                # slice.
                return True
        self._meter.mark(Activity.SERVING, now_us())
        for _ in range(config.SLICES_PER_TURN):
            if tracing is not None:
                tracing.slice_begins(worker)
            sent, instructions = self._run_slice(worker, now_us())
            self._meter.executed(instructions)
            if tracing is not None:
                tracing.slice_ended(worker, instructions, sent)
            self._send(sent)
            if sent or not self._may_go_on(worker):
                break
        self._meter.mark(Activity.EXECUTING, now_us())
        return True

    def _may_go_on(self, worker: Worker) -> bool:
        """Whether all that a turn would do now is the next slice: nobody has said anything."""
        is_alone = not self.tasks and self._cpu_share is None and self._slice_fuel is None
        return is_alone and worker.is_runnable and self.transport.is_quiet()

    def _run_slice(self, worker: Worker, begun_us: int) -> tuple[tuple[Sent, ...], int]:
        """Let the worker execute for about a millisecond, or as much as was asked for."""
        if self._slice_fuel is not None:
            return worker.run_slice(self._slice_fuel(), begun_us)
        slices = self._slices
        fuel = slices.fuel
        # By the processor's time: that others have this rank's core says nothing of its pace.
        used_before_us = used_us()
        sent, instructions = worker.run_slice(fuel, begun_us)
        slices.took(fuel, instructions, used_us() - used_before_us)
        worker.instructions_per_us = slices.per_us
        return sent, instructions

    # --- figures --------------------------------------------------------------------------------
    def _meter_turn(self, did: bool) -> None:
        """Give a turn's time to what was done in it, and tell of the spans when it is time."""
        nothing_but = None
        if not did:
            waits = self.worker is not None and self.worker.is_held_up
            nothing_but = Activity.WAITING if waits else Activity.IDLE
        self._meter.end_turn(now_us(), nothing_but)
        if self._meter.is_span_over:
            self._end_span()
            if self._meter.is_due and self.clock.is_known:
                self._tell_spans()

    def _end_span(self) -> None:
        frame_bytes = self.home.pool.in_use * PAGE_BYTES
        self._meter.end_span(self._resident_bytes(), frame_bytes, self.home.staged_bytes)

    def _tell_spans(self) -> None:
        """Tell rank 0 what this rank did since the last time."""
        self._end_span()
        hot = [self.home.hot_pages.take(config.HOT_PAGES_TOLD)]
        if self.worker is not None:
            hot.append(self.worker.hot_pages.take(config.HOT_PAGES_TOLD))
        if not self._metered_from_us and self.clock.is_known:
            self._metered_from_us = self._meter.begins_us + self.clock.offset()[0] // _NS_PER_US
        rank, spans = self.transport.rank, self._meter.take()
        self.transport.send(
            0, Metered(rank, self._host, self._metered_from_us, spans, np.concatenate(hot))
        )

    def _send(self, sent: tuple[Sent, ...]) -> None:
        for (kind, number), message in sent:
            if kind == "coordinator":
                self._tell(message)  # type: ignore[arg-type]
            else:
                self.transport.send(number, message)

    def _finish(self, message: ProgramEnded) -> Task:
        """Write this rank's part of the outputs, and say so."""
        with traced(self.tracer, Work.WRITING):
            figures = yield from self._write_outputs(message.visible, message.places)
        self.transport.send(0, RankFinished(self.transport.rank, figures))

    def _step_tasks(self) -> bool:
        """Step every task once; return whether one of them did something."""
        did = False
        if self.coordinator is not None and self.coordinator.tasks:
            self.tasks.extend(self.coordinator.tasks)
            self.coordinator.tasks.clear()
        for _ in range(len(self.tasks)):
            if not self.tasks:
                break
            task = self.tasks.popleft()
            stepped = self._guard(_step, task)
            if self._has_failed or self.exit_code is not None:
                return True
            if stepped is not _ENDED:
                self.tasks.append(task)
            did |= stepped is not False
        return did

    # --- what others may look at ----------------------------------------------------------------
    def describe(self) -> str:
        """Tell what this rank does and waits for, in one line."""
        parts = []
        if self.worker is not None:
            parts.append(f"worker: {self.worker.waits_for}")
        elif self._has_worker:
            parts.append("its worker is not there yet: its code is being compiled")
        else:
            parts.append("no worker: it coordinates")
        if self._leader is not None and self._leader.held_count:
            held = counted(self._leader.held_count, "message")
            parts.append(f"leads others, and holds {held} until rank 0 has taken some")
        if self._rests:
            parts.append("rests, for its --cpu-share")
        if self.home.epochs_waiting:
            parts.append(f"home: {self.home.waits_for}")
        if self.tasks:
            parts.append(f"{len(self.tasks)} tasks (loading or writing)")
        if self.transport.sends_pending:
            parts.append(f"{self.transport.sends_pending} buffers not taken by others yet")
        idle_s = (now_us() - self._idle_since_us) / 1e6
        if idle_s >= 1:
            parts.append(f"nothing to do for {idle_s:.0f} s")
        return "; ".join(parts)


_ENDED: Final = object()


def _step(task: Task) -> object:
    """Return what the task yields, or `_ENDED`."""
    return next(task, _ENDED)
