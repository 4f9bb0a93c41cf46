"""Programs on whole machines, until they end or are given up, and how they ended.

A program that goes on for ever, since runners create runners or watchers wake themselves, is
stopped after some turns, in which it must have executed something.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi import config
from dvm_mpi.control.diagnosis import Narrator
from dvm_mpi.control.driver import LocalMachine, MachineSettings, Silent
from dvm_mpi.disa.image import Image
from dvm_mpi.engine.interface import EngineSettings, TrapKind
from dvm_mpi.errors import LimitError
from tests.engine.agreement import ALL_ENGINES

FUEL: Final = 3_000
#: After so many turns of the driver a program is left alone.
TURNS_MAX: Final = 600
STDIN: Final = bytes(range(256))
#: How runs end beside traps.
EXIT, ENDLESS, LIMIT = "exit", "endless", "limit"


class Endless(Exception):
    """The program is still running; the run is given up."""


class Watchful(Silent):
    """Keeps what is printed, and gives up on what does not end."""

    def __init__(self) -> None:
        self.console = b""
        self._turns = 0
        self._instructions = 0

    def printed(self, data: NDArray[np.uint8]) -> None:
        self.console += data.tobytes()

    def turned(self, driver: LocalMachine) -> None:
        self._turns += 1
        if self._turns % TURNS_MAX == 0:
            before, self._instructions = self._instructions, driver.scheduler.counters.instructions
            assert self._instructions > before, "nothing goes on, and the program does not end"
            raise Endless


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended, in figures that must not depend on the engine."""

    how: str
    place: int
    commits: int
    instructions: int
    console: bytes


def run(image: Image, engine: str) -> Finished:
    """Run a program on one worker and one home, with little memory and fuel."""
    settings = MachineSettings(memory_bytes=16 * config.MIB, arena_slice_bytes=config.MIB)
    engine_settings = EngineSettings(
        stack_bytes=settings.stack_bytes,
        fuel_max=FUEL,
        allow_undeclared=False,
        cache_bytes=4 * config.MIB,
        clock=lambda: 1_700_000_000_123_456_789,
    )
    observer = Watchful()
    machine = LocalMachine(
        image,
        settings,
        lambda: ALL_ENGINES[engine](engine_settings),
        stdin=STDIN,
        observer=observer,
    )
    place = -1
    with closing(machine):
        try:
            failure = machine.run().failure
            how = EXIT if failure is None else TrapKind(failure.trap).name
            if failure is not None:
                place = failure.pc
                assert Narrator(image).trap(failure)
        except Endless:
            how = ENDLESS
        except LimitError:
            how = LIMIT
    c = machine.scheduler.counters
    return Finished(how, place, c.commits, c.instructions, observer.console)
