"""Leaders: who leads whom, what is held back and for how long, and what is handed on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dvm_mpi.config import LEADER_RANKS, RANKS_WITHOUT_LEADERS
from dvm_mpi.control.joining import workers_of
from dvm_mpi.control.leader import Choice, Leader, Tree, choose_leaders
from dvm_mpi.control.messages import (
    AsleepChanged,
    Finished,
    GatheredTaken,
    LeaseGranted,
    Relayed,
    encode,
)
from dvm_mpi.dsm.messages import EpochApplied, PinsMoved
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
    assert len(choose_leaders(range(4_096), "auto").leaders) == 4_096 // LEADER_RANKS
    assert choose_leaders(range(RANKS_WITHOUT_LEADERS), "auto").leaders == ()
    assert choose_leaders(range(RANKS_WITHOUT_LEADERS + 1), "auto").leaders != ()


def test_messages_to_ranks_go_through_their_leader() -> None:
    tree = choose_leaders(HOSTS, "node")
    moved = PinsMoved(3, np.zeros(0, np.int64))
    assert tree.routed(0, moved) == (0, moved)
    assert tree.routed(4, moved) == (4, moved)
    receiver, relayed = tree.routed(6, moved)
    assert receiver == 4
    assert isinstance(relayed, Relayed)
    assert relayed.rank == 6
    assert relayed.content.tobytes() == encode(moved).tobytes()
    assert Tree(()).routed(6, moved) == (6, moved)


# --- up -----------------------------------------------------------------------------------------
def numbers(sent: list[tuple[int, Any]]) -> list[list[int]]:
    """Return the attempts of each message of records that leaves for rank 0."""
    assert all(rank == 0 for rank, _ in sent)
    return [one.records["attempt"].tolist() for _, one in sent if isinstance(one, Finished)]


def test_records_that_came_together_leave_as_one_message() -> None:
    leader = Leader()
    leader.take(4, message(4, [1, 2]))
    leader.take(5, AsleepChanged(5, 1))
    leader.take(6, message(6, [3]))
    (_, joined), (_, asleep) = leader.leave()
    assert workers_of(joined).tolist() == [4, 4, 6]  # type: ignore[arg-type]
    assert asleep == AsleepChanged(5, 1)
    leader.check_invariants()


def test_what_comes_before_rank_0_has_taken_the_last_waits_and_is_joined() -> None:
    leader = Leader()
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
    leader = Leader()
    leader.take(4, EpochApplied(4, 2, 0))
    assert leader.leave() == [(0, EpochApplied(4, 2, 0))]
    leader.take(0, GatheredTaken())
    assert leader.leave() == []
    leader.take(4, EpochApplied(4, 3, 0))
    assert leader.leave() == [(0, EpochApplied(4, 3, 0))]


# --- down ---------------------------------------------------------------------------------------
def test_what_is_for_its_ranks_is_handed_on_in_order_and_waits_for_nothing() -> None:
    leader = Leader()
    leader.take(4, message(4, [1]))
    leader.leave()
    granted = [LeaseGranted(0, start, start + 1) for start in range(3)]
    for rank, one in zip((5, 6, 5), granted, strict=True):
        leader.take(0, Relayed(rank, encode(one)))
    leader.take(6, message(6, [2]))
    assert leader.leave() == [(5, granted[0]), (6, granted[1]), (5, granted[2])]
    leader.check_invariants()
