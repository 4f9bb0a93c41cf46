"""Which of the runners that may start go to which worker, as far as workers have room.

A runner had best go where a policy says (`policies`), unless that costs more than it saves. What
its memory takes to move is weighed against what it waits for its worker, both in microseconds: of
those that wait for a worker, an idle one gets at once only what would start there later than here.
The others wait a little longer than a move takes. Who waits so long for what could be had at that
price never loses more than twice of what it had to; most often its worker is done in a moment, or
the idle one gets runners of its own, and an instance of a watcher sees the commits that come
meanwhile, too.

And where next to nothing is left at all, a few runners here and a few that run, these wait for
those: each share costs the coordinator its messages and an epoch, and once apart they would stay
apart. A few are not divided among workers either.
"""

from __future__ import annotations

from math import ceil
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import (
    BATCH_FUEL,
    BATCH_RUNNERS_MAX,
    BATCHES_PER_WORKER,
    FRONT_RUNNERS,
    MOVE_US,
    MOVED_BYTES_PER_US,
    NEAR_BYTES_MIN,
    RUNNER_FUEL,
    SHARES_PER_ROUND,
    SLICE_FUEL,
    WORKER_FUEL,
    WORKERS_PER_LEAST_RUNNER,
)
from dvm_mpi.control.coordinator_state import CoordinatorState
from dvm_mpi.control.lifecycle import State
from dvm_mpi.control.placement import bearable_fuel, share_out
from dvm_mpi.control.policies import NOTHING_DECLARED, Policy
from dvm_mpi.control.short_waits import SHARES_AWAITED_MAX, ShortWaits
from dvm_mpi.dsm.holders import ANYONE
from dvm_mpi.values import dataclass

Ints = NDArray[np.int64]

#: As numpy takes it at once.
_CANCELLED: Final = int(State.CANCELLED)
#: Rows at the head of the queue that are looked at together for cancelled instances.
_CANCELLED_AT_ONCE: Final = 64
#: Rows by whose entries it is guessed how long those are that start next.
_LOOKED_AT: Final = 64
#: Runners that are looked at one by one, if there are no more.
FEW: Final = 4
#: What a rank executes, as a slice is meant to take a millisecond.
_INSTRUCTIONS_PER_US: Final = SLICE_FUEL / 1_000


@dataclass(frozen=True, slots=True)
class BatchSize:
    """Of a whole batch: its instructions, about; its runners; and the fewest that are dealt."""

    fuel: int
    runners: int
    least: int


ONE_RUNNER: Final = BatchSize(BATCH_FUEL, 1, 1)


@dataclass(frozen=True, slots=True)
class Dealt:
    """Who gets which rows: each of `workers`, all of them different, the next `counts` of them."""

    workers: Ints
    counts: Ints
    rows: Ints
    size: BatchSize


_NOBODY: Final = np.zeros(0, np.int64)
NOTHING_DEALT: Final = Dealt(_NOBODY, _NOBODY, _NOBODY, ONE_RUNNER)


class Dealing:
    """Takes runners off the queue; it decides, and the scheduler sends them."""

    #: Until when runners wait for the workers that they are near to; None if none does.
    waits_until_us: int | None

    def __init__(
        self,
        state: CoordinatorState,
        policy: Policy | None,
        near_wait_us: int,
        share_fuel_min: int,
        short_waits: ShortWaits,
        moved_bytes_per_us: int = MOVED_BYTES_PER_US,
    ) -> None:
        self._state = state
        self._moved_bytes_per_us = moved_bytes_per_us
        self._policy = policy
        self._near_wait_us = near_wait_us if policy is not None and policy.waits else 0
        self.waits_until_us = None
        self._share_fuel_min = share_fuel_min
        #: Of so many runners each, however short, a share is worth its messages.
        self._few_max = share_fuel_min // RUNNER_FUEL
        #: Whether the few wait for those that run.
        self._gathers_now = False
        self._short_waits = short_waits
        #: What the largest range of runners has, of those that were last looked at; their mean.
        self._range_bytes = 0.0

    def deal(self, workers: Ints, now_us: int) -> Dealt:
        """Take what may start and finds a worker now.

        `workers`: those that are ready, ascending.
        """
        state, policy = self._state, self._policy
        if self._share_fuel_min and self._gathers():
            return NOTHING_DEALT
        self._drop_cancelled()
        size = self.size(len(workers), state.startable_count)
        if not self._have_room(workers, size):
            self.waits_until_us = None
            return NOTHING_DEALT
        if policy is None:
            return self._deal_in_order(workers, size) if state.startable_count else NOTHING_DEALT
        if len(state.front) == 0 and len(state.queue) <= FEW:
            few = self._deal_few(workers, policy, size)
            if few is not None:
                return few
        return self._deal_near(workers, policy, size, now_us)

    def _deal_near(self, workers: Ints, policy: Policy, size: BatchSize, now_us: int) -> Dealt:
        """Take what may start by who is near to it."""
        state = self._state
        if not self._fill_front(workers, policy):
            self.waits_until_us = None
            return NOTHING_DEALT
        if len(state.queue) and state.front.room:
            # New ones behind the head may be near to who would else take what is near to others.
            rows = self._live(state.queue.pop(state.front.room))
            state.front.add(rows, self._near(rows, policy), len(workers))
        share = self._share_near(workers, size, now_us)
        given = share.nonzero()[0]
        if len(given) == 0:
            return NOTHING_DEALT
        workers, missing = workers[given], share[given]
        parts: list[tuple[Ints, Ints]] = []
        while missing.any() and self._fill_front(workers, policy):
            positions, rows = state.front.deal(workers, missing)
            parts.append(self._live_at(positions, rows))
            missing = missing - np.bincount(parts[-1][0], minlength=len(workers))
        positions, rows = parts[0]
        if len(parts) > 1:
            positions, rows = (np.concatenate(part) for part in zip(*parts, strict=True))
            order = np.argsort(positions, kind="stable")
            positions, rows = positions[order], rows[order]
        return _dealt(workers, positions, rows, size)

    def _deal_few(self, workers: Ints, policy: Policy, size: BatchSize) -> Dealt | None:
        """Deal all that may start, a few, each to an idle worker of its own that it is near to.

        Or one that is near to nobody to the first idle worker. The result is that of all that
        `deal` does else; None if it takes that, for which they lie in the front then.
        """
        state = self._state
        rows = self._live(state.queue.pop(len(state.queue)))
        if len(rows) == 0:
            return None
        near = self._near(rows, policy)
        idle = workers[self._awake(workers) == 0].tolist()
        chosen = [ANYONE] if near is None else near.tolist()
        if len(rows) == 1 and chosen[0] == ANYONE:
            chosen = idle[:1]
        has_own = len(set(chosen)) == len(rows) and set(chosen) <= set(idle)
        if not has_own:
            state.front.fill(rows, near, len(workers))
            return None
        self.waits_until_us = None
        given = np.array(chosen)
        order = given.argsort()
        return Dealt(given[order], np.ones(len(rows), np.int64), rows[order], size)

    def _have_room(self, workers: Ints, size: BatchSize) -> bool:
        """Say whether any worker may get more: asked at almost every message, and most often no."""
        return int(self._awake(workers).min()) <= size.runners * (BATCHES_PER_WORKER - 1)

    def _awake(self, workers: Ints) -> Ints:
        """Return how many attempts each of `workers` has that do not sleep."""
        state = self._state
        # Some of those that sleep may have been given up on.
        awake: Ints = np.maximum(state.running - state.asleep - state.gathered, 0)[workers]
        return awake

    def _deal_in_order(self, workers: Ints, size: BatchSize) -> Dealt:
        """Take what may start in its order, where nobody is near to anyone."""
        share = self._share_all(workers, size)
        given = share.nonzero()[0]
        if len(given) == 0:
            return NOTHING_DEALT
        workers, counts = workers[given], share[given]
        rows = self._pop(int(counts.sum()))
        positions = np.repeat(np.arange(len(workers)), counts)
        return _dealt(workers, *self._live_at(positions, rows), size)

    def size(self, worker_count: int, ready: int) -> BatchSize:
        """Return how large batches are where so many runners may start, of which one must."""
        lengths, least = self._state.lengths, worker_count // WORKERS_PER_LEAST_RUNNER
        if worker_count * WORKER_FUEL <= BATCH_FUEL:
            # Of runners so long that a batch has few of them, fewer are worth a message.
            runners = lengths.batch_runners
            return BatchSize(BATCH_FUEL, runners, min(least, runners // BATCHES_PER_WORKER))
        runner_fuel = lengths.likely_fuel(self._state.table.rows["entry"][self._head()])
        fuel = bearable_fuel(ready, worker_count, runner_fuel)
        least = min(least, int(worker_count * WORKER_FUEL / (SHARES_PER_ROUND * runner_fuel)))
        return BatchSize(fuel, lengths.fitting(fuel, runner_fuel), least)

    def _head(self) -> Ints:
        """Return some of those that will start next."""
        state = self._state
        for rows in (state.chosen.peek(_LOOKED_AT), state.front.peek(_LOOKED_AT)):
            if len(rows):
                return rows
        return state.queue.peek(_LOOKED_AT)

    def _sharers(self, worker_count: int) -> int:
        """Return among how many workers what may start is worth to be divided; 0: not even one."""
        state, ready = self._state, self._state.startable_count
        if self._share_fuel_min == 0 or ready > min(
            worker_count * self._few_max, BATCH_RUNNERS_MAX
        ):
            return worker_count
        rows = np.concatenate([state.front.rows, state.queue.peek(ready)])
        fuel = state.lengths.known_fuel(state.table.rows["entry"][rows]) if len(rows) else 0.0
        return int(min(fuel / self._share_fuel_min, worker_count))

    def _gathers(self) -> bool:
        """Say whether the few that may start wait for the few under way, and note until when."""
        waits, gathered = self._short_waits, self._gathers_now
        waits.begin_anew()
        is_held_up = waits.are_short and not waits.is_settled
        self._gathers_now = is_held_up and self._sharers(SHARES_AWAITED_MAX) < SHARES_AWAITED_MAX
        if self._gathers_now:
            self.waits_until_us = waits.until_us
        elif gathered:
            self.waits_until_us = None
        return self._gathers_now

    def take(self, count: int) -> Ints:
        """Take `count` rows that may start; cancelled ones are freed and not returned."""
        return self._live(self._pop(count))

    def _pop(self, count: int) -> Ints:
        """Take `count` rows that may start, cancelled ones among them."""
        rows = self._state.front.take(count)
        return np.concatenate([rows, self._state.queue.pop(count - len(rows))])

    def share(
        self,
        workers: Ints,
        ready: int,
        size: BatchSize,
        near: Ints | None = None,
        *,
        sharers: int | None = None,
        is_patient: bool = False,
        stays: int = 0,
    ) -> Ints:
        """Return how many of `ready` runners each of `workers` gets now; see `share_out`."""
        newest = self._state.newest_batch[workers]
        return share_out(
            *(ready, self._awake(workers), newest, size.runners, near),
            least=size.least,
            sharers=sharers,
            is_patient=is_patient,
            stays=stays,
        )

    def _share_all(
        self,
        workers: Ints,
        size: BatchSize,
        near: Ints | None = None,
        *,
        is_patient: bool = False,
        stays: int = 0,
    ) -> Ints:
        """Share out all that may start, a few among few."""
        sharers, ready = max(self._sharers(len(workers)), 1), self._state.startable_count
        return self.share(
            *(workers, ready, size, near), sharers=sharers, is_patient=is_patient, stays=stays
        )

    def _share_near(self, workers: Ints, size: BatchSize, now_us: int) -> Ints:
        """Return how many of all each of `workers` gets, and note whether others wait."""
        state, moved_us = self._state, int(self._range_bytes / self._moved_bytes_per_us)
        wait_us = self._near_wait_us + moved_us if self._near_wait_us else 0
        if state.front.is_for_anyone:
            self.waits_until_us = None
            return self._share_all(workers, size)
        near, ready = state.front.near_counts[workers], state.startable_count
        until_us = self.waits_until_us
        is_patient = now_us < (now_us + wait_us if until_us is None else until_us)
        runner_us = (state.lengths.all.mean + RUNNER_FUEL) / _INSTRUCTIONS_PER_US
        stays = ceil((MOVE_US + moved_us) / runner_us)
        share = self._share_all(workers, size, near, is_patient=is_patient, stays=stays)
        is_idle = (state.running <= state.asleep)[workers] & (share == 0)
        if wait_us == 0 or not is_idle.any() or int(share.sum()) == ready:
            self.waits_until_us = None
        elif self.waits_until_us is None:
            self.waits_until_us = now_us + wait_us
        return share

    def _fill_front(self, workers: Ints, policy: Policy) -> bool:
        """Sort the head of the queue by who is near to it, if need be; say whether any waits."""
        state = self._state
        if len(state.front) == 0:
            self._drop_cancelled()
            rows = self._live(state.queue.pop(FRONT_RUNNERS))
            state.front.fill(rows, self._near(rows, policy), len(workers))
        return len(state.front) > 0

    def _near(self, rows: Ints, policy: Policy) -> Ints | None:
        """Return the worker that each row is near to, or ANYONE; None if that holds for all."""
        if not policy.looks:
            return policy.near(len(rows), NOTHING_DECLARED)
        largest = self._state.table.rows["largest_range"][rows]
        counting = np.flatnonzero(largest >= NEAR_BYTES_MIN)
        if len(counting) == 0:
            return None
        self._range_bytes = float(largest[counting].mean())
        near = np.full(len(rows), ANYONE, np.int64)
        near[counting] = policy.near(len(counting), self._state.granted_to(rows[counting]))
        return near

    def _drop_cancelled(self) -> None:
        """Free the cancelled instances at the head of the queue."""
        state = self._state
        states = state.table.rows["state"]
        # Nearly always the first one is none of them.
        while len(state.queue) and states[state.queue.peek(1)[0]] == _CANCELLED:
            head = state.queue.peek(_CANCELLED_AT_ONCE)
            cancelled = states[head] == _CANCELLED
            count = len(head) if cancelled.all() else int(np.argmin(cancelled))
            state.end(state.queue.pop(count))
            if count < len(head):
                return

    def _live(self, rows: Ints) -> Ints:
        """Return the rows that are still to run; cancelled ones are freed."""
        cancelled = self._state.table.rows["state"][rows] == _CANCELLED
        if not cancelled.any():
            return rows
        self._state.end(rows[cancelled])
        live: Ints = rows[~cancelled]
        return live

    def _live_at(self, positions: Ints, rows: Ints) -> tuple[Ints, Ints]:
        """Return the rows that are still to run, with whose they are; cancelled ones are freed."""
        cancelled = self._state.table.rows["state"][rows] == _CANCELLED
        if not cancelled.any():
            return positions, rows
        self._state.end(rows[cancelled])
        return positions[~cancelled], rows[~cancelled]


def _dealt(workers: Ints, positions: Ints, rows: Ints, size: BatchSize) -> Dealt:
    """Return what has been dealt: `positions`, ascending, say whose each row is."""
    counts = np.bincount(positions, minlength=len(workers))
    given = counts.nonzero()[0]
    return Dealt(workers[given], counts[given], rows, size)
