"""Scheduler and session of a run together: who is sent what, and what is told of long waits."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray

from dvm_mpi import config
from dvm_mpi.config import DEDICATED_US
from dvm_mpi.control.coordinator import Coordinator
from dvm_mpi.control.coordinator_state import Claim, Complete, RecordOrder
from dvm_mpi.control.delivery import Part
from dvm_mpi.control.leader import Tree
from dvm_mpi.control.messages import (
    SPAN,
    Dispatched,
    Finished,
    Message,
    Metered,
    ProgramEnded,
    RankFailed,
    RankFinished,
    RankLoaded,
    Relayed,
    RunEnded,
    StatusReported,
    StatusRequested,
    WorkerReady,
)
from dvm_mpi.control.scheduler import Scheduler
from dvm_mpi.control.session import Phase
from dvm_mpi.control.wire import decode
from dvm_mpi.disa.assembler import assemble_text
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.messages import HOT_PAGE, ApplyRequested, EpochApplied
from dvm_mpi.engine.interface import End
from dvm_mpi.errors import LimitError, RankLostError
from tests.control import coordinator as played

S = 1_000_000
STALL = int(config.STALL_S * S)
Sent = TypeVar("Sent", bound=Message)
NO_SPANS, NO_PAGES = np.zeros(0, SPAN), np.zeros(0, HOT_PAGE)
PROGRAM = assemble_text("        .text\nmain:   exit:c\n", "test.dasm", {})


@dataclass
class Listener:
    """An owner who notes what is asked of it."""

    #: What `make_outputs` gives, after one turn.
    places: tuple[str, int] = ("places", 0)
    told: list[str] = field(default_factory=list)
    ending: Complete | None = None
    failure: RankFailed | None = None
    console: bytes = b""
    committed: list[int] = field(default_factory=list)

    def printed(self, data: NDArray[np.uint8]) -> None:
        self.console += data.tobytes()

    def ordered(self, order: RecordOrder) -> None:
        self.committed += order.numbers.tolist()

    def claimed(self, claim: Claim) -> None:
        pass

    def delivered(self, target: Part, message: Message) -> None:
        pass

    def tell(self, text: str) -> None:
        self.told.append(text)

    def make_outputs(self, ending: Complete) -> Generator[bool, None, tuple[str, int]]:
        self.ending = ending
        yield True
        return self.places

    def settle_outputs(self) -> Generator[bool, None, None]:
        yield True

    def failed(self, failure: RankFailed) -> None:
        self.failure = failure


class Run:
    """A coordinator of three ranks."""

    ranks = 3

    def __init__(self, **options: Any) -> None:
        self.host = Listener()
        #: What was sent and not looked at: rank and message.
        self.sent: list[tuple[int, Message]] = []
        scheduler = Scheduler(
            Geometry(self.ranks), self.ranks, played.STACK_BYTES, 1, workers_ready=False
        )
        self.coordinator = Coordinator(
            scheduler,
            PROGRAM,
            self.ranks,
            lambda *sent: self.sent.append(sent),
            self.host,
            **options,
        )

    def sent_of(self, kind: type[Sent]) -> Sequence[tuple[int, Sent]]:
        """Return and forget the messages of a kind."""
        found = [(rank, each) for rank, each in self.sent if isinstance(each, kind)]
        self.sent = [pair for pair in self.sent if not isinstance(pair[1], kind)]
        return found

    def load(self) -> None:
        for rank in range(self.ranks):
            self.coordinator.handle(RankLoaded(rank, 1))

    def begin(self) -> Dispatched:
        """Load, and return the first runner's batch, which rank 1 gets."""
        self.coordinator.handle(WorkerReady(1))
        self.load()
        ((rank, batch),) = self.sent_of(Dispatched)
        assert rank == 1
        return batch

    def end_first(self, batch: Dispatched, **how: object) -> Finished:
        """Return the record of the first runner, which ends as told."""
        number, row = int(batch.numbers[0]), batch.attempts[0]
        attempt = played.Attempt(
            number, 1, batch.snapshot, int(row["runner"]), 0, 0, (), {}, (0, 0)
        )
        return played.Coordinator().record(played.Ends(attempt, **how))  # type: ignore[arg-type]

    def step_tasks(self) -> None:
        while self.coordinator.tasks:
            task = self.coordinator.tasks.pop()
            for _ in task:
                pass


def test_the_first_runner_waits_for_loading_and_for_a_worker() -> None:
    run = Run()
    run.coordinator.handle(WorkerReady(2))
    run.load()
    assert [rank for rank, _ in run.sent_of(Dispatched)] == [2]
    run = Run()
    run.load()
    assert run.sent == []
    assert "their code is being compiled" in run.coordinator.waits_for
    run.coordinator.handle(WorkerReady(0))
    assert [rank for rank, _ in run.sent_of(Dispatched)] == [0]


def test_a_run_from_loading_to_its_end() -> None:
    run = Run()
    batch = run.begin()
    run.coordinator.handle(run.end_first(batch, console=b"words", stores=[played.X]))
    ((home, request),) = run.sent_of(ApplyRequested)
    assert run.host.console == b"", "the epoch is not visible"
    run.coordinator.handle(EpochApplied(home, request.epoch, 1))
    assert run.host.console == b"words"
    assert run.host.committed == batch.numbers.tolist()
    assert run.coordinator.session.phase is Phase.MAKING
    assert run.sent == []
    run.step_tasks()
    assert run.sent_of(ProgramEnded) == [
        (rank, ProgramEnded(request.epoch, "places")) for rank in range(run.ranks)
    ]
    for rank in range(run.ranks):
        run.coordinator.handle(RankFinished(rank, "{}"))
    assert run.sent == []
    run.step_tasks()
    assert run.sent == [(rank, RunEnded(0)) for rank in range(run.ranks)]


def test_a_trap_comes_to_the_owner_and_its_code_to_all() -> None:
    run = Run()
    run.host.places = ("", 5)
    run.coordinator.handle(run.end_first(run.begin(), end=End.TRAP, trap=3))
    run.step_tasks()
    assert run.host.ending is not None
    assert run.host.ending.failure is not None
    for rank in range(run.ranks):
        run.coordinator.handle(RankFinished(rank, "{}"))
    run.step_tasks()
    assert run.sent_of(RunEnded) == [(rank, RunEnded(5)) for rank in range(run.ranks)]


def test_after_an_error_of_the_scheduler_it_decides_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its tables are half changed, and more messages may have come together with the last."""
    run = Run()
    batch = run.begin()

    def fail(_: object) -> None:
        raise LimitError("too many runners")

    with monkeypatch.context() as patched:
        patched.setattr(run.coordinator.scheduler, "handle", fail)
        with pytest.raises(LimitError):
            run.coordinator.handle(WorkerReady(2))
    run.coordinator.handle(run.end_first(batch))
    run.coordinator.tick(S)
    assert run.coordinator.session.phase is Phase.RUNNING, "the program seems to have ended"
    assert not run.sent
    run.coordinator.handle(RankFailed(0, 6, "too many runners"))
    assert [message for _, message in run.sent] == [RunEnded(6)] * 3


def test_a_failure_while_files_are_made_stops_that() -> None:
    run = Run()
    run.coordinator.handle(run.end_first(run.begin()))
    assert len(run.coordinator.tasks) == 1
    failure = RankFailed(2, 4, "the disk is full")
    run.coordinator.handle(failure)
    assert run.coordinator.tasks == []
    assert run.host.failure == failure
    assert run.sent == [(rank, RunEnded(4)) for rank in range(run.ranks)]


# --- long waits ---------------------------------------------------------------------------------


def stalled() -> Run:
    """Return a run whose first runner has been working at rank 1 for as long as is patience."""
    run = Run()
    run.coordinator.tick(S)
    run.begin()
    run.coordinator.tick(S + STALL - 1)
    assert run.sent == []
    run.coordinator.tick(S + STALL)
    return run


def answer(run: Run, rank: int, text: str) -> None:
    ((asked, request),) = run.sent_of(StatusRequested)
    assert asked == rank
    run.coordinator.handle(StatusReported(rank, request.serial, text))


def test_a_long_wait_is_explained_by_those_whose_move_it_is() -> None:
    run = stalled()
    answer(run, 1, "worker: its turn")
    run.coordinator.tick(S + STALL + 1)
    assert run.host.told == [
        "dvm: no progress for 10 s: 1 runner running, 0 queued\n  rank 1: worker: its turn; it has "
        "1 runner, since longest 0x3d000000000, which began at main (0x400000000), as of epoch 1"
    ]


def test_a_rank_that_does_not_answer_is_named() -> None:
    run = stalled()
    run.coordinator.tick(S + STALL + S - 1)
    assert run.host.told == []
    run.coordinator.tick(S + STALL + S)
    assert "rank 1: does not answer; it may be stuck or gone" in run.host.told[0]


LOST = int(config.LOST_S * S)


def wait_until(run: Run, begin_us: int, end_us: int) -> None:
    """Let time pass as on a rank that takes turns; for one that does not, call `tick`."""
    for now_us in range(begin_us, end_us + 1, S // 2):
        run.coordinator.tick(now_us)


def test_a_rank_that_says_nothing_more_ends_the_run() -> None:
    """A host that loses its power sends no word, and no launcher need notice."""
    run = stalled()
    run.coordinator.hosts = ["node1", "node2", "node3"]
    wait_until(run, S + STALL, S + STALL + LOST - 1)
    with pytest.raises(RankLostError, match=r"^rank 1 on node2: no answer for 20 s; .*host"):
        run.coordinator.tick(S + STALL + LOST)


def test_a_rank_that_loads_its_engine_answers_nobody_for_longer() -> None:
    """Its home is asked, and what it calls for its engine takes as long as its files let it."""
    run = Run()
    run.coordinator.tick(S)
    patience = int(config.LOST_AT_FILES_S * S)
    run.coordinator.handle(run.end_first(run.begin(), stores=[played.X]))
    ((home, _),) = run.sent_of(ApplyRequested)
    run.coordinator.scheduler.state.ready[home] = False
    others = {0, 1, 2} - {home}
    tell_time(run, *others)
    run.coordinator.tick(S + STALL)
    assert [rank for rank, _ in run.sent_of(StatusRequested)] == [home]
    for now_us in range(S + STALL, S + STALL + patience, S // 2):
        tell_time(run, *others)
        run.coordinator.tick(now_us)
    with pytest.raises(RankLostError, match=rf"^rank {home}: no answer for 300 s"):
        run.coordinator.tick(S + STALL + patience)


def tell_time(run: Run, *ranks: int) -> None:
    for rank in ranks:
        run.coordinator.handle(Metered(rank, "node", 0, NO_SPANS, NO_PAGES))


def test_a_rank_is_lost_also_while_the_others_get_on() -> None:
    """What it was given to do would never be done; the rest may go on for hours."""
    run = Run()
    run.coordinator.tick(S)
    run.begin()
    run.coordinator.handle(WorkerReady(2))
    tell_time(run, 0, 1, 2)

    def go_on(begin_us: int, end_us: int) -> None:
        for now_us in range(begin_us, end_us, S // 2):
            tell_time(run, 0, 1)
            run.coordinator.handle(WorkerReady(0))
            run.coordinator.tick(now_us)

    go_on(S, S + STALL + LOST)
    with pytest.raises(RankLostError, match=r"^rank 2: no answer for 20 s"):
        go_on(S + STALL + LOST, 3 * S + STALL + LOST)
    assert [rank for rank, _ in run.sent_of(StatusRequested)] == [2]
    assert run.host.told == []


def test_a_rank_that_is_lost_before_it_has_told_of_its_time_is_missed() -> None:
    run = Run()
    run.coordinator.tick(S)
    run.begin()
    run.coordinator.handle(WorkerReady(2))

    def go_on() -> None:
        for now_us in range(S, 3 * S + STALL + LOST, S // 2):
            tell_time(run, 0, 1)
            run.coordinator.handle(WorkerReady(0))
            run.coordinator.tick(now_us)

    with pytest.raises(RankLostError, match=r"^rank 2: no answer for 20 s"):
        go_on()


def test_a_quiet_rank_that_answers_is_not_lost() -> None:
    run = Run()
    run.coordinator.tick(S)
    run.begin()
    tell_time(run, 0, 1, 2)
    asked = 0
    for now_us in range(S, S + 5 * (STALL + LOST), S // 2):
        tell_time(run, 0, 1)
        run.coordinator.tick(now_us)
        for rank, request in run.sent_of(StatusRequested):
            asked += 1
            run.coordinator.handle(StatusReported(rank, request.serial, "worker: its turn"))
    assert asked > 3


@pytest.mark.parametrize("word", ["late answer", "other news", "figures"])
def test_a_rank_that_says_anything_is_not_lost(word: str) -> None:
    run = stalled()
    ((rank, request),) = run.sent_of(StatusRequested)
    wait_until(run, S + STALL, S + STALL + LOST - S)
    if word == "figures":
        tell_time(run, rank)
    else:
        serial = request.serial if word == "late answer" else 0
        run.coordinator.handle(StatusReported(rank, serial, "worker: its turn"))
    wait_until(run, S + STALL + LOST - S, S + STALL + LOST + S)


def test_time_in_which_rank_0_was_stopped_is_not_held_against_others() -> None:
    run = stalled()
    run.coordinator.tick(S + STALL + 100 * LOST)
    wait_until(run, S + STALL + 100 * LOST, S + STALL + 101 * LOST - 1)
    with pytest.raises(RankLostError):
        run.coordinator.tick(S + STALL + 101 * LOST)


def test_a_rank_may_wait_long_for_its_files() -> None:
    run = Run()
    run.coordinator.tick(S)
    run.coordinator.handle(RankLoaded(1, 0))
    run.coordinator.tick(S + STALL)
    patience = int(config.LOST_AT_FILES_S * S)
    wait_until(run, S + STALL, S + STALL + patience - 1)
    with pytest.raises(RankLostError, match=r"^rank 0, rank 2: no answer for 300 s"):
        run.coordinator.tick(S + STALL + patience)


def test_a_home_that_does_not_apply_is_asked() -> None:
    run = Run()
    run.coordinator.tick(S)
    run.coordinator.handle(run.end_first(run.begin(), stores=[played.X]))
    ((home, request),) = run.sent_of(ApplyRequested)
    run.coordinator.tick(S + STALL)
    answer(run, home, "home: epoch 2")
    run.coordinator.tick(S + STALL + 1)
    assert f"epoch {request.epoch} waits for home {home}\n" in run.host.told[0]


def test_ranks_that_still_load_are_asked() -> None:
    run = Run()
    run.coordinator.tick(S)
    run.coordinator.handle(RankLoaded(1, 0))
    run.coordinator.tick(S + STALL)
    assert [rank for rank, _ in run.sent_of(StatusRequested)] == [0, 2]


def test_the_longer_it_lasts_the_more_rarely_it_is_told() -> None:
    run = stalled()
    told_at = []
    for second in range(1, 160):
        before = len(run.host.told)
        for rank, request in run.sent_of(StatusRequested):
            run.coordinator.handle(StatusReported(rank, request.serial, "worker: its turn"))
        run.coordinator.tick(S + STALL + second * S)
        if len(run.host.told) > before:
            told_at.append(second + 10)
    # The answer is looked at a second after the question.
    assert told_at == [11, 21, 41, 81, 161]


@pytest.mark.parametrize("when", ["before", "after"])
def test_progress_ends_the_wait(when: str) -> None:
    """An event may come between the question and the answer: then there is nothing to tell."""
    run = stalled()
    if when == "before":
        run.coordinator.handle(WorkerReady(0))
    answer(run, 1, "worker: its turn")
    if when == "after":
        run.coordinator.handle(WorkerReady(0))
    run.coordinator.tick(S + STALL + 1)
    run.coordinator.tick(S + STALL + STALL - 1)
    assert run.host.told == []


def test_an_old_answer_is_no_answer() -> None:
    run = stalled()
    ((_, first),) = run.sent_of(StatusRequested)
    run.coordinator.tick(S + STALL + S)
    run.coordinator.tick(S + 2 * STALL)
    run.coordinator.handle(StatusReported(1, first.serial, "long ago"))
    run.coordinator.tick(S + 2 * STALL + S)
    assert "long ago" not in run.host.told[1]


def test_the_state_of_a_run_tells_what_every_rank_does() -> None:
    run = stalled()
    run.coordinator.ask_some()
    told = {"rank 0": "worker: its turn", "rank 1": "worker: runners to be dispatched"}
    for rank, text in enumerate(told.values()):
        run.coordinator.handle(StatusReported(rank, 0, text))
    run.coordinator.tick(S + STALL + S // 2)
    state = run.coordinator.describe()
    assert state["phase"] == "the program runs"
    assert state["runners"] == "1 created, 0 committed, 0 retried; 0 instructions"
    assert state["rank 0"] == "0.5 s before: worker: its turn"
    assert state["rank 1"].startswith("0.5 s before: worker: runners to be dispatched; it has 1 r")
    assert state["rank 2"] == "has not told yet what it does"


@pytest.mark.parametrize("fault", ["trap", "failure"])
def test_after_a_fault_the_state_is_that_before_it(fault: str) -> None:
    run = Run()
    batch = run.begin()
    if fault == "trap":
        run.coordinator.handle(run.end_first(batch, end=End.TRAP, trap=0))
    else:
        run.coordinator.handle(RankFailed(2, 6, "full"))
    run.coordinator.tick(5 * S)
    assert run.coordinator.session.phase is not Phase.RUNNING
    assert run.coordinator.describe()["phase"] == "the program runs"


# --- leaders, and rank 0's own worker -----------------------------------------------------------
def test_what_is_decided_for_a_rank_goes_through_its_leader_and_the_session_to_all() -> None:
    run = Run(tree=Tree([0, 1, 1]))
    run.coordinator.handle(WorkerReady(2))
    run.load()
    ((leader, relayed),) = run.sent_of(Relayed)
    assert (leader, relayed.rank) == (1, 2)
    assert isinstance(decode(relayed.content), Dispatched)
    run.coordinator.handle(RankFailed(2, 3, "of a test"))
    assert [rank for rank, _ in run.sent_of(RunEnded)] == [0, 1, 2]


class Crowd(Run):
    """A coordinator of five ranks."""

    ranks = 5


def test_a_coordinator_that_is_busy_keeps_runners_from_its_own_worker() -> None:
    run = Crowd(may_dedicate=True)
    run.load()
    withheld = run.coordinator.scheduler.state.withheld
    for rank in range(Crowd.ranks):
        run.coordinator.handle(WorkerReady(rank))
    seen = []
    for window, busy_windows in ((1, 0), (2, 1), (3, 1)):
        run.coordinator.tick(window * DEDICATED_US, busy_windows * DEDICATED_US)
        seen.append(withheld.tolist())
    assert seen == [[False] * 5, [True] + [False] * 4, [False] * 5]


def test_nobody_is_kept_from_work_unless_that_was_asked_for() -> None:
    run = Crowd()
    run.load()
    for rank in range(Crowd.ranks):
        run.coordinator.handle(WorkerReady(rank))
    run.coordinator.tick(DEDICATED_US, DEDICATED_US)
    assert not run.coordinator.scheduler.state.withheld.any()
