"""What leaves a worker when attempts have ended: parts of large write sets, then their record.

A record waits here until all its staged bytes are in the arenas of their homes, and later records
wait behind it. Invariant: nobody hears of a part before its bytes are where its home finds them.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.control.delivery import COORDINATOR, Sent
from dvm_mpi.control.messages import Finished
from dvm_mpi.dsm import byte_copy
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.messages import ArenaReleased, Staged
from dvm_mpi.dsm.ranges import expand
from dvm_mpi.dsm.snapshot import DataPlane
from dvm_mpi.dsm.staging import Division, StagingArena
from dvm_mpi.engine.interface import End, OutcomeBatch
from dvm_mpi.values import dataclass, replace

_NO_BYTES: Final = np.empty(0, np.uint8)

#: `(home, part)` in order; the parts' runs point into the bytes of the ends that they are from.
Pieces = deque[tuple[int, Staged]]


@dataclass(slots=True)
class _Departure:
    """A record, and the parts of large write sets that must be sent before it leaves."""

    finished: Finished
    pieces: Pieces
    data: NDArray[np.uint8]


class Departures:
    """The records of one worker that have not left, in order.

    Parameters
    ----------
    worker
        The worker's number.
    geometry
        Where pages live.
    plane
        Writes arenas, or leaves that to the messages.
    arena_slice_bytes
        The worker's slice of each home's arena.
    inline_bytes_max
        Larger write sets are staged.
    """

    def __init__(
        self,
        worker: int,
        geometry: Geometry,
        plane: DataPlane,
        arena_slice_bytes: int,
        inline_bytes_max: int,
    ) -> None:
        self._worker, self._plane = worker, plane
        self._arena = StagingArena(arena_slice_bytes)
        self._division = Division(worker, geometry, inline_bytes_max, self._arena.part_bytes_max)
        self._last_serial = 0
        self._waiting: deque[_Departure] = deque()

    @property
    def are_waiting(self) -> bool:
        """Whether some record has not left."""
        return bool(self._waiting)

    @property
    def wanted_home(self) -> int | None:
        """The home in whose arena the first of them needs room; None if it needs none."""
        if not self._waiting or not self._waiting[0].pieces:
            return None
        return self._waiting[0].pieces[0][0]

    @property
    def parts_under_way(self) -> bool:
        """Whether a home has not released some part."""
        return self._arena.is_in_use

    def check_invariants(self) -> None:
        """Assert what holds between any two calls."""
        self._arena.check_invariants()
        assert not self._waiting or self._waiting[0].pieces, "a record waits for nothing"

    def stage(self, ended: OutcomeBatch, records: NDArray[Any], snapshot: int) -> Pieces:
        """Give each write set that is to be staged a serial; return its parts, by home.

        `records`: messages.RECORD, of the same ends, whose serials are written; `snapshot`: on
        which all were executed.
        """
        outcomes, pieces = ended.outcomes, Pieces()
        most = int(outcomes["run_count"].max()) * int(ended.runs["length"].max(initial=0))
        if not self._division.may_stage(most):
            return pieces
        counts = np.where(outcomes["end"] == End.TRAP, 0, outcomes["run_count"])
        runs = ended.runs[expand(outcomes["run_first"], counts)]
        for position, home, parts in self._division.staged(runs, counts, snapshot):
            if records["serial"][position] == 0:
                self._last_serial += 1
                records["serial"][position] = self._last_serial
            for number, part in enumerate(parts):
                is_last = number == len(parts) - 1
                staged = Staged(self._worker, self._last_serial, number, is_last, part, _NO_BYTES)
                pieces.append((home, staged))
        return pieces

    def add(self, finished: Finished, pieces: Pieces, data: NDArray[np.uint8]) -> list[Sent]:
        """Take a record and what must be sent before it; return what is to be sent now.

        `data`: the bytes that `pieces` point into.
        """
        self._waiting.append(_Departure(finished, pieces, data))
        return self._depart()

    def release(self, event: ArenaReleased) -> list[Sent]:
        """Take note that a home needs a part no longer; return what is to be sent now."""
        self._arena.release(event.home, event.serial, event.part)
        return self._depart()

    def _depart(self) -> list[Sent]:
        """Send the parts that find room; send the records whose parts have all been sent."""
        sent: list[Sent] = []
        while self._waiting:
            departure = self._waiting[0]
            while departure.pieces:
                home, part = departure.pieces[0]
                placed = self._arena.place(home, part)
                if placed is None:
                    return sent
                runs, content = byte_copy.gather(part.runs, departure.data)
                if self._plane.carries_content:
                    placed = replace(placed, runs=runs, data=content)
                else:
                    self._plane.write_arena(home, int(placed.runs["data_first"][0]), content)
                sent.append((("home", home), placed))
                departure.pieces.popleft()
            sent.append((COORDINATOR, departure.finished))
            self._waiting.popleft()
        return sent
