"""Which pages are fetched when."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvm_mpi import config
from dvm_mpi.dsm.messages import NO_FRAME, LookupAnswered
from dvm_mpi.dsm.snapshot import (
    FEW,
    SCANS_MAX,
    UNKNOWN_EPOCH,
    WALK_TRUSTED_TIMES,
    WALKS_MAX,
    ReadAhead,
    Walks,
    eager_pages,
    plan_delivery,
    plan_fetch,
    with_companions,
)
from dvm_mpi.engine.interface import gathered
from dvm_mpi.layout import PAGE_BYTES
from tests.properties import tried

GRANT = np.dtype([("start", "<i8"), ("length", "<i8"), ("newest", "<i8")])
FIRST = 1 << 30
WINDOW = config.READ_AHEAD_PAGES
GROWTH = config.READ_AHEAD_GROWTH


def grants(*rows):
    return np.array(list(rows), GRANT)


def page(number, offset=0):
    return number * PAGE_BYTES + offset


def test_small_ranges_are_fetched_before_the_start_and_large_ones_are_not():
    pages, newest = eager_pages(
        grants(
            (page(9, 4_000), 200, 3),
            (page(2), 0, 99),
            (page(50), config.EAGER_BYTES_MAX + 1, 7),
            (page(10, 8), 8, 5),
            (page(4), 1, 2),
        )
    )
    assert pages.tolist() == [4, 9, 10]
    assert newest.tolist() == [2, 3, 5], "a shared page has the newest of its ranges' epochs"


def test_a_range_of_the_limit_is_small():
    pages, _ = eager_pages(grants((page(3), config.EAGER_BYTES_MAX, 1)))
    assert pages.size == config.EAGER_BYTES_MAX // PAGE_BYTES


def test_a_batch_is_fetched_up_to_its_limit(monkeypatch):
    monkeypatch.setattr(config, "EAGER_BATCH_BYTES_MAX", 5 * PAGE_BYTES)
    pages, _ = eager_pages(grants(*((page(10 * k), 2 * PAGE_BYTES, 1) for k in range(4))))
    assert pages.tolist() == [0, 1, 10, 11]


def test_ranges_of_a_batch_on_the_same_pages_count_once(monkeypatch):
    """Thousands of runners declare neighbouring words: all their pages come before they start."""
    monkeypatch.setattr(config, "EAGER_BATCH_BYTES_MAX", 5 * PAGE_BYTES)
    words = ((page(7 + k // 512, k % 512 * 8), 8, k) for k in range(4 * 512))
    pages, newest = eager_pages(grants(*words, (page(20), 2, 1), (page(30), 2, 1)))
    assert pages.tolist() == [7, 8, 9, 10, 20]
    assert newest.tolist() == [511, 1_023, 1_535, 2_047, 1]


def test_nothing_declared_is_nothing_to_fetch():
    pages, newest = eager_pages(grants())
    assert pages.size == newest.size == 0


ROWS = st.lists(
    st.tuples(
        st.integers(0, 40 * PAGE_BYTES),
        st.sampled_from([0, 1, 8, 5_000, 20_000]),
        st.integers(0, 9),
    ),
    max_size=12,
)


@tried(100)
@given(rows=ROWS, most=st.integers(1, 30))
def test_few_ranges_are_fetched_as_many_are(rows, most):
    """The compiled loop and numpy agree; nobody fetches a page that nobody declared."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "EAGER_BATCH_BYTES_MAX", most * PAGE_BYTES)
        patch.setattr(config, "EAGER_BYTES_MAX", 19_000)
        few = eager_pages(grants(*rows))
        patch.setattr("dvm_mpi.dsm.snapshot.FEW", -1)
        many = eager_pages(grants(*rows))
    assert few[0].tolist() == many[0].tolist()
    assert few[1].tolist() == many[1].tolist()


def test_more_pages_than_few_are_found_as_well():
    pages, _ = eager_pages(grants((page(5), FEW * PAGE_BYTES, 1), (page(1), 1, 1)))
    assert pages.tolist() == [1, *range(5, 5 + FEW)]


def test_few_pages_that_may_be_needed_come_along_with_the_first():
    rows = grants((page(3), 8, 4), (page(7), 8, 2), (page(8), 8, 6), (page(50), 2 << 20, 9))
    touched = np.array([7]), np.array([2])
    pages, newest = with_companions(*touched, rows)
    assert (pages.tolist(), newest.tolist()) == ([7, 3, 8], [2, 4, 6])
    large = grants((page(7), 8, 2), (page(20), (config.COMPANION_PAGES_MAX + 1) * PAGE_BYTES, 5))
    assert with_companions(*touched, large)[0].tolist() == [7], "they would travel for nothing"


def nothing_held(pages):
    return np.zeros(len(pages), bool)


def follow(ahead, missed, *rows, held=nothing_held):
    pages, newest = ahead.plan(missed, grants(*rows), held)
    assert pages.tolist() == list(range(missed, missed + pages.size))
    assert newest.size == pages.size
    return pages.size


def test_a_scan_is_read_ahead_of_in_growing_steps():
    ahead, whole = ReadAhead(), (page(FIRST - 1), 1 << 42, 1)
    sizes, missed = [], FIRST + 5
    for _ in range(8):
        sizes.append(follow(ahead, missed, whole))
        missed += sizes[-1]
    most = config.READ_AHEAD_PAGES_MAX
    assert sizes == [1, *(min(WINDOW * GROWTH**k, most) for k in range(7))]
    assert sizes[-1] == most


def test_a_scan_begins_where_a_range_does():
    ahead, whole = ReadAhead(), (page(FIRST), 1 << 42, 1)
    assert follow(ahead, FIRST, whole, held=lambda pages: pages > 0) == WINDOW, "held or not"
    assert follow(ahead, FIRST + WINDOW, whole) == GROWTH * WINDOW
    assert follow(ahead, FIRST + 100_000, whole) == 1


def test_a_scan_from_the_beginning_of_a_range_goes_to_its_end():
    """Who declares so much, and reads it from its beginning, reads most probably all of it."""
    most = config.READ_AHEAD_PAGES_MAX
    ahead, whole = ReadAhead(), (page(FIRST), most * PAGE_BYTES, 1)
    assert follow(ahead, FIRST, whole) == WINDOW
    assert follow(ahead, FIRST + WINDOW, whole) == most - WINDOW
    ahead, larger = ReadAhead(), (page(FIRST), (most + 1) * PAGE_BYTES, 1)
    assert follow(ahead, FIRST, larger) == WINDOW
    assert follow(ahead, FIRST + WINDOW, larger) == GROWTH * WINDOW, "more than one fetch takes"


def test_less_is_read_ahead_where_content_waits_in_a_message():
    ahead, whole = ReadAhead(), (page(FIRST), 1 << 42, 1)
    sizes, missed = [], FIRST
    for _ in range(6):
        sizes.append(follow(ahead, missed, whole, held=None))
        missed += sizes[-1]
    assert sizes[0] == WINDOW
    assert sizes[-1] == config.CARRIED_AHEAD_PAGES_MAX
    ahead, short = ReadAhead(), (page(FIRST), config.READ_AHEAD_PAGES_MAX * PAGE_BYTES, 1)
    assert follow(ahead, FIRST, short, held=None) == WINDOW
    assert follow(ahead, FIRST + WINDOW, short, held=None) == GROWTH * WINDOW


def test_scattered_touches_fetch_single_pages():
    ahead, whole = ReadAhead(), (page(FIRST - 1), 1 << 42, 1)
    assert {follow(ahead, FIRST + 1_000 * k, whole) for k in range(50)} == {1}


def test_several_scans_at_a_time():
    """A runner that adds two arrays into a third walks through three places by turns."""
    ahead, whole = ReadAhead(), (page(FIRST - 1), 1 << 42, 1)
    places = [FIRST, FIRST + 100_000, FIRST + 200_000]
    for step in range(3):
        for number in range(3):
            size = follow(ahead, places[number], whole)
            assert size == (1, WINDOW, GROWTH * WINDOW)[step]
            places[number] += size


def test_the_scan_that_was_idle_longest_is_forgotten():
    ahead, whole = ReadAhead(), (page(FIRST - 1), 1 << 42, 1)
    follow(ahead, FIRST, whole)
    for k in range(SCANS_MAX):
        assert follow(ahead, FIRST + 1_000 * (k + 1), whole) == 1
    assert follow(ahead, FIRST + 1, whole) == 1
    assert follow(ahead, FIRST + 1_000 * SCANS_MAX + 1, whole) == WINDOW


def test_a_scan_fetches_at_once_what_was_held_before():
    """The second touch says that it is a scan; old versions, that others went the same way."""
    count = 3 * WINDOW * WINDOW
    ahead, whole = ReadAhead(), (page(FIRST - 1), 1 << 42, 1)

    def held(pages):
        return pages < FIRST + count

    assert follow(ahead, FIRST, whole, held=held) == 1
    assert follow(ahead, FIRST + 1, whole, held=held) == count - 1
    assert follow(ahead, FIRST + count, whole, held=held) == GROWTH * WINDOW
    short = (page(FIRST - 1), (count - 4) * PAGE_BYTES, 1)
    ahead = ReadAhead()
    assert follow(ahead, FIRST, short, held=held) == 1
    assert follow(ahead, FIRST + 1, short, held=held) == count - 6


def held_of(pages):
    return pages < FIRST + 1_000


def walk(walks, *, goes_on):
    """Let an attempt touch a range from its beginning; return what is fetched at each miss."""
    ahead, whole = ReadAhead(walks), (page(FIRST), 1 << 42, 1)
    sizes = [follow(ahead, FIRST, whole, held=held_of)]
    if goes_on and sizes[0] < 1_000:
        sizes.append(follow(ahead, FIRST + sizes[0], whole, held=held_of))
    return sizes


def test_who_walked_on_from_a_beginning_is_expected_to_do_so_again():
    walks = Walks()
    assert walk(walks, goes_on=False) == [WINDOW]
    assert walk(walks, goes_on=True) == [WINDOW, 1_000 - WINDOW]
    for _ in range(WALK_TRUSTED_TIMES):
        assert walk(walks, goes_on=True) == [1_000]
    # Whether they did cannot be seen.
    assert walk(walks, goes_on=True) == [WINDOW, 1_000 - WINDOW]
    assert walk(walks, goes_on=True) == [1_000]


def test_only_walks_from_a_beginning_are_expected_again():
    walks, whole = Walks(), (page(FIRST), 1 << 42, 1)
    amid = ReadAhead(walks)
    assert follow(amid, FIRST + 5, whole, held=held_of) == 1
    assert follow(amid, FIRST + 6, whole, held=held_of) > 1
    assert walk(walks, goes_on=False) == [WINDOW]
    assert not walks.expects(FIRST + 5)


def test_walks_are_forgotten_where_there_are_many():
    walks = Walks()
    for begins in range(WALKS_MAX + 1):
        walks.saw(begins)
    assert [walks.expects(begins) for begins in (0, 1, WALKS_MAX)] == [False, True, True]


def test_what_is_fetched_at_once_is_limited(monkeypatch):
    monkeypatch.setattr(config, "REFETCH_PAGES_MAX", 10 * WINDOW)
    ahead, whole = ReadAhead(), (page(FIRST - 1), 1 << 42, 1)
    assert follow(ahead, FIRST, whole, held=lambda pages: pages > 0) == 1
    assert follow(ahead, FIRST + 1, whole, held=lambda pages: pages > 0) == 10 * WINDOW


def test_reading_ahead_stays_within_the_declared_range():
    ahead, short = ReadAhead(), (page(FIRST - 1, 100), 4 * PAGE_BYTES, 4)
    assert follow(ahead, FIRST, short) == 1
    assert follow(ahead, FIRST + 1, short) == 3, "four pages of the range are left"
    assert follow(ReadAhead(), FIRST - 1, short) == 5, "a scan begins where the range does"


def test_pages_read_ahead_have_the_newest_epoch_of_whatever_touches_them():
    ahead = ReadAhead()
    rows = grants((page(FIRST - 1), 1 << 42, 4), (page(FIRST + 3), 8, 9))
    assert ahead.plan(FIRST, rows, nothing_held)[1].tolist() == [4]
    assert set(ahead.plan(FIRST + 1, rows, nothing_held)[1].tolist()) == {9}


def test_nothing_is_known_of_an_undeclared_page():
    pages, newest = ReadAhead().plan(77, grants((page(FIRST), 8, 4)), nothing_held)
    assert (pages.tolist(), newest.tolist()) == ([77], [UNKNOWN_EPOCH])


def test_an_answer_is_divided_into_what_is_cached_and_what_is_read():
    answer = LookupAnswered(
        home=2,
        ticket=1,
        pages=np.array([10, 11, 12, 13, 14]),
        frames=np.array([7, NO_FRAME, 6, 9, 5]),
        versions=np.array([3, 0, 4, 4, 2]),
        until=np.array([8, 9, 10, 11, 12]),
        content=np.empty(0, np.uint8),
    )
    fetch = plan_fetch(answer, cached_versions=np.array([3, -1, 3, -1, -1]))
    assert (fetch.home, fetch.renewed.tolist(), fetch.renewed_until.tolist()) == (2, [10], [8])
    rows = zip(fetch.frames, fetch.pages, fetch.versions, fetch.until, strict=True)
    assert [tuple(map(int, row)) for row in rows] == [
        (NO_FRAME, 11, 0, 9),
        (5, 14, 2, 12),
        (6, 12, 4, 10),
        (9, 13, 4, 11),
    ]


def test_an_answer_with_content_is_divided_into_what_is_cached_and_what_has_come():
    """Page 11 was held when it was asked for, and has been pushed out since; 14 is zero."""
    pages = [10, 11, 12, 13, 14, 15]
    content = np.repeat([1, 2], PAGE_BYTES).astype(np.uint8)
    answer = LookupAnswered(
        home=2,
        ticket=1,
        pages=np.array(pages),
        frames=np.array([7, 4, 6, 9, NO_FRAME, NO_FRAME]),
        versions=np.array([3, 5, 4, 4, 0, 0]),
        until=np.array([8, 9, 10, 11, 12, 13]),
        content=content,
    )
    held, now = np.array([3, 5, 3, -1, -1, 0]), np.array([3, -1, 3, -1, -1, 0])
    fetch, new = plan_delivery(answer, held, now)
    assert (fetch.renewed.tolist(), fetch.renewed_until.tolist()) == ([10, 15], [8, 13])
    ends = gathered(new.memory, new.rows)[:, -1]
    rows = zip(fetch.pages, fetch.frames, fetch.versions, fetch.until, ends, strict=True)
    assert [tuple(map(int, row)) for row in rows] == [
        (12, 6, 4, 10, 1),
        (13, 9, 4, 11, 2),
        (14, NO_FRAME, 0, 12, 0),
    ]


def test_an_answer_without_its_content_is_our_fault():
    one = np.array([1])
    answer = LookupAnswered(0, 1, one, one, one, one, np.empty(0, np.uint8))
    with pytest.raises(AssertionError, match="an answer without its content"):
        plan_delivery(answer, np.array([-1]), np.array([-1]))
