"""Messages that send runners out: one for a leader of several, whose ranks get the same by it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dvm_mpi.config import BATCH_FUEL, BATCHES_LEFT, RUNNER_FUEL, WORKER_FUEL
from dvm_mpi.control.leader import Tree
from tests.control.coordinator import FIRST, A, Attempt, B, Child, Coordinator, X

#: Leader 1 of 1, 3 and 5, leader 2 of 2 and 4, and 6 leads itself; 0 is led by nobody.
TREE = Tree([0, 1, 2, 1, 2, 1, 6])


def child(number: int) -> Child:
    """Return a runner that has more of something than the one before, up to a point."""
    heap = [(X + 64 * number + 8 * k, 8) for k in range(number % 3)]
    image = [(40 - 8 * k, bytes([number, k])) for k in range(number % 4)]
    return Child(A if number % 5 else B, heap=heap, image=image[::2])


def sent_out(c: Coordinator, count: int) -> Coordinator:
    """Let the first runner create so many, and homes answer."""
    c.ends(c.one(FIRST), children=[child(number) for number in range(count)])
    c.apply()
    return c


def by_worker(c: Coordinator) -> dict[int, list[Attempt]]:
    found: dict[int, list[Attempt]] = {}
    for number, attempt in sorted(c.running.items()):
        found.setdefault(attempt.worker, []).append(replace(attempt, number=0))
        assert attempt.number == number
    return found


@pytest.mark.parametrize("count", [1, 7, 40])
def test_workers_get_the_same_with_and_without_leaders(count: int) -> None:
    """Of grants and arguments of each runner, too: they are counted within each batch."""
    plain, led = (
        sent_out(Coordinator(workers=7, homes=7, batch=3, tree=tree), count)
        for tree in (None, TREE)
    )
    assert by_worker(plain) == by_worker(led)
    assert sorted(plain.batches) == sorted(led.batches)
    assert plain.dealt == []


def test_a_leader_of_several_gets_one_message_for_all_of_them() -> None:
    """Its ranks need not be neighbours, and some may get several batches."""
    c = sent_out(Coordinator(workers=7, homes=7, batch=3, tree=TREE), 40)
    assert [leader for leader, _ in c.dealt] == [1, 2]
    first, second = (dealt.batches.tolist() for _, dealt in c.dealt)
    assert first == [(1, 3), (1, 3), (3, 3), (3, 3), (5, 3), (5, 3)]
    assert second == [(2, 3), (2, 3), (4, 3), (4, 3)]
    assert {worker for worker, _ in c.batches} == set(range(7))
    state = c.scheduler.state
    assert state.running.tolist() == [6, 6, 6, 6, 6, 6, 4]
    assert state.newest_batch.tolist() == [3, 3, 3, 3, 3, 3, 1]


def test_a_round_keeps_its_order_where_ranks_of_a_leader_are_no_neighbours() -> None:
    """Results of a deterministic run follow from the order of attempts, whoever leads whom."""
    plain, led = (
        sent_out(Coordinator(workers=7, homes=7, batch=3, deterministic=True, tree=tree), 30)
        for tree in (None, TREE)
    )
    for one in (plain, led):
        assert len(one.running) == 30
    rows = [[one.running[n].row for n in sorted(one.running)] for one in (plain, led)]
    assert rows[0] == rows[1]


def test_who_is_one_of_few_reports_as_often_as_ever() -> None:
    c = sent_out(Coordinator(workers=7, homes=7, batch=3, tree=TREE), 40)
    assert {dealt.report_fuel for _, dealt in c.dealt} == {BATCH_FUEL}


def test_of_many_workers_each_gets_longer_batches_as_long_as_there_is_much() -> None:
    """And it need not report before it has done that much. As long as a batch is who is unknown."""
    workers = 1_000
    leaders = Tree([0, *(1 + (rank - 1) // 100 * 100 for rank in range(1, workers))])
    found = {}
    for each in (1, 2 * BATCHES_LEFT, 100):
        c = Coordinator(workers=workers, homes=workers, batch=1, tree=leaders)
        c.ends(c.one(FIRST), children=[Child(A)] * (workers * each))
        c.apply()
        (fuel,) = {dealt.report_fuel for _, dealt in c.dealt[-10:]}
        assert len(c.dealt) == (10 if each > 1 else 5), "nobody gets next to nothing"
        found[each] = fuel, {count for _, count in c.batches[1:]}
    one = BATCH_FUEL + RUNNER_FUEL
    assert found == {
        1: (BATCH_FUEL, {1}),
        2 * BATCHES_LEFT: (2 * one, {2}),
        100: (workers * WORKER_FUEL, {workers * WORKER_FUEL // one}),
    }


def test_at_the_end_of_a_wave_many_workers_get_little_each() -> None:
    """What is left then goes to who is done first."""
    workers = 1_000
    c = Coordinator(workers=workers, homes=workers, batch=1)
    c.ends(c.one(FIRST), children=[Child(A)] * (workers + 500))
    c.apply()
    sizes = np.array([count for _, count in c.batches[1:]])
    assert sizes.max() == 1
    assert c.scheduler.state.running.max() <= 2
