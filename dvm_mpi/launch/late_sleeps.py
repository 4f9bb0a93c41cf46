"""Sleeps that may end late, so that ranks that others wait for have the processors.

Where a node has more ranks than processors, MPICH is told to sleep while it waits within its calls
(`library.settings_of`). It sleeps for a microsecond at a time, to which Linux adds a thread's
slack: 50 us, unless the thread asks for more. So 16 ranks that start on two processors changed over
some 80,000 times. DVM's own sleeps, while a program runs, stay exact.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_PR_SET_TIMERSLACK: Final = 29
_PR_GET_TIMERSLACK: Final = 30


def slack_ns() -> int:
    """Return how late sleeps of this thread may end; 0 where the system does not say."""
    return max(_prctl(_PR_GET_TIMERSLACK, 0), 0)


def _prctl(what: int, value: int) -> int:
    function = getattr(ctypes.CDLL(None), "prctl", None)
    return -1 if function is None else int(function(what, ctypes.c_ulong(value), 0, 0, 0))


@contextmanager
def late_sleeps(late_ns: int) -> Iterator[None]:
    """Let sleeps of this thread end so late in the block; 0: as late as ever."""
    if not late_ns:
        yield
        return
    usual_ns = slack_ns()
    _prctl(_PR_SET_TIMERSLACK, late_ns)
    try:
        yield
    finally:
        # None asked for would be the slack that the thread began with, which is the same.
        _prctl(_PR_SET_TIMERSLACK, usual_ns)
