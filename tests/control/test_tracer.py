"""What is noted of workers and homes; whole traces are in tests/cli and tests/ranks."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dvm_mpi import config
from dvm_mpi.control.journal import Gauge, Journal, RowKind
from dvm_mpi.control.tracer import (
    Gauges,
    _EndTimes,
    flush_interval_s,
    rows_between_flushes,
)
from tests.properties import tried


@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(st.integers(0, 5_000), st.integers(1, 900)), min_size=1, max_size=4),
            st.integers(0, 3),
        ),
        min_size=1,
        max_size=12,
    ),
    st.data(),
)
@tried(150)
def test_attempts_end_in_order_within_their_slices(rounds, data) -> None:
    """Slices with gaps; between two records some attempts end, and one may go on."""
    times, now, executed, told = _EndTimes(), 0, 0, 0
    last_end = 0
    for slices, count in rounds:
        window_begin = None
        for gap, instructions in slices:
            begin = now + gap
            now = begin + instructions * 3
            window_begin = begin if window_begin is None else window_begin
            times.ran(begin, now, instructions)
            executed += instructions
        room = executed - told
        cuts = sorted(data.draw(st.lists(st.integers(0, room), min_size=count, max_size=count)))
        lengths = np.diff([0, *cuts]).astype(np.int64)
        begins, ends = times.divide(lengths)
        told += int(lengths.sum())
        assert len(begins) == len(ends) == count
        bounds = np.stack([begins, ends]).T.reshape(-1)
        assert (np.diff(bounds) >= 0).all()
        if count:
            assert bounds[0] >= last_end
            assert last_end <= bounds[-1] <= now
            last_end = int(bounds[-1])


def test_an_attempt_that_began_before_the_last_record_began_then() -> None:
    times = _EndTimes()
    times.ran(100, 200, 100)
    begins, ends = times.divide(np.array([60]))
    assert (begins.tolist(), ends.tolist()) == ([100], [160])
    times.ran(300, 400, 100)
    begins, ends = times.divide(np.array([90, 50]))
    assert begins.tolist() == [160, 350]
    assert ends.tolist() == [350, 400]


def test_gauges_are_noted_when_they_change() -> None:
    now = [0]
    journal = Journal(lambda: now[0], 100)
    gauges = Gauges(journal)
    assert gauges.is_due()
    for at, queued, commits in ((10**9, 5, 100), (2 * 10**9, 5, 100), (3 * 10**9, 6, 300)):
        now[0] = at
        gauges.look({Gauge.QUEUED: queued}, {Gauge.COMMITS_PER_S: commits})
        assert not gauges.is_due()
    rows = journal.take()
    assert set(rows["kind"].tolist()) == {RowKind.GAUGE}
    assert rows[["begin", "a", "b"]].tolist() == [
        (10**9, Gauge.QUEUED, 5),
        (2 * 10**9, Gauge.COMMITS_PER_S, 0),
        (3 * 10**9, Gauge.QUEUED, 6),
        (3 * 10**9, Gauge.COMMITS_PER_S, 200),
    ]


def test_all_ranks_together_send_no_more_than_rank_0_can_write() -> None:
    for rank_count in (2, 4, 64, 256, 1_000, 4_096):
        interval_s = flush_interval_s(rank_count)
        rows = rows_between_flushes(1, rank_count) * rank_count
        assert rows / interval_s <= config.TRACE_ROWS_PER_S * 1.7, rank_count
        assert interval_s <= 10
    assert rows_between_flushes(0, 4_096) == config.TRACE_ROWS_MAX
