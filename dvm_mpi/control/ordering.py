"""Records of ended attempts come in, winners go to the open epoch: the commit point.

Records are taken in order of arrival. Those of attempts that were given up on are dropped, those
that meet another's reservation wait, the rest is validated in one batch (`validation`): a record
loses if any byte that counts has a last writer after its snapshot. Nothing becomes visible here.
"""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import SHARED_RANGES_MAX
from dvm_mpi.control import giving_up, record_loops, row_loops
from dvm_mpi.control.contention import lowest_newer
from dvm_mpi.control.coordinator_state import (
    NO_ROWS,
    Action,
    Births,
    CoordinatorState,
    Failure,
    RecordLoss,
    RecordOrder,
    ToHome,
)
from dvm_mpi.control.joining import SEVERAL, efforts, select, workers_of
from dvm_mpi.control.lifecycle import Event, Kind, State
from dvm_mpi.control.messages import Finished
from dvm_mpi.control.record_loops import GATHERED_COUNT, OUTCOME_RUNNER
from dvm_mpi.control.row_loops import ENTRY
from dvm_mpi.control.validation import Footprints
from dvm_mpi.dsm.messages import TOKEN
from dvm_mpi.dsm.ranges import expand
from dvm_mpi.dsm.rows import words_of
from dvm_mpi.engine.interface import End
from dvm_mpi.values import dataclass

#: Stretches of equal snapshots in one message that are unpinned one by one.
_STRETCHES_APART: Final = 64
#: As numbers: numpy asks members of enumerations that it compares with for attributes, for 5 us.
_COMMIT_DELETE: Final = int(End.COMMIT_DELETE)
_ABORT_DELETE: Final = int(End.ABORT_DELETE)
_INSTANCE: Final = int(Kind.INSTANCE)


@dataclass(frozen=True, slots=True)
class _Batch(Footprints):
    """The records that are decided together, by position."""

    finished: Finished
    rows: NDArray[np.int64]
    #: Who executed each.
    workers: NDArray[np.int64]
    #: The message's outcomes, as words.
    words: NDArray[np.int64]
    #: Of `record_loops.gather`.
    totals: list[int]

    @property
    def has_losers(self) -> bool:
        """Whether any runner has lost before."""
        return self.totals[record_loops.LOSERS] > 0

    @property
    def is_in_order(self) -> bool:
        """Whether `runs` are rows of the message as they lie."""
        return self.totals[record_loops.OUT_OF_ORDER] == 0


class Ordering:
    """Takes records and orders them into the open epoch."""

    def __init__(self, state: CoordinatorState) -> None:
        self._state = state
        #: Whether a reservation has ended since the held records were last looked at.
        self._has_released = False

    def take(self, finished: Finished) -> list[Action]:
        """Order one message's records, then those that a reservation had held back."""
        state = self._state
        state.counters.bytes_fetched += finished.fetched_bytes
        # Whatever becomes of the records: of an abort or a trap no child is ever born.
        state.leases.end_stacks(finished.dropped_stacks)
        actions: list[Action] = []
        current, missing, last_serial = self._fence(finished)
        self._note_serials(finished, last_serial)
        if len(missing):
            workers = workers_of(finished)
            state.counters.fenced += len(missing)
            snapshots = giving_up.snapshots_of(
                state, workers[missing], finished.records["attempt"][missing]
            )
            actions += self._discard(finished, missing, workers[missing], snapshots)
            giving_up.settle(state, workers[missing], finished.records["attempt"][missing])
            finished = select(finished, current)
        if len(finished.outcomes):
            self._measure(finished)
        actions += self._order(finished)
        return actions + self._order_released()

    def _note_serials(self, finished: Finished, last_serial: int) -> None:
        """Note which staged write sets the workers have named, up to `last_serial`."""
        last_serials = self._state.last_serials
        if last_serial == 0:
            return
        if finished.worker == SEVERAL:
            np.maximum.at(last_serials, workers_of(finished), finished.records["serial"])
        else:
            last = int(last_serials[finished.worker])
            last_serials[finished.worker] = max(last, last_serial)

    def _measure(self, finished: Finished) -> None:
        """Note that attempts run no more, and how long they were."""
        state, outcomes = self._state, finished.outcomes
        classes = np.zeros(record_loops.CLASS_COUNT, np.int64)
        totals = np.zeros(record_loops.MEASURED_COUNT, np.int64)
        table, words = state.table.words, words_of(outcomes)
        if record_loops.arrive(table, words, state.running, classes, totals):
            # Nearly always a message has runners of one sort only.
            entry = int(table[int(words[0, OUTCOME_RUNNER]), ENTRY])
            total, longest = totals.tolist()
            state.lengths.observe_one(entry, finished.effort / len(outcomes), len(outcomes))
            state.runner_lengths.add(entry, classes, total, longest)
            state.counters.instructions += total
            return
        entries, instructions = table[outcomes["runner"], ENTRY], outcomes["instructions"]
        state.lengths.observe(entries, efforts(finished))
        state.runner_lengths.note(entries, instructions)
        state.counters.instructions += int(instructions.sum())

    def give_up(self, rows: NDArray[np.int64]) -> list[Action]:
        """End what rows whose attempts are given up on reserve; order what that had held back."""
        self._release(rows)
        return self._order_released()

    def _order_released(self) -> list[Action]:
        """Order the records that a reservation had held back, if one has ended."""
        if not self._has_released:
            return []
        self._has_released = False
        waiting, self._state.held = self._state.held, []
        return [action for record in waiting for action in self._order(record)]

    def _release(self, rows: NDArray[np.int64]) -> None:
        """End what rows reserve while they run."""
        for row in rows[self._state.table.rows["losses"][rows] > 0].tolist():
            self._has_released |= self._state.reservations.deactivate(row)
            if row == self._state.alone:
                self._state.alone = -1

    def _fence(self, finished: Finished) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
        """Split positions into those of current attempts and those given up on, if there are any.

        Also returns the last serial of a staged write set, 0 if there is none.
        """
        current = np.empty(len(finished.outcomes), np.bool_)
        serials = np.zeros(1, np.int64)
        outcomes, records = words_of(finished.outcomes), words_of(finished.records)
        if not record_loops.fence(self._state.table.words, outcomes, records, current, serials):
            return NO_ROWS, NO_ROWS, int(serials[0])
        return np.flatnonzero(current), np.flatnonzero(~current), int(serials[0])

    def _order(self, finished: Finished) -> list[Action]:
        if len(finished.outcomes) == 0:
            return []
        if self._state.failure is not None:
            # A home may wait for the frames that this snapshot holds.
            rows = finished.outcomes["runner"]
            giving_up.unpin(self._state, self._state.table.rows["snapshot"][rows])
            return []
        if self._state.reservations.active:
            finished = self._hold(finished)
        batch = self._batch(finished)
        wakes = self._stored_before_registration(batch)
        may_publish = np.ones(len(batch.rows), np.bool_)
        if batch.totals[record_loops.TRAPS]:
            may_publish = finished.outcomes["end"] != End.TRAP
        epoch = self._state.log.open_epoch
        # Asked before the batch is entered: who wins has stored other bytes of these pages.
        pages, owners = self._state.conflicts.shared_pages(
            batch.snapshots, batch.offsets, batch.runs, SHARED_RANGES_MAX
        )
        against = self._state.validation.resolve(self._state.conflicts, batch, may_publish, epoch)
        all_won = not against.any()
        won = against == 0
        if batch.totals[record_loops.TRAPS]:
            trapped = np.flatnonzero(won & ~may_publish)
            if len(trapped):
                self._fail(batch, int(trapped[0]))
                won[trapped[0] :] = all_won = False
                # Records behind the trap are not ordered; the run ends with what came before it.
                against = np.where(np.arange(len(won)) < trapped[0], against, 0)
        if len(pages):
            if not all_won:
                pages, owners = pages[won[owners]], owners[won[owners]]
            self._state.hot_pages.note("shared", pages)
            entries = self._state.table.words[batch.rows[owners], ENTRY]
            self._state.sharing.note(pages, entries)
        self._unpin(batch.snapshots, batch.totals[record_loops.STRETCHES])
        if batch.has_losers:
            self._release(batch.rows)
        if all_won:
            return self._win(batch, np.arange(len(won)), wakes, epoch)
        actions = self._lose(batch, np.flatnonzero(against > 0), against)
        return actions + self._win(batch, np.flatnonzero(won), wakes, epoch)

    def _unpin(self, snapshots: NDArray[np.int64], stretches: int) -> None:
        """Let go of snapshots that come in so many stretches of equal ones."""
        if stretches == 1:
            self._state.pins.remove(int(snapshots[0]), len(snapshots))
            return
        if stretches > _STRETCHES_APART:
            giving_up.unpin(self._state, snapshots)
            return
        # Attempts that were dispatched together come back together, most often.
        found = np.empty((2, stretches), np.int64)
        row_loops.stretches(snapshots, 0, 1, found)
        epochs, counts = found.tolist()
        for epoch, count in zip(epochs, counts, strict=True):
            self._state.pins.remove(epoch, count)

    def _batch(self, finished: Finished) -> _Batch:
        outcomes = finished.outcomes
        count = len(outcomes)
        rows, snapshots, workers = np.empty((3, count), np.int64)
        offsets, totals = np.empty(count + 1, np.int64), np.zeros(GATHERED_COUNT, np.int64)
        table, words = self._state.table.words, words_of(outcomes)
        record_loops.gather(table, words, rows, snapshots, workers, offsets, totals)
        if totals[record_loops.OUT_OF_ORDER]:
            runs = finished.runs.take(expand(outcomes["run_first"], outcomes["run_count"]))
        else:
            runs = finished.runs[: int(offsets[-1])]
        load_offsets, loads = np.zeros(count + 1, np.int64), finished.loads[:0]
        if self._state.isolation != "snapshot":
            answers = self._answers_for_loads(outcomes, rows)
            load_counts = np.where(answers, outcomes["load_count"], 0)
            np.cumsum(load_counts, out=load_offsets[1:])
            loads = finished.loads.take(expand(outcomes["load_first"], load_counts))
        return _Batch(
            *(snapshots, offsets, runs, load_offsets, loads, finished, rows, workers),
            words,
            totals.tolist(),
        )

    def _answers_for_loads(
        self, outcomes: NDArray[Any], rows: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Say which records lose if what they loaded has changed.

        Not an abort that publishes nothing: it could as well have run at its snapshot.
        """
        end = outcomes["end"]
        aborted = (end == End.ABORT) | (end == End.ABORT_DELETE)
        publishes = (outcomes["run_count"] > 0) | self._deletes(end, rows)
        answers: NDArray[np.bool_] = ~aborted | publishes
        return answers

    def _deletes(self, end: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Say which records delete their runner's template."""
        asked = (end == _COMMIT_DELETE) | (end == _ABORT_DELETE)
        if not asked.any():
            return np.asarray(asked)
        is_instance = self._state.table.rows["kind"][rows] == _INSTANCE
        return np.asarray(asked & is_instance)

    def _hold(self, finished: Finished) -> Finished:
        """Set aside the records that touch another's reservation; return the others."""
        batch = self._batch(finished)
        blocked = self._state.reservations.blocks(batch.rows, batch.offsets, batch.runs)
        if not blocked.any():
            return finished
        rows = batch.rows
        newly = blocked & (self._state.table.rows["state"][rows] == State.RUNNING)
        self._state.table.apply(rows[newly], Event.HELD)
        self._state.held += [select(finished, np.array([i])) for i in np.flatnonzero(blocked)]
        return select(finished, np.flatnonzero(~blocked))

    def _stored_before_registration(self, batch: _Batch) -> NDArray[np.bool_]:
        """Say, for each child, whether others stored into its watched bytes since the snapshot.

        Asked before the batch is entered: the creator's own commit does not wake its watcher, and
        those of the same epoch are matched when it is published.
        """
        finished = batch.finished
        wakes = np.zeros(len(finished.children), dtype=bool)
        if len(wakes) == 0 or not finished.children["template"].any():
            return wakes
        templates = np.flatnonzero(finished.children["template"] == 1)
        record = np.zeros(len(finished.children), dtype=np.int64)
        outcomes = finished.outcomes
        record[expand(outcomes["child_first"], outcomes["child_count"])] = np.repeat(
            np.arange(len(outcomes)), outcomes["child_count"]
        )
        counts = finished.children["watched_count"][templates]
        firsts = finished.children["watched_first"][templates]
        newest = self._state.conflicts.newest(finished.child_ranges.take(expand(firsts, counts)))
        since = batch.snapshots[record[templates]]
        later = newest > np.repeat(since, counts)
        hits = np.bincount(
            np.repeat(np.arange(len(templates)), counts), weights=later, minlength=len(templates)
        )
        wakes[templates] = hits > 0
        return wakes

    # --- the two ways a record goes ------------------------------------------------------------
    def _lose(
        self, batch: _Batch, lost: NDArray[np.int64], against: NDArray[np.int64]
    ) -> list[Action]:
        if len(lost) == 0:
            return []
        state = self._state
        rows = batch.rows[lost]
        table = state.table.rows
        table["losses"][rows] += 1
        table["ready_epoch"][rows] = against[lost]
        state.counters.retries += len(rows)
        self._note_contention(batch, lost)
        for position, row in zip(lost.tolist(), rows.tolist(), strict=True):
            if table["losses"][row] >= state.losses_before_remembering:
                wanted = state.validation.at_stake(batch, position)
                state.reservations.remember(row, wanted)
        state.table.apply(rows, Event.LOST)
        state.blocked = np.concatenate([state.blocked, rows])
        numbers = batch.finished.records["attempt"][lost]
        discarded = self._discard(
            batch.finished, lost, table["worker"][rows], batch.snapshots[lost]
        )
        return [RecordLoss(numbers, against[lost]), *discarded]

    def _note_contention(self, batch: _Batch, lost: NDArray[np.int64]) -> None:
        """Count where the losers wanted to commit, or trapped."""
        state, rows = self._state, batch.rows[lost]
        outcomes = batch.finished.outcomes.take(lost)
        pcs = np.where(outcomes["end"] == End.TRAP, outcomes["trap_pc"], outcomes["exit_pc"])

        def find_address(index: int) -> int:
            position = int(lost[index])
            wanted = state.validation.at_stake(batch, position)
            return lowest_newer(state.conflicts, wanted, int(batch.snapshots[position]))

        table = state.table.rows
        state.contention.note(table["entry"][rows], pcs, table["losses"][rows], find_address)

    def _discard(
        self,
        finished: Finished,
        positions: NDArray[np.int64],
        workers: NDArray[np.int64],
        snapshots: NDArray[np.int64],
    ) -> list[Action]:
        """Undo what records that do not count have taken: staged bytes, children's stacks.

        `workers` executed them, on `snapshots`.
        """
        outcomes = finished.outcomes.take(positions)
        index = expand(outcomes["child_first"], outcomes["child_count"])
        children = finished.children.take(index)
        self._state.leases.end_stacks(children["stack_base"][children["stack_automatic"] == 1])
        tokens = self._tokens(finished, positions, workers, snapshots)
        return [
            ToHome(home, request)
            for home, request in self._state.log.discard(tokens, finished.runs)
        ]

    @staticmethod
    def _tokens(
        finished: Finished,
        positions: NDArray[np.int64],
        workers: NDArray[np.int64],
        snapshots: NDArray[np.int64],
    ) -> NDArray[Any]:
        """Return the write sets of records as tokens, rows of the message's own `runs`."""
        tokens = np.empty(len(positions), TOKEN)
        outcomes, records = words_of(finished.outcomes), words_of(finished.records)
        record_loops.write_tokens(
            outcomes,
            records,
            np.ascontiguousarray(positions, np.int64),
            np.ascontiguousarray(workers, np.int64),
            np.ascontiguousarray(snapshots, np.int64),
            words_of(tokens),
        )
        return tokens

    def _win(
        self, batch: _Batch, won: NDArray[np.int64], wakes: NDArray[np.bool_], epoch: int
    ) -> list[Action]:
        if len(won) == 0:
            return []
        state, finished = self._state, batch.finished
        outcomes, words = finished.outcomes, batch.words
        if len(won) < len(batch.rows):
            outcomes = outcomes.take(won)
            words = words_of(outcomes)
        sums = np.zeros(record_loops.SUMMED_COUNT, np.int64)
        record_loops.sum_up(state.table.words, words, words_of(finished.runs), sums)
        told = sums.tolist()
        state.counters.commits += len(won) - told[record_loops.ABORTS]
        state.counters.aborts += told[record_loops.ABORTS]
        state.counters.bytes_committed += told[record_loops.BYTES]
        numbers = finished.records["attempt"].take(won)
        order = RecordOrder(epoch, numbers)
        if told[record_loops.IDLE]:
            deletes = self._deletes(outcomes["end"], batch.rows[won])
            matters = (
                (outcomes["run_count"] > 0)
                | (outcomes["child_count"] > 0)
                | (outcomes["console_count"] > 0)
                | deletes
            )
            state.end(batch.rows[won[~matters]])
            won, outcomes, numbers = won[matters], outcomes[matters], numbers[matters]
        if len(won):
            self._enter(batch, won, outcomes, numbers, told, epoch)
            self._enter_children(finished, outcomes, numbers, wakes, told, epoch)
        return [order]

    def _enter(
        self,
        batch: _Batch,
        won: NDArray[np.int64],
        outcomes: NDArray[Any],
        numbers: NDArray[np.int64],
        sums: list[int],
        epoch: int,
    ) -> None:
        """Append winners that publish something to the open epoch.

        `outcomes` and `numbers` are theirs, in the order of `won`; `sums` of `record_loops.sum_up`.
        """
        state, finished = self._state, batch.finished
        is_whole = len(won) == len(batch.rows)
        rows, workers, snapshots = batch.rows, batch.workers, batch.snapshots
        if not is_whole:
            rows, workers, snapshots = rows[won], workers[won], snapshots[won]
        pending = state.pending_epoch(epoch)
        state.table.apply(rows, Event.ORDERED)
        pending.ordered.append(rows)
        if sums[record_loops.DELETING]:
            deletes = self._deletes(outcomes["end"], rows)
            pending.deletions += state.table.rows["template"][rows[deletes]].tolist()
        tokens = self._tokens(finished, won, workers, snapshots)
        if state.migration is not None:
            state.migration.note(tokens, finished.runs)
        state.log.append(tokens, finished.runs, finished.data)
        counts = outcomes["run_count"]
        pending.writers.append(numbers)
        pending.run_counts.append(counts)
        if is_whole and batch.is_in_order:
            pending.runs.append(batch.runs)
        else:
            pending.runs.append(finished.runs.take(expand(outcomes["run_first"], counts)))
        if len(finished.console):
            said = expand(outcomes["console_first"], outcomes["console_count"])
            if len(said):
                pending.console.append(finished.console[said])

    def _enter_children(
        self,
        finished: Finished,
        outcomes: NDArray[Any],
        numbers: NDArray[np.int64],
        wakes: NDArray[np.bool_],
        sums: list[int],
        epoch: int,
    ) -> None:
        """Let the children of winners be born when the epoch is visible."""
        if sums[record_loops.CHILDREN] == 0:
            return
        counts, children = outcomes["child_count"], finished.children
        is_whole = sums[record_loops.CHILDREN] == len(children)
        if not is_whole or sums[record_loops.CHILDREN_OUT_OF_ORDER]:
            index = expand(outcomes["child_first"], counts)
            children, wakes = children.take(index), wakes[index]
        # Without stores to their stacks the bytes of the message need not be kept.
        has_images = bool(children["image_count"].any())
        births = Births(
            creators=numbers.repeat(counts),
            wakes=wakes,
            children=children,
            child_ranges=finished.child_ranges,
            runs=finished.runs if has_images else finished.runs[:0],
            data=finished.data if has_images else finished.data[:0],
        )
        self._state.pending_epoch(epoch).births.append(births)

    def _fail(self, batch: _Batch, position: int) -> None:
        """Note the trap that ends the program."""
        finished = batch.finished
        outcome = finished.outcomes[position]
        runner = self._state.table.rows[int(batch.rows[position])]
        traps = json.loads(finished.traps) if finished.traps else {}
        operands, nearest = traps.get(str(position), ([], None))
        self._state.failure = Failure(
            runner_id=int(runner["id"]),
            runner_entry=int(runner["entry"]),
            newr_pc=int(runner["newr_pc"]),
            attempt=int(runner["losses"]) + 1,
            worker=int(runner["worker"]),
            trap=int(outcome["trap"]),
            pc=int(outcome["trap_pc"]),
            address=int(outcome["trap_address"]),
            instructions=int(outcome["instructions"]),
            operands=tuple(operands),
            nearest=None if nearest is None else (int(nearest[0]), int(nearest[1])),
            number=int(finished.records["attempt"][position]),
        )
