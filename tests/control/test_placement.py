"""Sharing runners out among workers, and sizing batches."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dvm_mpi.config import BATCH_FUEL, BATCH_RUNNERS_MAX, BATCHES_PER_WORKER
from dvm_mpi.control.placement import LengthEstimate, share_out

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
    (0,    [0, 0],       8,     [0, 0]),
)
# fmt: on


def test_shares() -> None:
    for ready, running, batch, expected in SHARES:
        found = share_out(ready, np.array(running), batch).tolist()
        assert found == expected, (ready, running, batch)


@given(
    ready=st.integers(0, 3_000),
    running=st.lists(st.integers(0, 600), min_size=1, max_size=20),
    batch=st.integers(1, BATCH_RUNNERS_MAX),
)
def test_shares_keep_the_limits_and_waste_no_idle_worker(
    ready: int, running: list[int], batch: int
) -> None:
    loads = np.array(running)
    shares = share_out(ready, loads, batch)
    assert (shares >= 0).all()
    assert shares.sum() <= ready
    assert (shares + loads <= np.maximum(loads, batch * BATCHES_PER_WORKER)).all()
    has_room = loads <= batch * (BATCHES_PER_WORKER - 1)
    if ready >= len(running):
        assert (shares[has_room] > 0).all()
    elif has_room.any():
        assert shares.sum() > 0 or ready == 0


def test_batches_have_about_the_same_fuel() -> None:
    lengths = LengthEstimate()
    assert lengths.batch_runners == 1
    lengths.observe(np.array([], dtype=np.int64))
    assert lengths.mean == BATCH_FUEL
    for _ in range(60):
        lengths.observe(np.full(10, BATCH_FUEL // 100))
    assert 90 <= lengths.batch_runners <= 110
    for _ in range(60):
        lengths.observe(np.ones(10, dtype=np.int64))
    assert lengths.batch_runners == BATCH_RUNNERS_MAX
    for _ in range(60):
        lengths.observe(np.full(10, 10 * BATCH_FUEL))
    assert lengths.batch_runners == 1
