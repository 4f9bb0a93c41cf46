"""Who has pages as they are now, beside a dictionary that forgets nothing."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dvm_mpi.config import HOLDERS_KEPT, HOLDERS_SLOTS, HOLDERS_SPOTS_MAX, NEAR_BYTES_MIN
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.hashing import home_slot
from dvm_mpi.dsm.holders import ANYONE, Holders
from dvm_mpi.layout import PAGE_BYTES, RANGE
from tests.properties import tried

WORKERS = 4
GEOMETRY = Geometry(home_count=WORKERS, block_pages=2)

Pages = tuple[int, int]


def ranges_of(*pages: Pages) -> np.ndarray:
    """Return ranges of whole pages, from `(first, count)`."""
    return np.array([(first * PAGE_BYTES, count * PAGE_BYTES) for first, count in pages], RANGE)


def told(holders: Holders, *pages: Pages, newest: int = 0) -> tuple[int, list[int]]:
    """Return the worker that one runner is near to, and what is told of how near."""
    epochs = np.full(len(pages), newest)
    near, had = holders.nearest(ranges_of(*pages), np.array([len(pages)]), epochs)
    return int(near[0]), had[0].tolist()


def nearest(holders: Holders, *pages: Pages, newest: int = 0) -> int:
    """Return the worker that one runner is near to."""
    return told(holders, *pages, newest=newest)[0]


def note(holders: Holders, *pages: Pages, worker: int, epoch: int = 1, newest: int = 0) -> None:
    workers = np.full(len(pages), worker)
    holders.note(ranges_of(*pages), np.full(len(pages), newest), workers, epoch)


def test_at_first_the_home_has_pages_and_then_also_who_was_sent_them() -> None:
    holders = Holders(GEOMETRY, WORKERS)
    assert [nearest(holders, (page, 1)) for page in (0, 2, 7, 8)] == [0, 1, 3, 0]
    # Of pages of several homes, who had all of them is best; of one home, who had them last.
    assert nearest(holders, (1, 4)) == 1
    note(holders, (1, 4), worker=3)
    assert nearest(holders, (1, 4)) == 3
    assert nearest(holders, (1, 1)) == 3
    assert nearest(holders, (0, 1)) == 0


def test_what_has_been_stored_to_since_only_the_home_has() -> None:
    holders = Holders(GEOMETRY, WORKERS)
    note(holders, (0, 8), worker=3, epoch=5)
    assert nearest(holders, (1, 4), newest=5) == 3
    assert nearest(holders, (1, 4), newest=6) == 1
    note(holders, (0, 8), worker=0, epoch=6, newest=6)
    assert nearest(holders, (1, 4), newest=6) == 0, "worker 3 has old ones"


def test_what_changes_again_and_again_counts_twice() -> None:
    """It travels there and back, what is only read there only, and once."""
    holders = Holders(GEOMETRY, WORKERS)
    note(holders, (0, 2), (4, 2), worker=3, epoch=5)
    ranges, counts = ranges_of((0, 2), (4, 2)), np.array([2])
    assert holders.nearest(ranges, counts, np.array([0, 6]))[0].tolist() == [2]
    assert holders.nearest(ranges, counts, np.array([6, 0]))[0].tolist() == [0]


def test_a_long_stretch_is_at_all_the_homes_that_its_blocks_have() -> None:
    """What is looked at lies as far apart as blocks of one home do."""
    count = 2 * WORKERS * HOLDERS_SPOTS_MAX * GEOMETRY.block_pages
    near, (asked, best, second) = told(Holders(GEOMETRY, WORKERS), (0, count))
    assert near in range(WORKERS)
    assert asked == count * PAGE_BYTES
    assert asked // (2 * WORKERS) <= second <= best <= asked // 2


def test_short_ranges_count_for_nothing() -> None:
    holders = Holders(GEOMETRY, WORKERS)
    short = np.array([(2 * PAGE_BYTES, NEAR_BYTES_MIN - 1)], RANGE)
    holders.note(short, np.zeros(1, np.int64), np.array([3]), 1)
    assert holders.nearest(short, np.array([1]), np.zeros(1, np.int64))[0].tolist() == [ANYONE]
    enough = np.array([(2 * PAGE_BYTES, NEAR_BYTES_MIN)], RANGE)
    assert holders.nearest(enough, np.array([1]), np.zeros(1, np.int64))[0].tolist() == [1]


def test_runners_of_a_batch_are_told_apart() -> None:
    holders = Holders(GEOMETRY, WORKERS)
    found, _ = holders.nearest(
        ranges_of((0, 1), (2, 2), (7, 1)), np.array([2, 0, 1, 0]), np.zeros(3, np.int64)
    )
    assert found.tolist() == [1, ANYONE, 3, ANYONE]


def test_the_last_few_workers_of_each_page_are_remembered() -> None:
    holders = Holders(Geometry(8, 2), 8)
    sent = [*range(1, HOLDERS_KEPT + 2), 2]
    for worker in sent:
        note(holders, (0, 2), worker=worker)
    kept = {worker for worker in range(8) if _has(holders, worker)}
    assert kept == {0, *sent[-HOLDERS_KEPT:]}


def _has(holders: Holders, worker: int) -> bool:
    """Whether a worker has pages 0 and 1: with one more that is its own it has most."""
    own = 2 * worker if worker else 16
    return nearest(holders, (0, 2), (own, 1)) == worker


def test_more_pages_than_slots_are_forgotten_and_never_mistaken() -> None:
    holders = Holders(Geometry(2, 1), 5)
    pages = np.arange(3 * HOLDERS_SLOTS)
    ranges = np.zeros(pages.size, RANGE)
    ranges["start"], ranges["length"] = pages * PAGE_BYTES, PAGE_BYTES
    never = np.zeros(pages.size, np.int64)
    holders.note(ranges, never, np.full(len(ranges), 4), 1)
    # Beside the home's own page another one, which the home of the first does not have.
    firsts, others = pages[:-1], pages[1:]
    pairs = np.stack([ranges[firsts], ranges[others]], axis=1).reshape(-1)
    counts = np.full(firsts.size, 2)
    found, _ = holders.nearest(pairs, counts, np.zeros(pairs.size, np.int64))
    assert set(found.tolist()) <= {0, 1, 4}
    assert HOLDERS_SLOTS // 4 < (found == 4).sum() < HOLDERS_SLOTS


def spots_of(first: int, count: int) -> tuple[int, list[int]]:
    """Return the pages that stand for a stretch, and how far apart they are."""
    distance = 1
    while count > distance * HOLDERS_SPOTS_MAX:
        distance *= 2
    return distance, [page for page in range(first, first + count) if page % distance == 0]


STRETCHES = st.tuples(st.integers(0, 60), st.integers(1, 5) | st.integers(17, 70))


@given(
    steps=st.lists(
        st.tuples(
            st.lists(STRETCHES, min_size=1, max_size=3),
            st.integers(0, WORKERS - 1),
            st.integers(0, 3),
        ),
        max_size=12,
    ),
    asked=st.lists(STRETCHES, min_size=1, max_size=3),
    changed=st.integers(0, 14),
)
@tried(150)
def test_who_has_most_has_most_by_counting(
    steps: list[tuple[list[Pages], int, int]], asked: list[Pages], changed: int
) -> None:
    holders = Holders(GEOMETRY, WORKERS)
    kept: dict[int, tuple[int, list[int]]] = {}
    for epoch, (stretches, worker, age) in enumerate(steps, 1):
        newest = max(epoch - age, 0)
        note(holders, *stretches, worker=worker, epoch=epoch, newest=newest)
        for stretch in stretches:
            for page in spots_of(*stretch)[1]:
                since, had = kept.get(page, (-1, []))
                had = [] if newest > since else had
                kept[page] = epoch, [worker, *(w for w in had if w != worker)][:HOLDERS_KEPT]
    scores: dict[int, int] = defaultdict(int)
    total = 0
    for first, count in asked:
        distance, spots = spots_of(first, count)
        weight = count * PAGE_BYTES * distance // count
        for page in spots:
            lies = min(page + home_slot(page, distance - 1), first + count - 1)
            home = int(GEOMETRY.home_of(np.array([lies]))[0])
            since, had = kept.get(page, (1 << 60, []))
            scores[home] += weight * (2 if changed > since else 1)
            total += weight * (2 if changed > since else 1)
            for holder in [] if changed > since else had:
                scores[holder] += weight if holder != home else 0
    near, had = told(holders, *asked, newest=changed)
    best, second = sorted([*scores.values(), 0], reverse=True)[:2]
    assert scores[near] == best
    assert had == [total, best, second]
