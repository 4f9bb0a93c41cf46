"""One rank of a run that `calibrate` measures: a run like any other, and what its steps took.

`python -m dvm_mpi.job.measured FOLDER steps PROGRAM …`, under a launcher, runs a program as
`python -m dvm_mpi` does, and each rank leaves a file with a row for each step of each turn: amounts
as of `sim.model.effort`, and the processor time. `turns` in place of `steps` adds up that of whole
turns, which hardly slows a run down. With nothing behind FOLDER two ranks time messages instead.

Processor time does not grow while others have the core, so a busy machine spoils little of it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from dvm_mpi.control.coordinator_state import ToAll, ToHome, ToLeader, ToWorker
from dvm_mpi.errors import UsageError
from dvm_mpi.job.measuring import STEPS_TIMED, TURNS_TIMED
from dvm_mpi.job.ranks import RanksRun
from dvm_mpi.launch.environment import Launch, detect
from dvm_mpi.launch.signals import Signals
from dvm_mpi.options import RunOptions, parse_run
from dvm_mpi.sim.model import effort

if TYPE_CHECKING:
    from dvm_mpi.control.rank import Rank
    from dvm_mpi.control.rank_machine import RankMachine
    from dvm_mpi.control.transport import Transport
    from dvm_mpi.control.worker import Worker
    from dvm_mpi.launch.memory import MemoryPlan

#: Sleeps that are timed, and how long each was asked to be.
_NAPS: Final = 200
_NAP_S: Final = 20e-6

#: Messages that are timed between two ranks.
_TAG: Final = 5
_SMALL_BYTES: Final = 8
_SMALL_TRIPS: Final = 1_000
_LARGE_BYTES: Final = 1 << 20
_LARGE_TRIPS: Final = 50

now: Final = time.thread_time_ns


class TurnProbe:
    """Times the turns of one rank, and little else, so that a run takes as long as without it.

    On rank 0 it notes as well what all processes had of this host's processors meanwhile.
    """

    def __init__(self, machine: RankMachine) -> None:
        self._rank = machine.rank
        #: Processor time of turns in which something was done, and of the others.
        self.busy_ns = 0
        self.idle_ns = 0
        #: Seconds of the processors, of everybody, before and after.
        self._seen: list[float] = []
        self._counted = False
        self._turn_ended_ns = now()
        _wrap("turn", self._rank, self._turn)

    def _turn(self, original: Callable[[], bool]) -> bool:
        counts = does_work(self._rank)
        if counts is not self._counted:
            self._counted = counts
            self._seen.append(processors_s())
        did = original()
        ended_ns = now()
        # What comes between two turns counts as well.
        if counts and did:
            self.busy_ns += ended_ns - self._turn_ended_ns
        elif counts:
            self.idle_ns += ended_ns - self._turn_ended_ns
        self._turn_ended_ns = ended_ns
        return did

    def write(self, folder: Path) -> None:
        """Write what was seen."""
        told: dict[str, float] = {"busy_ns": self.busy_ns, "idle_ns": self.idle_ns}
        if self._rank.coordinator is not None:
            told["processors_s"] = self._seen[1] - self._seen[0] if len(self._seen) > 1 else 0.0
        path = folder / f"rank-{self._rank.transport.rank}.json"
        path.write_text(json.dumps(told), encoding="utf-8")


def processors_s() -> float:
    """Return the seconds for which this host's processors have worked, for whomever; 0: unknown."""
    try:
        words = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    except OSError:
        return 0.0
    # user, nice, system; idle and iowait; irq, softirq, steal.
    return sum(int(words[place]) for place in (0, 1, 2, 5, 6, 7)) / os.sysconf("SC_CLK_TCK")


def does_work(rank: Rank) -> bool:
    """Tell whether a rank does nothing but the program's work."""
    coordinator = rank.coordinator
    if rank.worker is None or rank.tasks:
        return False
    return coordinator is None or (coordinator.has_begun and not coordinator.tasks)


def _wrap(name: str, thing: Any, wrapper: Callable[..., Any]) -> None:
    original = getattr(thing, name)
    setattr(thing, name, lambda *given: wrapper(original, *given))


class Probe:
    """Times the steps of one rank, by wrapping what its turns call.

    The parts stay as they are: only their attributes on these very objects are others.
    """

    def __init__(self, machine: RankMachine) -> None:
        self._rank = machine.rank
        self._tree = machine.rank._tree
        #: By step: rows of amounts and nanoseconds.
        self.rows: dict[str, list[tuple[float, ...]]] = {step: [] for step in effort.STEPS}
        #: Instructions of each row of `execute`.
        self.instructions: list[int] = []
        #: Nanoseconds of the turn under way that belong to other steps than `turn`.
        self._inner_ns = 0
        self._turn_began_ns = now()
        #: Buffers, messages and bytes that have left since the last look; and of the coordinator.
        self._sent = [0, 0, 0]
        #: What the coordinator has sent, and of that what goes through leaders.
        self._actions = [0, 0, 0]
        #: Messages that have come in the turn under way.
        self._taken = 0
        self._wrap_transport(machine.rank.transport)
        _wrap("turn", self._rank, self._turn)
        _wrap("handle", machine.home, self._home)
        coordinator = self._rank.coordinator
        if coordinator is not None:
            _wrap("handle", coordinator, self._coordinator)
            _wrap("tick", coordinator, self._coordinator)
            _wrap("handle", coordinator.scheduler, self._scheduler)
        leader = self._rank._leader
        if leader is not None:
            _wrap("take", leader, self._take)
            _wrap("hand_on", leader, self._hand_on)
            _wrap("leave", leader, self._leave)
        _wrap("add_worker", self._rank, self._add_worker)

    def _note(self, step: str, amounts: effort.Amounts, began_ns: int, ended_ns: int) -> None:
        """Note a step that was taken between two times; what it takes to note it is in no step."""
        if does_work(self._rank):
            self.rows[step].append((*amounts, ended_ns - began_ns))
        self._inner_ns += now() - began_ns

    # --- turns and messages ---------------------------------------------------------------------
    def _turn(self, original: Callable[[], bool]) -> bool:
        # The turn in which the work begins has begun before it.
        counts, self._taken = does_work(self._rank), 0
        did = original()
        ended_ns = now()
        # What comes between two turns counts as well.
        took_ns = ended_ns - self._turn_began_ns - self._inner_ns
        if counts and did:
            self.rows["turn"].append((1, self._taken, took_ns))
        elif counts:
            self.rows["idle"].append((1, took_ns))
        self._turn_began_ns, self._inner_ns = ended_ns, 0
        return did

    def _wrap_transport(self, transport: Transport) -> None:
        _wrap("sent", transport.traffic, self._note_sent)
        _wrap("flush", transport, self._flush)
        _wrap("receive", transport, self._receive)

    def _note_sent(
        self, original: Callable[..., None], rank: int, size: int, messages: int, *rest: int
    ) -> None:
        original(rank, size, messages, *rest)
        self._sent = [a + b for a, b in zip(self._sent, (1, messages, size), strict=True)]

    def _flush(self, original: Callable[[], None]) -> None:
        self._sent = [0, 0, 0]
        began_ns = now()
        original()
        self._note("send", (1, *self._sent), began_ns, now())

    def _receive(self, original: Callable[[], Any]) -> Any:
        transport = self._rank.transport
        before = transport.received_bytes
        began_ns = now()
        arrived = original()
        ended_ns = now()
        self._taken = len(arrived)
        sources = [source for source, _ in arrived if source != transport.rank]
        buffers = sum(1 for a, b in zip([-1, *sources], sources, strict=False) if a != b)
        amounts = (1, buffers, len(sources), transport.received_bytes - before)
        self._note("receive", amounts, began_ns, ended_ns)
        return arrived

    # --- parts ----------------------------------------------------------------------------------
    def _take(self, original: Callable[..., None], source: int, message: Any) -> None:
        began_ns = now()
        original(source, message)
        ended_ns = now()
        self._note("lead", (1, 0, 0), began_ns, ended_ns)

    def _hand_on(self, original: Callable[[], Any]) -> Any:
        began_ns = now()
        relayed = original()
        ended_ns = now()
        self._note("lead", (0, 0, len(relayed)), began_ns, ended_ns)
        return relayed

    def _leave(self, original: Callable[[], Any]) -> Any:
        began_ns = now()
        left = original()
        ended_ns = now()
        self._note("lead", (0, 1, len(left)), began_ns, ended_ns)
        return left

    def _scheduler(self, original: Callable[[Any], Any], event: Any) -> Any:
        actions = original(event)
        for action in actions:
            if isinstance(action, ToWorker | ToHome):
                target = action.worker if isinstance(action, ToWorker) else action.home
                self._actions[0] += 1
                self._actions[1] += self._tree.relays(target)
            elif isinstance(action, ToLeader):
                self._actions[0] += 1
                self._actions[2] += effort.shares_of(action.message)
            elif isinstance(action, ToAll):
                relayed = [self._tree.relays(rank) for rank in range(self._rank.transport.size)]
                self._actions[0] += len(relayed)
                self._actions[1] += sum(relayed)
        return actions

    def _coordinator(self, original: Callable[..., None], *given: Any) -> None:
        assert self._rank.coordinator is not None
        counters = self._rank.coordinator.scheduler.counters
        before, self._actions = effort.told(counters), [0, 0, 0]
        began_ns = now()
        original(*given)
        ended_ns = now()
        self._note(
            *effort.of_coordinator(before, effort.told(counters), *self._actions),
            began_ns,
            ended_ns,
        )

    def _home(self, original: Callable[[Any], Any], message: Any) -> Any:
        began_ns = now()
        replies = original(message)
        ended_ns = now()
        self._note(*effort.of_home(message, replies), began_ns, ended_ns)
        return replies

    def _add_worker(self, original: Callable[[Worker], None], worker: Worker) -> None:
        _wrap("handle", worker, self._worker)
        _wrap("run_slice", worker, self._slice)
        _wrap("poll_plane", worker, self._poll(worker))
        original(worker)

    def _worker(self, original: Callable[[Any], Any], message: Any) -> Any:
        began_ns = now()
        sent = original(message)
        ended_ns = now()
        self._note(*effort.of_worker(message, sent), began_ns, ended_ns)
        return sent

    def _poll(self, worker: Worker) -> Callable[..., Any]:
        def poll(original: Callable[[], Any]) -> Any:
            before = worker.installed_bytes
            began_ns = now()
            sent = original()
            ended_ns = now()
            self._note(*effort.of_poll(worker.installed_bytes - before), began_ns, ended_ns)
            return sent

        return poll

    def _slice(self, original: Callable[..., Any], *given: Any) -> Any:
        began_ns = now()
        sent, instructions = original(*given)
        ended_ns = now()
        if does_work(self._rank):
            self.instructions.append(instructions)
        self._note(*effort.of_slice(sent), began_ns, ended_ns)
        return sent, instructions

    def write(self, folder: Path) -> None:
        """Write all rows; steps by name."""
        rows: dict[str, Any] = {
            step: np.array(rows, np.float64).reshape(-1, len(effort.STEPS[step]) + 1)
            for step, rows in self.rows.items()
        }
        path = folder / f"rank-{self._rank.transport.rank}.npz"
        np.savez(path, instructions=np.array(self.instructions, np.float64), **rows)


class MeasuredRun(RanksRun):
    """A run of which the turns are timed, or each of their steps."""

    def __init__(
        self,
        options: RunOptions,
        launch: Launch,
        signals: Signals,
        probing: type[Probe | TurnProbe],
    ) -> None:
        super().__init__(options, launch, signals)
        self._probing = probing
        self.probe: Probe | TurnProbe | None = None

    def _make_machine(
        self, transport: Transport, image: Any, plan: MemoryPlan, met_at_us: int
    ) -> RankMachine:
        machine = super()._make_machine(transport, image, plan, met_at_us)
        self.probe = self._probing(machine)
        return machine


def _nap_extra_ns() -> float:
    """Return what a short sleep takes longer than it was asked to; nobody else should run."""
    took = []
    for _ in range(_NAPS):
        began_ns = time.perf_counter_ns()
        time.sleep(_NAP_S)
        took.append(time.perf_counter_ns() - began_ns - _NAP_S * 1e9)
    return float(np.median(took))


def _time_messages(folder: Path) -> int:
    """Let two ranks time messages between them; the first writes what it found."""
    from dvm_mpi.control import transport as world

    ranks = world.start()
    if ranks.size != 2:  # noqa: PLR2004 - a pair
        raise UsageError("messages are timed between two ranks")
    small_s = _trip_s(ranks.comm, _SMALL_BYTES, _SMALL_TRIPS)
    large_s = _trip_s(ranks.comm, _LARGE_BYTES, _LARGE_TRIPS)
    if ranks.rank == 0:
        told = {
            "latency_ns": small_s * 1e9,
            "byte_ns": max(large_s - small_s, 0.0) * 1e9 / _LARGE_BYTES,
            "nap_extra_ns": _nap_extra_ns(),
        }
        (folder / "messages.json").write_text(json.dumps(told), encoding="utf-8")
    ranks.drain(lambda: None)
    ranks.close()
    world.finish()
    return 0


def _trip_s(comm: Any, size: int, count: int) -> float:
    """Return the best time of one message of this size, there or back."""
    partner, out, back = 1 - comm.Get_rank(), np.zeros(size, np.uint8), np.zeros(size, np.uint8)
    times_s = []
    for _ in range(count):
        began = time.perf_counter()
        for is_sender in (comm.Get_rank() == 0, comm.Get_rank() == 1):
            given = (out, partner, _TAG) if is_sender else (back, partner, _TAG)
            request = comm.Isend(*given) if is_sender else comm.Irecv(*given)
            while not request.Test():
                # Both may be on one core.
                os.sched_yield()
        times_s.append((time.perf_counter() - began) / 2)
    return min(times_s)


_PROBES: Final[dict[str, type[Probe | TurnProbe]]] = {STEPS_TIMED: Probe, TURNS_TIMED: TurnProbe}


def main(arguments: Sequence[str]) -> int:
    """Be one rank; the first argument is the folder, the rest those of a run."""
    launch = detect(os.environ, os.getppid())
    if launch is None:
        raise UsageError("ranks are measured under a launcher, such as mpiexec")
    folder = Path(arguments[0])
    if len(arguments) == 1:
        return _time_messages(folder)
    with Signals() as signals:
        probing = _PROBES[arguments[1]]
        run = MeasuredRun(parse_run(arguments[2:]), launch, signals, probing)
        exit_code = run.execute()
    if run.probe is not None:
        run.probe.write(folder)
    return exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
