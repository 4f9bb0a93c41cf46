"""Ranks that say nothing: when one of them is asked, and since when it owes an answer. Pure.

Every rank tells of its time, over and over, whatever it does. One that stops to do so is asked what
it does, also while the others get on well without it: what it was given to do would never be done.
"""

from __future__ import annotations

from typing import Final

from dvm_mpi import config
from dvm_mpi.control.metering import tell_interval_us

_US_PER_S: Final = 1_000_000
#: What a rank says by itself may be late by so many times the time between two.
_LATE: Final = 3


class Silence:
    """Who has said what when, of the ranks of one run."""

    def __init__(self, rank_count: int) -> None:
        stall_us = int(config.STALL_S * _US_PER_S)
        self._quiet_us = max(stall_us, _LATE * tell_interval_us(rank_count))
        #: When each rank that tells of its time said something.
        self._heard_us: dict[int, int] = {}
        #: Ranks that were asked what they do and have said nothing since, with the time.
        self._owing_since_us: dict[int, int] = {}
        self._look_at_us = 0

    def told(self, rank: int, now_us: int) -> None:
        """Note that a rank has told of its time, as it will do again."""
        self._heard_us[rank] = now_us
        self._owing_since_us.pop(rank, None)

    def answered(self, rank: int, now_us: int) -> None:
        """Note that a rank has said something that it was asked for."""
        if rank in self._heard_us:
            self._heard_us[rank] = now_us
        self._owing_since_us.pop(rank, None)

    def asked(self, rank: int, now_us: int) -> None:
        """Note that a rank was asked what it does."""
        self._owing_since_us.setdefault(rank, now_us)

    def missed_all(self, now_us: int) -> None:
        """Note that rank 0 itself stood still, and has not looked at what others said."""
        self._heard_us = dict.fromkeys(self._heard_us, now_us)
        self._owing_since_us = dict.fromkeys(self._owing_since_us, now_us)

    def whom_to_ask(self, now_us: int) -> list[int]:
        """Return the ranks that have said nothing for long and were not asked yet; then `asked`.

        Cheap to call often: it looks once a second.
        """
        if now_us < self._look_at_us:
            return []
        self._look_at_us = now_us + _US_PER_S
        quiet_from_us = now_us - self._quiet_us
        return [
            rank
            for rank, heard_us in self._heard_us.items()
            if heard_us <= quiet_from_us and rank not in self._owing_since_us
        ]

    def owing(self, now_us: int) -> dict[int, int]:
        """Return for how long each rank that was asked owes its answer, in microseconds."""
        return {rank: now_us - since_us for rank, since_us in self._owing_since_us.items()}
