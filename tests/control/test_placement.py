"""Sharing runners out among workers, and sizing batches."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dvm_mpi.config import (
    BATCH_FUEL,
    BATCH_RUNNERS_MAX,
    BATCHES_PER_WORKER,
    WORKER_FUEL,
)
from dvm_mpi.control.placement import PARTS_OF_BATCH, bearable_fuel, share_out
from tests.properties import tried

# fmt: off
#   ready  running       batch  shares
SHARES = (
    (1,    [0, 0, 0],    1,     [1, 0, 0]),  # ties go to the lowest number
    (1,    [1, 0, 1],    1,     [0, 1, 0]),  # the least loaded first
    (3,    [0, 0, 0],    256,   [1, 1, 1]),  # nobody takes what keeps others busy
    (10,   [0, 0],       1,     [2, 2]),     # the rest waits
    (10,   [0, 0],       256,   [5, 5]),
    (5,    [2, 0],       1,     [0, 2]),     # a full worker gets nothing
    (4,    [9, 9],       1,     [0, 0]),
    (900,  [256, 257],   256,   [256, 0]),   # a batch is sent as a whole
    (7,    [0, 1, 0, 1], 256,   [2, 2, 2, 1]),
    (100,  [0, 51],      256,   [50, 0]),    # a part of one goes to who has no more than that
    (100,  [0, 50],      256,   [50, 50]),
    (1,    [1],          2,     [1]),
    (0,    [0, 0],       8,     [0, 0]),
)
# fmt: on


def test_shares() -> None:
    for ready, running, batch, expected in SHARES:
        newest = np.full(len(running), batch)
        found = share_out(ready, np.array(running), newest, batch).tolist()
        assert found == expected, (ready, running, batch)


def test_a_worker_with_more_than_its_newest_batch_gets_nothing() -> None:
    """Runners turned out to be short after single ones were sent: those come back first."""
    running, newest = np.array([9, 1, 0, 300] * 4), np.array([8, 1, 1, 256] * 4)
    assert share_out(10_000, running, newest, 256).tolist() == [0, 511, 512, 0] * 4
    few = slice(4)
    assert share_out(10_000, running[few], newest[few], 256).tolist() == [0, 511, 512, 0]


def test_an_instance_beside_a_long_runner_keeps_no_other_away() -> None:
    """As at the end of a wave of k-means: a watcher was sent to a worker that had a part left."""
    assert share_out(7, np.array([6, 2]), np.array([3, 1]), 3).tolist() == [0, 4]


def test_runners_are_divided_among_so_many_workers_at_most() -> None:
    running, newest = np.array([0, 0, 0]), np.array([256, 256, 256])
    shares = [share_out(100, running, newest, 256, sharers=n).tolist() for n in (1, 2, 3)]
    assert shares == [[100, 0, 0], [50, 50, 0], [34, 34, 32]]


def test_shares_of_very_many_workers_are_not_single_runners() -> None:
    """As many workers as runners: each share costs the coordinator a message there and back."""
    count = 80
    nobody = np.zeros(count, dtype=np.int64)
    assert share_out(count, nobody, nobody, BATCH_RUNNERS_MAX, least=5).tolist() == (
        [5] * (count // 5) + [0] * (count - count // 5)
    )
    # Where a batch is one runner, a long one, nobody gets more than there is room for.
    assert share_out(count, nobody, nobody, 1, least=5).max() == BATCHES_PER_WORKER


# fmt: off
#   ready  running       near          patient  stays  shares
NEAR_SHARES = (
    (1,    [0, 0, 0],    [0, 0, 1],    False,   0,     [0, 0, 1]),  # where it is near, if idle
    (1,    [1, 0, 0],    [1, 0, 0],    False,   0,     [0, 1, 0]),  # nobody is idle for its sake
    (1,    [1, 0, 0],    [1, 0, 0],    True,    0,     [0, 0, 0]),  # but for a little while
    (4,    [0, 0],       [3, 0],       True,    0,     [2, 2]),     # a fair share at most
    (6,    [0, 0, 0],    [4, 1, 0],    False,   0,     [2, 2, 2]),
    (8,    [1, 1],       [8, 0],       False,   0,     [4, 0]),     # the other is busy: it waits
    (8,    [1, 0],       [8, 0],       False,   0,     [4, 4]),     # the other one is idle
    (4,    [1, 1],       [0, 0],       False,   0,     [2, 2]),     # nobody cares
    (8,    [1, 0],       [8, 0],       True,    0,     [4, 4]),     # what moves in no time
    (8,    [1, 0],       [8, 0],       True,    7,     [4, 2]),     # the last two start sooner
    (8,    [1, 0],       [8, 0],       True,    9,     [4, 0]),     # nobody starts sooner
    (8,    [1, 0],       [8, 0],       False,   9,     [4, 4]),     # and nobody waits for ever
    (9,    [1, 0, 1],    [7, 0, 2],    True,    5,     [3, 3, 2]),  # each worker's line by itself
    (9,    [1, 0, 1],    [6, 0, 3],    True,    6,     [3, 1, 3]),
    (9,    [1, 0],       [8, 0],       True,    9,     [5, 1]),     # what is for anyone moves
)
# fmt: on


def test_shares_of_runners_that_are_near_to_workers() -> None:
    for ready, running, near, is_patient, stays, expected in NEAR_SHARES:
        newest, held = np.full(len(running), 8), np.array(running)
        found = share_out(
            *(ready, held, newest, 8, np.array(near)), is_patient=is_patient, stays=stays
        )
        assert found.tolist() == expected, (ready, running, near, stays)


@given(
    loads=st.lists(
        st.tuples(st.integers(0, 9) | st.integers(0, 600), st.integers(0, 9)),
        min_size=2,
        max_size=40,
    ),
    batch=st.integers(1, 9) | st.integers(1, BATCH_RUNNERS_MAX),
    for_anyone=st.integers(0, 40),
)
@tried(200)
def test_nearness_idles_no_worker_and_gives_no_more_than_there_is(
    loads: list[tuple[int, int]], batch: int, for_anyone: int
) -> None:
    running, near = (np.array([load[part] for load in loads]) for part in (0, 1))
    ready = int(near.sum()) + for_anyone
    newest = np.full(len(loads), batch)
    shares = share_out(ready, running, newest, batch, near)
    plain = share_out(ready, running, newest, batch)
    assert shares.sum() <= ready
    assert (shares <= np.maximum(plain.max(initial=0), max(-(-ready // len(loads)), 2))).all()
    is_idle = running == 0
    # As many of the idle get something as without any nearness.
    assert (shares[is_idle] > 0).sum() >= min((plain[is_idle] > 0).sum(), ready)


def test_batches_of_few_workers_are_as_long_as_ever() -> None:
    assert bearable_fuel(10**9, BATCH_FUEL // WORKER_FUEL, 1e6) == BATCH_FUEL


def test_many_workers_get_batches_that_last_until_the_coordinator_comes_round() -> None:
    """But no more than a part of what is left for each, and never less than few get."""
    workers = 4 * BATCH_FUEL // WORKER_FUEL
    longest = workers * WORKER_FUEL
    each = [bearable_fuel(n * workers, workers, BATCH_FUEL / 2) for n in (1_000, 24, 12, 4, 1, 0)]
    expected = [longest, longest, 3 * BATCH_FUEL, BATCH_FUEL, BATCH_FUEL, BATCH_FUEL]
    assert each == expected
    lone = bearable_fuel(1_000 * workers, workers, 100.0 * BATCH_FUEL)
    assert lone == longest, "a batch is a single runner then, however long"


def one_by_one(
    ready: int, running: list[int], newest: list[int], batch: int, least: int
) -> list[int]:
    """Serve the workers in turn, the least loaded first, as long as there is anything."""
    fair = max(-(-ready // len(running)), least, 1)
    shares = [0] * len(running)
    for worker in sorted(range(len(running)), key=lambda w: (running[w], w)):
        room = batch * BATCHES_PER_WORKER - running[worker]
        share = -(-ready // len(running))
        if share < batch and running[worker] > max(share, batch // PARTS_OF_BATCH):
            continue
        nothing = max(batch // PARTS_OF_BATCH, BATCHES_PER_WORKER)
        is_next = running[worker] <= max(newest[worker], nothing)
        if room >= batch and is_next:
            shares[worker] = min(room, fair, ready - sum(shares))
    return shares


@given(
    ready=st.integers(0, 40) | st.integers(0, 3_000),
    loads=st.lists(
        st.tuples(st.integers(0, 9) | st.integers(0, 600), st.integers(0, 9) | st.just(256)),
        min_size=1,
        max_size=40,
    ),
    batch=st.integers(1, 9) | st.integers(1, BATCH_RUNNERS_MAX),
    least=st.integers(0, 5),
)
@tried(200)
def test_shares_are_those_of_serving_one_worker_after_another(
    ready: int, loads: list[tuple[int, int]], batch: int, least: int
) -> None:
    running, newest = ([load[part] for load in loads] for part in (0, 1))
    shares = share_out(ready, np.array(running), np.array(newest), batch, least=least).tolist()
    assert shares == one_by_one(ready, running, newest, batch, least)
    if ready and any(load == 0 for load, _ in loads):
        assert sum(shares) > 0, "a worker has room, and nobody gets anything"
