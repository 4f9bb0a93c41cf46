"""When the attempts under way are expected to end: by how long their like took the last time.

Epochs are worth a wait as long as they cost themselves. In a wave of equal runners most end at
about the same time, and each epoch that has some of them wakes whoever watches them, in vain: the
messages there and back take rank 0's time from the runners that the others wait for. So when
the last few are about to end, what has ended before goes into one epoch with them.

A guess, in the scheduler's own time, of workers with one attempt each: of batches of short runners
nobody waits for one (`short_waits`).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import (
    ENDS_AWAITED_MAX,
    ENDS_PART,
    ENDS_SOON_US,
    LENGTH_ENTRIES_KEPT,
)
from dvm_mpi.control.coordinator_state import CoordinatorState
from dvm_mpi.control.dealing import Dealt
from dvm_mpi.control.joining import SEVERAL, workers_of
from dvm_mpi.control.messages import Finished
from dvm_mpi.control.row_loops import ENTRY
from dvm_mpi.dsm.ranges import distinct, firsts_of

Ints = NDArray[np.int64]

#: Of a worker that has no attempt, or several.
_UNKNOWN: Final = -1


class ExpectedEnds:
    """Knows how long attempts took, by where they began, and since when each worker has its one."""

    def __init__(self, state: CoordinatorState) -> None:
        self._state = state
        #: By entry, the microseconds from dispatch to record; of the last one, since it is most
        #: often of the same wave.
        self._took_us: dict[int, int] = {}
        worker_count = len(state.running)
        #: Of each worker that has one attempt: where that began, and when; (worker_count,).
        self._entry: Ints = np.full(worker_count, _UNKNOWN, np.int64)
        self._since_us: Ints = np.zeros(worker_count, np.int64)

    def sent(self, dealt: Dealt, now_us: int) -> None:
        """Note what workers have been sent."""
        if len(dealt.rows) == 0:
            return
        workers = dealt.workers
        is_one = (dealt.counts == 1) & (self._state.running[workers] == 1)
        entries = self._state.table.words[dealt.rows[firsts_of(dealt.counts)], ENTRY]
        self._entry[workers] = np.where(is_one, entries, _UNKNOWN)
        self._since_us[workers] = now_us

    def ended(self, finished: Finished, now_us: int) -> None:
        """Take the times of attempts whose records have come; before their workers get others."""
        is_one = finished.worker != SEVERAL
        workers = [finished.worker] if is_one else distinct(workers_of(finished)).tolist()
        for worker in workers:
            entry = int(self._entry[worker])
            if entry == _UNKNOWN:
                continue
            self._entry[worker] = _UNKNOWN
            if entry in self._took_us or len(self._took_us) < LENGTH_ENTRIES_KEPT:
                self._took_us[entry] = now_us - int(self._since_us[worker])

    def until_us(self, now_us: int) -> int | None:
        """Return until when it is worth to wait for all who are awake; None if it is not.

        Only if few are left, and each is expected to end in a moment beside what it took. Who is
        late is waited for as long as that moment again.
        """
        state = self._state
        busy = np.flatnonzero(state.running > state.asleep)
        if not 0 < len(busy) <= ENDS_AWAITED_MAX:
            return None
        until_us = now_us
        for worker in busy.tolist():
            took_us = self._took_us.get(int(self._entry[worker]))
            if took_us is None:
                return None
            soon_us = min(took_us / ENDS_PART, ENDS_SOON_US)
            ends_us = int(self._since_us[worker]) + took_us
            if not now_us - soon_us < ends_us < now_us + soon_us:
                return None
            until_us = max(until_us, int(ends_us + soon_us))
        return until_us if until_us > now_us else None
