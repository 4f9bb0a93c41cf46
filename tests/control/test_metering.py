"""Meters against a naive model: every microsecond belongs to one activity, whatever happens."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvm_mpi import config
from dvm_mpi.control.messages import SPAN
from dvm_mpi.control.metering import ACTIVITIES, MARKS, SUMS, Activity, Meter, RankMeters
from tests.properties import tried

TURN = st.tuples(
    st.lists(st.tuples(st.sampled_from(list(Activity)), st.integers(0, 50_000)), max_size=5),
    st.integers(0, 3_000),
    st.sampled_from([None, Activity.WAITING, Activity.IDLE]),
)


def spans_of(turns: list[Any], ranks: int = 1) -> tuple[np.ndarray, dict[Activity, int], int]:
    """Play turns; return the spans, what a naive book says, and the time that passed."""
    now = 1_000_000
    meter = Meter(now, ranks)
    book = dict.fromkeys(Activity, 0)
    told = []
    for marks, rest, nothing_but in turns:
        own = dict.fromkeys(Activity, 0)
        for activity, duration in marks:
            now += duration
            own[activity] += duration
            meter.mark(activity, now)
        meter.executed(7)
        now += rest
        own[Activity.SERVING] += rest
        meter.end_turn(now, nothing_but)
        if nothing_but is not None:
            own = {nothing_but: sum(own.values())}
        for activity, duration in own.items():
            book[activity] += duration
        if meter.is_span_over:
            meter.end_span(100, 200, 300)
        if meter.is_due:
            told.append(meter.take())
    meter.end_span(100, 200, 300)
    told.append(meter.take())
    return np.concatenate(told), book, now - 1_000_000


@tried(100)
@given(st.lists(TURN, max_size=30), st.sampled_from([1, 4096]))
def test_spans_hold_all_of_the_time_once(turns: list[Any], ranks: int) -> None:
    spans, book, passed = spans_of(turns, ranks)
    assert {a: int(spans[a.name.lower()].sum()) for a in Activity} == book
    assert sum(book.values()) == passed
    inside = np.sum([spans[name] for name in ACTIVITIES], axis=0)
    assert (inside == spans["end_us"] - spans["begin_us"]).all()
    assert (spans["begin_us"][1:] == spans["end_us"][:-1]).all()
    if len(spans):
        assert (spans["begin_us"][0], spans["end_us"][-1]) == (0, passed)


def test_nobody_hears_more_of_many_ranks_than_of_few() -> None:
    def told_in(ranks: int) -> tuple[int, int]:
        meter, spans, messages = Meter(0, ranks), 0, 0
        for now in range(0, 60_000_000, 1_000):
            meter.end_turn(now, Activity.IDLE)
            if meter.is_span_over:
                meter.end_span(0, 0, 0)
            if meter.is_due:
                spans += len(meter.take())
                messages += 1
        return spans * ranks, messages * ranks

    assert told_in(1)[1] == 59
    spans, messages = told_in(4096)
    assert messages <= 60 * 256
    assert spans <= 60 * 256 * 50


def span(
    begin: int, end: int, executing: int, instructions: int = 0, memory: int = 0
) -> np.ndarray:
    row = np.zeros(1, SPAN)
    row["begin_us"], row["end_us"] = begin, end
    row["executing"], row["idle"] = executing, end - begin - executing
    row["instructions"] = instructions
    row["resident_bytes"] = memory
    return row


SPANS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(1, 300_000), st.integers(0, 100)), max_size=30
)


@tried(100)
@given(SPANS)
def test_buckets_against_a_naive_model(drawn: list[Any]) -> None:
    meters = RankMeters(6, cells_max=6 * 8)
    at = [0] * 6
    pieces: list[tuple[int, int, int, int]] = []
    for rank, length, share in drawn:
        begin, end = at[rank], at[rank] + length
        at[rank] = end
        meters.add(rank, f"host{rank}", span(begin, end, length * share // 100, memory=share))
        pieces.append((rank, begin, end, length * share // 100))
    width = meters.bucket_us
    executing = meters.sums[:, :, Activity.EXECUTING]
    for rank in range(6):
        for bucket in range(meters.bucket_count):
            low, high = bucket * width, (bucket + 1) * width
            wanted = sum(
                Fraction(amount * max(0, min(end, high) - max(begin, low)), end - begin)
                for of, begin, end, amount in pieces
                if of == rank
            )
            # A piece is rounded down at both of its ends, in every width that there was.
            assert abs(executing[rank, bucket] - wanted) <= 8 * (1 + len(pieces))
        assert executing[rank].sum() == sum(p[3] for p in pieces if p[0] == rank)
    wall = meters.sums[:, :, : len(ACTIVITIES)].sum(axis=2)
    assert (wall <= width + len(ACTIVITIES) * (1 + len(pieces))).all()
    assert wall.sum() == sum(at)
    assert meters.totals[:, : len(ACTIVITIES)].sum() == sum(at)


def test_buckets_get_wider_and_keep_what_they_hold() -> None:
    meters = RankMeters(1, cells_max=4)
    width = config.SPAN_US_MIN
    for number in range(64):
        begin = number * width
        meters.add(0, "h", span(begin, begin + width, width // 2, 1_000, memory=number))
    assert meters.bucket_us == 16 * width
    assert meters.sums[0, :, SUMS.index("instructions")].tolist() == [16_000] * 4
    assert meters.marks[:, MARKS.index("resident_bytes")].tolist() == [15, 31, 47, 63]
    assert meters.highest[0].tolist() == [63, 0, 0]


def test_one_span_may_be_longer_than_all_buckets() -> None:
    meters = RankMeters(1)
    hour = 3_600_000_000
    meters.add(0, "h", span(0, hour, hour, instructions=10**15))
    told = meters.sums[0]
    assert told[:, Activity.EXECUTING].sum() == hour
    assert told[:, SUMS.index("instructions")].sum() == 10**15
    assert meters.bucket_count <= config.BUCKETS_MAX
    assert (np.diff(told[:-1, Activity.EXECUTING]) == 0).all()


def test_a_span_of_days_in_which_a_job_was_suspended_beside_a_short_one() -> None:
    meters = RankMeters(1)
    days = 3 * 24 * 3_600_000_000
    rows = [span(0, 5, 3), span(5, days, days - 1_000, instructions=10**15 + 7)]
    meters.add(0, "h", np.concatenate(rows))
    told = meters.sums[0]
    assert told[:, Activity.EXECUTING].sum() == days - 997
    assert told[:, SUMS.index("instructions")].sum() == 10**15 + 7
    assert (told >= 0).all()
    executing = told[1:-1, Activity.EXECUTING]
    assert (abs(executing - meters.bucket_us) <= meters.bucket_us // 100).all()


def test_thousands_of_ranks_are_joined_to_groups() -> None:
    meters = RankMeters(4_096)
    assert (meters.ranks_per_group, meters.group_count) == (32, 128)
    width = config.SPAN_US_MIN
    for rank in range(4_096):
        meters.add(rank, "h", span(0, width, width if rank < 32 else 0))
    assert meters.sums[0, 0, Activity.EXECUTING] == 32 * width
    assert meters.sums[1, 0, Activity.EXECUTING] == 0
    assert meters.sums.shape[0] * meters._buckets_max <= config.METER_CELLS_MAX


def test_spans_of_ranks_that_began_later_stand_where_they_belong() -> None:
    width = config.SPAN_US_MIN
    meters = RankMeters(2, begins_us=7_000)
    meters.add(0, "a", span(0, width, width), from_us=7_000)
    meters.add(1, "b", span(0, width, width), from_us=7_000 + 3 * width)
    meters.add(1, "b", span(width, 2 * width, 5), from_us=7_000 + 3 * width)
    executing = meters.sums[:, :, Activity.EXECUTING].tolist()
    assert executing == [[width, 0, 0, 0, 0], [0, 0, 0, width, 5]]
    assert meters.totals[1, Activity.EXECUTING] == width + 5


def test_what_came_before_the_first_bucket_is_in_it() -> None:
    """A clock is known up to an error."""
    meters = RankMeters(1, begins_us=7_000)
    rows = [span(0, 10, 10, 3), span(10, 100, 90, 4), span(100, 300, 200, 5)]
    meters.add(0, "a", np.concatenate(rows), from_us=6_800)
    assert meters.sums[0, :, Activity.EXECUTING].tolist() == [300]
    assert meters.sums[0, :, SUMS.index("instructions")].tolist() == [12]


@pytest.mark.parametrize(("ranks", "groups"), [(1, 1), (128, 128), (129, 65), (300, 100)])
def test_every_rank_has_a_group(ranks: int, groups: int) -> None:
    meters = RankMeters(ranks)
    assert meters.group_count == groups
    meters.add(ranks - 1, "h", span(0, 10, 10))
    assert meters.sums[-1].sum() == 10


def test_a_rank_with_nothing_to_tell_still_has_a_host() -> None:
    meters = RankMeters(2)
    meters.add(1, "node1", np.zeros(0, SPAN))
    assert meters.hosts == ["", "node1"]
    assert meters.bucket_count == 0
