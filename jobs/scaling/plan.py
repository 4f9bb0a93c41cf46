"""What a scaling study runs: which job, on how many ranks, how large, how often.

Strong: one problem, STRONG_FACTOR times as large as one rank's in the weak series, on all numbers
of ranks. Weak: the work grows with the ranks, so that each of them has as much as one alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Self, get_args

Mode = Literal["strong", "weak"]
MODES: Final[tuple[Mode, ...]] = get_args(Mode)

#: How much larger the problem of the strong series is than one rank's in the weak one.
STRONG_FACTOR: Final = 8
#: Runners for each rank, so that a rank that is late holds up the others little.
PARTS_PER_RANK: Final = 16
#: One rank's problem in the weak series, before `--scale`.
KMEANS_POINTS: Final = 20_000
KMEANS_ITERATIONS: Final = 10
PRIMES_LIMIT: Final = 400_000

_NAME: Final = re.compile(
    r"(?P<mode>strong|weak)-(?P<job>[a-z]+)-ranks(?P<ranks>\d+)-nodes(?P<nodes>\d+)"
    r"-(?P<repetition>\d+)\.json"
)


@dataclass(frozen=True, slots=True, order=True)
class Case:
    """One run of the study."""

    mode: Mode
    job: str
    ranks: int
    nodes: int
    repetition: int

    @property
    def file_name(self) -> str:
        """Name of the run's report, from which `of_file_name` makes the case again."""
        return f"{self.mode}-{self.job}-ranks{self.ranks}-nodes{self.nodes}-{self.repetition}.json"

    @classmethod
    def of_file_name(cls, name: str) -> Self | None:
        """Return the case that a report is of; None if the file is none of ours."""
        found = _NAME.fullmatch(name)
        if found is None:
            return None
        mode: Mode = "strong" if found["mode"] == "strong" else "weak"
        counts = (int(found[part]) for part in ("ranks", "nodes", "repetition"))
        return cls(mode, found["job"], *counts)

    def defines(self, scale: float, ranks_max: int) -> dict[str, int]:
        """Return the program's parameters; `ranks_max` is the largest size of the study."""
        factor = scale * (STRONG_FACTOR if self.mode == "strong" else self.ranks)
        # The strong series is one program: how it is divided must not change with the ranks.
        parts = PARTS_PER_RANK * (ranks_max if self.mode == "strong" else self.ranks)
        if self.job == "kmeans":
            points = max(round(KMEANS_POINTS * factor), parts)
            return {"N": points, "ITERATIONS": KMEANS_ITERATIONS, "LABELS": 0, "PARTS": parts}
        # A number takes as many divisions as its root: the work grows with the limit's power of
        # 3/2. What is left of the difference is in the instructions that the report counts.
        limit = round(PRIMES_LIMIT * factor ** (2 / 3))
        return {"LIMIT": limit, "PARTS": parts, "BLOCK": max(min(500, limit // (8 * parts)), 1)}


JOBS: Final = ("kmeans", "primes")


def powers_of_two(ranks_max: int) -> list[int]:
    """Return 1, 2, 4, ... and the largest number itself."""
    sizes = [1 << power for power in range(ranks_max.bit_length()) if 1 << power <= ranks_max]
    return sizes if sizes[-1] == ranks_max else [*sizes, ranks_max]


def cases(
    sizes: Sequence[int],
    ranks_per_node: int,
    repetitions: int,
    jobs: Sequence[str] = JOBS,
    modes: Sequence[Mode] = MODES,
) -> Iterator[Case]:
    """Yield all runs, repetition by repetition: a busy moment falls on all sizes alike."""
    for repetition in range(1, repetitions + 1):
        for mode in modes:
            for job in jobs:
                for ranks in sizes:
                    yield Case(mode, job, ranks, -(-ranks // ranks_per_node), repetition)
