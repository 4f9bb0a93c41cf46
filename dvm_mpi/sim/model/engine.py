"""An engine that runs the shape of a job: attempts end after their instructions, in whole batches.

It takes and gives what any engine does (`engine.interface`). Leaves whose memory is there are a few
array operations for all of a batch; the others, of which there are few, go one at a time. Pages are
asked for where a program would touch them; of their bytes only flags are kept.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi import config
from dvm_mpi.disa.image import Image
from dvm_mpi.dsm.ranges import expand, firsts_of
from dvm_mpi.engine.interface import (
    CHILD,
    RUN,
    AttemptBatch,
    End,
    Exit,
    Lease,
    LeaseKind,
    OutcomeBatch,
    Reason,
    gathered,
)
from dvm_mpi.layout import (
    DATA_START,
    GUARD_BYTES,
    PAGE_BYTES,
    PAGE_SHIFT,
    RANGE,
    WORD_BYTES,
    stack_slot_bytes,
)
from dvm_mpi.sim.model.shapes import ARGUMENT_BYTES, Children, Effect, RunnerKind, Shape, kind_of
from dvm_mpi.sim.outcomes import committed, joined, outcome_batch, runs_of

Ints = NDArray[np.int64]

_FIRST_PAGE: Final = DATA_START >> PAGE_SHIFT
_STACK_BYTES: Final = config.STACK_BYTES_DEFAULT
#: Addresses of one of each kind that runners are given.
_UNITS: Final = {LeaseKind.ID: PAGE_BYTES, LeaseKind.STACK: stack_slot_bytes(_STACK_BYTES)}


class ShapeEngine:
    """Implements `interface.Engine` for a `Shape`."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._batch: AttemptBatch | None = None
        self._cursor = 0
        self._numbers: Ints = np.empty(0, np.int64)
        self._kinds: Ints = np.empty(0, np.int64)
        #: Instructions that the attempt at the cursor still has; -1 before it has begun.
        self._left = -1
        self._effect: Effect | None = None
        self._ended: list[OutcomeBatch] = []
        self._free: dict[LeaseKind, list[tuple[int, int]]] = {kind: [] for kind in _UNITS}
        reserved = shape.image.reserved[0]
        pages = int(reserved["length"]) >> PAGE_SHIFT
        # One more than the epochs, so that pages never touched take no memory.
        self._versions = np.zeros(pages, np.int64)
        self._until = np.zeros(pages, np.int64)
        start, length = shape.flags
        self._flag_page = (start >> PAGE_SHIFT) - _FIRST_PAGE
        end_page = -(-(start + length) >> PAGE_SHIFT) - _FIRST_PAGE
        self._flag_bytes = np.zeros((end_page - self._flag_page, PAGE_BYTES), np.uint8)

    def load(self, image: Image, stdin: bytes) -> None:
        """Take nothing: what runners do is not in the image."""

    # --- attempts -------------------------------------------------------------------------------
    def begin(self, batch: AttemptBatch) -> None:
        """Take a batch."""
        assert self._batch is None or self._cursor == len(self._batch.attempts), "unfinished batch"
        self._batch, self._cursor, self._left, self._effect = batch, 0, -1, None
        rows = batch.attempts
        self._kinds = np.array([kind_of(int(e)) for e in np.unique(rows["entry"])], np.int64)[
            np.unique(rows["entry"], return_inverse=True)[1]
        ]
        self._numbers = np.zeros(len(rows), np.int64)
        given = np.flatnonzero(rows["image_count"] > 0)
        at = batch.image_runs["data_first"][rows["image_first"][given]]
        words = batch.image_data[expand(at, np.full(len(at), WORD_BYTES))]
        self._numbers[given] = words.view(np.int64)

    def run(self, fuel: int) -> Exit:
        """Execute up to `fuel` instructions, at least one attempt of leaves that have few."""
        assert self._batch is not None, "begin comes before run"
        used = 0
        while self._cursor < len(self._batch.attempts) and used < fuel:
            if self._left < 0:
                stop = self._start()
                if stop is not None:
                    return Exit(stop.reason, self._cursor, used, stop.page, stop.lease)
            used += self._advance(fuel - used)
        is_done = self._cursor == len(self._batch.attempts)
        return Exit(Reason.BATCH_DONE if is_done else Reason.SLICE_ENDED, self._cursor, used)

    @property
    def steady(self) -> int:
        """Instructions of the running attempt in which nothing can come of it.

        0 if it has not begun, or others have ended and were not told.
        """
        return 0 if self._ended or self._left < 0 else self._left

    def _start(self) -> Exit | None:
        """Begin the attempt at the cursor; return what it lacks, if it lacks anything."""
        kind, number = RunnerKind(int(self._kinds[self._cursor])), int(self._numbers[self._cursor])
        missed = self._first_missing(self._shape.needs(kind, number))
        if missed >= 0:
            return Exit(Reason.PAGE_MISSED, self._cursor, 0, page=missed)
        if kind is RunnerKind.LEAF:
            self._left = int(self._shape.leaves(np.array([number]))[0][0])
            return None
        effect = self._shape.effect(kind, number, self)
        wanted = sum(len(children.numbers) for children in effect.children)
        for lease, unit in _UNITS.items():
            if sum(end - start for start, end in self._free[lease]) < wanted * unit:
                return Exit(Reason.LEASE_NEEDED, self._cursor, 0, lease=lease)
        self._left, self._effect = effect.instructions, effect
        return None

    def _advance(self, fuel: int) -> int:
        """Go on with the attempt at the cursor, and with leaves behind it; return instructions."""
        if self._left > fuel:
            self._left -= fuel
            return fuel
        used, self._left = self._left, -1
        if self._effect is not None:
            self._end(self._effect)
            self._effect = None
            self._cursor += 1
            return used
        first, end = self._cursor, self._cursor + 1
        if not self._shape.needs(RunnerKind.LEAF, int(self._numbers[first])):
            others = np.flatnonzero(self._kinds[first:] != RunnerKind.LEAF)
            stop = first + int(others[0]) if others.size else len(self._kinds)
            lengths = self._shape.leaves(self._numbers[first:stop])[0]
            reached = np.cumsum(lengths) - lengths[0] + used
            end = first + max(int(np.searchsorted(reached, fuel, side="right")), 1)
            used = int(reached[end - first - 1])
        self._end_leaves(first, end)
        self._cursor = end
        return used

    def _end_leaves(self, first: int, end: int) -> None:
        assert self._batch is not None
        rows, numbers = self._batch.attempts[first:end], self._numbers[first:end]
        lengths, stores = self._shape.leaves(numbers)
        outcomes = committed(rows, lengths)
        count = stores.shape[1]
        outcomes["run_count"], outcomes["run_first"] = count, count * np.arange(len(rows))
        flat = stores.reshape(-1, 2)
        runs = runs_of(flat[:, 0], flat[:, 1])
        data = np.zeros(int(runs["length"].sum()), np.uint8)
        if count:
            # The flag is the last word of what a leaf stores.
            words = data.reshape(len(rows), -1)[:, -WORD_BYTES:]
            values = np.array([self._shape.flag_value(n) for n in numbers.tolist()], np.int64)
            words[:] = values.view(np.uint8).reshape(len(rows), WORD_BYTES)
        self._ended.append(outcome_batch(outcomes, runs=runs, data=data))

    def _end(self, effect: Effect) -> None:
        """End the attempt at the cursor, which is no leaf."""
        assert self._batch is not None
        rows = self._batch.attempts[self._cursor : self._cursor + 1]
        outcomes = committed(rows, effect.instructions)
        if effect.aborts:
            outcomes["end"] = End.ABORT
            self._ended.append(outcome_batch(outcomes))
            return
        outcomes["end"] = End.COMMIT_DELETE if effect.deletes else End.COMMIT
        places = np.array(effect.stores, np.int64).reshape(-1, 2)
        stored = runs_of(places[:, 0], places[:, 1])
        data = np.zeros(int(stored["length"].sum()), np.uint8)
        if effect.deletes and effect.stores and self._shape.flags[0] <= effect.stores[-1][0]:
            data[-WORD_BYTES:] = np.array([1]).view(np.uint8)
        outcomes["run_count"] = len(stored)
        made = [self._create(children) for children in effect.children]
        children = np.concatenate([np.empty(0, CHILD), *(made_rows for made_rows, _, _ in made)])
        ranges = np.concatenate([np.empty(0, RANGE), *(made_ranges for _, made_ranges, _ in made)])
        numbers = np.concatenate([np.empty(0, np.int64), *(n for _, _, n in made)])
        _number_rows(children)
        outcomes["child_count"] = len(children)
        images = _arguments(children, numbers, len(data))
        children["image_first"], children["image_count"] = len(stored) + np.arange(len(images)), 1
        words = np.zeros((len(numbers), ARGUMENT_BYTES), np.uint8)
        words[:, :WORD_BYTES] = numbers.view(np.uint8).reshape(-1, WORD_BYTES)
        self._ended.append(
            outcome_batch(
                outcomes,
                runs=np.concatenate([stored, images]),
                data=np.concatenate([data, words.reshape(-1)]),
                children=children,
                child_ranges=ranges,
            )
        )

    def _create(self, made: Children) -> tuple[NDArray[Any], NDArray[Any], Ints]:
        """Return CHILD rows, their ranges, and their numbers."""
        count = len(made.numbers)
        children = np.zeros(count, CHILD)
        children["id"] = self._take(LeaseKind.ID, count)
        children["entry"] = made.kind.entry
        children["stack_base"] = self._take(LeaseKind.STACK, count) + GUARD_BYTES
        children["stack_bytes"], children["stack_automatic"] = _STACK_BYTES, 1
        heaps = np.broadcast_to(made.heaps, (count, *made.heaps.shape[1:]))
        watched = np.broadcast_to(made.watched, (count, *made.watched.shape[1:]))
        both = np.concatenate([heaps, watched], axis=1)
        ranges = np.zeros((count, both.shape[1]), RANGE)
        ranges["start"], ranges["length"] = both[..., 0], both[..., 1]
        kept = ranges["length"] > 0
        heap_count = heaps.shape[1]
        children["heap_count"] = kept[:, :heap_count].sum(axis=1)
        children["watched_count"] = kept[:, heap_count:].sum(axis=1)
        children["template"] = children["watched_count"] > 0
        return children, ranges[kept], made.numbers

    def _take(self, kind: LeaseKind, count: int) -> Ints:
        """Return so many addresses of what was leased."""
        unit = _UNITS[kind]
        stretches = np.array(self._free[kind], np.int64).reshape(-1, 2)
        counts = (stretches[:, 1] - stretches[:, 0]) // unit
        taken = np.minimum(counts, np.maximum(count - firsts_of(counts), 0))
        addresses = np.repeat(stretches[:, 0], taken) + unit * expand(np.zeros_like(taken), taken)
        stretches[:, 0] += taken * unit
        self._free[kind] = [(s, e) for s, e in stretches.tolist() if s < e]
        return np.asarray(addresses)

    def park(self) -> int:
        """Refuse: nobody sleeps."""
        raise AssertionError("a runner of a shape cannot sleep")

    def unpark(self, handle: int) -> None:
        """Refuse: nobody sleeps."""
        raise AssertionError(f"nothing was parked under {handle}")

    def take_outcomes(self) -> OutcomeBatch:
        """Return the attempts that ended since the last call, and forget them."""
        taken, self._ended = self._ended, []
        return joined(taken)

    def grant_lease(self, lease: Lease) -> None:
        """Take over addresses."""
        self._free[lease.kind].append((lease.start, lease.end))

    # --- pages ----------------------------------------------------------------------------------
    def _first_missing(self, needs: list[tuple[int, int]]) -> int:
        """Return the first page of these ranges that is not held as of the snapshot; -1 if none."""
        assert self._batch is not None
        attempt = self._batch.attempts[self._cursor]
        for start, length in needs:
            pages = np.arange(start >> PAGE_SHIFT, (start + length - 1 >> PAGE_SHIFT) + 1)
            first = int(attempt["grant_first"])
            grants = self._batch.grants[first : first + int(attempt["grant_count"])]
            holds = (grants["start"] < start + length) & (
                grants["start"] + grants["length"] > start
            )
            newest = np.full(pages.size, grants["newest"][holds].max(initial=0))
            lacking = self.missing(pages, newest, int(attempt["snapshot"]))
            if lacking.size:
                return int(lacking[0])
        return -1

    def words(self, start: int, count: int) -> Ints:
        """Return words of the flags."""
        first = start - (self._flag_page + _FIRST_PAGE << PAGE_SHIFT)
        return self._flag_bytes.reshape(-1)[first : first + count * WORD_BYTES].view(np.int64)

    def missing(self, pages: Ints, newest: Ints, snapshot: int) -> Ints:
        """Return those of `pages` that are not held as of `snapshot`."""
        rows, is_ours = self._rows(pages)
        version = self._versions[rows] - 1
        is_held = (version >= 0) & (version <= snapshot)
        is_held &= self._until[rows] - 1 >= np.minimum(newest, snapshot)
        return np.asarray(pages[is_ours & ~is_held])

    def cached_versions(self, pages: Ints) -> Ints:
        """Return the epoch of the cached frame for each page, -1 where none is cached."""
        rows, is_ours = self._rows(pages)
        return np.where(is_ours, self._versions[rows] - 1, -1)

    def renew(self, pages: Ints, until: Ints) -> None:
        """Note that cached pages are known unchanged until the given epochs."""
        rows, _ = self._rows(pages)
        self._until[rows] = np.maximum(self._until[rows], until + 1)

    def install(
        self,
        pages: Ints,
        versions: Ints,
        until: Ints,
        memory: NDArray[np.uint8],
        rows: Ints | None = None,
    ) -> None:
        """Note which pages are here; keep the bytes of flags."""
        data = gathered(memory, rows)
        numbers, _ = self._rows(pages)
        self._versions[numbers], self._until[numbers] = versions + 1, until + 1
        places = numbers - self._flag_page
        is_flag = (places >= 0) & (places < len(self._flag_bytes))
        self._flag_bytes[places[is_flag]] = data[is_flag]

    def _rows(self, pages: Ints) -> tuple[Ints, NDArray[np.bool_]]:
        """Return the rows of pages in the tables, and which pages have one; others need no home."""
        rows = pages - _FIRST_PAGE
        is_ours = (rows >= 0) & (rows < len(self._versions))
        return np.where(is_ours, rows, 0), is_ours

    def undeclared_accesses(self) -> list[tuple[int, int]]:
        """Return nothing: every access is declared."""
        return []

    def instruction_counts(self) -> Ints:
        """Return nothing: there is no program."""
        return np.empty(0, np.int64)

    def close(self) -> None:
        """Give back nothing: the memory goes with the engine."""


def _arguments(children: NDArray[Any], numbers: Ints, data_first: int) -> NDArray[Any]:
    """Return what the creator stores into the stacks of its children, behind its other bytes."""
    images = np.zeros(len(children), RUN)
    images["start"] = children["stack_base"] + children["stack_bytes"] - ARGUMENT_BYTES
    images["length"] = ARGUMENT_BYTES
    images["data_first"] = data_first + ARGUMENT_BYTES * np.arange(len(numbers))
    return images


def _number_rows(children: NDArray[Any]) -> None:
    """Say which rows of the ranges are whose: each child's heap, then what it watches."""
    counts = children["heap_count"] + children["watched_count"]
    children["heap_first"] = firsts_of(counts)
    children["watched_first"] = children["heap_first"] + children["heap_count"]
