"""When things happen in simulated time: an agenda, and delays that a seed draws.

Messages from one rank to another arrive in the order in which they left, as MPI keeps it; nothing
else is certain. Times are whole nanoseconds, and of two events at one time the one that was noted
first comes first, so one seed gives one order.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Any, Final

#: What any message takes at least.
LATENCY_NS: Final = 1_000
#: Mean of what is added to it: with `exponential` delays, and the median with `heavy` ones.
_EXTRA_NS: Final = 20_000
#: Tail of `heavy` delays: one in 2^1.1 takes twice as long, and so on, up to the longest.
_TAIL: Final = 1.1
_LONGEST_NS: Final = 50_000_000


def _none(chance: Random) -> int:
    del chance
    return LATENCY_NS


def _exponential(chance: Random) -> int:
    return LATENCY_NS + int(chance.expovariate(1 / _EXTRA_NS))


def _heavy(chance: Random) -> int:
    drawn = _EXTRA_NS * (chance.paretovariate(_TAIL) - 1.0)
    return LATENCY_NS + int(min(drawn, _LONGEST_NS))


#: How long a message, or a read of a home's memory, is under way: by the name of the network.
NETWORKS: Final[dict[str, Callable[[Random], int]]] = {
    "none": _none,
    "exponential": _exponential,
    "heavy": _heavy,
}


class Agenda:
    """What will happen, by time; at one time in the order in which it was noted."""

    def __init__(self) -> None:
        self._entries: list[tuple[int, int, Any]] = []
        self._serial = 0

    def __len__(self) -> int:
        return len(self._entries)

    def note(self, at_ns: int, entry: Any) -> None:
        """Let `entry` happen at a time."""
        self._serial += 1
        heappush(self._entries, (at_ns, self._serial, entry))

    def next_ns(self) -> int | None:
        """Return when the next entry happens; None if nothing will."""
        return self._entries[0][0] if self._entries else None

    def pop(self) -> tuple[int, Any]:
        """Return the next entry with its time, and forget it."""
        at_ns, _, entry = heappop(self._entries)
        return at_ns, entry


class Network:
    """Draws how long things are under way.

    Parameters
    ----------
    name
        Of NETWORKS.
    chance
        The run's source of chance, shared with whatever else is drawn.
    """

    def __init__(self, name: str, chance: Random) -> None:
        self._delay = NETWORKS[name]
        self._chance = chance
        #: When the latest message of each pair of ranks arrives.
        self._latest: dict[tuple[int, int], int] = {}

    def arrival_ns(self, source: int, target: int, at_ns: int) -> int:
        """Return when a message arrives that leaves rank `source` for rank `target` now.

        Not before any that left earlier for the same rank. A rank talks to itself without delay.
        """
        if source == target:
            return at_ns
        pair = source, target
        arrives = max(at_ns + self._delay(self._chance), self._latest.get(pair, 0))
        self._latest[pair] = arrives
        return arrives

    def read_ns(self, at_ns: int) -> int:
        """Return when a read of another rank's memory takes place that is begun now."""
        return at_ns + self._delay(self._chance)


def source_of_chance(seed: int) -> Random:
    """Return what everything is drawn from in a run of this seed."""
    return Random(seed)
