"""A whole machine in simulated time: thousands of ranks, and one integer that repeats a run.

Scheduler, homes and workers are those of the MPI program, and so is what a rank does in a turn: it
takes its messages, then executes a slice, and what came of it leaves. While it executes, nobody is
served; that is what makes homes busy. Rank r has home r and worker r, rank 0 coordinates as well;
where there are leaders, messages go through them.
Time passes only here: from one event of the agenda to the next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from dvm_mpi import config
from dvm_mpi.control.capacity import geometry_of
from dvm_mpi.control.delivery import Part
from dvm_mpi.control.driver import (
    INSTRUCTIONS_PER_US,
    Ending,
    LocalMachine,
    MachineSettings,
    Observer,
    StalledError,
)
from dvm_mpi.control.gathering import Gathering
from dvm_mpi.control.leader import COORDINATOR_RANK, Leader, Tree
from dvm_mpi.control.messages import TO_WORKER, GatheredTaken, Message, WorkerReady
from dvm_mpi.control.scheduler import Scheduler, Ticked, WorkerLost, WorkerSuspected
from dvm_mpi.control.worker import Worker
from dvm_mpi.disa.image import Image
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.home import Home
from dvm_mpi.dsm.local_plane import LatePlane, LateRead
from dvm_mpi.dsm.messages import BlocksMoved
from dvm_mpi.dsm.snapshot import DataPlane
from dvm_mpi.engine.interface import Engine
from dvm_mpi.sim.faults import Fault, FaultKind, FaultPlan
from dvm_mpi.sim.network import Agenda, Network, source_of_chance
from dvm_mpi.sim.trace import Trace
from dvm_mpi.values import dataclass, field

_NS_PER_US: Final = 1_000
#: What a rank needs to take one message, and for a slice however short.
_MESSAGE_NS: Final = 1_000
_SLICE_NS: Final = 500
#: Later than everything.
_NEVER: Final = 1 << 62
#: Parts that a message about a stall names.
_TOLD_MAX: Final = 8


@dataclass(frozen=True, slots=True)
class _Arrival:
    """A message comes to its rank."""

    source: Part
    target: Part
    message: Message | WorkerSuspected | WorkerLost


@dataclass(frozen=True, slots=True)
class _Turn:
    """A rank takes its turn, if that is still what it waits for."""

    rank: int


#: What the agenda holds.
_Entry = _Arrival | _Turn | LateRead


@dataclass(slots=True)
class _Rank:
    """One rank, as the clock sees it."""

    slowness: float
    inbox: deque[_Arrival] = field(default_factory=deque)
    busy_until_ns: int = 0
    #: When its next turn is due.
    turn_ns: int = _NEVER
    #: Whether its worker is dead.
    is_silent: bool = False


@dataclass(frozen=True, slots=True)
class Timing:
    """How a simulated machine runs in time.

    `network` is a name of `network.NETWORKS`. `slice_fuel` is what a slice has at most;
    `draws_fuel` lets the seed decide how much of it each one gets. `workers` are the ranks that
    execute runners. `tree` says through whom messages go.
    """

    seed: int
    network: str
    workers: range
    slice_fuel: int = config.SLICE_FUEL
    draws_fuel: bool = True
    tree: Tree = field(default_factory=lambda: Tree(()))


@dataclass(slots=True)
class CoordinatorTraffic:
    """What reached rank 0 from other ranks, and what it sent them, as the scheduler's messages."""

    received: int = 0
    sent: int = 0
    #: Of those sent, what leaders handed on.
    relayed: int = 0
    #: What the scheduler has decided about, after records were joined.
    decided: int = 0


class SimulatedMachine(LocalMachine):
    """Loads one program and runs it to its end in simulated time.

    Parameters
    ----------
    image
        The program.
    settings
        Sizes, with as many workers as homes: one of each on every rank. `plane` is "late" for
        reads of homes' memory beside the messages, or "message".
    timing, plan
        What the seed decides: delays and faults.
    make_engine
        Called once for each rank.
    observer
        Takes console output and looks on.
    trace
        Told of every event, if there is one.
    make_home, make_scheduler, make_leader
        Build these parts; tests put faulty ones here.
    """

    def __init__(
        self,
        image: Image,
        settings: MachineSettings,
        timing: Timing,
        plan: FaultPlan,
        make_engine: Callable[[], Engine],
        *,
        stdin: bytes = b"",
        observer: Observer | None = None,
        trace: Trace | None = None,
        make_home: Callable[..., Home] = Home,
        make_scheduler: Callable[..., Scheduler] = Scheduler,
        make_leader: Callable[[Geometry], Leader] = Leader,
    ) -> None:
        assert settings.workers == settings.homes, "rank r has worker r and home r"
        self._timing = timing
        self._random = source_of_chance(timing.seed)
        self._network = Network(timing.network, self._random)
        self._agenda = Agenda()
        self._faults = deque(plan.faults)
        self._ranks = [_Rank(slowness) for slowness in plan.slowness]
        self._leaders = {
            rank: make_leader(geometry_of(image, settings.homes)) for rank in timing.tree.leaders
        }
        self._gathering = Gathering()
        #: Leaders that rank 0 has heard in this turn.
        self._heard_leaders: dict[int, None] = {}
        self.traffic = CoordinatorTraffic()
        self._reads: list[list[LateRead]] = [[] for _ in range(settings.workers)]
        self._trace = trace
        #: The present, and within a turn the moment at which what is said leaves.
        self._now_ns = 0
        #: Events so far: turns, and reads of homes' memory.
        self.event_count = 0
        super().__init__(
            image,
            settings,
            make_engine,
            stdin=stdin,
            observer=observer,
            make_home=make_home,
            make_scheduler=partial(make_scheduler, workers_ready=False, tree=timing.tree),
        )

    @property
    def now_ns(self) -> int:
        """How much time has passed."""
        return self._now_ns

    def silent_workers(self) -> list[int]:
        """Return the workers that have died."""
        return [number for number, rank in enumerate(self._ranks) if rank.is_silent]

    # --- running --------------------------------------------------------------------------------
    def run(self) -> Ending:
        """Run the program to its end; as `LocalMachine.run`."""
        for number in self._timing.workers:
            self._post(("worker", number), ("coordinator", 0), WorkerReady(number))
        for number in self._leaders:
            # What it has said to itself leaves with its first turn.
            self._call(number, self._now_ns)
        return super().run()

    def settle(self) -> None:
        """Deliver what is still under way after the end; nobody executes or decides any more."""
        assert self._ending is not None, "the program has not ended"
        for rank in self._ranks:
            for arrival in rank.inbox:
                self._agenda.note(self._now_ns, arrival)
            rank.inbox.clear()
        while len(self._agenda):
            self._now_ns, entry = self._agenda.pop()
            if isinstance(entry, _Arrival) and entry.target[0] != "coordinator":
                self._hand_over(entry)
                if entry.target[0] == "leader":
                    self._pass_on(entry.target[1])
            elif isinstance(entry, LateRead) and not self._ranks[entry.plane.worker].is_silent:
                entry.plane.finish(entry)
                self.workers[entry.plane.worker].poll_plane()

    def _turn(self) -> None:
        """Let the next event happen."""
        self.observer.turned(self)
        next_ns = self._agenda.next_ns()
        if self._faults and (next_ns is None or self._faults[0].at_ns <= next_ns):
            self._fail(self._faults.popleft())
            return
        if next_ns is None:
            raise StalledError(self._describe_stall())
        at_ns, entry = self._agenda.pop()
        if isinstance(entry, _Arrival):
            rank = self._rank_of(entry.target)
            self._ranks[rank].inbox.append(entry)
            self._call(rank, at_ns)
            return
        if isinstance(entry, _Turn):
            if self._ranks[entry.rank].turn_ns != at_ns:
                return
            self._ranks[entry.rank].turn_ns = _NEVER
        self._now_ns = at_ns
        self.event_count += 1
        if isinstance(entry, _Turn):
            self._take_turn(entry.rank)
        else:
            self._read(entry)

    def _take_turn(self, number: int) -> None:
        """Let a rank do what a turn of `control.rank.Rank` does."""
        rank = self._ranks[number]
        if rank.busy_until_ns > self._now_ns:
            # It was paused meanwhile.
            self._call(number, rank.busy_until_ns)
            return
        for _ in range(min(len(rank.inbox), config.RECEIVES_AT_ONCE)):
            self._now_ns += _MESSAGE_NS
            self._hand_over(rank.inbox.popleft())
        if number == COORDINATOR_RANK:
            self._coordinate()
        self._pass_on(number)
        if not rank.is_silent and number in self._timing.workers:
            self._work(number, rank)
            self._pass_on(number)
        rank.busy_until_ns = self._now_ns
        self._plan(number, rank)
        if self.settings.check and self._ending is None:
            self._check(number)

    def _coordinate(self) -> None:
        """Let the scheduler decide about all that has come in this turn, and time pass."""
        taken = self._gathering.take()
        for message in taken:
            self.traffic.decided += 1
            self._deliver(("coordinator", 0), message)
        if not taken and self._ending is None:
            self.scheduler.foresee()
        if self._ending is None:
            self._schedule(Ticked(self._now_ns // _NS_PER_US))
        for leader in self._heard_leaders:
            self._note_arrival(("coordinator", 0), ("leader", leader), GatheredTaken())
        self._heard_leaders.clear()

    def _pass_on(self, number: int) -> None:
        """Let a leader send what it may."""
        leader = self._leaders.get(number)
        if leader is None:
            return
        for rank, message in leader.hand_on():
            self._note_arrival(("leader", number), _part_of(rank, message), message)
            if isinstance(message, BlocksMoved):
                self._note_arrival(("leader", number), ("worker", rank), message)
        for told in leader.leave():
            self._note_arrival(("leader", number), ("coordinator", 0), told)

    def _work(self, number: int, rank: _Rank) -> None:
        """Let a worker take pages that have come, wake sleepers and execute a slice."""
        worker, part = self.workers[number], ("worker", number)
        now_us = self._now_ns // _NS_PER_US
        self._send(part, worker.poll_plane())
        self._send(part, tuple(worker.wake(now_us)))
        if worker.is_runnable:
            fuel = self._draw_fuel()
            sent, instructions = worker.run_slice(fuel, now_us)
            took_ns = instructions * _NS_PER_US / INSTRUCTIONS_PER_US * rank.slowness
            self._now_ns += _SLICE_NS + int(took_ns)
            if self._trace is not None:
                self._trace.slice(self._now_ns, number, instructions)
            self._send(part, sent)
        self._begin_reads(number)

    def _draw_fuel(self) -> int:
        """Return the fuel of a slice: short and long ones alike, if the seed decides."""
        fuel = self._timing.slice_fuel
        return int(fuel ** self._random.random()) if self._timing.draws_fuel else fuel

    def _plan(self, number: int, rank: _Rank) -> None:
        """Note when a rank takes its next turn by itself."""
        worker: Worker = self.workers[number]
        if rank.inbox or (worker.is_runnable and not rank.is_silent):
            self._call(number, rank.busy_until_ns)
            return
        wakes_at_us = None if rank.is_silent else worker.wakes_at_us
        if wakes_at_us is not None:
            self._call(number, wakes_at_us * _NS_PER_US)
        if number == 0 and self._ending is None:
            due_at_us = self.scheduler.due_at_us
            if due_at_us is not None:
                self._call(0, due_at_us * _NS_PER_US)
            if self.scheduler.may_foresee:
                self._call(0, rank.busy_until_ns)

    def _call(self, number: int, at_ns: int) -> None:
        """Let a rank take a turn at a time, or when it is free, or sooner if it does so anyway."""
        rank = self._ranks[number]
        at_ns = max(at_ns, rank.busy_until_ns)
        if at_ns < rank.turn_ns:
            rank.turn_ns = at_ns
            self._agenda.note(at_ns, _Turn(number))

    # --- messages and reads ---------------------------------------------------------------------
    @staticmethod
    def _rank_of(part: Part) -> int:
        return 0 if part[0] == "coordinator" else part[1]

    def _post(self, source: Part, target: Part, message: Message) -> None:
        """Send a message, through a leader if there is one."""
        tree, rank = self._timing.tree, self._rank_of(source)
        if target[0] == "coordinator":
            leader = tree.leader_of(rank)
            if leader == rank != COORDINATOR_RANK:
                self._leaders[rank].take(rank, message)  # type: ignore[arg-type]
                return
            if leader != COORDINATOR_RANK:
                target = ("leader", leader)
        elif target[0] == "leader":
            self.traffic.sent += 1
        elif source[0] == "coordinator" and target[1] != COORDINATOR_RANK:
            self.traffic.sent += 1
            receiver, routed = tree.routed(target[1], message)
            if routed is not message:
                if isinstance(message, BlocksMoved) and target[0] == "worker":
                    # What its leader tells the home of a rank it tells the worker as well.
                    return
                self.traffic.relayed += 1
                target, message = ("leader", receiver), routed
        self._note_arrival(source, target, message)

    def _note_arrival(self, source: Part, target: Part, message: Message) -> None:
        """Let a message arrive when the network says."""
        arrives_ns = self._network.arrival_ns(
            self._rank_of(source), self._rank_of(target), self._now_ns
        )
        self._agenda.note(arrives_ns, _Arrival(source, target, message))

    def _hand_over(self, arrival: _Arrival) -> None:
        """Let a part handle a message; the dead do not."""
        target, message = arrival.target, arrival.message
        if self._trace is not None:
            self._trace.message(self._now_ns, arrival.source, target, message)
        if isinstance(message, WorkerSuspected | WorkerLost):
            self._schedule(message)
            return
        if target[0] == "worker" and self._ranks[target[1]].is_silent:
            # What it was told belongs to the history all the same.
            self.observer.delivered(target, message)
            return
        if target[0] == "leader":
            source = self._rank_of(arrival.source)
            self._leaders[target[1]].take(source, message)  # type: ignore[arg-type]
            return
        if target[0] == "coordinator":
            self._gather(self._rank_of(arrival.source), message)
            return
        self._deliver(target, message)
        if target[0] == "worker":
            self._begin_reads(target[1])

    def _gather(self, source: int, message: Message) -> None:
        """Keep what is for the scheduler until rank 0 has taken all that is there."""
        self._gathering.add(source, message)  # type: ignore[arg-type]
        self.traffic.received += source != COORDINATOR_RANK
        if source in self._leaders:
            self._heard_leaders[source] = None

    def _make_plane(self, worker: int) -> DataPlane:
        if self.settings.plane == "late":
            return LatePlane(self.homes, worker, self._reads[worker])
        return super()._make_plane(worker)

    def _begin_reads(self, worker: int) -> None:
        """Put the reads that a worker has begun on the agenda."""
        for read in self._reads[worker]:
            self._agenda.note(self._network.read_ns(self._now_ns), read)
        self._reads[worker].clear()

    def _read(self, read: LateRead) -> None:
        """Make a read: the home's memory is read now, whatever its rank does."""
        number = read.plane.worker
        if self._trace is not None:
            self._trace.read(self._now_ns, number, read)
        if not self._ranks[number].is_silent:
            read.plane.finish(read)
            self._call(number, self._now_ns)

    # --- faults ---------------------------------------------------------------------------------
    def _fail(self, fault: Fault) -> None:
        """Let something go wrong."""
        if self._trace is not None:
            self._trace.fault(fault)
        rank = self._ranks[fault.rank]
        noticed_ns = fault.at_ns
        if fault.kind is FaultKind.DEATH:
            rank.is_silent = True
            noticed_ns += fault.duration_ns
        else:
            rank.busy_until_ns = max(rank.busy_until_ns, fault.at_ns) + fault.duration_ns
        if fault.kind is not FaultKind.PAUSE:
            self._notice(noticed_ns, WorkerSuspected(fault.rank))
        if fault.kind is FaultKind.DEATH:
            self._notice(noticed_ns + fault.duration_ns, WorkerLost(fault.rank))

    def _notice(self, at_ns: int, event: WorkerSuspected | WorkerLost) -> None:
        coordinator = ("coordinator", 0)
        self._agenda.note(at_ns, _Arrival(coordinator, coordinator, event))

    # --- looking --------------------------------------------------------------------------------
    def _check(self, number: int) -> None:
        """Assert the invariants of all parts that a turn of this rank can have changed."""
        if number == 0:
            self.scheduler.check_invariants()
        self.homes[number].check_invariants()
        self.workers[number].check_invariants()
        if number in self._leaders:
            self._leaders[number].check_invariants()

    def _describe_stall(self) -> str:
        waits = [
            f"worker {w.number}: {w.waits_for}"
            for w in self.workers
            if not (w.is_settled or self._ranks[w.number].is_silent)
        ]
        waits += [f"home {h.index}: {h.waits_for}" for h in self.homes if h.epochs_waiting]
        state = self.scheduler.state
        waits += [
            f"leader {rank} holds {leader.held_count} messages"
            for rank, leader in self._leaders.items()
            if leader.held_count
        ]
        waits += [
            f"epoch {epoch} waits for homes {', '.join(map(str, homes))}"
            for epoch, homes in state.log.homes_awaited().items()
        ]
        more = f"; {len(waits) - _TOLD_MAX} more" if len(waits) > _TOLD_MAX else ""
        return (
            f"nothing can happen, and {self.scheduler.queued_count} runners are queued, "
            f"{state.running_count} running and {len(state.held)} held back: "
            f"{'; '.join(waits[:_TOLD_MAX])}{more}"
        )


def _part_of(rank: int, message: Message) -> Part:
    """Return which part of a rank takes a message that a leader sends it."""
    return ("worker" if isinstance(message, TO_WORKER) else "home", rank)
