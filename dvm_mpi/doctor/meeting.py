"""What all ranks do together after MPI has started; every wait has an end."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.doctor.watchdog import Watchdog

if TYPE_CHECKING:
    from dvm_mpi.control.transport import Transport

Bytes = NDArray[np.uint8]


class LateError(Exception):
    """Others did not come in time; the text says who did not do what."""


class Meeting:
    """Collective calls of one rank; all ranks make the same ones in the same order.

    Parameters
    ----------
    wait_s
        Seconds that a step may take.
    """

    def __init__(self, transport: Transport, watchdog: Watchdog, wait_s: float) -> None:
        self.transport = transport
        self._watchdog = watchdog
        self._wait_s = wait_s
        self._step = ""
        self._ends_s = 0.0

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which decides."""
        return self.transport.rank == 0

    def begin(self, step: str) -> None:
        """Begin a step, which all ranks are to do in time: "try their windows"."""
        self._step = step
        self._ends_s = time.monotonic() + self._wait_s
        self._watchdog.begin(step)

    def turn(self) -> None:
        """Give up if the step takes too long; called over and over while others are waited for.

        Raises
        ------
        LateError
            The time is over.
        """
        if time.monotonic() > self._ends_s:
            raise LateError(self.transport.waits_for or f"other ranks to {self._step}")

    def turn_for(self, rank: int) -> None:
        """Do the same while one rank is waited for."""
        self.transport.waits_for = f"rank {rank} to {self._step}"
        self.turn()
        self.transport.waits_for = ""

    def gather(self, row: Bytes) -> Bytes | None:
        """Return rows of one length of all ranks: (size, length) on rank 0, None elsewhere."""
        return self.transport.gather(row, self._step, self.turn)

    def gather_numbers(self, number: float) -> list[float]:
        """Return a number of each rank on rank 0, nothing elsewhere."""
        rows = self.gather(np.array([number], np.float64).view(np.uint8))
        return [] if rows is None else rows.reshape(-1).view(np.float64).tolist()

    def gather_values(self, value: Any) -> list[Any]:
        """Return what JSON can say, of each rank, on rank 0; nothing elsewhere."""
        data = np.frombuffer(json.dumps(value).encode(), np.uint8)
        lengths = self.gather_numbers(data.size)
        longest: int = self.broadcast(int(max(lengths, default=0)))
        row = np.zeros(longest, np.uint8)
        row[: data.size] = data
        rows = self.gather(row)
        if rows is None:
            return []
        return [
            json.loads(row[: int(length)].tobytes())
            for row, length in zip(rows, lengths, strict=True)
        ]

    def broadcast(self, value: Any) -> Any:
        """Return what rank 0 gives, as far as JSON can say it."""
        told: Bytes | None = None
        if self.is_first:
            told = np.frombuffer(json.dumps(value).encode(), np.uint8)
        data = self.transport.broadcast(told, self._step, self.turn)
        return json.loads(data.tobytes())
