"""Sleeps that may end late, so that ranks that others wait for have the processors.

Where a node has more ranks than processors, MPICH is told to sleep while it waits within its calls
(`library.settings_of`). It sleeps for a microsecond at a time, to which Linux adds a thread's
slack: 50 us, unless the thread asks for more. So 16 ranks that start on two processors changed over
some 80,000 times. DVM's own sleeps, while a program runs, stay exact.
"""

from __future__ import annotations

import ctypes
from types import TracebackType
from typing import Final

_PR_SET_TIMERSLACK: Final = 29
_PR_GET_TIMERSLACK: Final = 30


def slack_ns() -> int:
    """Return how late sleeps of this thread may end; 0 where the system does not say."""
    return max(_prctl(_PR_GET_TIMERSLACK, 0), 0)


def _prctl(what: int, value: int) -> int:
    function = getattr(ctypes.CDLL(None), "prctl", None)
    return -1 if function is None else int(function(what, ctypes.c_ulong(value), 0, 0, 0))


class LateSleeps:
    """Stretches in which sleeps of this thread may end so late; 0: as late as ever."""

    def __init__(self, late_ns: int) -> None:
        self._late_ns = late_ns
        self._usual_ns = 0

    def __enter__(self) -> None:
        """Let sleeps end late from now on."""
        if self._late_ns:
            self._usual_ns = slack_ns()
            _prctl(_PR_SET_TIMERSLACK, self._late_ns)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let them end when they did before."""
        if self._late_ns:
            # None asked for would be the slack that the thread began with, which is the same.
            _prctl(_PR_SET_TIMERSLACK, self._usual_ns)
