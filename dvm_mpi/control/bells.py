"""Bells of the ranks of one host: who sends a message wakes a rank that sleeps.

MPI says that something has come only to who asks, and a rank that asks all the time takes the core
that others need. So idle ranks sleep in between, and with a bell they wake when there is a reason.
A bell is a datagram socket without a file: its name vanishes with its process, however that dies.
Nothing depends on it: an unheard bell costs the rest of one sleep, a needless one a turn.
"""

from __future__ import annotations

# The module `socket` itself takes 2 ms to import, for names that are not needed here.
import _socket
import select
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

#: More than a kernel keeps for one socket, unless its owner has asked for more.
_TAKEN_AT_ONCE: Final = 512
#: File descriptors from here on are more than `select` takes.
_SELECTED_MAX: Final = 1024


def name_of(job: str, rank: int) -> str:
    """Return the name of a rank's bell; those that begin with a zero are no files."""
    return f"\0dvm-{job}-{rank}"


class Bells:
    """A rank's own bell, and those of the others of its host.

    Parameters
    ----------
    job
        Unique among the runs of a host.
    rank
        This rank.
    neighbours
        The other ranks of this host.

    Raises
    ------
    OSError
        This system has no such sockets, or no more of them.
    """

    def __init__(self, job: str, rank: int, neighbours: Iterable[int]) -> None:
        self._others = {other: name_of(job, other) for other in neighbours}
        self._own = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
        try:
            self._own.setblocking(False)
            if self._own.fileno() >= _SELECTED_MAX:
                raise OSError("too many files are open")
            self._own.bind(name_of(job, rank))
        except OSError:
            self._own.close()
            raise

    def ring(self, rank: int) -> None:
        """Wake a rank, if it is one of this host, and sleeps."""
        name = self._others.get(rank)
        if name is None:
            return
        try:
            self._own.sendto(b"", name)
        except BlockingIOError:
            # It has been rung for often enough, and is busy.
            pass
        except OSError:
            # It has no bell, or not where this process can see it.
            del self._others[rank]

    def wait(self, sleep_s: float) -> bool:
        """Sleep for so long, or until somebody rings; say whether anybody has, since the last time.

        Who rang while this rank was awake ends the sleep as well: its message may not have been
        there yet when this rank looked for it.
        """
        if not select.select((self._own,), (), (), sleep_s)[0]:
            return False
        with suppress(OSError):
            for _ in range(_TAKEN_AT_ONCE):
                self._own.recv(1)
        return True

    def close(self) -> None:
        """Give the bell back; idempotent."""
        self._others.clear()
        self._own.close()
