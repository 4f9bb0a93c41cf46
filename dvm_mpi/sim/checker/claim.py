"""Whether a claimed order of commits explains a run: each attempt needs a snapshot that fits.

A snapshot is a place in that order: all commits up to it are seen, none behind it. It must hold
what the attempt must see and the values that it loaded, and lie before its own commit, with no
store in between to what the attempt stored. If all attempts have one, the order is a proof of
snapshot isolation, whether or not values are unique.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from itertools import combinations
from typing import Final

from dvm_mpi.sim.checker.observation import (
    INITIAL,
    Anomaly,
    Cell,
    Observations,
    ObservedAttempt,
)
from dvm_mpi.sim.checker.versions import Versions, VersionTable
from dvm_mpi.sim.checker.words import Words

#: Places `[first, end)` in the order, ascending and apart.
Places = list[tuple[int, int]]

_NO_SNAPSHOT: Final = "no snapshot in the claimed order"
#: Loads that are compared with each other to tell why no snapshot fits.
_COMPARED_LOADS_MAX: Final = 100


class Claim:
    """A claimed order; `position` counts from 1 and has every committed attempt."""

    def __init__(
        self,
        observations: Observations,
        table: VersionTable,
        position: Mapping[int, int],
        words: Words,
    ) -> None:
        self._observations = observations
        self._position = position
        self._words = words
        self._cells = {
            cell: _Timeline(versions, position) for cell, versions in table.cells.items()
        }
        self._floors: dict[int, tuple[int, int]] = {}
        for before, after, _ in observations.sessions:
            if before in position:
                floor = position[before], before
                self._floors[after] = max(floor, self._floors.get(after, (0, INITIAL)))

    def first_without_snapshot(self) -> Anomaly | None:
        """Return what is wrong with the first attempt that no snapshot fits."""
        for attempt in self._observations.attempts:
            places = self._bounds(attempt)
            for cell, value in attempt.loads.items():
                if places:
                    places = _common(places, self._cells[cell].held(value, places))
            if not places:
                return self._explain(attempt)
        return None

    def _bounds(self, attempt: ObservedAttempt) -> Places:
        """Return the places that promises and first-committer-wins leave."""
        first, _ = self._floors.get(attempt.number, (0, INITIAL))
        own = self._position.get(attempt.number)
        if own is None:
            return [(first, len(self._position) + 1)]
        for cell in attempt.stores:
            first = max(first, self._cells[cell].last_before(own))
        return [(first, own)] if first < own else []

    def _explain(self, attempt: ObservedAttempt) -> Anomaly:
        own = self._position.get(attempt.number)
        lines = [f"attempt {attempt.number} saw no state that there was in this order"]
        if own is not None:
            lines.append(f"it is number {own} of it")
        floor, before = self._floors.get(attempt.number, (0, INITIAL))
        if floor:
            lines.append(f"it must see attempt {before}, number {floor}")
        attempts = {attempt.number, before} - {INITIAL}
        bounds = self._bounds(attempt)
        for cell in self._culprits(attempt, bounds) if bounds else ():
            held = self._cells[cell].held(attempt.loads[cell], [(0, len(self._position) + 1)])
            when = " and ".join(f"[{first}, {end})" for first, end in held) or "never"
            lines.append(
                f"it loaded {self._words.value(attempt.loads[cell])} at "
                f"{self._words.cell(cell)}, which was there at {when}"
            )
        return Anomaly(_NO_SNAPSHOT, tuple(sorted(attempts)), tuple(lines))

    def _culprits(self, attempt: ObservedAttempt, bounds: Places) -> tuple[Cell, ...]:
        """Return one load that fits nowhere, else two that do not fit together, else all."""
        cells = list(attempt.loads)[:_COMPARED_LOADS_MAX]
        held = {cell: self._cells[cell].held(attempt.loads[cell], bounds) for cell in attempt.loads}
        for cell in attempt.loads:
            if not held[cell]:
                return (cell,)
        for one, other in combinations(cells, 2):
            if not _common(held[one], held[other]):
                return one, other
        return tuple(cells)


class _Timeline:
    """What one cell held, from place to place."""

    def __init__(self, versions: Versions, position: Mapping[int, int]) -> None:
        writers = sorted(versions.writers, key=position.__getitem__)
        self._versions = versions
        #: Where each version begins and ends, the initial one first.
        self._begins = [0, *(position[writer] for writer in writers)]
        self._ends = [*self._begins[1:], len(position) + 1]
        self._index = {writer: at for at, writer in enumerate([INITIAL, *writers])}
        #: Indices of the versions that may have a value, ascending.
        self._having: dict[bytes, list[int]] = {}

    def last_before(self, place: int) -> int:
        """Return the last place before this one with a store, 0 if there is none."""
        return self._begins[bisect_left(self._begins, place) - 1]

    def held(self, value: bytes, within: Places) -> Places:
        """Return where the cell had this value, as far as that lies in `within`, not empty."""
        having = self._having.get(value)
        if having is None:
            having = sorted(self._index[author] for author in self._versions.authors(value))
            self._having[value] = having
        oldest = bisect_right(self._begins, within[0][0]) - 1
        newest = bisect_left(self._begins, within[-1][1])
        chosen = having[bisect_left(having, oldest) : bisect_left(having, newest)]
        return _common([(self._begins[at], self._ends[at]) for at in chosen], within)


def _common(left: Places, right: Places) -> Places:
    """Return the places that are in both."""
    found = []
    a = b = 0
    while a < len(left) and b < len(right):
        first, end = max(left[a][0], right[b][0]), min(left[a][1], right[b][1])
        if first < end:
            found.append((first, end))
        if left[a][1] < right[b][1]:
            a += 1
        else:
            b += 1
    return found
