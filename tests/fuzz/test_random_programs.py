"""Random programs end by a trap, by `exit`, or at a limit; the machine never crashes or hangs.

Run on whole machines. A program that goes on for ever, since runners create runners or watchers
wake themselves, is stopped after some turns, in which it must have executed something.
"""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from dvm_mpi import config
from dvm_mpi.control.diagnosis import Narrator
from dvm_mpi.control.driver import LocalMachine, MachineSettings, Silent
from dvm_mpi.disa.image import Image
from dvm_mpi.engine.interface import EngineSettings, TrapKind
from dvm_mpi.errors import LimitError
from tests.fuzz.generators import CHUNKS, note, random_image
from tests.jobs.machine import ENGINES

FUEL = 3_000
#: After so many turns of the driver a program is left alone.
TURNS_MAX = 600
STDIN = bytes(range(256))


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
        image, settings, lambda: ENGINES[engine](engine_settings), stdin=STDIN, observer=observer
    )
    place = -1
    with closing(machine):
        try:
            failure = machine.run().failure
            how = "exit" if failure is None else TrapKind(failure.trap).name
            if failure is not None:
                place = failure.pc
                assert Narrator(image).trap(failure)
        except Endless:
            how = "endless"
        except LimitError:
            how = "limit"
    c = machine.scheduler.counters
    return Finished(how, place, c.commits, c.instructions, observer.console)


@pytest.mark.parametrize(("start", "count"), CHUNKS)
def test_random_programs_end(start: int, count: int) -> None:
    ends = Counter[str]()
    for seed in range(start, start + count):
        note(seed)
        ends[run(random_image(seed), "interp").how] += 1
    print(f"seeds {start} to {start + count - 1}: {dict(ends.most_common())}")
    assert ends["exit"] > 0
    assert sum(ends.values()) == count
    # The generators are worth something only if programs live and die in many ways.
    assert len(ends) >= min(count // 40, 8)


@pytest.mark.parametrize(("start", "count"), CHUNKS)
def test_both_engines_end_alike(start: int, count: int) -> None:
    """One in ten also runs on the reference: same end, place, commits, instructions, output."""
    for tenth in range(start, start + count, 10):
        # Not only multiples of ten: all four kinds of programs have their turn.
        seed = tenth + tenth // 10 % 10
        note(seed)
        image = random_image(seed)
        expected = run(image, "reference")
        if expected.how != "endless":
            assert run(image, "interp") == expected, f"seed {seed}"
