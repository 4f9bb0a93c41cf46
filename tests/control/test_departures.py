"""Records leave in order, each behind the bytes that were staged for it."""

from __future__ import annotations

from typing import Any

import numpy as np

from dvm_mpi.control.delivery import COORDINATOR, Sent
from dvm_mpi.control.departures import Departures
from dvm_mpi.control.joining import encode_traps
from dvm_mpi.control.messages import RECORD, Finished
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.message_plane import MessagePlane
from dvm_mpi.dsm.messages import ArenaReleased, Staged
from dvm_mpi.engine.interface import End, OutcomeBatch
from dvm_mpi.layout import DATA_START, PAGE_BYTES
from tests.control.test_worker import outcomes

WORKER, SNAPSHOT = 4, 17
SLICE_BYTES, INLINE_BYTES_MAX = 64, 8


def departures(home_count: int = 1) -> Departures:
    """Return those of a worker whose staged bytes travel in messages; pages go round the homes."""
    geometry = Geometry(home_count, 1)
    return Departures(WORKER, geometry, MessagePlane(), SLICE_BYTES, INLINE_BYTES_MAX)


def records_of(ended: OutcomeBatch) -> Any:
    return np.zeros(len(ended.outcomes), RECORD)


def finished(ended: OutcomeBatch, records: Any) -> Finished:
    return Finished(
        worker=WORKER,
        records=records,
        outcomes=ended.outcomes,
        runs=ended.runs,
        data=ended.data,
        children=ended.children,
        child_ranges=ended.child_ranges,
        mallocs=ended.mallocs,
        console=ended.console,
        dropped_stacks=ended.dropped_stacks,
        traps=encode_traps(ended.traps),
        fetched_bytes=0,
        effort=0,
        loads=ended.loads,
        load_data=ended.load_data,
        leases=ended.leases,
    )


def end(leaving: Departures, *write_sets: tuple[int, int]) -> list[Sent]:
    """Let attempts end that store `length` bytes at `start` of the data."""
    ended = outcomes(*write_sets)
    records = records_of(ended)
    pieces = leaving.stage(ended, records, SNAPSHOT)
    sent = leaving.add(finished(ended, records), pieces, ended.data)
    leaving.check_invariants()
    return sent


def kinds(sent: list[Sent]) -> list[str]:
    return [type(message).__name__ for _, message in sent]


def test_a_record_waits_behind_an_earlier_one_that_has_not_left() -> None:
    """The second is small and needs no room: it leaves behind the first all the same."""
    leaving = departures()
    first = end(leaving, (100, 80))
    assert kinds(first) == ["Staged", "Staged"]
    assert end(leaving, (300, 3)) == []
    assert (leaving.are_waiting, leaving.wanted_home) == (True, 0)
    part = first[0][1]
    assert isinstance(part, Staged)
    rest = leaving.release(ArenaReleased(0, part.serial, part.part))
    leaving.check_invariants()
    assert kinds(rest) == ["Staged", "Finished", "Finished"]
    assert [target for target, _ in rest] == [("home", 0), COORDINATOR, COORDINATOR]
    left = [m.records["serial"].tolist() for _, m in rest if isinstance(m, Finished)]
    assert left == [[part.serial], [0]]
    assert (leaving.are_waiting, leaving.wanted_home) == (False, None)
    assert leaving.parts_under_way


def test_parts_for_several_homes_have_the_serial_of_their_write_set() -> None:
    """The first stores to both sides of a border between pages, whose homes differ."""
    leaving = departures(home_count=2)
    border = -DATA_START % PAGE_BYTES + PAGE_BYTES
    sent = end(leaving, (border - 20, 40), (border + 100, 20))
    parts = [(home, m.serial, m.part) for (_, home), m in sent if isinstance(m, Staged)]
    assert sorted(home for home, _, _ in parts[:2]) == [0, 1]
    assert [(serial, part) for _, serial, part in parts] == [(1, 0), (1, 0), (2, 0)]
    record = sent[-1][1]
    assert isinstance(record, Finished)
    assert record.records["serial"].tolist() == [1, 2]


def test_what_a_trapped_attempt_stored_is_not_staged() -> None:
    leaving = departures()
    ended = outcomes((0, 20), (100, 20))
    ended.outcomes["end"][0] = End.TRAP
    records = records_of(ended)
    pieces = leaving.stage(ended, records, SNAPSHOT)
    assert records["serial"].tolist() == [0, 1]
    assert [part.runs["start"].tolist() for _, part in pieces] == [[DATA_START + 100]]
