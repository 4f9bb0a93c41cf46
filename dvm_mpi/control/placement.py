"""How many of the next runners each worker gets.

Pure arithmetic on loads. Ties are broken by the lowest worker number.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import (
    BATCH_FUEL,
    BATCHES_LEFT,
    BATCHES_PER_WORKER,
    WORKER_FUEL,
)
from dvm_mpi.dsm.ranges import firsts_of

#: Who has less than this part of a whole batch has next to nothing.
PARTS_OF_BATCH: Final = 64


def bearable_fuel(ready: int, worker_count: int, runner_fuel: float) -> int:
    """Return how many instructions the runners of a batch are to have together.

    Every worker that gets a batch and tells of its end takes some of the coordinator's time. Of few
    workers that is little beside a batch. Thousands get longer ones, so that the coordinator comes
    round: each as long as it needs for all of them. But a batch is no more than a part of what is
    there for each worker: so batches get shorter as a wave comes to its end, and what is left then
    goes to those that are done first.

    Parameters
    ----------
    ready
        Runners that may start.
    worker_count
        Workers that may be sent runners.
    runner_fuel
        What one runner is expected to take, in instructions.
    """
    bearable = worker_count * WORKER_FUEL
    if bearable <= BATCH_FUEL:
        return BATCH_FUEL
    guided = int(ready // (BATCHES_LEFT * worker_count) * runner_fuel)
    return max(min(bearable, guided), BATCH_FUEL)


def share_out(
    ready: int,
    running: NDArray[np.int64],
    newest: NDArray[np.int64],
    batch_runners: int,
    near: NDArray[np.int64] | None = None,
    *,
    least: int = 1,
    sharers: int | None = None,
    is_patient: bool = False,
    stays: int = 0,
) -> NDArray[np.int64]:
    """Return how many of `ready` runners each worker gets now; (worker_count,) int64.

    The least loaded worker is served first and nobody gets more than a fair share, so that
    one worker does not take what would keep all of them busy. A worker holds at most
    `BATCHES_PER_WORKER` batches, and gets more when there is room for a whole one: small batches
    would come back as small ones, and call for others as small. Where runners do not suffice for
    whole batches, they go to those that have no more than they would get, or next to nothing. What
    finds no place waits.

    Where there are many workers the coordinator's time is what is short, and each share costs it a
    message there and one back. So no share is of a few short runners, although the queue ends. And
    while the first ends tell that runners are short, and batches grow from one runner to hundreds,
    nobody gets some of every size: only who has no more than the batch that it got last, or next to
    nothing, gets another.

    Runners that are near to a worker go there, within its fair share; other workers get them only
    when they have nothing to do. Where somebody is idle for each runner, only the idle get any, and
    as long as we are patient only those that are near to them. Of more runners the idle get, as
    long as we are patient, only as many as would start later where they are near to.

    Parameters
    ----------
    ready
        Runners that may start.
    running, newest
        (worker_count,) attempts that each worker has, and those of the batch that it got last.
    batch_runners
        Runners of a whole batch.
    near
        (worker_count,) how many of the `ready` are near to each worker; None if nobody cares.
    least
        Runners that a share has at least, if there are as many.
    sharers
        Among how many workers they are divided at most; None: all.
    is_patient
        Whether runners may wait, where others are idle, for the worker that they are near to.
    stays
        How many runners a worker executes in the time in which the memory of one moves.
    """
    given = np.zeros(len(running), dtype=np.int64)
    if int(running.min()) > batch_runners * (BATCHES_PER_WORKER - 1):
        # Asked at almost every message, and most often nobody has room for a batch.
        return given
    room = batch_runners * BATCHES_PER_WORKER - running
    has_room = room >= batch_runners
    # Batches of long runners are as small as what a watcher's instance adds: two are nothing, too.
    next_to_nothing = max(batch_runners // PARTS_OF_BATCH, BATCHES_PER_WORKER)
    has_room &= running <= np.maximum(newest, next_to_nothing)
    fair = -(-ready // (len(running) if sharers is None else sharers))
    if fair < batch_runners:
        # Each message takes the coordinator's time: a part of a batch is for who has no more than
        # that to execute, or next to nothing, and until then more may come together.
        has_room &= running <= max(fair, batch_runners // PARTS_OF_BATCH)
    capacity = np.minimum(np.where(has_room, room, 0), max(fair, least, 1))
    if near is None or not near.any():
        return _serve(ready, running, capacity, given)
    is_idle = running == 0
    are_few = ready <= np.count_nonzero(is_idle)
    given = np.minimum(np.where(is_idle, capacity, 0) if are_few else capacity, near)
    leaving = near - given
    if is_patient:
        late = np.maximum(running + near - stays, 0)
        leaving = np.zeros_like(near) if are_few else np.minimum(leaving, late)
    given = _serve(ready - int(near.sum()), running, capacity, given)
    return _serve(int(leaving.sum()), running, np.where(is_idle, capacity, 0), given)


def _serve(
    ready: int,
    running: NDArray[np.int64],
    capacity: NDArray[np.int64],
    given: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return `given` and what each worker gets of `ready` more, the least loaded first."""
    # Of thousands of workers most are busy, and this is asked at almost every message.
    able = (capacity > given).nonzero()[0]
    if len(able) == 0:
        return given
    if len(able) == 1:
        more = given.copy()
        more[able] += min(max(ready, 0), int((capacity - given)[able[0]]))
        return more
    order = able[np.argsort((running + given)[able], kind="stable")]
    room = (capacity - given)[order]
    more = given.copy()
    more[order] += np.minimum(np.maximum(ready - firsts_of(room), 0), room)
    return more
