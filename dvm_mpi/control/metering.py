"""Where the time of ranks goes: a meter on each rank, and the sums of all of them on rank 0.

Pure: whoever has a clock says what time it is. Every microsecond of a rank is given to exactly one
activity, so activities add up to the rank's time, whatever is measured. What a rank tells are
*spans*, which follow each other without a gap; rank 0 lays them over buckets of time, whose width
doubles when there are too many, and where ranks are many, joins ranks to groups.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi import config
from dvm_mpi.control.messages import SPAN
from dvm_mpi.dsm.ranges import expand

Ints = NDArray[np.int64]


class Activity(IntEnum):
    """What a rank does at a moment; `SPAN` has a field of each name."""

    #: Runners.
    EXECUTING = 0
    #: Messages of others, work of its home, and all that belongs to no other activity.
    SERVING = 1
    #: Decisions for the whole run; on rank 0.
    COORDINATING = 2
    #: Tasks: program and inputs, compiled code, outputs.
    LOADING = 3
    #: Nothing, while its runners wait for pages, addresses or room.
    WAITING = 4
    #: Nothing, since there is nothing to do, or the rank's share of its core is used up.
    IDLE = 5


ACTIVITIES: Final = tuple(activity.name.lower() for activity in Activity)
#: Fields of spans that add up, and those of which the highest counts.
SUMS: Final = (*ACTIVITIES, "instructions")
MARKS: Final = ("resident_bytes", "frame_bytes", "staged_bytes")
#: Bits of a number that is not negative.
_NUMBER_BITS: Final = 63


def _crowd(rank_count: int) -> int:
    """Return how much less often each rank of a run tells than one of few ranks."""
    return max(1, rank_count // config.METERED_APART)


def tell_interval_us(rank_count: int) -> int:
    """Return how often each rank of a run tells of its time."""
    return config.METER_US * _crowd(rank_count)


class Meter:
    """Of one rank: gives its time to activities, span by span.

    Parameters
    ----------
    now_us
        When it begins; all spans count from here.
    rank_count
        Of the run: the more ranks, the longer spans are and the fewer messages.
    """

    def __init__(self, now_us: int, rank_count: int = 1) -> None:
        #: On this rank's own clock.
        self.begins_us = now_us
        self._at_us = now_us
        self._span_begins_us = now_us
        self._span_us = config.SPAN_US_MIN * _crowd(rank_count)
        self._tell_us = tell_interval_us(rank_count)
        self._told_at_us = now_us
        #: Of the turn under way, and of the span under way; by activity.
        self._turn = [0] * len(Activity)
        self._spent = [0] * len(Activity)
        self._instructions = 0
        self._marks = [0] * len(MARKS)
        self._spans: list[tuple[int, ...]] = []

    def mark(self, activity: Activity, now_us: int) -> None:
        """Note that since the last mark this rank did `activity`."""
        self._turn[activity] += now_us - self._at_us
        self._at_us = now_us

    def executed(self, instructions: int) -> None:
        """Count instructions."""
        self._instructions += instructions

    def end_turn(self, now_us: int, nothing_but: Activity | None) -> None:
        """End a turn; one in which nothing was done is `nothing_but` that, as a whole."""
        self._turn[Activity.SERVING] += now_us - self._at_us
        self._at_us = now_us
        if nothing_but is not None:
            self._spent[nothing_but] += sum(self._turn)
        else:
            self._spent = [a + b for a, b in zip(self._spent, self._turn, strict=True)]
        self._turn = [0] * len(Activity)

    @property
    def is_span_over(self) -> bool:
        """Whether it is time for `end_span`; cheap, to be asked once a turn."""
        return self._at_us - self._span_begins_us >= self._span_us

    @property
    def is_due(self) -> bool:
        """Whether it is time to tell the spans."""
        return self._at_us - self._told_at_us >= self._tell_us

    def end_span(self, resident_bytes: int, frame_bytes: int, staged_bytes: int) -> None:
        """End a span between two turns, with a look at the memory; the next one begins here."""
        assert not any(self._turn), "a turn is under way"
        if self._at_us == self._span_begins_us:
            return
        begin, end = self._span_begins_us - self.begins_us, self._at_us - self.begins_us
        memory = (resident_bytes, frame_bytes, staged_bytes)
        self._spans.append((begin, end, *self._spent, self._instructions, *memory))
        self._spent, self._instructions = [0] * len(Activity), 0
        self._span_begins_us = self._at_us
        self._span_us = max(self._span_us, end // config.BUCKETS_MAX)

    def take(self) -> NDArray[Any]:
        """Return the spans that ended since the last call (SPAN)."""
        spans = np.array(self._spans, dtype=SPAN)
        self._spans = []
        self._told_at_us = self._at_us
        return spans


class RankMeters:
    """What the meters of all ranks have told. Rank 0 only.

    Parameters
    ----------
    cells_max
        Groups times buckets: bounds the memory, and the size of the report.
    begins_us
        When the first bucket begins, in rank 0's time.
    """

    def __init__(
        self,
        rank_count: int,
        cells_max: int = config.METER_CELLS_MAX,
        begins_us: int = 0,
    ) -> None:
        self.rank_count = rank_count
        self.begins_us = begins_us
        #: Ranks of one group, and groups.
        self.ranks_per_group = -(-rank_count // config.METER_GROUPS_MAX)
        self.group_count = -(-rank_count // self.ranks_per_group)
        self._buckets_max = max(2, min(config.BUCKETS_MAX, cells_max // self.group_count) // 2 * 2)
        self.bucket_us = config.SPAN_US_MIN
        self.bucket_count = 0
        self.hosts: list[str] = [""] * rank_count
        #: (ranks, SUMS) of the whole run, and (ranks, MARKS) the highest.
        self.totals: Ints = np.zeros((rank_count, len(SUMS)), np.int64)
        self.highest: Ints = np.zeros((rank_count, len(MARKS)), np.int64)
        #: (groups, buckets, SUMS), and (buckets, MARKS) the highest of any rank.
        self._sums: Ints = np.zeros((self.group_count, self._buckets_max, len(SUMS)), np.int64)
        self._marks: Ints = np.zeros((self._buckets_max, len(MARKS)), np.int64)

    @property
    def sums(self) -> Ints:
        """(groups, buckets, SUMS), as far as time has come."""
        return self._sums[:, : self.bucket_count]

    @property
    def marks(self) -> Ints:
        """(buckets, MARKS): the highest of any rank."""
        return self._marks[: self.bucket_count]

    def add(self, rank: int, host: str, spans: NDArray[Any], from_us: int = 0) -> None:
        """Take the spans of one rank (SPAN).

        Parameters
        ----------
        from_us
            Rank 0's time from which the spans count; 0: from the first bucket on. What comes before
            that bucket counts as its begin: clocks are known up to an error.
        """
        self.hosts[rank] = host
        if len(spans) == 0:
            return
        amounts = np.stack([spans[name] for name in SUMS], axis=1)
        marks = np.stack([spans[name] for name in MARKS], axis=1)
        self.totals[rank] += amounts.sum(axis=0)
        self.highest[rank] = np.maximum(self.highest[rank], marks.max(axis=0))
        late_us = from_us - self.begins_us if from_us else 0
        begins = np.maximum(spans["begin_us"] + late_us, 0)
        ends = np.maximum(spans["end_us"] + late_us, begins + 1)
        end_us = int(ends.max())
        while end_us > self.bucket_us * self._buckets_max:
            self._double()
        self.bucket_count = max(self.bucket_count, -(-end_us // self.bucket_us))
        first = begins // self.bucket_us
        counts = (ends - 1) // self.bucket_us + 1 - first
        rows, buckets = np.repeat(np.arange(len(spans)), counts), expand(first, counts)
        lengths = (ends - begins)[rows]
        low = np.maximum(begins[rows], buckets * self.bucket_us) - begins[rows]
        high = np.minimum(ends[rows], (buckets + 1) * self.bucket_us) - begins[rows]
        # Differences of whole numbers that grow along the span: its pieces add up to it exactly.
        pieces = _part(amounts[rows], high, lengths) - _part(amounts[rows], low, lengths)
        np.add.at(self._sums[rank // self.ranks_per_group], buckets, pieces)
        np.maximum.at(self._marks, buckets, marks[rows])

    def _double(self) -> None:
        """Make buckets twice as wide, so that half of them are free."""
        half = self._buckets_max // 2
        paired = self._sums.reshape(self.group_count, half, 2, len(SUMS)).sum(axis=2)
        highest = self._marks.reshape(half, 2, len(MARKS)).max(axis=1)
        self._sums[:, :half], self._sums[:, half:] = paired, 0
        self._marks[:half], self._marks[half:] = highest, 0
        self.bucket_us *= 2
        self.bucket_count = -(-self.bucket_count // 2)


def _part(amounts: Ints, reached: Ints, lengths: Ints) -> Ints:
    """Return how much of each amount comes before `reached` of its length, rounded down."""
    reached, lengths = reached[:, None], lengths[:, None]
    # In two steps, since a product of instructions and microseconds may not fit; nor may one of
    # two times if a turn took an hour, as of a suspended job: its last bits do not matter.
    whole, rest = np.divmod(amounts, lengths)
    bits = np.frexp(lengths)[1].astype(np.int64)
    shift = np.maximum(2 * bits - _NUMBER_BITS, 0)
    return np.asarray(whole * reached + rest * (reached >> shift) // (lengths >> shift))
