"""What comes together is joined, and nothing of one source is put before what it said sooner."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvm_mpi.config import LOCATED_PAGES_MAX
from dvm_mpi.control import gathering as module
from dvm_mpi.control.gathering import Gathering
from dvm_mpi.control.joining import workers_of
from dvm_mpi.control.messages import (
    AsleepChanged,
    CoordinatorEvent,
    Finished,
    WorkerReady,
    WorkersReady,
)
from dvm_mpi.dsm.messages import LOCATED, EpochApplied, EpochsApplied
from tests.control.test_joining import message
from tests.properties import tried

SOURCES = 4
#: Records of one number each, made once: what a message costs to build is not the point here.
RECORDS = [message(number % SOURCES, [number + 1]) for number in range(24)]


def told(source: int, messages: list[CoordinatorEvent]) -> list[tuple[str, int]]:
    """Return what is there of one source, in order: kinds, and the numbers that tell them apart."""
    found = []
    for one in messages:
        if isinstance(one, Finished):
            own = one.records["attempt"][workers_of(one) == source]
            found += [("record", number) for number in own.tolist()]
        elif isinstance(one, EpochApplied):
            found += [("applied", one.epoch)] * (one.home == source)
        elif isinstance(one, EpochsApplied):
            found += [("applied", epoch) for epoch in one.epochs[one.homes == source].tolist()]
        else:
            assert isinstance(one, AsleepChanged)
            found += [("asleep", one.asleep)] * (one.worker == source)
    return found


def drawn(kinds: list[tuple[str, int]]) -> list[tuple[int, CoordinatorEvent]]:
    """Return messages of those kinds and sources, each with a number of its own."""
    said: list[tuple[int, CoordinatorEvent]] = []
    for number, (kind, source) in enumerate(kinds):
        if kind == "record":
            record = RECORDS[source + SOURCES * (number // SOURCES)]
            said.append((source, record))
        elif kind == "applied":
            said.append((source, EpochApplied(source, number, 0)))
        else:
            said.append((source, AsleepChanged(source, number)))
    return said


KINDS = st.tuples(st.sampled_from(["record", "applied", "asleep"]), st.integers(0, SOURCES - 1))


@tried(60)
@given(kinds=st.lists(KINDS, max_size=20))
def test_messages_of_one_source_keep_their_order(kinds: list[tuple[str, int]]) -> None:
    gathering = Gathering()
    said = drawn(kinds)
    for source, one in said:
        gathering.add(source, one)
    assert len(gathering) <= len(said)
    taken = gathering.take()
    for source in range(SOURCES):
        assert told(source, taken) == told(source, [one for _, one in said])
    assert gathering.take() == []


def test_records_of_all_are_one_message_unless_their_source_said_something_between() -> None:
    gathering = Gathering()
    for source in range(3):
        gathering.add(source, RECORDS[source])
        gathering.add(source, AsleepChanged(source, 1))
    gathering.add(3, RECORDS[3])
    gathering.add(1, RECORDS[5])
    first, *asleep, last = gathering.take()
    assert isinstance(first, Finished)
    assert isinstance(last, Finished)
    assert workers_of(first).tolist() == [0, 1, 2, 3]
    assert [type(one) for one in asleep] == [AsleepChanged] * 3
    assert last is RECORDS[5], "what is alone is not copied"


def test_answers_of_homes_are_one_message_and_can_be_joined_again() -> None:
    gathering = Gathering()
    for source in range(3):
        located = np.array([(source, source, 7, 5)] * 30, LOCATED)
        gathering.add(source, EpochApplied(source, 5, 9, located))
    gathering.add(1, EpochApplied(1, 6, 9))
    (joined,) = gathering.take()
    gathering.add(4, joined)
    gathering.add(0, RECORDS[0])
    gathering.add(3, EpochApplied(3, 5, 9))
    both, _ = gathering.take()
    assert isinstance(both, EpochsApplied)
    assert both.homes.tolist() == [0, 1, 2, 1, 3]
    assert both.epochs.tolist() == [5, 5, 5, 6, 5]
    assert both.located["page"].tolist() == ([0] * 30 + [1] * 30 + [2] * 30)[:LOCATED_PAGES_MAX]


def test_workers_that_are_ready_are_one_message_and_can_be_joined_again() -> None:
    gathering = Gathering()
    for source in (4, 3):
        gathering.add(source, WorkerReady(source))
    (joined,) = gathering.take()
    gathering.add(2, WorkerReady(2))
    assert gathering.take() == [WorkerReady(2)]
    gathering.add(7, WorkerReady(7))
    gathering.add(3, joined)
    (both,) = gathering.take()
    assert isinstance(both, WorkersReady)
    assert both.workers.tolist() == [7, 4, 3]


def test_a_joined_message_has_only_so_many_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "JOINED_RECORDS_MAX", 3)
    gathering = Gathering()
    for number in range(8):
        gathering.add(number % SOURCES, RECORDS[number])
    counts = [len(one.records) for one in gathering.take() if isinstance(one, Finished)]
    assert counts == [3, 3, 2]
    assert np.sum(counts) == 8


def test_a_message_larger_than_that_goes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker may send more at once: it is not refused, and nothing is put to it."""
    monkeypatch.setattr(module, "JOINED_RECORDS_MAX", 3)
    gathering = Gathering()
    large = message(1, [30, 31, 32, 33])
    for source, one in ((0, RECORDS[0]), (1, large), (2, RECORDS[2])):
        gathering.add(source, one)
    assert gathering.take() == [RECORDS[0], large, RECORDS[2]]
