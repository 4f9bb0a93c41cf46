"""Whether rank 0 only coordinates, or executes runners as well.

Each decision of rank 0 waits for the slice that its own worker executes, and the others wait for
the decision. Where decisions take most of its time there is little left to execute with, and all
wait.
So, unless the user has chosen, rank 0's worker gets no runners while to coordinate takes more than
`DEDICATED_SHARE` of its time, and gets some again when that takes less than `SHARED_SHARE`. Pure:
whoever has a clock says what time it is.
"""

from __future__ import annotations

from typing import Literal

from dvm_mpi.config import (
    DEDICATED_OTHERS_MIN,
    DEDICATED_SHARE,
    DEDICATED_US,
    RANKS_WITH_WORKING_COORDINATOR,
    SHARED_SHARE,
)

Choice = Literal["auto", "dedicated", "shared"]


def has_worker(rank: int, rank_count: int, choice: Choice) -> bool:
    """Tell whether a rank has a worker at all.

    All have but rank 0: where it is dedicated, and, if nobody has chosen, in large jobs.
    """
    if rank > 0 or rank_count == 1:
        return True
    return choice == "shared" or (choice == "auto" and rank_count <= RANKS_WITH_WORKING_COORDINATOR)


class Dedication:
    """Looks at the time that rank 0 gives to coordinating.

    Parameters
    ----------
    now_us, spent_us
        When it begins, and the time that went to coordinating until then.
    """

    def __init__(self, now_us: int = 0, spent_us: int = 0) -> None:
        #: Whether rank 0's worker is to get nothing.
        self.is_dedicated = False
        self._since_us = now_us
        self._spent_us = spent_us

    def is_due(self, now_us: int) -> bool:
        """Return whether it is time for a look; cheap, to be asked once a turn."""
        return now_us - self._since_us >= DEDICATED_US

    def look(self, now_us: int, spent_us: int, others: int) -> bool:
        """Take what time it is, and return whether `is_dedicated` has changed.

        Parameters
        ----------
        spent_us
            The time that went to coordinating so far.
        others
            Workers of other ranks that can be sent runners.
        """
        passed_us = now_us - self._since_us
        if not self.is_due(now_us):
            return False
        share = (spent_us - self._spent_us) / passed_us
        self._since_us, self._spent_us = now_us, spent_us
        limit = SHARED_SHARE if self.is_dedicated else DEDICATED_SHARE
        is_dedicated = others >= DEDICATED_OTHERS_MIN and share > limit
        has_changed = is_dedicated != self.is_dedicated
        self.is_dedicated = is_dedicated
        return has_changed
