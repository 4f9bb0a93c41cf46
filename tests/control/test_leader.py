"""Leaders: who leads whom, what is held back and for how long, and what is handed on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dvm_mpi.config import LEADER_RANKS, RANKS_WITHOUT_LEADERS
from dvm_mpi.control.joining import workers_of
from dvm_mpi.control.leader import Choice, Leader, Tree, choose_leaders
from dvm_mpi.control.messages import AsleepChanged, Finished, GatheredTaken, LeaseGranted, Relayed
from dvm_mpi.control.wire import encode
from dvm_mpi.dsm.commit import CommitLog
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.messages import (
    RUN,
    TOKEN,
    AppliesRequested,
    ApplyRequested,
    EpochApplied,
    PinsMoved,
)
from dvm_mpi.layout import PAGE_BYTES
from tests.control.test_joining import message

#: One host of 4 ranks, two of 3, as numbers.
HOSTS = (0, 0, 0, 0, 1, 1, 1, 2, 2, 2)


# --- who leads whom -----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("hosts", "choice", "leaders"),
    [
        (HOSTS, "none", [0] * 10),
        (HOSTS, "auto", [0] * 10),  # so few talk to rank 0 themselves
        (HOSTS, "node", [0, 1, 1, 1, 4, 4, 4, 7, 7, 7]),
        (HOSTS, 1, [0, *[1] * 9]),
        (HOSTS, 2, [0, 1, 1, 1, 1, 1, 6, 6, 6, 6]),
        (HOSTS, 99, [0, *range(1, 10)]),  # each of itself
        ((0, 1, 0, 1), "node", [0, 1, 2, 1]),  # ranks dealt out to hosts in turn
        ((0,), 3, [0]),
        ((0, 0), "node", [0, 1]),
    ],
)
def test_leaders(hosts: tuple[int, ...], choice: Choice, leaders: list[int]) -> None:
    tree = choose_leaders(hosts, choice)
    assert [tree.leader_of(rank) for rank in range(len(hosts))] == leaders
    assert tree.leaders == tuple(sorted(set(leaders) - {0}))


def test_many_ranks_have_leaders_by_themselves() -> None:
    large_hosts = [rank // 24 for rank in range(240)]
    assert choose_leaders(large_hosts, "auto").leaders == (1, *range(24, 240, 24))
    # Hosts of one rank each: a leader for each would spare nothing.
    assert len(choose_leaders(range(160), "auto").leaders) == 160 // LEADER_RANKS
    assert len(choose_leaders(range(4_096), "auto").leaders) == 64, "each of as many ranks"
    assert choose_leaders(range(RANKS_WITHOUT_LEADERS), "auto").leaders == ()
    assert choose_leaders(range(RANKS_WITHOUT_LEADERS + 1), "auto").leaders != ()


def test_messages_to_ranks_go_through_their_leader() -> None:
    tree = choose_leaders(HOSTS, "node")
    moved = PinsMoved(3, np.zeros(0, np.int64))
    assert tree.routed(0, moved) == (0, moved)
    for rank in (4, 6):
        # Also to the leader itself: else it overtakes what is for several of its ranks.
        receiver, relayed = tree.routed(rank, moved)
        assert receiver == 4
        assert isinstance(relayed, Relayed)
        assert relayed.rank == rank
        assert relayed.content.tobytes() == encode(moved).tobytes()
    assert Tree(()).routed(6, moved) == (6, moved)
    assert choose_leaders(HOSTS, 99).routed(6, moved) == (6, moved), "it leads itself alone"


@pytest.mark.parametrize(
    ("choice", "receivers"),
    [("node", [0, 1, 1, 1, 4, 4, 4, 7, 7, 7]), (99, list(range(10)))],
)
def test_leaders_are_told_what_their_homes_apply(choice: Choice, receivers: list[int]) -> None:
    assert choose_leaders(HOSTS, choice).receivers().tolist() == receivers


# --- up -----------------------------------------------------------------------------------------
def numbers(sent: list[Any]) -> list[list[int]]:
    """Return the attempts of each message of records that leaves for rank 0."""
    return [one.records["attempt"].tolist() for one in sent if isinstance(one, Finished)]


def test_records_that_came_together_leave_as_one_message() -> None:
    leader = Leader(Geometry(10))
    leader.take(4, message(4, [1, 2]))
    leader.take(5, AsleepChanged(5, 1))
    leader.take(6, message(6, [3]))
    joined, asleep = leader.leave()
    assert workers_of(joined).tolist() == [4, 4, 6]  # type: ignore[arg-type]
    assert asleep == AsleepChanged(5, 1)
    leader.check_invariants()


def test_what_comes_before_rank_0_has_taken_the_last_waits_and_is_joined() -> None:
    leader = Leader(Geometry(10))
    leader.take(4, message(4, [1]))
    assert numbers(leader.leave()) == [[1]]
    for number in (2, 3, 4):
        leader.take(5, message(5, [number]))
        assert leader.leave() == []
        leader.check_invariants()
    assert leader.held_count == 1
    leader.take(0, GatheredTaken())
    assert numbers(leader.leave()) == [[2, 3, 4]]
    assert leader.held_count == 0
    leader.take(4, message(4, [5]))
    assert leader.leave() == [], "one answer is for one departure"


def test_an_answer_to_nothing_new_lets_the_next_message_leave_at_once() -> None:
    leader = Leader(Geometry(10))
    leader.take(4, EpochApplied(4, 2, 0))
    assert leader.leave() == [EpochApplied(4, 2, 0)]
    leader.take(0, GatheredTaken())
    assert leader.leave() == []
    leader.take(4, EpochApplied(4, 3, 0))
    assert leader.leave() == [EpochApplied(4, 3, 0)]


# --- down ---------------------------------------------------------------------------------------
def test_what_is_for_its_ranks_is_handed_on_in_order_and_waits_for_nothing() -> None:
    leader = Leader(Geometry(10))
    leader.take(4, message(4, [1]))
    leader.leave()
    granted = [LeaseGranted(0, start, start + 1) for start in range(3)]
    for rank, one in zip((5, 6, 5), granted, strict=True):
        leader.take(0, Relayed(rank, encode(one)))
    leader.take(6, message(6, [2]))
    assert leader.hand_on() == [(5, granted[0]), (6, granted[1]), (5, granted[2])]
    leader.check_invariants()


def test_an_epoch_of_several_homes_is_divided_and_keeps_its_place() -> None:
    leader = Leader(Geometry(10, block_pages=1))
    moved = PinsMoved(3, np.zeros(0, np.int64))
    log = CommitLog(leader.geometry, 1, choose_leaders(HOSTS, "node").receivers())
    tokens = np.array([(2, 0, 0, 0, 2)], TOKEN)
    runs = np.array([(5 * PAGE_BYTES, 2, 0), (6 * PAGE_BYTES, 3, 2)], RUN)
    log.append(tokens, runs, np.arange(5, dtype=np.uint8))
    ((receiver, request),) = log.close(np.zeros(0, np.int64))
    assert receiver == 4
    assert isinstance(request, AppliesRequested)
    leader.take(0, Relayed(6, encode(moved)))
    leader.take(0, request)
    leader.take(0, Relayed(5, encode(moved)))
    (first, before), (fifth, one), (sixth, other), (last, after) = leader.hand_on()
    assert (first, fifth, sixth, last) == (6, 5, 6, 5)
    assert isinstance(before, PinsMoved)
    assert isinstance(after, PinsMoved)
    assert isinstance(one, ApplyRequested)
    assert isinstance(other, ApplyRequested)
    assert (one.data.tolist(), other.data.tolist()) == ([0, 1], [2, 3, 4])
    assert log.homes_awaited() == {2: (5, 6)}
