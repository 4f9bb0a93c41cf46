"""The runner table: one row per live runner, and the table `state x event` that moves rows.

Rows are a structure of arrays and events apply to vectors of rows; there is no object per
runner. A pair that the table lacks is a defect of ours and raises with the rows' story.
Invariant: a row is FREE exactly if its number is on the free list.

States and events are drawn in docs/ARCHITECTURE.md, "Life of a runner".
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import CHILDREN_MAX, RUNNERS_MAX, STORY_EVENTS, STORY_ROWS
from dvm_mpi.control import birth_loops, instance_loops, row_loops
from dvm_mpi.dsm.rows import reserved, words_of
from dvm_mpi.errors import LimitError


class State(IntEnum):
    """Where a runner is in its life."""

    FREE = 0
    #: Created and visible, or lost and waiting for what it lost to, or given up on; not yet
    #: dispatched.
    WAITING = 1
    #: Dispatched to a worker; its snapshot is pinned.
    RUNNING = 2
    #: Its record has arrived, but a reservation of another runner comes first.
    HELD = 3
    #: Its record is in an epoch that is not visible yet.
    ORDERED = 4
    #: A watcher's template that commits may wake.
    ARMED = 5
    #: A deleted template whose last instances still run.
    DELETED = 6
    #: A queued instance whose template was deleted; freed when the queue comes to it.
    CANCELLED = 7


class Event(IntEnum):
    """What happens to runners."""

    CREATED = 0
    ARMED = 1
    DISPATCHED = 2
    HELD = 3
    ORDERED = 4
    LOST = 5
    ENDED = 6
    CANCELLED = 7
    DELETED = 8
    GIVEN_UP = 9


# fmt: off
#    state            event              next
TRANSITIONS: Final = (
    (State.FREE,      Event.CREATED,     State.WAITING),
    (State.FREE,      Event.ARMED,       State.ARMED),
    (State.WAITING,   Event.DISPATCHED,  State.RUNNING),
    (State.WAITING,   Event.CANCELLED,   State.CANCELLED),
    (State.CANCELLED, Event.ENDED,       State.FREE),
    (State.RUNNING,   Event.HELD,        State.HELD),
    (State.RUNNING,   Event.ORDERED,     State.ORDERED),
    (State.RUNNING,   Event.LOST,        State.WAITING),
    (State.RUNNING,   Event.ENDED,       State.FREE),
    (State.RUNNING,   Event.GIVEN_UP,    State.WAITING),
    (State.HELD,      Event.ORDERED,     State.ORDERED),
    (State.HELD,      Event.LOST,        State.WAITING),
    (State.HELD,      Event.ENDED,       State.FREE),
    (State.ORDERED,   Event.ENDED,       State.FREE),
    (State.ARMED,     Event.DELETED,     State.DELETED),
    (State.DELETED,   Event.ENDED,       State.FREE),
)
# fmt: on

_MATRIX: Final = np.full((len(State), len(Event)), -1, dtype=np.int64)
for _state, _event, _next in TRANSITIONS:
    assert _MATRIX[_state, _event] == -1, "each pair is listed once"
    _MATRIX[_state, _event] = _next
#: The next states of all states, by event.
_FOLLOWING: Final = tuple(np.ascontiguousarray(_MATRIX[:, event]) for event in Event)


class Kind(IntEnum):
    """What sort of runner a row is."""

    ORDINARY = 0
    TEMPLATE = 1
    INSTANCE = 2


#: One runner. `*_first, *_count` are rows of the scheduler's arenas, owned by this row unless
#: it is an INSTANCE, which borrows those of its template.
RUNNER: Final = np.dtype(
    [
        (name, "<i8")
        for name in (
            "state",            # State
            "kind",             # Kind
            "id",               # address of the status page
            "entry",            # address of the first instruction
            "newr_pc",          # where it was created, 0 for the first runner
            "stack_base", "stack_bytes", "stack_automatic",
            "grant_first", "grant_count",      # declared ranges, normalised
            "watched_first", "watched_count",  # as declared
            "image_first", "image_count",      # RUN rows; data_first counts from image_data_first
            "image_data_first", "image_data_count",
            "template",         # row of the template, -1 unless an INSTANCE
            "queued_instance",  # of a template: row of the instance in the queue, or -1
            "instances",        # of a template: rows that borrow from it
            "attempt",          # number of the latest attempt, unique in the run; 0: none yet;
                                # of a template: of the last instance that was taken off the queue
            "snapshot",         # epoch of the running attempt
            "worker",           # where it runs
            "largest_range",    # bytes of the largest range that it declares
            "losses",           # attempts that lost
            "ready_epoch",      # it may start when this epoch is visible
        )
    ]
)  # fmt: skip


assert RUNNER.names is not None
assert all(RUNNER.names[column] == name for name, column in row_loops.COLUMNS.items())
assert RUNNER.names[instance_loops.INSTANCE_COUNT] == "instances"
assert (State.FREE, State.RUNNING) == (row_loops.FREE, row_loops.RUNNING)
assert int(State.DELETED) == instance_loops.DELETED
assert (Kind.TEMPLATE, Kind.INSTANCE) == (birth_loops.IS_TEMPLATE, row_loops.INSTANCE)


class LifeCycleError(AssertionError):
    """An event met a state that the table does not pair it with."""


class RunnersLimitError(LimitError):
    """A program that creates more runners than the machine has room for.

    `pc` is the instruction that creates them, or -1: whoever knows the program's lines names it.
    """

    def __init__(self, fact: str, remedy: str, pc: int = -1, place: str = "") -> None:
        created = f"; the last ones were created at {place}" if place else ""
        super().__init__(f"{fact}{created}. {remedy}.")
        self.fact, self.remedy, self.pc = fact, remedy, pc

    def at(self, place: str) -> RunnersLimitError:
        """Return the same, with the place of the creating instruction in words."""
        return RunnersLimitError(self.fact, self.remedy, self.pc, place)


def too_many_children(created: int, pc: int) -> RunnersLimitError:
    """Return what ends a run in which one attempt creates runners without end."""
    return RunnersLimitError(
        f"one runner has created more than {created:,} others and has not ended yet; the limit is "
        f"{CHILDREN_MAX:,} (CHILDREN_MAX)",
        "None of them can start before it commits: let it create fewer, which create the rest",
        pc,
    )


class RunnerTable:
    """Rows of RUNNER with a free list; grows by doubling up to `RUNNERS_MAX`."""

    def __init__(self, capacity: int = 1024) -> None:
        #: Room for as many rows as there may be. What was never used takes no memory.
        self._reserved = reserved(RUNNER, max(capacity, RUNNERS_MAX))
        #: (capacity,) RUNNER. Columns are views: read and write them by vectors of rows.
        self.rows: NDArray[Any] = self._reserved[:capacity]
        #: The same memory, as compiled loops see it: (capacity, fields).
        self.words = words_of(self.rows)
        #: A stack of FREE rows, of which the first `_free_count` count.
        self._free = np.arange(capacity - 1, -1, -1)
        self._free_count = capacity
        #: The latest events with their rows, oldest first, and how many rows these are together.
        self._story: deque[tuple[Event, NDArray[np.int64]]] = deque()
        self._story_rows = 0

    @property
    def live_count(self) -> int:
        """Rows that are not FREE."""
        return len(self.rows) - self._free_count

    def allocate(self, count: int) -> NDArray[np.int64]:
        """Return `count` FREE rows, zeroed, lowest numbers first after a fresh start."""
        if self._free_count < count:
            self._grow(count)
        left = self._free_count - count
        rows = self._free[left : self._free_count][::-1].copy()
        self._free_count = left
        self.words[rows] = 0
        return rows

    def _grow(self, count: int) -> None:
        used = self.live_count
        if used + count > RUNNERS_MAX:
            raise RunnersLimitError(
                f"{used + count:,} runners and watchers would be alive at once; the limit is "
                f"{RUNNERS_MAX:,} (RUNNERS_MAX)",
                "Create fewer before some have ended: let a runner do the work of many",
            )
        old = len(self.rows)
        new = old
        while new - used < count:
            new *= 2
        if new > len(self._reserved):
            self._reserved = reserved(RUNNER, new)
            words_of(self._reserved)[:old] = self.words
        self.rows = self._reserved[:new]
        self.words = words_of(self.rows)
        free = np.empty(new, np.int64)
        free[: new - old] = np.arange(new - 1, old - 1, -1)
        free[new - old : new - used] = self._free[: self._free_count]
        self._free, self._free_count = free, new - used

    def apply(self, rows: NDArray[np.int64], event: Event) -> None:
        """Move `rows` (no duplicates) by `event`; rows that become FREE go to the free list.

        The array must not change any more: it is remembered.

        Raises
        ------
        LifeCycleError
            Some row's state has no such event; the message tells its recent events.
        """
        if len(rows) == 0:
            return
        moved = np.ascontiguousarray(rows, np.int64)
        count = row_loops.move(self.words, moved, _FOLLOWING[event], self._free, self._free_count)
        if count < 0:
            row = int(moved[-1 - count])
            raise LifeCycleError(f"{event.name} does not fit: {self.story(row)}")
        self._free_count = count
        self._remember(moved, event)

    def _remember(self, rows: NDArray[np.int64], event: Event) -> None:
        self._story.append((event, rows[-STORY_ROWS:]))
        self._story_rows += min(len(rows), STORY_ROWS)
        while len(self._story) > STORY_EVENTS or self._story_rows > STORY_ROWS:
            self._story_rows -= len(self._story.popleft()[1])

    def count(self, state: State) -> int:
        """Count the rows in `state`."""
        return int((self.rows["state"] == state).sum())

    def story(self, row: int) -> str:
        """Tell a runner's state and its latest events, oldest first."""
        told = [event.name for event, rows in self._story if row in rows]
        r = self.rows[row]
        return (
            f"runner row {row}, id {int(r['id']):#x}, {State(int(r['state'])).name}, "
            f"attempt {int(r['attempt'])}, events: {' '.join(told) or 'none remembered'}"
        )

    def check_invariants(self) -> None:
        """Assert that the free list and the states agree, and that instances have templates."""
        free = np.zeros(len(self.rows), dtype=bool)
        free[self._free[: self._free_count]] = True
        assert int(free.sum()) == self._free_count, "the free list has a row twice"
        state = self.rows["state"]
        assert ((state == State.FREE) == free).all(), "a row is FREE but not listed, or listed"
        instances = ~free & (self.rows["kind"] == Kind.INSTANCE)
        templates = self.rows["template"][instances]
        assert np.isin(state[templates], (State.ARMED, State.DELETED)).all()
        counted = np.bincount(templates, minlength=len(self.rows)) if len(templates) else 0
        is_template = ~free & (self.rows["kind"] == Kind.TEMPLATE)
        assert (np.where(is_template, self.rows["instances"], 0) == counted).all()
