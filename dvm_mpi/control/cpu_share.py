"""How much of its core a rank may use: an allowance of processor time in each period.

A state machine that is told the time and the processor time used so far, and says whether to work
or how long to rest. Serving others is counted and never held back: what goes beyond the allowance
is owed, and paid with rest in the periods that follow. The invariant to remember: no period ends
without a permission to work, however much is owed, so a rank that serves a lot still gets on.
"""

from __future__ import annotations

from dvm_mpi import config


class CpuShare:
    """Holds a rank to a share of its core.

    Parameters
    ----------
    share
        Of one core, above 0 and at most 1.
    period_us
        In which the share is given out. What is left over at a period's end is kept for the next
        one, no more than one allowance: who was kept from the core by others makes that up, and who
        had nothing to do saves no more.
    debt_periods_max
        How many periods' allowances may be owed; what is used beyond is forgotten.
    """

    def __init__(
        self,
        share: float,
        period_us: int = config.CPU_PERIOD_US,
        debt_periods_max: int = config.CPU_DEBT_PERIODS_MAX,
    ) -> None:
        assert 0 < share <= 1, share
        self._period_us = period_us
        self._allowance_us = share * period_us
        self._debt_us_max = debt_periods_max * self._allowance_us
        #: When the present period ends; None before the first look.
        self._ends_us: int | None = None
        #: What is left of the allowance, negative if time is owed.
        self._left_us = self._allowance_us
        self._used_us = 0
        #: Whether any work was done in this period.
        self._has_worked = False

    def rests_us(self, now_us: int, used_us: int) -> int:
        """Return how long to rest from now on; 0: the rank may work, for about a millisecond.

        `used_us` is the processor time of the whole process since it began; what it used before the
        first call does not count.
        """
        if self._ends_us is None:
            self._ends_us, self._used_us = now_us + self._period_us, used_us
        self._left_us -= used_us - self._used_us
        self._used_us = used_us
        if now_us >= self._ends_us:
            periods = (now_us - self._ends_us) // self._period_us + 1
            self._ends_us += periods * self._period_us
            self._left_us = min(
                self._left_us + periods * self._allowance_us, 2 * self._allowance_us
            )
            self._has_worked = False
        self._left_us = max(self._left_us, -self._debt_us_max)
        if self._left_us > 0 or not self._has_worked:
            return 0
        return self._ends_us - now_us

    def worked(self) -> None:
        """Hear that some work was done, a slice of a runner or a step of a task."""
        self._has_worked = True
