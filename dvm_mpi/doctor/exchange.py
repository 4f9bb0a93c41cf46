"""Messages between two ranks, timed: small ones back and forth, then large ones."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi import config
from dvm_mpi.doctor.pairs import Measured, Round

_TAG: Final = 4
_SMALL_BYTES: Final = 8
#: Small round trips come in so many bouts, with a pause after each.
_BOUTS: Final = 10
_PAUSE_S: Final = 0.005
#: Round trips of large messages of one size.
_LARGE_TRIPS: Final = 3
#: Large messages grow by this factor up to the limit, or until a round trip takes so long.
_GROWTH: Final = 8
_LONG_TRIP_S: Final = 0.05
#: Looks at a message between two looks at the clock, and before the core is given away.
_LOOKS: Final = 4096
_LOOKS_BEFORE_YIELD: Final = 64

#: Called with the rank that is waited for, over and over.
Turn = Callable[[int], None]


def measure(comm: Any, rounds: Sequence[Round], turn: Turn) -> list[Measured]:
    """Try the pairs that this rank is in; return what it measured as the first of a pair.

    *Collective*, though only pairs meet.
    """
    rank, found = comm.Get_rank(), []
    for pairs in rounds:
        for first, second in pairs:
            if rank == first:
                found.append(Measured(first, second, *_lead(comm, second, turn)))
            elif rank == second:
                _follow(comm, first, turn)
    return found


def _lead(comm: Any, partner: int, turn: Turn) -> tuple[float, float]:
    """Return the time of a small message in µs, and the rate of large ones in MB/s."""
    _meet(comm, partner, turn)
    # The best of several bouts: as long as other programs have the core of one of the two, times
    # say nothing of the network.
    times_s: list[float] = []
    for _ in range(_BOUTS):
        times_s += _trips(comm, partner, _SMALL_BYTES, config.ROUND_TRIPS // _BOUTS, turn)
        time.sleep(_PAUSE_S)
    latency_s = min(times_s) / 2
    size, rate = _SMALL_BYTES * _GROWTH, 0.0
    while True:
        trip_s = min(_trips(comm, partner, size, _LARGE_TRIPS, turn))
        rate = max(rate, 2 * size / trip_s / 1e6)
        if size == config.TRIAL_MESSAGE_BYTES or trip_s > _LONG_TRIP_S:
            break
        size = min(size * _GROWTH, config.TRIAL_MESSAGE_BYTES)
    _complete([comm.Isend(np.zeros(2, np.int64), partner, _TAG)], partner, turn)
    return latency_s * 1e6, rate


def _trips(comm: Any, partner: int, size: int, count: int, turn: Turn) -> list[float]:
    """Send a message there and back, `count` times; return the seconds of each."""
    _complete([comm.Isend(np.array([size, count], np.int64), partner, _TAG)], partner, turn)
    out, back = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
    times_s = []
    for _ in range(count):
        began = time.perf_counter()
        _complete([comm.Irecv(back, partner, _TAG), comm.Isend(out, partner, _TAG)], partner, turn)
        times_s.append(time.perf_counter() - began)
    return times_s


def _follow(comm: Any, partner: int, turn: Turn) -> None:
    """Send back what comes, until the partner has enough."""
    _meet(comm, partner, turn)
    asked: NDArray[np.int64] = np.zeros(2, np.int64)
    while True:
        _complete([comm.Irecv(asked, partner, _TAG)], partner, turn)
        size, count = asked.tolist()
        if not size:
            return
        data = np.zeros(size, np.uint8)
        for _ in range(count):
            _complete([comm.Irecv(data, partner, _TAG)], partner, turn)
            _complete([comm.Isend(data, partner, _TAG)], partner, turn)


def _meet(comm: Any, partner: int, turn: Turn) -> None:
    """Wait until the partner is here, asleep: it may be in another round still."""
    nothing, theirs = np.zeros(1, np.uint8), np.zeros(1, np.uint8)
    requests = [comm.Isend(nothing, partner, _TAG), comm.Irecv(theirs, partner, _TAG)]
    while not all(request.Test() for request in requests):
        turn(partner)
        time.sleep(config.NAP_S_MAX)


def _complete(requests: Sequence[Any], partner: int, turn: Turn) -> None:
    looks = 0
    while not all(request.Test() for request in requests):
        looks += 1
        if looks % _LOOKS_BEFORE_YIELD == 0:
            os.sched_yield()
        if looks % _LOOKS == 0:
            turn(partner)
