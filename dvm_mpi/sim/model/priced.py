"""The simulated machine with the costs of a real one: ranks are busy for what their turns take.

Coordinator, homes and workers are the real ones, as in `sim.machine`; so is the order in which a
turn does things (`control.rank.Rank.turn`). What is added is what time is made of: the price of
each step, buffers that join the messages for one rank, LogGP delays, adapters that hosts share,
naps of idle ranks, and cores that ranks share.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi import config
from dvm_mpi.config import DEDICATED_OTHERS_MIN
from dvm_mpi.control.dedication import Dedication
from dvm_mpi.control.delivery import Part
from dvm_mpi.control.driver import MachineSettings
from dvm_mpi.control.gathering import Gathering
from dvm_mpi.control.leader import COORDINATOR_RANK, Tree
from dvm_mpi.control.messages import CoordinatorEvent, Finished, Message
from dvm_mpi.control.prediction import LengthEstimate
from dvm_mpi.control.scheduler import SchedulerEvent, WorkerWithheld
from dvm_mpi.control.worker import Worker
from dvm_mpi.disa.image import Image
from dvm_mpi.dsm.local_plane import LateRead
from dvm_mpi.engine.interface import Engine
from dvm_mpi.layout import PAGE_BYTES
from dvm_mpi.sim.faults import FaultPlan
from dvm_mpi.sim.machine import _NEVER, SimulatedMachine, Timing, _Arrival, _Rank, _Turn
from dvm_mpi.sim.model import effort
from dvm_mpi.sim.model.costs import Costs, Network
from dvm_mpi.values import dataclass, field

_NS_PER_US: Final = 1_000
_NS_PER_S: Final = 1e9
#: Sleeps of an idle rank until they are as long as they get, in nanoseconds.
_NAPS_NS: Final = tuple(
    min(config.NAP_S_MIN * 2**n, config.NAP_S_MAX) * _NS_PER_S
    for n in range(int(np.ceil(np.log2(config.NAP_S_MAX / config.NAP_S_MIN))) + 1)
)
#: What looks of idle ranks may have of their cores at most.
_LOOKING_SHARE_MAX: Final = 0.9
#: Steps of a turn that executes a slice, and nothing else.
_QUIET_TURN: Final[tuple[tuple[str, effort.Amounts], ...]] = (
    ("turn", (1, 0)),
    ("receive", (1, 0, 0, 0)),
    ("send", (2, 0, 0, 0)),
    ("poll", (1, 0, 0)),
    ("execute", (1, 0, 0, 0, 0)),
)


@dataclass(frozen=True, slots=True)
class Site:
    """Where ranks run: what everything costs, the network between hosts, and the hosts.

    Ranks are dealt to hosts in blocks. `cores` are those of each host; ranks that have no core to
    themselves take turns.
    """

    costs: Costs
    network: Network
    ranks_per_host: int = 1
    cores: int = 1
    #: Of one instruction of the job.
    instruction_ns: float = 2.5
    #: What other processes have of the cores, as a share: all turns take so much longer.
    others_share: float = 0.0

    def host_of(self, rank: int) -> int:
        """Return the host of a rank."""
        return rank // self.ranks_per_host


@dataclass(frozen=True, slots=True)
class _Buffer:
    """Messages that left one rank together for another."""

    source: int
    target: int
    arrivals: list[_Arrival]
    size: int


@dataclass(frozen=True, slots=True)
class _CoreFree:
    """A core of a host has nothing to do."""

    host: int


@dataclass(slots=True)
class Times:
    """What was seen of a run, beside the machine's own counters; nanoseconds and bytes."""

    #: By rank: turns, and of these the instructions.
    busy: NDArray[np.float64]
    executing: NDArray[np.float64]
    #: Of rank 0: decisions.
    coordinating: float = 0.0
    #: Of rank 0: buffers that came from others.
    taken: int = 0
    #: When the first event came, and when all was visible.
    began: int = 0
    ended: int = 0
    #: Between ranks: all bytes, buffers, messages. Pages read beside the messages count too.
    moved: int = 0
    buffers: int = 0
    messages: int = 0
    #: From a record's arrival at the coordinator until its epoch is visible.
    lags: list[int] = field(default_factory=list)


class _FixedBatches(LengthEstimate):
    """Batches that do not grow where runners are short."""

    def __init__(self, runners: int) -> None:
        super().__init__()
        self._runners = runners

    @property
    def batch_runners(self) -> int:
        """Always the same."""
        return self._runners

    def fitting(self, fuel: int, runner_fuel: float) -> int:
        """Return always the same."""
        del fuel, runner_fuel
        return self._runners

    def _needed(self, entries: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return nothing for each: their number alone counts."""
        return np.zeros(len(entries), np.int64)


class _OneByOne(Gathering):
    """Messages for the coordinator, none of them joined with others."""

    def add(self, source: int, message: CoordinatorEvent) -> None:
        """Take a message."""
        self._slots.append(message)


class PricedMachine(SimulatedMachine):
    """A machine whose time is that of a site.

    Parameters are those of `SimulatedMachine`, and
    site
        What everything costs.
    tree
        Through whom ranks talk to rank 0; None: themselves.
    may_dedicate
        Whether rank 0's worker gets nothing while decisions take most of its time.
    """

    def __init__(
        self,
        image: Image,
        settings: MachineSettings,
        workers: range,
        site: Site,
        make_engine: Callable[[], Engine],
        *,
        tree: Tree | None = None,
        may_dedicate: bool = False,
    ) -> None:
        self._site = site
        self._outbox: dict[int, list[_Arrival]] = {}
        #: Buffers of each rank that have come and were not taken.
        self._inboxes: list[deque[_Buffer]] = [deque() for _ in range(settings.workers)]
        #: Since when a rank has been idle; -1 if it was not at the end of its last turn. Before the
        #: first one it waits for work.
        self._idle_since: list[int] = [0] * settings.workers
        hosts = site.host_of(settings.workers - 1) + 1
        self._cores_free = [site.cores] * hosts
        #: Ranks of each host whose turn it is, and that have no core.
        self._without_core: list[deque[int]] = [deque() for _ in range(hosts)]
        self._waits = [False] * settings.workers
        #: When each host's adapter is free to send, and to receive.
        self._sends_at = [0.0] * hosts
        self._receives_at = [0.0] * hosts
        #: Whether every rank has a core of its own.
        self._has_own_cores = site.cores >= site.ranks_per_host
        #: Ranks in the midst of a long runner: since when, time of a slice, slices until it ends.
        self._coasting: dict[int, tuple[int, float, int]] = {}
        #: Messages of the event that is decided about, and batches in those for several workers;
        #: and all messages that have left, ever.
        self._posted = self._shares = 0
        self._passed = 0
        #: Moments at which records came that are not visible yet, by epoch.
        self._records_at: dict[int, list[int]] = {}
        ranks = settings.workers
        self.times = Times(np.zeros(ranks), np.zeros(ranks))
        self._dedication = Dedication() if may_dedicate else None
        plan = FaultPlan((1.0,) * ranks, (), None, None, None)
        timing = Timing(0, "none", workers, draws_fuel=False, tree=tree or Tree(()))
        super().__init__(image, settings, timing, plan, make_engine)

    # --- events ---------------------------------------------------------------------------------
    def _turn(self) -> None:
        next_ns = self._agenda.next_ns()
        if next_ns is None:
            # What nobody waits for any more is sent all the same.
            super()._turn()
            return
        self._now_ns, entry = self._agenda.pop()
        self.event_count += 1
        if isinstance(entry, _Buffer):
            self._inboxes[entry.target].append(entry)
            self._notice_work(entry.target)
        elif isinstance(entry, LateRead):
            entry.plane.finish(entry)
            self._notice_work(entry.plane.worker)
        elif isinstance(entry, _CoreFree):
            self._give_core(entry.host)
        elif isinstance(entry, _Turn):
            if self._ranks[entry.rank].turn_ns == self._now_ns:
                self._ranks[entry.rank].turn_ns = _NEVER
                self._want_core(entry.rank)
        elif isinstance(entry, _Arrival):
            # Said before the run began: no rank has sent it.
            target = self._rank_of(entry.target)
            self._inboxes[target].append(_Buffer(target, target, [entry], 0))
            self._notice_work(target)

    def _notice_work(self, number: int) -> None:
        """Let a rank take its turn when it next looks: at once, or after its nap."""
        if self._waits[number]:
            return
        coasting = self._coasting.get(number)
        if coasting is not None:
            began_ns, slice_ns, _ = coasting
            slices = -int(-(self._now_ns - began_ns) // slice_ns)
            self._call(number, int(began_ns + slices * slice_ns))
            return
        since = self._idle_since[number]
        self._call(number, self._now_ns if since < 0 else self._next_look(since))

    def _next_look(self, since_ns: int) -> int:
        """Return when a rank that has been idle since a time looks again, from now on."""
        idle_ns = self._site.costs.price("idle", (1,))
        extra_ns = self._site.costs.nap_extra_ns + idle_ns
        at = since_ns + idle_ns
        for nap in _NAPS_NS:
            if at >= self._now_ns:
                return int(at)
            at += nap + extra_ns
        longest = _NAPS_NS[-1] + extra_ns
        return int(at + max(np.ceil((self._now_ns - at) / longest), 0) * longest)

    def make_naive(self, runners: int) -> None:
        """Let batches be of so many runners, and nothing be joined: before the run."""
        self.scheduler.state.lengths = _FixedBatches(runners)
        self._gathering = _OneByOne()

    # --- cores ----------------------------------------------------------------------------------
    def _want_core(self, number: int) -> None:
        """Let a rank take its turn, now or when a core of its host is free."""
        if self._has_own_cores:
            self._take_turn(number)
            return
        host = self._site.host_of(number)
        if self._cores_free[host] == 0:
            self._waits[number] = True
            queue = self._without_core[host]
            # The kernel prefers who has slept.
            (queue.appendleft if self._idle_since[number] >= 0 else queue.append)(number)
            return
        self._cores_free[host] -= 1
        self._take_turn(number)

    def _give_core(self, host: int) -> None:
        queue = self._without_core[host]
        if not queue:
            self._cores_free[host] += 1
            return
        number = queue.popleft()
        self._waits[number] = False
        self._take_turn(number)

    # --- a turn ---------------------------------------------------------------------------------
    def _take_turn(self, number: int) -> None:
        rank = self._ranks[number]
        began_ns = self._now_ns
        self._end_coasting(number)
        taken = self._receive(number)
        did = taken > 0
        if number == 0:
            self._coordinate()
        self._pass_on(number)
        self._flush(number)
        if number in self._timing.workers:
            did |= self._work_priced(number, rank)
        self._pass_on(number)
        self._flush(number)
        self._spend_on("turn", (1, taken)) if did else self._spend_on("idle", (1,))
        self.times.busy[number] += (self._now_ns - began_ns) * (1 - self._site.others_share)
        if not self._has_own_cores:
            self._wait_for_looks(number, self._now_ns - began_ns)
        rank.busy_until_ns = self._now_ns
        if not self._has_own_cores:
            self._agenda.note(self._now_ns, _CoreFree(self._site.host_of(number)))
        self._plan_next(number, rank, did)

    def _wait_for_looks(self, number: int, took_ns: int) -> None:
        """Let a turn take longer by what looks of idle ranks took of its core meanwhile.

        Where a core is free they look there. Most look after the longest nap.
        """
        host, size = self._site.host_of(number), self._site.ranks_per_host
        if self._cores_free[host] > 0:
            return
        look_ns = self._site.costs.price("idle", (1,))
        period_ns = look_ns + _NAPS_NS[-1] + self._site.costs.nap_extra_ns
        idle = sum(since >= 0 for since in self._idle_since[host * size : (host + 1) * size])
        share = min(idle * look_ns / period_ns / self._site.cores, _LOOKING_SHARE_MAX)
        self._now_ns += int(took_ns * share / (1 - share))

    def _receive(self, number: int) -> int:
        """Take the buffers that have come; return how many messages those were."""
        inbox = self._inboxes[number]
        taken = [inbox.popleft() for _ in range(min(len(inbox), config.RECEIVES_AT_ONCE))]
        others = [buffer for buffer in taken if buffer.source != number]
        self.times.taken += len(others) if number == 0 else 0
        messages = sum(len(buffer.arrivals) for buffer in others)
        size = sum(buffer.size for buffer in others)
        self._spend_on("receive", (1, len(others), messages, size))
        for buffer in taken:
            for arrival in buffer.arrivals:
                self._hand_over(arrival)
        return sum(len(buffer.arrivals) for buffer in taken)

    def _coordinate(self) -> None:
        """Decide, and look how much of the time that takes."""
        super()._coordinate()
        if self._dedication is None or self._ending is not None:
            return
        others = int(self.scheduler.state.ready[COORDINATOR_RANK + 1 :].sum())
        spent_us = int(self.times.coordinating / _NS_PER_US)
        if self._dedication.look(self._now_ns // _NS_PER_US, spent_us, others):
            withheld = WorkerWithheld(COORDINATOR_RANK, self._dedication.is_dedicated)
            self._schedule(withheld)

    def _pass_on(self, number: int) -> None:
        leader = self._leaders.get(number)
        if leader is not None:
            before = self._passed
            super()._pass_on(number)
            self._spend_on("lead", (0, 1, self._passed - before))

    def _work_priced(self, number: int, rank: _Rank) -> bool:
        """Let a worker take pages, wake sleepers and execute a slice."""
        worker, part = self.workers[number], ("worker", number)
        now_us = self._now_ns // _NS_PER_US
        before = worker.installed_bytes
        self._send(part, worker.poll_plane())
        came = worker.installed_bytes - before
        self._spend_on(*effort.of_poll(came))
        self._send(part, tuple(worker.wake(now_us)))
        did = came > 0
        if worker.is_runnable:
            did = True
            sent, instructions = worker.run_slice(config.SLICE_FUEL, now_us)
            took_ns = instructions * self._site.instruction_ns
            self._spend(took_ns)
            self.times.executing[number] += took_ns
            self._spend_on(*effort.of_slice(sent))
            self._send(part, sent)
        self._begin_reads(number)
        return did

    def _plan_next(self, number: int, rank: _Rank, did: bool) -> None:
        worker: Worker = self.workers[number]
        self._idle_since[number] = -1
        if self._inboxes[number] or worker.is_runnable:
            coasts = self._has_own_cores and not self._inboxes[number]
            coasts &= number > 0 or self._decides_by_messages_alone
            if not (coasts and self._coast(number, worker)):
                self._call(number, self._now_ns)
            return
        self._idle_since[number] = self._now_ns
        due = [] if worker.wakes_at_us is None else [worker.wakes_at_us]
        if number == 0 and self._ending is None and self.scheduler.due_at_us is not None:
            due.append(self.scheduler.due_at_us)
        if due:
            ends_ns = self._now_ns
            self._now_ns = max(min(due) * _NS_PER_US, ends_ns)
            look_ns = self._next_look(ends_ns)
            self._now_ns = ends_ns
            self._call(number, look_ns)

    @property
    def _decides_by_messages_alone(self) -> bool:
        """Whether time alone lets rank 0 decide nothing: no epoch is to close, no runner waits."""
        may_dedicate = self._dedication is not None and len(self._ranks) > DEDICATED_OTHERS_MIN
        return not may_dedicate and self.scheduler.due_at_us is None

    def _coast(self, number: int, worker: Worker) -> bool:
        """Let slices pass in which nothing can happen but messages; return whether there are any.

        They are executed at the end, or when a message comes, at the end of the slice in which it
        does: what a rank says does not depend on it, and thousands of ranks take less time.
        """
        steady: int = getattr(worker.engine, "steady", 0)
        slices = max(steady - 1, 0) // config.SLICE_FUEL
        if slices == 0:
            return False
        costs = self._site.costs
        slice_ns = config.SLICE_FUEL * self._site.instruction_ns + sum(
            costs.price(step, amounts) for step, amounts in _QUIET_TURN
        )
        # Rank 0 tells its coordinator what time it is.
        slice_ns += costs.price("hear", (1,)) if number == COORDINATOR_RANK else 0.0
        slice_ns /= 1 - self._site.others_share
        self._coasting[number] = self._now_ns, slice_ns, slices
        self._call(number, int(self._now_ns + slices * slice_ns))
        return True

    def _end_coasting(self, number: int) -> None:
        """Execute the slices that have passed."""
        coasting = self._coasting.pop(number, None)
        if coasting is None:
            return
        began_ns, slice_ns, most = coasting
        slices = min(round((self._now_ns - began_ns) / slice_ns), most)
        if slices:
            sent, count = self.workers[number].run_slice(slices * config.SLICE_FUEL, 0)
            assert not sent, "a rank that coasts has nothing to say"
            self.times.executing[number] += count * self._site.instruction_ns
            self.times.busy[number] += slices * slice_ns * (1 - self._site.others_share)
            if number == COORDINATOR_RANK:
                self.times.coordinating += slices * self._site.costs.price("hear", (1,))

    def _spend(self, nanoseconds: float) -> None:
        self._now_ns += int(nanoseconds / (1 - self._site.others_share))

    def _spend_on(self, step: str, amounts: effort.Amounts) -> None:
        self._spend(self._site.costs.price(step, amounts))

    # --- parts ----------------------------------------------------------------------------------
    def _deliver(self, target: Part, message: Message) -> None:
        kind, number = target
        if kind == "worker":
            sent = self.workers[number].handle(message)  # type: ignore[arg-type]
            self._spend_on(*effort.of_worker(message, sent))
            self._send(target, sent)
        elif kind == "home":
            replies = self.homes[number].handle(message)  # type: ignore[arg-type]
            self._spend_on(*effort.of_home(message, replies))
            for receiver, reply in replies:
                to: Part = ("worker", receiver) if receiver >= 0 else ("coordinator", 0)
                self._post(target, to, reply)
        else:
            self._schedule(message)  # type: ignore[arg-type]

    def _schedule(self, event: SchedulerEvent) -> None:
        if self._ending is not None:
            return
        log = self.scheduler.state.log
        if isinstance(event, Finished):
            self._records_at.setdefault(log.open_epoch, []).append(self._now_ns)
        visible, before = log.visible, effort.told(self.scheduler.counters)
        self._posted, self._shares, relayed = 0, 0, self.traffic.relayed
        began_ns = self._now_ns
        super()._schedule(event)
        after = effort.told(self.scheduler.counters)
        if not self.times.began and self.scheduler.counters.attempts:
            self.times.began = began_ns
        relayed = self.traffic.relayed - relayed
        self._spend_on(*effort.of_coordinator(before, after, self._posted, relayed, self._shares))
        self.times.coordinating += self._now_ns - began_ns
        for epoch in range(visible, log.visible):
            came = self._records_at.pop(epoch + 1, [])
            self.times.lags += [self._now_ns - at for at in came]
        if self._has_ended():
            self.times.ended = self._now_ns

    def _has_ended(self) -> bool:
        return self._ending is not None

    # --- messages -------------------------------------------------------------------------------
    def _post(self, source: Part, target: Part, message: Message) -> None:
        self._posted += 1
        self._shares += effort.shares_of(message)
        if target[0] == "coordinator" and self._rank_of(source) in self._leaders:
            self._spend_on("lead", (1, 0, 0))
        super()._post(source, target, message)

    def _note_arrival(self, source: Part, target: Part, message: Message) -> None:
        """Let a message leave with the others of its turn."""
        self._passed += 1
        arrival = _Arrival(source, target, message)
        if self.event_count == 0:
            # Before the run no rank has a turn in which it could be said.
            self._agenda.note(self._now_ns, arrival)
        else:
            self._outbox.setdefault(self._rank_of(target), []).append(arrival)

    def _hand_over(self, arrival: _Arrival) -> None:
        if arrival.target[0] == "leader":
            self._spend_on("lead", (1, 0, 0))
        super()._hand_over(arrival)

    def _flush(self, number: int) -> None:
        """Send what has been said, one buffer for each rank."""
        outbox, self._outbox = self._outbox, {}
        own = outbox.pop(number, None)
        if own is not None:
            self._inboxes[number].append(_Buffer(number, number, own, 0))
        sizes = {
            rank: sum(effort.wire_bytes(arrival.message) for arrival in arrivals)
            for rank, arrivals in outbox.items()
        }
        messages, size = sum(map(len, outbox.values())), sum(sizes.values())
        self._spend_on("send", (1, len(outbox), messages, size))
        self.times.moved += size
        self.times.messages += messages
        self.times.buffers += len(outbox)
        for rank, arrivals in outbox.items():
            buffer = _Buffer(number, rank, arrivals, sizes[rank])
            self._agenda.note(self._arrival_ns(number, rank, sizes[rank]), buffer)

    def _arrival_ns(self, source: int, target: int, size: int) -> int:
        """Return when bytes that leave a rank now are at another one."""
        here, there = self._site.host_of(source), self._site.host_of(target)
        if here == there:
            network = self._site.costs.within
            return int(self._now_ns + network.latency_ns + size * network.byte_ns)
        network = self._site.network
        took_ns = size * network.byte_ns
        begins = max(self._now_ns, self._sends_at[here])
        self._sends_at[here] = begins + took_ns
        ends = max(begins + network.latency_ns, self._receives_at[there]) + took_ns
        self._receives_at[there] = ends
        return int(ends)

    def _begin_reads(self, worker: int) -> None:
        for read in self._reads[worker]:
            size = read.frames.size * PAGE_BYTES
            if read.home != worker:
                self.times.moved += size
                here = self._site.host_of(read.home) == self._site.host_of(worker)
                network = self._site.costs.within if here else self._site.network
                # There and back again.
                self._now_ns += int(network.latency_ns) if here else 0
            at_ns = self._arrival_ns(read.home, worker, size)
            if read.home != worker and not here:
                at_ns += int(self._site.network.latency_ns)
            self._agenda.note(at_ns, read)
        self._reads[worker].clear()

    def settle(self) -> None:
        """Do nothing: what is under way at the end is nobody's concern here."""

    def _describe_stall(self) -> str:
        return f"{super()._describe_stall()}; {sum(map(len, self._inboxes))} buffers not taken"


def lag_ms(times: Times, share: float) -> float:
    """Return the lag that a share of all records does not exceed, in milliseconds."""
    lags: Any = times.lags or [0]
    return float(np.quantile(lags, share)) / 1e6
