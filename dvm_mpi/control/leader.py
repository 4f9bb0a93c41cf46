"""Leaders: ranks through which messages between the coordinator and other ranks go.

Towards the coordinator a leader gathers what its ranks say, and sends it on as few messages: at
once if rank 0 has taken all that it sent before, else as soon as rank 0 says so. So rank 0 hears
from each leader once in a turn of its own at most, however many ranks there are; and the busier it
is, the more is joined. Nothing waits for a time. From the coordinator a leader gets all that is for
its ranks, in one buffer, and hands each its own.

A state machine as others are: `take` messages, `hand_on` those for its ranks, `leave` with what the
coordinator may get.
Invariant: messages between the coordinator and one rank keep their order, both ways, since all of
them go through the same leader. What is held is bounded by what workers have been given: they get
no more before their records have been ordered.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import LEADER_RANKS, RANKS_WITHOUT_LEADERS
from dvm_mpi.control.gathering import Gathering
from dvm_mpi.control.joining import batches_of
from dvm_mpi.control.messages import (
    AsleepChanged,
    BatchesDealt,
    BatchReturned,
    CoordinatorEvent,
    Finished,
    GatheredTaken,
    LeaderEvent,
    LeaseRequested,
    Message,
    Relayed,
    WorkerReady,
    WorkersReady,
)
from dvm_mpi.control.wire import decode, encode
from dvm_mpi.dsm.commit import for_homes
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.messages import (
    AppliesRequested,
    BlocksMoved,
    EpochApplied,
    EpochsApplied,
    FramesLacking,
)

Choice = int | Literal["auto", "node", "none"]
#: What ranks say to the coordinator through their leaders. All else is rare, or bounded already.
GATHERED: Final = (
    Finished,
    LeaseRequested,
    AsleepChanged,
    WorkerReady,
    WorkersReady,
    BatchReturned,
    EpochApplied,
    EpochsApplied,
    FramesLacking,
)
COORDINATOR_RANK: Final = 0


class Leader:
    """The leader of some ranks, itself among them.

    Parameters
    ----------
    geometry
        Where pages live.
    """

    def __init__(self, geometry: Geometry) -> None:
        #: Where pages live.
        self.geometry = geometry
        self._gathering = Gathering()
        #: Whether rank 0 has not said yet that it took what was sent last.
        self._is_awaited = False
        #: For ranks of this leader, in the order in which it came.
        self._relayed: list[tuple[int, Message]] = []

    def take(self, source: int, message: CoordinatorEvent | LeaderEvent) -> None:
        """Take a message: of one of this leader's ranks, or of the coordinator."""
        if isinstance(message, Relayed):
            told = decode(message.content)
            if isinstance(told, BlocksMoved):
                # What is divided here may come before its rank looks at this.
                self.geometry.move(told.epoch, told.moved, told.homes)
            self._relayed.append((message.rank, told))
        elif isinstance(message, BatchesDealt):
            self._relayed += batches_of(message)
        elif isinstance(message, AppliesRequested):
            self._relayed += for_homes(self.geometry, message)
        elif isinstance(message, GatheredTaken):
            self._is_awaited = False
        else:
            self._gathering.add(source, message)

    def hand_on(self) -> list[tuple[int, Message]]:
        """Return what has come for this leader's ranks, with the ranks; in this order."""
        relayed, self._relayed = self._relayed, []
        return relayed

    def leave(self) -> list[CoordinatorEvent]:
        """Return what is to be sent to the coordinator now, in this order."""
        if not len(self._gathering) or self._is_awaited:
            return []
        self._is_awaited = True
        return self._gathering.take()

    @property
    def held_count(self) -> int:
        """Messages that wait until rank 0 has taken what was sent before."""
        return len(self._gathering)

    def check_invariants(self) -> None:
        """Assert what holds between turns."""
        assert not self._relayed, "what was for others has not left"
        assert self._is_awaited or not len(self._gathering), "nothing is waited for, but held"


class Tree:
    """Which rank leads which.

    Parameters
    ----------
    leaders
        For each rank its leader; rank 0 where none is between. Leaders lead themselves.
    """

    def __init__(self, leaders: Sequence[int]) -> None:
        assert not leaders or leaders[COORDINATOR_RANK] == COORDINATOR_RANK
        assert all(leaders[leader] == leader for leader in leaders)
        self._leaders = tuple(leaders)
        #: All leaders, ascending.
        self.leaders: tuple[int, ...] = tuple(sorted(set(leaders) - {COORDINATOR_RANK}))
        #: Leaders of themselves alone.
        self._lonely = {leader for leader in self.leaders if leaders.count(leader) == 1}

    def leader_of(self, rank: int) -> int:
        """Return through whom a rank talks to the coordinator; rank 0 if through nobody."""
        return self._leaders[rank] if self._leaders else COORDINATOR_RANK

    def routed(self, rank: int, message: Message) -> tuple[int, Message]:
        """Return to whom rank 0 sends what is for `rank`, and as what."""
        if not self.relays(rank):
            return rank, message
        return self.leader_of(rank), Relayed(rank, encode(message))

    def relays(self, rank: int) -> bool:
        """Return whether a leader hands on what rank 0 has for a rank.

        Also what is for the leader's own rank: it must not overtake what is for several.
        """
        leader = self.leader_of(rank)
        return leader != COORDINATOR_RANK and leader not in self._lonely

    def receivers(self) -> NDArray[np.int64]:
        """Return whom rank 0 tells what the home of each rank has to apply: (rank count,)."""
        ranks = np.arange(len(self._leaders))
        leaders = np.array(self._leaders, np.int64)
        return np.where(leaders == COORDINATOR_RANK, ranks, leaders)


def choose_leaders(hosts: Sequence[int], choice: Choice) -> Tree:
    """Return who leads whom.

    Parameters
    ----------
    hosts
        The host of each rank, as a number.
    choice
        A number of leaders, each of as many ranks, whatever their hosts; "node": one for each
        host; "none"; "auto": none for few ranks, one for each host of `LEADER_RANKS` ranks or
        more on average, else one for so many ranks, or for the root of their number if that is
        more.
    """
    ranks = len(hosts)
    if choice == "auto":
        if ranks <= RANKS_WITHOUT_LEADERS:
            choice = "none"
        elif ranks >= LEADER_RANKS * len(set(hosts)):
            choice = "node"
        else:
            # Rank 0 has as many leaders then as each of them has ranks.
            choice = -(-ranks // max(LEADER_RANKS, isqrt(ranks)))
    if choice == "none" or ranks == 1:
        return Tree(())
    others = np.arange(1, ranks)
    groups = np.array(hosts[1:])
    if choice != "node":
        groups = (others - 1) * min(choice, ranks - 1) // (ranks - 1)
    # The first rank of each group; rank 0 has enough to do.
    _, firsts, members = np.unique(groups, return_index=True, return_inverse=True)
    return Tree([COORDINATOR_RANK, *others[firsts][members].tolist()])
