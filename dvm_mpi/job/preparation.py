"""Compiled code for one rank: made by a process of its own, once on each node, while ranks serve.

Homes need the loops of shared memory, workers the interpreter. A rank can serve others as soon as
the first is there.
"""

from __future__ import annotations

from dvm_mpi.control.kernels import LIBRARY as COORDINATOR
from dvm_mpi.dsm.kernels import LIBRARY as SHARED_MEMORY
from dvm_mpi.native.compilation import Compilation


class Preparation:
    """Brings compiled code into being; `step` is called until what is needed is there."""

    def __init__(self, engine: str, *, counts_instructions: bool = False) -> None:
        """Prepare for an engine, by its name in the options."""
        targets = [SHARED_MEMORY.target, COORDINATOR.target]
        self._interpreter = ""
        if engine != "reference":
            from dvm_mpi.engine import counting_entries, entries

            interpreter = counting_entries if counts_instructions else entries
            targets.append(interpreter.LIBRARY.target)
            self._interpreter = interpreter.LIBRARY.name
        self._compilation = Compilation(targets)

    @property
    def is_home_ready(self) -> bool:
        """Whether the loops of a home, and of the coordinator, can be called without a wait."""
        return all(map(self._compilation.is_ready, (SHARED_MEMORY.name, COORDINATOR.name)))

    @property
    def is_engine_ready(self) -> bool:
        """Whether the engine can be loaded without a wait."""
        return self._compilation.is_ready(self._interpreter)

    @property
    def waits_for(self) -> str:
        """What is waited for: a clause, empty if nothing is missing."""
        return self._compilation.waits_for

    def step(self) -> None:
        """Look what has happened, and start a compiler if nobody else has; returns at once.

        Raises
        ------
        CompileError
            The compiler that this process started has failed.
        """
        if not self._compilation.is_done:
            self._compilation.step()

    def close(self) -> None:
        """End the compiler that this process has started, if it is at work."""
        self._compilation.close()
