"""A wait of all ranks together, as rank 0 sees it: when it is told, and when it ends the run.

While the program runs the coordinator asks ranks that are silent. Before and after that ranks wait
for each other in calls that all of them make, in which nobody can be asked: time alone tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dvm_mpi import config
from dvm_mpi.errors import RankLostError

#: Rank 0 itself stood still if it has not looked for so long, and has not seen who came meanwhile.
_ABSENT_S: Final = 1.0


class LongWait:
    """The present wait, if there is one."""

    def __init__(self) -> None:
        #: When it began, and when it was looked at last.
        self._since_s = self._looked_at_s = 0.0
        #: Since when nothing has changed: nobody has come, and rank 0 has looked all the time.
        self._unchanged_since_s = 0.0
        self._waits_for = ""
        #: How long it takes until it is told the next time.
        self._tell_after_s = config.STALL_S

    def look(
        self,
        now_s: float,
        waits_for: str,
        missing: Sequence[int],
        patience_s: float,
        hosts: Sequence[str],
    ) -> str:
        """Return what is to be told of the wait now; empty if nothing is.

        Parameters
        ----------
        waits_for
            In words, with the ranks that are missing; empty if there is no wait.
        missing
            The ranks that have not come, as far as that is known.
        patience_s
            Seconds without anybody's coming that end the run.
        hosts
            Of all ranks, as far as they are known.

        Raises
        ------
        RankLostError
            Nobody has come for too long.
        """
        was_absent = now_s - self._looked_at_s >= _ABSENT_S
        self._looked_at_s = now_s
        if not waits_for:
            self._waits_for = ""
            return ""
        if not self._waits_for:
            self._since_s, self._tell_after_s = now_s, config.STALL_S
        if was_absent or waits_for != self._waits_for:
            self._unchanged_since_s, self._waits_for = now_s, waits_for
        if now_s - self._unchanged_since_s >= patience_s:
            if missing:
                # The coordinator's modules are for rank 0, which looks.
                from dvm_mpi.control.coordinator import lost_ranks

                raise lost_ranks(missing, hosts, patience_s)
            raise RankLostError(
                f"waited for {waits_for}, for {patience_s:.0f} s; a rank is stuck, or it, its host "
                "or the network is gone"
            )
        if now_s - self._since_s < self._tell_after_s:
            return ""
        self._tell_after_s *= 2
        return f"dvm: waiting for {waits_for}, since {now_s - self._since_s:.0f} s"
