"""Rounds: how a run becomes the same every time. For `--deterministic` only.

A round is the next runners in a row, as many as the program alone decides, all on one snapshot
that holds every commit before. Workers run them in any order and at any time, but their records
are kept until all are there, and are ordered together, in the order of the round. The next round
begins when that is visible. So who wins, what wakes and what is printed follow from the program.

Addresses belong to the places of a round, not to workers: the attempt at a place goes on where the
attempt at the same place of the round before has stopped. One that needs more waits until nobody
else of the round runs; then all that wait are given theirs, in the order of the round.

The invariant to remember: nothing here depends on which worker ran what, or when.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import (
    PLACE_LEASE_BLOCKS_MAX,
    PLACE_LEASE_COUNT,
    PLACE_LEASE_GROWTH,
    PLACE_MALLOC_BYTES,
    ROUND_RUNNERS,
)
from dvm_mpi.control.joining import join, select
from dvm_mpi.control.leases import BlockSizes, stack_slots
from dvm_mpi.control.messages import Finished, LeaseRequested
from dvm_mpi.dsm.conflict import ConflictSet
from dvm_mpi.engine.interface import LEASES, Lease, LeaseKind
from dvm_mpi.layout import RANGE
from dvm_mpi.values import replace

#: The places hold blocks of stacks, used or not: of so many parts of their area one at most.
_STACK_PARTS: Final = 4


def round_runners(stack_bytes: int) -> int:
    """Return how many runners a round has at most: fewer where automatic stacks are huge."""
    return min(ROUND_RUNNERS, max(stack_slots(stack_bytes) // _STACK_PARTS, 1))


def place_blocks(stack_bytes: int) -> BlockSizes:
    """Return the sizes of blocks that places are dealt."""
    stacks = stack_slots(stack_bytes) // (_STACK_PARTS * round_runners(stack_bytes))
    return BlockSizes(PLACE_LEASE_COUNT, min(PLACE_LEASE_COUNT, max(stacks, 1)), PLACE_MALLOC_BYTES)


def apart(write_sets: Sequence[NDArray[Any]]) -> NDArray[np.bool_]:
    """Say which write sets (RANGE) meet none of those before them that meet none themselves."""
    sizes = np.array([len(ranges) for ranges in write_sets], dtype=np.int64)
    # Numpy joins plain words much faster than thousands of arrays of rows.
    words = [np.zeros(0, dtype=np.int64), *(ranges.view(np.int64) for ranges in write_sets)]
    against = ConflictSet().resolve(
        np.zeros(len(sizes), dtype=np.int64),
        np.concatenate([[0], np.cumsum(sizes)]),
        np.concatenate(words).view(RANGE),
        np.ones(len(sizes), dtype=bool),
        1,
    )
    goes: NDArray[np.bool_] = against == 0
    return goes


class Rounds:
    """The round under way: its places, the records that came, the addresses of each place.

    Parameters
    ----------
    runners_max
        Of one round.
    """

    def __init__(self, runners_max: int) -> None:
        self.runners_max = runners_max
        #: What each place may still hand out; (runners_max,) LEASES.
        self._leases: NDArray[Any] = np.zeros(runners_max, dtype=LEASES)
        #: Kinds of addresses that any attempt has asked for: the others need not be dealt out.
        self._wanted_kinds: set[LeaseKind] = set()
        #: Runners of this round, and how many of them were dispatched; place p has the attempt
        #: number `_first_number + p`.
        self._count = 0
        self._dispatched = 0
        self._first_number = 0
        #: By place: whether its record has come; and the request of an attempt that waits.
        self._ended: NDArray[np.bool_] = np.zeros(runners_max, dtype=bool)
        self._asking: dict[int, LeaseRequested] = {}
        #: How often attempts of this round have asked, by place and kind.
        self._asked: Counter[tuple[int, int]] = Counter()
        self._arrived: list[Finished] = []

    # --- what others may look at ----------------------------------------------------------------
    @property
    def is_under_way(self) -> bool:
        """Whether there is a round whose records have not been ordered."""
        return self._count > 0

    @property
    def is_complete(self) -> bool:
        """Whether every record of the round is there."""
        return self._count > 0 and bool(self._ended[: self._count].all())

    @property
    def all_wait(self) -> bool:
        """Whether nobody runs, and some wait for addresses."""
        ended = int(self._ended[: self._count].sum())
        return len(self._asking) > 0 and ended + len(self._asking) == self._count

    # --- the way of a round ---------------------------------------------------------------------
    def begin(self, count: int, first_number: int) -> None:
        """Begin a round of `count` runners, whose attempts are numbered from `first_number`."""
        assert not self.is_under_way, "one round at a time"
        assert count <= self.runners_max
        self._count, self._dispatched, self._first_number = count, 0, first_number
        self._ended[:count] = False
        self._asked.clear()

    def deal(self, lease: Callable[[LeaseKind], Lease]) -> None:
        """Give each place of a new round whose block is used up another one, from `lease`.

        Kinds that nobody has ever asked for are left out.
        """
        for kind in sorted(self._wanted_kinds):
            name = kind.name.lower()
            held = self._leases[: self._count]
            places = np.flatnonzero(held[f"{name}_next"] >= held[f"{name}_end"])
            blocks = [lease(kind) for _ in range(len(places))]
            held[f"{name}_next"][places] = [block.start for block in blocks]
            held[f"{name}_end"][places] = [block.end for block in blocks]

    def dispatch(self, count: int) -> NDArray[Any]:
        """Note that the next `count` runners start; return what they may hand out (LEASES)."""
        first = self._dispatched
        self._dispatched += count
        assert self._dispatched <= self._count
        return self._leases[first : self._dispatched].copy()

    def ask(self, request: LeaseRequested) -> None:
        """Note that an attempt waits for addresses."""
        place = request.attempt - self._first_number
        assert 0 <= place < self._dispatched, "a request from another round"
        assert not self._ended[place], "an attempt that ended asks for addresses"
        self._asking[place] = request
        self._wanted_kinds.add(LeaseKind(request.kind))

    def answer(self) -> list[tuple[LeaseRequested, int]]:
        """Return the requests of all that wait, and how many blocks each gets; forget them.

        In the order of the round.
        """
        answered = []
        for place in sorted(self._asking):
            request = self._asking[place]
            growth = PLACE_LEASE_GROWTH ** self._asked[place, request.kind]
            self._asked[place, request.kind] += 1
            answered.append((request, min(growth, PLACE_LEASE_BLOCKS_MAX)))
        self._asking.clear()
        return answered

    def take(self, finished: Finished) -> None:
        """Keep records of the round until it is complete."""
        places = finished.records["attempt"] - self._first_number
        assert ((places >= 0) & (places < self._dispatched)).all(), "a record of another round"
        assert not self._ended[places].any(), "a record came twice"
        self._ended[places] = True
        self._leases[places] = finished.leases
        self._arrived.append(finished)

    def settle(self) -> Finished:
        """Return the records of the complete round in its order, as one message, and end it."""
        assert self.is_complete
        joined = join(self._arrived)
        ordered = select(joined, np.argsort(joined.records["attempt"]))
        self._arrived = []
        self._count = self._dispatched = 0
        return replace(
            ordered, dropped_stacks=joined.dropped_stacks, fetched_bytes=joined.fetched_bytes
        )

    def check_invariants(self) -> None:
        """Assert what holds between any two calls."""
        assert 0 <= self._dispatched <= self._count <= self.runners_max
        arrived = sum(len(finished.records) for finished in self._arrived)
        assert arrived == int(self._ended[: self._count].sum())
        assert not self._ended[self._dispatched : self._count].any()
        assert not any(self._ended[place] for place in self._asking)
