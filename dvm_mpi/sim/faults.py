"""What goes wrong in a simulated run: slow and paused ranks, suspicions, deaths, tight memory.

Everything is drawn from the run's seed before it begins. Faults come at times that suit short and
long runs, and there are only so many of them: a run must be able to end.
"""

from __future__ import annotations

from enum import Enum
from random import Random
from typing import Final

from dvm_mpi.errors import UsageError
from dvm_mpi.values import dataclass

#: What `--faults` may name, with what it is.
FAULTS: Final = {
    "slow": "some ranks execute up to fifty times slower than others",
    "pause": "ranks do nothing for a while",
    "suspect": "workers are taken for dead, rightly or not, and their runners start elsewhere",
    "death": "workers fall silent for ever; their homes go on",
    "arena": "staging arenas hold a few hundred bytes, and nearly every write set is staged",
    "frames": "homes have hardly more frames than the program needs to end at all",
}

#: Those that make the machine give up on attempts: rounds cannot do without one.
GIVING_UP: Final = frozenset({"suspect", "death"})

_FAULTS_MAX: Final = 32
#: Mean time between two faults: drawn between these, so that short and long runs see some.
_GAP_NS: Final = (20_000, 5_000_000)
_PAUSE_NS: Final = 1_000_000
#: Mean time until a silent worker is suspected, and until it is given up for lost.
_SILENCE_NS: Final = 500_000
_SLOWEST: Final = 50.0
_SLOW_SHARE: Final = 0.2
_DEAD_SHARE: Final = 0.25


class FaultKind(Enum):
    """What happens to a rank or its worker."""

    PAUSE = "pause"
    SUSPECT = "suspect"
    DEATH = "death"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault; `duration_ns` of a pause, or until somebody notices a death."""

    at_ns: int
    kind: FaultKind
    rank: int
    duration_ns: int


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """All that will go wrong in one run."""

    #: How many times slower than usual each rank executes.
    slowness: tuple[float, ...]
    #: In order of time.
    faults: tuple[Fault, ...]
    #: Bytes of an arena's slice, and the largest write set that is not staged; None for the usual.
    arena_slice_bytes: int | None
    inline_bytes_max: int | None
    #: Frames of each home beyond what the program is sure to fill; None for plenty.
    spare_frames: int | None


def parse_faults(text: str) -> frozenset[str]:
    """Return the faults that a list names: `all`, `none`, or names with commas between.

    Raises
    ------
    UsageError
        A name is unknown.
    """
    if text in {"all", "none"}:
        return frozenset(FAULTS if text == "all" else ())
    names = frozenset(text.split(","))
    unknown = sorted(names - FAULTS.keys())
    if unknown:
        raise UsageError(
            f"--faults: '{unknown[0]}' is none of them; there are all, none, {', '.join(FAULTS)}"
        )
    return names


def draw_plan(names: frozenset[str], chance: Random, rank_count: int, workers: range) -> FaultPlan:
    """Draw what goes wrong; `workers` are the ranks that execute runners."""
    slowness = [1.0] * rank_count
    if "slow" in names:
        for rank in range(rank_count):
            if chance.random() < _SLOW_SHARE:
                slowness[rank] = _SLOWEST ** chance.random()
    arena = "arena" in names
    return FaultPlan(
        tuple(slowness),
        tuple(_draw_faults(names, chance, rank_count, workers)),
        8 * chance.randint(8, 64) if arena else None,
        chance.randint(1, 64) if arena else None,
        chance.randint(1, 4) if "frames" in names else None,
    )


def _draw_faults(
    names: frozenset[str], chance: Random, rank_count: int, workers: range
) -> list[Fault]:
    kinds = [kind for kind in FaultKind if kind.value in names]
    if not kinds:
        return []
    deaths_left = min(max(int(len(workers) * _DEAD_SHARE), 1), len(workers) - 1)
    shortest, longest = _GAP_NS
    gap_ns = shortest * (longest / shortest) ** chance.random()
    faults: list[Fault] = []
    dead: set[int] = set()
    at_ns = 0
    for _ in range(_FAULTS_MAX):
        at_ns += int(chance.expovariate(1 / gap_ns))
        kind = chance.choice(kinds)
        rank = chance.randrange(rank_count) if kind is FaultKind.PAUSE else chance.choice(workers)
        mean_ns = _SILENCE_NS if kind is FaultKind.DEATH else _PAUSE_NS
        # Half of the suspicions are of ranks that have done nothing wrong.
        is_wrong = kind is FaultKind.SUSPECT and chance.random() < 1 / 2
        duration_ns = 0 if is_wrong else int(chance.expovariate(1 / mean_ns))
        if kind is FaultKind.DEATH:
            if not deaths_left or rank in dead:
                continue
            deaths_left -= 1
            dead.add(rank)
        faults.append(Fault(at_ns, kind, rank, duration_ns))
    return faults
