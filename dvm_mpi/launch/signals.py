"""Signals as notes that a loop reads, and the ways out that work without a loop.

The handlers only note. What they note is obeyed between two events, so no table is ever half
changed when a run ends.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Final, NoReturn

from dvm_mpi.config import SIGNAL_ECHO_S

#: What asks a run to end. SIGUSR1 is what batch systems send some time before a job's time is up,
#: and the one that all launchers hand on: srun kills the ranks when it gets SIGTERM.
_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
_STDERR: Final = 2


def leave_now(code: int) -> NoReturn:
    """End this process at once: no cleaning up, no waiting for threads, children or MPI.

    What was printed is written out first, as far as somebody still reads it.
    """
    for stream in (sys.stdout, sys.stderr):
        # RuntimeError: a signal that ends the process came in the midst of a write to this stream.
        with suppress(OSError, ValueError, AttributeError, RuntimeError):
            stream.flush()
    os._exit(code)


class Signals:
    """Notes signals while it is entered; a context manager for the main thread.

    SIGINT, SIGTERM, SIGHUP and SIGUSR1 are noted in `ending`; one that comes more than
    `SIGNAL_ECHO_S` after the first ends the process at once. SIGHUP that was ignored at the start
    (nohup) stays ignored. SIGUSR2 prints where each Python thread is, at once and also from within
    a call into C that does not return, and is noted for `take_dump_request`.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        leave: Callable[[int], object] = leave_now,
    ) -> None:
        #: The signal that asked the run to end, 0 as long as none did.
        self.ending = 0
        self._first_at = 0.0
        self._is_dump_requested = False
        self._parent = os.getppid()
        self._before: dict[signal.Signals, Any] = {}
        self._clock = clock
        self._leave = leave

    def __enter__(self) -> Signals:
        for number in _ENDING:
            if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue
            self._before[number] = signal.signal(number, self._note_ending)
        self._before[signal.SIGUSR2] = signal.signal(signal.SIGUSR2, self._note_dump)
        # After ours, which it calls in turn: the C handler prints even if Python never runs again.
        faulthandler.register(signal.SIGUSR2, file=_STDERR, all_threads=True, chain=True)
        return self

    def __exit__(self, *_: object) -> None:
        faulthandler.unregister(signal.SIGUSR2)
        for number, handler in self._before.items():
            # None: a handler that was not installed by Python; it cannot be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before.clear()

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Let signals end this process at once, as they end any program, in the block.

        For calls into C that may not return: nobody would read a note.
        """
        noted = [number for number in _ENDING if number in self._before]
        for number in noted:
            signal.signal(number, signal.SIG_DFL)
        try:
            yield
        finally:
            for number in noted:
                signal.signal(number, self._note_ending)

    def take_dump_request(self) -> bool:
        """Return whether SIGUSR2 came since the last call."""
        requested, self._is_dump_requested = self._is_dump_requested, False
        return requested

    def parent_died(self) -> bool:
        """Return whether the process that started this one is gone; cheap, to be polled."""
        return os.getppid() != self._parent

    def _note_ending(self, number: int, frame: FrameType | None) -> None:
        del frame
        now = self._clock()
        if not self.ending:
            self.ending, self._first_at = number, now
        elif now - self._first_at > SIGNAL_ECHO_S:
            self._leave(128 + number)

    def _note_dump(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._is_dump_requested = True
