"""A whole machine inside one process: any number of workers and homes around one coordinator.

It is the machine of one rank, and the ground that the simulator stands on: the same state machines
as in a job over MPI, with messages carried in memory. The order of events is a function of the
program, its inputs and the seed. Invariant: parts meet only through messages and the data plane.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from dvm_mpi import config
from dvm_mpi.control import coordinator_state as actions
from dvm_mpi.control.capacity import geometry_of
from dvm_mpi.control.coordinator_tracer import CoordinatorTracer
from dvm_mpi.control.delivery import Delivery, InOrder, Part
from dvm_mpi.control.diagnosis import Narrator
from dvm_mpi.control.journal import Gauge
from dvm_mpi.control.loader import LOADED_EPOCH, Loader
from dvm_mpi.control.messages import Message
from dvm_mpi.control.metering import Activity
from dvm_mpi.control.policies import Placement
from dvm_mpi.control.scheduler import Scheduler, SchedulerEvent, Started, Ticked
from dvm_mpi.control.tracer import PartsTracer
from dvm_mpi.control.validation import ConflictUnit, Isolation
from dvm_mpi.control.wire import decode, encode
from dvm_mpi.control.worker import Worker
from dvm_mpi.disa.image import Image
from dvm_mpi.dsm.frames import FramePool, reserve_frames
from dvm_mpi.dsm.home import COORDINATOR, Home
from dvm_mpi.dsm.local_plane import LatePlane, LateRead, LocalDataPlane
from dvm_mpi.dsm.message_plane import MessagePlane
from dvm_mpi.dsm.messages import BetweenHomes
from dvm_mpi.dsm.migration import Limits
from dvm_mpi.dsm.ranges import distinct
from dvm_mpi.dsm.snapshot import DataPlane
from dvm_mpi.engine.interface import Engine
from dvm_mpi.errors import LimitError
from dvm_mpi.layout import PAGE_BYTES
from dvm_mpi.values import dataclass, field

#: Instructions that count as one microsecond of the machine's own time.
INSTRUCTIONS_PER_US = 400


class Observer(Protocol):
    """What the world outside sees and does; every method may do nothing."""

    def printed(self, data: NDArray[np.uint8]) -> None:
        """Write committed console output."""

    def idle(self, duration_us: int) -> None:
        """Let time pass: every runner sleeps."""

    def turned(self, driver: LocalMachine) -> None:
        """Look at the machine; called often."""

    def did(self, activity: Activity, instructions: int) -> None:
        """Learn what the machine did since `turned` was called."""

    @property
    def lone_fuel(self) -> int:
        """Fuel of a slice beside which nothing can happen, if that is more than usual."""

    def delivered(self, target: Part, message: Message) -> None:
        """See a message before its receiver handles it."""

    def ordered(self, order: actions.RecordOrder) -> None:
        """See which attempts committed, in their order."""

    def claimed(self, claim: actions.Claim) -> None:
        """See who lost to what, what woke whom, and who was given up on."""


class Silent:
    """An observer that does nothing; base for those that do something."""

    def printed(self, data: NDArray[np.uint8]) -> None:
        """Drop the output."""

    def idle(self, duration_us: int) -> None:
        """Let no time pass."""

    def turned(self, driver: LocalMachine) -> None:
        """Do not look."""

    def did(self, activity: Activity, instructions: int) -> None:
        """Do not look."""

    @property
    def lone_fuel(self) -> int:
        """Let all slices be as usual."""
        return 0

    def delivered(self, target: Part, message: Message) -> None:
        """Do not look."""

    def ordered(self, order: actions.RecordOrder) -> None:
        """Do not look."""

    def claimed(self, claim: actions.Claim) -> None:
        """Do not look."""


#: No batch is as long as that: workers that take turns gain nothing by each other's batches.
NEVER_RECALLED: Final = 2**62


@dataclass(frozen=True, slots=True)
class MachineSettings:
    """Sizes of a one-process machine; bytes unless the name says otherwise.

    `memory_bytes` is for the frames of all homes together. `on_wire` sends every message through
    the codec, as MPI does. `plane` is how bytes move: "direct" takes them where they lie, "message"
    sends them within the messages, "late" reads them some time after they were asked for. `check`
    asserts every part's invariants after each event. With `tells_staged` records hold all stored
    bytes, for a history. `isolation` serializable wants engines that track loads.
    `deterministic`: the run goes by rounds. `placement`, `placement_seed` and
    `recall_fuel_min` and `share_fuel_min` as of `Scheduler`; unless they are given nothing moves
    between workers of one process, and a few runners are shared out too. `migration`: when blocks
    of pages move between homes, if they do. `pace_per_us`: instructions that workers are taken to
    execute in a microsecond, for how long batches are; the interpreter's if that is less. It is not
    measured, since the order of events depends on it.
    """

    workers: int = 1
    homes: int = 1
    stack_bytes: int = config.STACK_BYTES_DEFAULT
    memory_bytes: int = config.GIB
    arena_slice_bytes: int = config.ARENA_SLICE_BYTES
    inline_bytes_max: int = config.INLINE_BYTES_MAX
    tells_staged: bool = False
    isolation: Isolation = "snapshot"
    conflict_unit: ConflictUnit = "byte"
    plane: Literal["direct", "message", "late"] = "direct"
    on_wire: bool = False
    check: bool = False
    deterministic: bool = False
    placement: Placement = "load"
    placement_seed: int = 0
    recall_fuel_min: int = NEVER_RECALLED
    share_fuel_min: int = 0
    migration: Limits | None = None
    pace_per_us: float = 0.0


@dataclass(frozen=True, slots=True)
class MachineTracer:
    """Who looks on at the parts of a machine: for each number of a worker or a home, and at 0."""

    parts: list[PartsTracer]
    coordinator: CoordinatorTracer

    def each_turn(self, homes: list[Home]) -> None:
        """Look at what changes with time."""
        self.coordinator.each_turn()
        for home, parts in zip(homes, self.parts, strict=False):
            if parts.gauges.is_due():
                parts.gauges.look({Gauge.RESIDENT_BYTES: home.pool.in_use * PAGE_BYTES}, {})


@dataclass(slots=True)
class Ending:
    """How a run ended: a trap or none, and the watchers that were still armed."""

    failure: actions.Failure | None
    watchers: tuple[actions.ArmedWatcher, ...]


class StalledError(AssertionError):
    """Nothing can happen any more, and the program has not ended: a defect of ours."""


@dataclass(slots=True)
class _Parts:
    workers: list[Worker] = field(default_factory=list)
    homes: list[Home] = field(default_factory=list)
    late_reads: list[LateRead] = field(default_factory=list)


def frames_of_home(memory_bytes: int, homes: int) -> int:
    """Return how many frames each home gets.

    Raises
    ------
    LimitError
        There is not one for each.
    """
    frames = memory_bytes // PAGE_BYTES // homes
    if frames == 0:
        raise LimitError(
            f"--memory {memory_bytes} is too small: each of the {homes} homes needs at least one "
            f"page of {PAGE_BYTES} bytes"
        )
    return frames


class LocalMachine:
    """Loads one program, runs it to its end, and gives its memory to the writers.

    Parameters
    ----------
    image
        The program.
    settings
        Sizes.
    make_engine
        Called once for each worker.
    stdin
        The whole of standard input.
    delivery
        Order of events; in order of posting if None.
    observer
        Takes console output and looks on.
    make_home
        Builds a home; tests put faulty ones here.
    """

    def __init__(
        self,
        image: Image,
        settings: MachineSettings,
        make_engine: Callable[[], Engine],
        *,
        stdin: bytes = b"",
        delivery: Delivery | None = None,
        observer: Observer | None = None,
        make_home: Callable[..., Home] = Home,
        make_scheduler: Callable[..., Scheduler] = Scheduler,
    ) -> None:
        self.image = image
        self._narrator = Narrator(image)
        self.settings = settings
        self.observer: Observer = observer or Silent()
        #: Where pages live, as the coordinator knows.
        self.geometry = geometry_of(image, settings.homes)
        #: Looks on, if a trace was asked for.
        self.tracer: MachineTracer | None = None
        self._delivery: Delivery = delivery or InOrder()
        self._parts = _Parts()
        self._now_us = 0
        self._spent = 0
        self._ending: Ending | None = None
        self._build_homes(image, make_home)
        self.scheduler = make_scheduler(
            self.geometry,
            settings.workers,
            settings.stack_bytes,
            LOADED_EPOCH,
            isolation=settings.isolation,
            conflict_unit=settings.conflict_unit,
            deterministic=settings.deterministic,
            placement=settings.placement,
            placement_seed=settings.placement_seed,
            recall_fuel_min=settings.recall_fuel_min,
            share_fuel_min=settings.share_fuel_min,
            migration=settings.migration,
        )
        for number in range(settings.workers):
            engine = make_engine()
            engine.load(image, stdin)
            plane = self._make_plane(number)
            worker = Worker(
                number,
                engine,
                geometry_of(image, settings.homes),
                plane,
                settings.arena_slice_bytes,
                settings.inline_bytes_max,
                settings.tells_staged,
            )
            worker.instructions_per_us = settings.pace_per_us
            self._parts.workers.append(worker)
        self.loader = Loader(self.geometry, dict(enumerate(self._parts.homes)))
        self.loader.load_image(image)

    def _make_plane(self, worker: int) -> DataPlane:
        match self.settings.plane:
            case "direct":
                return LocalDataPlane(self._parts.homes, worker)
            case "message":
                return MessagePlane()
            case "late":
                return LatePlane(self._parts.homes, worker, self._parts.late_reads)

    def _build_homes(self, image: Image, make_home: Callable[..., Home]) -> None:
        settings = self.settings
        frames = frames_of_home(settings.memory_bytes, settings.homes)
        slice_bytes = 0 if settings.plane == "message" else settings.arena_slice_bytes
        for number in range(settings.homes):
            arena = np.zeros((settings.workers, slice_bytes), dtype=np.uint8)
            pool = FramePool(reserve_frames(frames))
            # Each part hears of moves by itself.
            geometry = geometry_of(image, settings.homes)
            self._parts.homes.append(make_home(number, geometry, pool, arena))

    # --- what others may look at ----------------------------------------------------------------
    @property
    def workers(self) -> list[Worker]:
        """The workers, by number."""
        return self._parts.workers

    @property
    def homes(self) -> list[Home]:
        """The homes, by number."""
        return self._parts.homes

    def read(self, first_page: int, page_count: int) -> NDArray[np.uint8]:
        """Return pages as of the newest visible epoch: (page_count, PAGE_BYTES) uint8."""
        pages = np.arange(first_page, first_page + page_count)
        content = np.zeros((page_count, PAGE_BYTES), dtype=np.uint8)
        visible = self.scheduler.state.log.visible
        homes = self.geometry.home_of(pages, visible)
        for number in distinct(homes).tolist():
            chosen = homes == number
            content[chosen] = self._parts.homes[number].read(pages[chosen], visible)
        return content

    # --- running --------------------------------------------------------------------------------
    def run(self) -> Ending:
        """Run the program to its end.

        Raises
        ------
        DvmError
            A limit was reached.
        StalledError
            A defect: nothing can happen, but the program has not ended.
        """
        self.loader.finish()
        self._schedule(Started(self.image.entry, self.image.reserved))
        while self._ending is None:
            self._turn()
        return self._ending

    def _turn(self) -> None:
        """Deliver one message, run one slice, make one late read, or let time pass."""
        self.observer.turned(self)
        activity, instructions = Activity.SERVING, 0
        runnable = [w.number for w in self._parts.workers if w.is_runnable]
        # Late reads take turns as if they were workers, with the numbers behind those.
        late = range(self.settings.workers, self.settings.workers + len(self._parts.late_reads))
        chosen = self._delivery.next([*runnable, *late])
        if chosen is None:
            activity = Activity.IDLE
            self._wait()
        elif isinstance(chosen, tuple):
            if chosen[0][0] == "coordinator":
                activity = Activity.COORDINATING
            self._deliver(*chosen)
        elif chosen in late:
            self._finish_read(self._parts.late_reads[late.index(chosen)])
        else:
            worker = self._parts.workers[chosen]
            fuel = self._delivery.slice_fuel or config.SLICE_FUEL
            if self._is_alone(worker):
                fuel = max(fuel, self.observer.lone_fuel)
            tracer = None if self.tracer is None else self.tracer.parts[chosen].worker
            if tracer is not None:
                tracer.slice_begins(worker)
            sent, instructions = worker.run_slice(fuel, self._now_us)
            if tracer is not None:
                tracer.slice_ended(worker, instructions, sent)
            self._send(("worker", chosen), sent)
            self._spend(instructions)
            activity = Activity.EXECUTING
        self.observer.did(activity, instructions)
        if self.settings.check and self._ending is None:
            self.scheduler.check_invariants()
            for home in self._parts.homes:
                home.check_invariants()

    def _is_alone(self, worker: Worker) -> bool:
        """Say whether nothing can happen before a worker that is to run says something.

        It has one attempt, and says nothing before that ends or waits: how long its slices are
        makes no difference to anybody.
        """
        others = [other for other in self._parts.workers if other is not worker]
        return (
            self._delivery.may_lengthen
            and (worker.batch is None or len(worker.batch.attempts) == 1)
            and not any(other.is_runnable or other.wakes_at_us is not None for other in others)
            and not self._parts.late_reads
            and self.scheduler.due_at_us is None
        )

    def _finish_read(self, read: LateRead) -> None:
        self._parts.late_reads.remove(read)
        read.plane.finish(read)
        number = read.plane.worker
        worker = self._parts.workers[number]
        sent = worker.poll_plane()
        if self.tracer is not None:
            self.tracer.parts[number].worker.polled(worker, sent)
        self._send(("worker", number), sent)

    def _spend(self, instructions: int) -> None:
        self._spent += instructions
        whole, self._spent = divmod(self._spent, INSTRUCTIONS_PER_US)
        self._tick(whole + 1)

    def _tick(self, duration_us: int) -> None:
        """Let time pass; sleepers whose workers are idle go on when they are due."""
        self._now_us += duration_us
        if self._ending is None and self.scheduler.pass_time(self._now_us):
            self._schedule(Ticked(self._now_us))
        for worker in self._parts.workers:
            self._send(("worker", worker.number), tuple(worker.wake(self._now_us)))

    def _wait(self) -> None:
        """Nothing is under way: pass the time to the next thing that waits for it."""
        moments = [w.wakes_at_us for w in self._parts.workers if w.wakes_at_us is not None]
        closes = self.scheduler.due_at_us
        if closes is not None:
            moments.append(closes)
        if not moments:
            raise StalledError(self._describe_stall())
        duration = max(min(moments) - self._now_us, 0)
        if closes is None or closes > min(moments):
            self.observer.idle(duration)
        self._tick(duration)

    def _describe_stall(self) -> str:
        waits = "; ".join(f"worker {w.number}: {w.waits_for}" for w in self._parts.workers)
        return (
            f"nothing can happen, and {self.scheduler.queued_count} runners are queued and "
            f"{self.scheduler.state.running_count} running ({waits})"
        )

    def _deliver(self, target: Part, message: Message) -> None:
        kind, number = target
        if self.settings.on_wire:
            message = decode(encode(message))
        self.observer.delivered(target, message)
        tracer = self.tracer
        if kind == "worker":
            worker = self._parts.workers[number]
            sent = worker.handle(message)  # type: ignore[arg-type]
            if tracer is not None:
                tracer.parts[number].worker.took(worker, message, sent)
            self._send(target, sent)
        elif kind == "home":
            began = 0 if tracer is None else tracer.parts[number].journal.now()
            home = self._parts.homes[number]
            replies = home.handle(message)  # type: ignore[arg-type]
            if tracer is not None:
                tracer.parts[number].home.served(home, began, message, replies)
            for receiver, reply in replies:
                to: Part = ("coordinator", 0) if receiver == COORDINATOR else ("worker", receiver)
                if isinstance(reply, BetweenHomes):
                    to = ("home", receiver)
                self._post(target, to, reply)
        else:
            self._schedule(message)  # type: ignore[arg-type]

    def _post(self, source: Part, target: Part, message: Message) -> None:
        """Put a message under way."""
        self._delivery.post(source, target, message)

    def _send(self, source: Part, sent: tuple[tuple[Part, Any], ...]) -> None:
        for target, message in sent:
            self._post(source, target, message)

    def _schedule(self, event: SchedulerEvent) -> None:
        if self._ending is not None:
            return
        if self.tracer is not None:
            self.tracer.coordinator.deciding(event)
        with self._narrator.places():
            actions = self.scheduler.handle(event)
        if self.tracer is not None:
            self.tracer.coordinator.decided(event, actions)
        for action in actions:
            self._perform(action)

    def _perform(self, action: actions.Action) -> None:
        source: Part = ("coordinator", 0)
        if isinstance(action, actions.ToWorker):
            self._post(source, ("worker", action.worker), action.message)
        elif isinstance(action, actions.ToHome):
            self._post(source, ("home", action.home), action.message)
        elif isinstance(action, actions.ToAll):
            for number in range(self.settings.homes):
                self._post(source, ("home", number), action.message)
            for number in range(self.settings.workers):
                self._post(source, ("worker", number), action.message)
        elif isinstance(action, actions.ToLeader):
            self._post(source, ("leader", action.leader), action.message)
        elif isinstance(action, actions.Print):
            self.observer.printed(action.data)
        elif isinstance(action, actions.RecordOrder):
            self.observer.ordered(action)
        elif isinstance(action, actions.Claim):
            self.observer.claimed(action)
        else:
            self._ending = Ending(action.failure, action.watchers)

    def close(self) -> None:
        """Give back the engines' memory; idempotent."""
        for worker in self._parts.workers:
            worker.engine.close()
