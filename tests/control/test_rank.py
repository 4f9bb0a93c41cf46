"""The turns of one rank: who gets which message, what ends the run, and that nothing blocks."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from dvm_mpi import config
from dvm_mpi.control.joining import workers_of
from dvm_mpi.control.leader import Tree
from dvm_mpi.control.messages import (
    SPAN,
    AsleepChanged,
    ClockAnswered,
    ClockAsked,
    CodeShared,
    Finished,
    GatheredTaken,
    LeaseGranted,
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
from dvm_mpi.control.rank import Rank, now_us
from dvm_mpi.control.wire import encode
from dvm_mpi.dsm.frames import FramePool
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.home import Home
from dvm_mpi.dsm.messages import (
    HOT_PAGE,
    LOCATED,
    RUN,
    TOKEN,
    ApplyRequested,
    ArenaReleased,
    EpochApplied,
    LookupAnswered,
    LookupRequested,
    Staged,
)
from dvm_mpi.errors import ExitCode, FileError
from dvm_mpi.layout import DATA_START, PAGE_BYTES
from tests.control.network import Network
from tests.control.rank_bed import (
    FRAMES,
    NO_ARENA,
    NO_BYTES,
    NONE,
    Computing,
    Memory,
    Ranks,
    Resting,
    lookup,
    store,
)
from tests.control.test_joining import message as records

# --- the parts of one rank: to talk takes no turn, and keeps nobody waiting ---------------------


class Asking(Computing):
    """A worker that asks its own home for a page whenever it hears something; or only at first."""

    def __init__(self, *, asks_on: bool) -> None:
        super().__init__()
        self.asks_on = asks_on

    def handle(self, event: Message) -> tuple[Any, ...]:
        self.heard.append(event)
        if len(self.heard) > 1 and not self.asks_on:
            return ()
        return ((("home", 1), lookup(1)),)


def test_a_page_of_its_own_home_takes_no_turn() -> None:
    worker = Asking(asks_on=False)
    ranks = Ranks(worker)
    ranks.say(0, LeaseGranted(0, 1, 2))
    ranks.turn()
    assert [type(message) for message in worker.heard] == [LeaseGranted, LookupAnswered]
    assert len(worker.slices) == 1


def test_parts_that_talk_on_and_on_do_not_keep_their_rank_from_the_others() -> None:
    worker = Asking(asks_on=True)
    ranks = Ranks(worker)
    ranks.say(0, LeaseGranted(0, 1, 2))
    ranks.turn()
    answers = len(worker.heard) - 1
    # Twice in a turn, and each answer comes a round after its question.
    assert 0 < answers <= config.OWN_ROUNDS
    ranks.say(0, LeaseGranted(0, 3, 4))
    ranks.turn()
    assert sum(isinstance(message, LeaseGranted) for message in worker.heard) == 2
    assert len(worker.slices) == 2


# --- leaders ------------------------------------------------------------------------------------


def applied(epoch: int) -> EpochApplied:
    """Return what the home says of `store(epoch, 1)`, which it applies first."""
    located = np.array([(DATA_START // PAGE_BYTES, 0, 0, epoch)], LOCATED)
    return EpochApplied(0, epoch, 1, located)


def test_a_leader_gathers_what_its_ranks_say_and_hands_on_what_is_for_them() -> None:
    ranks = Ranks(tree=Tree([0, 1, 1]))
    granted = LeaseGranted(1, 2, 3)
    ranks.say(2, AsleepChanged(2, 1))
    ranks.say(0, Relayed(1, encode(store(2, 1))))
    ranks.say(0, Relayed(2, encode(granted)))
    ranks.turn()
    told = ranks.heard(0)
    assert sorted(map(str, told)) == sorted(map(str, [AsleepChanged(2, 1), applied(2)]))
    assert ranks.heard(2) == [granted]
    ranks.say(2, AsleepChanged(2, 2))
    ranks.turn()
    assert ranks.heard(0) == [], "rank 0 has not taken the rest yet"
    assert "holds 1 message until" in ranks.rank.describe()
    ranks.say(0, GatheredTaken())
    ranks.turn()
    assert ranks.heard(0) == [AsleepChanged(2, 2)]
    assert "holds" not in ranks.rank.describe()


def test_who_is_led_talks_to_its_leader_and_of_the_run_to_rank_0() -> None:
    ranks = Ranks(Computing(), tree=Tree([0, 2, 2]))
    ranks.say(2, store(2, 1))
    ranks.rank.loaded(7)
    ranks.turn()
    assert ranks.heard(2) == [WorkerReady(1), applied(2)]
    assert ranks.heard(0) == [RankLoaded(1, 7)]


class Deciding:
    """A coordinator that notes what it is told, and when."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.tasks: list[object] = []

    def handle(self, event: Message) -> None:
        self.told.append(event)

    def tick(self, now_us: int, spent_us: int) -> None:
        self.told.append("time passes")


def test_rank_0_decides_once_about_records_that_came_in_one_turn_and_says_that_it_took_them() -> (
    None
):
    network = Network(4)
    home = Home(0, Geometry(1), FramePool(np.zeros((FRAMES, PAGE_BYTES), np.uint8)), NO_ARENA)
    rank = Rank(
        network.transports[0],  # type: ignore[arg-type]
        home,
        lambda visible, places: iter(()),  # type: ignore[arg-type, return-value]
        tree=Tree([0, 1, 1, 0]),
    )
    rank.coordinator = coordinator = Deciding()  # type: ignore[assignment]
    for source, record in ((1, records(1, [1, 2])), (3, records(3, [3]))):
        network.transports[source].send(0, record)
        network.transports[source].send(0, AsleepChanged(source, 1))
        network.transports[source].flush()
    rank.turn()
    joined, *others = coordinator.told
    assert isinstance(joined, Finished)
    assert workers_of(joined).tolist() == [1, 1, 3]
    assert others == [AsleepChanged(1, 1), AsleepChanged(3, 1), "time passes"]
    assert list(network.queues[0, 1]) == [GatheredTaken()]
    assert list(network.queues[0, 3]) == [], "it leads nobody"


# --- turns --------------------------------------------------------------------------------------


def test_a_home_answers_in_the_turn_in_which_it_is_asked() -> None:
    """Whatever its worker computes, and however much."""
    ranks = Ranks(Computing())
    ranks.turn()
    ranks.say(2, lookup(2))
    ranks.say(0, lookup(0))
    ranks.turn()
    assert [type(m) for m in ranks.heard(2)] == [LookupAnswered]
    assert [type(m) for m in ranks.heard(0)] == [WorkerReady, LookupAnswered]
    assert ranks.worker is not None
    assert ranks.worker.slices == [7, 7], "one slice a turn"


def test_answers_leave_before_the_long_work_of_their_turn() -> None:
    """Or every answer of a home that computes, or loads, would be a slice late."""
    answered: list[int] = []

    class Looking(Computing):
        def run_slice(self, fuel: int, now_us: int) -> tuple[tuple[Any, ...], int]:
            answered.append(len(ranks.heard(2)))
            return super().run_slice(fuel, now_us)

    def task() -> Iterator[bool]:
        answered.append(len(ranks.heard(2)))
        yield True

    ranks = Ranks(Looking())
    ranks.say(2, lookup(2))
    ranks.turn()
    ranks.rank.tasks.append(task())  # type: ignore[arg-type]
    ranks.say(2, lookup(2))
    ranks.turn()
    assert answered == [1, 1, 0], "slice; task, then slice"


def test_an_epoch_is_acknowledged_to_the_coordinator() -> None:
    ranks = Ranks()
    ranks.say(0, store(2, 1))
    ranks.turn()
    assert ranks.heard(0) == [applied(2)]


def test_the_worker_hears_its_messages_and_is_heard() -> None:
    ranks = Ranks(Computing())
    ranks.say(0, LeaseGranted(1, 2, 3))
    ranks.turn()
    assert ranks.worker is not None
    assert ranks.worker.heard == [LeaseGranted(1, 2, 3)]
    assert ranks.heard(0) == [WorkerReady(1), AsleepChanged(1, 1)]
    assert [type(m) for m in ranks.heard(2)] == [LookupRequested]


def test_others_that_lag_behind_stop_the_worker_but_not_the_home() -> None:
    ranks = Ranks(Computing())
    ranks.rank.transport.sends_pending = config.SENDS_PENDING_MAX + 1  # type: ignore[misc]
    ranks.say(2, lookup(2))
    ranks.turn()
    assert ranks.worker is not None
    assert ranks.worker.slices == []
    assert [type(m) for m in ranks.heard(2)] == [LookupAnswered]


def test_a_rank_that_rests_serves_others_and_nothing_else() -> None:
    share = Resting()
    steps: list[int] = []

    def task() -> Iterator[bool]:
        steps.append(1)
        yield True

    ranks = Ranks(Computing(), cpu_share=share)
    assert ranks.worker is not None
    ranks.rank.tasks.append(task())  # type: ignore[arg-type]
    ranks.say(2, lookup(2))
    assert ranks.turn(), "it has answered"
    assert [type(m) for m in ranks.heard(2)] == [LookupAnswered]
    assert not ranks.turn(), "so it may sleep"
    assert (ranks.worker.slices, steps, share.told) == ([], [], [True, True])
    assert "rests, for its --cpu-share" in ranks.rank.describe()
    share.rest_us = 0
    assert ranks.turn()
    assert (ranks.worker.slices, steps, share.told[2:]) == ([7], [1], [True, False])
    assert "rests" not in ranks.rank.describe()


def test_tasks_go_on_step_by_step_between_messages() -> None:
    steps: list[int] = []

    def task() -> Iterator[bool]:
        for step in range(3):
            steps.append(step)
            yield step != 1

    ranks = Ranks()
    ranks.rank.tasks.append(task())  # type: ignore[arg-type]
    for turn in range(5):
        ranks.say(2, lookup(2))
        ranks.turn()
        assert len(ranks.heard(2)) == 1
        assert steps == list(range(min(turn + 1, 3)))
    ranks.rank.tasks.append(task())  # type: ignore[arg-type]
    did = [ranks.turn() for _ in range(5)]
    assert did == [True, False, True, True, False], "a rank whose tasks only wait may sleep"


def test_memory_that_others_see_is_made_consistent_around_the_homes_work() -> None:
    windows = Memory()
    ranks = Ranks(windows=windows)
    ranks.say(2, lookup(2))
    ranks.turn()
    assert windows.syncs == 0
    ranks.say(0, store(2, 1))
    ranks.turn()
    assert windows.syncs == 2
    run = np.array([(DATA_START, 8, 0)], RUN)
    ranks.say(2, Staged(2, 1, 0, True, run, NO_BYTES))
    ranks.turn()
    assert windows.syncs == 4
    assert [type(m) for m in ranks.heard(2)] == [LookupAnswered, ArenaReleased]


def test_what_was_loaded_is_made_visible_before_it_is_told() -> None:
    windows = Memory()
    ranks = Ranks(windows=windows)
    ranks.rank.loaded(8)
    assert windows.syncs == 1


# --- ends ---------------------------------------------------------------------------------------


def test_at_the_programs_end_a_rank_writes_its_part_and_runs_nothing_more() -> None:
    ranks = Ranks(Computing())
    ranks.say(0, ProgramEnded(9, "places"))
    for _ in range(4):
        ranks.turn()
    assert ranks.written == [(9, "places")]
    assert ranks.heard(0) == [WorkerReady(1), RankFinished(1, "figures")]
    assert ranks.worker is not None
    assert ranks.worker.slices == []
    assert ranks.rank.exit_code is None, "others still write, and may ask this home"
    ranks.say(2, lookup(2))
    ranks.turn()
    assert [type(m) for m in ranks.heard(2)] == [LookupAnswered]


def test_the_run_ends_when_rank_0_says_so_and_not_before() -> None:
    ranks = Ranks(Computing())
    turns = iter([0, 1, 2])

    def each_turn() -> None:
        if next(turns) == 2:
            ranks.say(0, RunEnded(4))
            ranks.say(0, LeaseGranted(1, 2, 3))
            ranks.say(2, lookup(2))

    assert ranks.rank.run(each_turn) == 4
    assert ranks.worker is not None
    assert ranks.worker.heard == []
    assert ranks.heard(2) == [], "after the end nobody listens any more"


def test_no_search_for_garbage_stops_a_running_rank() -> None:
    """What was there before the run is looked through before it and after it, not during it."""
    ranks = Ranks(Computing())
    kept, young = [], []
    before = gc.get_threshold()

    def each_turn() -> None:
        kept.append(gc.get_freeze_count())
        young.append(gc.get_threshold()[0])
        ranks.say(0, RunEnded(0))

    gc.set_threshold(10**6, *before[1:])
    try:
        assert ranks.rank.run(each_turn) == 0
        assert gc.get_threshold() == (10**6, *before[1:])
    finally:
        gc.set_threshold(*before)
    assert min(kept) > 0
    assert max(young) < 10**5, "so many objects take long to look through"
    assert gc.get_freeze_count() == 0


def run_for(ranks: Ranks, turn_count: int) -> Metered:
    """Let rank 1 run for some turns; return what it tells of its time at the end."""
    turns = iter(range(turn_count))

    def each_turn() -> None:
        if next(turns) == turn_count - 1:
            ranks.say(0, RunEnded(0))

    ranks.rank.run(each_turn)
    ranks.rank.transport.flush()
    told = [message for message in ranks.heard(0) if isinstance(message, Metered)]
    (metered,) = told
    assert metered.rank == 1
    return metered


def test_a_rank_tells_at_its_end_what_it_did() -> None:
    ranks = Ranks(Computing(), resident_bytes=lambda: 12_345)
    assert ranks.worker is not None
    ranks.worker.hot_pages.note("fetches", np.array([7, 7]))
    ranks.rank.home.hot_pages.note("versions", np.array([7, 8]))
    metered = run_for(ranks, 4)
    assert sum(metered.spans["instructions"]) == sum(ranks.worker.slices) == 7 * 3
    assert metered.spans["resident_bytes"][-1] == 12_345
    rows = metered.hot_pages[["page", "fetches", "versions"]].tolist()
    assert sorted(rows) == [(7, 0, 1), (7, 2, 0), (8, 0, 1)]


def test_what_a_rank_did_is_told_in_the_time_of_rank_0() -> None:
    """Its own clock says another time than rank 0's, which answers once it is asked."""
    ranks, ahead_ns = Ranks(Computing()), 10**15
    began_us = now_us()
    ranks.turn()
    (asked,) = (m for m in ranks.network.queues[1, 0] if isinstance(m, ClockAsked))
    ranks.say(0, ClockAnswered(asked.asked_ns, asked.asked_ns + ahead_ns))
    metered = run_for(ranks, 4)
    assert abs(metered.from_us - began_us - ahead_ns // 1_000) < 1_000_000


@pytest.mark.parametrize(("is_held_up", "activity"), [(True, "waiting"), (False, "idle")])
def test_a_rank_with_nothing_to_do_is_idle_unless_its_runners_wait(
    is_held_up: bool, activity: str
) -> None:
    worker = Computing()
    worker.is_runnable, worker.is_held_up = False, is_held_up
    spans = run_for(Ranks(worker), 30).spans
    assert spans["executing"].sum() == 0
    # All but the turns in which it was told that the runners may begin, and that the run is over.
    assert spans[activity].sum() > 0.5 * (spans["end_us"][-1] - spans["begin_us"][0])
    assert {"waiting": spans["idle"], "idle": spans["waiting"]}[activity].sum() == 0


def test_what_others_tell_of_their_time_counts_when_the_run_is_over() -> None:
    """A rank may hear of the end, and tell what it did, before rank 0 itself comes to it."""

    class Counting:
        def __init__(self) -> None:
            self.tasks: list[Any] = []
            self.heard: list[Message] = []

        def handle(self, message: Message) -> None:
            self.heard.append(message)

        def tick(self, now_us: int, spent_us: int) -> None:
            pass

    ranks = Ranks()
    coordinator = Counting()
    ranks.rank.coordinator = coordinator  # type: ignore[assignment]
    late = Metered(2, "node2", 0, np.zeros(0, SPAN), np.zeros(0, HOT_PAGE))
    ranks.say(0, RunEnded(0))
    ranks.say(2, late)
    ranks.say(2, WorkerReady(2))
    ranks.turn()
    assert ranks.rank.exit_code == 0
    (heard,) = coordinator.heard
    assert isinstance(heard, Metered)
    assert (heard.rank, heard.host) == (2, "node2")


def test_a_full_home_ends_the_run_with_its_text() -> None:
    ranks = Ranks(Computing())
    ranks.say(0, store(2, FRAMES + 1))
    ranks.turn()
    (_, failure) = ranks.heard(0)
    assert isinstance(failure, RankFailed)
    assert (failure.rank, failure.exit_code) == (1, ExitCode.LIMIT)
    assert "--memory" in failure.text
    ranks.turn()
    assert ranks.worker is not None
    assert ranks.worker.slices == []


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (FileError("points.h5 is gone"), FileError.exit_code, "points.h5 is gone"),
        (MemoryError(), ExitCode.LIMIT, "rank 1: memory does not suffice"),
    ],
)
def test_a_fault_that_the_user_can_mend_is_told_once_and_in_order(
    error: Exception, code: int, text: str
) -> None:
    def task() -> Iterator[bool]:
        yield True
        raise error

    ranks = Ranks()
    ranks.rank.tasks.extend([task(), task()])  # type: ignore[list-item]
    for _ in range(4):
        ranks.turn()
    (failure,) = ranks.heard(0)
    assert isinstance(failure, RankFailed)
    assert failure.exit_code == code
    assert text in failure.text
    assert list(ranks.rank.tasks) == []


def test_a_rank_that_failed_writes_nothing_when_the_program_ends() -> None:
    """The program may end, or another fail, while the message of the failure is under way."""
    ranks = Ranks()
    ranks.rank.fail(3, "no")
    ranks.rank.fail(4, "another reason")
    ranks.say(0, ProgramEnded(9, "places"))
    for _ in range(4):
        ranks.turn()
    assert ranks.written == []
    assert ranks.heard(0) == [RankFailed(1, 3, "no")]


def test_a_defect_is_not_taken_for_a_fault_of_the_users() -> None:
    ranks = Ranks(None)
    ranks.say(0, LeaseGranted(1, 2, 3))
    with pytest.raises(AssertionError, match="without a worker"):
        ranks.turn()


# --- what it says of itself ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("worker", "options", "text"),
    [
        (Computing(), {}, "worker: its turn"),
        (None, {}, "its code is being compiled"),
        (None, {"has_worker": False}, "no worker: it coordinates"),
    ],
)
def test_a_rank_tells_what_it_does(
    worker: Computing | None, options: dict[str, bool], text: str
) -> None:
    ranks = Ranks(worker, **options)
    staged = np.zeros(1, TOKEN)
    staged["worker"], staged["serial"], staged["staged"] = 2, 1, 1
    ranks.say(0, ApplyRequested(2, 0, NONE, staged, np.zeros(0, RUN), NO_BYTES))
    ranks.say(0, StatusRequested(12))
    ranks.turn()
    report = ranks.heard(0)[-1]
    assert isinstance(report, StatusReported)
    assert (report.rank, report.serial) == (1, 12)
    assert text in report.text
    assert "home: staged write sets of epoch 2: 1 of worker 2" in report.text


def test_loading_is_said_to_rank_0() -> None:
    ranks = Ranks()
    ranks.rank.loaded(123)
    ranks.turn()
    assert ranks.heard(0) == [RankLoaded(1, 123)]


def test_code_of_other_hosts_is_handed_on() -> None:
    ranks, taken = Ranks(), []
    ranks.rank.take_code = taken.append
    shared = CodeShared("key", "name", np.arange(9, dtype=np.uint8))
    ranks.say(2, shared)
    ranks.turn()
    assert [(told.key, told.name, told.code.tolist()) for told in taken] == [
        ("key", "name", list(range(9)))
    ]
