"""What a judge is given: what each attempt loaded and stored, cell by cell.

No epoch and no snapshot is here: a machine that is wrong about its own time must not be judged by
that time. A *cell* is a range of bytes that is loaded and stored as a whole; the cells of one run
are disjoint. A *version* of a cell is what one committed attempt stored, or its initial value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum, IntEnum
from typing import Final, NamedTuple

from dvm_mpi.values import dataclass, field

#: `(start, length)`, half-open.
Cell = tuple[int, int]

#: The writer of initial values, in the place of an attempt number; those count from 1.
INITIAL: Final = 0


class Level(Enum):
    """What a run is measured against."""

    SNAPSHOT = "snapshot isolation"
    SERIALIZABLE = "serializability"


@dataclass(frozen=True, slots=True)
class ObservedAttempt:
    """One attempt: bytes of its snapshot that it saw, and what it left.

    The stores of one that did not commit must never be seen; what it loaded is a snapshot like any
    other's. A stored value is None where nobody wrote down the bytes. `replaced` holds values that
    the attempt stored and then stored over.
    """

    number: int
    loads: Mapping[Cell, bytes]
    stores: Mapping[Cell, bytes | None]
    is_committed: bool = True
    replaced: Mapping[Cell, tuple[bytes, ...]] = field(default_factory=dict)


class Session(NamedTuple):
    """A promise that attempt `after` sees all that attempt `before` committed."""

    before: int
    after: int
    why: str


@dataclass(frozen=True, slots=True)
class Observations:
    """One run.

    Initial values that are not listed are zero. `final` lists cells of which it is known what they
    held in the end.
    """

    attempts: Sequence[ObservedAttempt]
    sessions: Sequence[Session] = ()
    initial: Mapping[Cell, bytes] = field(default_factory=dict)
    final: Mapping[Cell, bytes] = field(default_factory=dict)

    def initial_value(self, cell: Cell) -> bytes:
        """Return what the cell held before anybody stored to it."""
        value = self.initial.get(cell)
        return bytes(cell[1]) if value is None else value


class Kind(IntEnum):
    """How one attempt must come before another; if several say so, the first here is told."""

    #: The target stored the next versions of a cell that the source had stored.
    WW = 0
    #: The target loaded what the source stored.
    WR = 1
    #: The machine promises that the target sees the source's commit.
    SESSION = 2
    #: The source loaded a version older than the target's.
    RW = 3


class Edge(NamedTuple):
    """Why `source` comes before `target`; the cell is None for a session only."""

    source: int
    target: int
    kind: Kind
    cell: Cell | None
    why: str = ""


class Anomaly(NamedTuple):
    """What is wrong with a run: the kind, the attempts in question, and the story, line by line."""

    kind: str
    attempts: tuple[int, ...]
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join((f"{self.kind}:", *(f"  {line}" for line in self.lines)))
