"""Programs that run on a machine inside the benchmark's process, compiled loops loaded before."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from dvm_mpi import config
from dvm_mpi.control.coordinator_state import Counters
from dvm_mpi.control.driver import LocalMachine, MachineSettings
from dvm_mpi.disa.assembler import assemble_file
from dvm_mpi.engine.interface import EngineSettings
from dvm_mpi.engine.interp import InterpEngine

ROOT = Path(__file__).resolve().parents[1]


class Program:
    """One program, assembled once and run as often as wanted, each time on a new machine."""

    def __init__(self, path: str, defines: Mapping[str, int]) -> None:
        texts = {name: str(value) for name, value in defines.items()}
        self._image = assemble_file(ROOT / path, texts)

    def run(self) -> tuple[float, Counters]:
        """Return the seconds from the first dispatch to the last publish, and what was done."""
        settings = MachineSettings(memory_bytes=config.GIB)
        engine_settings = EngineSettings(
            stack_bytes=settings.stack_bytes,
            fuel_max=0,
            allow_undeclared=False,
            cache_bytes=config.CACHE_BYTES_DEFAULT,
            clock=time.time_ns,
        )
        machine = LocalMachine(self._image, settings, lambda: InterpEngine(engine_settings))
        with closing(machine):
            began = time.perf_counter()
            ending = machine.run()
            seconds = time.perf_counter() - began
        assert ending.failure is None, "the benchmark's program trapped"
        return seconds, machine.scheduler.counters

    def nanoseconds_per_instruction(self) -> float:
        """Return the time of a run divided by the instructions that it executed."""
        seconds, counters = self.run()
        return seconds * 1e9 / counters.instructions

    def runners_per_second(self) -> float:
        """Return the runners of a run divided by its time."""
        seconds, counters = self.run()
        return counters.runners / seconds
