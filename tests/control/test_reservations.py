"""Reservations: who waits for whom, and never in a circle."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from numpy.typing import NDArray

from dvm_mpi.control.reservations import Reservations
from dvm_mpi.layout import RANGE
from tests.properties import tried


def ranges(*spans: tuple[int, int]) -> NDArray[Any]:
    return np.array(list(spans), dtype=RANGE)


def blocked(reservations: Reservations, *records: tuple[int, NDArray[Any]]) -> list[bool]:
    rows = np.array([row for row, _ in records])
    counts = [len(runs) for _, runs in records]
    offsets = np.cumsum([0, *counts])
    runs = np.concatenate([runs for _, runs in records])
    return [bool(b) for b in reservations.blocks(rows, offsets, runs)]


def test_only_overlapping_records_of_others_are_blocked() -> None:
    reservations = Reservations()
    reservations.remember(1, ranges((100, 8), (200, 8)))
    assert reservations.activate(1)
    assert blocked(
        reservations,
        (2, ranges((108, 92))),            # exactly between
        (3, ranges((0, 4), (207, 1))),     # the last byte
        (1, ranges((100, 8))),             # its own
        (4, ranges()),                     # nothing stored
        (5, ranges((50, 500))),            # all around
    ) == [False, True, False, False, True]  # fmt: skip


def test_nothing_is_reserved_for_who_never_lost() -> None:
    reservations = Reservations()
    assert not reservations.activate(1)
    assert not reservations.active


def test_overlapping_reservations_are_never_given() -> None:
    """Two holders that wait for each other would wait for ever."""
    reservations = Reservations()
    reservations.remember(1, ranges((100, 8)))
    reservations.remember(2, ranges((104, 8)))
    reservations.remember(3, ranges((108, 8)))
    assert reservations.activate(1)
    assert not reservations.activate(2)
    assert reservations.activate(3)
    assert reservations.deactivate(1)
    assert not reservations.activate(2)
    assert reservations.deactivate(3)
    assert reservations.activate(2)


def test_a_holder_is_never_blocked() -> None:
    """Holders' write sets may have grown since they lost; they still do not wait."""
    reservations = Reservations()
    reservations.remember(1, ranges((100, 8)))
    reservations.remember(2, ranges((200, 8)))
    assert reservations.activate(1)
    assert reservations.activate(2)
    assert blocked(reservations, (1, ranges((200, 1))), (2, ranges((100, 1)))) == [False, False]


def test_a_reservation_ends_once() -> None:
    reservations = Reservations()
    reservations.remember(1, ranges((100, 8)))
    reservations.activate(1)
    assert reservations.deactivate(1)
    assert not reservations.deactivate(1)
    assert reservations.activate(1), "what it wants is remembered until it ends"
    reservations.forget(1)
    assert not reservations.active
    assert not reservations.activate(1)


ROWS = st.integers(1, 3)
#: Disjoint and sorted, as losers' write sets are.
WANTED = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 4)), min_size=1, max_size=3).map(
    lambda spans: [(10 * (at + 10 * k), length) for k, (at, length) in enumerate(spans)]
)
STORED = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 99)), max_size=3)


def bytes_of(spans: list[tuple[int, int]]) -> set[int]:
    return {byte for start, length in spans for byte in range(start, start + length)}


class ReservationsBesideBytes(RuleBasedStateMachine):
    """Runners lose, are dispatched again, end their attempts, and end."""

    def __init__(self) -> None:
        super().__init__()
        self.real = Reservations()
        self.wanted: dict[int, set[int]] = {}
        self.held: dict[int, set[int]] = {}

    @rule(row=ROWS, spans=WANTED)
    def lose(self, row: int, spans: list[tuple[int, int]]) -> None:
        assert self.real.deactivate(row) == (row in self.held)
        self.held.pop(row, None)
        self.real.remember(row, ranges(*spans))
        self.wanted[row] = bytes_of(spans)

    @rule(row=ROWS)
    def dispatch(self, row: int) -> None:
        if row in self.held:
            return
        wanted = self.wanted.get(row)
        is_free = wanted is not None and all(wanted.isdisjoint(h) for h in self.held.values())
        assert self.real.activate(row) == is_free
        if wanted is not None and is_free:
            self.held[row] = wanted

    @rule(row=ROWS)
    def end(self, row: int) -> None:
        self.real.forget(row)
        self.held.pop(row, None)
        self.wanted.pop(row, None)

    @rule(records=st.lists(st.tuples(ROWS, STORED), min_size=1, max_size=5))
    def order(self, records: list[tuple[int, list[tuple[int, int]]]]) -> None:
        taken = set().union(*self.held.values())
        assert blocked(self.real, *((row, ranges(*spans)) for row, spans in records)) == [
            row not in self.held and not taken.isdisjoint(bytes_of(spans)) for row, spans in records
        ]

    @invariant()
    def agree(self) -> None:
        assert self.real.active == bool(self.held)


TestReservationsBesideBytes = ReservationsBesideBytes.TestCase
TestReservationsBesideBytes.settings = tried(40, steps=30)
