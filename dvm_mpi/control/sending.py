"""Runners that have been dealt become attempts, and the messages that send them out.

All that is dealt in a turn is laid out at once: rows, attempts and grants of all workers in one
pass of compiled code each, and cut where batches end. What several workers of a leader get is one
message, which the leader takes apart (`joining.batches_of`); others get one for each batch.
Who gets what is decided elsewhere (`dealing`, `rounds`).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import LOSSES_BEFORE_RESERVING
from dvm_mpi.control import row_loops
from dvm_mpi.control.coordinator_state import Action, CoordinatorState, ToLeader, ToWorker
from dvm_mpi.control.dealing import Dealt
from dvm_mpi.control.joining import batches_of, for_receivers
from dvm_mpi.control.lifecycle import Event, Kind
from dvm_mpi.control.messages import BATCH, BatchesDealt
from dvm_mpi.control.policies import Policy, declared_in
from dvm_mpi.control.rounds import Rounds
from dvm_mpi.dsm.ranges import expand, firsts_of
from dvm_mpi.dsm.rows import words_of
from dvm_mpi.engine.interface import ATTEMPT, GRANT, NO_LEASES, RUN

Ints = NDArray[np.int64]

#: Of attempts whose creators stored nothing into their stacks.
NO_RUNS: Final = np.zeros(0, dtype=RUN)
NO_DATA: Final = np.zeros(0, dtype=np.uint8)
#: As a number: numpy asks members of enumerations that it compares with for attributes, for 5 us.
_INSTANCE: Final = int(Kind.INSTANCE)


class Sending:
    """Lays out what has been dealt.

    Parameters
    ----------
    state
        The coordinator's.
    policy
        Is told what workers are sent; None if nobody asks.
    rounds
        Of a run that goes by rounds.
    receivers
        Who takes messages for each worker: itself, or who leads several; (worker_count,). None:
        every worker itself.
    """

    def __init__(
        self,
        state: CoordinatorState,
        policy: Policy | None,
        rounds: Rounds | None,
        receivers: Ints | None,
    ) -> None:
        self._state = state
        self.policy, self.rounds = policy, rounds
        #: Who takes messages for each worker; (worker_count,).
        self.receivers: Ints = np.arange(len(state.running)) if receivers is None else receivers
        #: Receivers that lead several; (worker_count,).
        self._leads = np.bincount(self.receivers, minlength=len(state.running)) > 1
        self._has_leaders = bool(self._leads.any())

    def send(self, dealt: Dealt) -> list[Action]:
        """Move rows to RUNNING, and return what sends them to their workers, in batches."""
        if len(dealt.rows) == 0:
            # All that were dealt had been cancelled.
            return []
        if self._has_leaders and self.rounds is None:
            dealt = self._by_receiver(dealt)
        entries = self._state.table.words[dealt.rows, row_loops.ENTRY]
        size = dealt.size
        batches = self._state.lengths.cut(entries, dealt.counts, size.fuel, size.runners)
        workers = dealt.workers[batches.portions]
        # Of one worker the last one counts.
        self._state.newest_batch[workers] = batches.counts
        self._state.newest_fuel[workers] = batches.fuel
        message = self._lay_out(dealt.rows, workers, batches.counts, size.fuel)
        if not self._has_leaders:
            return [ToWorker(worker, batch) for worker, batch in batches_of(message)]
        actions: list[Action] = []
        for receiver, part in for_receivers(message, self.receivers[workers]):
            if self._leads[receiver]:
                actions.append(ToLeader(receiver, part))
            else:
                actions += [ToWorker(worker, batch) for worker, batch in batches_of(part)]
        return actions

    def _by_receiver(self, dealt: Dealt) -> Dealt:
        """Let those be neighbours whose batches go in one message."""
        receivers = self.receivers[dealt.workers]
        if (receivers[1:] >= receivers[:-1]).all():
            return dealt
        order = np.argsort(receivers, kind="stable")
        rows = dealt.rows[expand(firsts_of(dealt.counts)[order], dealt.counts[order])]
        return Dealt(dealt.workers[order], dealt.counts[order], rows, dealt.size)

    def _lay_out(self, rows: Ints, workers: Ints, counts: Ints, report_fuel: int) -> BatchesDealt:
        """Move rows to RUNNING, and describe their attempts.

        Batch b has the next `counts[b]` of the rows, and goes to `workers[b]`.
        """
        state = self._state
        snapshot, first = state.snapshot, state.last_attempt + 1
        rows = np.ascontiguousarray(rows, np.int64)
        numbers = np.arange(first, first + len(rows))
        state.table.apply(rows, Event.DISPATCHED)
        attempts = np.empty(len(rows), dtype=ATTEMPT)
        totals = np.zeros((len(counts), row_loops.SENT_COUNT), np.int64)
        table = state.table.words
        row_loops.send(table, rows, workers, counts, first, snapshot, words_of(attempts), totals)
        state.last_attempt += len(rows)
        grant_count, image_count, loser_count, instance_count = totals.sum(axis=0).tolist()
        if instance_count:
            self._leave_queue(rows)
        if self.rounds is None and loser_count:
            losses = state.table.rows["losses"][rows]
            for row in rows[losses >= LOSSES_BEFORE_RESERVING].tolist():
                state.reservations.activate(row)
        state.pins.add(snapshot, len(rows))
        np.add.at(state.running, workers, counts)
        state.counters.attempts += len(rows)
        grants = np.empty(grant_count, dtype=GRANT)
        row_loops.copy_grants(table, rows, words_of(state.grants.rows), words_of(grants))
        # Of whole pages: what is cached of a page is as old as its oldest byte.
        grants["newest"] = state.conflicts.newest_of_pages(grants)
        leases = NO_LEASES if self.rounds is None else self.rounds.dispatch(len(rows))
        images = NO_RUNS, NO_DATA
        if image_count:
            images = self._describe_images(rows, attempts, counts)
        # The first runner, number 1, may touch all that is loaded, and need not look at any of it.
        if self.policy is not None and self.policy.looks and first > 1:
            declared = declared_in(attempts["grant_count"], grants)
            self.policy.sent(np.repeat(workers, counts), snapshot, declared)
        batches = np.empty(len(counts), BATCH)
        batches["worker"], batches["attempts"] = workers, counts
        return BatchesDealt(
            snapshot, batches, numbers, attempts, grants, *images, leases, report_fuel
        )

    def _leave_queue(self, rows: Ints) -> None:
        """Let a template queue its next instance: this one's snapshot is taken now."""
        table = self._state.table.rows
        instances = rows[table["kind"][rows] == _INSTANCE]
        templates = table["template"][instances]
        queued = table["queued_instance"][templates] == instances
        table["queued_instance"][templates[queued]] = -1
        table["attempt"][templates[queued]] = table["attempt"][instances[queued]]

    def _describe_images(
        self, rows: Ints, attempts: NDArray[Any], counts: Ints
    ) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """Return what creators stored into the stacks of rows, and note in `attempts` where.

        Counted within the batches, which have `counts` of the rows.
        """
        state = self._state
        r = state.table.rows.take(rows)
        runs, firsts = state.image_runs.gather(r["image_first"], r["image_count"])
        attempts["image_count"] = r["image_count"]
        owner = np.repeat(np.arange(len(rows)), r["image_count"])
        where = runs["data_first"] + r["image_data_first"][owner]
        data = state.image_data.rows[expand(where, runs["length"])]
        data_first = firsts_of(runs["length"])
        if len(counts) > 1:
            # Of a batch without images it does not matter what is told.
            heads = firsts[firsts_of(counts)]
            firsts = firsts - np.repeat(heads, counts)
            begins = np.append(data_first, len(data))[heads]
            data_first -= np.repeat(begins, counts)[owner]
        attempts["image_first"], runs["data_first"] = firsts, data_first
        return runs, data
