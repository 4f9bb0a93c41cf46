"""Messages of ended attempts, joined and taken apart: nothing is lost or mixed up."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dvm_mpi.control.joining import SEVERAL, efforts, encode_traps, join, select, workers_of
from dvm_mpi.control.messages import Finished
from dvm_mpi.engine.interface import LEASES, TrapDetail
from dvm_mpi.sim.history import EndedAttempt, ended_attempts
from tests.control.coordinator import FIRST, A, Attempt, B, Child, Coordinator, Ends, X


def message(worker: int, numbers: list[int]) -> Finished:
    """Return records whose every part tells its attempt's number; some have none of a kind."""
    ends = []
    for number in numbers:
        attempt = Attempt(number, worker, 1, number, number, FIRST, (), {}, (0, 0))
        stores = [(X + 64 * number + 16 * k, bytes([number, k])) for k in range(number % 3)]
        children = [
            Child(A, heap=[(X + number, 8)], image=[(number, bytes([number] * 3))]),
            Child(B, watched=[(X + number, 4), (X, number)]),
        ]
        console = bytes([number]) * (number % 4)
        ends.append(Ends(attempt, stores=stores, children=children[: number % 3], console=console))
    finished = Coordinator().record(*ends)
    traps = {str(i): [[f"of {n}"], None] for i, n in enumerate(numbers) if n % 2}
    return replace(
        finished,
        traps=json.dumps(traps),
        dropped_stacks=np.array(numbers),
        fetched_bytes=worker,
        leases=np.zeros(len(numbers), LEASES),
    )


def contents(finished: Finished) -> list[tuple[int, EndedAttempt, Any]]:
    """Return what a message says of each attempt; ids are those of the test's own counter."""
    traps = json.loads(finished.traps) if finished.traps else {}
    numbers = finished.records["attempt"].tolist()
    return [
        (number, ended, traps.get(str(position)))
        for position, (number, ended) in enumerate(
            zip(numbers, ended_attempts(finished), strict=True)
        )
    ]


PARTS = (message(3, [5, 1, 8]), message(0, [2]), message(7, [6, 11, 4, 3]))


def test_a_joined_message_says_what_its_parts_say() -> None:
    joined = join(PARTS)
    assert contents(joined) == [one for part in PARTS for one in contents(part)]
    assert joined.worker == SEVERAL
    assert workers_of(joined).tolist() == [3] * 3 + [0] + [7] * 4
    assert joined.dropped_stacks.tolist() == [5, 1, 8, 2, 6, 11, 4, 3]
    assert (joined.fetched_bytes, len(joined.leases)) == (10, 8)


def test_what_was_joined_can_be_joined_again_and_chosen_from() -> None:
    """By a leader first, then by the coordinator, which takes some of it apart."""
    again = join([join(PARTS[:2]), PARTS[2]])
    assert contents(again) == [one for part in PARTS for one in contents(part)]
    assert workers_of(again).tolist() == workers_of(join(PARTS)).tolist()
    chosen = select(again, np.array([7, 0, 3]))
    assert workers_of(chosen).tolist() == [7, 3, 0]
    assert workers_of(select(PARTS[0], np.array([1]))).tolist() == [3]


@pytest.mark.parametrize("kept", [[], [7], [3, 0, 6], [7, 6, 5, 4, 3, 2, 1, 0]])
def test_a_selection_keeps_whole_records_in_its_order(kept: list[int]) -> None:
    joined = join(PARTS)
    chosen = select(joined, np.array(kept, dtype=np.int64))
    assert contents(chosen) == [contents(joined)[i] for i in kept]
    assert len(chosen.dropped_stacks) == 0


def test_staged_bytes_stay_where_they_are() -> None:
    attempts = [Attempt(n, 0, 1, n, n, FIRST, (), {}, (0, 0)) for n in (1, 2)]
    inline = Coordinator().record(Ends(attempts[0], stores=[X]))
    staged = Coordinator().record(Ends(attempts[1], stores=[X], serial=4))
    assert join([inline, staged]).runs["data_first"].tolist() == [0, -1]


def test_trap_details_are_told_by_position() -> None:
    assert encode_traps({}) == ""
    told = encode_traps({3: TrapDetail(("a", "b"), None), 1: TrapDetail((), (7, 8))})
    assert told == '{"1": [[], [7, 8]], "3": [["a", "b"], null]}'


def test_effort_goes_with_the_instructions() -> None:
    """One worker executes translated code, ten times as fast as the other one interprets."""
    slow, fast = message(0, [0, 1]), message(1, [2, 3])
    for part in (slow, fast):
        part.outcomes["instructions"] = [1_000, 3_000]
    slow, fast = replace(slow, effort=4_000), replace(fast, effort=400)
    assert efforts(slow).tolist() == [1_000, 3_000]
    assert efforts(fast).tolist() == [100, 300]
    assert join([slow, fast]).effort == 4_400
    assert select(fast, np.array([1])).effort == 300
    nothing = replace(fast, outcomes=fast.outcomes[:0], effort=0)
    assert efforts(nothing).tolist() == []
