"""The events of a simulated run as text, one line each: what two runs are compared by.

A line says when, who and what; of a message it has a check sum of all that is in it. Two runs of
one seed have the same trace, byte for byte.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

from dvm_mpi.control.delivery import Part
from dvm_mpi.control.messages import Message
from dvm_mpi.control.scheduler import WorkerLost, WorkerSuspected
from dvm_mpi.control.wire import encode
from dvm_mpi.dsm.local_plane import LateRead
from dvm_mpi.sim.faults import Fault


class Trace:
    """Writes lines with times in nanoseconds, through a callable that takes each with its end."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write

    def message(
        self,
        at_ns: int,
        source: Part,
        target: Part,
        message: Message | WorkerSuspected | WorkerLost,
    ) -> None:
        """Note that a part takes a message."""
        name = type(message).__name__
        if isinstance(message, WorkerSuspected | WorkerLost):
            self._write(f"{at_ns} coordinator hears {name} {message.worker}\n")
            return
        check_sum = zlib.crc32(encode(message).tobytes())
        self._write(f"{at_ns} {_name(target)} takes {name} {check_sum:08x} from {_name(source)}\n")

    def slice(self, at_ns: int, worker: int, instructions: int) -> None:
        """Note that a worker has executed a slice."""
        self._write(f"{at_ns} worker.{worker} executed {instructions}\n")

    def read(self, at_ns: int, worker: int, read: LateRead) -> None:
        """Note that frames of a home are read."""
        frames = ",".join(map(str, read.frames.tolist()))
        self._write(f"{at_ns} worker.{worker} reads home.{read.home} frames {frames}\n")

    def fault(self, fault: Fault) -> None:
        """Note that something goes wrong."""
        self._write(f"{fault.at_ns} rank.{fault.rank} {fault.kind.value} {fault.duration_ns}\n")


def _name(part: Part) -> str:
    return "coordinator" if part[0] == "coordinator" else f"{part[0]}.{part[1]}"
