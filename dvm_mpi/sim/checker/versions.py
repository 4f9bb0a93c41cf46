"""Who stored which version of each cell, and who saw it, as far as values tell.

A load has a certain author if exactly one version has that value. Where several have, nothing is
concluded from it: `ambiguous` lists those loads. A version that nobody made is an anomaly at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from dvm_mpi.sim.checker.observation import INITIAL, Anomaly, Cell, Observations, ObservedAttempt
from dvm_mpi.sim.checker.words import Words
from dvm_mpi.values import dataclass, field

_ABORTED_READ: Final = "aborted read (G1a)"
_INTERMEDIATE_READ: Final = "intermediate read (G1b)"
_GARBAGE: Final = "garbage read"
_TORN: Final = "torn read"
_LOST_UPDATE: Final = "lost update"


@dataclass(slots=True)
class Versions:
    """The versions of one cell; writers by attempt number, `INITIAL` among them."""

    initial: bytes
    #: Committed attempts that stored to the cell, in the order of their numbers.
    writers: list[int] = field(default_factory=list)
    by_value: dict[bytes, list[int]] = field(default_factory=dict)
    #: Those of the writers whose values nobody wrote down.
    unknown: list[int] = field(default_factory=list)
    #: Who certainly saw which writer's version.
    readers: dict[int, list[int]] = field(default_factory=dict)
    #: Loads that several versions explain, with all that do.
    ambiguous: list[tuple[int, list[int]]] = field(default_factory=list)
    #: Who certainly saw the key's version and stored the next one.
    successors: dict[int, int] = field(default_factory=dict)

    def authors(self, value: bytes, reader: int = INITIAL) -> list[int]:
        """Return all who may have made the version with that value, but for its reader."""
        found = [INITIAL] if value == self.initial else []
        found += [w for w in self.by_value.get(value, ()) if w != reader]
        found += [w for w in self.unknown if w != reader]
        return found


class VersionTable:
    """Versions of all cells; `anomalies` tells what loads alone show to be wrong."""

    def __init__(
        self, observations: Observations, readers: Iterable[ObservedAttempt], words: Words
    ) -> None:
        self.cells: dict[Cell, Versions] = {}
        self.anomalies: list[Anomaly] = []
        self._observations = observations
        self._words = words
        for attempt in observations.attempts:
            if attempt.is_committed:
                self._take_stores(attempt)
        for attempt in readers:
            for cell, value in attempt.loads.items():
                self._take_load(attempt, cell, value)

    @property
    def ambiguous_count(self) -> int:
        """How many loads have no certain author."""
        return sum(len(versions.ambiguous) for versions in self.cells.values())

    def may_have_stored(self, cell: Cell, writer: int, value: bytes) -> bool:
        """Say whether this may be the writer's version of the cell."""
        return writer in self._versions(cell).authors(value)

    def last_writers(self) -> dict[Cell, int]:
        """Return who certainly stored what a cell held in the end; tell where nobody did."""
        last = {}
        for cell, value in self._observations.final.items():
            versions = self._versions(cell)
            authors = versions.authors(value)
            if authors == [INITIAL] and versions.writers:
                self.anomalies.append(self._words.lost_stores(cell, versions.writers[0], value))
            elif not authors:
                self._add(*self._garbage(0, cell, value, "in the end"))
            elif len(authors) == 1:
                last[cell] = authors[0]
        return last

    # --- building -------------------------------------------------------------------------------
    def _versions(self, cell: Cell) -> Versions:
        versions = self.cells.get(cell)
        if versions is None:
            versions = self.cells[cell] = Versions(self._observations.initial_value(cell))
        return versions

    def _take_stores(self, attempt: ObservedAttempt) -> None:
        for cell, value in attempt.stores.items():
            versions = self._versions(cell)
            versions.writers.append(attempt.number)
            if value is None:
                versions.unknown.append(attempt.number)
            else:
                versions.by_value.setdefault(value, []).append(attempt.number)

    def _take_load(self, attempt: ObservedAttempt, cell: Cell, value: bytes) -> None:
        versions = self._versions(cell)
        authors = versions.authors(value, attempt.number)
        if not authors:
            self._add(*self._garbage(attempt.number, cell, value, f"attempt {attempt.number}"))
        elif len(authors) > 1:
            versions.ambiguous.append((attempt.number, authors))
        else:
            author = authors[0]
            versions.readers.setdefault(author, []).append(attempt.number)
            if attempt.is_committed and cell in attempt.stores:
                other = versions.successors.setdefault(author, attempt.number)
                if other != attempt.number:
                    self._lose_update(cell, value, author, other, attempt.number)

    # --- what is wrong at once ------------------------------------------------------------------
    def _add(self, kind: str, attempts: Iterable[int], lines: Iterable[str]) -> None:
        self.anomalies.append(Anomaly(kind, tuple(attempts), tuple(lines)))

    def _lose_update(self, cell: Cell, value: bytes, author: int, one: int, other: int) -> None:
        where = self._words.cell(cell)
        self._add(_LOST_UPDATE, sorted((one, other)), [
            f"attempts {min(one, other)} and {max(one, other)} both loaded "
            f"{self._words.value(value)} at {where}, {self._words.origin(author)},",
            f"and both stored to {where}",
        ])  # fmt: skip

    def _garbage(
        self, number: int, cell: Cell, value: bytes, who: str
    ) -> tuple[str, tuple[int, ...], list[str]]:
        """Tell where a value comes from that no committed attempt made."""
        seen = f"{who} saw {self._words.value(value)} at {self._words.cell(cell)}"
        if not number:
            seen = f"{self._words.cell(cell)} held {self._words.value(value)} {who}"
        for attempt in self._observations.attempts:
            if not attempt.is_committed and attempt.stores.get(cell) == value:
                told = [f"{seen},", f"which attempt {attempt.number} stored, and did not commit"]
                return _ABORTED_READ, (number, attempt.number), told
            if value in attempt.replaced.get(cell, ()):
                told = [f"{seen},", f"which attempt {attempt.number} later stored over itself"]
                return _INTERMEDIATE_READ, (number, attempt.number), told
        if value in self.cells[cell].by_value:
            return _GARBAGE, (number,), [f"{seen}, which only it stored itself, later"]
        halves = self._halves(cell, value)
        if halves is not None:
            told = [f"{seen}: the first bytes {halves[0]}, the others {halves[1]}"]
            return _TORN, (number,), told
        return _GARBAGE, (number,), [f"{seen}, which nobody stored"]

    def _halves(self, cell: Cell, value: bytes) -> tuple[str, str] | None:
        """Find two versions that a value begins and ends with; None if there are none."""
        versions = self.cells[cell]
        made = [(INITIAL, versions.initial)]
        made += [(authors[0], known) for known, authors in versions.by_value.items()]
        front = max(made, key=lambda version: _common(version[1], value))
        back = max(made, key=lambda version: _common(version[1][::-1], value[::-1]))
        covered = _common(front[1], value) + _common(back[1][::-1], value[::-1])
        if covered < len(value):
            return None
        return self._words.origin(front[0]), self._words.origin(back[0])


def _common(left: bytes, right: bytes) -> int:
    """Return how many bytes two values have in common from their first one."""
    count = 0
    while count < min(len(left), len(right)) and left[count] == right[count]:
        count += 1
    return count
