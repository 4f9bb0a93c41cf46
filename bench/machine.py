"""Programs that run on a machine inside the benchmark's process, compiled loops loaded before."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from dvm_mpi import config
from dvm_mpi.control.coordinator_state import Counters
from dvm_mpi.control.driver import LocalMachine, MachineSettings
from dvm_mpi.disa.assembler import assemble_file
from dvm_mpi.engine.interface import EngineSettings, Exit
from dvm_mpi.engine.interp import InterpEngine

ROOT = Path(__file__).resolve().parents[1]


class TimedEngine(InterpEngine):
    """An engine that knows how long it was executing."""

    #: Processor time of this thread inside `run`.
    cpu_s = 0.0

    def run(self, fuel: int) -> Exit:
        """Execute as the engine does, and note the time."""
        began = time.thread_time()
        stopped = super().run(fuel)
        self.cpu_s += time.thread_time() - began
        return stopped


@dataclass(frozen=True, slots=True)
class Run:
    """One run: seconds from the first dispatch to the last publish, and where they went.

    `cpu_s` and `engine_cpu_s` are processor time, of the whole machine and of its engine; other
    processes make `seconds` longer, but hardly these.
    """

    seconds: float
    cpu_s: float
    engine_cpu_s: float
    counters: Counters


class Program:
    """One program, assembled once and run as often as wanted, each time on a new machine."""

    def __init__(self, path: str, defines: Mapping[str, int]) -> None:
        texts = {name: str(value) for name, value in defines.items()}
        self._image = assemble_file(ROOT / path, texts)

    def run(self, *, counts_instructions: bool = False) -> Run:
        """Run the program to its end, with a profile if that is asked for."""
        settings = MachineSettings(memory_bytes=config.GIB)
        engine = TimedEngine(
            EngineSettings(
                stack_bytes=settings.stack_bytes,
                fuel_max=0,
                allow_undeclared=False,
                cache_bytes=config.CACHE_BYTES_DEFAULT,
                clock=time.time_ns,
                counts_instructions=counts_instructions,
            )
        )
        machine = LocalMachine(self._image, settings, lambda: engine)
        with closing(machine):
            began, cpu_began = time.perf_counter(), time.thread_time()
            ending = machine.run()
            seconds, cpu_s = time.perf_counter() - began, time.thread_time() - cpu_began
        assert ending.failure is None, "the benchmark's program trapped"
        return Run(seconds, cpu_s, engine.cpu_s, machine.scheduler.counters)

    def nanoseconds_per_instruction(self, *, counts_instructions: bool = False) -> float:
        """Return the engine's processor time divided by the instructions that it executed."""
        run = self.run(counts_instructions=counts_instructions)
        return run.engine_cpu_s * 1e9 / run.counters.instructions

    def microseconds_around_a_runner(self) -> float:
        """Return the processor time outside the engine, divided by the runners."""
        run = self.run()
        return (run.cpu_s - run.engine_cpu_s) * 1e6 / run.counters.runners

    def runners_per_second(self) -> float:
        """Return the runners of a run divided by its time."""
        run = self.run()
        return run.counters.runners / run.seconds
