"""The rules of watchers, each as a case; docs/memory-model.md, "Watchers".

Most cases begin alike: the first runner creates a watcher W over eight bytes at X, and runners
that store there or elsewhere. A firing is an instance of W that runs.
"""

from __future__ import annotations

from dvm_mpi.control.coordinator_state import RecordWaking
from dvm_mpi.control.lifecycle import State
from dvm_mpi.engine.interface import End
from tests.control.coordinator import (
    FIRST,
    A,
    B,
    C,
    Child,
    Coordinator,
    Ends,
    X,
    Y,
    Z,
)
from tests.control.coordinator import D as W

WATCH_X = Child(W, watched=[(X, 8)])


def watched(*others: Child, workers: int = 6, watcher: Child = WATCH_X) -> Coordinator:
    """Return a machine with an armed watcher and `others` running."""
    c = Coordinator(workers=workers)
    c.ends(c.one(FIRST), children=[watcher, *others])
    c.apply()
    assert c.runs(W) == []
    return c


def state_of(c: Coordinator, state: State) -> int:
    return c.scheduler.state.table.count(state)


# --- waking -------------------------------------------------------------------------------------


def test_a_store_into_watched_bytes_starts_one_instance_that_sees_it() -> None:
    c = watched(Child(A))
    c.ends(c.one(A), stores=[(X + 7, b"!")])
    epoch = c.orders[-1].epoch
    assert c.runs(W) == [], "not before it is visible"
    c.apply()
    assert c.one(W).snapshot >= epoch
    assert c.scheduler.counters.watcher_firings == 1


def test_a_store_beside_them_does_not() -> None:
    c = watched(Child(A), Child(B))
    c.ends(c.one(A), stores=[(X + 8, b"!"), (X - 1, b"!")])
    c.apply()
    assert c.runs(W) == []


def test_an_instance_has_its_templates_id_stack_and_ranges() -> None:
    watcher = Child(W, watched=[(X, 8)], heap=[(Z, 4)], image=[(0, b"arg")])
    c = watched(Child(A), Child(B), watcher=watcher)
    c.ends(c.one(A), stores=[(X, b"1")])
    c.apply()
    one = c.one(W)
    assert one.grants == ((X, 8), (Z, 4))
    assert bytes(one.image.values()) == b"arg"
    c.ends(c.one(B), stores=[(X + 1, b"2")])
    c.apply()
    first, second = c.runs(W)
    assert (first.id, first.stack, first.image) == (second.id, second.stack, second.image)


def test_a_template_with_nothing_to_watch_is_armed_and_never_woken() -> None:
    c = watched(Child(A), watcher=Child(W, watched=[(X, 0), (Y, 0)]))
    c.ends(c.one(A), stores=[X, Y])
    c.apply()
    assert c.complete is not None
    assert [w.entry for w in c.complete.watchers] == [W]


def test_a_loser_wakes_nobody() -> None:
    c = watched(Child(A), Child(B))
    b = c.one(B)
    c.ends(c.one(A), stores=[Y])
    c.ends(b, stores=[X, Y])
    c.apply()
    assert c.runs(W) == []
    c.ends(c.one(B), stores=[X, Y])
    c.apply()
    assert len(c.runs(W)) == 1


def test_the_status_page_of_an_aborting_runner_wakes_its_watcher() -> None:
    c = Coordinator(workers=6)
    c.ends(c.one(FIRST), children=[Child(A)])
    status = c.one(A).id
    c.ends(c.one(A), children=[Child(W, watched=[(status, 8)]), Child(B)])
    c.ends(c.one(B), children=[Child(C)])
    c.ends(c.one(C), End.ABORT, stores=[(status, b"\1")])
    c.apply()
    assert len(c.runs(W)) == 1


# --- since when ---------------------------------------------------------------------------------


def test_it_is_armed_at_its_creators_snapshot() -> None:
    """A commits between B's snapshot and B's commit, and is visible before W is registered."""
    c = Coordinator(workers=6)
    c.ends(c.one(FIRST), children=[Child(A), Child(B)])
    c.ends(c.one(A), stores=[X])
    c.apply()
    c.ends(c.one(B), children=[WATCH_X])
    c.apply()
    assert len(c.runs(W)) == 1


def test_a_store_in_the_same_epoch_before_or_behind_the_creator_counts() -> None:
    for order in ([A, B], [B, A]):
        for one_message in (True, False):
            c = Coordinator(workers=1)
            c.ends(c.one(FIRST), children=[Child(A), Child(B), Child(C)])
            ends = {A: Ends(c.one(A), stores=[X]), B: Ends(c.one(B), children=[WATCH_X])}
            if one_message:
                c.finish(*(ends[entry] for entry in order))
            else:
                for entry in order:
                    c.finish(ends[entry])
            assert len({o.epoch for o in c.orders[1:]}) == 1
            c.ends(c.one(C))
            c.apply()
            assert len(c.runs(W)) == 1, (order, one_message)


def test_a_store_that_the_creator_saw_does_not_count() -> None:
    c = Coordinator(workers=6)
    c.ends(c.one(FIRST), children=[Child(A), Child(C)])
    c.ends(c.one(A), stores=[X], children=[Child(B)])
    c.apply()
    c.ends(c.one(B), children=[WATCH_X])
    c.apply()
    assert c.runs(W) == []


def test_the_creators_own_commit_does_not_count() -> None:
    c = Coordinator(workers=6)
    c.ends(c.one(FIRST), stores=[X], children=[WATCH_X, Child(A)])
    c.apply()
    assert c.runs(W) == []
    c.ends(c.one(A), stores=[X])
    c.apply()
    assert len(c.runs(W)) == 1


def test_the_creators_own_commit_wakes_the_watchers_of_others() -> None:
    c = watched(Child(A))
    c.ends(c.one(A), stores=[X], children=[Child(C, watched=[(X, 8)])])
    c.apply()
    assert (len(c.runs(W)), c.runs(C)) == (1, [])


def test_it_is_armed_at_the_snapshot_of_the_attempt_that_committed() -> None:
    """What the creator's losing attempt had not seen, its next attempt has."""
    c = Coordinator(workers=6)
    c.ends(c.one(FIRST), children=[Child(A), Child(B)])
    b = c.one(B)
    c.ends(c.one(A), stores=[X, Y])
    c.ends(b, stores=[Y], children=[WATCH_X])
    c.apply()
    c.ends(c.one(B), stores=[Y], children=[WATCH_X])
    c.apply()
    assert c.runs(W) == []
    assert state_of(c, State.ARMED) == 1


# --- the queue ----------------------------------------------------------------------------------


def busy() -> Coordinator:
    """Return one worker with no room: what is queued stays there. W watches X."""
    c = Coordinator(workers=1, batch=1)
    c.ends(c.one(FIRST), children=[WATCH_X, Child(A), Child(B), Child(A), Child(B)])
    assert [a.entry for a in c.running.values()] == [A, B]
    return c


def queued(c: Coordinator) -> int:
    return len(c.scheduler.state.queue)


def test_one_instance_is_queued_for_many_commits_and_sees_them_all() -> None:
    c = busy()
    c.ends(c.one(A), stores=[X], children=[Child(B)] * 3)
    c.tick(10_000)
    c.apply()
    assert c.scheduler.counters.watcher_firings == 1
    c.ends(c.runs(A)[0], stores=[(X + 4, b"later")])
    later = c.orders[-1].epoch
    c.tick(20_000)
    c.apply()
    assert c.scheduler.counters.watcher_firings == 1
    while not c.runs(W):
        c.ends(c.runs(B)[0])
    assert c.one(W).snapshot >= later


def test_it_is_told_which_commits_woke_which_instance() -> None:
    """Both of two commits that are merged into one waking."""
    c = busy()
    causes = [c.one(A).number]
    c.ends(c.one(A), stores=[(X, b"new")], children=[Child(B)] * 3)
    c.tick(10_000)
    c.apply()
    causes.append(c.runs(A)[0].number)
    c.ends(c.runs(A)[0], stores=[(X + 4, b"later")])
    c.tick(20_000)
    c.apply()
    first, second = c.claims
    assert isinstance(first, RecordWaking)
    assert isinstance(second, RecordWaking)
    assert [*first.writers.tolist(), *second.writers.tolist()] == causes
    assert first.instances.tolist() == second.instances.tolist()
    while not c.runs(W):
        c.ends(c.runs(B)[0])
    instance = c.one(W)
    assert first.ids.tolist() == [instance.id]
    assert instance.number >= second.next_attempt > first.next_attempt


def test_it_leaves_the_queue_when_it_is_dispatched() -> None:
    """The first instance has its snapshot already: what comes now needs another."""
    c = watched(Child(A), Child(B))
    c.ends(c.one(A), stores=[(X, b"1")])
    c.apply()
    first = c.one(W)
    c.ends(c.one(B), stores=[(X + 1, b"2")])
    c.apply()
    assert len(c.runs(W)) == 2
    assert c.runs(W)[1].snapshot > first.snapshot


def test_several_instances_run_at_once_and_end_one_by_one() -> None:
    c = watched(*[Child(A)] * 3)
    for place, a in enumerate(c.runs(A)):
        c.ends(a, stores=[(X + place, b"!")])
        c.apply()
    assert len(c.runs(W)) == 3
    for instance in c.runs(W):
        c.ends(instance)
    assert c.complete is not None
    assert [w.entry for w in c.complete.watchers] == [W]


def test_a_retry_of_an_instance_is_not_queued() -> None:
    """While an instance waits to run again, another commit still queues a new one."""
    c = watched(Child(A), Child(B), Child(C))
    c.ends(c.one(A), stores=[X], children=[Child(A)])
    c.apply()
    instance = c.one(W)
    c.ends(c.one(B), stores=[Z])
    c.ends(instance, stores=[Z])
    c.ends(c.one(A), stores=[X])
    assert c.runs(W) == []
    c.apply()
    assert len(c.runs(W)) == 2
    assert c.scheduler.counters.watcher_firings == 2
    assert c.scheduler.counters.retries == 1


def test_an_instances_own_commit_wakes_its_template() -> None:
    c = watched(Child(A))
    c.ends(c.one(A), stores=[X])
    c.apply()
    c.ends(c.one(W), stores=[(X + 3, b"!")])
    own = c.orders[-1].epoch
    c.apply()
    assert c.one(W).snapshot >= own
    c.ends(c.one(W), End.ABORT)
    assert c.complete is not None


# --- deletion -----------------------------------------------------------------------------------


def test_cd_and_ad_delete_the_watcher() -> None:
    for end in (End.COMMIT_DELETE, End.ABORT_DELETE):
        c = watched(Child(A))
        c.ends(c.one(A), stores=[X], children=[Child(B)])
        c.apply()
        c.ends(c.one(W), end)
        c.ends(c.one(B), stores=[X + 1])
        c.apply()
        assert c.complete is not None
        assert c.complete.watchers == ()
        assert c.scheduler.state.table.live_count == 0


def test_cds_own_stores_do_not_wake_the_deleted() -> None:
    c = watched(Child(A))
    c.ends(c.one(A), stores=[X])
    c.apply()
    c.ends(c.one(W), End.COMMIT_DELETE, stores=[X])
    c.apply()
    assert c.complete is not None
    assert c.scheduler.counters.watcher_firings == 1


def test_ad_publishes_nothing_but_the_deletion() -> None:
    c = watched(Child(A))
    c.ends(c.one(A), stores=[X])
    c.apply()
    c.ends(c.one(W), End.ABORT_DELETE)
    assert not c.applying
    assert c.complete is not None
    assert c.complete.watchers == ()


def test_deletion_cancels_a_queued_instance_and_lets_running_ones_finish() -> None:
    """One worker takes two runners at a time, so that the second instance stays in the queue."""
    c = Coordinator(workers=1, batch=1)
    c.ends(c.one(FIRST), children=[WATCH_X, Child(A), Child(A)])
    first, second = c.runs(A)
    c.ends(first, stores=[(X, b"1")])
    c.tick(10_000)
    c.apply()
    instance = c.one(W)
    c.ends(second, stores=[(X + 1, b"2")], children=[Child(B)] * 2)
    c.tick(20_000)
    c.apply()
    assert len(c.runs(B)) == 1
    table = c.scheduler.state.table
    template = int(table.rows["template"][instance.row])
    queued = int(table.rows["queued_instance"][template])
    assert table.rows["state"][queued] == State.WAITING
    c.ends(instance, End.COMMIT_DELETE)
    assert len(c.runs(B)) == 2
    c.tick(30_000)
    assert table.live_count == 2, "the queued instance is gone, and the template with it"
    while c.running:
        attempt = next(iter(c.running.values()))
        assert attempt.entry == B
        c.ends(attempt)
    assert c.complete is not None
    assert c.complete.watchers == ()
    assert table.live_count == 0
    assert c.scheduler.counters.watcher_firings == 2


def test_a_cancelled_instance_in_the_middle_of_the_queue_does_not_start() -> None:
    c = Coordinator(workers=1, batch=1)
    c.ends(c.one(FIRST), children=[WATCH_X, Child(A), Child(A)])
    first, second = c.runs(A)
    c.ends(first, stores=[(X, b"1")])
    c.tick(10_000)
    c.apply()
    instance = c.one(W)
    c.ends(second, stores=[(X + 1, b"2")], children=[Child(B)] * 3)
    c.tick(20_000)
    c.apply()
    c.ends(instance, End.COMMIT_DELETE, children=[Child(C)])
    c.tick(30_000)
    queue, states = c.scheduler.state.queue, c.scheduler.state.table.rows["state"]
    assert states[queue.peek(9)].tolist() == [State.WAITING, State.CANCELLED, State.WAITING]
    c.finish(*(Ends(b) for b in c.runs(B)))
    assert [a.entry for a in c.running.values()] == [B]
    c.ends(c.one(B))
    assert [a.entry for a in c.running.values()] == [C]


def two_instances() -> Coordinator:
    """Return a machine with two running instances of W, and A running."""
    c = watched(Child(A), Child(B))
    c.ends(c.one(A), stores=[(X, b"1")], children=[Child(A)])
    c.ends(c.one(B), stores=[(X + 1, b"2")])
    c.apply(1)
    assert len(c.runs(W)) == 1
    c.apply()
    assert len(c.runs(W)) == 2
    return c


def test_running_instances_of_a_deleted_watcher_finish_with_their_retries() -> None:
    c = two_instances()
    first, second = c.runs(W)
    c.ends(first, End.COMMIT_DELETE, stores=[Z])
    c.ends(second, stores=[Z], console=b"done")
    assert c.scheduler.counters.retries == 1
    c.apply()
    retry = c.one(W)
    assert retry.snapshot > second.snapshot
    assert state_of(c, State.DELETED) == 1
    c.ends(retry, stores=[Z], console=b"done")
    c.apply()
    assert c.printed == [b"done"]
    assert state_of(c, State.DELETED) == 0


def test_deleting_what_is_deleted_does_nothing() -> None:
    c = two_instances()
    first, second = c.runs(W)
    c.ends(first, End.COMMIT_DELETE, console=b"1")
    c.apply()
    c.ends(second, End.ABORT_DELETE)
    c.apply()
    assert not c.has_ended
    c.ends(c.one(A), stores=[Y])
    c.apply()
    assert c.complete is not None
    assert c.complete.failure is None
    assert c.printed == [b"1"]


def test_a_losing_cd_deletes_nothing() -> None:
    c = watched(Child(A), Child(B))
    c.ends(c.one(A), stores=[X], children=[Child(A)])
    c.apply()
    instance = c.one(W)
    c.ends(c.one(B), stores=[Z])
    c.ends(instance, End.COMMIT_DELETE, stores=[Z])
    c.apply()
    assert state_of(c, State.ARMED) == 1
    c.ends(c.one(W), End.ABORT)
    c.ends(c.one(A), stores=[X])
    c.apply()
    assert len(c.runs(W)) == 1, "still armed"


def test_a_losing_ad_deletes_nothing() -> None:
    """An `ad` can lose by its status page alone."""
    c = watched(Child(A), Child(B))
    c.ends(c.one(A), stores=[X])
    c.apply()
    instance = c.one(W)
    c.ends(c.one(B), stores=[instance.id])
    c.ends(instance, End.ABORT_DELETE, stores=[instance.id])
    c.apply()
    assert state_of(c, State.ARMED) == 1
    assert c.scheduler.counters.retries == 1


def test_in_an_ordinary_runner_cd_and_ad_mean_c_and_a() -> None:
    c = watched(Child(A), Child(B))
    c.ends(c.one(A), End.COMMIT_DELETE, stores=[Y], console=b"A")
    c.apply()
    epoch = c.scheduler.state.log.open_epoch
    c.ends(c.one(B), End.ABORT_DELETE)
    assert c.scheduler.state.log.open_epoch == epoch, "nothing is published"
    assert c.complete is not None
    assert [w.entry for w in c.complete.watchers] == [W]
    assert c.printed == [b"A"]
    assert (c.scheduler.counters.commits, c.scheduler.counters.aborts) == (2, 1)


def test_a_store_ordered_before_the_deletion_in_its_epoch_wakes_nobody() -> None:
    """The deletion also cancels what that store would have queued."""
    c = Coordinator(workers=1)
    c.ends(c.one(FIRST), children=[WATCH_X, Child(A), Child(B), Child(C)])
    c.ends(c.one(A), stores=[X], children=[Child(A)])
    c.tick(10_000)
    c.apply()
    c.finish(Ends(c.one(A), stores=[X + 8, X]), Ends(c.one(W), End.COMMIT_DELETE))
    c.ends(c.one(B))
    c.ends(c.one(C))
    c.apply()
    assert c.complete is not None
    assert c.scheduler.counters.watcher_firings == 1


# --- creating itself anew -----------------------------------------------------------------------


def test_an_instance_that_creates_itself_anew_misses_nothing() -> None:
    """Old and new watcher change over at one commit; what came since the snapshot wakes the new."""
    c = watched(Child(A), Child(B))
    c.ends(c.one(A), stores=[(X, b"1")])
    c.apply()
    instance = c.one(W)
    c.ends(c.one(B), stores=[(X + 1, b"2")])
    c.ends(instance, End.COMMIT_DELETE, children=[WATCH_X])
    c.apply()
    runs = c.runs(W)
    assert {a.id for a in runs} - {instance.id}, "an instance of the new one"
    newest = runs[-1]
    assert newest.snapshot >= c.orders[-2].epoch


def test_an_explicit_stack_is_seen_through_the_snapshot() -> None:
    watcher = Child(W, watched=[(X, 8)], stack=(Z, 128))
    c = watched(Child(A, heap=[(Z, 8)]), watcher=watcher)
    c.ends(c.one(A), stores=[X, Z])
    epoch = c.orders[-1].epoch
    c.apply()
    one = c.one(W)
    assert (one.stack, one.grants, one.image) == ((Z, 128), ((X, 8), (Z, 128)), {})
    assert one.snapshot >= epoch
