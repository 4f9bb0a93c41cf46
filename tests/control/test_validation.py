"""What makes a record lose: loaded bytes under `serializable`, whole pages by `--conflict-unit`."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dvm_mpi.control.validation import ConflictUnit, Footprints, Validation
from dvm_mpi.dsm.conflict import ConflictSet
from dvm_mpi.engine.interface import End, TrapKind
from dvm_mpi.layout import PAGE_BYTES, RANGE
from tests.control.coordinator import (
    A,
    B,
    C,
    Child,
    Coordinator,
    D,
    Ends,
    Span,
    X,
    Y,
    Z,
    with_children,
)

BASE = 1 << 40


def serializable(*children: Child, **options: Any) -> Coordinator:
    return with_children(*children, isolation="serializable", **options)


# --- beside a dictionary of bytes ---------------------------------------------------------------
class NaiveHistory:
    """The epoch of the last store to each unit, one entry each."""

    def __init__(self, unit_bytes: int) -> None:
        self._unit_bytes = unit_bytes
        self._epoch_of: dict[int, int] = {}

    def _units(self, spans: list[Span]) -> set[int]:
        return {a // self._unit_bytes for s, n in spans for a in range(s, s + n)}

    def take(self, snapshot: int, stores: list[Span], loads: list[Span], epoch: int) -> int:
        """Decide one record; return 0 if it wins."""
        wanted = self._units(stores) | self._units(loads)
        newest = max((self._epoch_of.get(unit, 0) for unit in wanted), default=0)
        if newest > snapshot:
            return newest
        self._epoch_of.update(dict.fromkeys(self._units(stores), epoch))
        return 0


def ragged(groups: list[list[Span]]) -> tuple[NDArray[np.int64], NDArray[Any]]:
    offsets = np.cumsum([0] + [len(group) for group in groups])
    return offsets, np.array([span for group in groups for span in group], dtype=RANGE)


@pytest.mark.parametrize("unit", ["byte", "page"])
@pytest.mark.parametrize("seed", range(15))
def test_decisions_match_a_dictionary(seed: int, unit: ConflictUnit) -> None:
    """Records that store and load at random; what is exact to the byte stays so in any unit."""
    rng = random.Random(seed)
    span = 40 if unit == "byte" else 6 * PAGE_BYTES
    validation, exact = Validation(unit), ConflictSet()
    naive = NaiveHistory(1 if unit == "byte" else PAGE_BYTES)
    last_store: dict[int, int] = {}

    def spans(count: int) -> list[Span]:
        return [(BASE + rng.randrange(span), rng.randrange(1, 9)) for _ in range(count)]

    for epoch in range(2, 14):
        records = []
        for _ in range(rng.randrange(1, 9)):
            snapshot = rng.randrange(max(epoch - 4, 1), epoch)
            records.append((snapshot, spans(rng.randrange(3)), spans(rng.choice([0, 2]))))
        footprints = Footprints(
            np.array([snapshot for snapshot, _, _ in records]),
            *ragged([stores for _, stores, _ in records]),
            *ragged([loads for _, _, loads in records]),
        )
        enter = np.ones(len(records), dtype=bool)
        expected = [naive.take(*record, epoch) for record in records]
        assert validation.resolve(exact, footprints, enter, epoch).tolist() == expected
        for (_, stores, _), against in zip(records, expected, strict=True):
            if against == 0:
                last_store |= {a: epoch for s, n in stores for a in range(s, s + n)}
        asked = np.array([(BASE + rng.randrange(span), 1) for _ in range(20)], dtype=RANGE)
        newest = [last_store.get(int(start), 0) for start in asked["start"]]
        assert exact.newest(asked).tolist() == newest


# --- loads --------------------------------------------------------------------------------------
@pytest.mark.parametrize("end", [End.COMMIT, End.TRAP])
def test_who_loaded_what_changed_runs_again(end: End) -> None:
    c = serializable(Child(A), Child(B))
    reader = c.one(A)
    c.ends(c.one(B), stores=[X])
    lost_to = c.orders[-1].epoch
    trap = TrapKind.DIVISION_BY_ZERO if end is End.TRAP else -1
    c.ends(reader, end, loads=[(X + 7, 1)], trap=trap)
    assert c.scheduler.counters.retries == 1
    c.apply()
    assert c.one(A).snapshot >= lost_to
    assert not c.has_ended


def test_loads_do_not_count_under_snapshot_isolation() -> None:
    c = with_children(Child(A), Child(B))
    reader = c.one(A)
    c.ends(c.one(B), stores=[X])
    c.ends(reader, loads=[(X, 8)])
    assert c.scheduler.counters.retries == 0


def test_an_abort_answers_for_its_loads_if_it_publishes() -> None:
    """One that publishes nothing could as well have run on its snapshot."""
    c = serializable(Child(A), Child(B), Child(C))
    silent, telling = c.one(A), c.one(B)
    c.ends(c.one(C), stores=[X])
    c.ends(silent, End.ABORT, loads=[(X, 8)])
    assert c.scheduler.counters.retries == 0
    c.ends(telling, End.ABORT, stores=[telling.id], loads=[(X, 8)])
    assert c.scheduler.counters.retries == 1


def test_an_abort_that_deletes_its_template_publishes() -> None:
    c = serializable(Child(A, watched=[(Y, 8)]), Child(B), Child(C))
    c.ends(c.one(B), stores=[Y], children=[Child(D)])
    c.apply()
    instance = c.one(A)
    c.ends(c.one(C), stores=[X])
    c.ends(instance, End.ABORT_DELETE, loads=[(X, 8)])
    assert c.scheduler.counters.retries == 1


def test_of_a_write_skew_one_runs_again() -> None:
    """Each has loaded what the other stores; in one message, so in one batch."""
    c = serializable(Child(A), Child(B), workers=1)
    both = [(X, 8), (Y, 8)]
    a, b = c.one(A), c.one(B)
    c.finish(Ends(a, stores=[X], loads=both), Ends(b, stores=[Y], loads=both))
    assert c.scheduler.counters.retries == 1
    assert c.order[-1] == a.number
    c.apply()
    assert c.one(B).snapshot >= c.orders[-1].epoch


def test_a_reader_between_two_writers_sees_one_order() -> None:
    """The anomaly of a read-only runner: it saw A's store, so C, which did not, comes after it."""
    c = serializable(Child(A), Child(B), Child(C))
    late = c.one(C)
    c.ends(c.one(A), stores=[X], children=[Child(D)])
    c.apply()
    c.ends(c.one(D), loads=[(X, 8), (Y, 8)], console=b"seen")
    c.ends(late, stores=[Y], loads=[(X, 8), (Y, 8)])
    assert c.scheduler.counters.retries == 1
    c.apply()
    assert c.one(C).snapshot > late.snapshot


def test_loads_of_dropped_records_are_not_taken_for_those_of_others() -> None:
    """A fenced record of a message goes; the rows of what is left must follow."""
    c = serializable(Child(A), Child(B), Child(C), Child(D), workers=1)
    a, b, third = c.one(A), c.one(B), c.one(C)
    c.ends(c.one(D), stores=[X])
    stale = Ends(a, loads=[(X, 8)])
    message = c.record(stale, Ends(b, loads=[(Y, 8)]), Ends(third, loads=[(Y, 8), (X, 8)]))
    message.records["attempt"][0] += 1_000
    del c.running[b.number], c.running[third.number]
    c.handle(message)
    assert c.order[-1] == b.number
    assert c.scheduler.counters.retries == 1


def test_a_starving_reader_reserves_what_it_loads() -> None:
    """After three losses others that store there wait; those that load there do not."""
    c = serializable(Child(A), Child(B), workers=8)
    for children in ([Child(B)], [Child(B)], [Child(B), Child(C)]):
        reader = c.one(A)
        c.ends(c.one(B), stores=[X], children=children)
        c.ends(reader, stores=[Y], loads=[(X, 8)])
        c.apply()
    assert c.scheduler.counters.retries == 3
    reader, rival, other = c.one(A), c.one(B), c.one(C)
    c.ends(rival, stores=[X])
    assert rival.number not in c.order, "held back"
    c.ends(other, stores=[Z], loads=[(X, 8)])
    assert c.order[-1] == other.number
    c.ends(reader, stores=[Y], loads=[(X, 8)])
    assert c.order[-2:] == [reader.number, rival.number]


# --- pages --------------------------------------------------------------------------------------
def test_neighbours_conflict_if_the_unit_is_the_page() -> None:
    c = with_children(Child(A), Child(B), Child(C), conflict_unit="page")
    neighbour, apart = c.one(B), c.one(C)
    c.ends(c.one(A), stores=[X])
    c.ends(neighbour, stores=[X + PAGE_BYTES - 8])
    assert c.scheduler.counters.retries == 1
    c.ends(apart, stores=[X + PAGE_BYTES])
    assert c.scheduler.counters.retries == 1


def test_watchers_are_woken_by_their_bytes_whatever_the_unit() -> None:
    """A store beside the watched bytes, after the creator's snapshot, wakes nobody."""
    c = with_children(Child(A), Child(B), Child(C), conflict_unit="page")
    creator = c.one(A)
    c.ends(c.one(B), stores=[X + 64])
    c.ends(creator, children=[Child(D, watched=[(X, 8)])])
    c.apply()
    assert c.runs(D) == []
    c.ends(c.one(C), children=[Child(B), Child(C)])
    c.apply()
    c.ends(c.one(B), stores=[X + 4])
    c.apply()
    assert len(c.runs(D)) == 1


def test_a_starving_runner_reserves_whole_pages() -> None:
    c = with_children(Child(A), Child(B), workers=8, conflict_unit="page")
    for _ in range(3):
        loser = c.one(A)
        c.ends(c.one(B), stores=[X + 64], children=[Child(B)])
        c.ends(loser, stores=[X])
        c.apply()
    rival = c.one(B)
    c.ends(rival, stores=[X + 128])
    assert rival.number not in c.order
    c.ends(c.one(A), stores=[X])
    assert c.scheduler.counters.retries == 4


def test_pages_and_bytes_are_forgotten_together() -> None:
    """An old range must not be asked about; both sets know the horizon."""
    c = with_children(Child(A), conflict_unit="page")
    for _ in range(5):
        c.ends(c.one(A), stores=[X], children=[Child(A)])
        c.apply()
    pages = c.scheduler.state.validation._pages
    assert pages is not None
    assert pages._horizon == c.scheduler.state.conflicts._horizon > 1
