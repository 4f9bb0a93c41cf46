"""Where runners had best go: the policies of `--placement`, side by side.

A policy answers one question about a batch of runners: which worker is each of them near to? It is
a hint: `placement` says how many each worker gets, and `dealing` gives what is near first. Policies
are pure: what they answer follows from what they were told, in that order.
"""

from __future__ import annotations

from typing import Any, Final, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import NEAR_PART
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.holders import ANYONE, ASKED, BEST, SECOND, Holders
from dvm_mpi.dsm.ranges import firsts_of
from dvm_mpi.layout import RANGE
from dvm_mpi.values import dataclass

Ints = NDArray[np.int64]

#: By the bytes that a worker has; wherever there is room; in turn; by lot.
Placement = Literal["data", "load", "round-robin", "random"]
PLACEMENTS: Final[tuple[Placement, ...]] = get_args(Placement)


@dataclass(frozen=True, slots=True)
class Declared:
    """What runners of a batch declare, runner after runner.

    `newest` is the newest epoch of any store into the pages of each range.
    """

    counts: Ints
    ranges: NDArray[Any]  # RANGE
    newest: Ints


def declared_in(counts: Ints, grants: NDArray[Any]) -> Declared:
    """Return what runners declare that have so many GRANT rows each, one behind the other."""
    ranges = np.empty(len(grants), RANGE)
    ranges["start"], ranges["length"] = grants["start"], grants["length"]
    return Declared(counts, ranges, grants["newest"].copy())


NOTHING_DECLARED: Final = Declared(np.zeros(0, np.int64), np.zeros(0, RANGE), np.zeros(0, np.int64))


class Policy(Protocol):
    """One way to place runners."""

    @property
    def looks(self) -> bool:
        """Whether it must know what runners declare: else it is told nothing, and sent nothing."""

    @property
    def waits(self) -> bool:
        """Whether few runners wait a moment for the worker that they are near to."""

    def near(self, count: int, declared: Declared) -> Ints:
        """Return the worker that each of `count` runners is near to, or ANYONE: (count,)."""

    def sent(self, workers: Ints, epoch: int, declared: Declared) -> None:
        """Note that workers, one for each runner, are sent these on the snapshot of `epoch`."""


class ByData:
    """A runner goes where most bytes of what it declares are, at home or as somebody had them."""

    looks = True
    waits = True

    def __init__(self, geometry: Geometry, worker_count: int) -> None:
        self._holders = Holders(geometry, worker_count)

    def near(self, count: int, declared: Declared) -> Ints:
        """Return who has most of what each declares; ANYONE if others have nearly as much.

        That is so where its pages lie at many homes and nobody has read them yet: to wait for who
        has a few of them more than others would save next to nothing.
        """
        assert count == len(declared.counts)
        near, had = self._holders.nearest(declared.ranges, declared.counts, declared.newest)
        asked, best, second = had[:, ASKED], had[:, BEST], had[:, SECOND]
        part = asked // NEAR_PART
        near[(asked - best > part) & (best - second < part)] = ANYONE
        return near

    def sent(self, workers: Ints, epoch: int, declared: Declared) -> None:
        """Remember that workers have what their runners declare."""
        whose = np.repeat(workers, declared.counts)
        self._holders.note(declared.ranges, declared.newest, whose, epoch)


class _Blind:
    """Base of policies that do not ask what runners declare."""

    looks = False
    waits = False

    def __init__(self, worker_count: int) -> None:
        self._worker_count = worker_count
        #: Runners that have been placed.
        self._placed = 0

    def _next(self, count: int) -> Ints:
        numbers = self._placed + np.arange(count)
        self._placed += count
        return numbers

    def sent(self, workers: Ints, epoch: int, declared: Declared) -> None:
        """Remember nothing."""


class RoundRobin(_Blind):
    """Runners go to the workers in turn."""

    def near(self, count: int, declared: Declared) -> Ints:
        """Return the next ones."""
        assert declared is NOTHING_DECLARED
        return self._next(count) % self._worker_count


class Random(_Blind):
    """Runners go to workers by lot; the same lots for the same seed."""

    def __init__(self, worker_count: int, seed: int) -> None:
        super().__init__(worker_count)
        self._seed = np.uint64(seed)

    def near(self, count: int, declared: Declared) -> Ints:
        """Draw."""
        assert declared is NOTHING_DECLARED
        with np.errstate(over="ignore"):
            return (self._mixed(count) % np.uint64(self._worker_count)).astype(np.int64)

    def _mixed(self, count: int) -> NDArray[np.uint64]:
        """Return splitmix64 of the next numbers: each result is as likely as any other."""
        lots = self._next(count).astype(np.uint64) + self._seed * np.uint64(0xD1342543DE82EF95)
        lots = lots * np.uint64(0x9E3779B97F4A7C15)
        lots = (lots ^ (lots >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        lots = (lots ^ (lots >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return lots ^ (lots >> np.uint64(31))


def make_policy(
    placement: Placement, geometry: Geometry, worker_count: int, seed: int
) -> Policy | None:
    """Return the policy of a name; None where runners go wherever there is room."""
    if placement == "load" or worker_count == 1:
        return None
    if placement == "data":
        return ByData(geometry, worker_count)
    if placement == "random":
        return Random(worker_count, seed)
    assert placement == "round-robin"
    return RoundRobin(worker_count)


def largest_of(ranges: NDArray[Any], counts: Ints) -> Ints:
    """Return the length of each runner's largest range, 0 for those without: (n,).

    `ranges` are RANGE rows, runner after runner, `counts` says how many each has.
    """
    largest = np.zeros(len(counts), np.int64)
    if len(ranges) == 0:
        return largest
    has_any = np.flatnonzero(counts)
    largest[has_any] = np.maximum.reduceat(ranges["length"], firsts_of(counts)[has_any])
    return largest
